"""`GymEnv`: any environment of Gymnasium's registry as a `sacae.envs.contract.Env`."""

import contextlib
import importlib
import math
import sys
import time
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec, load_env_creator
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sacae.config import ATARI
from sacae.envs import atari, names, rendering
from sacae.envs.actions import as_action
from sacae.envs.contract import Action, Frame, Info, Snapshot, State
from sacae.envs.faults import RAISED, describe
from sacae.envs.spaces import as_images, as_vectors, with_actions
from sacae.errors import UserError, did_you_mean

LONGEST_EPISODE = 10_000
"""Time limit in environment steps where the environment itself has none."""

USUAL_FPS = 30.0
"""Frames per second of a video where the environment does not define them."""

FOLLOWING = "track"
"""Name of the camera in Gymnasium's MuJoCo models that follows the body."""

ROBOTICS = "Fetch"
"""Prefix of the names of gymnasium-robotics' environments for the Fetch arm."""

EPISODE_SEEDS = 2**31 - 1
"""Seeds of episodes are below this number; every environment accepts them."""


class GymEnv(gymnasium.Env):
    """An environment of Gymnasium's registry.

    Actions are float32 (A,) in [-1, 1], scaled to the environment's bounds, where it has a Box of actions; int64 (A,)
    choices from 0 where it has Discrete or MultiDiscrete ones. Observations are the float32 (D,) state, with
    dictionaries and tuples flattened and discrete entries as one-hot vectors; or one uint8 image (C, H, W).

    Each episode starts from a seed of its own, drawn from this environment's random stream. An episode can therefore
    be repeated exactly if the environment depends on its seed alone.

    Atari games (ALE/...) show one grey image (1, H, W): at each pixel the larger value of a step's last two game
    frames. An episode starts with 1 to 30 steps without action. Then, and after each lost life, the fire button is
    pressed if the game has one.

    max_episode_steps: agent steps until the time limit, LONGEST_EPISODE environment steps where it has none.
    render_seconds: wall-clock seconds spent in `render` so far.
    last_info: see `Env`.
    state_space: None; Gymnasium has no common access to the physical state.
    """

    metadata = {"render_modes": ["rgb_array"]}
    state_space = None
    action_space: spaces.Box | spaces.MultiDiscrete
    observation_space: spaces.Box

    def __init__(
        self,
        env_id: str,
        seed: int | None = None,
        from_pixels: bool = False,
        image_size: int = 84,
        action_repeat: int = 1,
    ) -> None:
        """Makes the environment.

        env_id: a name in Gymnasium's registry, such as "Pendulum-v1"; module:Id imports the module that registers it.
        seed: 0 or more; the episodes are drawn from it. None draws a seed.
        from_pixels: observe images; the environment's own observations must then be images.
        image_size: height and width of an image; others are scaled to it.
        action_repeat: environment steps for which each action is held; their rewards are summed.

        Raises UserError if no such environment exists, a package that it needs is missing, its observations or actions
        are of no kind described above, or an argument is out of range.
        """
        if action_repeat < 1:
            raise UserError(f"action_repeat is {action_repeat}, but it must be at least 1; change --action-repeat")
        _check_seed(seed)
        self.render_seconds = 0.0
        self._id = env_id
        is_atari = env_id.startswith(ATARI)
        env = _make_atari(env_id, image_size, action_repeat) if is_atari else _make(env_id)
        self._steps_held = 1 if is_atari else action_repeat  # Atari's preprocessing repeats actions itself.
        translate = as_images if from_pixels else as_vectors
        self.observation_space, self._observed = translate(env_id, env.observation_space, image_size)
        self.max_episode_steps = math.ceil(_time_limit(env) / action_repeat)
        self._env, self.action_space, self._control = with_actions(env_id, env)
        self.render_mode = self._env.render_mode
        fps = self._env.metadata.get("render_fps") or USUAL_FPS
        self.metadata = {**self.metadata, "render_fps": fps / action_repeat}
        super().reset(seed=seed)
        self._random_state = self.np_random.bit_generator.state
        self._actions: list[NDArray[Any]] = []
        self._started = self._running = False
        self.last_info: Info = {}

    @property
    def original(self) -> gymnasium.Env:
        """See `Env`."""
        return self._env.unwrapped

    # An episode.

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Frame, Info]:
        """Starts an episode, drawn from `seed` or, without one, from the random stream. Returns (obs, info).

        Raises UserError if seed is out of range.
        """
        _check_seed(seed)
        super().reset(seed=seed)
        observation, info = self._begin_episode()
        return self._observed(observation), info

    def step(self, action: Action) -> tuple[Frame, float, bool, bool, Info]:
        """Holds an action (A,) for `action_repeat` environment steps, fewer if the episode ends.

        Returns (obs, summed reward, terminated, truncated, info); truncated is True at a time limit.

        Raises gymnasium.error.ResetNeeded if no episode is running, InvalidAction for an action outside the space.
        """
        if not self._running:
            raise gymnasium.error.ResetNeeded("no episode is running: call reset() before step()")
        observation, reward, terminated, truncated, info = self._advance(as_action(self.action_space, action))
        return self._observed(observation), reward, terminated, truncated, info

    def _begin_episode(self) -> tuple[Any, Info]:
        self._random_state = self.np_random.bit_generator.state
        self._actions = []
        self._started = self._running = True
        return self._env.reset(seed=int(self.np_random.integers(EPISODE_SEEDS)))

    def _advance(self, action: NDArray[Any]) -> tuple[Any, float, bool, bool, Info]:
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

    def state(self) -> State:
        """See `Env`."""
        raise self._no_state()

    def physics_state(self) -> NDArray[np.float64]:
        """See `Env`."""
        raise self._no_state()

    def physics_coordinates(self) -> dict[str, float]:
        """See `Env`."""
        raise self._no_state()

    def _no_state(self) -> NotImplementedError:
        return NotImplementedError(f"{self._id} does not report its physical state")

    def render(self, height: int | None = None, width: int | None = None) -> NDArray[np.uint8]:
        """An image of the present moment, uint8 (height, width, 3), between black bars if its shape is another.

        By default the image has the environment's own size.

        Raises UserError if the environment cannot render, or a package that it needs is missing.
        """
        started = time.perf_counter()
        if self.render_mode is None:
            raise UserError(f"env is {self._id}, which cannot render; choose another --env or leave the video out")
        image = np.asarray(_draw(self._id, self._env), np.uint8)
        size = image.shape[1] if width is None else width, image.shape[0] if height is None else height
        image = np.asarray(ImageOps.pad(Image.fromarray(image), size, Image.Resampling.BILINEAR))
        self.render_seconds += time.perf_counter() - started
        return image

    def close(self) -> None:
        """Frees the environment. Afterwards only close may be called."""
        self._running = False
        _close(self._env)

    # Snapshots.

    def snapshot(self) -> dict[str, Any]:
        """What `restore` needs to return to this moment: the random state at the episode's start, and its actions.

        It holds only dicts, lists, strings and numbers, so that any format can store it.
        """
        return {
            "random_state": self._random_state,
            "started": self._started,
            "actions": [action.tolist() for action in self._actions],
        }

    def restore(self, snapshot: Snapshot) -> float:
        """Returns to the moment of `snapshot` by repeating the episode. Returns the sum of its rewards.

        An environment with the same arguments must have made it. Everything that follows, later episodes too, is the
        same to the last bit if the environment depends on the seed of its reset alone.

        Raises RuntimeError if the episode ends before all actions are repeated.
        """
        self.np_random.bit_generator.state = snapshot["random_state"]
        self._random_state = snapshot["random_state"]
        self._actions, self._started, self._running = [], False, False
        if snapshot["started"]:
            self._begin_episode()
        episode_return = 0.0
        for action in snapshot["actions"]:
            if not self._running:
                raise RuntimeError("the episode is shorter than it was")
            episode_return += self._advance(as_action(self.action_space, action))[1]
        return episode_return


def rendering_problem(env_id: str) -> str:
    """Why no video of an environment can be made, in one line; "" where one can.

    Raises UserError if the environment cannot be made.
    """
    env = _make_atari(env_id) if env_id.startswith(ATARI) else _make(env_id)
    try:
        if env.render_mode is None:
            return f"{env_id} cannot render"
        env.reset(seed=0)
        _draw(env_id, env)
    except UserError as error:
        return str(error)
    except RAISED as error:
        return f"{env_id} cannot be reset: it raised {describe(error)}"
    finally:
        _close(env)
    return ""


def _close(env: gymnasium.Env) -> None:
    """Closes an environment that is no longer needed; what goes wrong then does not matter."""
    with contextlib.suppress(*RAISED):
        env.close()


def _draw(env_id: str, env: gymnasium.Env) -> Any:
    if "mujoco" in sys.modules:
        rendering.configure()
    try:
        return env.render()
    except Exception as error:  # A missing library, driver or display raises errors of any type.
        raise UserError(f"{env_id} cannot be rendered here: {_one_line(error)}") from error


# Making an environment.


def _make(env_id: str, **arguments: Any) -> gymnasium.Env:
    """Makes a registered environment, with a time limit. Raises UserError if it cannot be made."""
    spec = find(env_id)
    if not spec.max_episode_steps and not env_id.startswith(ATARI):
        arguments["max_episode_steps"] = LONGEST_EPISODE
    try:
        create = spec.entry_point if callable(spec.entry_point) else load_env_creator(str(spec.entry_point))
        metadata = getattr(create, "metadata", None)
        if isinstance(metadata, Mapping) and "rgb_array" in metadata.get("render_modes", ()):
            arguments["render_mode"] = "rgb_array"
        env = gymnasium.make(spec, disable_env_checker=True, **arguments)
        _follow(env)
        return env
    except (gymnasium.error.Error, ImportError, TypeError) as error:
        raise UserError(f"env is {env_id}, but it cannot be made here: {_one_line(error)}") from error
    except RAISED as error:  # Of the environment's own code, where the line says more than the message.
        raise UserError(f"env is {env_id}, but it cannot be made here: {describe(error)}") from error


def _make_atari(env_id: str, image_size: int = 84, frame_skip: int = 4) -> gymnasium.Env:
    """Makes a game with its preprocessing. Raises UserError if it cannot be made."""
    atari.register_games(env_id)
    return atari.preprocessed(_make(env_id, frameskip=1, obs_type="grayscale"), image_size, frame_skip)


def _follow(env: gymnasium.Env) -> None:
    """Renders a MuJoCo environment through its model's camera that follows the body, if there is one.

    Gymnasium 1.4 uses a fixed camera, which loses sight of the body.
    """
    renderer = getattr(env.unwrapped, "mujoco_renderer", None)
    if renderer is not None and renderer.camera_id == -1:
        import mujoco

        renderer.camera_id = mujoco.mj_name2id(renderer.model, mujoco.mjtObj.mjOBJ_CAMERA, FOLLOWING)


def find(env_id: str) -> EnvSpec:
    """The registry's entry, after the import of the module that registers it. Raises UserError if there is none."""
    module, _, name = env_id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(f"env is {env_id}, but {module} cannot be imported: {_one_line(error)}") from error
    if name.startswith(ROBOTICS) and name not in gymnasium.registry:
        _register_robotics(env_id)
    if name not in gymnasium.registry:
        close = names.advice_for_id(name) or did_you_mean(name, gymnasium.registry)
        advice = close or (
            "; gymnasium.pprint_registry() lists all names; write module:Id for one that another module registers"
        )
        raise UserError(f"env is {env_id}, but no environment {name} is registered{advice}")
    return gymnasium.registry[name]


def _register_robotics(env_id: str) -> None:
    """Adds the environments of gymnasium-robotics to the registry. Raises UserError if it is not installed."""
    try:
        import gymnasium_robotics
    except ImportError as error:
        raise UserError(
            f"env is {env_id}, but Fetch environments need {error.name}, which is not installed: pip install "
            "'sacae[robotics]'"
        ) from None
    gymnasium.register_envs(gymnasium_robotics)


def _time_limit(env: gymnasium.Env) -> int:
    """Environment steps until the time limit."""
    spec = env.spec
    assert spec is not None  # gymnasium.make sets it.
    limits = spec.max_episode_steps, spec.kwargs.get("max_num_frames_per_episode")  # The second is Atari's.
    return min(limit for limit in limits if limit)


def _check_seed(seed: int | None) -> None:
    if seed is not None and seed < 0:
        raise UserError(f"seed is {seed}, but it must be 0 or more; change --seed")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
