import numpy as np
import pytest

from streaming.fades import blend, linear_ramp


@pytest.mark.parametrize("frames", [0, 1, 2, 64, 65, 441])
def test_ramps_rise_and_are_complementary(frames):
    rising = linear_ramp(frames)
    assert rising.shape == (frames,) and rising.dtype == np.float32
    assert (np.diff(rising) > 0).all()
    assert ((rising > 0) & (rising < 1)).all()
    np.testing.assert_allclose(rising + rising[::-1], 1.0, atol=1e-7)


def test_blend_leaves_identical_samples_alone_to_the_bit():
    samples = np.random.default_rng(1).standard_normal(1000).astype(np.float32)
    for fraction in linear_ramp(7):
        assert all(blend(sample, sample, fraction) == sample for sample in samples)
    assert blend(2.0, 4.0, 0.0) == 2.0
    assert blend(2.0, 4.0, 0.25) == 2.5
    assert blend(2.0, 4.0, 1.0) == 4.0
