"""The report is one page that needs nothing else and shows what it was given."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from pedalboard.io import AudioFile

from host.report import (
    ScoredSong,
    Sound,
    build_report,
    listening_page,
    ogg,
    spectrogram,
    spectrum_power,
)
from streaming.latency import LatencyBudget, LatencyItem

MEASURES = {
    "model": "<script>alert(1)</script>",
    "block_frames": 128,
    "sample_rate_hz": 44100,
    "duration_s": 1.0,
    "latency_frames": 1649,
    "latency_ms": 37.39,
    "hops": 100,
    "late_hops": 3,
    "load_p50": 0.21,
    "load_p99": 0.47,
    "load_max": 0.9,
    "xruns": 0,
    "null_residual_db": -160.2,
    "si_sdr_db": {"vocals": 3.25, "bass": None},
    "si_sdr_mixture_db": {"vocals": -4.5, "bass": None},
}
BUDGET = LatencyBudget(
    44100, (LatencyItem("model", 882, "why"), LatencyItem("buffering", 767, "to compute in"))
)


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, html) -> None:
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data) -> None:
        self.text += data

    def sources(self, tag):
        return [attributes["src"] for name, attributes in self.tags if name == tag]


def tone(rate_hz=44100, frames=22050):
    return np.tile(np.sin(2 * np.pi * 1000 * np.arange(frames) / rate_hz), (2, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def html():
    vocals = Sound("vocals", "A stem & more", 0.5 * tone(), truth=0.25 * tone())
    sounds = [Sound("mix", "What went in.", tone()), vocals]
    return build_report(MEASURES, BUDGET, np.array([0.2, 0.3, 1.4]), sounds)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_nothing_outside_the_page_is_needed(html, page) -> None:
    kinds = {tag for tag, _ in page.tags}
    assert not kinds & {"link", "iframe", "object"}
    assert [attributes for tag, attributes in page.tags if tag == "script"] == [{}]
    references = [v for _, a in page.tags for k, v in a.items() if k in ("src", "href", "srcset", "data")]
    assert references
    assert all(reference.startswith("data:") for reference in references)
    outside_data = re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)
    assert not re.search(r"https?:|url\(|@import", outside_data)


def test_pictures_are_png_and_sounds_play(page) -> None:
    pictures = [base64.b64decode(src.split(",")[1]) for src in page.sources("img")]
    assert len(pictures) == 3
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    sounds = [base64.b64decode(src.split(",")[1]) for src in page.sources("audio")]
    for content, gain in zip(sounds, (1.0, 0.5, 0.25), strict=True):
        with AudioFile(io.BytesIO(content)) as file:
            decoded = file.read(file.frames)
        assert decoded.shape[1] == 22050
        assert np.sqrt(np.mean(decoded**2)) == pytest.approx(gain * np.sqrt(0.5), rel=0.03)


def test_the_figures_are_there_and_text_is_no_markup(page) -> None:
    for figure in ("37.4 ms", "1649", "767", "late hops of 100", "47 %", "-160 dB", "+3.2 dB", "+7.8 dB"):
        assert figure in page.text, figure
    assert MEASURES["model"] in page.text
    assert "A stem & more" in page.text


def test_the_spectrum_of_a_tone_peaks_at_the_tone() -> None:
    power = spectrum_power(tone())
    assert int(power.sum(axis=0).argmax()) == round(1000 * 4096 / 44100)


@pytest.mark.parametrize(("rate_hz", "frames"), [(8000, 1), (8000, 100), (192000, 5000)])
def test_short_and_silent_sounds_have_a_picture_too(rate_hz, frames) -> None:
    figure = spectrogram(np.zeros((2, frames), np.float32), rate_hz, 0.0)
    figure.savefig(io.BytesIO(), format="png")


def test_a_run_without_hops_has_a_page() -> None:
    sounds = [Sound("mix", "", np.zeros((2, 4410), np.float32))]
    assert Page(build_report(MEASURES, BUDGET, np.zeros(0), sounds)).sources("img")


def test_too_loud_sound_is_clipped_not_wrapped() -> None:
    with AudioFile(io.BytesIO(ogg(3.0 * tone(), 44100))) as file:
        decoded = file.read(file.frames)
    assert np.corrcoef(decoded[0], tone()[0])[0, 1] > 0.9


def test_a_listening_page_has_every_song_with_its_tracks() -> None:
    stem = Sound("bass", "+1.0 dB", 0.5 * tone(), tone())
    songs = [ScoredSong(f"<song {n}>", "of 10 s", [Sound("mix", "", tone()), stem], 44100) for n in range(2)]
    page = Page(listening_page("Held out", songs))
    assert len(page.sources("audio")) == 6
    assert sum(attributes.get("class") == "song" for _, attributes in page.tags) == 2
    for text in ("Held out", "<song 0>", "<song 1>", "of 10 s", "+1.0 dB"):
        assert text in page.text
