"""Episodes on the way to goals, and transitions drawn from them with goals in hindsight.

Symbols: s_t, g = observation and desired goal at step t of an episode of T steps; m(s_t) = achieved goal.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from sacae.envs.contract import EnvInfo, StepResult
from sacae.errors import UserError
from sacae.types import Actions, Batch, Frames

ComputeReward = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.floating]]
"""Rewards (B,) of arriving at achieved goals (B, G) where desired ones (B, G) were wanted."""


@dataclass(frozen=True)
class GoalSpace:
    """Where the parts of a goal environment's observation lie in the vector (D,) that it is flattened to."""

    observation: slice
    achieved_goal: slice
    desired_goal: slice

    @classmethod
    def of(cls, space: spaces.Dict) -> Self:
        """The places in what `gymnasium.spaces.flatten` makes: it joins the parts in the order of the space."""
        places, start = {}, 0
        for name, part in space.spaces.items():
            end = start + spaces.flatdim(part)
            places[name] = slice(start, end)
            start = end
        return cls(*(places[name] for name in PARTS))

    @property
    def observation_dim(self) -> int:
        """Length of the observation."""
        return int(self.observation.stop - self.observation.start)

    @property
    def goal_dim(self) -> int:
        """Length G of a goal."""
        return int(self.desired_goal.stop - self.desired_goal.start)


PARTS = ("observation", "achieved_goal", "desired_goal")


def goals_of(space: spaces.Space[Any], original: Any, name: str) -> tuple[GoalSpace, ComputeReward]:
    """Where an environment's goals lie in its observations, and its own reward of them.

    space: of what it shows. original: the environment as its author wrote it. Raises UserError where it is no goal
    environment, or its `compute_reward` does not take several goals at once.
    """
    if not (isinstance(space, spaces.Dict) and set(PARTS) <= set(space.spaces) and hasattr(original, "compute_reward")):
        raise UserError(
            f"algo is her_ddpg, which learns to reach goals, but {name} has none: its observations must be a "
            f"dictionary of {', '.join(PARTS)}, and it must have compute_reward; choose an --env such as "
            "PointMassGoal-v0 or FetchReach-v4"
        )
    goals = GoalSpace.of(space)

    def compute_reward(achieved: NDArray[np.float32], desired: NDArray[np.float32]) -> NDArray[np.floating]:
        rewards: NDArray[np.floating] = original.compute_reward(achieved, desired, {})
        return rewards

    _check_reward(compute_reward, goals.goal_dim, name)
    return goals, compute_reward


def _check_reward(compute_reward: ComputeReward, goal_dim: int, name: str) -> None:
    """Asks for two rewards at once, before a training relies on it."""
    goals = np.zeros((2, goal_dim), np.float32)
    try:
        shape: object = np.shape(compute_reward(goals, goals))
    except Exception as error:  # What an environment's own code raises is not told by type.
        shape = " ".join(str(error).split()) or type(error).__name__
    if shape != (2,):
        raise UserError(
            f"algo is her_ddpg, which asks compute_reward for the rewards of several goals at once and hands it an "
            f"empty info, but for two goals that of {name} gave {shape} in place of (2,); choose another --env"
        )


def hindsight(
    t: NDArray[np.int64], length: NDArray[np.int64], share: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The strategy "future" (section 4.5 of the paper): for each transition from t to t + 1 of an episode of `length`
    steps, a moment uniform in t + 1 .. length, whose achieved goal is to be the desired one; and whether it is, which
    is so for that share of them. int64 (B,), int64 (B,) -> int64 (B,), bool (B,).
    """
    return rng.integers(t + 1, length + 1), rng.random(len(t)) < share


class EpisodeReplay:
    """Whole episodes of N environments in a ring of slots, those that are running among them.

    A slot holds one episode of at most T steps: obs float32 (T + 1, D), the last one too; action float32 (T, A); reward
    float32 (T,), the environment's own; and whether its last step was terminal. The oldest episode makes room for a new
    one. Only episodes that have ended are sampled: before, what they will achieve is not known.
    """

    def __init__(
        self, info: EnvInfo, num_envs: int, capacity: int, goals: GoalSpace, compute_reward: ComputeReward
    ) -> None:
        """capacity: transitions. Raises UserError where it is too small for an episode beside those that are running.

        Memory is taken as it is filled.
        """
        steps = info.max_episode_steps
        assert steps is not None  # envs.from_config gives every task a time limit.
        slots = capacity // steps
        if slots <= num_envs:
            raise UserError(
                f"replay_capacity is {capacity}, but it must hold {num_envs + 1} episodes of {steps} steps; give at "
                f"least --replay-capacity {(num_envs + 1) * steps}"
            )
        self._goals, self._compute_reward = goals, compute_reward
        self._columns: dict[str, NDArray[Any]] = {
            "obs": np.zeros((slots, steps + 1, *info.frame_shape), np.float32),
            "action": np.zeros((slots, steps, info.action_dim), np.float32),
            "reward": np.zeros((slots, steps), np.float32),
            "terminated": np.zeros(slots, bool),
            "length": np.zeros(slots, np.int64),  # 0 where no episode has ended
        }
        self._slot = np.arange(num_envs)  # where each environment's running episode lies
        self._step = np.zeros(num_envs, np.int64)  # how many steps it has
        self._taken = num_envs  # how many times a slot was taken

    @property
    def obs(self) -> NDArray[np.float32]:
        """What each environment shows now, float32 (N, D)."""
        shown: NDArray[np.float32] = self._columns["obs"][self._slot, self._step]
        return shown

    def begin(self, obs: NDArray[np.float32]) -> None:
        """Starts an episode in each environment with what it shows, (N, D). Episodes that are running end before."""
        for i, first_frame in enumerate(obs):
            self._cut_off(i, first_frame)

    def add(self, action: Actions, result: StepResult) -> list[NDArray[np.float32]]:
        """Takes in a step of each environment, actions (N, A); returns the obs (length + 1, D) of what has ended."""
        columns, taken = self._columns, np.array([i not in result.lost for i in range(len(action))])
        slot, step = self._slot[taken], self._step[taken]
        columns["action"][slot, step], columns["reward"][slot, step] = action[taken], result.reward[taken]
        self._step += taken
        columns["obs"][slot, step + 1] = result.frame[taken]
        ended = [
            self._end(i, bool(result.terminated[i]), first_frame) if taken[i] else self._cut_off(i, first_frame)
            for i, first_frame in enumerate(result.first_frame)
            if first_frame is not None
        ]
        return [obs for obs in ended if obs is not None]

    def _cut_off(self, i: int, first_frame: Frames) -> NDArray[np.float32] | None:
        """As `_end`, for an episode that went on no further; None if it has no step, and so leaves no trace."""
        if self._step[i]:
            return self._end(i, False, first_frame)
        self._columns["obs"][self._slot[i], 0] = first_frame
        return None

    def _end(self, i: int, terminated: bool, first_frame: Frames) -> NDArray[np.float32]:
        """Closes the episode of environment i, and gives the next one the oldest slot that no environment is in."""
        columns, slot, length = self._columns, self._slot[i], self._step[i]
        columns["terminated"][slot], columns["length"][slot] = terminated, length
        following = self._taken % len(columns["length"])
        while following in self._slot:
            self._taken += 1
            following = self._taken % len(columns["length"])
        self._taken += 1
        self._slot[i], self._step[i] = following, 0
        columns["length"][following] = 0
        columns["obs"][following, 0] = first_frame
        obs: NDArray[np.float32] = columns["obs"][slot, : length + 1].copy()
        return obs

    def sample(self, size: int, share: float, discount: float, rng: np.random.Generator, device: torch.device) -> Batch:
        """Transitions drawn uniformly; that share of them has a goal in hindsight, and the reward that is due for it.

        The reward of the others is the environment's own. Needs an episode that has ended.
        """
        columns = self._columns
        slot, t = self._draw(size, rng)
        length = columns["length"][slot]
        future, relabelled = hindsight(t, length, share, rng)
        obs, next_obs = columns["obs"][slot, t], columns["obs"][slot, t + 1]
        reward = columns["reward"][slot, t]
        # Taken from s_{t+1} on, for the action at t has no part in what was achieved before.
        goal = columns["obs"][slot[relabelled], future[relabelled], self._goals.achieved_goal]
        obs[relabelled, self._goals.desired_goal] = next_obs[relabelled, self._goals.desired_goal] = goal
        reward[relabelled] = self._compute_reward(next_obs[relabelled, self._goals.achieved_goal], goal)
        # An episode that was cut off at its time limit goes on for the critic; only a true end has no value after it.
        terminal = columns["terminated"][slot] & (t + 1 == length)
        gamma = np.where(terminal, 0, discount).astype(np.float32)
        told = obs, columns["action"][slot, t], reward[:, None], gamma[:, None], next_obs
        return Batch(*(torch.from_numpy(column).to(device) for column in told))

    def _draw(self, size: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Slot and step of transitions, each of them as likely, whatever the length of its episode."""
        ends = self._columns["length"].cumsum()
        number = rng.integers(ends[-1], size=size)
        slot = ends.searchsorted(number, side="right")
        return slot, number - (ends - self._columns["length"])[slot]

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        used = min(self._taken, len(self._columns["length"]))
        columns = {name: column[:used].copy() for name, column in self._columns.items()}
        return {"columns": columns, "slot": self._slot.copy(), "step": self._step.copy(), "taken": self._taken}

    def load(self, state: dict[str, Any]) -> None:
        """Takes over what `state` returned."""
        for name, column in self._columns.items():
            column[: len(state["columns"][name])] = state["columns"][name]
        self._slot[:], self._step[:], self._taken = state["slot"], state["step"], state["taken"]
