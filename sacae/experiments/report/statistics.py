"""Statistics over seeds: means, interquartile means, and their 95% stratified bootstrap intervals.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"; the bootstrap is rliable's.
Scores are arrays (seeds, tasks, points); the bootstrap resamples seeds within each task.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import trim_mean

from sacae.errors import UserError, how_to_install

MIN_SEEDS = 3
"""Fewer seeds than this get no interval: resampling one or two values gives no information about others."""

RESAMPLES = 2000
SIZE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A statistic at each point, and the bounds of its interval; bounds are nan if there are too few seeds."""

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def require_rliable() -> None:
    """Raises UserError, which names the extra, if rliable is not installed."""
    try:
        import rliable.library  # noqa: F401
    except ImportError:
        raise UserError(f"a report needs the package rliable, which is missing; {how_to_install('report')}") from None


def mean(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over seeds and tasks, at each point."""
    means: NDArray[np.float64] = scores.mean(axis=(0, 1))
    return means


def iqm(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interquartile mean over seeds and tasks, at each point: the mean without the lowest and highest quarter."""
    means: NDArray[np.float64] = trim_mean(scores.reshape(-1, scores.shape[-1]), 0.25, axis=0)
    return means


def improvement(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability that a run of the first scores above one of the second, ties counted half; mean over tasks.

    ours, theirs: (seeds, tasks). Returns (1,).
    """
    first, second = ours[:, None], theirs[None]
    return np.array([((first > second) + 0.5 * (first == second)).mean()])


def estimate(scores: NDArray[np.float64], statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Estimate:
    """A statistic of (seeds, tasks, points) scores, with its interval."""
    return _estimate(scores, statistic, seeds=len(scores), value=statistic(scores))


def estimate_improvement(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Estimate:
    """`improvement` with its interval; the seeds of both are drawn independently."""
    seeds = min(len(ours), len(theirs))
    return _estimate([ours, theirs], improvement, seeds, improvement(ours, theirs))


def estimate_profile(scores: NDArray[np.float64], thresholds: NDArray[np.float64]) -> Estimate:
    """The share of (seeds, tasks) scores above each threshold, with its interval."""

    def profile(values: NDArray[np.float64]) -> NDArray[np.float64]:
        shares: NDArray[np.float64] = (values[..., None] > thresholds).mean(axis=(0, 1))
        return shares

    return _estimate(scores, profile, len(scores), profile(scores))


def _estimate(
    scores: object, statistic: Callable[..., NDArray[np.float64]], seeds: int, value: NDArray[np.float64]
) -> Estimate:
    if seeds < MIN_SEEDS:
        nothing = np.full_like(value, np.nan)
        return Estimate(value, nothing, nothing)
    from rliable import library

    with _seeded():
        _, intervals = library.get_interval_estimates(
            {"": scores}, statistic, reps=RESAMPLES, confidence_interval_size=SIZE
        )
    low, high = intervals[""]
    return Estimate(value, low, high)


@contextmanager
def _seeded() -> Iterator[None]:
    """Makes two reports on the same runs equal, because rliable always draws from NumPy's global generator."""
    before = np.random.get_state()  # noqa: NPY002 - rliable's generator
    np.random.seed(0)  # noqa: NPY002 - rliable's generator
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002 - rliable's generator
