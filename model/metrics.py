"""Scores of separated audio against the truth, over [..., channels, frames]; dB, float64."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Audio = NDArray[Any]
Scores = NDArray[np.float64]

FLOOR = 1e-12
"""Added to energies, so that silence gives a finite score."""


def _energy(x: Audio) -> Scores:
    energy: Scores = np.sum(np.square(x, dtype=np.float64), axis=(-2, -1))
    return energy


def _ratio_db(signal: Audio, error: Audio) -> Scores:
    ratio: Scores = 10 * np.log10((_energy(signal) + FLOOR) / (_energy(error) + FLOOR))
    return ratio


def sdr_db(estimate: Audio, truth: Audio) -> Scores:
    """Signal-to-distortion ratio, 10 log10(|s|^2 / |s - e|^2), over all channels and frames together.

    The global SDR of the Music Demixing Challenge (arXiv 2108.13559, equation 1).
    Arrays [..., channels, frames] -> [...]. Threads: any.
    """
    truth = np.asarray(truth, dtype=np.float64)
    return _ratio_db(truth, truth - estimate)


def si_sdr_db(estimate: Audio, truth: Audio) -> Scores:
    """Scale-invariant SDR: the truth is scaled by <e, s> / |s|^2 first.

    Le Roux et al., "SDR - half-baked or well done?" (arXiv 1811.02508, equation 3), with one scale for all
    channels. Arrays [..., channels, frames] -> [...]. Threads: any.
    """
    truth = np.asarray(truth, dtype=np.float64)
    scale = np.sum(truth * estimate, axis=(-2, -1)) / (_energy(truth) + FLOOR)
    target = scale[..., None, None] * truth
    return _ratio_db(target, target - estimate)


def null_residual_db(output: Audio, reference: Audio) -> Scores:
    """What is left when the reference is subtracted, relative to it: 10 log10(|o - r|^2 / |r|^2).

    A null test: an alignment check, not a quality figure. The reference must already be delayed by the
    declared latency. Arrays [..., channels, frames] -> [...]. Threads: any.
    """
    reference = np.asarray(reference, dtype=np.float64)
    return _ratio_db(output - reference, reference)
