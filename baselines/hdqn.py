"""Hierarchical DQN (Kulkarni et al. 2016, arXiv:1604.06057) on discrete states: a meta-controller that sets goals, and
a controller that reaches them. Each is a Double DQN (van Hasselt et al. 2015, arXiv:1509.06461) with its own replay.

Symbols: s, a, s' = state, action, next state; s0 = the state in which the goal was set; g = goal, a state's number;
f = the task's (extrinsic) reward, F = its sum while the goal lasted; r = the intrinsic reward; Q1 = controller, Q2 =
meta-controller; gamma = discount.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from baselines.algorithm import Algorithm
from baselines.settings import Baseline
from baselines.settings.hdqn import HDQNSettings
from baselines.tasks import look_at, require_choice
from sacae.agents.critic import choices_of
from sacae.envs.contract import Stepper, StepResult
from sacae.errors import UserError
from sacae.networks import MLP
from sacae.training.learner import Learner, require_finite
from sacae.training.run import Run
from sacae.training.streams import ACTIONS, REPLAY, seed_for
from sacae.types import Actions, EnvSpec, Frames

NO_GOAL = -1
"""In place of a goal: one is to be set."""

EMBEDDING_DIM = 10
"""Length of the vector that stands for a state or a goal in a network."""

SUCCESS_WEIGHT = 0.05
"""Weight of the latest attempt in a goal's rate of success: it remembers about twenty."""

COLUMNS = {"state": np.int64, "goal": np.int64, "choice": np.int64, "reward": np.float32, "next_state": np.int64,
           "terminal": np.float32}  # fmt: skip


# What both learn from.


class IdReplay:
    """The latest transitions between states that are numbers: a ring, of which batches are drawn uniformly."""

    def __init__(self, capacity: int) -> None:
        self.columns = {name: np.zeros(capacity, dtype) for name, dtype in COLUMNS.items()}
        self._capacity, self._count = capacity, 0

    def __len__(self) -> int:
        """Transitions that are remembered."""
        return min(self._count, self._capacity)

    def add(self, state: int, goal: int, choice: int, reward: float, next_state: int, terminal: bool) -> None:
        """Takes in a transition; terminal: no value after it."""
        row = self._count % self._capacity
        values = state, goal, choice, reward, next_state, terminal
        for column, value in zip(self.columns.values(), values, strict=True):
            column[row] = value
        self._count += 1

    def sample(self, size: int, rng: np.random.Generator, device: torch.device) -> dict[str, torch.Tensor]:
        """A batch of that size, with replacement: each column (B,)."""
        rows = rng.integers(len(self), size=size)
        return {name: torch.from_numpy(column[rows]).to(device) for name, column in self.columns.items()}

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"count": self._count} | {name: column[: len(self)].copy() for name, column in self.columns.items()}

    def load(self, state: dict[str, Any]) -> None:
        """Takes over what `state` returned."""
        self._count = state["count"]
        for name, column in self.columns.items():
            column[: len(self)] = state[name]


class GoalNetwork(nn.Module):
    """Values of every choice at a state, given a goal or not; states and goals are numbers, and share an embedding."""

    def __init__(self, num_states: int, num_choices: int, hidden_dim: int, takes_goal: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_states, EMBEDDING_DIM)
        self.takes_goal = takes_goal
        self.q = MLP(EMBEDDING_DIM * (2 if takes_goal else 1), hidden_dim, num_choices)

    def forward(self, state: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """int64 (B,), (B,) -> (B, num_choices); the goal counts only where the network takes one."""
        parts = (state, goal) if self.takes_goal else (state,)
        values: torch.Tensor = self.q(torch.cat([self.embedding(part) for part in parts], -1))
        return values


def double_q_target(
    reward: torch.Tensor, discount: torch.Tensor, online_q: torch.Tensor, target_q: torch.Tensor
) -> torch.Tensor:
    """reward + discount Q'(s', argmax Q(s', .)). (B,), (B,), and values at s' (B, n) of both networks -> (B,)."""
    return reward + discount * target_q.gather(-1, online_q.argmax(-1, keepdim=True)).squeeze(-1)


class DoubleDQN:
    """A network, its slowly following target network, its replay and its optimiser."""

    def __init__(self, network: GoalNetwork, config: HDQNSettings, device: torch.device) -> None:
        self.config, self.device = config, device
        self.network = network.to(device)
        self.target = copy.deepcopy(self.network).requires_grad_(False)
        self.replay = IdReplay(config.replay_capacity)
        self.optimizer = torch.optim.Adam(self.network.parameters(), config.learning_rate)

    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Huber loss of the values of a batch's choices. -> ()."""
        at, after = (batch["state"], batch["goal"]), (batch["next_state"], batch["goal"])
        with torch.no_grad():
            discount = self.config.discount * (1 - batch["terminal"])
            target = double_q_target(batch["reward"], discount, self.network(*after), self.target(*after))
        q = self.network(*at).gather(-1, batch["choice"][:, None]).squeeze(-1)
        return F.smooth_l1_loss(q, target)

    def update(self, rng: np.random.Generator) -> torch.Tensor:
        """A step of the network, and one of its target; returns the loss."""
        loss = self.loss(self.replay.sample(self.config.batch_size, rng, self.device))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.network.parameters()):
                slow.lerp_(fast, self.config.critic_tau)
        return loss.detach()

    def state(self) -> dict[str, Any]:
        """For a checkpoint: all but the network itself."""
        parts = {"target": self.target.state_dict(), "optimizer": self.optimizer.state_dict()}
        return parts | {"replay": self.replay.state()}

    def load(self, state: dict[str, Any]) -> None:
        """Takes over what `state` returned."""
        self.target.load_state_dict(state["target"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.replay.load(state["replay"])


# What acts.


class HDQNPlayer(nn.Module):
    """Controller and meta-controller. They count states and goals from 0, wherever the task begins to."""

    def __init__(self, spec: EnvSpec, config: HDQNSettings, first_state: int = 0) -> None:
        """first_state: the task's own number of the state that counts as 0 here."""
        super().__init__()
        self.spec = spec
        (num_states,) = spec.obs_shape
        self.goals = tuple(goal - first_state for goal in config.goals) or tuple(range(num_states))
        _, num_actions = choices_of(spec)
        self.controller = GoalNetwork(num_states, num_actions, config.hidden_dim, takes_goal=True)
        self.meta = GoalNetwork(num_states, len(self.goals), config.hidden_dim, takes_goal=False)

    @torch.no_grad()
    def best_goals(self, states: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places in `goals` of the most valuable ones, by the meta-controller. int64 (N,) -> (N,)."""
        on_device = self._on_device(states)
        values: torch.Tensor = self.meta(on_device, on_device)
        return values.argmax(-1).cpu().numpy()

    @torch.no_grad()
    def best_actions(self, states: NDArray[np.int64], goals: NDArray[np.int64]) -> NDArray[np.int64]:
        """The controller's actions at states, towards goals, which are states' numbers. int64 (N,), (N,) -> (N,)."""
        values: torch.Tensor = self.controller(self._on_device(states), self._on_device(goals))
        return values.argmax(-1).cpu().numpy()

    def act_on(self, obs: Frames, memory: Sequence[int | None]) -> tuple[torch.Tensor, list[int]]:
        """See RememberingPlayer; what is remembered is the goal, which lasts until it is reached."""
        states = state_ids(obs)
        best = np.array(self.goals)[self.best_goals(states)]
        goals = [int(new) if old in (None, s) else old for s, new, old in zip(states, best, memory)]
        return torch.from_numpy(self.best_actions(states, np.array(goals))[:, None]), goals

    def _on_device(self, numbers: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(numbers).to(self.meta.embedding.weight.device)


def state_ids(obs: Frames) -> NDArray[np.int64]:
    """The states' numbers, int64 (N,), of one-hot vectors (N, num_states)."""
    ids: NDArray[np.int64] = obs.argmax(-1)
    return ids


# A run.


class HDQNLearner(Learner):
    """Algorithm 1: an update of each network after each agent step of each environment."""

    metric_names = ("controller_loss", "meta_loss", "goal_reached", "epsilon")
    player: HDQNPlayer

    def __init__(self, config: Baseline[HDQNSettings], spec: EnvSpec, _stepper: Stepper, device: torch.device) -> None:
        first_state = check_task(config, spec)
        seed, num_envs = config.train.seed, config.train.num_envs
        self.config, self.spec, self.device = config, spec, device
        self.player = HDQNPlayer(spec, config.algorithm, first_state)
        self.controller = DoubleDQN(self.player.controller, config.algorithm, device)
        self.meta = DoubleDQN(self.player.meta, config.algorithm, device)
        self.rng = np.random.default_rng(seed_for(seed, ACTIONS))
        self.replay_rng = np.random.default_rng(seed_for(seed, REPLAY))
        self._updates_done = self.episodes_done = 0
        self.success = np.zeros(len(self.player.goals))  # of each goal: share of its latest attempts
        self.states: NDArray[np.int64]  # int64 (N,)
        self.goals: NDArray[np.int64] = np.full(num_envs, NO_GOAL)
        self.goal_choices, self.goal_starts = np.zeros((2, num_envs), np.int64)
        self.goal_rewards: NDArray[np.float64] = np.zeros(num_envs)

    @property
    def updates_done(self) -> int:
        """Updates of the controller so far."""
        return self._updates_done

    @property
    def epsilon(self) -> float:
        """Share of random goals now (epsilon 2)."""
        config = self.config.algorithm
        return max(config.epsilon, config.epsilon_start * config.epsilon_decay**self.episodes_done)

    def goal_epsilon(self) -> NDArray[np.float64]:
        """Share of random actions towards each environment's goal (epsilon 1), which falls as it is reached, (N,)."""
        config = self.config.algorithm
        return config.epsilon_start + (config.epsilon - config.epsilon_start) * self.success[self.goal_choices]

    def begin(self, frames: Sequence[Frames], _states: Sequence[NDArray[np.float32] | None]) -> None:
        """See Learner."""
        self.states = state_ids(np.stack(frames))
        self.goals[:] = NO_GOAL

    def act(self, _run: Run) -> NDArray[np.int64]:
        """See Learner."""
        self._before = self.rng.bit_generator.state, {name: getattr(self, name) for name in OF_GOALS}
        self._set_goals()
        return self._choose_actions()[:, None]

    def take_back(self) -> None:
        """See Learner."""
        self.rng.bit_generator.state, of_goals = self._before
        for name, value in of_goals.items():  # none of them was changed in place
            setattr(self, name, value)

    def observe(self, run: Run, actions: Actions, result: StepResult) -> None:
        """Remembers the step of each environment, and learns after each. See Learner."""
        next_states = state_ids(result.frame)
        for i, action in enumerate(actions[:, 0]):
            if i in result.lost:
                self.goals[i] = NO_GOAL
                continue
            self._remember(run, i, int(action), int(next_states[i]), result)
            with run.stopwatch.section("update"):
                self._learn(run)
        self.states = state_ids(result.next_obs())
        self.episodes_done += sum(first_frame is not None for first_frame in result.first_frame)

    def _set_goals(self) -> None:
        """The meta-controller's choice where there is no goal: a random one with probability epsilon."""
        wanted = self.goals == NO_GOAL
        if not wanted.any():
            return
        best = self.player.best_goals(self.states)
        random = self.rng.integers(len(self.player.goals), size=len(best))
        choices = np.where(self.rng.random(len(best)) < self.epsilon, random, best)
        self.goal_choices = np.where(wanted, choices, self.goal_choices)
        self.goal_starts = np.where(wanted, self.states, self.goal_starts)
        self.goal_rewards = np.where(wanted, 0.0, self.goal_rewards)
        self.goals = np.array(self.player.goals)[self.goal_choices]

    def _choose_actions(self) -> NDArray[np.int64]:
        best = self.player.best_actions(self.states, self.goals)
        random = self.rng.integers(choices_of(self.spec)[1], size=len(best))
        return np.where(self.rng.random(len(best)) < self.goal_epsilon(), random, best)

    def _remember(self, run: Run, i: int, action: int, next_state: int, result: StepResult) -> None:
        """The controller remembers every step with the intrinsic reward, the meta-controller every goal with F.

        The controller's task is over where its goal is reached or the episode has terminated, the meta-controller's
        only in the latter case. A time limit ends a goal, and neither task.
        """
        goal, terminated, ended = int(self.goals[i]), bool(result.terminated[i]), result.first_frame[i] is not None
        reached = next_state == goal
        state = int(self.states[i])
        self.controller.replay.add(state, goal, action, float(reached), next_state, reached or terminated)
        self.goal_rewards[i] += result.reward[i]
        if not (reached or ended):
            return
        start, choice, total = int(self.goal_starts[i]), int(self.goal_choices[i]), float(self.goal_rewards[i])
        self.meta.replay.add(start, goal, choice, total, next_state, terminated)
        self.success[choice] += SUCCESS_WEIGHT * (reached - self.success[choice])
        run.means.add({"goal_reached": torch.tensor(float(reached), device=self.device)})
        self.goals[i] = NO_GOAL

    def _learn(self, run: Run) -> None:
        metrics = {"controller_loss": self.controller.update(self.replay_rng)}
        if len(self.meta.replay):
            metrics["meta_loss"] = self.meta.update(self.replay_rng)
        self._updates_done += 1
        metrics["epsilon"] = torch.tensor(self.epsilon, device=self.device)
        require_finite(metrics, self._updates_done)
        run.means.add(metrics)

    # What evaluations and checkpoints ask for.

    def playable(self) -> dict[str, Any]:
        """See Learner."""
        return {"agent": self.config.variant, "networks": self.player.state_dict()}

    def state(self) -> dict[str, Any]:
        """See Learner."""
        learners = {"controller": self.controller.state(), "meta": self.meta.state()}
        random = {"actions": self.rng.bit_generator.state, "replay": self.replay_rng.bit_generator.state}
        counters = {name: getattr(self, name) for name in COUNTERS} | {"updates_done": self._updates_done}
        return {"learning": self.playable() | learners, "learner": counters, "random": random}

    def load(self, state: Mapping[str, Any]) -> bool:
        """See Learner."""
        learning, counters = state["learning"], state["learner"]
        self.player.load_state_dict(learning["networks"])
        self.controller.load(learning["controller"])
        self.meta.load(learning["meta"])
        self._updates_done, self.episodes_done = counters["updates_done"], counters["episodes_done"]
        self.states, self.success = counters["states"], counters["success"]
        self.goals, self.goal_choices = counters["goals"], counters["goal_choices"]
        self.goal_starts, self.goal_rewards = counters["goal_starts"], counters["goal_rewards"]
        self.rng.bit_generator.state = state["random"]["actions"]
        self.replay_rng.bit_generator.state = state["random"]["replay"]
        return True


OF_GOALS = ("goals", "goal_choices", "goal_starts", "goal_rewards")
"""Attributes of HDQNLearner that choosing a goal sets."""

COUNTERS = ("episodes_done", "states", *OF_GOALS, "success")
"""Attributes of HDQNLearner that a checkpoint keeps beside the networks."""


def load_player(
    config: Baseline[HDQNSettings], spec: EnvSpec, device: torch.device, learning: dict[str, Any]
) -> HDQNPlayer:
    """What plays, as a checkpoint's "learning" left it."""
    player = HDQNPlayer(spec, config.algorithm, check_task(config, spec)).to(device)
    player.load_state_dict(learning["networks"])
    return player


def check_task(config: Baseline[HDQNSettings], spec: EnvSpec) -> int:
    """The number of the task's first state.

    Raises UserError where the task's states are no numbers, its actions no choice, or a goal is no state.
    """
    name = config.task_name
    require_choice(config, spec)
    shown, _ = look_at(config)
    if not isinstance(shown, spaces.Discrete):
        raise UserError(
            f"algo is hdqn, whose goals are states with a number, but the states of {name} are vectors; choose another "
            "--env, such as SixStateChain-v0"
        )
    states = range(int(shown.start), int(shown.start + shown.n))
    if not all(goal in states for goal in config.algorithm.goals):
        raise UserError(
            f"goals is {config.algorithm.goals}, but they must be states of {name}, {states[0]} to {states[-1]}; "
            "change --goals"
        )
    return states[0]


ROW_BYTES = 2 * sum(np.dtype(dtype).itemsize for dtype in COLUMNS.values())
"""Of a remembered step, in both replays."""

ALGORITHM = Algorithm(HDQNSettings, HDQNLearner, load_player, HDQNLearner.metric_names, lambda _spec: ROW_BYTES)
