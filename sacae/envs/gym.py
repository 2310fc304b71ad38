"""Any Gymnasium environment behind the contract of `sacae.envs.stepping.Env`; Atari games with their preprocessing."""

import importlib
import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from PIL import Image, ImageOps

from sacae.config import ATARI, did_you_mean
from sacae.envs import rendering
from sacae.envs.actions import as_action
from sacae.envs.dmc import UNBOUNDED
from sacae.errors import UserError

LONGEST_EPISODE = 10_000
"""Environment steps after which an episode is cut off where the environment itself has no time limit."""

USUAL_FPS = 30.0
"""Frames per second of the video of an environment that does not say its own."""

CHANNELS = (1, 3, 4)
"""How many channels an image may have; by them the axis of channels is told from height and width."""

NOOPS = 30
"""An Atari game starts after 1 to so many steps without action (Mnih et al. 2015)."""

FOLLOWING = "track"
"""Name of the camera in Gymnasium's models that goes with the body."""

ROBOTICS = "Fetch"
"""How the names of gymnasium-robotics' goal environments of the Fetch arm begin."""

EPISODE_SEEDS = 2**31 - 1
"""Seeds of episodes lie below this number, which every environment can take."""


class GymEnv(gymnasium.Env):
    """An environment of Gymnasium's registry.

    Actions are float32 (A,) in [-1, 1], scaled to the environment's own bounds, where it has a Box of actions; int64
    (A,) choices from 0 where it has Discrete or MultiDiscrete ones. Observations are the float32 (D,) state, with
    dictionaries and tuples flattened and discrete entries as one-hot vectors; or one uint8 image (C, H, W).

    Each episode starts from a seed of its own, drawn from this environment's random stream, so that an episode can be
    repeated exactly as far as the environment is determined by its seed.

    Atari games (ALE/...) show one grey image (1, H, W): the larger of each pixel's values in the last two game frames
    of a step. They start after up to 30 steps without action. Where there is a fire button it is pressed then, and
    again after each lost life.

    max_episode_steps: agent steps until the time limit, LONGEST_EPISODE environment steps where it has none.
    render_seconds: wall-clock seconds spent in `render` so far.
    last_info: what the environment told beside the latest step, also where a stepper has begun the next episode since.
    """

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(
        self,
        env_id: str,
        seed: int | None = None,
        from_pixels: bool = False,
        image_size: int = 84,
        action_repeat: int = 1,
    ) -> None:
        """Makes the environment.

        env_id: as in Gymnasium's registry, such as "Pendulum-v1", or with the module that registers it, module:Id.
        seed: 0 or more, from which the episodes are drawn; None draws one.
        from_pixels: observe images, for which the environment's own observations must be images.
        image_size: height and width of an image; those of another size are scaled.
        action_repeat: environment steps for which each action is held; their rewards are summed.

        Raises UserError where there is no such environment, a package that it needs is missing, its observations or
        actions are of no kind described above, or an argument is out of range.
        """
        if action_repeat < 1:
            raise UserError(f"action_repeat is {action_repeat}, but it must be at least 1; change --action-repeat")
        _check_seed(seed)
        self.render_seconds = 0.0
        self._id = env_id
        atari = env_id.startswith(ATARI)
        self._env = _make_atari(env_id, image_size, action_repeat) if atari else _make(env_id)
        self._steps_held = 1 if atari else action_repeat  # Atari's preprocessing repeats actions itself.
        observed = _as_images if from_pixels else _as_vectors
        self.observation_space, self._observed = observed(env_id, self._env.observation_space, image_size)
        self.max_episode_steps = math.ceil(_time_limit(self._env) / action_repeat)
        self._env, self.action_space, self._control = _with_actions(env_id, self._env)
        self.render_mode = self._env.render_mode
        fps = self._env.metadata.get("render_fps") or USUAL_FPS
        self.metadata = {**self.metadata, "render_fps": fps / action_repeat}
        super().reset(seed=seed)
        self._random_state = self.np_random.bit_generator.state
        self._actions: list[np.ndarray] = []
        self._started = self._running = False
        self.last_info: dict[str, Any] = {}

    @property
    def original(self) -> gymnasium.Env:
        """The environment as its author wrote it, to ask what this contract has no place for, not to step it."""
        return self._env.unwrapped

    # An episode.

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Starts an episode: drawn from `seed`, or going on from the random draws before. Returns (obs, info).

        Raises UserError where seed is out of range.
        """
        _check_seed(seed)
        super().reset(seed=seed)
        observation, info = self._begin_episode()
        return self._observed(observation), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Holds an action (A,) for `action_repeat` environment steps, fewer where the episode ends.

        Returns (obs, summed reward, terminated, truncated, info): terminated where the environment says so, truncated
        at a time limit.

        Raises gymnasium.error.ResetNeeded where no episode is running, InvalidAction where it is not in the space.
        """
        if not self._running:
            raise gymnasium.error.ResetNeeded("no episode is running: call reset() before step()")
        observation, *rest = self._advance(as_action(self.action_space, action))
        return self._observed(observation), *rest

    def _begin_episode(self) -> tuple[Any, dict]:
        self._random_state = self.np_random.bit_generator.state
        self._actions = []
        self._started = self._running = True
        return self._env.reset(seed=int(self.np_random.integers(EPISODE_SEEDS)))

    def _advance(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        self._actions.append(action)
        control = self._control(action)
        total_reward = 0.0
        for _ in range(self._steps_held):
            observation, reward, terminated, truncated, info = self._env.step(control)
            total_reward += float(reward)
            if terminated or truncated:
                self._running = False
                break
        self.last_info = info
        return observation, total_reward, bool(terminated), bool(truncated), info

    def render(self, height: int | None = None, width: int | None = None) -> np.ndarray:
        """An image of what is now, uint8 (height, width, 3), between black bars where the shape is another.

        By default it has the size in which the environment draws itself.

        Raises UserError where the environment does not draw itself, or a package for it is missing.
        """
        started = time.perf_counter()
        if self.render_mode is None:
            raise UserError(f"env is {self._id}, which does not draw itself")
        image = np.asarray(_draw(self._id, self._env), np.uint8)
        size = image.shape[1] if width is None else width, image.shape[0] if height is None else height
        image = np.asarray(ImageOps.pad(Image.fromarray(image), size, Image.Resampling.BILINEAR))
        self.render_seconds += time.perf_counter() - started
        return image

    def close(self) -> None:
        """Frees the environment. Nothing else can be called afterwards but close."""
        self._running = False
        self._env.close()

    # Going on later.

    def snapshot(self) -> dict[str, Any]:
        """What `restore` needs to come back to this moment: the random state at the episode's start, and its actions.

        Made of dicts, lists, strings and numbers alone, so that any format can keep it.
        """
        return {
            "random_state": self._random_state,
            "started": self._started,
            "actions": [action.tolist() for action in self._actions],
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Comes back to where `snapshot` was made in an environment of the same arguments, by repeating the episode.

        All that follows, later episodes too, is the same to the last bit, provided that the environment depends on
        the seed of its reset alone. "actions" may also hold arrays (A,).
        """
        self.np_random.bit_generator.state = snapshot["random_state"]
        self._random_state = snapshot["random_state"]
        self._actions, self._started, self._running = [], False, False
        if snapshot["started"]:
            self._begin_episode()
        for action in snapshot["actions"]:
            self._advance(as_action(self.action_space, action))


def rendering_problem(env_id: str) -> str:
    """Why there can be no video of an environment and what to do about it, one line; "" where there can.

    Raises UserError where the environment cannot be made.
    """
    env = _make_atari(env_id) if env_id.startswith(ATARI) else _make(env_id)
    try:
        if env.render_mode is None:
            return f"{env_id} does not draw itself"
        env.reset(seed=0)
        _draw(env_id, env)
    except UserError as error:
        return str(error)
    finally:
        env.close()
    return ""


def _draw(env_id: str, env: gymnasium.Env) -> Any:
    if "mujoco" in sys.modules:
        rendering.configure()
    try:
        return env.render()
    except Exception as error:  # What a missing library, driver or display makes of it is not told by type.
        raise UserError(f"{env_id} cannot be drawn here: {_one_line(error)}") from error


# Making an environment.


def _make(env_id: str, **arguments: Any) -> gymnasium.Env:
    """The environment as Gymnasium makes it, with a time limit. Raises UserError where it cannot be made."""
    spec = find(env_id)
    limit = {} if spec.max_episode_steps or env_id.startswith(ATARI) else {"max_episode_steps": LONGEST_EPISODE}
    try:
        create = spec.entry_point
        create = create if callable(create) else gymnasium.envs.registration.load_env_creator(create)
        metadata = getattr(create, "metadata", None)
        if isinstance(metadata, Mapping) and "rgb_array" in metadata.get("render_modes", ()):
            arguments["render_mode"] = "rgb_array"
        env = gymnasium.make(spec, disable_env_checker=True, **limit, **arguments)
        _follow(env)
        return env
    except (gymnasium.error.Error, ImportError, TypeError) as error:
        raise UserError(f"env is {env_id}, but it cannot be made here: {_one_line(error)}") from error


def _follow(env: gymnasium.Env) -> None:
    """Has a physics environment drawn by the camera of its model that goes with the body, if there is one.

    Gymnasium 1.4 draws it with a camera that stays behind.
    """
    renderer = getattr(env.unwrapped, "mujoco_renderer", None)
    if renderer is not None and renderer.camera_id == -1:
        import mujoco

        renderer.camera_id = mujoco.mj_name2id(renderer.model, mujoco.mjtObj.mjOBJ_CAMERA, FOLLOWING)


def find(env_id: str) -> Any:
    """The registry's entry. Raises UserError where there is none."""
    module, _, name = env_id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(f"env is {env_id}, but {module} cannot be imported: {_one_line(error)}") from error
    if name.startswith(ROBOTICS) and name not in gymnasium.registry:
        _register_robotics(env_id)
    if name not in gymnasium.registry:
        advice = did_you_mean(name, gymnasium.registry) or (
            "; gymnasium.pprint_registry() lists all; one that another module registers is named module:Id"
        )
        raise UserError(f"env is {env_id}, but no environment {name} is registered{advice}")
    return gymnasium.registry[name]


def _register_robotics(env_id: str) -> None:
    """Has gymnasium-robotics register its environments. Raises UserError where it is not installed."""
    try:
        import gymnasium_robotics
    except ImportError as error:
        raise UserError(
            f"env is {env_id}, but Fetch environments need {error.name}, which is not installed: pip install "
            "'sacae[robotics]'"
        ) from None
    gymnasium.register_envs(gymnasium_robotics)


def _make_atari(env_id: str, image_size: int = 84, frame_skip: int = 4) -> gymnasium.Env:
    """A game with the preprocessing that `GymEnv` describes. Raises UserError as `_make`, and without ale-py."""
    try:
        import ale_py
        import cv2  # noqa: F401 - AtariPreprocessing scales its images with it
    except ImportError as error:
        raise UserError(
            f"env is {env_id}, but Atari games need {error.name}, which is not installed: pip install 'sacae[atari]'"
        ) from None
    from gymnasium.wrappers import AtariPreprocessing

    gymnasium.register_envs(ale_py)
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # Otherwise each game prints a banner.
    game = _make(env_id, frameskip=1, obs_type="grayscale")
    return _Fire(AtariPreprocessing(game, NOOPS, frame_skip, image_size, grayscale_newaxis=True))


class _Fire(gymnasium.Wrapper):
    """Presses the fire button at an episode's start and after each lost life: some games wait for it, and a policy
    that does not press it by itself would wait with them until the time limit."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        meanings = env.unwrapped.get_action_meanings()
        self._fire = meanings.index("FIRE") if "FIRE" in meanings else None
        self._lives = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        observation, info = self.env.reset(seed=seed, options=options)
        if self._fire is not None:
            observation, _, terminated, truncated, info = self.env.step(self._fire)
            if terminated or truncated:
                observation, info = self.env.reset(seed=seed, options=options)
        self._lives = info["lives"]
        return observation, info

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        lost = info["lives"] < self._lives
        if lost and self._fire is not None and not (terminated or truncated):
            observation, more, terminated, truncated, info = self.env.step(self._fire)
            reward += more
        self._lives = info["lives"]
        return observation, reward, terminated, truncated, info


def _time_limit(env: gymnasium.Env) -> int:
    """Environment steps until the time limit."""
    limits = env.spec.max_episode_steps, env.spec.kwargs.get("max_num_frames_per_episode")  # the second is Atari's
    return min(limit for limit in limits if limit)


# Observations: the space of what is shown, and the function that makes it of what the environment shows.

Observed = tuple[spaces.Box, Callable[[Any], np.ndarray]]


def _as_images(env_id: str, space: spaces.Space, size: int) -> Observed:
    """uint8 (C, size, size)."""
    axis = _channel_axis(space)
    if axis is None:
        raise UserError(
            f"obs is pixels, but {env_id} shows {_describe(space)} and no uint8 image of 1, 3 or 4 channels; "
            "use --obs state"
        )

    def observed(image: np.ndarray) -> np.ndarray:
        channels = np.moveaxis(image, axis, 0)
        if channels.shape[1:] == (size, size):
            return np.array(channels, order="C")  # A copy: an environment may draw into the same array again.
        pictures = [Image.fromarray(np.ascontiguousarray(channel)) for channel in channels]
        return np.stack([np.asarray(picture.resize((size, size), Image.Resampling.BOX)) for picture in pictures])

    return spaces.Box(0, 255, (space.shape[axis], size, size), np.uint8), observed


def _as_vectors(env_id: str, space: spaces.Space, _size: int) -> Observed:
    """float32 (D,)."""
    if _channel_axis(space) is not None:
        raise UserError(f"obs is state, but {env_id} shows {_describe(space)}, an image; use --obs pixels")
    if not space.is_np_flattenable:
        raise UserError(f"env is {env_id}, but what it shows, {_describe(space)}, cannot be made one vector")

    def observed(observation: Any) -> np.ndarray:
        return np.array(spaces.flatten(space, observation), np.float32)

    return spaces.Box(-np.inf, np.inf, (spaces.flatdim(space),), np.float32), observed


def _channel_axis(space: spaces.Space) -> int | None:
    """Which axis of an image is its channels; None where the space is not of images."""
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or len(space.shape) != 3:
        return None
    return next((axis for axis in (2, 0) if space.shape[axis] in CHANNELS), None)


def _describe(space: spaces.Space) -> str:
    if isinstance(space, spaces.Box):
        return f"{space.dtype} {space.shape}"
    return f"a {type(space).__name__} space"


# Actions: the environment to step, the space of what is chosen, and the function that makes the control of a choice.

Acting = tuple[gymnasium.Env, spaces.Space, Callable[[np.ndarray], Any]]


def _with_actions(env_id: str, env: gymnasium.Env) -> Acting:
    space = env.action_space
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return _with_scaled_actions(env_id, env)
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return env, spaces.MultiDiscrete([space.n]), lambda choice: start + int(choice[0])
    if isinstance(space, spaces.MultiDiscrete):
        choices = np.unique(space.nvec)
        if len(choices) == 1:
            shape, start = space.shape, space.start
            flat = spaces.MultiDiscrete(space.nvec.ravel())
            return env, flat, lambda choice: (start + choice.reshape(shape)).astype(space.dtype)
        raise UserError(
            f"env is {env_id}, whose action dimensions have {', '.join(map(str, choices))} choices; they must have "
            "equally many"
        )
    raise UserError(
        f"env is {env_id}, whose actions are {_describe(space)}; they must be a Box of floating-point numbers, "
        "Discrete, or MultiDiscrete"
    )


def _with_scaled_actions(env_id: str, env: gymnasium.Env) -> Acting:
    space = env.action_space
    if not (space.low > -UNBOUNDED).all() or not (space.high < UNBOUNDED).all():
        raise UserError(f"env is {env_id}, whose actions have no bounds; they must be bounded, to be scaled to [-1, 1]")
    # Scaling may miss a bound by a rounding error, and some environments refuse what is outside.
    env = gymnasium.wrappers.TransformAction(env, lambda action: np.clip(action, space.low, space.high), space)
    low, high = (np.full(space.shape, bound, space.dtype) for bound in (-1, 1))
    env = gymnasium.wrappers.RescaleAction(env, low, high)
    size = math.prod(space.shape)
    return env, spaces.Box(-1.0, 1.0, (size,), np.float32), lambda action: action.reshape(space.shape)


def _check_seed(seed: int | None) -> None:
    if seed is not None and seed < 0:
        raise UserError(f"seed is {seed}, but it must be 0 or more; change --seed")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
