"""Several live streams in one separator: each as if it had one of its own."""

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch

from model.causal_stream import CausalStream
from model.profiles import PROFILES
from model.separators import CausalSeparator
from model.windowed import WindowedSeparator
from tests.model.builders import noise, random_model, small
from tests.model.test_windowed import FRAMING, network_of

HOPS, STREAMS = 24, 3
RESETS = {2: 0, 7: 1, 8: 1, 17: 2, 18: 0}
"""Before which hop which stream starts anew."""

MAKERS = {
    **{name: lambda name=name, **how: CausalSeparator(random_model(small(name)), **how) for name in PROFILES},
    "windowed": lambda **how: WindowedSeparator(network_of(), FRAMING, **how),
}
every_kind = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
Make = Callable[..., CausalSeparator | WindowedSeparator]


@pytest.fixture(autouse=True)
def thaw():
    """`warm_up` sets torch's threads and freezes; both are for a process of its own."""
    yield
    torch.set_num_threads(1)


def signals(separator: CausalSeparator | WindowedSeparator) -> np.ndarray:
    """What each stream hears at every hop: [hops, streams, channels, window_frames]."""
    frames = separator.window_frames + (HOPS - 1) * separator.hop_frames
    audio = np.stack([(k + 1) * noise(2, frames, seed=k) for k in range(STREAMS)])
    starts = range(0, HOPS * separator.hop_frames, separator.hop_frames)
    return np.stack([audio[..., start : start + separator.window_frames] for start in starts])


def stems_of(separator: CausalSeparator | WindowedSeparator) -> np.ndarray:
    frames = separator.hop_frames + getattr(separator, "fade_frames", 0)
    return np.full((STREAMS, len(separator.stem_names), 2, frames), np.nan, np.float32)


def single(make: Make, stream: int) -> np.ndarray:
    """One stream on its own separator, with its resets."""
    separator, heard = make(), []
    separator.warm_up()
    for hop, mixtures in enumerate(signals(separator)):
        if RESETS.get(hop) == stream:
            separator.reset()
        stems = stems_of(separator)[stream]
        separator.separate(mixtures[stream], stems)
        heard.append(stems)
    separator.close()
    return np.stack(heard)


def together(make: Make) -> np.ndarray:
    """All streams in one separator: [streams, hops, stems, channels, frames]."""
    separator, heard = make(streams=STREAMS), []
    separator.warm_up()
    for hop, mixtures in enumerate(signals(separator)):
        if hop in RESETS:
            separator.reset(RESETS[hop])
        stems = stems_of(separator)
        separator.separate(mixtures, stems)
        heard.append(stems)
    separator.close()
    return np.stack(heard, axis=1)


@every_kind
def test_streams_equal_single_ones_each_with_its_own_resets(make: Make) -> None:
    for stream, stems in enumerate(together(make)):
        np.testing.assert_allclose(stems, single(make, stream), rtol=0, atol=1e-5)
        assert np.abs(stems).max() > 0.01


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("graphs", [True, False], ids=["captured", "uncaptured"])
@every_kind
def test_streams_on_a_gpu_equal_single_ones_on_a_cpu(make: Make, graphs: bool) -> None:
    exact = {"precision": "fp32"} if make is MAKERS["windowed"] else {}
    gpu = functools.partial(make, device="cuda", graphs=graphs, **exact)
    for stream, stems in enumerate(together(gpu)):
        np.testing.assert_allclose(stems, single(make, stream), rtol=0, atol=1e-4)


@every_kind
def test_what_is_not_finite_in_one_stream_stays_there(make: Make) -> None:
    separator = make(streams=STREAMS)
    mixtures = signals(separator)[:12]
    clean, dirty = (stems_of(separator) for _ in range(2))
    for mixture in mixtures:
        separator.separate(mixture, clean)
    separator.reset()
    mixtures[:, 1] = np.nan
    for mixture in mixtures:
        separator.separate(mixture, dirty)
    np.testing.assert_allclose(dirty[[0, 2]], clean[[0, 2]], rtol=0, atol=1e-5)
    assert np.isfinite(dirty).all()


@pytest.mark.parametrize("profile", PROFILES)
def test_a_reset_heals_a_poisoned_stream_and_leaves_the_others_alone(profile: str) -> None:
    """Whatever got into the state: NaN in every tensor of one stream."""
    model = random_model(small(profile))
    streams, sound = CausalStream(model, streams=2), CausalStream(model)
    audio = torch.from_numpy(noise(2, 30 * model.config.hop_frames, seed=3))
    first, second = audio, audio.flip(-1)
    hops = list(zip(*(t.split(model.config.hop_frames, dim=-1) for t in (first, second)), strict=True))
    expected = []
    with torch.inference_mode():
        for left, _ in hops:
            expected.append(sound.process(left))
        for at, (left, right) in enumerate(hops):
            if at == 15:
                for tensor in (*streams.carried()[:2], *streams.state._rings):
                    tensor.view(2, -1)[1] = torch.nan
                streams.reset(1)
                sound.reset()
            stems = streams.process(torch.stack([left, right]))
            torch.testing.assert_close(stems[0], expected[at], rtol=0, atol=1e-5)
            if at >= 15:
                torch.testing.assert_close(stems[1], sound.process(right), rtol=0, atol=1e-5)


@every_kind
def test_buffers_never_move(make: Make) -> None:
    """A captured graph knows addresses, not names."""
    separator = make(streams=STREAMS)
    separator.warm_up()
    stream = getattr(separator, "_stream", None)
    tensors = [separator._hop._mixture, separator._hop._stems, *(stream.carried() if stream else ())]
    addresses = [tensor.data_ptr() for tensor in tensors]
    for hop, mixtures in enumerate(signals(separator)[:4]):
        separator.reset(hop % 2 or None)
        separator.separate(mixtures, stems_of(separator))
    separator.close()
    assert [tensor.data_ptr() for tensor in tensors] == addresses


@every_kind
def test_shapes_of_other_numbers_of_streams_are_refused(make: Make) -> None:
    separator = make(streams=STREAMS)
    mixture, stems = signals(separator)[0], stems_of(separator)
    for wrong in ((mixture[:2], stems), (mixture[0], stems), (mixture, stems[0]), (mixture[:, :, 1:], stems)):
        with pytest.raises(ValueError, match="was made for"):
            separator.separate(*wrong)
    with pytest.raises(ValueError, match="stems_out: audio is a NumPy array of float32, not float64"):
        separator.separate(mixture, stems.astype(np.float64))
    for stream in (STREAMS, -1, True, 1.0, "0"):
        with pytest.raises(
            ValueError, match=f"stream {stream!r}: this separator has streams 0 to {STREAMS - 1}"
        ):
            separator.reset(stream)
    for streams in (0, 1.5, True, None, "2"):
        with pytest.raises(ValueError, match=f"{streams!r} streams: take one or more"):
            make(streams=streams)
