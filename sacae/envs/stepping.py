"""Several environments stepped together, with the episode's end and the next one's start in one result.

Actions are sent and results received in two calls. With a `ProcessStepper` the environments work between the two,
while the caller does something else; with a `SerialStepper` they work inside the second. The results are the same to
the last bit.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from gymnasium import spaces

from sacae.envs.actions import num_actions_of


class Env(Protocol):
    """What an environment offers: `DMCEnv`, `GymEnv`, and `DiscretisedEnv` around one of them.

    observation_space: a Box, uint8 (C, H, W) for pixels, float32 (D,) for a state vector.
    action_space: a Box, float32 (A,) in [-1, 1]; or MultiDiscrete, int64 (A,), equally many choices in each dimension.
    state_space: a Box, float32 (S,), what `state` returns; only DeepMind Control has both.
    max_episode_steps: agent steps until the time limit; None where there is none.
    render_seconds: wall-clock seconds spent rendering so far.
    metadata: has "render_fps", the frames per second of a video with one frame for each agent step.
    """

    observation_space: spaces.Box
    action_space: spaces.Box | spaces.MultiDiscrete
    state_space: spaces.Box
    max_episode_steps: int | None
    render_seconds: float
    metadata: dict[str, Any]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Starts an episode, which depends on `seed` alone where there is one. Returns (obs, info)."""

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Takes an action (A,); returns (obs, reward, terminated, truncated, info)."""

    def state(self) -> np.ndarray:
        """The physical state that the latest observation shows, float32 (S,)."""

    def render(self, height: int | None = None, width: int | None = None) -> np.ndarray:
        """An image of what is now, uint8 (height, width, 3)."""

    def snapshot(self) -> dict[str, Any]:
        """What `restore` needs to come back to this moment, of plain values; "actions" are the running episode's."""

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Comes back exactly to where `snapshot` was made in an environment of the same arguments."""

    def close(self) -> None:
        """Frees the environment."""


Recipe = Callable[[], Env]
"""Builds an environment, such as functools.partial(envs.make, "cheetah", "run", seed=1)."""


class StepResult(NamedTuple):
    """What N environments answer to N actions.

    frame: (N, *frame_shape), the frame after the action, also where the episode ended.
    reward: float64 (N,), summed over the repeated action.
    terminated, truncated: bool (N,).
    first_frame: for each environment, the first frame of its next episode, or None where the episode goes on.
    state, first_state: for each environment, the physical state that those frames show, or None where it is not kept.
    success: for each environment, info["is_success"] of the step; None where the environment does not report it.
    """

    frame: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    first_frame: list[np.ndarray | None]
    state: list[np.ndarray | None]
    first_state: list[np.ndarray | None]
    success: list[bool | None]

    def next_obs(self) -> np.ndarray:
        """(N, *frame_shape): the frames that the next actions answer to, which after an episode's end are new."""
        frames = self.frame.copy()
        for i, first_frame in enumerate(self.first_frame):
            if first_frame is not None:
                frames[i] = first_frame
        return frames


@dataclass(frozen=True)
class EnvInfo:
    """What the caller of a stepper must know of its environments, which are alike in this.

    frame_shape: shape of one observation, (C, H, W) for pixels, (D,) for a state vector.
    frame_dtype: its NumPy name, "uint8" for pixels, "float32" for state vectors.
    action_dim: number of action dimensions.
    max_episode_steps: agent steps until the time limit; None where there is none.
    num_actions: choices in each action dimension; None where they are continuous, in [-1, 1].
    state_dim: length of the physical state kept beside each frame; 0 where none is kept.
    """

    frame_shape: tuple[int, ...]
    frame_dtype: str
    action_dim: int
    max_episode_steps: int | None
    num_actions: int | None = None
    state_dim: int = 0

    @property
    def action_dtype(self) -> str:
        """NumPy name of an action's dtype: "float32" where it is continuous, "int64" where it is a choice."""
        return "float32" if self.num_actions is None else "int64"

    @classmethod
    def of(cls, env: Env, keep_state: bool = False) -> "EnvInfo":
        """The description of an environment, whose physical state is kept or not."""
        return cls(
            frame_shape=tuple(env.observation_space.shape),
            frame_dtype=env.observation_space.dtype.name,
            action_dim=env.action_space.shape[0],
            max_episode_steps=env.max_episode_steps,
            num_actions=num_actions_of(env.action_space),
            state_dim=env.state_space.shape[0] if keep_state else 0,
        )


class Stepper(Protocol):
    """What both steppers offer.

    env_info: what the environments have in common.
    seconds: wall-clock seconds so far, to be read and set back to 0 by the caller: "env" and "render", which the
        environments spent simulating and rendering (a ProcessStepper counts the slowest one at each step, since that
        is the time until all have answered); "wait", which the caller spent in `receive`.
    """

    env_info: EnvInfo
    seconds: dict[str, float]

    def reset(self) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
        """Starts an episode in each environment; an unanswered action is dropped.

        Returns the first frames, and the physical states that they show, None where these are not kept.
        """

    def send(self, actions: np.ndarray) -> None:
        """Hands over (N, A) actions: float32 in [-1, 1], or int64 choices.

        Raises RuntimeError where the last ones are unanswered, TypeError for fractions where there are choices.
        """

    def receive(self) -> StepResult:
        """The answer to the actions sent last, in arrays that stay as they are. Raises RuntimeError without any."""

    def snapshot(self) -> list[dict[str, Any]]:
        """What `restore` needs to go on from the last received result: each episode's start and its actions.

        Actions that were sent but not answered are not in it, and are to be sent again after `restore`. Asks no
        environment, so that it can be had at any time, also after an environment has failed.
        """

    def restore(self, snapshots: Sequence[dict[str, Any]]) -> None:
        """Takes the environments, of the same arguments, to where `snapshot` was made, without rendering."""

    def close(self) -> None:
        """Frees the environments; may be called again."""


class SerialStepper:
    """Steps environments one after another in this process, while the caller waits. See `Stepper`."""

    def __init__(self, envs: Sequence[Env], keep_state: bool = False) -> None:
        """Takes over environments, whose `EnvInfo` must be the same (else ValueError).

        keep_state: whether their physical states come with the frames.
        """
        self.envs = envs
        self.env_info = common_info([EnvInfo.of(env, keep_state) for env in envs])
        self.seconds = {"env": 0.0, "render": 0.0, "wait": 0.0}
        self._history = EpisodeHistory(self.env_info.action_dtype)

    def reset(self) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
        """See `Stepper`."""
        frames = [env.reset()[0] for env in self.envs]
        self._history.begin([env.snapshot() for env in self.envs])
        return frames, [env.state() if self._keeps_state else None for env in self.envs]

    def send(self, actions: np.ndarray) -> None:
        """See `Stepper`. Nothing is done before `receive`."""
        self._history.send(actions)

    def receive(self) -> StepResult:
        """See `Stepper`."""
        actions = self._history.unanswered()
        answers = [take_step(env, action, self._keeps_state) for env, action in zip(self.envs, actions)]
        self._history.receive([answer.start for answer in answers])
        for name in ("env", "render"):
            seconds = sum(answer.seconds[name] for answer in answers)
            self.seconds[name] += seconds
            self.seconds["wait"] += seconds
        return StepResult(
            np.stack([answer.frame for answer in answers]),
            np.array([answer.reward for answer in answers]),
            np.array([answer.terminated for answer in answers]),
            np.array([answer.truncated for answer in answers]),
            [answer.first_frame for answer in answers],
            [answer.state for answer in answers],
            [answer.first_state for answer in answers],
            [answer.success for answer in answers],
        )

    @property
    def _keeps_state(self) -> bool:
        return self.env_info.state_dim > 0

    def snapshot(self) -> list[dict[str, Any]]:
        """See `Stepper`."""
        return self._history.snapshot()

    def restore(self, snapshots: Sequence[dict[str, Any]]) -> None:
        """See `Stepper`."""
        for env, snapshot in zip(self.envs, snapshots, strict=True):
            env.restore(snapshot)
        self._history.restore(snapshots)

    def close(self) -> None:
        """See `Stepper`."""
        for env in self.envs:
            env.close()


# What both steppers are made of.


class Answer(NamedTuple):
    """What one environment answers to one action, and after an episode's end how the next one starts.

    frame, reward, terminated, truncated: as from the environment. first_frame, start: the next episode's first frame
    and snapshot; None where the episode goes on. seconds: "env" and "render", wall-clock. state, first_state: the
    physical states that the frames show; None where they are not kept. success: info["is_success"], None without.
    """

    frame: np.ndarray
    reward: float
    terminated: bool
    truncated: bool
    first_frame: np.ndarray | None
    start: dict[str, Any] | None
    seconds: dict[str, float]
    state: np.ndarray | None
    first_state: np.ndarray | None
    success: bool | None


def take_step(env: Env, action: np.ndarray, keep_state: bool) -> Answer:
    """Takes a step with an action (A,), and starts the next episode where it ends this one."""
    started, rendered = time.perf_counter(), env.render_seconds
    frame, reward, terminated, truncated, info = env.step(action)
    state = env.state() if keep_state else None
    first_frame = start = first_state = None
    if terminated or truncated:
        first_frame, _ = env.reset()
        start = env.snapshot()
        first_state = env.state() if keep_state else None
    render = env.render_seconds - rendered
    seconds = {"env": time.perf_counter() - started - render, "render": render}
    success = bool(info["is_success"]) if "is_success" in info else None
    return Answer(frame, reward, terminated, truncated, first_frame, start, seconds, state, first_state, success)


def common_info(infos: Sequence[EnvInfo]) -> EnvInfo:
    """The description that all environments share. Raises ValueError where they differ."""
    if any(info != infos[0] for info in infos):
        raise ValueError(f"environments that are stepped together must be alike, but these differ: {infos}")
    return infos[0]


class EpisodeHistory:
    """How each environment came to where it is: its episode's start, and the actions that it answered since."""

    def __init__(self, action_dtype: str) -> None:
        self._action_dtype = action_dtype
        self._starts: list[dict[str, Any]] = []
        self._actions: list[list[Any]] = []
        self._sent: np.ndarray | None = None

    @property
    def waiting(self) -> bool:
        """Whether actions were sent and not answered yet."""
        return self._sent is not None

    def begin(self, starts: Sequence[dict[str, Any]]) -> None:
        """Notes that each environment has started an episode, with these snapshots."""
        self._starts, self._actions, self._sent = list(starts), [[] for _ in starts], None

    def send(self, actions: np.ndarray) -> None:
        """Notes the (N, A) actions sent. Raises RuntimeError where the last ones are unanswered, TypeError for
        fractions where there are choices."""
        if self.waiting:
            raise RuntimeError("actions were sent before the last ones were answered: call receive() in between")
        # A copy: the caller may use its array again.
        self._sent = np.asarray(actions).astype(self._action_dtype, casting="same_kind")

    def unanswered(self) -> np.ndarray:
        """The (N, A) actions sent last. Raises RuntimeError where they are answered."""
        if self._sent is None:
            raise RuntimeError("there is no answer to receive: call send() first")
        return self._sent

    def receive(self, starts: Sequence[dict[str, Any] | None]) -> None:
        """Notes that the actions were answered; `starts` has a snapshot where the next episode has started."""
        for i, (action, start) in enumerate(zip(self.unanswered(), starts)):
            if start is None:
                self._actions[i].append(action)
            else:
                self._starts[i], self._actions[i] = start, []
        self._sent = None

    def snapshot(self) -> list[dict[str, Any]]:
        """For each environment what its `restore` needs; later steps do not change it."""
        return [start | {"actions": list(taken)} for start, taken in zip(self._starts, self._actions)]

    def restore(self, snapshots: Sequence[dict[str, Any]]) -> None:
        """Takes over what `snapshot` returned."""
        self.begin(snapshots)
        self._actions = [list(snapshot["actions"]) for snapshot in snapshots]
