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


def framewise_sdr_db(estimates: Audio, truths: Audio, window_frames: int) -> Scores:
    """SDR of every whole window as museval (BSSEval v4, images) has it: [stems, windows].

    Of `truths` and `estimates` [stems, channels, frames]. v4 splits the error into spatial, interference and
    artefact parts by distortion filters, but its SDR takes their sum, which is the estimate less the truth
    (Stoeter et al., arXiv 1804.06267, section 3.2): no filter is left in it. A window in which one of the
    stems is silent is undefined (NaN) for all of them. So is a stem that is silent throughout, which museval
    refuses; the windows of the others do not suffer from it. A signal shorter than a window is one window.

    Threads: any.
    """
    true_sound = np.stack([_sounding(_windows(truth, window_frames)) for truth in truths])
    sound = np.stack([_sounding(_windows(estimate, window_frames)) for estimate in estimates])
    scored = true_sound.any(axis=1) & sound.any(axis=1)
    heard = (true_sound & sound)[scored].all(axis=0)
    scores = np.full(sound.shape, np.nan)
    for stem in np.flatnonzero(scored):
        every = _exact_sdr_db(_windows(estimates[stem], window_frames), _windows(truths[stem], window_frames))
        scores[stem, heard] = every[heard]
    return scores


def _windows(audio: Audio, window_frames: int) -> Audio:
    """[channels, frames] as [windows, channels, window_frames]; a last part of a window is left out."""
    length = min(window_frames, audio.shape[-1])
    whole = audio[:, : audio.shape[-1] // length * length]
    return whole.reshape(audio.shape[0], -1, length).swapaxes(0, 1)


def _sounding(windows: Audio) -> NDArray[np.bool_]:
    """Where the sum of the channels is not zero throughout: museval's test of silence."""
    sounding: NDArray[np.bool_] = windows.sum(axis=1, dtype=np.float64).any(axis=-1)
    return sounding


def _exact_sdr_db(estimate: Audio, truth: Audio) -> Scores:
    """`sdr_db` without a floor: quiet passages count in full, no error at all is infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scores: Scores = 10 * np.log10(
            _energy(truth) / _energy(np.subtract(truth, estimate, dtype=np.float64))
        )
    return scores


def chunk_median_sdr_db(estimates: Audio, truths: Audio, rate_hz: int) -> Scores:
    """The SDR of MUSDB18 tables (cSDR): the median over 1-s windows, [stems]; NaN where there is none.

    Arrays [stems, channels, frames]. Threads: any.
    """
    rows = framewise_sdr_db(estimates, truths, rate_hz)
    return np.array([np.median(row[~np.isnan(row)]) if not np.isnan(row).all() else np.nan for row in rows])


def si_sdr_db(estimate: Audio, truth: Audio) -> Scores:
    """Scale-invariant SDR: the truth is scaled by <e, s> / |s|^2 first.

    Le Roux et al., "SDR - half-baked or well done?" (arXiv 1811.02508, equation 3), with one scale for all
    channels. Arrays [..., channels, frames] -> [...]. Threads: any.
    """
    truth = np.asarray(truth, dtype=np.float64)
    scale = np.sum(truth * estimate, axis=(-2, -1)) / (_energy(truth) + FLOOR)
    target = scale[..., None, None] * truth
    return _ratio_db(target, target - estimate)


def si_sdr_or_none(estimate: Audio, truth: Audio) -> float | None:
    """`si_sdr_db` of one stem [channels, frames]; None where truth or estimate is silent. Threads: any."""
    return float(si_sdr_db(estimate, truth)) if truth.any() and estimate.any() else None


def null_residual_db(output: Audio, reference: Audio) -> Scores:
    """What is left when the reference is subtracted, relative to it: 10 log10(|o - r|^2 / |r|^2).

    A null test: an alignment check, not a quality figure. The reference must already be delayed by the
    declared latency. Arrays [..., channels, frames] -> [...]. Threads: any.
    """
    reference = np.asarray(reference, dtype=np.float64)
    return _ratio_db(output - reference, reference)
