"""The layers of the causal model as compiled code, for one spectral frame of one stream on one core.

What the modules of `causal_layers` do, on arrays of the caller's; nothing is allocated. Features x are
[bands, dim]; attention and feed-forward add to them in place. First comes the arithmetic: products go through
one tile of sums in registers, exponentials are polynomials, so that loops over them become vector code, and
hold to a few units in the last place. All in one file: Numba's cache knows no other that a function calls.
Threads: any, each with arrays of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.experimental import structref
from numba.extending import intrinsic

from model.causal_layers import BandFeatures
from model.causal_stream import LOUDEST
from model.packed import (
    TILE_COLUMNS,
    Bands,
    Block,
    Complexes,
    Floats,
    MaskWeights,
    Memory,
    Network,
    Projection,
    Reals,
    Scratch,
    Widening,
)

Function = TypeVar("Function", bound=Callable[..., object])

TILE_ROWS, LANES = 4, 8
"""With TILE_COLUMNS, what fits into 16 registers of 256 bits, or 32 of 128."""
NORM_EPSILON = np.float32(1e-5)
"""That of torch's layer norm."""

FLOOR = np.float32(BandFeatures.FLOOR)
HIDDEN = np.float32(-1e30)
"""Added to the score of what may not be seen: nothing is left of it beside any other."""

_OPTIONS: dict[str, Any] = {
    "error_model": "numpy",
    "nogil": True,
    "fastmath": {"reassoc", "contract", "arcp", "nsz"},
}
_ZERO, _ONE, _TWO, _ROOT_HALF = (np.float32(x) for x in (0, 1, 2, 0.5**0.5))
_LEVEL_OFFSET, _LEVEL_SCALE = np.float32(5), np.float32(1 / 3)
_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693359375)  # of few bits, so that a product with a whole number is exact
_LN2_LOW = np.float32(0.6931471805599453 - 0.693359375)
_LOUDEST = np.float32(LOUDEST)
_LEAST, _MOST = np.float32(-87.0), np.float32(87.0)
_BIAS, _ABOVE_BIAS, _MANTISSA_BITS = np.int32(127), np.float32(127.5), np.int32(23)
_F2, _F3, _F4, _F5, _F6, _F7 = (np.float32(1 / x) for x in (2, 6, 24, 120, 720, 5040))
_P = np.float32(0.3275911)
_A1, _A2, _A3, _A4, _A5 = (
    np.float32(x) for x in (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
)


def _intrinsic(define: Callable[..., Any]) -> Callable[..., Any]:
    # Numba types an intrinsic as it is defined, not as it is called.
    return intrinsic(define)


def kernel(function: Function) -> Function:
    """Machine code, kept on disk, that leaves the interpreter alone and may sum in any order."""
    return cast(Function, njit(cache=True, **_OPTIONS)(function))


def inlined(function: Function) -> Function:
    """As `kernel`, for what loops call: a call would keep them from becoming vector code."""
    return cast(Function, njit(inline="always", **_OPTIONS)(function))


@_intrinsic
def add_tile(_context: Any, a: Any, row: Any, w: Any, column: Any, out: Any) -> Any:
    """out[row : row + 4, column : column + 16] += a[row : row + 4, : len(w)] @ w[:, column : column + 16].

    Of arrays of two axes; everything named must exist, and elements of a row lie side by side.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector, lane = ir.VectorType(ir.FloatType(), LANES), ir.IntType(32)
        kinds = zip(signature.args, arguments, strict=True)
        a, row, w, column, out = (
            context.make_array(kind)(context, builder, value) if isinstance(kind, types.Array) else value
            for kind, value in kinds
        )

        def pointer(array: Any, at_row: Any, at_column: Any, kind: Any) -> Any:
            stride = first_of(array.strides)
            bytes_in = builder.add(builder.mul(at_row, stride), builder.mul(at_column, row.type(4)))
            start = builder.ptrtoint(array.data, row.type)
            return builder.inttoptr(builder.add(start, bytes_in), kind.as_pointer())

        def spread(array: Any, at_row: Any, at_column: Any) -> Any:
            """One element in all lanes."""
            single = builder.load(pointer(array, at_row, at_column, ir.FloatType()), align=4)
            blank = ir.Constant(vector, ir.Undefined)
            first = builder.insert_element(blank, single, lane(0))
            return builder.shuffle_vector(first, blank, ir.VectorType(lane, LANES)([0] * LANES))

        def first_of(numbers: Any) -> Any:
            return cgutils.unpack_tuple(builder, numbers)[0]  # type: ignore[no-untyped-call]

        rows = [builder.add(row, row.type(n)) for n in range(TILE_ROWS)]
        columns = [builder.add(column, row.type(n)) for n in range(0, TILE_COLUMNS, LANES)]
        places = {(r, c): pointer(out, r, c, vector) for r in rows for c in columns}
        sums = {
            place: cgutils.alloca_once_value(  # type: ignore[no-untyped-call]
                builder, builder.load(at, align=4)
            )
            for place, at in places.items()
        }
        with cgutils.for_range(builder, first_of(w.shape)) as along:
            weights = {c: builder.load(pointer(w, along.index, c, vector), align=4) for c in columns}
            factors = {r: spread(a, r, along.index) for r in rows}
            for (r, c), total in sums.items():
                product = builder.fmul(factors[r], weights[c], flags=("contract",))
                builder.store(builder.fadd(product, builder.load(total), flags=("contract",)), total)
        for place, at in places.items():
            builder.store(builder.load(sums[place]), at, align=4)
        return context.get_dummy_value()

    return types.void(a, types.intp, w, types.intp, out), generate


@kernel
def add_product(a: Floats, w: Floats, out: Floats) -> None:
    """out [m, n] += a [m, >= k] @ w [k, >= n]."""
    m, n = out.shape
    whole_rows, whole_columns = m - m % TILE_ROWS, n - n % TILE_COLUMNS
    for column in range(0, whole_columns, TILE_COLUMNS):
        for row in range(0, whole_rows, TILE_ROWS):
            add_tile(a, row, w, column, out)
    for row in range(m):
        for column in range(whole_columns if row < whole_rows else 0, n):
            total = out[row, column]
            for k in range(len(w)):
                total += a[row, k] * w[k, column]
            out[row, column] = total


@_intrinsic
def real(_context: Any, weight: Any) -> Any:
    """A float32 as it is; of 16 bits the float32 whose upper half they are."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        if weight == types.float32:
            return arguments[0]
        word = ir.IntType(32)
        upper = builder.shl(builder.zext(arguments[0], word), word(16))
        return builder.bitcast(upper, ir.FloatType())

    return types.float32(weight), generate


@kernel
def add_row_product(a: Floats, w: Reals, out: Floats) -> None:
    """out [n] += a [k] @ w [k, n]: every weight is used once, and reading them is what it costs."""
    n, fours = out.shape[0], len(w) - len(w) % 4
    for k in range(0, fours, 4):
        a0, a1, a2, a3 = a[k], a[k + 1], a[k + 2], a[k + 3]
        w0, w1, w2, w3 = w[k], w[k + 1], w[k + 2], w[k + 3]
        for i in range(n):
            out[i] += a0 * real(w0[i]) + a1 * real(w1[i]) + a2 * real(w2[i]) + a3 * real(w3[i])
    for k in range(fours, len(w)):
        rest, last = a[k], w[k]
        for i in range(n):
            out[i] += rest * real(last[i])


@_intrinsic
def float_of_bits(_context: Any, _bits: Any) -> Any:
    """The float32 that these 32 bits are."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@inlined
def exponential(x: Any) -> Any:
    """e^x of a float32, from -87 to 87 and as there outside: 2^n e^r with |r| <= ln(2) / 2, and Taylor's
    series to r^7."""
    x = min(max(x, _LEAST), _MOST)
    biased = np.int32(x * _LOG2_E + _ABOVE_BIAS)  # rounds n + 127, since what is cut is above 0
    whole = np.float32(np.int32(biased - _BIAS))  # Numba's difference has 64 bits: no vector converts those
    r = x - whole * _LN2_HIGH - whole * _LN2_LOW
    series = _F3 + r * (_F4 + r * (_F5 + r * (_F6 + r * _F7)))
    return (_ONE + r * (_ONE + r * (_F2 + r * series))) * float_of_bits(biased << _MANTISSA_BITS)


@inlined
def sigmoid(x: Any) -> Any:
    return _ONE / (_ONE + exponential(-x))


@inlined
def error_function(x: Any) -> Any:
    """Abramowitz and Stegun 7.1.26, within 1.5e-7."""
    t = _ONE / (_ONE + _P * abs(x))
    series = t * (_A1 + t * (_A2 + t * (_A3 + t * (_A4 + t * _A5))))
    return np.copysign(_ONE - series * exponential(-x * x), x)


@kernel
def exponentials(x: Floats) -> None:
    """In place."""
    for i in range(x.size):
        x[i] = exponential(x[i])


@kernel
def tanh(x: Floats) -> None:
    """In place."""
    for i in range(x.size):
        x[i] = _ONE - _TWO / (exponential(_TWO * x[i]) + _ONE)


@kernel
def scaled_gelu(u: Floats) -> None:
    """sqrt(2) GELU(sqrt(2) u) = u + u erf(u) of u [n], in place."""
    for i in range(u.size):
        u[i] = u[i] + u[i] * error_function(u[i])


@kernel
def softmax(x: Floats, n: int) -> None:
    """Of the first n columns of x [rows, >= n], in place. Each loop becomes vector code; one would not."""
    for r in range(len(x)):
        row = x[r, :n]
        most = row[0]
        for i in range(row.size):
            most = max(most, row[i])
        for i in range(row.size):
            row[i] = exponential(row[i] - most)
        total = _ZERO
        for i in range(row.size):
            total += row[i]
        share = _ONE / total
        for i in range(row.size):
            row[i] *= share


@kernel
def normalise(x: Floats, out: Floats) -> None:
    """Rows of x [rows, dim] with mean 0 and variance 1: torch's layer norm without weights."""
    dim = np.float32(x.shape[1])
    for r in range(len(x)):
        row, normed = x[r], out[r]
        mean = _ZERO
        for i in range(row.size):
            mean += row[i]
        mean /= dim
        variance = _ZERO
        for i in range(row.size):
            variance += (row[i] - mean) * (row[i] - mean)
        gain = _ONE / np.sqrt(variance / dim + NORM_EPSILON)
        for i in range(row.size):
            normed[i] = (row[i] - mean) * gain


@kernel
def add_to_rows(row: Floats, x: Floats) -> None:
    """x [rows, n] += row [n]."""
    for r in range(len(x)):
        each = x[r]
        for i in range(row.size):
            each[i] += row[i]


@kernel
def scale_rows(row: Floats, x: Floats) -> None:
    """x [rows, n] *= row [n]."""
    for r in range(len(x)):
        each = x[r]
        for i in range(row.size):
            each[i] *= row[i]


@kernel
def set_rows(row: Floats, x: Floats) -> None:
    """x [rows, n] = row [n]."""
    for r in range(len(x)):
        each = x[r]
        for i in range(row.size):
            each[i] = row[i]


@kernel
def project(x: Floats, layer: Projection, scratch: Scratch) -> None:
    """Queries, key, value and gates of x into `scratch.parts`."""
    normalise(x, scratch.normed)
    set_rows(layer.bias, scratch.parts)
    add_product(scratch.normed, layer.weight, scratch.parts)


@kernel
def turned(pairs: Floats, rotation: Floats, out: Floats) -> None:
    """Pairs [dim_head] turned by (cos, sin) [dim_head / 2, 2]."""
    for i in range(len(rotation)):
        cos, sin = rotation[i, 0], rotation[i, 1]
        real, imaginary = pairs[2 * i], pairs[2 * i + 1]
        out[2 * i] = real * cos - imaginary * sin
        out[2 * i + 1] = real * sin + imaginary * cos


@kernel
def turned_queries(band: int, rotation: Floats, scratch: Scratch) -> None:
    heads, dim_head = scratch.query.shape[1:]
    for head in range(heads):
        pairs = scratch.parts[band, head * dim_head : (head + 1) * dim_head]
        turned(pairs, rotation, scratch.query[band, head])


@kernel
def merge(x: Floats, layer: Projection, scratch: Scratch) -> None:
    """Add the gated heads of `scratch.attended` to x."""
    bands, heads, dim_head = scratch.attended.shape
    gates = (heads + 2) * dim_head
    for band in range(bands):
        for head in range(heads):
            gate = sigmoid(scratch.parts[band, gates + head])
            for i in range(dim_head):
                scratch.attended[band, head, i] *= gate
    add_product(scratch.attended.reshape((bands, heads * dim_head)), layer.out, x)


@kernel
def remember(rotation: Floats, keys: Floats, values: Floats, slot: int, scratch: Scratch) -> None:
    """Put key and value of `scratch.parts` into their place of the ring."""
    heads, dim_head = scratch.query.shape[1:]
    at = heads * dim_head
    for band in range(len(keys)):
        row = scratch.parts[band]
        turned(row[at : at + dim_head], rotation, scratch.value[band])
        for i in range(dim_head):
            keys[band, i, slot] = scratch.value[band, i]
            values[band, slot, i] = row[at + dim_head + i]


@kernel
def attend_in_time(
    x: Floats,
    layer: Projection,
    rotation: Floats,
    keys: Floats,
    values: Floats,
    bias: Floats,
    scratch: Scratch,
) -> None:
    """Add to x [bands, dim] what each band's queries of `scratch.parts` find in its ring."""
    scratch.attended[:] = _ZERO
    for band in range(len(x)):
        turned_queries(band, rotation, scratch)
        set_rows(bias, scratch.time_scores)
        add_product(scratch.query[band], keys[band], scratch.time_scores)
        softmax(scratch.time_scores, bias.size)
        add_product(scratch.time_scores, values[band], scratch.attended[band])
    merge(x, layer, scratch)


@kernel
def attend_among_bands(x: Floats, layer: Projection, rotations: Floats, scratch: Scratch) -> None:
    """Add to x [bands, dim]; rotations [bands, dim_head / 2, 2]."""
    project(x, layer, scratch)
    bands, heads, dim_head = scratch.query.shape
    at = heads * dim_head
    for band in range(bands):
        row = scratch.parts[band]
        turned_queries(band, rotations[band], scratch)
        turned(row[at : at + dim_head], rotations[band], scratch.value[band])
        for i in range(dim_head):
            scratch.key[i, band] = scratch.value[band, i]
            scratch.value[band, i] = row[at + dim_head + i]
    scratch.band_scores[:] = _ZERO
    scratch.attended[:] = _ZERO
    rows = bands * heads
    add_product(scratch.query.reshape((rows, dim_head)), scratch.key, scratch.band_scores)
    softmax(scratch.band_scores, bands)
    add_product(scratch.band_scores, scratch.value, scratch.attended.reshape((rows, dim_head)))
    merge(x, layer, scratch)


@kernel
def feed_forward(x: Floats, layer: Widening, scratch: Scratch) -> None:
    """Add to x [bands, dim]."""
    normalise(x, scratch.normed)
    set_rows(layer.wide_bias, scratch.wide)
    add_product(scratch.normed, layer.widen, scratch.wide)
    scaled_gelu(scratch.wide.reshape(-1))
    add_to_rows(layer.narrow_bias, x)
    add_product(scratch.wide, layer.narrow, x)


@inlined
def work_on(x: Floats, block: Block, rotation: Floats, bias: Floats, scratch: Scratch) -> None:
    """What a `CausalBlock` adds to x, whose projections are in `scratch`."""
    attend_in_time(x, block.in_time, rotation, block.keys, block.values, bias, scratch)
    feed_forward(x, block.time_feed_forward, scratch)
    attend_among_bands(x, block.among_bands, block.band_rotations, scratch)
    feed_forward(x, block.band_feed_forward, scratch)


@kernel
def analyse(history: Floats, audio: Floats, window: Floats, segment: Floats) -> None:
    """The newest n_fft frames [channels, n_fft] as mid and side under the window; history moves on.

    Samples that are not finite count as 0, the rest is clamped.
    """
    channels, hop = audio.shape
    kept = history.shape[1]
    for channel in range(channels):
        for i in range(kept):
            segment[channel, i] = history[channel, i]
        for i in range(hop):
            sample = audio[channel, i]
            sample = sample if np.isfinite(sample) else _ZERO
            segment[channel, kept + i] = min(max(sample, -_LOUDEST), _LOUDEST)
        for i in range(kept):
            history[channel, i] = segment[channel, hop + i]
    if channels == 2:
        turn_sides(segment[0], segment[1])
    for channel in range(channels):
        for i in range(window.size):
            segment[channel, i] *= window[i]


@kernel
def turn_sides(first: Floats, second: Floats) -> None:
    """Left and right as mid and side, in place, or back."""
    for i in range(first.size):
        left, right = first[i], second[i]
        first[i] = (left + right) * _ROOT_HALF
        second[i] = (left - right) * _ROOT_HALF


@kernel
def add_overlap(segments: Floats, window: Floats, tail: Floats, out: Floats) -> None:
    """Stems out [stems, channels, hop] of segments of mid and side [stems, channels, n_fft]; `tail` is what
    the hop before left for this one, and then what this one leaves."""
    stems, channels, hop = out.shape
    start = segments.shape[2] - 2 * hop
    for stem in range(stems):
        if channels == 2:
            turn_sides(segments[stem, 0, start:], segments[stem, 1, start:])
        for channel in range(channels):
            newest, late, sound = segments[stem, channel, start:], tail[stem, channel], out[stem, channel]
            for i in range(hop):
                sound[i] = newest[i] * window[i] + late[i]
            for i in range(hop):
                late[i] = newest[hop + i] * window[hop + i]


@kernel
def band_energies(spectrum: Complexes, first: int, width: int) -> tuple[np.float32, ...]:
    """Of `width` bins from `first` on: mid, side, left and right, or one and zeros."""
    mid, side, left, right = _ZERO, _ZERO, _ZERO, _ZERO
    for i in range(first, first + width):
        a = spectrum[0, i]
        mid += a.real * a.real + a.imag * a.imag
    if len(spectrum) == 1:
        return mid, side, left, right
    for i in range(first, first + width):
        a, b = spectrum[0, i], spectrum[1, i]
        side += b.real * b.real + b.imag * b.imag
        real, imaginary = (a.real + b.real) * _ROOT_HALF, (a.imag + b.imag) * _ROOT_HALF
        left += real * real + imaginary * imaginary
        real, imaginary = (a.real - b.real) * _ROOT_HALF, (a.imag - b.imag) * _ROOT_HALF
        right += real * real + imaginary * imaginary
    return mid, side, left, right


@kernel
def hear(spectrum: Complexes, bands: Bands, power: np.float32, heard: Floats, x: Floats) -> None:
    """Features x [bands, dim] of a spectrum [channels, bins]: `BandFeatures`.

    `power` is that of the analysis window; `heard` has room for the widest band's input.
    """
    channels = len(spectrum)
    for band in range(len(x)):
        first, width = bands.first[band], bands.width[band]
        at = channels * width
        scale = _ONE / (np.float32(width) * power)
        energies = band_energies(spectrum, first, width)
        level = _ZERO
        for plane in range(channels):
            level += energies[plane] * scale
        gain = ((level / np.float32(channels) + FLOOR) * power) ** np.float32(-0.25)
        for channel in range(channels):
            for i in range(width):
                z = spectrum[channel, first + i]
                heard[channel * width + i] = np.sqrt(np.sqrt(z.real * z.real + z.imag * z.imag)) * gain
        for plane in range(2 * channels if channels == 2 else 1):
            heard[at] = (np.log10(energies[plane] * scale + FLOOR) + _LEVEL_OFFSET) * _LEVEL_SCALE
            at += 1
        place = bands.place[band]
        x[band] = bands.biases[band]
        add_row_product(heard[:at], bands.weights[place : place + at], x[band])


@kernel
def share_out(logits: Floats, sums: Floats) -> None:
    """Softmax over the rows of [stems, n], in place; `sums` [n] is room."""
    sums[:] = logits[0]
    for stem in range(1, len(logits)):
        row = logits[stem]
        for i in range(sums.size):
            sums[i] = max(sums[i], row[i])
    for stem in range(len(logits)):
        row = logits[stem]
        for i in range(sums.size):
            row[i] -= sums[i]
        exponentials(row)
    sums[:] = _ZERO
    for stem in range(len(logits)):
        row = logits[stem]
        for i in range(sums.size):
            sums[i] += row[i]
    for i in range(sums.size):
        sums[i] = _ONE / sums[i]
    for stem in range(len(logits)):
        row = logits[stem]
        for i in range(sums.size):
            row[i] *= sums[i]


@kernel
def judge(
    x: Floats, bands: Bands, layer: MaskWeights, normed: Floats, hidden: Floats, logits: Floats
) -> None:
    """What the masks are a softmax of."""
    stems, channels, _bins = logits.shape
    size = len(hidden) // stems
    normalise(x, normed)
    scale_rows(layer.gain, normed)
    start = 0
    for band in range(len(x)):
        first, width = bands.first[band], bands.width[band]
        hidden[:] = layer.hidden_bias[band]
        add_row_product(normed[band], layer.hidden[band], hidden)
        tanh(hidden)
        for stem in range(stems):
            of_stem = hidden[stem * size : (stem + 1) * size]
            for channel in range(channels):
                end = start + size * width
                row = logits[stem, channel, first : first + width]
                row[:] = layer.output_bias[stem, channel, first : first + width]
                add_row_product(of_stem, layer.outputs[start:end].reshape((size, width)), row)
                start = end


@kernel
def mask(spectrum: Floats, masks: Floats, stems: Floats) -> None:
    """Stems [stems, channels, 2 bins] of a spectrum [channels, 2 bins]: real and imaginary parts in turn."""
    for stem in range(len(masks)):
        for channel in range(len(spectrum)):
            gains, mixture, out = masks[stem, channel], spectrum[channel], stems[stem, channel]
            for i in range(gains.size):
                out[2 * i] = mixture[2 * i] * gains[i]
                out[2 * i + 1] = mixture[2 * i + 1] * gains[i]


@kernel
def claim(memory: Memory, past: int, ahead: int, first_bias: Floats, later_bias: Floats) -> int:
    """The number of the next frame, which is then no longer the next, and what its layers may look at:
    `CausalState.step`."""
    number = memory.position[0]
    memory.position[0] = number + 1
    memory.slot_positions[number % memory.slot_positions.size] = number
    oldest = max(number - (past - 1), memory.begins[0])
    begun = min(number, memory.begins[0] + ahead)
    for i in range(memory.slot_positions.size):
        at = memory.slot_positions[i]
        first_bias[i] = _ZERO if at >= oldest else HIDDEN
        later_bias[i] = _ZERO if at >= oldest and at >= begun else HIDDEN
    return int(number)


@kernel
def wait_out(x: Floats, newest: Complexes, memory: Memory, number: int, ahead: int, asked: Complexes) -> None:
    """Keep x and the newest spectrum; x becomes what it was `ahead` frames ago, and `asked` its spectrum."""
    places = len(memory.features)
    new, old = number % places, (number - ahead) % places
    memory.features[new] = x
    x[:] = memory.features[old]
    for channel in range(len(newest)):
        memory.spectra[channel, new] = newest[channel]
        asked[channel] = memory.spectra[channel, old]


@inlined
def through_layers(newest: Complexes, network: Network, memory: Memory, scratch: Scratch) -> Complexes:
    """Features of the newest spectrum [channels, bins] into `scratch.x` and through all blocks; returns the
    spectrum of their frame.

    With a look-ahead the first block remembers the newest frame and works on an earlier one.
    """
    x, ahead, period = scratch.x, network.look_ahead_frames, len(network.rotations)
    hear(newest, network.bands, network.power, scratch.heard, x)
    number = claim(memory, network.past_frames, ahead, scratch.first_bias, scratch.later_bias)
    slot = number % memory.slot_positions.size
    turn, bias = network.rotations[number % period], scratch.first_bias
    for layer in range(len(network.blocks)):
        block = network.blocks[layer]
        project(x, block.in_time, scratch)
        remember(turn, block.keys, block.values, slot, scratch)
        if ahead and layer == 0:
            wait_out(x, newest, memory, number, ahead, scratch.asked)
            turn = network.rotations[(number - ahead) % period]
            project(x, block.in_time, scratch)
        work_on(x, block, turn, bias, scratch)
        bias = scratch.later_bias
    return scratch.asked if ahead else newest


@structref.register
class ArraysType(types.StructRef):
    """Numba's type of `Arrays`."""


class Arrays(structref.StructRefProxy):
    """All that a hop works on, in one object. As tuples, Python would hand over a hundred arrays one by one,
    each of them cold after a pause: a tenth of the hop."""

    network: Network
    memory: Memory
    scratch: Scratch


structref.define_proxy(Arrays, ArraysType, ["network", "memory", "scratch"])  # type: ignore[no-untyped-call]


@kernel
def together(network: Network, memory: Memory, scratch: Scratch) -> Arrays:
    return Arrays(network, memory, scratch)  # type: ignore[no-untyped-call]


@kernel
def separate(newest: Complexes, arrays: Arrays, stems: Complexes) -> None:
    """`CausalBSRoformer.advance` by one frame [channels, bins]: stems [stems, channels, bins]."""
    network, scratch = arrays.network, arrays.scratch
    spectrum = through_layers(newest, network, arrays.memory, scratch)
    masks, sums = scratch.masks, scratch.sums
    judge(scratch.x, network.bands, network.masking, scratch.normed, scratch.hidden, masks)
    share_out(masks.reshape((len(masks), sums.size)), sums)
    mask(spectrum.view(np.float32), masks, stems.view(np.float32))
