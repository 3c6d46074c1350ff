"""Published RoFormers against the package BS-RoFormer 0.3.10: python -m benchmarks.oracle [--json].

Random weights, the same in both; one chunk of noise; repeats interleaved, the fastest of each counts. Peak
memory is that of a fresh process that loads one model and runs it once (on a GPU: what torch allocated).
Difference: rms of the masks' difference over the rms of the oracle's masks, on the same audio.
"""

import argparse
import json
import multiprocessing
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from host.peers import roformer_run
from model.config import RoformerConfig
from model.roformer import Roformer, build
from tests.model.roformer_oracle import oracle_of

SIX = ("bass", "drums", "other", "vocals", "guitar", "piano")
SIZES = {
    "BS 384/12": RoformerConfig(384, 12, stft_hop_frames=441),
    "BS 512/12": RoformerConfig(512, 12, stft_hop_frames=441),
    "Mel 384/6": RoformerConfig(384, 6, architecture="mel", stft_hop_frames=441),
    "BS 256/12 x 6": RoformerConfig(256, 12, stem_names=SIX),
    "small BS 64/4 x 4": RoformerConfig(64, 4, stem_names=SIX[:4], stft_hop_frames=441),
    "small Mel 64/4 x 4": RoformerConfig(64, 4, "mel", SIX[:4], stft_hop_frames=441),
    "narrow BS 64/4 x 4, 4 heads x 16": RoformerConfig(
        64, 4, stem_names=SIX[:4], heads=4, dim_head=16, stft_hop_frames=441
    ),
}
"""8 heads of 64 but in the last, as published."""

Figures = dict[str, float | str]


def oracle_for(config: RoformerConfig) -> nn.Module:
    return oracle_of(config, torch.float32)


def ours_for(config: RoformerConfig) -> Roformer:
    return build(config).eval()


def seconds_of(run: Callable[[Tensor], Tensor], audio: Tensor) -> float:
    start = time.perf_counter()
    run(audio)
    if audio.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def noise(config: RoformerConfig, seconds: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    frames = round(seconds * config.sample_rate_hz)
    return 0.1 * torch.randn(1, config.channels, frames, generator=generator)


def difference(oracle: nn.Module, ours: Roformer, audio: Tensor) -> float:
    """Of the masks, relative to the oracle's rms."""
    expected = roformer_run(oracle, ours.config, audio)[0]
    actual = ours.mask(ours.stft(audio))
    error, level = (x.abs().square().mean().sqrt() for x in (actual - expected, expected))
    return float(error / level)


def peak_mb(make: Callable[[RoformerConfig], nn.Module], name: str, seconds: float, threads: int) -> float:
    """Peak memory of this process (Linux) after one run of a model; to be called in a fresh process."""
    quieten(threads)
    model, audio = make(SIZES[name]), noise(SIZES[name], seconds)
    with torch.inference_mode():
        model(audio)
    status = Path("/proc/self/status").read_text()  # getrusage would begin with the parent's peak
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def quieten(threads: int) -> None:
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")  # the oracle's, about its window and its attention context


def measure(name: str, device: str, options: argparse.Namespace) -> Figures:
    """All figures of one size on one device."""
    config = SIZES[name]
    oracle = oracle_for(config)
    ours = ours_for(config)
    ours.load_state_dict(oracle.state_dict(), strict=True)
    audio = noise(config, options.seconds).to(device)
    models = {"oracle": oracle.to(device), "ours": ours.to(device)}
    figures: Figures = {"model": name, "device": device, "audio_s": options.seconds}
    figures["parameters_m"] = sum(parameter.numel() for parameter in ours.parameters()) / 1e6
    with torch.inference_mode():
        figures["difference"] = difference(oracle, ours, audio)  # which warms up, too
        times: dict[str, list[float]] = {kind: [] for kind in models}
        for _ in range(options.repeats):
            for kind, model in models.items():
                times[kind].append(seconds_of(model, audio))
    for kind, seconds in times.items():
        figures[f"{kind}_s_per_s"] = min(seconds) / options.seconds
    figures["ratio"] = min(times["ours"]) / min(times["oracle"])
    return figures | memory(name, models, audio, options)


def memory(
    name: str, models: dict[str, nn.Module], audio: Tensor, options: argparse.Namespace
) -> dict[str, float]:
    """Peak memory of both, by `oracle_mb` and `ours_mb`."""
    if audio.is_cuda:
        return {f"{kind}_mb": cuda_peak_mb(model, audio) for kind, model in models.items()}
    jobs = {"oracle": oracle_for, "ours": ours_for}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return {
            f"{kind}_mb": pool.apply(peak_mb, (make, name, options.seconds, options.threads))
            for kind, make in jobs.items()
        }


def cuda_peak_mb(model: nn.Module, audio: Tensor) -> float:
    """Of the run itself: both models' weights are there meanwhile."""
    start = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with torch.inference_mode():
        model(audio)
    return (torch.cuda.max_memory_allocated() - start) / 1e6


def table(rows: list[Figures]) -> str:
    """Markdown."""
    lines = [
        "| model | device | parameters | mask difference | oracle s/s | ours s/s | ratio"
        " | oracle MB | ours MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    form = (
        "| {model} | {device} | {parameters_m:.1f} M | {difference:.1e} | {oracle_s_per_s:.3f} |"
        " {ours_s_per_s:.3f} | {ratio:.2f} | {oracle_mb:.0f} | {ours_mb:.0f} |"
    )
    return "\n".join(lines + [form.format(**row) for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=SIZES, action="append", help="a size (repeatable; default: all)")
    parser.add_argument("--seconds", type=float, default=2.0, help="audio per run (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each model (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    options = parser.parse_args()
    quieten(options.threads)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    names = options.only or list(SIZES)
    rows = [measure(name, device, options) for device in devices for name in names]
    print(json.dumps(rows) if options.json else table(rows), flush=True)


if __name__ == "__main__":
    main()
