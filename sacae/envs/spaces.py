"""Translates the spaces of Gymnasium environments: observations to images or vectors, actions to [-1, 1] or choices."""

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from PIL import Image

from sacae.envs.contract import Frame
from sacae.errors import UserError

UNBOUNDED = 1e10
"""MuJoCo's largest number (mjMAXVAL), which it reports as the bound of an action that has none."""

CHANNELS = (1, 3, 4)
"""How many channels an image may have. The axis of this length holds the channels; the others are height and width."""

SMALLEST_IMAGE = 32
"""Entries along an axis from which two such axes mean an image, whatever its channels and dtype."""

# Observations: the translated space, and the function that translates an observation.

Observed: TypeAlias = tuple[spaces.Box, Callable[[Any], Frame]]

EntryPath: TypeAlias = tuple[Any, ...]
"""Keys and indices that lead to an entry in dictionaries and tuples; () is the whole observation."""


def as_images(env_id: str, space: spaces.Space[Any], size: int) -> Observed:
    """Images, uint8 (C, size, size), scaled where theirs has another size.

    Raises UserError if the space is not one of images.
    """
    image = _image(space)
    if image is None:
        raise UserError(
            f"obs is pixels, but {env_id} shows {_shown(space)}, no uint8 image of 1, 3 or 4 channels, and does not "
            f"render rgb_array; {_advice_for_pixels(space)}"
        )
    axis, num_channels = image

    def observed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        channels = np.moveaxis(image, axis, 0)
        if channels.shape[1:] == (size, size):
            return np.array(channels, order="C")  # A copy: an environment may draw into the same array again.
        pictures = [Image.fromarray(np.ascontiguousarray(channel)) for channel in channels]
        return np.stack([np.asarray(picture.resize((size, size), Image.Resampling.BOX)) for picture in pictures])

    return spaces.Box(0, 255, (num_channels, size, size), np.uint8), observed


def as_vectors(env_id: str, space: spaces.Space[Any], _size: int) -> Observed:
    """Vectors, float32 (D,): dictionaries and tuples flattened, discrete entries as one-hot vectors.

    Raises UserError, which names the entry, if the space has one of images or text, or one of no fixed length.
    """
    if is_image(space):
        raise UserError(f"obs is state, but {env_id} shows {_describe(space)}, an image; use --obs pixels")
    for path, entry in _entries(space):
        _check_vector(env_id, "state", path, entry)

    def observed(observation: Any) -> NDArray[np.float32]:
        return np.array(spaces.flatten(space, observation), np.float32)

    return spaces.Box(-np.inf, np.inf, (spaces.flatdim(space),), np.float32), observed


def as_images_with_vectors(env_id: str, space: spaces.Space[Any], size: int) -> tuple[Observed, Observed]:
    """The one image in a dictionary or tuple, as `as_images`, and all its other entries as a vector, as `as_vectors`.

    Raises UserError, which names the entry, if there is another number of images, nothing beside the image, or an entry
    that is neither.
    """
    entries = dict(_entries(space))
    images = [path for path, entry in entries.items() if is_image(entry)]
    if len(images) != 1:
        which = f"images in the entries {', '.join(map(_name, images))}" if images else _shown(space)
        raise UserError(
            f"obs is pixels+state, but {env_id} shows {which}; it must be one uint8 image of 1, 3 or 4 channels with "
            f"vectors beside it; {_without(_name(images[-1])) if images else _advice_without_images(space)}"
        )
    vectors = {path: entry for path, entry in entries.items() if path != images[0]}
    if not vectors:
        raise UserError(f"obs is pixels+state, but {env_id} shows an image and nothing beside it; use --obs pixels")
    for path, entry in vectors.items():
        _check_vector(env_id, "pixels+state", path, entry)
    of_image, look = as_images(env_id, entries[images[0]], size)

    def observed(observation: Any) -> NDArray[np.float32]:
        parts: list[Any] = [spaces.flatten(entry, _at(observation, path)) for path, entry in vectors.items()]
        return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)

    length = sum(spaces.flatdim(entry) for entry in vectors.values())
    of_vector = spaces.Box(-np.inf, np.inf, (length,), np.float32)
    return (of_image, lambda observation: look(_at(observation, images[0]))), (of_vector, observed)


def _check_vector(env_id: str, obs: str, path: EntryPath, entry: spaces.Space[Any]) -> None:
    """Raises UserError for an entry that cannot be a part of a vector. obs: the setting, for the line."""
    name = _name(path)
    at = f"{_describe(entry)} in entry {name}" if name else _describe(entry)
    if _looks_like_image(entry):
        raise UserError(
            f"obs is {obs}, but {env_id} shows {at}, an image, which would become {math.prod(entry.shape or ()):,} "
            f"raw numbers; {_advice_for_state(name, entry)}"
        )
    if not entry.is_np_flattenable or isinstance(entry, spaces.Text):
        raise UserError(
            f"env is {env_id}, but its observations, {at}, cannot be flattened to a vector; "
            + (_without(name) if name else "choose another --env")
        )


def is_image(space: spaces.Space[Any]) -> bool:
    """Whether the space is one of images that agents can observe: uint8 with 1, 3 or 4 channels, first or last."""
    return _image(space) is not None


def has_image(space: spaces.Space[Any]) -> bool:
    """Whether the space, or an entry of a dictionary or tuple, is one of images, of any kind."""
    return any(_looks_like_image(entry) for _, entry in _entries(space))


def _image(space: spaces.Space[Any]) -> tuple[int, int] | None:
    """The axis of an image's channels, and their number; None if the space is not one of images."""
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or len(space.shape) != 3:
        return None
    return next(((axis, space.shape[axis]) for axis in (2, 0) if space.shape[axis] in CHANNELS), None)


def _looks_like_image(space: spaces.Space[Any]) -> bool:
    """Whether the space is one of images of any kind: grey, stacked or of floating-point numbers."""
    if not isinstance(space, spaces.Box):
        return False
    needed = 2 if space.dtype == np.uint8 else 3  # A matrix of floating-point numbers is a state.
    sides = [length for length in space.shape if length >= SMALLEST_IMAGE]
    return is_image(space) or (len(space.shape) >= needed and len(sides) >= 2)


def _entries(space: spaces.Space[Any], path: EntryPath = ()) -> Iterator[tuple[EntryPath, spaces.Space[Any]]]:
    """The spaces in dictionaries and tuples, with their paths."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        pairs = space.items() if isinstance(space, spaces.Dict) else enumerate(space)
        for key, entry in pairs:
            yield from _entries(entry, (*path, key))
    else:
        yield path, space


def _name(path: EntryPath) -> str:
    """An entry's name, such as "camera.left" or "arm.0"; "" for the whole observation."""
    return ".".join(map(str, path))


def _at(observation: Any, path: EntryPath) -> Any:
    for key in path:
        observation = observation[key]
    return observation


def _shown(space: spaces.Space[Any]) -> str:
    """A space in words, with the image among its entries if there is one."""
    images = [(path, entry) for path, entry in _entries(space) if path and _looks_like_image(entry)]
    return _describe(space) + "".join(f" with {_describe(entry)} in entry {_name(path)}" for path, entry in images[:1])


def _advice_for_state(name: str, image: spaces.Space[Any]) -> str:
    """What to do about an image, named `name` among the entries, where vectors are wanted."""
    if name:
        other = "--obs pixels+state if it is the only one" if is_image(image) else "--obs pixels if it renders"
        return f"{_without(name)}, or use {other}"
    if is_image(image):
        return "use --obs pixels"
    return f"{TO_BYTES}, and use --obs pixels"


def _advice_for_pixels(space: spaces.Space[Any]) -> str:
    """What to do about a space that is not of images, where images are wanted."""
    if _looks_like_image(space):
        return TO_BYTES
    entries = dict(_entries(space))
    images = [_name(path) for path, entry in entries.items() if is_image(entry)]
    if images:
        both = "use --obs pixels+state, or " if len(entries) > 1 else ""
        return f"{both}let it show {images[0]} alone with gymnasium.wrappers.TransformObservation"
    return "use --obs state"


def _advice_without_images(space: spaces.Space[Any]) -> str:
    """What to do about a space without an image that agents can observe, where one with vectors is wanted."""
    return TO_BYTES if has_image(space) else "use --obs state"


TO_BYTES = (
    "let it show uint8 from 0 to 255 in 1, 3 or 4 channels, as gymnasium.wrappers.TransformObservation or its author "
    "can do"
)
"""What to do about an image of another kind."""


def _without(name: str) -> str:
    return f"leave {name} out with gymnasium.wrappers.FilterObservation, or choose another --env"


def _describe(space: spaces.Space[Any]) -> str:
    if isinstance(space, spaces.Box):
        return f"{space.dtype} {space.shape}"
    return f"a {type(space).__name__} space"


# Actions: the environment to step, the translated space, and the function that turns an action into the environment's.

Acting: TypeAlias = tuple[gymnasium.Env, spaces.Box | spaces.MultiDiscrete, Callable[[NDArray[Any]], Any]]


def with_actions(env_id: str, env: gymnasium.Env) -> Acting:
    """Translates actions: a Box becomes float32 (A,) in [-1, 1], Discrete and MultiDiscrete int64 (A,) from 0.

    Raises UserError for other spaces, a Box without bounds, and a MultiDiscrete whose dimensions differ in size.
    """
    space = env.action_space
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return _with_scaled_actions(env_id, env, space)
    if isinstance(space, spaces.Discrete):
        first = int(space.start)
        return env, spaces.MultiDiscrete([int(space.n)]), lambda choice: first + int(choice[0])
    if isinstance(space, spaces.MultiDiscrete):
        return env, *_of_multi_discrete(env_id, space)
    raise UserError(
        f"env is {env_id}, whose actions are {_describe(space)}; they must be a Box of floating-point numbers, "
        "Discrete, or MultiDiscrete; choose another --env"
    )


def _of_multi_discrete(
    env_id: str, space: spaces.MultiDiscrete
) -> tuple[spaces.MultiDiscrete, Callable[[NDArray[Any]], NDArray[Any]]]:
    choices = np.unique(space.nvec)
    if len(choices) > 1:
        raise UserError(
            f"env is {env_id}, whose action dimensions have {', '.join(map(str, choices))} choices; all must have "
            "the same number; choose another --env"
        )
    shape, dtype, first = space.shape, space.dtype, space.start
    return spaces.MultiDiscrete(space.nvec.ravel()), lambda choice: (first + choice.reshape(shape)).astype(dtype)


def _with_scaled_actions(env_id: str, env: gymnasium.Env, space: spaces.Box) -> Acting:
    if not (space.low > -UNBOUNDED).all() or not (space.high < UNBOUNDED).all():
        raise UserError(
            f"env is {env_id}, whose actions have no bounds; only bounded ones can be scaled to [-1, 1]; "
            "choose another --env"
        )
    if not (space.low < space.high).all():
        fixed = ", ".join(map(str, np.flatnonzero(~(space.low < space.high))))
        raise UserError(
            f"env is {env_id}, whose actions have the same lower and upper bound in entry {fixed}, to which nothing "
            "can be scaled; choose another --env, or leave the entry out in a wrapper"
        )
    shape = space.shape
    # Scaling may miss a bound by a rounding error, and some environments refuse an action outside.
    env = gymnasium.wrappers.TransformAction(env, lambda action: np.clip(action, space.low, space.high), space)
    low, high = (np.full(shape, bound, space.dtype) for bound in (-1, 1))
    env = gymnasium.wrappers.RescaleAction(env, low, high)
    return env, spaces.Box(-1.0, 1.0, (math.prod(shape),), np.float32), lambda action: action.reshape(shape)
