"""The catalogue of published checkpoints is complete, consistent and harmless."""

import re
from urllib.parse import urlsplit

import pytest

from model.catalogue import (
    CatalogueError,
    Entry,
    at_look_ahead,
    check_name,
    models_folder,
    published_models,
    resolve,
)
from model.config import WHOLE_SIGNAL, RoformerConfig

ENTRIES = list(published_models().values())
PUBLISHED = {  # what people report of the files: megabytes and the size of the network
    "viperx-vocals-1297": (639.3, "bs", 512, 12),
    "viperx-vocals-1296": (639.3, "bs", 512, 12),
    "viperx-other": (393.1, "bs", 384, 12),
    "viperx-mel-vocals": (1007, "mel", 384, 12),
    "kim-vocals": (913.1, "mel", 384, 6),
    "karaoke-aufr33-viperx": (913.1, "mel", 384, 6),
    "karaoke-becruily": (1719.1, "mel", 384, 6),
    "karaoke-anvuew": (204.5, "bs", 256, 12),
    "zfturbo-4-stems": (527.4, "bs", 384, 8),
    "sw-6-stems": (699.4, "bs", 256, 12),
    "resurrection-vocals": (204.5, "bs", 256, 12),
    "dereverb-anvuew": (913.1, "mel", 384, 6),
    "denoise-aufr33": (913.1, "mel", 384, 6),
    "mel-2s-musdb": (0, "mel", 256, 6),
}


def parameters(entry: Entry, stems: int) -> int:
    """Counted from the configuration, by the formulas of the layers."""
    config = RoformerConfig.from_dict({"stem_names": tuple(map(str, range(stems))), **entry.settings})
    inner, widths = config.heads * config.dim_head, [4 * len(bins) for bins in config.band_bins]
    attention = config.dim + 3 * config.dim * inner + (config.dim + 1) * config.heads + inner * config.dim
    attention += config.dim_head // 2  # rotary frequencies, stored with every attention
    forward = config.dim + 8 * config.dim * config.dim + 5 * config.dim
    layers = 2 * config.depth * (attention + forward)
    layers += 2 * config.depth * config.dim if config.architecture == "mel" else config.dim
    split = sum(w + (w + 1) * config.dim for w in widths)
    hidden = config.dim * config.expansion
    first = (config.dim + 1) * hidden + (config.mask_linears - 2) * (hidden + 1) * hidden
    masks = stems * sum(first + (hidden + 1) * 2 * w for w in widths)
    return layers + split + masks


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("studio", ("studio", None)),
        ("studio@8", ("studio", 8)),
        ("a@b/m.safetensors@all", ("a@b/m.safetensors", WHOLE_SIGNAL)),
        ("a@b/m.safetensors", ("a@b/m.safetensors", None)),
        ("@8", ("@8", None)),
        ("studio@-1", ("studio@-1", None)),
        ("studio@123456", ("studio@123456", None)),
    ],
)
def test_look_aheads_are_told_from_names(named, expected):
    assert at_look_ahead(named) == expected


def test_there_are_enough_and_all_that_people_ask_for() -> None:
    assert len(ENTRIES) >= 16 and PUBLISHED.keys() <= published_models().keys()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_every_entry_is_usable(entry: Entry) -> None:
    assert check_name(entry.id) == entry.id
    parts = urlsplit(entry.address)
    assert parts.scheme == "https" and parts.hostname in ("github.com", "huggingface.co")
    assert parts.path.endswith((".ckpt", ".safetensors"))
    assert re.fullmatch(r"([0-9a-f]{64})?", entry.sha256)
    assert entry.title and entry.good_for and (entry.stem_names or entry.config_address)
    assert entry.bytes == 0 or abs(entry.bytes / 1e6 - entry.about_mb) < 0.06
    assert entry.unsure or (entry.bytes and entry.sha256)
    config = RoformerConfig.from_dict(dict(entry.settings))
    assert {"zero_dc", "stft_hop_frames", "chunk_frames", "architecture"} <= entry.settings.keys()
    assert config.architecture == "bs" or {"channels", "n_fft"} <= entry.settings.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_size_of_the_file_is_that_of_its_weights(name: str) -> None:
    megabytes, architecture, dim, depth = PUBLISHED[name]
    entry = published_models()[name]
    assert (entry.about_mb, entry.settings["architecture"]) == (megabytes, architecture)
    assert (entry.settings["dim"], entry.settings["depth"]) == (dim, depth)
    stems = {"karaoke-becruily": 2, "karaoke-anvuew": 1, "mel-2s-musdb": 4}.get(name) or len(entry.stem_names)
    if megabytes:
        assert 4 * parameters(entry, stems) / 1e6 == pytest.approx(megabytes, rel=0.003)


@pytest.mark.parametrize("name", ["mine.ckpt", "folder/model.pth"])
def test_a_pickle_is_to_be_imported_first(name: str) -> None:
    with pytest.raises(CatalogueError, match=rf"^{name}: pickles are not loaded; .* models import {name}`$"):
        resolve(name)


def test_the_folder_of_models_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("STEMBRIDGE_MODELS", str(tmp_path))
    assert models_folder() == tmp_path
    monkeypatch.delenv("STEMBRIDGE_MODELS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert models_folder() == tmp_path / "stembridge" / "models"
