"""`stembridge separate`: audio files in, one file per stem out."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from host.audio_files import AudioFileWarning, read_audio, write_audio
from host.errors import USER_ERROR, UserError, complain, guarded, is_expected, one_line
from host.models import SIGNATURE, signature_separator
from host.outputs import writable_folder
from host.progress import Advance, file_bars
from host.resampling import resample
from host.settings import DEFAULT_MODEL
from streaming.separator import Audio, Separator

DEVICES = ("cpu", "cuda", "auto")
PARTS = {
    5: ((0, 1), (2,), (3, 4)),
    6: ((0, 1), (2,), (3,), (4, 5)),
    8: ((0, 1), (2,), (3,), (4, 5), (6, 7)),
}
"""Which channels of 5.0, 5.1 and 7.1 belong together: sides in pairs, centre and LFE alone."""

Render = Callable[[Audio, int, Advance], Audio]
"""(audio [channels, frames], rate in Hz, progress) -> the wanted stems [stems, channels, frames]."""


class SeparateError(UserError):
    """Something that cannot be separated as asked."""


@dataclass(frozen=True)
class Renderer:
    """A model ready to separate whole files; `channels` is what `render` takes at a time."""

    stem_names: tuple[str, ...]
    channels: int
    render: Render


def open_renderer(model: str, device: str, wanted: Sequence[str]) -> Renderer:
    """Load a model for the `wanted` stems; all where none is named.

    Errors: SeparateError, CatalogueError, CheckpointError.
    """
    if model == SIGNATURE:
        names = signature_separator(44100).stem_names
        chosen = stem_indices(names, wanted, model)
        return Renderer(tuple(names[i] for i in chosen), 2, _signature_render(chosen))
    import torch  # takes over a second

    from model.checkpoint import load_model

    torch.set_num_threads(1)  # products this small wait for threads: two took 7 times as long on busy cores
    network = load_model(model)[0].to(torch_device(device))
    names = network.config.stem_names
    chosen = stem_indices(names, wanted, model)
    return Renderer(
        tuple(names[i] for i in chosen), network.config.channels, _network_render(network, chosen)
    )


def stem_indices(names: Sequence[str], wanted: Sequence[str], model: str) -> list[int]:
    """Where the wanted stems stand among the model's; all of them where none is named."""
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise SeparateError(
            f"Model '{model}' has no stem '{unknown[0]}'; choose from its stems: {', '.join(names)}."
        )
    return [names.index(name) for name in dict.fromkeys(wanted or names)]


def torch_device(device: str) -> str:
    """`auto` resolved to what this machine has. Errors: SeparateError."""
    import torch

    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise SeparateError(
            "No CUDA device can be used here: choose --device cpu, or see `stembridge doctor`."
        )
    return ("cuda" if has_cuda else "cpu") if device == "auto" else device


def _signature_render(chosen: list[int]) -> Render:
    def render(audio: Audio, rate_hz: int, progress: Advance) -> Audio:
        return render_by_hops(signature_separator(rate_hz), audio, progress)[chosen]

    return render


def _network_render(network: Any, chosen: list[int]) -> Render:
    from model.offline import separate as separate_whole

    model_rate_hz = network.config.sample_rate_hz

    def render(audio: Audio, rate_hz: int, progress: Advance) -> Audio:
        stems = separate_whole(network, resample(audio, rate_hz, model_rate_hz), progress)[chosen]
        lines = stems.reshape(-1, stems.shape[-1])
        return resample(lines, model_rate_hz, rate_hz, audio.shape[1]).reshape(*stems.shape[:2], -1)

    return render


def render_by_hops(separator: Separator, audio: Audio, progress: Advance) -> Audio:
    """Crank a live separator over `audio` [channels, frames]: [stems, channels, frames], latency removed.

    Threads: one.
    """
    hop, latency, frames = separator.hop_frames, separator.latency_frames, audio.shape[1]
    hops = -(-(frames + latency) // hop)
    padded = np.pad(audio, ((0, 0), (0, hops * hop - frames)))
    stems = np.empty((len(separator.stem_names), audio.shape[0], hops * hop), np.float32)
    contribution = np.empty((*stems.shape[:2], hop), np.float32)
    for start in range(0, hops * hop, hop):
        separator.separate(padded[:, start : start + hop], contribution)
        stems[..., start : start + hop] = contribution
        progress((start + hop) / (hops * hop))
    first = latency - hop
    return stems[..., first : first + frames]


def parts_of(channels: int, at_a_time: int) -> list[tuple[int, ...]]:
    """Which channels are separated together: pairs for a stereo model, an odd last one alone."""
    if at_a_time == 1:
        return [(channel,) for channel in range(channels)]
    if channels in PARTS:
        return list(PARTS[channels])
    return [tuple(range(first, min(first + 2, channels))) for first in range(0, channels, 2)]


def separate_channels(renderer: Renderer, audio: Audio, rate_hz: int, progress: Advance) -> Audio:
    """All channels of `audio` [channels, frames] into [stems, channels, frames].

    A lone channel goes to both sides of a stereo model; its stem is the mean of both.
    """
    stems = np.empty((len(renderer.stem_names), *audio.shape), np.float32)
    parts = parts_of(audio.shape[0], renderer.channels)
    for index, part in enumerate(parts):
        wide = np.repeat(audio[list(part)], renderer.channels // len(part), axis=0)
        done = renderer.render(wide, rate_hz, _share(progress, index, len(parts)))
        stems[:, list(part)] = done if len(part) == wide.shape[0] else done.mean(axis=1, keepdims=True)
    return stems


def _share(progress: Advance, index: int, count: int) -> Advance:
    return lambda done: progress((index + done) / count)


def read_finite(path: Path) -> tuple[Audio, int]:
    """Read a file; one that holds NaN or infinity is refused. Errors: AudioFileError, SeparateError."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", AudioFileWarning)
        try:
            return read_audio(path)
        except AudioFileWarning:
            raise SeparateError(
                f"{path}: holds samples that are NaN or infinite; export it again from where it was made."
            ) from None


def output_names(inputs: Sequence[Path]) -> list[str]:
    """A folder name for each input: its name without suffix, then NAME-2, NAME-3 where names meet.

    Names that differ in case only count as the same, since some file systems think so.
    """
    taken: set[str] = set()
    names = []
    for path in inputs:
        name, number = path.stem, 2
        while name.casefold() in taken:
            name, number = f"{path.stem}-{number}", number + 1
        taken.add(name.casefold())
        names.append(name)
    return names


def separate_file(
    path: Path, folder: Path, renderer: Renderer, inputs: Sequence[Path], progress: Advance
) -> dict[str, Any]:
    """One file to `folder`/STEM.wav; what was done, as JSON values."""
    started = time.perf_counter()
    targets = {name: folder / f"{name}.wav" for name in renderer.stem_names}
    _spare_inputs(targets.values(), inputs)
    audio, rate_hz = read_finite(path)
    stems = separate_channels(renderer, audio, rate_hz, progress)
    for target, stem in zip(targets.values(), stems, strict=True):
        write_audio(target, stem, rate_hz)
    return {
        "input": str(path),
        "outputs": {name: str(target) for name, target in targets.items()},
        "sample_rate_hz": rate_hz,
        "channels": audio.shape[0],
        "frames": audio.shape[1],
        "duration_s": audio.shape[1] / rate_hz,
        "elapsed_s": time.perf_counter() - started,
    }


def _spare_inputs(targets: Any, inputs: Sequence[Path]) -> None:
    sources = {path.resolve() for path in inputs}
    for target in targets:
        if target.resolve() in sources:
            raise SeparateError(f"{target} is an input and would be overwritten; choose another --out.")


def _stem_list(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


def _device(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if value not in DEVICES:
        complain(SeparateError(f"There is no device '{value}'; choose one of {', '.join(DEVICES)}."))
        sys.exit(USER_ERROR)
    return value


@click.command(short_help="Separate audio files into stems.")
@click.argument("inputs", metavar="IN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    metavar="DIR",
    default="stems",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where the stems go, as DIR/NAME/STEM.wav.",
)
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Model id, file, or `signature`.")
@click.option(
    "--stems", metavar="A,B", default="", callback=_stem_list, help="Only these stems; all by default."
)
@click.option(
    "--device",
    metavar="|".join(DEVICES),
    default="auto",
    show_default=True,
    callback=_device,
    help="Where the model runs; auto takes a GPU where there is one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@guarded
def separate(
    inputs: tuple[Path, ...], out: Path, model: str, stems: tuple[str, ...], device: str, as_json: bool
) -> None:
    """Separate audio files into stems, as fast as the machine can.

    \b
    Examples:
      stembridge separate song.flac
      stembridge separate *.wav --out stems --stems vocals,drums
      stembridge separate talk.mp3 --model mine.safetensors --json

    Any rate from 8 to 192 kHz and any number of channels; stems have the input's rate, channels and length
    to the frame, as 32-bit float WAV. A stereo model gets channels in pairs; a mono file, a centre or an LFE
    goes to both of its sides. NAME is the file's name without suffix; where two inputs share it, the later
    one becomes NAME-2. Existing stems are replaced once their successor is whole. A file that cannot be
    separated is reported and skipped; the exit code is 2 then.
    """
    renderer = open_renderer(model, device, stems)
    writable_folder(out)
    done: list[dict[str, Any]] = []
    failed: list[tuple[Path, Exception]] = []
    with file_bars() as open_bar:
        for number, (path, name) in enumerate(zip(inputs, output_names(inputs), strict=True), 1):
            bar = open_bar(f"{number}/{len(inputs)} {path.name}")
            try:
                done.append(separate_file(path, out / name, renderer, inputs, bar))
            except (ValueError, RuntimeError, OSError) as error:
                if not is_expected(error):
                    raise
                failed.append((path, error))
    for _, reason in failed:  # now that no bar is drawn over them
        complain(reason)
    report(done, [{"input": str(path), "error": one_line(reason)} for path, reason in failed], as_json)
    if failed:
        sys.exit(USER_ERROR)


def report(done: list[dict[str, Any]], failed: list[dict[str, str]], as_json: bool) -> None:
    """Say on stdout what was made."""
    if as_json:
        click.echo(json.dumps({"separated": done, "failed": failed}))
        return
    for row in done:
        folder = Path(next(iter(row["outputs"].values()))).parent
        speed = row["duration_s"] / row["elapsed_s"]
        click.echo(f"{row['input']} -> {folder}: {', '.join(row['outputs'])} ({speed:.1f} x real time)")
