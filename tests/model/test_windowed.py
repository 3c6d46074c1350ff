"""Published models on sliding windows: the offline run's samples, at the frames that were declared."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.causal import CausalBSRoformer
from model.compromise import Compromise
from model.config import WHOLE_SIGNAL, CausalConfig, ConfigError, RoformerConfig
from model.devices import DeviceError
from model.layers import transformer_layer
from model.precision import lower_products
from model.regions import compile_layers
from model.roformer import Roformer, build
from model.window_framing import WindowFraming, framing_for
from model.windowed import WindowedSeparator
from streaming.overlap_add import OverlapAdd
from tests.model.builders import SMALL_LIVE, noise, random_model
from tests.model.fake_gpu import FakeCuda
from tests.model.test_roformer import GRID, SHORT

FRAMING = WindowFraming(window_frames=768, hop_frames=96, look_ahead_frames=128, fade_frames=32)
"""For an STFT of 128 with a hop of 32."""


def network_of(config: RoformerConfig = SHORT) -> Roformer:
    torch.manual_seed(5)
    return build(config).eval()


def ours() -> CausalBSRoformer:
    """A network of the project's own that sees the whole window, with the STFT of FRAMING."""
    config = dataclasses.replace(
        SMALL_LIVE, stem_names=SHORT.stem_names, n_fft=128, hop_frames=32, bands=(13,) * 5,
        look_ahead_frames=WHOLE_SIGNAL,
    )  # fmt: skip
    return random_model(config)


def unity_masks(network: Roformer, rest: float = 0.0) -> Roformer:
    """Masks become 1 + 0j (GLU(2, 0) = 1, GLU(0, 0) = 0) and `rest` of what they hear."""
    for estimate in network.mask_estimators:
        for net in estimate.to_freqs:
            last = net[0][-1]
            last.weight.data.mul_(rest)
            last.bias.data.zero_()
            last.bias.data[: len(last.bias) // 2 : 2] = 2.0
    return network


def deaf_to_time(network: Roformer) -> Roformer:
    """No spectral frame hears another, so any window that holds a frame's samples gives the same stems."""
    for block in network.layers:
        for attention, _ in block[0].layers:
            attention.to_out[0].weight.data.zero_()
    return network


def live(separator: WindowedSeparator, audio: np.ndarray) -> np.ndarray:
    """Stems [stems, channels, frames] aligned with the audio, as the engine makes them, the end missing."""
    hop, fade, window = separator.hop_frames, separator.fade_frames, separator.window_frames
    overlap_add = OverlapAdd(len(separator.stem_names), len(audio), hop, fade)
    padded = np.pad(audio, ((0, 0), (window - hop, 0)))
    contribution = np.empty((len(separator.stem_names), len(audio), hop + fade), np.float32)
    finished, out = np.empty_like(contribution[..., :hop]), []
    for end in range(window, padded.shape[1] + 1, hop):
        separator.separate(np.ascontiguousarray(padded[:, end - window : end]), contribution)
        overlap_add.add(contribution, finished)
        out.append(finished.copy())
    return np.concatenate(out, axis=2)[..., separator.latency_frames - hop :]


def covers(config: RoformerConfig) -> list[tuple[int, int]]:
    """Parts of a signal: at both ends, one frame long, and one off the STFT's grid."""
    n_fft, hop = config.n_fft, config.stft_hop_frames
    middle = 4 * n_fft
    return [
        (middle, middle + 5 * hop),
        (middle - 1, middle + hop + 1),
        (2 * n_fft, 2 * n_fft + 1),
        (n_fft, 7 * n_fft),
    ]


@pytest.mark.parametrize("config", GRID)
def test_a_part_is_what_the_whole_has_there(config: RoformerConfig) -> None:
    network = network_of(config)
    audio = torch.from_numpy(noise(config.channels, 8 * config.n_fft)).unsqueeze(0)
    with torch.no_grad():
        whole = network(audio)
        for start, end in covers(config):
            part = network.part(audio, start, end)
            torch.testing.assert_close(part, whole[..., start:end], rtol=0, atol=2e-6)
    assert whole.abs().max() > 0.01


def test_only_the_spectral_frames_that_a_hop_needs_get_masks() -> None:
    config = dataclasses.replace(SHORT, n_fft=2048, win_frames=2048, stft_hop_frames=441, bands=(25,) * 41)
    framing = framing_for(config, "gpu")
    start, end = framing.contribution
    asked = network_of(config)._stft.covering(start, end, 201)
    assert asked.stop - asked.start == (1764 + 441 + 2048 - 2) // 441 + 1 == 10


@pytest.mark.parametrize(
    ("profile", "stft_hop", "expected", "latency"),
    [
        ("gpu", 441, (88200, 1764, 2205, 441), 4410),
        ("studio", 441, (176400, 4410, 4410, 441), 9261),
        ("gpu", 512, (88064, 1536, 2560, 512), 4608),
    ],
)
def test_profiles_are_multiples_of_the_models_hop(
    profile: str, stft_hop: int, expected: tuple[int, ...], latency: int
) -> None:
    config = RoformerConfig(16, 1, stft_hop_frames=stft_hop)
    framing = framing_for(config, profile)
    assert dataclasses.astuple(framing) == expected
    assert framing.latency_frames == latency


@pytest.mark.parametrize(
    ("choice", "complaint"),
    [
        ("fast", "is no framing: take gpu, studio or frames like"),
        ("1/2/3", "is no framing"),
        ("88200/1764/2205/440", "a fade of 440 frames: take a multiple of the STFT hop of 441"),
        ("88200/0/2205/441", "a hop of 0 frames"),
        ("88200/441/2205/882", "a fade of 882 frames is longer than the hop of 441"),
        ("88200/1764/1764/441", "the newest 2048 are not clean yet"),
        ("5733/1764/2205/441", "a window of 5733 frames: 6458 or more"),
    ],
)
def test_an_impossible_framing_is_refused_in_one_line(choice: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as error:
        framing_for(RoformerConfig(16, 1, stft_hop_frames=441), choice)
    assert "\n" not in str(error.value)


def test_what_looks_only_as_far_as_its_next_hop_may_be_asked_sooner() -> None:
    config = dataclasses.replace(CausalConfig(), look_ahead_frames=WHOLE_SIGNAL)
    assert framing_for(config, "gpu").latency_frames == 4410
    assert framing_for(config, "88200/882/441/441").latency_frames == 1764
    with pytest.raises(ConfigError, match="a look_ahead of 0 frames"):
        framing_for(config, "88200/882/0/441")
    with pytest.raises(ConfigError, match="a window of 1102500 frames: this model takes 902727 or less"):
        framing_for(config, "1102500/4410/4410/441")


@pytest.mark.parametrize("architecture", ["bs", "mel"])
def test_unity_masks_give_the_delayed_input(architecture: str) -> None:
    config = dataclasses.replace(SHORT, architecture=architecture)
    separator = WindowedSeparator(unity_masks(network_of(config)), FRAMING)
    separator.warm_up()
    audio = noise(2, 40 * 96)
    stems = live(separator, audio)
    separator.close()
    for stem in stems:
        np.testing.assert_allclose(stem, audio[:, : stem.shape[1]], rtol=0, atol=2e-6)


def ours_deaf_to_time() -> CausalBSRoformer:
    network = ours()
    for block in network.blocks:
        block.time_attention.out.weight.data.zero_()
    return network


@pytest.mark.parametrize(
    "make", [lambda: deaf_to_time(network_of()), ours_deaf_to_time], ids=["published", "ours"]
)
def test_what_fits_the_window_equals_the_offline_run(make: Callable[[], torch.nn.Module]) -> None:
    network = make()
    audio = noise(2, 40 * 96)
    with torch.no_grad():
        offline = network(torch.from_numpy(audio).unsqueeze(0))[0].numpy()
    separator = WindowedSeparator(network, FRAMING)
    separator.warm_up()
    stems = live(separator, audio)
    separator.close()
    # Offline the first samples hear their own reflection, live the silence before them.
    clean = slice(SHORT.n_fft, stems.shape[2])
    np.testing.assert_allclose(stems[..., clean], offline[..., clean], rtol=0, atol=2e-6)
    assert np.abs(stems[0] - stems[1]).max() > 0.01


@pytest.mark.parametrize("make", [network_of, ours])
def test_windows_are_heard_at_all(make: Callable[[], torch.nn.Module]) -> None:
    """With time attention, what lies before the contribution changes it: or a shorter window would do."""
    separator = WindowedSeparator(make(), FRAMING)
    audio = noise(2, FRAMING.window_frames)
    first, second = (np.empty((2, 2, 128), np.float32) for _ in range(2))
    separator.separate(audio, first)
    audio[:, :200] = 0
    separator.separate(audio, second)
    assert np.abs(first - second).max() > 1e-4


HOSTILE = {
    "silence": np.zeros((2, 768)),
    "full-scale square": np.sign(np.sin(np.arange(768) / 8) + 0.01) * np.ones((2, 1)),
    "beyond full scale": np.full((2, 768), 3.4e38),
    "not finite": np.full((2, 768), np.nan),
    "constant": np.ones((2, 768)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", HOSTILE)
def test_whatever_comes_in_stems_are_finite(case: str, dtype: torch.dtype) -> None:
    network = network_of()
    separator = WindowedSeparator(network, FRAMING)
    lower_products(network, dtype)
    stems = np.full((2, 2, 128), np.nan, np.float32)
    separator.separate(HOSTILE[case].astype(np.float32), stems)
    assert np.isfinite(stems).all()


@pytest.mark.parametrize("architecture", ["bs", "mel"])
def test_float16_products_keep_masks_and_sound(architecture: str) -> None:
    """On identical spectrograms: masks within 2e-3 of their rms, sound 55 dB above the error."""
    config = dataclasses.replace(SHORT, architecture=architecture, dim=64, depth=4, heads=4, dim_head=16)
    network = network_of(config)
    audio = torch.from_numpy(noise(2, 4096)).unsqueeze(0)
    with torch.no_grad():
        spectrum = network.stft(audio)
        exact, exact_sound = network.mask(spectrum), network(audio)
        lower_products(network, torch.float16)
        rough, rough_sound = network.mask(spectrum), network(audio)
    assert rough.dtype == torch.complex64
    assert not torch.equal(rough, exact)
    assert float((rough - exact).norm() / exact.norm()) < 2e-3
    error = (rough_sound - exact_sound).square().sum() / exact_sound.square().sum()
    assert float(10 * torch.log10(error)) < -55


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_linear_attention_runs_in_lower_precision_too(dtype: torch.dtype) -> None:
    network = network_of(dataclasses.replace(SHORT, linear_depth=1))
    audio = torch.from_numpy(noise(2, 4096)).unsqueeze(0)
    with torch.no_grad():
        exact = network(audio)
        lower_products(network, dtype)
        rough = network(audio)
    assert not torch.equal(rough, exact)
    assert float((rough - exact).square().sum() / exact.square().sum()) < 1e-3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("architecture", ["bs", "mel"])
def test_on_a_gpu_float16_compiled_and_captured_keeps_the_sound_and_allocates_nothing(
    architecture: str,
) -> None:
    config = dataclasses.replace(SHORT, architecture=architecture, dim=64, depth=4, heads=4, dim_head=16)
    exact = WindowedSeparator(network_of(config), FRAMING)
    captured = WindowedSeparator(network_of(config), FRAMING, "cuda")
    captured.warm_up()
    held = torch.cuda.memory_allocated()
    found, expected = (np.zeros((len(config.stem_names), 2, 128), np.float32) for _ in range(2))
    for seed in range(20):
        window = noise(2, FRAMING.window_frames, seed=seed)
        captured.separate(window, found)
        exact.separate(window, expected)
        error = np.sum((found - expected) ** 2) / np.sum(expected**2)
        assert 10 * np.log10(error) < -55
    assert torch.cuda.memory_allocated() == held
    captured.close()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("architecture", ["bs", "mel"])
def test_attention_on_a_gpu_has_a_fused_kernel_for_every_shape(architecture: str) -> None:
    """Where neither flash's nor cuDNN's takes an input, torch raises in place of taking a slower one."""
    config = dataclasses.replace(SHORT, architecture=architecture, dim=64, heads=8, dim_head=64)
    network = network_of(config).cuda()
    lower_products(network, torch.float16)
    audio = torch.from_numpy(noise(2, 4096)).unsqueeze(0).cuda()
    with torch.inference_mode(), sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION]):
        assert torch.isfinite(network.part(audio, 2000, 2200)).all()


def test_work_is_warmed_up_captured_once_and_only_replayed_afterwards() -> None:
    cuda = FakeCuda()
    run = cuda.replayed(lambda: cuda.note("work"), torch.device("cpu"))
    replay = ["in stream: replay", "in stream: work", "wait"]
    captured = cuda.events.index("in stream: capture")
    *warm_up, waited = cuda.events[:captured]
    assert warm_up and set(warm_up) == {"in stream: work"} and waited == "wait"
    assert cuda.events[captured + 1 :] == ["in stream: work", *replay]
    del cuda.events[:]
    run()
    run()
    assert cuda.events == replay * 2


def test_other_shapes_are_refused_with_the_remedy() -> None:
    separator = WindowedSeparator(network_of(), FRAMING)
    good, stems = np.zeros((2, 768), np.float32), np.zeros((2, 2, 128), np.float32)
    for mixture, out in ((good[:, 1:], stems), (good[:1], stems), (good, stems[..., 1:])):
        with pytest.raises(ValueError, match=r"was made for \(.*make another one"):
            separator.separate(mixture, out)
    for other in (good.astype(np.float64), torch.from_numpy(good), good.tolist()):
        with pytest.raises(ValueError, match="audio is a NumPy array of float32"):
            separator.separate(other, stems)


OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory")
NO_ROOM_FOR_A_PLAN = RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED")


class Forgetful(torch.nn.Module):
    """Has memory for windows up to `most` frames, and says so in the words given."""

    def __init__(self, network: Roformer, most: int, error: Exception = OUT_OF_MEMORY) -> None:
        super().__init__()
        self.inner, self.config, self.most, self.error = network, network.config, most, error

    def part(self, audio: torch.Tensor, start: int, end: int) -> torch.Tensor:
        if audio.shape[-1] > self.most:
            raise self.error
        return self.inner.part(audio, start, end)


@pytest.mark.parametrize("error", [OUT_OF_MEMORY, NO_ROOM_FOR_A_PLAN])
def test_too_little_memory_takes_a_shorter_window_at_the_same_latency_and_says_so_once(error) -> None:
    separator = WindowedSeparator(Forgetful(network_of(), 400, error), FRAMING)
    with pytest.warns(Compromise, match="windows of 768 frames: taking 384") as said:
        separator.warm_up()
    assert len(said) == 1
    assert (separator.window_frames, separator.latency_frames) == (384, FRAMING.latency_frames)
    stems = np.full((2, 2, 128), np.nan, np.float32)
    separator.separate(np.zeros((2, 384), np.float32), stems)
    separator.close()
    assert np.isfinite(stems).all()


def test_windows_that_are_halved_more_than_once_are_said_once() -> None:
    framing = dataclasses.replace(FRAMING, window_frames=1536)
    separator = WindowedSeparator(Forgetful(network_of(), 400), framing)
    with pytest.warns(Compromise, match="windows of 1536 frames: taking 384") as said:
        separator.warm_up()
    separator.close()
    assert len(said) == 1


def test_layers_are_compiled_anew_for_a_shorter_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda layer, **_how: layer)
    network = network_of()
    separator = WindowedSeparator(Forgetful(network, 400), FRAMING)
    compile_layers(network)
    before = network.layers[0][0].layer
    with pytest.warns(Compromise, match="taking 384"):
        separator.warm_up()
    separator.close()
    assert network.layers[0][0].layer not in (before, transformer_layer)


def test_no_memory_at_all_is_one_line() -> None:
    separator = WindowedSeparator(Forgetful(network_of(), 10), FRAMING)
    with pytest.raises(DeviceError, match="take a smaller model"):
        separator.warm_up()
