"""Callbacks: objects that a training tells what happened, and that can end it.

They are called between two whole steps, so that the checkpoint that follows a stop continues the run exactly.
"""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from sacae.errors import UserError, did_you_mean

Row: TypeAlias = dict[str, Any]
"""Numbers by name; docs/python.md lists them."""


class OnEpisode(Protocol):
    """Is told of training episodes."""

    def on_episode(self, row: Row, /) -> bool | None:
        """A training episode ended. row: what train.csv has of it. False ends the run."""


class OnEvaluation(Protocol):
    """Is told of evaluations."""

    def on_evaluation(self, row: Row, /) -> bool | None:
        """An evaluation ended. row: its step, the returns' mean and deviation, each return. False ends the run."""


class OnCheckpoint(Protocol):
    """Is told of checkpoints."""

    def on_checkpoint(self, folder: Path, /) -> bool | None:
        """A checkpoint was written. folder: the run folder. False ends the run."""


Callback: TypeAlias = OnEpisode | OnEvaluation | OnCheckpoint
"""An object with any of these methods."""

METHODS = ("on_episode", "on_evaluation", "on_checkpoint")


class Callbacks:
    """The callbacks of a training, and what they have not been told yet."""

    def __init__(self, callbacks: Sequence[Callback] = ()) -> None:
        """Raises UserError for an object without any of METHODS, or with another method whose name begins so."""
        for callback in callbacks:
            _check(callback)
        self._callbacks = tuple(callbacks)
        self._news: list[tuple[str, Any]] = []
        self._error: BaseException | None = None

    def note(self, method: str, what: Any) -> None:
        """Keeps something to tell."""
        if self._callbacks:
            self._news.append((method, what))

    def tell(self) -> bool:
        """Calls the methods that are due, in order. False if one of them asks to end the run, or raised an error.

        After an error nothing more is told; `raise_error` raises it once the checkpoint is written.
        """
        news, self._news = self._news, []
        answers = []
        try:
            for method, what in news if self._error is None else ():
                # A copy for each: what one does with its row is nobody else's.
                answers += [getattr(one, method)(deepcopy(what)) for one in self._callbacks if hasattr(one, method)]
        except BaseException as error:  # sys.exit() in a callback ends the run with a checkpoint too
            self._error = error
        return self._error is None and not any(_is_false(answer) for answer in answers)

    def raise_error(self) -> None:
        """Raises what a callback raised."""
        if self._error is not None:
            raise self._error


def _is_false(answer: object) -> bool:
    """Whether a callback asks to end the run: NumPy's comparisons have a type of their own, and None is no answer."""
    return isinstance(answer, bool | np.bool_) and not answer


def _check(callback: object) -> None:
    if isinstance(callback, type):
        raise UserError(f"callback {callback.__name__} is a class; give an object of it, such as {callback.__name__}()")
    names = [name for name in dir(callback) if name.startswith("on_")]
    for name in names:
        if name not in METHODS:
            raise UserError(
                f"callback {type(callback).__name__} has {name}, but there are only {', '.join(METHODS)}"
                f"{did_you_mean(name, METHODS)}"
            )
    if not any(callable(getattr(callback, name)) for name in names):
        raise UserError(
            f"callback {type(callback).__name__} has none of the methods {', '.join(METHODS)}; give it one of them"
        )
