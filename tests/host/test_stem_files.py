"""Files of stems: whole or not there, never clipped, summing up to what they came from, with its tags."""

import json

import mutagen
import numpy as np
import pytest
from mutagen.easyid3 import EasyID3
from pedalboard.io import AudioFile

from host.audio_files import read_audio, write_audio
from host.errors import UserError
from host.library import RECORD, Job
from host.renderers import Renderer
from host.stem_files import StemFormat, separate_file
from host.tags import read_tags

SETTINGS = {"made": "so"}


def noise(channels, frames, level=0.1, seed=0):
    return (level * np.random.default_rng(seed).standard_normal((channels, frames))).astype(np.float32)


def halves(pieces):
    """Two stems that leave a fifth of the mixture: 0.5 and 0.3 of it."""
    return (np.stack([np.float32(0.5) * piece, np.float32(0.3) * piece]) for piece in pieces)


RENDERER = Renderer(("vocals", "other"), 2, None, halves)


def run(job, form, renderer=RENDERER):
    work, seen = separate_file(job, renderer, form, SETTINGS), []
    while True:
        try:
            seen.append(next(work))
        except StopIteration as end:
            assert seen == sorted(seen) and seen[-1] == 1.0
            return end.value


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path / "song.wav", tmp_path / "out" / "song")


def read(job, name):
    return read_audio(job.folder / name)[0]


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("frames", [1, 5000, 600_001])
def test_float_stems_and_residual_sum_to_the_input(job, channels, frames) -> None:
    audio = noise(channels, frames, level=1.0)  # far above full scale in places
    write_audio(job.source, audio, 48000)
    record = run(job, StemFormat(residual=True))
    total = sum(read(job, f"{name}.wav") for name in ("vocals", "other", "residual"))
    np.testing.assert_allclose(total, audio, atol=1e-6)
    np.testing.assert_allclose(read(job, "residual.wav"), 0.2 * audio, atol=1e-6)
    assert (record["channels"], record["frames"], record["gain_db"]) == (channels, frames, 0.0)
    assert record == json.loads((job.folder / RECORD).read_text())


@pytest.mark.parametrize(
    ("container", "bits"), [("wav", "24"), ("wav", "16"), ("flac", "24"), ("flac", "16")]
)
@pytest.mark.parametrize("level", [0.1, 2.0])
def test_whole_numbers_get_one_gain_for_all(job, container, bits, level) -> None:
    audio = noise(2, 70_000, level)
    write_audio(job.source, audio, 44100)
    record = run(job, StemFormat(container, bits, residual=True))
    gain = 10 ** (record["gain_db"] / 20)
    assert (gain == 1.0) == (0.5 * np.abs(audio).max() < 1)
    stems = [read(job, f"{name}.{container}") for name in ("vocals", "other", "residual")]
    for stem, share in zip(stems, (0.5, 0.3, 0.2), strict=True):
        np.testing.assert_allclose(stem, gain * share * audio, atol=0.51 * 2.0 ** (1 - int(bits)) + 2**-23)
    assert np.abs(stems[0]).max() <= 1 and (gain == 1.0 or np.abs(stems[0]).max() > 0.99)
    assert sorted(path.suffix for path in job.folder.iterdir()) == sorted([f".{container}"] * 3 + [".json"])
    with AudioFile(str(job.folder / f"vocals.{container}")) as file:
        assert file.file_dtype == f"int{bits}"


def test_silence_stays_silence(job) -> None:
    write_audio(job.source, np.zeros((2, 1000), np.float32), 44100)
    assert run(job, StemFormat("flac"))["gain_db"] == 0.0
    assert not read(job, "vocals.flac").any()


def test_own_files_in_the_folder_are_spared_and_old_stems_replaced(job) -> None:
    for seed in range(2):
        write_audio(job.source, noise(2, 1000, seed=seed), 44100)
        run(job, StemFormat())
        (job.folder / "notes.txt").write_text("mine")
    assert sorted(path.name for path in job.folder.iterdir()) == [
        "notes.txt", "other.wav", RECORD, "vocals.wav",
    ]  # fmt: skip
    np.testing.assert_array_equal(read(job, "vocals.wav"), 0.5 * noise(2, 1000, seed=1))
    assert [path.name for path in job.folder.parent.iterdir()] == ["song"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError])
def test_whatever_stops_it_leaves_no_half_folder(job, error) -> None:
    def stopping(pieces):
        yield from halves([next(pieces)])
        raise error

    write_audio(job.source, noise(1, 600_000), 44100)
    with pytest.raises(error):
        run(job, StemFormat(), Renderer(("vocals", "other"), 2, None, stopping))
    assert list(job.folder.parent.iterdir()) == []


def test_more_channels_than_flac_holds_are_refused_before_the_work(job) -> None:
    def untouched(pieces):
        raise AssertionError("work was begun")

    write_audio(job.source, noise(9, 100), 44100)
    with pytest.raises(ValueError, match="takes 1 to 8"):
        run(job, StemFormat("flac"), Renderer(("vocals",), 2, None, untouched))


def test_a_residual_of_the_models_own_is_not_overwritten(job) -> None:
    write_audio(job.source, noise(1, 100), 44100)
    with pytest.raises(UserError, match="--residual"):
        run(job, StemFormat(residual=True), Renderer(("residual",), 2, None, halves))


@pytest.mark.parametrize("container", ["wav", "flac"])
@pytest.mark.parametrize("suffix", ["mp3", "ogg", "flac", "wav"])
def test_tags_are_kept_from_kind_to_kind(tmp_path, suffix, container) -> None:
    source = tmp_path / f"song.{suffix}"
    with AudioFile(str(source), "w", 44100, 2) as file:
        file.write(noise(2, 5000))
    tags = {
        "title": ["Sång"],
        "artist": ["A", "B"],
        "album": ["X"],
        "date": ["1999"],
        "tracknumber": ["3/12"],
    }
    tagged = mutagen.File(source, easy=True)
    if suffix == "wav":
        frames = EasyID3()
        for name, values in tags.items():
            frames[name] = values
        frames.save(tmp_path / "frames.id3")
        tagged.add_tags()
        tagged.tags.update(mutagen.id3.ID3(tmp_path / "frames.id3"))
    else:
        tagged.update(tags | {"replaygain_track_gain": ["-3 dB"]})
    tagged.save()
    job = Job(source, tmp_path / "out" / "song")
    assert run(job, StemFormat(container))["tagged"]
    assert read_tags(job.folder / f"vocals.{container}") == tags
    np.testing.assert_allclose(read(job, f"vocals.{container}"), 0.5 * read_audio(source)[0], atol=2**-22)


def test_a_file_without_tags_gives_stems_without(job) -> None:
    write_audio(job.source, noise(2, 100), 44100)
    assert run(job, StemFormat())["tagged"]
    assert read_tags(job.folder / "vocals.wav") == {}
