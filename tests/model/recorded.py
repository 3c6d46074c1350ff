"""Small recordings on disk that several tests share."""

import struct

import numpy as np
from pedalboard.io import AudioFile

from model.filters import RATE_HZ
from model.training.songs import STEM_NAMES


def tone(seconds, hz=220.0, level=0.3, rate_hz=RATE_HZ):
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.tile((level * np.sin(2 * np.pi * hz * t)).astype(np.float32), (2, 1))


def write(path, audio, rate_hz=RATE_HZ, bit_depth=16):
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = {"samplerate": rate_hz, "num_channels": len(audio)}
    if path.suffix in (".wav", ".flac"):
        kinds["bit_depth"] = bit_depth
    with AudioFile(str(path), "w", **kinds) as file:
        file.write(audio)
    return path


def as_streamed(wav):
    """A WAV with the header that ffmpeg writes into a pipe: no sizes."""
    data = wav.read_bytes()
    head, samples = data.split(b"data", 1)
    wav.write_bytes(head[:4] + b"\xff" * 4 + head[8:] + b"data" + b"\xff" * 4 + samples[4:])
    return wav


def as_rf64(wav):
    """A WAV with the header of those that may be larger than 4 GB: its sizes lie in a chunk of their own."""
    samples = as_streamed(wav).read_bytes()
    size = len(samples.split(b"data", 1)[1]) - 4
    sizes = struct.pack("<4sIQQQI", b"ds64", 28, len(samples) + 28, size, size // 4, 0)
    wav.write_bytes(b"RF64" + samples[4:12] + sizes + samples[12:])
    return wav


def cut(path, part=0.5):
    """Keep the first part of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    return path


def write_song(folder, names=STEM_NAMES, suffix=".wav", seconds=5.0):
    """A song with one tone per stem."""
    for place, name in enumerate(names):
        write(folder / f"{name}{suffix}", tone(seconds, 110.0 * (place + 1)))
    return folder


def write_index(folder, split_of=lambda path: "train", extra=()):
    """A files.tsv of all FLAC files below."""
    names = sorted(p.relative_to(folder) for p in folder.rglob("*.flac"))
    rows = [f"{name}\t{split_of(name)}" for name in names]
    (folder / "files.tsv").write_text("\n".join(["path\tsplit", *rows, *extra]) + "\n")
    return folder


def write_library(folder):
    """Phrases of two packs, an instrumental, a song without bass; and four files that cannot be used."""
    write(folder / "singing/a/long.flac", tone(1.0, 330.0))
    write(folder / "singing/b/held_out.flac", tone(1.0, 440.0))
    write(folder / "singing/a/short.flac", tone(0.1))
    write(folder / "singing/a/silent.flac", tone(1.0, level=0.0))
    (folder / "singing/a/broken.flac").write_bytes(b"not audio")
    write(folder / "backgrounds/b/piece.flac", tone(5.0, 110.0))
    write_song(folder / "multitracks/act/song", ("vocals", "drums", "other"), ".flac")
    return write_index(
        folder,
        lambda path: "test" if path.stem == "held_out" else "train",
        ["singing/a/gone.flac\ttrain"],
    )
