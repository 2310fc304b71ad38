"""Tabular Q-learning (Watkins 1989; Watkins and Dayan 1992) on a discretised state vector.

Symbols: s, a, r, s' = state, action, reward, next state; eta = learning_rate; gamma = discount.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from baselines.algorithm import Algorithm
from baselines.settings import Baseline
from baselines.settings.q_learning import QLearningSettings
from baselines.tasks import look_at, require_choice
from sacae.agents.critic import choices_of
from sacae.envs.contract import Stepper, StepResult
from sacae.errors import UserError
from sacae.training.learner import Learner
from sacae.training.run import Run
from sacae.training.streams import ACTIONS, seed_for
from sacae.types import Actions, EnvSpec, Frames, Metrics

CARTPOLE_CLIP = (2.4, 3.0, 0.5, 2.0)
"""CartPole's cart position, cart velocity, pole angle, pole velocity: what is seen before it falls."""


class Bins:
    """Cuts state vectors into cells."""

    def __init__(self, low: NDArray[np.float64], high: NDArray[np.float64], count: int) -> None:
        """low, high: of each coordinate, (D,). count: bins of equal width between them."""
        self._inner_edges = np.linspace(low, high, count + 1)[1:-1]

    def __call__(self, state: Frames) -> bytes:
        """The cell of a state (D,); what lies beyond the bounds belongs to the outermost bins."""
        cell: NDArray[np.int16] = (state >= self._inner_edges).sum(0, dtype=np.int16)
        return cell.tobytes()


class Table:
    """Values of the cells seen so far, float64 (A,) each."""

    def __init__(self, num_actions: int, initial_value: float, rng: np.random.Generator) -> None:
        self._values: dict[bytes, NDArray[np.float64]] = {}
        self._num_actions, self._initial_value, self._rng = num_actions, initial_value, rng

    def __len__(self) -> int:
        """Cells seen so far."""
        return len(self._values)

    def __getitem__(self, cell: bytes) -> NDArray[np.float64]:
        """The values of a cell, to be read and changed; random where it was not seen before."""
        if cell not in self._values:
            self._values[cell] = self._rng.uniform(0, self._initial_value, self._num_actions)
        return self._values[cell]

    def forget(self, kept: int) -> None:
        """Drops the newest cells, but for that many."""
        while len(self) > kept:
            self._values.popitem()

    def greedy(self, cell: bytes) -> int:
        """The best action, by the lower number where several are; 0 where nothing is known."""
        values = self._values.get(cell)
        return 0 if values is None else int(values.argmax())

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        cells = np.frombuffer(b"".join(self._values), np.uint8).reshape(len(self), -1 if self._values else 0)
        values = np.array([*self._values.values()]).reshape(len(self), self._num_actions)
        return {"cells": cells.copy(), "values": values}

    def load(self, state: Mapping[str, Frames]) -> None:
        """Takes over what `state` returned."""
        self._values = {cell.tobytes(): values.copy() for cell, values in zip(state["cells"], state["values"])}


def update(
    table: Table, cell: bytes, action: int, reward: float, next_cell: bytes, terminal: bool, config: QLearningSettings
) -> float:
    """Q(s, a) <- Q(s, a) + eta (r + gamma max_a' Q(s', a') - Q(s, a)); returns the difference in brackets.

    terminal: the task is over, and there is no value after it. A time limit is not such an end.
    """
    next_value = 0.0 if terminal else table[next_cell].max()
    values = table[cell]
    difference = reward + config.discount * next_value - values[action]
    values[action] += config.learning_rate * difference
    return float(difference)


def shaped(ended: bool, length: int, shaping_steps: int) -> float:
    """The shaped reward of an episode's agent step of that number, counted from 1."""
    if not ended:
        return 0.0
    return 1.0 if length >= shaping_steps else -1.0


class Greedy:
    """Acts by the best value in a table."""

    def __init__(self, spec: EnvSpec, bins: Bins, table: Table) -> None:
        self.spec, self.bins, self.table = spec, bins, table

    def act(self, obs: Frames) -> torch.Tensor:
        """States (N, D) -> int64 (N, 1)."""
        return torch.tensor([[self.table.greedy(self.bins(state))] for state in obs])


class QLearner(Learner):
    """An update after each step of each environment."""

    metric_names = ("td_error", "epsilon", "cells")
    player: Greedy

    def __init__(
        self, config: Baseline[QLearningSettings], spec: EnvSpec, _stepper: Stepper, _device: torch.device
    ) -> None:
        self.config, self.spec = config, spec
        self.rng = np.random.default_rng(seed_for(config.train.seed, ACTIONS))
        self.player = make_player(config, spec, self.rng)
        self.table, self.bins = self.player.table, self.player.bins
        self._updates_done = self.episodes_done = 0
        self._states: Frames  # (N, D)
        self._metrics: list[Metrics] = []

    @property
    def updates_done(self) -> int:
        """See Learner."""
        return self._updates_done

    @property
    def epsilon(self) -> float:
        """Share of random actions now."""
        return self.config.algorithm.epsilon / (self.episodes_done + 1)

    def begin(self, frames: Sequence[Frames], _states: Sequence[NDArray[np.float32] | None]) -> None:
        """See Learner."""
        self._states = np.stack(frames)

    def act(self, _run: Run) -> NDArray[np.int64]:
        """See Learner."""
        self._before = self.rng.bit_generator.state, len(self.table)
        return np.array([[self._explore(self.bins(state))] for state in self._states])

    def take_back(self) -> None:
        """See Learner."""
        self.rng.bit_generator.state, cells = self._before
        self.table.forget(cells)

    def _explore(self, cell: bytes) -> int:
        if self.rng.random() < self.epsilon:
            return int(self.rng.integers(choices_of(self.spec)[1]))
        return int(self.table[cell].argmax())

    def observe(self, run: Run, actions: Actions, result: StepResult) -> None:
        """Learns from the step of each environment in turn. See Learner."""
        self._metrics = []
        for i, action in enumerate(actions[:, 0]):
            if i in result.lost:
                self._metrics.append({})
                continue
            with run.stopwatch.section("update"):
                self._metrics.append(self._learn(i, int(action), result, int(run.episode_length[i]) + 1))
            self.episodes_done += result.first_frame[i] is not None
        self._states = result.next_obs()

    def _learn(self, i: int, action: int, result: StepResult, length: int) -> Metrics:
        """length: agent steps of the episode, this one included."""
        config, cell, next_cell = self.config.algorithm, self.bins(self._states[i]), self.bins(result.frame[i])
        reward, terminal = float(result.reward[i]), bool(result.terminated[i])
        if config.shaping:
            terminal = result.first_frame[i] is not None
            reward = shaped(terminal, length, config.shaping_steps)
        difference = update(self.table, cell, action, reward, next_cell, terminal, config)
        self._updates_done += 1
        metrics = {"td_error": abs(difference), "epsilon": self.epsilon, "cells": float(len(self.table))}
        return {name: torch.tensor(value) for name, value in metrics.items()}

    def step_metrics(self, i: int) -> Metrics:
        """See Learner."""
        return self._metrics[i]

    # What evaluations and checkpoints ask for.

    def playable(self) -> dict[str, Any]:
        """See Learner."""
        return {"agent": self.config.variant, "table": self.table.state()}

    def state(self) -> dict[str, Any]:
        """See Learner."""
        counters = {"updates_done": self._updates_done, "episodes_done": self.episodes_done, "states": self._states}
        return {"learning": self.playable(), "learner": counters, "random": self.rng.bit_generator.state}

    def load(self, state: Mapping[str, Any]) -> bool:
        """See Learner."""
        self.table.load(state["learning"]["table"])
        counters = state["learner"]
        self._updates_done, self.episodes_done = counters["updates_done"], counters["episodes_done"]
        self._states = counters["states"]
        self.rng.bit_generator.state = state["random"]
        return True


def load_player(
    config: Baseline[QLearningSettings], spec: EnvSpec, _device: torch.device, learning: dict[str, Any]
) -> Greedy:
    """What plays, as a checkpoint's "learning" left it."""
    player = make_player(config, spec, np.random.default_rng(0))
    player.table.load(learning["table"])
    return player


def make_player(config: Baseline[QLearningSettings], spec: EnvSpec, rng: np.random.Generator) -> Greedy:
    """A greedy player with an empty table. Raises UserError where the task's actions or states are no table's."""
    num_actions = require_choice(config, spec)
    bins = Bins(*_bounds(config), config.algorithm.state_bins)
    return Greedy(spec, bins, Table(num_actions, config.algorithm.initial_value, rng))


def _bounds(config: Baseline[QLearningSettings]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least and largest value of each coordinate of the state, (D,)."""
    shown, _ = look_at(config)
    space = spaces.flatten_space(shown)
    if not isinstance(space, spaces.Box):
        raise UserError(
            f"algo is q_learning, but the states of {config.task_name} have no fixed length; choose another --env"
        )
    low, high = space.low, space.high
    clip = config.algorithm.observation_clip
    if not clip and (config.task.env or "").startswith("CartPole"):
        clip = CARTPOLE_CLIP
    if clip and len(clip) != len(low):
        raise UserError(
            f"observation_clip is {clip}, but the state has {len(low)} coordinates; give --observation-clip so many"
        )
    if clip:
        return -np.array(clip), np.array(clip)
    if not (np.isfinite(low) & np.isfinite(high)).all():
        raise UserError(
            f"observation_clip is empty, but the state of {config.task_name} is not bounded; give --observation-clip "
            f"{len(low)} numbers"
        )
    return low.astype(np.float64), high.astype(np.float64)


ALGORITHM = Algorithm(QLearningSettings, QLearner, load_player, QLearner.metric_names)
