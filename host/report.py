"""Reports of the demo and of scored songs: one HTML page that holds its pictures and sounds itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pedalboard.io import AudioFile

from host.colours import ACCENT, NEUTRAL
from streaming.latency import LatencyBudget
from streaming.separator import Audio

WINDOW_FRAMES = 4096
COLUMNS, ROWS = 900, 160
LEAST_HZ, MOST_HZ = 40.0, 16000.0
RANGE_DB = 80.0
SOUND_QUALITY = "128 kbps"

STYLE = """
:root { color-scheme: light dark; --text: #22252b; --dim: #6b7280; --page: #f6f5f2; --card: #ffffff;
  --line: #e3e1dc; --accent: #c8501c; }
@media (prefers-color-scheme: dark) { :root { --text: #e8e6e3; --dim: #9aa0aa; --page: #16181d;
  --card: #1f2229; --line: #2e323b; --accent: #f08a55; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; margin: 0; letter-spacing: -0.02em; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 0.75rem; }
p { margin: 0.4rem 0; max-width: 46rem; }
.dim { color: var(--dim); font-size: 0.92rem; }
.cards { display: grid; gap: 0.9rem; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr));
  margin-top: 1.5rem; }
.card, .track { background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
.card { padding: 0.9rem 1.1rem; }
.card b { display: block; font-size: 1.65rem; font-weight: 650; color: var(--accent); }
.track { padding: 0.8rem 1rem 0.6rem; margin-bottom: 0.9rem; }
.track header { display: flex; flex-wrap: wrap; gap: 0.5rem 1rem; align-items: center; }
.track h3 { margin: 0; font-size: 1rem; min-width: 6rem; }
.track audio { flex: 1; min-width: 14rem; height: 2.2rem; }
.track .player { flex: 1; display: flex; gap: 0.5rem; align-items: center; }
img { width: 100%; height: auto; display: block; margin-top: 0.4rem; }
table { border-collapse: collapse; width: 100%; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; overflow: hidden; }
th, td { text-align: left; padding: 0.45rem 0.9rem; border-bottom: 1px solid var(--line); }
th { font-size: 0.85rem; color: var(--dim); font-weight: 600; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
tr:last-child td { border-bottom: 0; }
"""

KEEP_PLACE = """
for (const song of document.querySelectorAll(".song")) {
  let last = null;
  song.addEventListener("play", ({ target }) => {
    if (last && last !== target) {
      if (!last.ended) target.currentTime = last.currentTime;
      last.pause();
    }
    last = target;
  }, true);
}
"""
"""One track of a song sounds at a time, and goes on where another was: to compare them."""

TRACKS_NOTE = '<p class="dim">A track goes on where the one that played before it was.</p>'


@dataclass(frozen=True)
class Sound:
    """One track of the page: `audio` [2, frames], what it is, and what it should have been, where known."""

    title: str
    note: str
    audio: Audio
    truth: Audio | None = None


@dataclass(frozen=True)
class ScoredSong:
    """A song of a page to listen to: its tracks, the mix first, and a line on it."""

    title: str
    note: str
    sounds: Sequence[Sound]
    rate_hz: int


def build_report(
    measures: Mapping[str, Any],
    budget: LatencyBudget,
    loads: NDArray[np.float64],
    sounds: Sequence[Sound],
) -> str:
    """The page as HTML.

    Parameters
    ----------
    measures : what `demo --json` prints
    budget : the itemised latency
    loads : compute times of hops as a share of the hop
    sounds : the mix first; the loudest point of its spectrogram is 0 dB in all

    Threads: any.
    """
    rate_hz = budget.sample_rate_hz
    reference = spectrum_power(sounds[0].audio).max()
    body = (
        _head(measures),
        '<section class="cards">' + "".join(_cards(measures)) + "</section>",
        "<h2>Listen</h2>",
        TRACKS_NOTE,
        '<section class="song">',
        *(_track(sound, rate_hz, _spectrogram(sound, rate_hz, reference)) for sound in sounds),
        "</section>",
        "<h2>How well the stems match the truth</h2>",
        _scores(measures),
        "<h2>How long a hop takes to compute</h2>",
        _hop_times(measures, loads),
        "<h2>Where the latency comes from</h2>",
        _latency(budget),
    )
    return _page("stembridge demo", body)


def listening_page(title: str, songs: Iterable[ScoredSong]) -> str:
    """A page as HTML with the tracks of many songs: mix, stems, and the truth beside each. Threads: any."""
    body = [f"<h1>{escape(title)}</h1>", TRACKS_NOTE]
    for song in songs:
        body += [f"<h2>{escape(song.title)}</h2>", f'<p class="dim">{escape(song.note)}</p>']
        tracks = "".join(_track(sound, song.rate_hz) for sound in song.sounds)
        body.append(f'<section class="song">{tracks}</section>')
    return _page(title, body)


def _page(title: str, body: Iterable[str]) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        "<body><main>" + "\n".join(body) + f"</main><script>{KEEP_PLACE}</script></body></html>\n"
    )


def _head(measures: Mapping[str, Any]) -> str:
    return (
        "<h1>stembridge demo</h1>"
        f"<p>{measures['duration_s']:.1f} seconds of the bundled song went through the live engine in real "
        f"time, in blocks of {measures['block_frames']} frames at {measures['sample_rate_hz']} Hz, separated "
        f"by the model <b>{escape(measures['model'])}</b>.</p>"
    )


def _cards(measures: Mapping[str, Any]) -> Iterable[str]:
    yield _card(f"{measures['latency_ms']:.1f} ms", f"{measures['latency_frames']} frames, input to output")
    yield _card(f"{measures['late_hops']}", f"late hops of {measures['hops']}")
    yield _card(f"{100 * measures['load_p99']:.0f} %", "of a hop to compute it (99 of 100 hops)")
    yield _card(f"{measures['null_residual_db']:.0f} dB", "null residual: alignment, not quality")


def _card(value: str, caption: str) -> str:
    return f'<div class="card"><b>{escape(value)}</b><span class="dim">{escape(caption)}</span></div>'


def _track(sound: Sound, rate_hz: int, picture: str = "") -> str:
    players = _player(sound.audio, rate_hz)
    if sound.truth is not None:
        truth = _player(sound.truth, rate_hz)
        players = f'<span class="player">model {players}</span><span class="player">truth {truth}</span>'
    return (
        f'<article class="track"><header><h3>{escape(sound.title)}</h3>{players}</header>'
        f'<p class="dim">{escape(sound.note)}</p>{picture}</article>'
    )


def _player(audio: Audio, rate_hz: int) -> str:
    return f'<audio controls preload="metadata" src="{_data("audio/ogg", ogg(audio, rate_hz))}"></audio>'


def _spectrogram(sound: Sound, rate_hz: int, reference: float) -> str:
    return _image(spectrogram(sound.audio, rate_hz, reference), f"Spectrogram of {sound.title}")


def _scores(measures: Mapping[str, Any]) -> str:
    rows = [
        (name, decibels(score), decibels(before), decibels(_difference(score, before)))
        for name, score in measures["si_sdr_db"].items()
        for before in [measures["si_sdr_mixture_db"][name]]
    ]
    table = _table(("stem", "SI-SDR", "of the unprocessed mix", "gained"), rows, slice(1, None))
    return table + (
        '<p class="dim">Scale-invariant signal-to-distortion ratio against the stem the song was made from '
        "(Le Roux et al. 2019), in dB; higher is better. A stem that is silent here has none. The null "
        "residual is something else: all stems and the residual summed at unity gains, less the delayed "
        "input. It shows that nothing is lost or shifted and says nothing about separation.</p>"
    )


def _difference(score: float | None, before: float | None) -> float | None:
    return None if score is None or before is None else score - before


def decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f} dB"


def _hop_times(measures: Mapping[str, Any], loads: NDArray[np.float64]) -> str:
    return _image(load_histogram(loads), "Histogram of hop times") + (
        f'<p class="dim">Compute time as a share of the hop\'s duration: median {measures["load_p50"]:.2f}, '
        f"99 % below {measures['load_p99']:.2f}, longest {measures['load_max']:.2f}. Left of 1.0 the model "
        "keeps up; the allowance in the latency absorbs single hops to the right of it. Hops that came too "
        "late to be heard are counted above, and are in the sounds of this page all the same. The device "
        f"counted {measures['xruns']} xruns.</p>"
    )


def _latency(budget: LatencyBudget) -> str:
    rows = [(name, str(frames), f"{ms:.2f}", why) for name, frames, ms, why in budget.rows()]
    return _table(("item", "frames", "ms", "why"), rows, slice(1, 3))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: slice) -> str:
    """A table whose columns in `numbers` stand right-aligned."""
    right = set(range(len(heads))[numbers])

    def line(cells: Sequence[str], tag: str) -> str:
        kinds = [' class="number"' if column in right else "" for column in range(len(cells))]
        drawn = (f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))
        return f"<tr>{''.join(drawn)}</tr>"

    return f"<table>{line(heads, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"


def _image(figure: Figure, alternative: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", transparent=True)
    return f'<img alt="{escape(alternative)}" src="{_data("image/png", buffer.getvalue())}">'


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def ogg(audio: Audio, rate_hz: int) -> bytes:
    """Audio [channels, frames] as an Ogg Vorbis file; above full scale it clips."""
    buffer = io.BytesIO()
    with AudioFile(buffer, "w", rate_hz, audio.shape[0], format="ogg", quality=SOUND_QUALITY) as file:
        file.write(np.clip(audio, -1.0, 1.0))
    return buffer.getvalue()


def spectrum_power(audio: Audio) -> NDArray[np.float64]:
    """Power of the mid signal of audio [channels, frames], [at most COLUMNS, bins]; Hann windows."""
    mid = np.pad(audio.mean(axis=0, dtype=np.float64), WINDOW_FRAMES // 2)
    step = max(audio.shape[1] // COLUMNS, 1)
    windows = np.lib.stride_tricks.sliding_window_view(mid, WINDOW_FRAMES)[::step]
    spectrum = np.fft.rfft(windows * np.hanning(WINDOW_FRAMES))
    return np.square(np.abs(spectrum))


def spectrogram(audio: Audio, rate_hz: int, reference: float) -> Figure:
    """A spectrogram with a logarithmic frequency axis, in dB below `reference` (a power)."""
    top_hz = min(MOST_HZ, rate_hz / 2)
    bins = np.geomspace(LEAST_HZ, top_hz, ROWS) * WINDOW_FRAMES / rate_hz
    power = spectrum_power(audio)[:, np.rint(bins).astype(int)]
    level_db = 10 * np.log10(power / max(reference, 1e-20) + 1e-12)
    figure, axes = picture(1.5)
    axes.imshow(
        level_db.T,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=-RANGE_DB,
        vmax=0.0,
        extent=(0.0, audio.shape[1] / rate_hz, 0.0, 1.0),
    )
    marks = {"100": 100.0, "1k": 1000.0, "10k": 10000.0}
    places = [float(np.log(hz / LEAST_HZ) / np.log(top_hz / LEAST_HZ)) for hz in marks.values()]
    axes.set_yticks(places, list(marks))
    axes.set_ylim(0.0, 1.0)
    axes.set_ylabel("Hz", color=NEUTRAL)
    return figure


def load_histogram(loads: NDArray[np.float64]) -> Figure:
    """Hop times as a share of the hop, with the line at which the model would fall behind."""
    figure, axes = picture(2.2)
    end = max(1.1, float(loads.max(initial=0.0)) * 1.05)
    axes.hist(loads, bins=120, range=(0.0, end), color=ACCENT)
    axes.axvline(1.0, color=NEUTRAL, linestyle="--", linewidth=1)
    axes.set_yscale("symlog", linthresh=1)
    axes.set_xlabel("compute time / hop duration", color=NEUTRAL)
    axes.set_ylabel("hops", color=NEUTRAL)
    return figure


def picture(height_inches: float) -> tuple[Figure, Axes]:
    """A figure in the page's width, in colours that suit light and dark pages."""
    figure = Figure(figsize=(9.6, height_inches), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(colors=NEUTRAL, labelsize=8)
    for spine in axes.spines.values():
        spine.set_color(NEUTRAL)
        spine.set_linewidth(0.5)
    return figure, axes
