"""The YAML that accompanies a published checkpoint, read without trusting it.

The files are those of ZFTurbo's Music-Source-Separation-Training: plain YAML plus `!!python/tuple`. Every
other tag of Python's is refused, as are files that are large, deep or full of references.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 256 * 1024
MAX_REFERENCES = 16
MAX_DEPTH = 16
MAX_NUMBER = 10_000_000
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
STEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}")

BROKEN = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError, RecursionError)
"""What PyYAML raises over files that are no YAML, or whose values are not what their tags say."""

NAMES = {
    "dim": "dim",
    "depth": "depth",
    "heads": "heads",
    "dim_head": "dim_head",
    "time_transformer_depth": "time_depth",
    "freq_transformer_depth": "freq_depth",
    "linear_transformer_depth": "linear_depth",
    "freqs_per_bands": "bands",
    "num_bands": "mel_bands",
    "stft_n_fft": "n_fft",
    "stft_hop_length": "stft_hop_frames",
    "stft_win_length": "win_frames",
    "mask_estimator_depth": "mask_depth",
    "mlp_expansion_factor": "expansion",
    "skip_connection": "skip_connection",
    "zero_dc": "zero_dc",
    "sample_rate": "sample_rate_hz",
}
"""Settings of the `model` section and their names in RoformerConfig."""

READ_ELSEWHERE = {"stereo", "num_stems"}
OF_TRAINING = {
    "attn_dropout",
    "ff_dropout",
    "flash_attn",
    "sage_attention",
    "use_torch_checkpoint",
    "dim_freqs_in",
    "match_input_audio_length",
    "multi_stft_resolution_loss_weight",
    "multi_stft_resolutions_window_sizes",
    "multi_stft_hop_size",
    "multi_stft_normalized",
}
"""Settings that change nothing in what a trained model computes."""

SWITCHES = {"skip_connection", "zero_dc"}
VARIANTS: dict[str, tuple[object, str]] = {
    "use_value_residual_learning": (False, "value residual learning (as in the EXP models)"),
    "add_value_residual": (False, "value residual learning (as in the EXP models)"),
    "num_residual_streams": (1, "hyper-connections"),
    "use_pope": (False, "PolarFormer (PoPE embedding)"),
    "use_shared_bias": (False, "attention biases (use_shared_bias)"),
    "stft_normalized": (False, "a normalised STFT"),
    "time_conformer_depth": (None, "Conformer blocks"),
    "freq_conformer_depth": (None, "Conformer blocks"),
    "conv_expansion_factor": (None, "Conformer blocks"),
    "conv_kernel_size": (None, "Conformer blocks"),
    "time_module_depth": (None, "Mamba blocks"),
    "use_hyperace": (False, "HyperACE mask estimators"),
    "segm_model": (None, "HyperACE mask estimators"),
    "fno_modes": (None, "FNO mask estimators"),
}
"""Settings of variants that are not built here: the value that means "without it", and the variant's name."""


class YamlError(ValueError):
    """A configuration file that cannot be used; one line says which, why and what to do."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Plain YAML with tuples; refuses what would grow or nest without end."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._references = 0
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            self._references += 1
            if self._references > MAX_REFERENCES:
                raise yaml.YAMLError(f"more than {MAX_REFERENCES} references to other places in it")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.YAMLError(f"nested more than {MAX_DEPTH} levels deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _tuple(loader: _Loader, node: Any) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)


def read_yaml(path: Path) -> dict[str, Any]:
    """The sections of a YAML file. Raises YamlError. Threads: any."""
    if not path.is_file():
        raise YamlError(f"{path} is no file; check the path of the YAML")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise YamlError(f"{path} is no configuration: it is larger than {MAX_BYTES // 1024} kB")
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise YamlError(f"cannot read {path}: {error.strerror}; check the path") from None
    except BROKEN as error:
        if isinstance(error, YamlError):
            raise
        raise YamlError(f"{path} cannot be read as a configuration: {_reason(error)}; get it again") from None
    if not isinstance(content, dict):
        raise YamlError(f"{path} is no configuration: it holds no sections; get the YAML of the weights")
    return content


def _reason(error: Exception) -> str:
    """What a YAML error says, without the lines that it quotes."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return f"{str(error).splitlines()[0]:.160}"
    where = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
    return f"{error.problem or error.context:.160}{where}"


def published_settings(path: Path) -> dict[str, Any]:
    """What the YAML of a published checkpoint states, by the names of RoformerConfig.

    Raises YamlError for an unreadable file, an unsupported variant (by name), a setting that is unknown (it
    might change what the model computes) or a value that no model has. Threads: any.
    """
    content = read_yaml(path)
    try:
        return _settings(content)
    except YamlError as error:
        raise YamlError(f"{path}: {error}") from None


def _settings(content: Mapping[str, Any]) -> dict[str, Any]:
    model, audio = _section(content, "model"), _section(content, "audio")
    training, inference = _section(content, "training"), _section(content, "inference")
    if not model:
        raise YamlError("it has no `model` section; get the YAML of the weights")
    _refuse_variants(model)
    settings = {NAMES[name]: _value(name, model[name]) for name in NAMES if model.get(name) is not None}
    _refuse_normalising(inference)
    settings |= _architecture(model) | _channels(model, audio)
    _require_same(
        "audio.hop_length", audio.get("hop_length"), "model.stft_hop_length", settings.get("stft_hop_frames")
    )
    if model.get("num_stems") is not None:
        settings["stems"] = _whole("num_stems", model["num_stems"])
    if "sample_rate" in audio:
        settings["sample_rate_hz"] = _whole("audio.sample_rate", audio["sample_rate"])
    chunk = inference.get("chunk_size", audio.get("chunk_size"))
    if chunk is not None:
        settings["chunk_frames"] = _whole("chunk_size", chunk)
    stems = _stems(training)
    return settings | ({"stem_names": stems} if stems else {})


def _section(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = content.get(name) or {}
    if not isinstance(section, dict):
        raise YamlError(f"its section `{name}` holds no settings")
    return section


def _refuse_variants(model: Mapping[str, Any]) -> None:
    for name, value in model.items():
        if name in VARIANTS:
            without, variant = VARIANTS[name]
            if value != without:
                raise YamlError(f"{variant} ({name}) is not supported; use a plain RoFormer checkpoint")
        elif name not in NAMES.keys() | READ_ELSEWHERE | OF_TRAINING:
            raise YamlError(
                f"its setting model.{name!s:.60} is not known here and may change what the model computes;"
                " only plain BS-RoFormer and Mel-Band RoFormer are supported"
            )


def _architecture(model: Mapping[str, Any]) -> dict[str, Any]:
    """Bands side by side tell the one architecture, a number of mel bands alone the other."""
    if "freqs_per_bands" in model:
        return {"architecture": "bs"}
    return {"architecture": "mel"} if "num_bands" in model else {}


def _channels(model: Mapping[str, Any], audio: Mapping[str, Any]) -> dict[str, int]:
    """The channels as `model.stereo` tells them, else as the audio of training had them."""
    stated = audio.get("num_channels")
    if "stereo" not in model:
        return {} if stated is None else {"channels": _whole("audio.num_channels", stated)}
    channels = 2 if _switch("stereo", model["stereo"]) else 1
    _require_same("audio.num_channels", stated, f"model.stereo, {model['stereo']},", channels)
    return {"channels": channels}


def _require_same(name: str, value: object, other: str, expected: object) -> None:
    """Raise YamlError where two settings of one file are both stated and contradict each other."""
    if value is not None and expected is not None and _whole(name, value) != expected:
        raise YamlError(f"{name} is {value} but {other} says {expected}; correct the one that is wrong")


def _refuse_normalising(inference: Mapping[str, Any]) -> None:
    if inference.get("normalize"):
        raise YamlError("inference.normalize (a mix brought to one level first) is not supported;"
                        " use a checkpoint that does without")  # fmt: skip


def _stems(training: Mapping[str, Any]) -> tuple[str, ...]:
    """The stems that the model gives, in their order: the target alone where there is one."""
    target = training.get("target_instrument")
    names = [target] if target else training.get("instruments") or []
    if not isinstance(names, list | tuple) or not all(
        isinstance(n, str) and STEM.fullmatch(n) for n in names
    ):
        raise YamlError(f"training.instruments must be a list of short plain names, not {names!r:.80}")
    return tuple(name.lower() for name in names)


def _value(name: str, value: object) -> object:
    if name in SWITCHES:
        return _switch(name, value)
    if name == "freqs_per_bands":
        return _bands(value)
    return _whole(name, value, least=0 if name == "linear_transformer_depth" else 1)


def _switch(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise YamlError(f"{name} must be true or false, not {value!r:.60}")
    return value


def _bands(value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        raise YamlError(f"freqs_per_bands must be a list of numbers, not {value!r:.60}")
    return tuple(_whole("freqs_per_bands", width) for width in value)


def _whole(name: str, value: object, least: int = 1) -> int:
    """A whole number; YAML reads 5e-05 and the like as text, so text that is a number counts as one."""
    text = str(value)
    number = float(text) if not isinstance(value, bool) and NUMBER.fullmatch(text) else None
    if number is None or not number.is_integer() or not least <= number <= MAX_NUMBER:
        raise YamlError(f"{name} must be a whole number from {least}, not {value!r:.60}")
    return int(number)
