"""What environments and steppers offer to the rest of the package. This module imports nothing of the package."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Frame: TypeAlias = NDArray[np.uint8 | np.float32]
"""One observation: an image, uint8 (C, H, W), or a state vector, float32 (D,)."""

Action: TypeAlias = NDArray[np.float32 | np.int64]
"""One action (A,), or the actions (N, A) of N environments: float32 in [-1, 1], or int64 choices from 0."""

State: TypeAlias = NDArray[np.float32]
"""A physical state, float32 (S,)."""

Info: TypeAlias = dict[str, Any]
"""What an environment reports beside a step, as in Gymnasium."""

Snapshot: TypeAlias = Mapping[str, Any]
"""A moment of an environment. Dicts, lists, strings and numbers; "actions" may also hold arrays (A,)."""


class Env(Protocol):
    """An environment: `DMCEnv`, `GymEnv`, or a `DiscretisedEnv` around one of them."""

    @property
    def observation_space(self) -> spaces.Box:
        """Images, uint8 (C, H, W), or state vectors, float32 (D,)."""

    @property
    def action_space(self) -> spaces.Box | spaces.MultiDiscrete:
        """Box: float32 (A,) in [-1, 1]. MultiDiscrete: int64 (A,), with the same number of choices everywhere."""

    @property
    def state_space(self) -> spaces.Box | None:
        """What `state` returns, float32 (S,); None where the physical state is unknown, as it is in Gymnasium."""

    @property
    def max_episode_steps(self) -> int | None:
        """Agent steps until the time limit; None where there is none."""

    @property
    def metadata(self) -> dict[str, Any]:
        """Has "render_fps": frames per second of a video with one frame for each agent step."""

    @property
    def render_mode(self) -> str | None:
        """Either "rgb_array" or, where the environment cannot render, None."""

    @property
    def render_seconds(self) -> float:
        """Wall-clock seconds spent rendering so far."""

    @property
    def last_info(self) -> Info:
        """The info of the latest `step`, even if the next episode has begun since; {} before the first step."""

    @property
    def original(self) -> gymnasium.Env | None:
        """The environment as its author wrote it, to read its attributes, not to step it; None for DeepMind Control."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Frame, Info]:
        """Starts an episode, which depends on `seed` alone if one is given. Returns (obs, info)."""

    def step(self, action: Action) -> tuple[Frame, float, bool, bool, Info]:
        """Takes an action (A,). Returns (obs, reward, terminated, truncated, info)."""

    def state(self) -> State:
        """The physical state in the latest observation, float32 (S,).

        Raises NotImplementedError where `state_space` is None.
        """

    def physics_state(self) -> NDArray[np.float64]:
        """The simulator's state, float64. Raises NotImplementedError where `state_space` is None."""

    def physics_coordinates(self) -> dict[str, float]:
        """The numbers in `physics_state` by name. Raises NotImplementedError where `state_space` is None."""

    def render(self, height: int | None = None, width: int | None = None) -> NDArray[np.uint8]:
        """An image of the present moment, uint8 (height, width, 3)."""

    def snapshot(self) -> dict[str, Any]:
        """What `restore` needs to return to this moment; "actions" are those of the running episode."""

    def restore(self, snapshot: Snapshot) -> float:
        """Returns exactly to the moment of `snapshot`, which an environment with the same arguments made.

        Returns the sum of the rewards of the actions that it repeats.
        """

    def close(self) -> None:
        """Frees the environment."""


Recipe: TypeAlias = Callable[[], Env]
"""Builds an environment, such as functools.partial(envs.make, "cheetah", "run", seed=1)."""


def num_actions_of(space: spaces.Space[Any]) -> int | None:
    """Choices in each action dimension; None where actions are continuous."""
    return int(space.nvec[0]) if isinstance(space, spaces.MultiDiscrete) else None


@dataclass(frozen=True)
class EnvInfo:
    """What the environments of a stepper have in common.

    frame_shape: shape of one observation, (C, H, W) for pixels, (D,) for a state vector.
    frame_dtype: its NumPy name, "uint8" for pixels, "float32" for state vectors.
    action_dim: number of action dimensions.
    max_episode_steps: agent steps until the time limit; None where there is none.
    num_actions: choices in each action dimension; None where actions are continuous, in [-1, 1].
    state_dim: length of the physical state stored with each frame; 0 where none is stored.
    """

    frame_shape: tuple[int, ...]
    frame_dtype: str
    action_dim: int
    max_episode_steps: int | None
    num_actions: int | None = None
    state_dim: int = 0

    @property
    def action_dtype(self) -> str:
        """NumPy name of an action's dtype: "float32" for continuous actions, "int64" for choices."""
        return "float32" if self.num_actions is None else "int64"

    @classmethod
    def of(cls, env: Env, keep_state: bool = False) -> "EnvInfo":
        """Describes an environment.

        keep_state: whether its physical state is stored. Raises ValueError if so and the state is unknown.
        """
        return cls(
            frame_shape=tuple(env.observation_space.shape),
            frame_dtype=env.observation_space.dtype.name,
            action_dim=env.action_space.shape[0],
            max_episode_steps=env.max_episode_steps,
            num_actions=num_actions_of(env.action_space),
            state_dim=_state_dim(env) if keep_state else 0,
        )


def _state_dim(env: Env) -> int:
    if env.state_space is None:
        raise ValueError("keep_state is True, but the environment does not report its physical state")
    return env.state_space.shape[0]


class Failure(NamedTuple):
    """Something that went wrong with an environment.

    environment: its number.
    what: such as "raised RuntimeError: no ball".
    when: such as "at step 60 of its episode", counted from 1.
    consequence: such as "the episode is cut off".
    ends_run: whether training must not go on.
    """

    environment: int
    what: str
    when: str
    consequence: str
    ends_run: bool = False

    @property
    def text(self) -> str:
        """One line that says all of it but the consequence."""
        return f"environment {self.environment} {self.what} {self.when}"


class StepResult(NamedTuple):
    """The results of one step of N environments.

    frame: (N, *frame_shape), the frame after the action, at an episode's end too.
    reward: float64 (N,), summed over the repeated action.
    terminated, truncated: bool (N,).
    first_frame: for each environment the first frame of its next episode; None while the episode continues.
    state, first_state: for each environment the physical states in `frame` and `first_frame`; None where not stored.
    success: for each environment what the step's info says, is_success or else success; None where it has neither.
    lost: the numbers of the environments whose step failed. Their episode ended before this step, truncated, and the
        next one began with `first_frame`. Nothing is to be learned from their action; their reward here is 0.
    """

    frame: Frame
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    first_frame: list[Frame | None]
    state: list[State | None]
    first_state: list[State | None]
    success: list[bool | None]
    lost: frozenset[int] = frozenset()

    def next_obs(self) -> Frame:
        """(N, *frame_shape): what the next actions respond to; after an episode's end the next one's first frame."""
        frames = self.frame.copy()
        for i, first_frame in enumerate(self.first_frame):
            if first_frame is not None:
                frames[i] = first_frame
        return frames


class Stepper(Protocol):
    """Steps N environments together: `SerialStepper` or `ProcessStepper`.

    An environment that fails does not end the others. If it raises an error or returns what cannot be learned from, its
    episode is cut off and it is reset; if its process has ended, another one takes its place. Errors in a reset are
    followed by other resets. `reset`, `receive` and `restore` raise EnvironmentFailed if one cannot be reset, and pass
    on its UserErrors.

    failures: what went wrong since the caller last cleared it.
    seconds: wall-clock seconds since the caller last set them to 0. "env" and "render": simulating and rendering; a
        ProcessStepper adds those of the slowest environment at each step. "wait": the caller's time in `receive`.
    """

    failures: list[Failure]
    seconds: dict[str, float]

    @property
    def env_info(self) -> EnvInfo:
        """What the environments have in common."""

    def reset(self) -> tuple[list[Frame], list[State | None]]:
        """Starts an episode in each environment and drops an action whose result was not received.

        Returns the first frames and their physical states, None where these are not stored.
        """

    def send(self, actions: Action) -> None:
        """Sends (N, A) actions: float32 in [-1, 1], or int64 choices.

        Raises RuntimeError if the last result was not received, TypeError for fractions where actions are choices.
        """

    def receive(self) -> StepResult:
        """The result of the actions sent last, in arrays that later steps do not change.

        Raises RuntimeError if there are none.
        """

    def snapshot(self) -> list[dict[str, Any]]:
        """What `restore` needs to continue after the last received result: each episode's start and its actions.

        It leaves out actions whose result was not received: send them again after `restore`. It needs no environment,
        so it works at any time, even after an environment has failed.
        """

    def restore(self, snapshots: Sequence[Snapshot]) -> list[float | None]:
        """Returns to the moment of `snapshot`, which a stepper with the same arguments made. Renders nothing.

        Returns for each environment the sum of the rewards in its repeated episode; None if it could not be repeated.
        If there is a None, call `reset`.
        """

    def close(self) -> None:
        """Frees the environments; may be called again."""
