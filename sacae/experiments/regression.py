"""Linear maps from features: ridge regression, R², and principal components, in NumPy."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sacae.types import Frames

PENALTIES = np.logspace(-6, 4, 21)
"""Ridge penalties to choose among, in units of the variance of one standardised feature."""

FOLDS = 5
"""Folds of training episodes in the cross-validation of the penalty; fewer if there are fewer episodes."""

NO_SPREAD = 1e-6
"""A coordinate is constant if its standard deviation is at most this, times max(1, its largest absolute value)."""

BLOCK = 4096
"""Columns of pixels converted to float at a time, so that principal components need no float copy of all images."""


class Ridge:
    """Ridge regression in closed form on standardised features, for many targets and penalties at once.

    x: (N, D). y: (N, S), any scale.
    """

    def __init__(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        self._mean: NDArray[np.float64] = x.mean(0)
        self._scale = _nonzero(x.std(0))
        self._y_mean: NDArray[np.float64] = y.mean(0)
        standard = self._standardise(x)
        self._eigenvalues, self._axes = np.linalg.eigh(standard.T @ standard / len(x))
        self._projected = self._axes.T @ (standard.T @ (y - self._y_mean)) / len(x)

    def predict(self, x: NDArray[np.float64], penalties: NDArray[np.float64]) -> NDArray[np.float64]:
        """(M, D), a penalty for each target (S,) -> (M, S)."""
        scaled = self._projected / (np.maximum(self._eigenvalues, 0)[:, None] + penalties)
        weights: NDArray[np.float64] = self._axes @ scaled
        difference: NDArray[np.float64] = self._standardise(x) @ weights
        return difference + self._y_mean

    def _standardise(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return (x - self._mean) / self._scale


def r2_on_held_out(
    x: NDArray[np.float64], y: NDArray[np.float64], episode: NDArray[np.int64], held_out: NDArray[np.int64]
) -> NDArray[np.float64]:
    """R² of each target on the rows of the held-out episodes; NaN where the target is constant there or in the rest.

    Held-out rows affect neither the fit nor the choice of the penalty.

    x: (N, D) features. y: (N, S) targets. episode: int (N,), of each row. held_out: the episodes to test on; at least
    two others must remain.
    """
    test = np.isin(episode, held_out)
    penalties = choose_penalties(x[~test], y[~test], episode[~test])
    prediction = Ridge(x[~test], y[~test]).predict(x[test], penalties)
    constant = is_constant(y[~test]) | is_constant(y[test])
    return np.where(constant, np.nan, r2(y[test], prediction))


def choose_penalties(x: NDArray[np.float64], y: NDArray[np.float64], episode: NDArray[np.int64]) -> NDArray[np.float64]:
    """The penalty (S,) of least squared error for each target, in cross-validation between whole episodes."""
    _, number = np.unique(episode, return_inverse=True)
    errors = np.zeros((len(PENALTIES), y.shape[1]))
    for fold in range(min(FOLDS, number.max() + 1)):
        left_out = number % FOLDS == fold
        ridge = Ridge(x[~left_out], y[~left_out])
        for i, penalty in enumerate(PENALTIES):
            prediction = ridge.predict(x[left_out], np.full(y.shape[1], penalty))
            errors[i] += np.square(prediction - y[left_out]).sum(0)
    least: NDArray[np.float64] = PENALTIES[errors.argmin(0)]
    return least


def r2(y: NDArray[np.float64], prediction: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 - squared error / squared distance from the mean, of each column: (N, S), (N, S) -> (S,)."""
    spread: NDArray[np.float64] = np.square(y - y.mean(0)).sum(0)
    error: NDArray[np.float64] = np.square(y - prediction).sum(0)
    return 1 - error / _nonzero(spread)


def is_constant(y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N, S) -> bool (S,)."""
    spread: NDArray[np.float64] = y.std(0)
    size: NDArray[np.float64] = np.maximum(1, np.abs(y).max(0))
    return spread <= NO_SPREAD * size


def _nonzero(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values > 0, values, 1.0)


def principal_components(pixels: Frames, fit: NDArray[np.bool_], dimension: int) -> NDArray[np.float64]:
    """Coordinates of images along the directions in which those that `fit` names vary most, largest first.

    pixels: uint8 (N, ...). fit: bool (N,). Returns float64 (N, D), where D is `dimension`, or less if the fitted images
    span less.
    """
    flat = pixels.reshape(len(pixels), -1)
    # More pixels than images: the products between images hold all there is to know.
    products = np.zeros((len(flat), int(fit.sum())))
    for block in _centred_blocks(flat, fit):
        products += block @ block[fit].T
    eigenvalues, vectors = np.linalg.eigh(products[fit])
    kept = np.argsort(eigenvalues)[::-1][: min(dimension, int(fit.sum()) - 1)]
    kept = kept[eigenvalues[kept] > 1e-9 * eigenvalues.max()]
    coordinates: NDArray[np.float64] = products @ (vectors[:, kept] / np.sqrt(eigenvalues[kept]))
    return coordinates


def _centred_blocks(flat: Frames, fit: NDArray[np.bool_]) -> Iterator[NDArray[np.float64]]:
    """Columns of (N, P) as float64 (N, BLOCK), less the mean of the rows that `fit` names."""
    for start in range(0, flat.shape[1], BLOCK):
        block = flat[:, start : start + BLOCK].astype(np.float64) / 255
        yield block - block[fit].mean(0)
