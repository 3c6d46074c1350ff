"""Layers of the published RoFormers by own Triton kernels: what `gpu_paths` measures beside the shipped ones.

Activations keep their order [batch, spectral_frames, bands, dim] throughout: attention reads rows of time
or of bands where they lie; turns, gates, norms and GELU happen inside of kernels that move the values anyway.
Linear attention and networks that add up earlier blocks are not covered.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.gpu_tiles import ATTENTION_TILES, BANDS, GELU_TILES, NORM_TILES, TIME, Tiles
from model.config import ConfigError
from model.layers import Attention, FeedForward, RMSNorm, Transformer
from model.roformer import Roformer

LOG2_E = tl.constexpr(math.log2(math.e))


@triton.jit
def _turned(x, TURNS, position, known, DIM: tl.constexpr, BLOCK_DIM: tl.constexpr):
    """x [positions, BLOCK_DIM] with the pairs (x[2i], x[2i + 1]) turned, in float32."""
    pairs = tl.arange(0, BLOCK_DIM // 2)
    at = TURNS + position[:, None] * DIM + 2 * pairs[None, :]
    here = known[:, None] & (2 * pairs < DIM)[None, :]
    cos, sin = tl.load(at, mask=here, other=0.0), tl.load(at + 1, mask=here, other=0.0)
    a, b = tl.split(tl.reshape(x.to(tl.float32), [x.shape[0], BLOCK_DIM // 2, 2]))
    return tl.reshape(tl.join(a * cos - b * sin, a * sin + b * cos), [x.shape[0], BLOCK_DIM])


@triton.jit
def _attend(
    QKVG,
    TURNS,
    OUT,
    first,
    count,
    rows_inside,
    outer_stride,
    row_stride,
    position_stride,
    out_outer_stride,
    out_row_stride,
    out_position_stride,
    scale,
    POSITIONS: tl.constexpr,
    HEADS: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
):
    row, head = tl.program_id(0) // HEADS, tl.program_id(0) % HEADS
    outer, inner = (row // rows_inside).to(tl.int64), (row % rows_inside).to(tl.int64)
    values = QKVG + outer * outer_stride + inner * row_stride
    dims = tl.arange(0, BLOCK_DIM)
    asked = tl.program_id(1) * QUERIES + tl.arange(0, QUERIES)
    position = first + asked
    known = (asked < count)[:, None] & (dims < DIM)[None, :]
    at = values + position[:, None] * position_stride + head * DIM + dims[None, :]
    q = _turned(tl.load(at, mask=known, other=0.0), TURNS, position, asked < count, DIM, BLOCK_DIM)
    q = (q * scale).to(QKVG.dtype.element_ty)
    most = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    sums = tl.zeros([QUERIES, BLOCK_DIM], tl.float32)
    for start in range(0, POSITIONS, KEYS):
        position_k = start + tl.arange(0, KEYS)
        known_k = (position_k < POSITIONS)[:, None] & (dims < DIM)[None, :]
        at_k = values + position_k[:, None] * position_stride + (HEADS + head) * DIM + dims[None, :]
        k = tl.load(at_k, mask=known_k, other=0.0)
        k = _turned(k, TURNS, position_k, position_k < POSITIONS, DIM, BLOCK_DIM)
        v = tl.load(at_k + HEADS * DIM, mask=known_k, other=0.0)
        scores = tl.dot(q, tl.trans(k.to(q.dtype)), input_precision="ieee")
        scores = tl.where((position_k < POSITIONS)[None, :], scores, float("-inf"))
        now = tl.maximum(most, tl.max(scores, 1))
        weights, shrink = tl.exp2(scores - now[:, None]), tl.exp2(most - now)
        total = total * shrink + tl.sum(weights, 1)
        sums = sums * shrink[:, None] + tl.dot(weights.to(v.dtype), v, input_precision="ieee")
        most = now
    gate = tl.load(
        values + position * position_stride + 3 * HEADS * DIM + head, mask=asked < count, other=0.0
    )
    out = sums / (total * (1 + tl.exp2(-LOG2_E * gate.to(tl.float32))))[:, None]
    to = OUT + outer * out_outer_stride + inner * out_row_stride + asked[:, None] * out_position_stride
    tl.store(to + head * DIM + dims[None, :], out.to(OUT.dtype.element_ty), mask=known)


def attend(
    qkvg: Tensor,
    turns: Tensor,
    heads: int,
    axis: int,
    asked: tuple[int, int],
    tiles: Tiles,
) -> Tensor:
    """Gated attention over an axis of qkvg [batch, frames, bands, >= heads * (3 * dim_head + 1)], at `count`
    positions from `first` on: [batch, frames, bands, heads * dim_head], `count` long along the axis.

    `turns`: cosines and sines [positions, dim_head / 2, 2]. Queries and keys are turned, sums are gated.
    """
    batch, frames, bands, width = qkvg.shape
    (first, count), dim_head = asked, 2 * turns.shape[1]
    inner = heads * dim_head
    shape = (batch, count, bands, inner) if axis == TIME else (batch, frames, count, inner)
    out = qkvg.new_empty(shape)
    if axis == TIME:
        rows, inside, positions = batch * bands, bands, frames
        strides = (frames * bands * width, width, bands * width)
        out_strides = (count * bands * inner, inner, bands * inner)
    else:
        rows, inside, positions = batch * frames, batch * frames, bands
        strides, out_strides = (0, bands * width, width), (0, count * inner, inner)
    queries, keys = tiles.blocks
    _attend[rows * heads, triton.cdiv(count, queries)](
        qkvg,
        turns,
        out,
        first,
        count,
        inside,
        *strides,
        *out_strides,
        LOG2_E.value * dim_head**-0.5,
        POSITIONS=positions,
        HEADS=heads,
        DIM=dim_head,
        BLOCK_DIM=max(16, triton.next_power_of_2(dim_head)),
        QUERIES=queries,
        KEYS=keys,
        num_warps=tiles.warps,
        num_stages=tiles.stages,
    )
    return out


@triton.jit
def _normed(x, gamma):
    return x / tl.maximum(tl.sqrt(tl.sum(x * x, 1)), 1e-12)[:, None] * gamma[None, :]


@triton.jit
def _norm(
    X,
    Y,
    BETWEEN,
    GAMMA,
    OUT,
    rows,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    ADDS: tl.constexpr,
    TWICE: tl.constexpr,
):
    row, dims = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK)
    known = (row < rows)[:, None] & (dims < DIM)[None, :]
    at = row[:, None].to(tl.int64) * DIM + dims[None, :]
    x = tl.load(X + at, mask=known, other=0.0)
    if ADDS:
        x += tl.load(Y + at, mask=known, other=0.0).to(tl.float32)
    if TWICE:
        between = tl.load(BETWEEN + dims, mask=dims < DIM, other=0.0)
        x = _normed(x, between)
    if ADDS or TWICE:
        tl.store(X + at, x, mask=known)
    gamma = tl.load(GAMMA + dims, mask=dims < DIM, other=0.0)
    tl.store(OUT + at, _normed(x, gamma).to(OUT.dtype.element_ty), mask=known)


def norm(
    x: Tensor,
    gamma: Tensor,
    dtype: torch.dtype,
    y: Tensor | None = None,
    between: Tensor | None = None,
    tiles: Tiles = NORM_TILES,
) -> Tensor:
    """x / |x| * gamma of float32 x [..., dim] in `dtype`; before that y is added to x, in place, and x normed
    by `between`, where they are given. Gammas hold the root of dim."""
    out, rows = torch.empty_like(x, dtype=dtype), x.numel() // x.shape[-1]
    _norm[(triton.cdiv(rows, tiles.blocks[0]),)](
        x,
        x if y is None else y,
        gamma if between is None else between,
        gamma,
        out,
        rows,
        DIM=x.shape[-1],
        BLOCK=triton.next_power_of_2(x.shape[-1]),
        ROWS=tiles.blocks[0],
        ADDS=y is not None,
        TWICE=between is not None,
        num_warps=tiles.warps,
    )
    return out


@triton.jit
def _linear_gelu(
    A,
    W,
    BIAS,
    OUT,
    rows,
    columns,
    K: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    STEP: tl.constexpr,
    GROUP: tl.constexpr,
):
    # Neighbouring programs share rows and columns, which then are in the second-level cache.
    row_blocks, column_blocks = tl.cdiv(rows, ROWS), tl.cdiv(columns, COLUMNS)
    first = tl.program_id(0) // (GROUP * column_blocks) * GROUP
    within, size = tl.program_id(0) % (GROUP * column_blocks), min(row_blocks - first, GROUP)
    row = (first + within % size) * ROWS + tl.arange(0, ROWS)
    column = within // size * COLUMNS + tl.arange(0, COLUMNS)
    k = tl.arange(0, STEP)
    a_at = A + (row % rows).to(tl.int64)[:, None] * K + k[None, :]
    w_at = W + (column % columns)[None, :] * K + k[:, None]
    sums = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, K, STEP):
        if K % STEP == 0:
            a, w = tl.load(a_at + start), tl.load(w_at + start)
        else:
            a = tl.load(a_at + start, mask=(start + k < K)[None, :], other=0.0)
            w = tl.load(w_at + start, mask=(start + k < K)[:, None], other=0.0)
        sums = tl.dot(a, w, sums, input_precision="ieee")
    x = sums + tl.load(BIAS + column, mask=column < columns, other=0.0).to(tl.float32)[None, :]
    x = 0.5 * x * (1 + tl.erf(x * 0.7071067811865476))
    to = OUT + row.to(tl.int64)[:, None] * columns + column[None, :]
    tl.store(to, x.to(OUT.dtype.element_ty), mask=(row < rows)[:, None] & (column < columns)[None, :])


def linear_gelu(a: Tensor, linear: nn.Linear, tiles: Tiles = GELU_TILES) -> Tensor:
    """Exact GELU of a Linear, in one kernel: the product's results are not read again."""
    rows, columns = a.numel() // a.shape[-1], linear.out_features
    out = a.new_empty(*a.shape[:-1], columns)
    row_block, column_block, step = tiles.blocks
    _linear_gelu[(triton.cdiv(rows, row_block) * triton.cdiv(columns, column_block),)](
        a,
        linear.weight,
        linear.bias,
        out,
        rows,
        columns,
        K=a.shape[-1],
        ROWS=row_block,
        COLUMNS=column_block,
        STEP=step,
        GROUP=8,
        num_warps=tiles.warps,
        num_stages=tiles.stages,
    )
    return out


class KernelLayer(nn.Module):
    """Weights of an attention and its feed-forward as the kernels want them, on one axis.

    `gates` come out of the product of queries, keys and values too, filled up to a multiple of eight columns.
    """

    def __init__(self, attention: Attention, feed_forward: FeedForward, axis: int) -> None:
        super().__init__()
        self.axis, self.heads = axis, attention.heads
        weight = torch.cat([attention.to_qkv.weight, attention.to_gates.weight])
        bias = torch.cat([weight.new_zeros(len(attention.to_qkv.weight)), attention.to_gates.bias])
        filling = -len(weight) % 8
        self.qkvg = nn.Parameter(F.pad(weight, (0, 0, 0, filling)), requires_grad=False)
        self.qkvg_bias = nn.Parameter(F.pad(bias, (0, filling)), requires_grad=False)
        self.out = attention.to_out[0]
        first_norm, self.widen, _gelu, _dropout, self.narrow = feed_forward.net
        self.gamma, self.feed_forward_gamma = whole_gamma(attention.norm), whole_gamma(first_norm)


def whole_gamma(norm: RMSNorm) -> Tensor:
    """Gamma times the root of dim, which `rms_norm` multiplies by too."""
    return (norm.gamma.detach() * math.sqrt(len(norm.gamma))).float().contiguous()


class KernelTransform:
    """As `Roformer._transform`, of a network whose products are in their final precision.

    Errors: ConfigError for what is not covered. Threads: one at a time.
    """

    def __init__(
        self,
        network: Roformer,
        attention_tiles: dict[int, Tiles] = ATTENTION_TILES,
        gelu_tiles: Tiles | None = GELU_TILES,
    ) -> None:
        """`gelu_tiles` None: GELU by torch, after the product."""
        config = network.config
        if config.linear_depth or config.skip_connection:
            raise ConfigError("own kernels cover neither linear attention nor sums of earlier blocks")
        self.network, self.attention_tiles, self.gelu_tiles = network, attention_tiles, gelu_tiles
        self.layers: list[KernelLayer] = []
        self.block_gammas: list[Tensor | None] = []
        for block in network.layers:
            for axis, transformer in zip((TIME, BANDS), block, strict=True):
                self._take(transformer, axis)
        final = network.final_norm  # where there is none, what would be normed last is not used
        self.gammas = [layer.gamma for layer in self.layers]
        self.gammas.append(whole_gamma(final) if isinstance(final, RMSNorm) else self.gammas[0])
        self.turns: dict[tuple[int, int], Tensor] = {}

    def _take(self, transformer: Transformer, axis: int) -> None:
        self.layers += [KernelLayer(*layer, axis) for layer in transformer.layers]
        last = whole_gamma(transformer.norm) if isinstance(transformer.norm, RMSNorm) else None
        self.block_gammas += [None] * (len(transformer.layers) - 1) + [last]

    def __call__(self, x: Tensor, asked: slice) -> Tensor:
        """float32 [batch, spectral_frames, bands, dim] -> the same of the frames asked for; x is used up."""
        x, frames = x.contiguous(), x.shape[1]
        wanted = range(frames)[asked]
        last_time = max(index for index, layer in enumerate(self.layers) if layer.axis == TIME)
        normed = norm(x, self.gammas[0], self.layers[0].qkvg.dtype)
        for index, (layer, between) in enumerate(zip(self.layers, self.block_gammas, strict=True)):
            few = (wanted.start, len(wanted)) if index == last_time else (0, x.shape[layer.axis])
            attended = self._attended(layer, normed, few)
            if index == last_time:
                x = x[:, asked].contiguous()
            now = norm(x, layer.feed_forward_gamma, normed.dtype, y=layer.out(attended))
            y = layer.narrow(self._widened(layer, now))
            dtype = torch.float32 if layer is self.layers[-1] else normed.dtype
            normed = norm(x, self.gammas[index + 1], dtype, y=y, between=between)
        return normed if isinstance(self.network.final_norm, RMSNorm) else x

    def _attended(self, layer: KernelLayer, normed: Tensor, asked: tuple[int, int]) -> Tensor:
        qkvg = F.linear(normed, layer.qkvg, layer.qkvg_bias)
        turns = self._turns(layer.axis, normed.shape[layer.axis])
        return attend(qkvg, turns, layer.heads, layer.axis, asked, self.attention_tiles[layer.axis])

    def _widened(self, layer: KernelLayer, x: Tensor) -> Tensor:
        if self.gelu_tiles is None:
            return F.gelu(layer.widen(x))
        return linear_gelu(x, layer.widen, self.gelu_tiles)

    def _turns(self, axis: int, positions: int) -> Tensor:
        """Made once: a captured hop then reads them."""
        if (axis, positions) not in self.turns:
            rotations = self.network._rotary[axis - TIME](positions, torch.float32)
            self.turns[axis, positions] = torch.view_as_real(rotations)
        return self.turns[axis, positions]


def use_kernels(network: Roformer, **how: object) -> None:
    """Let a network's blocks run by these kernels, in place; `how` as KernelTransform."""
    network._transform = KernelTransform(network, **how)  # type: ignore[assignment, arg-type]
