"""What a published RoFormer file says of itself: clean tensors and the configuration that they fit.

The keys are those of lucidrains' BS-RoFormer 0.3.10, as in ZFTurbo's Music-Source-Separation-Training.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from model.config import ConfigError, RoformerConfig

MAX_TENSORS = 50_000
"""A 53-stem model has 14,000; a file with more than this is no model."""

WRAPPERS = ("state_dict", "state", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.", "model.")
UNSUPPORTED_KEYS = (
    (r"to_value_residual_mix|\.value_residual", "value residual learning (as in the EXP models)"),
    (r"pope_embed", "PolarFormer (PoPE embedding)"),
    (r"\.(ff1|conv)\.(ff\.)?net\.|\.ff2\.ff\.", "Conformer blocks"),
    (r"\.segm\.|hyper_?ace", "HyperACE mask estimators"),
    (r"fno_blocks|\.lifting\.|spectral_conv", "FNO mask estimators"),
    (r"static_alpha|dynamic_alpha|static_beta|\.branch\.", "hyper-connections"),
    (r"to_qkv\.bias|to_out\.\d\.bias", "attention biases (use_shared_bias)"),
    (r"lora_", "LoRA weights without their base"),
)
YAML_NAMES = {
    "stem_names": "training.instruments",
    "stft_hop_frames": "model.stft_hop_length",
    "chunk_frames": "audio.chunk_size",
    "zero_dc": "model.zero_dc",
    "channels": "model.stereo",
    "n_fft": "model.stft_n_fft",
}
"""Settings that no state dict tells, and where a YAML states them."""

Shapes = Mapping[str, Sequence[int]]


class PublishedError(ValueError):
    """A published file that cannot become a model here; one line says why and what to do."""


def unwrap(content: object) -> dict[str, Tensor]:
    """The tensors of a state dict inside whatever a trainer wrapped around it, under their plain names.

    Raises PublishedError where there are none. Threads: any.
    """
    for _ in range(len(WRAPPERS) + 1):
        inner = _inner(content)
        if inner is None:
            break
        content = inner
    tensors = {str(k): v for k, v in content.items()} if isinstance(content, Mapping) else {}
    if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise PublishedError(
            "it holds no state dict (a table of tensors); use the file that the trainer saved"
        )
    return plain_names(tensors)


def _inner(content: object) -> object | None:
    if not isinstance(content, Mapping):
        return None
    return next((content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)), None)


def plain_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without the prefixes that data-parallel training and compilation put in front."""
    names = list(tensors)
    while names and (prefix := next((p for p in PREFIXES if all(n.startswith(p) for n in names)), "")):
        names = [name.removeprefix(prefix) for name in names]
    return dict(zip(names, tensors.values(), strict=True))


def refuse_unsupported(names: Iterable[str]) -> None:
    """Raise PublishedError, naming the variant, where the parameters are of one that is not built here."""
    for name in names:
        for pattern, variant in UNSUPPORTED_KEYS:
            if re.search(pattern, name):
                raise PublishedError(
                    f"it uses {variant}, which is not supported (parameter {name:.100});"
                    " use a plain BS-RoFormer or Mel-Band RoFormer checkpoint"
                )


def infer(shapes: Shapes) -> dict[str, Any]:
    """The settings that parameter shapes tell, by the names of RoformerConfig, plus `stems`.

    `band_widths` (2 * channels * bins of every band) stands in for `bands` and `channels`, which need more.
    Raises PublishedError for tensors that are no RoFormer's. Threads: any.
    """
    try:
        return _infer(shapes)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        if isinstance(error, PublishedError):
            raise
        raise PublishedError(
            f"its parameters are not those of a RoFormer ({error} is missing or has another shape);"
            " use a BS-RoFormer or Mel-Band RoFormer checkpoint"
        ) from None


def _infer(shapes: Shapes) -> dict[str, Any]:
    architecture = "bs" if "final_norm.gamma" in shapes else "mel"
    stacks = _count(shapes, "layers.0.")
    attention = f"layers.0.{stacks - 1}.layers.0.0."
    heads, dim = shapes[attention + "to_gates.weight"]
    (rows, _) = shapes[attention + "to_qkv.weight"]
    linears = _count(shapes, "mask_estimators.0.to_freqs.0.0.")
    (hidden, _) = shapes["mask_estimators.0.to_freqs.0.0.0.weight"]
    bands = _count(shapes, "band_split.to_features.")
    found = {
        "architecture": architecture,
        "dim": dim,
        "depth": _count(shapes, "layers."),
        "heads": heads,
        "dim_head": rows // (3 * heads),
        "stems": _count(shapes, "mask_estimators."),
        "mask_depth": linears - (architecture == "mel"),
        "linear_depth": _count(shapes, "layers.0.0.layers.") if stacks == 3 else 0,
        "time_depth": _count(shapes, f"layers.0.{stacks - 2}.layers."),
        "freq_depth": _count(shapes, f"layers.0.{stacks - 1}.layers."),
        "band_widths": tuple(shapes[f"band_split.to_features.{band}.0.gamma"][0] for band in range(bands)),
    }
    return found | ({"expansion": hidden // dim} if linears > 1 else {})


def _count(shapes: Shapes, prefix: str) -> int:
    """How many numbers follow `prefix` among the names."""
    return len({name[len(prefix) :].partition(".")[0] for name in shapes if name.startswith(prefix)})


def configure(shapes: Shapes, stated: Mapping[str, Any]) -> RoformerConfig:
    """The configuration of a checkpoint: what its shapes tell, checked and completed by what is stated.

    Parameters: `shapes` of every parameter; `stated`, settings by the names of RoformerConfig (and `stems`,
    their number), from a YAML or the catalogue. Raises PublishedError for an unsupported variant, a
    contradiction (both values are named), or a setting that neither tells. Threads: any.
    """
    refuse_unsupported(shapes)
    found, stated = infer(shapes), dict(stated)
    widths = found.pop("band_widths")
    _refuse_contradictions(found, stated)
    stems = found.pop("stems")
    stated.pop("stems", None)
    found |= _bands(found["architecture"], widths, stated)
    settings = {"skip_connection": False} | stated | found
    missing = [name for name in YAML_NAMES if name not in settings]
    if missing:
        raise PublishedError(
            f"neither weights nor configuration tell {missing[0]} (in a YAML: {YAML_NAMES[missing[0]]});"
            " give the YAML that belongs to the weights, with that setting in it"
        )
    settings.setdefault("win_frames", settings["n_fft"])
    if len(settings["stem_names"]) != stems:
        names = ", ".join(settings["stem_names"])
        raise PublishedError(f"the configuration names {len(settings['stem_names'])} stems ({names}), "
                             f"but the weights hold {stems}; give the YAML that belongs to them")  # fmt: skip
    return _config(settings, widths)


def _refuse_contradictions(found: Mapping[str, Any], stated: Mapping[str, Any]) -> None:
    for name in found:
        if name in stated and found[name] != stated[name]:
            raise PublishedError(
                f"{name} is {stated[name]} in the configuration but {found[name]} in the weights;"
                " give the YAML that belongs to them"
            )


def _bands(architecture: str, widths: tuple[int, ...], stated: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the widths of the bands tell, with the help of what is stated."""
    if architecture == "mel":
        _refuse_contradictions({"mel_bands": len(widths)}, stated)
        return {"mel_bands": len(widths)}
    if (told_by_width := _channels(sum(widths))) is not None and "n_fft" not in stated:
        _refuse_contradictions({"channels": told_by_width}, stated)
    channels = stated.get("channels") or told_by_width
    if channels is None:
        return {}
    bands = tuple(width // (2 * channels) for width in widths)
    told = {"channels": channels, "bands": bands, "n_fft": 2 * (sum(bands) - 1)}
    _refuse_contradictions(told, stated)
    return told


def _channels(total_width: int) -> int | None:
    """The number of channels for which bands side by side fill an FFT whose size is a power of two."""
    for channels in (1, 2):
        bins, rest = divmod(total_width, 2 * channels)
        if rest == 0 and bins > 2 and (bins - 1).bit_count() == 1:
            return channels
    return None


def _config(settings: dict[str, Any], widths: tuple[int, ...]) -> RoformerConfig:
    try:
        config = RoformerConfig.from_dict(settings)
    except (ConfigError, TypeError) as error:
        raise PublishedError(f"its configuration is impossible: {error}") from None
    bins = tuple(len(band) for band in config.band_bins)
    other = 3 - config.channels
    if widths == tuple(2 * other * number for number in bins):
        _refuse_contradictions({"channels": other}, settings)
    expected = tuple(2 * config.channels * number for number in bins)
    for band, (stated, found) in enumerate(zip(expected, widths, strict=True)):
        if stated != found:
            raise PublishedError(
                f"band {band} takes {stated} values by the configuration (channels {config.channels}, n_fft"
                f" {config.n_fft}) but {found} in the weights; give the YAML that belongs to them"
            )
    return config
