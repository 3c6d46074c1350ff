"""Compiled arithmetic against NumPy in double precision and torch."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from model.kernels import (
    add_product,
    add_row_product,
    analyse,
    error_function,
    exponential,
    kernel,
    normalise,
    scaled_gelu,
    sigmoid,
    softmax,
    tanh,
)
from model.pages import LINE_BYTES, PAGE_BYTES, LargePages

RANDOM = np.random.default_rng(5)


def random(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape, dtype=np.float32)


@kernel
def applied(function, x):
    for i in range(x.size):
        x[i] = function(x[i])


@pytest.mark.parametrize(
    ("m", "k", "n"), [(4, 1, 16), (40, 64, 112), (5, 7, 19), (3, 2, 16), (8, 64, 15), (1, 9, 1)]
)
def test_products_are_added(m: int, k: int, n: int) -> None:
    a, w, before = random(m, k), random(k, n), random(m, n)
    out = before.copy()
    add_product(a, w, out)
    np.testing.assert_allclose(out, before + a.astype("d") @ w, rtol=0, atol=2e-5)
    if m == 1:
        row = before[0].copy()
        add_row_product(a[0], w, row)
        np.testing.assert_allclose(row, out[0], rtol=0, atol=2e-5)


def test_a_product_takes_as_many_columns_of_its_left_side_as_its_right_side_has_rows() -> None:
    a, w, out = random(4, 20), random(13, 18), np.zeros((4, 16), np.float32)
    add_product(a, w, out)
    np.testing.assert_allclose(out, a[:, :13] @ w[:, :16], rtol=0, atol=2e-5)


@pytest.mark.parametrize("n", [1, 3, 4, 17, 578])
def test_a_row_is_multiplied_whatever_its_length(n: int) -> None:
    a, w, out = random(n), random(n, 33), random(33)
    expected = out + a.astype("d") @ w
    add_row_product(a, w, out)
    np.testing.assert_allclose(out, expected, rtol=0, atol=5e-5)


def test_a_row_is_multiplied_by_halves_of_floats() -> None:
    a, out = random(18), np.zeros(33, np.float32)
    weights = torch.from_numpy(random(18, 33)).bfloat16()
    add_row_product(a, weights.view(torch.uint16).numpy(), out)
    np.testing.assert_allclose(out, a @ weights.float().numpy(), rtol=0, atol=2e-5)


def test_exponentials_hold_to_a_few_units_in_the_last_place() -> None:
    x = np.concatenate([np.linspace(-87, 87, 100_001), [-0.0, 0.0, 1e-30, -1e-30]]).astype(np.float32)
    found = x.copy()
    applied(exponential, found)
    np.testing.assert_allclose(found, np.exp(x.astype("d")), rtol=4e-7, atol=0)


@pytest.mark.parametrize(("x", "least", "most"), [(-1e30, 0.0, 2e-38), (1e30, 1e37, 1e38)])
def test_an_exponential_out_of_range_stays_finite(x: float, least: float, most: float) -> None:
    found = np.array([x], np.float32)
    applied(exponential, found)
    assert least <= found[0] <= most


def test_what_is_no_number_is_not_lost_in_an_exponential() -> None:
    found = np.full(21, np.nan, np.float32)
    applied(exponential, found)
    assert np.isnan(found).all()


def test_curves_are_those_of_torch() -> None:
    x = torch.linspace(-30, 30, 100_001, dtype=torch.float64)
    for function, torchs in ((error_function, torch.erf), (sigmoid, torch.sigmoid)):
        found = x.float().numpy().copy()
        applied(function, found)
        np.testing.assert_allclose(found, torchs(x.float().double()).numpy(), rtol=0, atol=4e-7)
    found = x.float().numpy().copy()
    tanh(found)
    np.testing.assert_allclose(found, torch.tanh(x.float().double()).numpy(), rtol=0, atol=4e-7)
    u = (0.2 * x).float()
    found = u.numpy().copy()
    scaled_gelu(found)
    expected = 2**0.5 * F.gelu(2**0.5 * u.double())
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=2e-6)


def test_softmax_is_that_of_the_first_columns() -> None:
    x = 20 * random(7, 21)
    x[3, 4], x[4] = -1e30, -50.0
    found = x.copy()
    softmax(found, 19)
    expected = torch.from_numpy(x[:, :19]).double().softmax(-1).numpy()
    np.testing.assert_allclose(found[:, :19], expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found[:, 19:], x[:, 19:])
    assert found[3, 4] < 1e-30


def test_norms_are_those_of_torch() -> None:
    x = 3 + 10 * random(9, 37)
    x[2], x[3] = 0.0, 7.0
    found = np.empty_like(x)
    normalise(x, found)
    expected = F.layer_norm(torch.from_numpy(x).double(), (37,)).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


def test_what_is_no_number_counts_as_silence_and_the_rest_is_clamped() -> None:
    audio = np.array([[np.nan, np.inf, -np.inf, 9.0, -9.0, 1.0]], np.float32)
    history, segment = np.full((1, 4), 2.0, np.float32), np.empty((1, 10), np.float32)
    analyse(history, audio, np.ones(10, np.float32), segment)
    np.testing.assert_array_equal(segment, [[2, 2, 2, 2, 0, 0, 0, 8, -8, 1]])
    np.testing.assert_array_equal(history, [[0, 8, -8, 1]])


def test_large_pages_hold_arrays_apart() -> None:
    pages = LargePages()
    first, other = pages.zeros((3,), np.float32), pages.copy(np.arange(5))
    large = pages.zeros((5 * PAGE_BYTES,), np.float32)
    first += 1
    large += 2
    np.testing.assert_array_equal(first, 1)
    np.testing.assert_array_equal(other, np.arange(5))
    assert first.ctypes.data % PAGE_BYTES == large.ctypes.data % PAGE_BYTES == 0
    assert other.ctypes.data - first.ctypes.data == LINE_BYTES
    assert (other.dtype, large.dtype) == (np.int64, np.float32)
