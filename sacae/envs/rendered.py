"""Observations that an environment draws: the frame of its `render`, fitted into a square."""

from collections.abc import Callable
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sacae.envs.faults import BadResult
from sacae.envs.making import draw, render
from sacae.errors import UserError

Rendered: TypeAlias = tuple[spaces.Box, Callable[[], NDArray[np.uint8]]]


def as_rendered(env_id: str, env: gymnasium.Env, size: int) -> Rendered:
    """Rendered frames, uint8 (3, size, size), and the function that draws the present one.

    A frame keeps its proportions: it is scaled until its longer side fits, and black bars fill the rest.

    env: its render mode is "rgb_array". It is reset and drawn once here, so that what does not render is refused early.

    Raises UserError if it cannot be drawn here, or draws no RGB image. The function raises what `render` does, and
    BadResult if that returns no RGB image.
    """
    env.reset(seed=0)
    try:
        _check(draw(env_id, env))
    except BadResult as error:
        raise UserError(f"obs is pixels, but {env_id} renders {error}; use --obs state") from None

    def frame() -> NDArray[np.uint8]:
        image = fitted(_check(render(env)), size, size, Image.Resampling.BOX)
        return np.ascontiguousarray(image.transpose(2, 0, 1))

    return spaces.Box(0, 255, (3, size, size), np.uint8), frame


def fitted(
    image: NDArray[np.uint8], height: int, width: int, how: Image.Resampling = Image.Resampling.BILINEAR
) -> NDArray[np.uint8]:
    """An RGB image, uint8 (H, W, 3), scaled to (height, width, 3) with its proportions kept, between black bars."""
    return np.asarray(ImageOps.pad(Image.fromarray(image), (width, height), how))


def _check(image: Any) -> NDArray[np.uint8]:
    """The image, if it is RGB with 8 bits. Raises BadResult otherwise."""
    if not isinstance(image, np.ndarray):
        raise BadResult(f"a frame that is no array, but a {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise BadResult(f"a frame of {image.dtype} {image.shape}, but a frame must be uint8 (height, width, 3)")
    return image
