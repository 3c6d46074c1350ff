"""`python -m model.training`: train from the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from model.training.train import Progress, TrainSettings, train


def _settings() -> TrainSettings:
    parser = argparse.ArgumentParser(prog="python -m model.training", description="Train the built-in model.")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, cache and weights")
    parser.add_argument("--audio", type=Path, help="library of recordings with a files.tsv")
    parser.add_argument("--songs", type=Path, help="folder of songs in four stems, as MUSDB18-HQ")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop this run after so long")
    parser.add_argument("--steps", type=int, default=TrainSettings.steps)
    parser.add_argument("--batch", type=int, default=TrainSettings.batch)
    parser.add_argument("--learning-rate", type=float, default=TrainSettings.learning_rate)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--device", default=TrainSettings.device)
    args = parser.parse_args()
    return TrainSettings(
        out_dir=args.out, audio_dir=args.audio, songs_dir=args.songs, minutes=args.minutes, steps=args.steps,
        batch=args.batch, learning_rate=args.learning_rate, resume=args.resume, device=args.device,
    )  # fmt: skip


def _line(progress: Progress) -> None:
    if progress.step % 10 == 0:
        left = f"{progress.eta_s / 60:.0f} min left"
        print(f"step {progress.step}/{progress.steps}  loss {progress.loss:.4f}  {left}", flush=True)


def main() -> None:
    """Train with one torch thread and print a line every ten steps."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    train(_settings(), _line, lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
