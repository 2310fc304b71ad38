"""Several environments stepped together, with the episode's end and the next one's start in one result."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sacae.envs.dmc import DMCEnv


class StepResult(NamedTuple):
    """What N environments answer to N actions.

    frame: (N, *frame_shape), the frame after the action, also where the episode ended.
    reward: float64 (N,), summed over the repeated action.
    terminated, truncated: bool (N,).
    first_frame: for each environment, the first frame of its next episode, or None where the episode goes on.
    """

    frame: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    first_frame: list[np.ndarray | None]


class SerialStepper:
    """Steps environments one after another in this process.

    Actions are sent and results received in two calls, between which the caller may do something else. The episode's
    history is kept here, where `snapshot` finds it without asking the environments.
    """

    def __init__(self, envs: Sequence[DMCEnv]) -> None:
        self.envs = envs
        self.seconds = {"env": 0.0, "render": 0.0}
        self._episode_start: list[dict] = []
        self._actions: list[list[np.ndarray]] = []
        self._sent: np.ndarray | None = None

    def reset(self) -> list[np.ndarray]:
        """Starts an episode in each environment; returns their first frames."""
        frames = [env.reset()[0] for env in self.envs]
        self._episode_start = [env.snapshot() for env in self.envs]
        self._actions = [[] for _ in self.envs]
        return frames

    def send(self, actions: np.ndarray) -> None:
        """Hands over float32 (N, A) actions in [-1, 1]."""
        self._sent = actions

    def receive(self) -> StepResult:
        """The answer to the actions sent last."""
        started, rendered = time.perf_counter(), sum(env.render_seconds for env in self.envs)
        results = [self._step(i, action) for i, action in enumerate(self._sent)]
        rendered = sum(env.render_seconds for env in self.envs) - rendered
        self.seconds["render"] += rendered
        self.seconds["env"] += time.perf_counter() - started - rendered
        frame, reward, terminated, truncated, first_frame = zip(*results)
        return StepResult(
            np.stack(frame), np.array(reward), np.array(terminated), np.array(truncated), list(first_frame)
        )

    def _step(self, i: int, action: np.ndarray) -> tuple:
        env = self.envs[i]
        frame, reward, terminated, truncated, _ = env.step(action)
        first_frame = None
        self._actions[i].append(action.copy())
        if terminated or truncated:
            first_frame, _ = env.reset()
            self._episode_start[i], self._actions[i] = env.snapshot(), []
        return frame, reward, terminated, truncated, first_frame

    def snapshot(self) -> list[dict]:
        """What `restore` needs to go on from the last received result: each episode's start and its actions."""
        return [start | {"actions": list(taken)} for start, taken in zip(self._episode_start, self._actions)]

    def restore(self, snapshots: list[dict]) -> None:
        """Takes the environments back to where `snapshot` was made, without rendering."""
        for env, snapshot in zip(self.envs, snapshots, strict=True):
            env.restore(snapshot)
        self._episode_start = [snapshot | {"actions": []} for snapshot in snapshots]
        self._actions = [list(snapshot["actions"]) for snapshot in snapshots]

    def close(self) -> None:
        """Frees the environments."""
        for env in self.envs:
            env.close()
