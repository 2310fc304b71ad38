"""Several environments stepped together in this process, and the parts that every stepper shares.

Actions are sent and results received in two calls. A `ProcessStepper` runs its environments between the two calls,
while the caller does something else; a `SerialStepper` runs them in the second call. The results are identical, to the
last bit. A result at an episode's end also holds the start of the next episode.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sacae.envs.contract import Action, Env, EnvInfo, Frame, Snapshot, State, StepResult
from sacae.signals import may_be_abandoned


class SerialStepper:
    """Steps environments one after another in this process, while the caller waits. See `Stepper`."""

    def __init__(self, envs: Sequence[Env], keep_state: bool = False) -> None:
        """Owns the environments from here on.

        keep_state: whether each frame comes with its physical state.

        Raises ValueError if the environments differ in their `EnvInfo`, or their physical state is unknown.
        """
        self.envs = envs
        self.env_info = common_info([EnvInfo.of(env, keep_state) for env in envs])
        self.seconds = {"env": 0.0, "render": 0.0, "wait": 0.0}
        self._history = EpisodeHistory(self.env_info.action_dtype)

    def reset(self) -> tuple[list[Frame], list[State | None]]:
        """See `Stepper`."""
        frames = [env.reset()[0] for env in self.envs]
        self._history.begin([env.snapshot() for env in self.envs])
        return frames, [env.state() if self._keeps_state else None for env in self.envs]

    def send(self, actions: Action) -> None:
        """See `Stepper`. The environments step in `receive`."""
        self._history.send(actions)

    def receive(self) -> StepResult:
        """See `Stepper`."""
        actions = self._history.unanswered()
        with may_be_abandoned():
            answers = [take_step(env, action, self._keeps_state) for env, action in zip(self.envs, actions)]
        self._history.receive([answer.start for answer in answers])
        for name in ("env", "render"):
            seconds = sum(answer.seconds[name] for answer in answers)
            self.seconds[name] += seconds
            self.seconds["wait"] += seconds
        return StepResult(
            frame=np.stack([answer.frame for answer in answers]),
            reward=np.array([answer.reward for answer in answers]),
            terminated=np.array([answer.terminated for answer in answers]),
            truncated=np.array([answer.truncated for answer in answers]),
            first_frame=[answer.first_frame for answer in answers],
            state=[answer.state for answer in answers],
            first_state=[answer.first_state for answer in answers],
            success=[answer.success for answer in answers],
        )

    @property
    def _keeps_state(self) -> bool:
        return self.env_info.state_dim > 0

    def snapshot(self) -> list[dict[str, Any]]:
        """See `Stepper`."""
        return self._history.snapshot()

    def restore(self, snapshots: Sequence[Snapshot]) -> None:
        """See `Stepper`."""
        for env, snapshot in zip(self.envs, snapshots, strict=True):
            env.restore(snapshot)
        self._history.restore(snapshots)

    def close(self) -> None:
        """See `Stepper`."""
        for env in self.envs:
            env.close()


# Parts of both steppers.


class Answer(NamedTuple):
    """The result of one step of one environment and, at an episode's end, the start of the next episode.

    frame, reward, terminated, truncated: as the environment returned them.
    first_frame, start: the next episode's first frame and its snapshot; None while the episode continues.
    seconds: wall-clock, "env" and "render".
    state, first_state: the physical states in `frame` and `first_frame`; None where they are not stored.
    success: info["is_success"]; None where the environment does not report it.
    """

    frame: Frame
    reward: float
    terminated: bool
    truncated: bool
    first_frame: Frame | None
    start: dict[str, Any] | None
    seconds: dict[str, float]
    state: State | None
    first_state: State | None
    success: bool | None


def take_step(env: Env, action: Action, keep_state: bool) -> Answer:
    """Takes an action (A,). Starts the next episode if this one ends."""
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
    """The description that all environments share. Raises ValueError if they differ."""
    if any(info != infos[0] for info in infos):
        raise ValueError(f"environments that are stepped together must be alike, but these differ: {infos}")
    return infos[0]


class EpisodeHistory:
    """The start of each environment's running episode, and its actions whose result was received."""

    def __init__(self, action_dtype: str) -> None:
        self._action_dtype = action_dtype
        self._starts: list[Snapshot] = []
        self._actions: list[list[Any]] = []
        self._sent: Action | None = None

    @property
    def waiting(self) -> bool:
        """Whether actions were sent and their result not received."""
        return self._sent is not None

    def begin(self, starts: Sequence[Snapshot]) -> None:
        """Records that each environment has started an episode, with these snapshots."""
        self._starts, self._actions, self._sent = list(starts), [[] for _ in starts], None

    def send(self, actions: Action) -> None:
        """Records (N, A) actions as sent.

        Raises RuntimeError if the last result was not received, TypeError for fractions where actions are choices.
        """
        if self.waiting:
            raise RuntimeError("actions were sent before the last result was received: call receive() in between")
        # A copy: the caller may use its array again.
        self._sent = np.asarray(actions).astype(self._action_dtype, casting="same_kind")

    def unanswered(self) -> Action:
        """The (N, A) actions sent last. Raises RuntimeError if their result was received."""
        if self._sent is None:
            raise RuntimeError("there is no result to receive: call send() first")
        return self._sent

    def receive(self, starts: Sequence[Snapshot | None]) -> None:
        """Records a result; `starts` has the snapshot of each episode that has just started, otherwise None."""
        for i, (action, start) in enumerate(zip(self.unanswered(), starts)):
            if start is None:
                self._actions[i].append(action)
            else:
                self._starts[i], self._actions[i] = start, []
        self._sent = None

    def snapshot(self) -> list[dict[str, Any]]:
        """What each environment's `restore` needs; later steps do not change it."""
        return [{**start, "actions": list(taken)} for start, taken in zip(self._starts, self._actions)]

    def restore(self, snapshots: Sequence[Snapshot]) -> None:
        """Continues from `snapshot`'s return value."""
        self.begin(snapshots)
        self._actions = [list(snapshot["actions"]) for snapshot in snapshots]
