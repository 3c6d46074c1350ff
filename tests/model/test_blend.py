"""Blends of weights: sums by name in one framing, masks softer, and one line for what cannot be blended."""

import dataclasses
import sys
from pathlib import Path

import pytest
import torch

from model.causal import CausalBSRoformer
from model.checkpoint import ModelCard, load_checkpoint, save_checkpoint
from model.config import CausalConfig
from model.training import blend
from model.training.blend import BlendError, blended, soften
from tests.model.builders import SMALL_LIVE, noise, random_model

DIAL = dataclasses.replace(SMALL_LIVE, look_aheads=(0, 8))


@pytest.fixture
def kept(tmp_path: Path):
    """Writes networks of a configuration, each with weights of its own; returns their paths and them."""

    def keep(*configs: CausalConfig) -> list[tuple[str, CausalBSRoformer]]:
        found = []
        for number, config in enumerate(configs):
            network = random_model(config)
            with torch.no_grad():
                for weight in network.parameters():
                    weight.mul_(1.0 + number).add_(0.01 * number)
            path = tmp_path / f"{number}.safetensors"
            save_checkpoint(path, network, ModelCard("CC0-1.0", "a test", "random"))
            found.append((str(path), network))
        return found

    return keep


def test_weights_are_added_up_by_their_shares(kept) -> None:
    (one, a), (two, b), (three, c) = kept(SMALL_LIVE, SMALL_LIVE, SMALL_LIVE)
    mixed = blended([(one, 1.0), (two, 0.5), (three, -0.5)])
    assert mixed.config == SMALL_LIVE
    for name, weight in mixed.state_dict().items():
        expected = a.state_dict()[name] + 0.5 * b.state_dict()[name] - 0.5 * c.state_dict()[name]
        torch.testing.assert_close(weight, expected, rtol=0, atol=1e-6)


def test_a_profile_keeps_one_look_ahead_of_a_dial(kept) -> None:
    ((path, dial),) = kept(DIAL)
    studio = dataclasses.replace(SMALL_LIVE, look_ahead_frames=8)
    audio = torch.from_numpy(noise(2, 4410)).unsqueeze(0)
    with torch.no_grad():
        assert blended([(path, 1.0)]).config == DIAL
        for ahead, profile in ((0, SMALL_LIVE), (8, studio)):
            alone = blended([(f"{path}@{ahead}", 1.0)], profile)
            assert alone.config.look_aheads == ()
            torch.testing.assert_close(alone(audio), dial(audio, ahead), rtol=0, atol=1e-5)


def test_softer_masks_divide_what_the_softmax_gets() -> None:
    network = random_model()
    x = torch.randn(1, 3, len(SMALL_LIVE.bands), SMALL_LIVE.dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = network.masks(x)
        soften(network, 2.0)
        expected = before.log().div(2.0).softmax(1)
        torch.testing.assert_close(network.masks(x), expected, rtol=0, atol=1e-5)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["blend", *arguments])
    blend.main()


def test_the_command_writes_what_a_model_is(kept, tmp_path, monkeypatch) -> None:
    (one, a), (two, b) = kept(SMALL_LIVE, SMALL_LIVE)
    run(
        monkeypatch, f"{one}=0.25", f"{two}=0.75", "--soften", "1.5", "--out", str(tmp_path / "m.safetensors")
    )
    found, card = load_checkpoint(tmp_path / "m.safetensors")
    assert card.text == f"Blended: 0.25 x {one}, 0.75 x {two}; masks softer by 1.5."
    name = "masks.outputs.0.weight"
    expected = (0.25 * a.state_dict()[name] + 0.75 * b.state_dict()[name]) / 1.5
    torch.testing.assert_close(found.state_dict()[name], expected.bfloat16().float(), rtol=0.01, atol=1e-6)


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        (("0=0.5", "1=0.6"), "shares add up to 1.1; make it 1"),
        (("0=0.5", "2=0.5"), "its network differs from that of"),
        (("0=x",), "the share is a number"),
        (("0=nan",), "the share is a number"),
        (("nothing",), "nothing"),
    ],
)
def test_what_cannot_be_blended_is_said_in_one_line(
    kept, tmp_path, monkeypatch, capsys, shares, said
) -> None:
    kept(SMALL_LIVE, SMALL_LIVE, dataclasses.replace(SMALL_LIVE, depth=1))
    monkeypatch.chdir(tmp_path)
    parts = [text.replace("=", ".safetensors=", 1) for text in shares]
    with pytest.raises(SystemExit) as left:
        run(monkeypatch, *parts, "--out", "m.safetensors")
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "m.safetensors").exists()


def test_nothing_is_written_over(kept, tmp_path, monkeypatch, capsys) -> None:
    ((one, _),) = kept(SMALL_LIVE)
    with pytest.raises(SystemExit):
        run(monkeypatch, one, "--out", one)
    assert "would be lost" in capsys.readouterr().err
    with pytest.raises(BlendError, match="shares add up to 2"):
        blended([(one, 1.0), (one, 1.0)])
