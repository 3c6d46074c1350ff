"""Audio files: exact where they can be, one clear line where they cannot, and nothing half-written."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from pedalboard.io import AudioFile

from host.audio_files import (
    AudioFileError,
    AudioFileWriter,
    read_audio,
    read_pieces,
    survey,
    write_audio,
)
from streaming.separator import Audio
from tests.model.recorded import as_streamed


def noise(channels: int = 2, frames: int = 1000) -> Audio:
    return np.random.default_rng(5).standard_normal((channels, frames), np.float32)


@pytest.mark.parametrize("channels", [1, 2, 6, 64])
@pytest.mark.parametrize("rate_hz", [8000, 44100, 192000])
def test_a_float_wav_comes_back_to_the_bit(tmp_path: Path, channels: int, rate_hz: int) -> None:
    audio = noise(channels)  # well above full scale
    write_audio(tmp_path / "a.wav", audio, rate_hz)
    back, back_hz = read_audio(tmp_path / "a.wav")
    assert np.array_equal(back, audio) and back_hz == rate_hz and back.dtype == np.float32


@pytest.mark.parametrize("name", ["a.flac", "a.wav"])
def test_24_bits_keep_24_bits(tmp_path: Path, name: str) -> None:
    audio = np.clip(0.2 * noise(), -0.99, 0.99)
    write_audio(tmp_path / name, audio, 48000, "int24")
    assert np.max(np.abs(read_audio(tmp_path / name)[0] - audio)) <= 2**-22


def test_pieces_add_up_to_the_file(tmp_path: Path) -> None:
    audio = noise(frames=1000)
    with AudioFileWriter(tmp_path / "new" / "a.wav", 44100, 2) as file:
        for start, end in ((0, 1), (1, 65), (65, 65), (65, 1000)):
            file.write(audio[:, start:end])
        assert file.frames == 1000
    assert np.array_equal(read_audio(tmp_path / "new" / "a.wav")[0], audio)


def test_longer_than_one_read(tmp_path: Path) -> None:
    audio = noise(1, 200_001)
    write_audio(tmp_path / "a.wav", audio, 44100)
    assert np.array_equal(read_audio(tmp_path / "a.wav")[0], audio)


def test_a_streamed_wav_ends_with_its_file(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", noise(frames=70_000), 44100)
    write_audio(tmp_path / "empty.wav", noise(frames=0), 44100)
    whole = read_audio(tmp_path / "a.wav")[0]
    assert np.array_equal(read_audio(as_streamed(tmp_path / "a.wav"))[0], whole)
    with pytest.raises(AudioFileError, match="0 frames"):
        read_audio(as_streamed(tmp_path / "empty.wav"))


def test_an_error_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.wav"
    write_audio(target, noise(), 44100)
    before = target.read_bytes()
    with pytest.raises(KeyboardInterrupt), AudioFileWriter(target, 44100, 2) as file:
        file.write(noise())
        assert len(list(tmp_path.iterdir())) == 2  # the part lies beside its target
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert target.read_bytes() == before


def test_nothing_has_the_name_before_it_is_whole(tmp_path: Path) -> None:
    file = AudioFileWriter(tmp_path / "a.wav", 44100, 2)
    file.write(noise())
    assert not (tmp_path / "a.wav").exists()
    file.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_a_target_that_turns_out_a_folder_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.wav").mkdir()
    file = AudioFileWriter(tmp_path / "a.wav", 44100, 2)
    file.write(noise())
    with pytest.raises(AudioFileError, match="cannot be written"):
        file.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    audio = noise(frames=200_000)
    audio[1, 150_000] = value
    write_audio(tmp_path / "a.wav", audio, 44100)
    for read in (read_audio, survey):
        with pytest.raises(AudioFileError, match=r"a\.wav: holds samples that are NaN or infinite"):
            read(tmp_path / "a.wav")


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_a_survey_counts_what_pieces_give(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    with AudioFile(str(path), "w", 44100, 2) as file:
        file.write(0.1 * noise(frames=200_001))
    facts = survey(path)
    assert (facts.rate_hz, facts.channels) == (44100, 2)
    pieces = list(read_pieces(path))
    assert facts.frames == sum(piece.shape[1] for piece in pieces) == read_audio(path)[0].shape[1]
    assert facts.frames >= 200_001 and len(pieces) > 1


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
@pytest.mark.parametrize(("sample_format", "bits"), [("int16", 16), ("int24", 24)])
def test_whole_numbers_are_rounded_to_the_nearest_and_limited(tmp_path, name, sample_format, bits) -> None:
    audio = np.random.default_rng(1).uniform(-1.2, 1.2, (2, 10_000)).astype(np.float32)
    write_audio(tmp_path / name, audio, 44100, sample_format)
    error = read_audio(tmp_path / name)[0].astype(np.float64) - np.clip(audio, -1, 1 - 2.0 ** (1 - bits))
    assert np.abs(error).max() <= 0.51 * 2.0 ** (1 - bits) and abs(error.mean()) < 0.02 * 2.0 ** (1 - bits)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_whole_numbers_are_read_to_scale(tmp_path: Path, bits: int) -> None:
    full, size = 1 << (bits - 1), bits // 8
    whole = [full // 2, -full, -full // 2, full - 1, 1, 0]
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, size, 44100, 0, "NONE", ""))
        offset = full if bits == 8 else 0  # the only width without a sign
        file.writeframes(b"".join((k + offset).to_bytes(size, "little", signed=not offset) for k in whole))
    expected = (np.array(whole) / full).astype(np.float32)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav")[0][0], expected)


@pytest.mark.parametrize("name", ["b.wav", "b.flac"])
@pytest.mark.parametrize(("sample_format", "bits"), [("int16", 16), ("int24", 24)])
def test_whole_numbers_come_back_to_the_bit(tmp_path: Path, name: str, sample_format, bits: int) -> None:
    full = 1 << (bits - 1)
    whole = np.linspace(-full, full - 1, 1 << 16).round().astype("<i4").reshape(2, -1)
    content = whole.T.copy().view(np.uint8).reshape(-1, 4)[:, : bits // 8].tobytes()
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((2, bits // 8, 44100, 0, "NONE", ""))
        file.writeframes(content)
    audio = read_audio(tmp_path / "a.wav")[0]
    write_audio(tmp_path / name, audio, 44100, sample_format)
    np.testing.assert_array_equal(read_audio(tmp_path / name)[0], audio)
    if name == "b.wav":
        with wave.open(str(tmp_path / name)) as file:
            assert file.readframes(file.getnframes()) == content


def test_unreadable_files_say_why(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("hello " * 100)
    (tmp_path / "folder.wav").mkdir()
    with AudioFile(str(tmp_path / "zero.wav"), "w", 44100, 2):
        pass
    with AudioFile(str(tmp_path / "slow.wav"), "w", 4000, 1) as file:
        file.write(noise(1))
    with AudioFile(str(tmp_path / "wide.wav"), "w", 44100, 65) as file:
        file.write(noise(65))
    expected = {
        "missing.wav": "no such file",
        "folder.wav": "is a folder",
        "empty.wav": "cannot be read as audio",
        "text.wav": "cannot be read as audio",
        "zero.wav": "0 frames",
        "slow.wav": "4000 Hz",
        "wide.wav": "65 channels",
    }
    for name, says in expected.items():
        with pytest.raises(AudioFileError, match=says) as caught:
            read_audio(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "rate_hz", "channels", "sample_format", "says"),
    [
        ("a.mp3", 44100, 2, "float32", "end the name in .wav or .flac"),
        ("a.flac", 44100, 2, "float32", "FLAC holds no float samples"),
        ("a.flac", 44100, 9, "int24", "takes 1 to 8"),
        ("a.wav", 44100, 0, "float32", "takes 1 to 64"),
        ("a.wav", 4000, 2, "float32", "4000 Hz"),
        ("file/a.wav", 44100, 2, "float32", "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(
    tmp_path: Path, name: str, rate_hz: int, channels: int, sample_format: str, says: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AudioFileError, match=says):
        AudioFileWriter(tmp_path / name, rate_hz, channels, sample_format)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_another_channel_count_than_declared_is_refused(tmp_path: Path) -> None:
    says = pytest.raises(AudioFileError, match="1 channels given, 2 declared")
    with says, AudioFileWriter(tmp_path / "a.wav", 44100, 2) as file:
        file.write(noise(1))
    assert not list(tmp_path.iterdir())
