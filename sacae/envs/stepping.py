"""Several environments stepped together in this process, and the parts that every stepper shares.

Actions are sent and results received in two calls. A `ProcessStepper` runs its environments between the two calls,
while the caller does something else; a `SerialStepper` runs them in the second call. The results are identical, to the
last bit. A result at an episode's end also holds the start of the next episode.
"""

import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sacae.envs.contract import Action, Env, EnvInfo, Failure, Frame, Info, Snapshot, State, StepResult
from sacae.envs.faults import RAISED, Fault, check_observation, check_reward, check_state
from sacae.errors import EnvironmentFailed, UserError
from sacae.signals import may_be_abandoned


class SerialStepper:
    """Steps environments one after another in this process, while the caller waits. See `Stepper`.

    An environment that ends its process, with `os._exit` or in a crash, ends the training too.
    """

    def __init__(self, envs: Sequence[Env], keep_state: bool = False, max_errors: int = 0) -> None:
        """Owns the environments from here on.

        keep_state: whether each frame comes with its physical state.
        max_errors: how many resets of an environment may fail in a row.

        Raises ValueError if the environments differ in their `EnvInfo`, or their physical state is unknown.
        """
        self.envs = envs
        self.env_info = common_info([EnvInfo.of(env, keep_state) for env in envs])
        self.seconds = {"env": 0.0, "render": 0.0, "wait": 0.0}
        self.failures: list[Failure] = []
        self._max_errors = max_errors
        self._history = EpisodeHistory(self.env_info.action_dtype)

    def reset(self) -> tuple[list[Frame], list[State | None]]:
        """See `Stepper`."""
        begun = [begin_episode(env, self.env_info, self._max_errors, number) for number, env in enumerate(self.envs)]
        self.failures += self._history.failures([(False, start.faults) for start in begun])
        self._history.begin([start.snapshot for start in begun])
        return [start.frame for start in begun], [start.state for start in begun]

    def send(self, actions: Action) -> None:
        """See `Stepper`. The environments step in `receive`."""
        self._history.send(actions)

    def receive(self) -> StepResult:
        """See `Stepper`."""
        actions = self._history.unanswered()
        with may_be_abandoned():
            answers = [
                take_step(env, action, self.env_info, self._max_errors, number)
                for number, (env, action) in enumerate(zip(self.envs, actions))
            ]
        self.failures += self._history.failures([(answer.lost, answer.faults) for answer in answers])
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
            lost=frozenset(i for i, answer in enumerate(answers) if answer.lost),
        )

    def snapshot(self) -> list[dict[str, Any]]:
        """See `Stepper`."""
        return self._history.snapshot()

    def restore(self, snapshots: Sequence[Snapshot]) -> list[float | None]:
        """See `Stepper`."""
        results = [repeat(env, snapshot) for env, snapshot in zip(self.envs, snapshots, strict=True)]
        self._history.restore(snapshots)
        self.failures += repeat_failures(results)
        return [result if isinstance(result, float) else None for result in results]

    def close(self) -> None:
        """See `Stepper`."""
        for env in self.envs:
            env.close()


# Parts of both steppers.


class Start(NamedTuple):
    """The start of an episode.

    frame: the first frame. state: the physical state in it; None where it is not stored.
    snapshot: the environment's. faults: those of resets that failed before.
    """

    frame: Frame
    state: State | None
    snapshot: dict[str, Any]
    faults: tuple[Fault, ...]


class Answer(NamedTuple):
    """The result of one step of one environment and, at an episode's end, the start of the next episode.

    frame, reward, terminated, truncated: as the environment returned them.
    first_frame, start: the next episode's first frame and its snapshot; None while the episode continues.
    seconds: wall-clock, "env" and "render".
    state, first_state: the physical states in `frame` and `first_frame`; None where they are not stored.
    success: see `success_of`.
    faults: what went wrong, in the step and in resets. lost: whether the step failed; see `StepResult`.
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
    faults: tuple[Fault, ...] = ()
    lost: bool = False


def take_step(env: Env, action: Action, info: EnvInfo, max_errors: int, number: int) -> Answer:
    """Takes an action (A,). Starts the next episode if this one ends, or has to end because the step fails.

    number: the environment's, for messages. Raises as `begin_episode` does.
    """
    started, rendered = time.perf_counter(), env.render_seconds
    try:
        frame, reward, terminated, truncated, success, state = checked_step(env, action, info)
        fault = None
    except UserError:
        raise
    except RAISED as error:
        fault = Fault.of(error)
    begun = None
    if fault or terminated or truncated:
        begun = begin_episode(env, info, max_errors, number)
    render = env.render_seconds - rendered
    seconds = {"env": time.perf_counter() - started - render, "render": render}
    if begun is None:
        return Answer(frame, reward, terminated, truncated, None, None, seconds, state, None, success)
    first = begun.frame, begun.snapshot, seconds
    if fault:
        faults = (fault, *begun.faults)
        return Answer(begun.frame, 0.0, False, True, *first, begun.state, begun.state, None, faults, lost=True)
    return Answer(frame, reward, terminated, truncated, *first, state, begun.state, success, begun.faults)


def checked_step(env: Env, action: Action, info: EnvInfo) -> tuple[Frame, float, bool, bool, bool | None, State | None]:
    """Takes an action. Returns frame, reward, terminated, truncated, success and, where it is stored, the state.

    Raises BadResult if one of them cannot be learned from, and whatever the environment raises.
    """
    frame, reward, terminated, truncated, said = env.step(action)
    check_observation(frame, info)
    check_reward(reward)
    state = env.state() if info.state_dim else None
    check_state(state)
    return frame, reward, terminated, truncated, success_of(said), state


def success_of(said: Info) -> bool | None:
    """Whether an episode succeeds if it ends with this info: is_success, or else success; None where it has neither.

    Other environments use the word success for other things, and only a truth value or a number counts.
    """
    if "is_success" in said:
        return bool(said["is_success"])
    success = said.get("success")
    return bool(success) if isinstance(success, bool | int | float | np.bool_ | np.number) else None


def begin_episode(env: Env, info: EnvInfo, max_errors: int, number: int) -> Start:
    """Resets an environment, again where that fails.

    Raises EnvironmentFailed if more than `max_errors` resets fail in a row, and passes on its UserErrors.
    """
    faults: list[Fault] = []
    while True:
        try:
            frame, _ = env.reset()
            check_observation(frame, info)
            state = env.state() if info.state_dim else None
            check_state(state)
            return Start(frame, state, env.snapshot(), tuple(faults))
        except UserError:
            raise
        except RAISED as error:
            faults.append(Fault.of(error))
        if len(faults) > max_errors:
            raise no_reset(number, faults)


def no_reset(number: int, faults: Sequence[Fault]) -> EnvironmentFailed:
    """The error for an environment that cannot be reset."""
    times = f", {len(faults)} times in a row" if len(faults) > 1 else ""
    return EnvironmentFailed(
        f"environment {number} {faults[-1].what} when it was reset{times}: training stopped; repair the environment, "
        "or let more errors pass with --max-env-errors"
    )


def repeat(env: Env, snapshot: Snapshot) -> float | Fault:
    """Restores an environment. Returns the sum of the repeated rewards, or why it could not be restored."""
    try:
        episode_return = env.restore(snapshot)
    except UserError:
        raise
    except RAISED as error:
        return Fault.of(error)
    return episode_return if math.isfinite(episode_return) else Fault(f"returned reward {episode_return:g}")


def repeat_failures(results: Sequence[float | Fault]) -> list[Failure]:
    """The failures among the results of `repeat`."""
    return [
        Failure(number, result.what, "when its episode was repeated", "new episodes begin")
        for number, result in enumerate(results)
        if isinstance(result, Fault)
    ]


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

    def start(self, number: int) -> Snapshot | None:
        """The snapshot at the start of an environment's latest episode; None before the first."""
        return self._starts[number] if self._starts else None

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

    def failures(self, faults: Sequence[tuple[bool, Sequence[Fault]]]) -> list[Failure]:
        """The failures that faults stand for; call it before the result is recorded.

        faults: of each environment, whether its step failed, and what went wrong, in that step first and then in
            resets.
        """
        return [
            self._failure(number, fault, lost and i == 0)
            for number, (lost, found) in enumerate(faults)
            for i, fault in enumerate(found)
        ]

    def _failure(self, number: int, fault: Fault, in_step: bool) -> Failure:
        when, consequence = "when it was reset", "it is reset again"
        if in_step:
            when, consequence = f"at step {len(self._actions[number]) + 1} of its episode", "the episode is cut off"
        return Failure(number, fault.what, when, consequence, fault.ends_run)

    def snapshot(self) -> list[dict[str, Any]]:
        """What each environment's `restore` needs; later steps do not change it."""
        return [{**start, "actions": list(taken)} for start, taken in zip(self._starts, self._actions)]

    def restore(self, snapshots: Sequence[Snapshot]) -> None:
        """Continues from `snapshot`'s return value."""
        self.begin(snapshots)
        self._actions = [list(snapshot["actions"]) for snapshot in snapshots]
