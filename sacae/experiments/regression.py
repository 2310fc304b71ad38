"""What a linear map can read off features: ridge regression, R², and principal components, in NumPy."""

from collections.abc import Iterator

import numpy as np

PENALTIES = np.logspace(-6, 4, 21)
"""Ridge penalties to choose among, in units of the variance of one standardised feature."""

FOLDS = 5
"""Groups of training episodes between which a penalty is chosen; fewer where there are fewer episodes."""

NO_SPREAD = 1e-6
"""A coordinate whose standard deviation is below this, times its size where that is above 1, is constant."""

BLOCK = 4096
"""Columns of pixels that are floats at a time: principal components of 1000 stacked images need no copy of them."""


class Ridge:
    """Ridge regression in closed form on standardised features, for many targets and penalties at once.

    x: (N, D). y: (N, S), any scale.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self._mean, self._scale = x.mean(0), _nonzero(x.std(0))
        self._y_mean = y.mean(0)
        standard = self._standardise(x)
        self._eigenvalues, self._axes = np.linalg.eigh(standard.T @ standard / len(x))
        self._projected = self._axes.T @ (standard.T @ (y - self._y_mean)) / len(x)

    def predict(self, x: np.ndarray, penalties: np.ndarray) -> np.ndarray:
        """(M, D), a penalty for each target (S,) -> (M, S)."""
        weights = self._axes @ (self._projected / (np.maximum(self._eigenvalues, 0)[:, None] + penalties))
        return self._standardise(x) @ weights + self._y_mean

    def _standardise(self, x: np.ndarray) -> np.ndarray:
        return (x - self._mean) / self._scale


def r2_on_held_out(x: np.ndarray, y: np.ndarray, episode: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """R² of each target on the rows of the held-out episodes; NaN where the target is constant there or in the rest.

    Nothing is fitted to held-out rows, the penalty neither.

    x: (N, D) features. y: (N, S) targets. episode: int (N,), of each row. held_out: the episodes to test on; at least
    two others must remain.
    """
    test = np.isin(episode, held_out)
    penalties = choose_penalties(x[~test], y[~test], episode[~test])
    prediction = Ridge(x[~test], y[~test]).predict(x[test], penalties)
    constant = is_constant(y[~test]) | is_constant(y[test])
    return np.where(constant, np.nan, r2(y[test], prediction))


def choose_penalties(x: np.ndarray, y: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """The penalty (S,) of least squared error for each target, in cross-validation between whole episodes."""
    _, number = np.unique(episode, return_inverse=True)
    errors = np.zeros((len(PENALTIES), y.shape[1]))
    for fold in range(min(FOLDS, number.max() + 1)):
        left_out = number % FOLDS == fold
        ridge = Ridge(x[~left_out], y[~left_out])
        for i, penalty in enumerate(PENALTIES):
            prediction = ridge.predict(x[left_out], np.full(y.shape[1], penalty))
            errors[i] += np.square(prediction - y[left_out]).sum(0)
    return PENALTIES[errors.argmin(0)]


def r2(y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """1 - squared error / squared distance from the mean, of each column: (N, S), (N, S) -> (S,)."""
    spread = np.square(y - y.mean(0)).sum(0)
    return 1 - np.square(y - prediction).sum(0) / _nonzero(spread)


def is_constant(y: np.ndarray) -> np.ndarray:
    """(N, S) -> bool (S,)."""
    return y.std(0) <= NO_SPREAD * np.maximum(1, np.abs(y).max(0))


def _nonzero(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, 1.0)


def principal_components(pixels: np.ndarray, fit: np.ndarray, dimension: int) -> np.ndarray:
    """Coordinates of images along the directions in which those that `fit` names vary most, largest first.

    pixels: uint8 (N, ...). fit: bool (N,), which images to fit to. Returns float64 (N, D), D the dimension or, where
    fewer images are fitted to, what they span.
    """
    flat = pixels.reshape(len(pixels), -1)
    # More pixels than images: the products between images hold all there is to know.
    products = sum(block @ block[fit].T for block in _centred_blocks(flat, fit))
    eigenvalues, vectors = np.linalg.eigh(products[fit])
    kept = np.argsort(eigenvalues)[::-1][: min(dimension, int(fit.sum()) - 1)]
    kept = kept[eigenvalues[kept] > 1e-9 * eigenvalues.max()]
    return products @ (vectors[:, kept] / np.sqrt(eigenvalues[kept]))


def _centred_blocks(flat: np.ndarray, fit: np.ndarray) -> Iterator[np.ndarray]:
    """Columns of (N, P) as float64 (N, BLOCK), less the mean of the rows that `fit` names."""
    for start in range(0, flat.shape[1], BLOCK):
        block = flat[:, start : start + BLOCK].astype(np.float64) / 255
        yield block - block[fit].mean(0)
