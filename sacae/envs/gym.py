"""`GymEnv`: any environment of Gymnasium's registry as a `sacae.envs.contract.Env`."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from sacae.config import ATARI
from sacae.envs.actions import as_action
from sacae.envs.arguments import check_whole, named_arguments
from sacae.envs.contract import Action, Frame, Info, Snapshot, State
from sacae.envs.faults import as_number
from sacae.envs.making import as_registered, close, draw, make, make_atari, time_limit
from sacae.envs.rendered import as_rendered, fitted
from sacae.envs.seeds import as_seed
from sacae.envs.spaces import as_images, as_images_with_vectors, as_vectors, has_image, is_image, with_actions
from sacae.errors import UserError

USUAL_FPS = 30.0
"""Frames per second of a video where the environment does not define them."""

EPISODE_SEEDS = 2**31 - 1
"""Seeds of episodes are below this number; every environment accepts them."""


class GymEnv(gymnasium.Env):
    """An environment of Gymnasium's registry.

    Actions are float32 (A,) in [-1, 1], scaled to the environment's bounds, where it has a Box of actions; int64 (A,)
    choices from 0 where it has Discrete or MultiDiscrete ones. Observations are the float32 (D,) state, with
    dictionaries and tuples flattened and discrete entries as one-hot vectors; or one uint8 image (C, H, W). The image
    is the environment's own observation if that is one, otherwise what it renders: uint8 (3, H, W), scaled with its
    proportions kept, between black bars. Only the last frame of a held action is rendered.

    Each episode starts from a seed of its own, drawn from this environment's random stream. An episode can therefore
    be repeated exactly if the environment depends on its seed alone.

    Atari games (ALE/...) show one grey image (1, H, W): at each pixel the larger value of a step's last two game
    frames. An episode starts with 1 to 30 steps without action. Then, and after each lost life, the fire button is
    pressed if the game has one.

    registered: the environment with the wrappers of its own, and none of this package or `gymnasium.make`.
    max_episode_steps: agent steps until the time limit, LONGEST_EPISODE environment steps where it has none.
    render_seconds: wall-clock seconds spent rendering so far.
    last_info: see `Env`.
    state_space: of `state`, float32 (S,), with `with_state`; None without, for Gymnasium has no common access to the
        physical state.
    """

    metadata = {"render_modes": ["rgb_array"]}
    state_space: spaces.Box | None = None
    action_space: spaces.Box | spaces.MultiDiscrete
    observation_space: spaces.Box

    def __init__(
        self,
        env_id: str,
        seed: int | None = None,
        from_pixels: bool = False,
        image_size: int = 84,
        action_repeat: int = 1,
        env_kwargs: Mapping[str, Any] | None = None,
        with_state: bool = False,
    ) -> None:
        """Makes the environment.

        env_id: a name in Gymnasium's registry, such as "Pendulum-v1"; module:Id imports the module that registers it.
        seed: 0 or more; the episodes are drawn from it. None draws a seed.
        from_pixels: observe images; the environment must show them as its observations, or render.
        image_size: height and width of an image; others are scaled to it.
        action_repeat: environment steps for which each action is held; their rewards are summed.
        with_state: with from_pixels, report in `state` what the environment shows beside its one image, or, where it
            shows no image, all that it shows beside the frame that it renders.
        env_kwargs: arguments for `gymnasium.make`, such as {"max_episode_steps": 100} or those of the environment.

        Raises UserError if no such environment exists, a package that it needs is missing, its observations or actions
        are of no kind described above, or an argument is out of range or unknown.
        """
        check_whole(image_size=image_size, action_repeat=action_repeat)
        env_id, given = str(env_id), named_arguments("env_kwargs", env_kwargs)
        seed = as_seed(seed)
        self.render_seconds = 0.0
        self._id = env_id
        is_atari = env_id.startswith(ATARI)
        env = make_atari(env_id, given, image_size, action_repeat) if is_atari else make(env_id, given)
        self.registered = env.unwrapped if is_atari else as_registered(env)
        self._steps_held = 1 if is_atari else action_repeat  # Atari's preprocessing repeats actions itself.
        self._observe_as(env, from_pixels, image_size, with_state)
        self.max_episode_steps = math.ceil(time_limit(env) / action_repeat)
        self._env, self.action_space, self._control = with_actions(env_id, env)
        self.render_mode = self._env.render_mode
        fps = self._env.metadata.get("render_fps") or USUAL_FPS
        self.metadata = {**self.metadata, "render_fps": fps / self._steps_held}
        super().reset(seed=seed)
        self._random_state = self.np_random.bit_generator.state
        self._actions: list[NDArray[Any]] = []
        self._started = self._running = False
        self.last_info: Info = {}
        self._shown: Any = None

    def _observe_as(self, env: gymnasium.Env, from_pixels: bool, image_size: int, with_state: bool) -> None:
        """Defines the observations. Raises UserError if the environment does not have such."""
        shown = env.observation_space
        self._observed: Callable[[Any], Frame]
        self._vector: Callable[[Any], Frame] | None = None
        if with_state and (has_image(shown) or env.render_mode is None):
            image, vector = as_images_with_vectors(self._id, shown, image_size)
            (self.observation_space, self._observed), (self.state_space, self._vector) = image, vector
        elif from_pixels and env.render_mode is not None and not is_image(shown):
            if with_state:
                self.state_space, self._vector = as_vectors(self._id, shown, image_size)
            self.observation_space, frame = as_rendered(self._id, env, image_size)
            self._observed = lambda _: self._timed(frame)
        else:
            translate = as_images if from_pixels else as_vectors
            self.observation_space, self._observed = translate(self._id, shown, image_size)

    def _timed(self, render: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """What `render` returns; its time counts as rendering."""
        started = time.perf_counter()
        try:
            return render()
        finally:
            self.render_seconds += time.perf_counter() - started

    @property
    def original(self) -> gymnasium.Env:
        """See `Env`."""
        return self._env.unwrapped

    # An episode.

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Frame, Info]:
        """Starts an episode, drawn from `seed` or, without one, from the random stream. Returns (obs, info).

        options are ignored. Raises UserError if seed is out of range.
        """
        super().reset(seed=as_seed(seed))
        observation, info = self._begin_episode()
        return self._observed(observation), info

    def step(self, action: Action) -> tuple[Frame, float, bool, bool, Info]:
        """Holds an action (A,) for `action_repeat` environment steps, fewer if the episode ends.

        Returns (obs, summed reward, terminated, truncated, info); truncated is True at a time limit.

        Raises gymnasium.error.ResetNeeded if no episode is running, InvalidAction for an action of
        another shape, or a choice outside the space; numbers beyond a box's bounds are clipped.
        """
        if not self._running:
            raise gymnasium.error.ResetNeeded("no episode is running: call reset() before step()")
        observation, reward, terminated, truncated, info = self._advance(as_action(self.action_space, action))
        return self._observed(observation), reward, terminated, truncated, info

    def _begin_episode(self) -> tuple[Any, Info]:
        self._random_state = self.np_random.bit_generator.state
        self._actions = []
        self._started = self._running = True
        self._shown, info = self._env.reset(seed=int(self.np_random.integers(EPISODE_SEEDS)))
        return self._shown, info

    def _advance(self, action: NDArray[Any]) -> tuple[Any, float, bool, bool, Info]:
        self._actions.append(action)
        control = self._control(action)
        total_reward = 0.0
        for _ in range(self._steps_held):
            observation, reward, terminated, truncated, info = self._env.step(control)
            total_reward += as_number(reward)
            if terminated or truncated:
                self._running = False
                break
        self.last_info, self._shown = info, observation
        return observation, total_reward, bool(terminated), bool(truncated), info

    def state(self) -> State:
        """What there is beside the image, float32 (S,). Raises NotImplementedError without `with_state`."""
        if self._vector is None:
            raise self._no_state()
        return self._vector(self._shown).astype(np.float32, copy=False)

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
        if self.render_mode is None:
            raise UserError(f"env is {self._id}, which cannot render; choose another --env or leave the video out")

        def drawn() -> NDArray[np.uint8]:
            image = draw(self._id, self._env)
            own_height, own_width, _ = image.shape
            return fitted(image, own_height if height is None else height, own_width if width is None else width)

        return self._timed(drawn)

    def close(self) -> None:
        """Frees the environment. Afterwards only close may be called."""
        self._running = False
        close(self._env)

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
