"""Observations that an environment draws: the frame of its `render`, fitted into a square."""

from collections.abc import Callable
from typing import TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sacae.envs.faults import RAISED, check_frame, describe
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
    try:
        env.reset(seed=0)
    except RAISED as error:
        raise UserError(f"{env_id} cannot be reset: it raised {describe(error)}") from error
    try:
        draw(env_id, env)
    except UserError as error:
        raise UserError(f"obs is pixels, but {error}; use --obs state") from error

    def frame() -> NDArray[np.uint8]:
        image = fitted(check_frame(render(env)), size, size, Image.Resampling.BOX)
        return np.ascontiguousarray(image.transpose(2, 0, 1))

    return spaces.Box(0, 255, (3, size, size), np.uint8), frame


def fitted(
    image: NDArray[np.uint8], height: int, width: int, how: Image.Resampling = Image.Resampling.BILINEAR
) -> NDArray[np.uint8]:
    """An RGB image, uint8 (H, W, 3), scaled to (height, width, 3) with its proportions kept, between black bars."""
    return np.array(ImageOps.pad(Image.fromarray(image), (width, height), how))
