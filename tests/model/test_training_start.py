"""`--init`: what is taken from another model, what stays fresh, and what cannot start one of ours."""

import dataclasses

import pytest
import torch

from model.checkpoint import ModelCard, save_checkpoint
from model.config import RoformerConfig
from model.profiles import TRAINABLE
from model.roformer import build
from model.training.recipe import TrainingError
from model.training.starting import configuration_from, mapped, start_from
from model.training.state import new_state, save_state
from model.training.train import train
from tests.model.builders import SMALL_LIVE, noise, random_model
from tests.model.small_training import settings

SMALL_PUBLISHED = RoformerConfig(dim=16, depth=2, heads=2, dim_head=8, stft_hop_frames=441)


def saved(folder, network):
    """The path of a network's checkpoint."""
    path = folder / "other.safetensors"
    save_checkpoint(path, network, ModelCard("NOASSERTION", "test", "random"))
    return str(path)


def published(folder, **changes):
    torch.manual_seed(1)
    return saved(folder, build(dataclasses.replace(SMALL_PUBLISHED, **changes)))


def test_a_profile_starts_from_the_weights_of_another(tmp_path):
    live = random_model()
    path = saved(tmp_path, live)
    config = configuration_from(path, TRAINABLE["stage"])
    assert (config.hop_frames, config.dim) == (294, SMALL_LIVE.dim)
    state = new_state(settings(tmp_path, config=config))
    said = start_from(state, path)
    count = len(live.state_dict())
    assert f"took {count} of {count} tensors" in said
    for model in (state.model, state.ema):
        for name, weight in live.state_dict().items():
            assert torch.equal(model.state_dict()[name], weight)


def test_without_a_profile_the_framing_is_kept(tmp_path):
    assert configuration_from(saved(tmp_path, random_model()), None) == SMALL_LIVE


def test_the_dial_says_what_is_fresh(tmp_path):
    live = random_model(dataclasses.replace(SMALL_LIVE, past_frames=32))
    path = saved(tmp_path, live)
    state = new_state(settings(tmp_path, config=configuration_from(path, TRAINABLE["dial"])))
    fresh = state.model.state_dict().keys() - live.state_dict().keys()
    assert fresh
    assert f"fresh: parts of {next(iter(fresh)).split('.')[0]}" in start_from(state, path)


@pytest.mark.parametrize(("named", "profile", "kept"), [("", "live", 0), ("", "studio", 8), ("@8", None, 8)])
def test_one_look_ahead_of_a_dial_goes_on_as_it_was(tmp_path, named, profile, kept):
    dial = random_model(dataclasses.replace(SMALL_LIVE, look_aheads=(0, 8)))
    path = f"{saved(tmp_path, dial)}{named}"
    config = configuration_from(path, TRAINABLE[profile] if profile else None)
    assert config.look_ahead_frames == kept
    state = new_state(settings(tmp_path, config=config))
    start_from(state, path)
    audio = torch.from_numpy(noise(2, 8 * 441)).unsqueeze(0)
    with torch.no_grad():
        torch.testing.assert_close(state.ema(audio), dial(audio, kept), rtol=0, atol=1e-6)


def test_published_transformers_are_taken(tmp_path):
    path = published(tmp_path)
    config = configuration_from(path, None)
    assert (config.dim, config.depth, config.heads, config.dim_head) == (16, 2, 2, 8)
    state = new_state(settings(tmp_path, config=config))
    said = start_from(state, path)
    blocks = [name for name in state.model.state_dict() if name.startswith("blocks.")]
    assert f"took {len(blocks)} of" in said
    assert "fresh: parts of features, masks" in said


def test_a_mapped_time_layer_with_equal_keys_and_values_is_the_published_one():
    """Where all heads had one key and one value, sharing them changes nothing but the norm's mean."""
    torch.manual_seed(2)
    network = build(SMALL_PUBLISHED)
    attention = network.layers[0][0].layers[0][0]
    qkv = attention.to_qkv.weight.data.view(3, 2, 8, 16)
    qkv[1:] = qkv[1:, :1]
    model = new_state(settings(None, config=dataclasses.replace(SMALL_LIVE, past_frames=64))).model
    model.load_state_dict(mapped(network.state_dict(), SMALL_PUBLISHED), strict=False)
    x = torch.randn(1, 20, 40, 16)
    x -= x.mean(-1, keepdim=True)  # one norm takes the mean away, the other does not
    ours = model.blocks[0].time_attention
    rows = x[0].transpose(0, 1)
    rotations = network._rotary[0](20, x.dtype)
    whole = torch.ones(20, 20, dtype=torch.bool).tril()
    theirs = rows + causally(attention, rows, rotations, whole)
    found = ours(x, torch.view_as_complex(model.rotations[:20]))[0].transpose(0, 1)
    assert (found - theirs).abs().max() < 2e-3  # the periodic table rounds slow rotations


def causally(attention, rows, rotations, allowed):
    """A published attention that may not look ahead."""
    sdpa = torch.nn.functional.scaled_dot_product_attention
    torch.nn.functional.scaled_dot_product_attention = lambda q, k, v: sdpa(q, k, v, attn_mask=allowed)
    try:
        return attention(rows, rotations)
    finally:
        torch.nn.functional.scaled_dot_product_attention = sdpa


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "mel", "mel_bands": 20},
        {"time_depth": 2},
        {"linear_depth": 1},
        {"skip_connection": True},
    ],
)
def test_other_published_architectures_are_refused(tmp_path, changes):
    with pytest.raises(TrainingError, match="only plain BS-RoFormers"):
        configuration_from(published(tmp_path, **changes), None)


def test_models_of_other_stems_are_refused(tmp_path):
    other = dataclasses.replace(SMALL_LIVE, stem_names=("voice", "rest"))
    with pytest.raises(TrainingError, match="other stems"):
        configuration_from(saved(tmp_path, random_model(other)), None)


def test_nothing_that_fits_is_refused(tmp_path):
    sizes = dataclasses.replace(SMALL_LIVE, dim=24, depth=1, mask_hidden=12, heads=3)
    state = new_state(settings(tmp_path, config=sizes))
    other = dataclasses.replace(SMALL_PUBLISHED, depth=1)
    with pytest.raises(TrainingError, match="nothing of it fits"):
        start_from(state, saved(tmp_path, build(other)))


def test_init_and_resume_exclude_each_other(tmp_path):
    ready = settings(tmp_path)
    save_state(new_state(ready), ready)
    with pytest.raises(TrainingError, match="give one of them"):
        train(dataclasses.replace(ready, resume=True, init="builtin"))
