"""What goes wrong with an environment: errors that it raises, and results that nobody can learn from."""

import math
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sacae.envs.contract import EnvInfo, Frame, State

RAISED = (Exception, SystemExit)
"""What an environment may raise without ending the run. Ctrl-C, a KeyboardInterrupt, is not the environment's."""

LARGEST_REWARD = 1e20
"""Largest absolute reward. The square of a larger one, which a critic's loss may hold, does not fit into a float32."""

LONGEST_MESSAGE = 200
"""Characters of an error's message that are shown."""


class BadResult(Exception):
    """An environment returned something that cannot be learned from. The message says what, such as "reward nan".

    not_finite: whether it has the right form, but holds a number that is not finite.
    """

    def __init__(self, text: str, not_finite: bool = False) -> None:
        super().__init__(text)
        self.not_finite = not_finite


class Fault(NamedTuple):
    """Something that went wrong with an environment.

    what: such as "raised RuntimeError: no ball" or "returned reward nan".
    ends_run: whether training must not go on. It goes on after an error, which may be rare, but not after a number that
        is not finite, which is a mistake in the environment.
    """

    what: str
    ends_run: bool = False

    @classmethod
    def of(cls, error: BaseException) -> "Fault":
        """The fault that an exception stands for."""
        if isinstance(error, BadResult):
            return cls(f"returned {error}", error.not_finite)
        return cls(f"raised {describe(error)}")


def describe(error: BaseException) -> str:
    """An exception in one line: its type, its message, and the line of code that raised it."""
    message = "".join(c if c.isprintable() else " " for c in str(error))
    message = " ".join(message.split())
    if len(message) > LONGEST_MESSAGE:
        message = f"{message[:LONGEST_MESSAGE]}..."
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{': ' if message else ''}{message}{place}"


def check_observation(frame: Frame, info: EnvInfo) -> None:
    """Raises BadResult if an observation does not have the environment's shape and dtype, or is not finite."""
    _check_form("an observation", frame, info.frame_shape, info.frame_dtype)
    if frame.dtype.kind == "f":  # Images of bytes are always finite.
        _check_finite("observation", frame)


def check_state(state: State | None) -> None:
    """Raises BadResult if a physical state is not finite."""
    if state is not None:
        _check_finite("physical state", state)


def as_number(reward: Any) -> float:
    """A reward as a float. Raises BadResult if it is none."""
    try:
        return float(reward)
    except (TypeError, ValueError):
        raise BadResult(f"a reward that is no number, but a {type(reward).__name__}") from None


def check_reward(reward: float) -> None:
    """Raises BadResult if a reward is not finite or beyond LARGEST_REWARD."""
    if not abs(reward) <= LARGEST_REWARD:  # True for NaN, too.
        allowed = f", beyond {LARGEST_REWARD:.0e}" if math.isfinite(reward) else ""
        raise BadResult(f"reward {reward:g}{allowed}", not_finite=True)


def check_frame(image: Any) -> NDArray[np.uint8]:
    """What `render` returned, if it is an RGB image, uint8 (H, W, 3). Raises BadResult otherwise."""
    if not isinstance(image, np.ndarray):
        raise BadResult(f"a frame that is no array, but a {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise BadResult(f"a frame of {image.dtype} {image.shape}, but a frame must be uint8 (height, width, 3)")
    return image


def _check_form(name: str, values: Any, shape: tuple[int, ...], dtype: str) -> None:
    if not isinstance(values, np.ndarray):
        raise BadResult(f"{name} that is no array, but a {type(values).__name__}")
    if values.shape != shape or values.dtype != dtype:
        raise BadResult(f"{name} of {values.dtype} {values.shape}, but its space says {dtype} {shape}")


def _check_finite(name: str, values: NDArray[Any]) -> None:
    if not all_finite(values):
        entry = int(np.flatnonzero(~np.isfinite(values.ravel()))[0])
        raise BadResult(f"{name} {values.ravel()[entry]:g} in entry {entry}", not_finite=True)


def all_finite(values: NDArray[Any]) -> bool:
    """Whether all of a small array's numbers are finite."""
    # A sum of squares is finite only if all numbers are, and takes a tenth of the time of looking at each of them.
    return math.isfinite(np.vdot(values, values)) or bool(np.isfinite(values).all())
