"""Hierarchical DQN (Kulkarni et al. 2016, arXiv:1604.06057) on discrete states: a meta-controller that sets goals, and
a controller that reaches them. Each is a Double DQN (van Hasselt et al. 2015, arXiv:1509.06461) with its own replay.

Symbols: s, a, s' = state, action, next state; s0 = the state in which the goal was set; g = goal, a state's number;
f = the task's (extrinsic) reward, F = its sum while the goal lasted; r = the intrinsic reward; Q1 = controller, Q2 =
meta-controller; gamma = discount.
"""

import contextlib
import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from rich.console import Console
from torch import nn
from torch.nn import functional as F

from baselines.settings import Baseline
from sacae import envs
from sacae.envs.contract import StepResult
from sacae.errors import UserError
from sacae.networks import MLP
from sacae.training.loop import ACTIONS, REPLAY, TrainingLoop, seed_for
from sacae.types import EnvSpec

NO_GOAL = -1
"""In place of a goal: one is to be set."""

EMBEDDING_DIM = 10
"""Length of the vector that stands for a state or a goal in a network."""

SUCCESS_WEIGHT = 0.05
"""Weight of the latest attempt in a goal's rate of success: it remembers about twenty."""

COLUMNS = {"state": np.int64, "goal": np.int64, "choice": np.int64, "reward": np.float32, "next_state": np.int64,
           "terminal": np.float32}  # fmt: skip


@dataclass(frozen=True)
class HDQNConfig:
    """The algorithm."""

    goals: tuple[int, ...] = ()
    """Numbers of the states that may be goals; without any all are."""
    hidden_dim: int = 256
    """Width of the two hidden layers of controller and meta-controller."""
    discount: float = 0.99
    """Discount factor gamma, 0 to 1: per agent step of the controller, per goal of the meta-controller."""
    learning_rate: float = 3e-4
    """Learning rate of both."""
    critic_tau: float = 0.005
    """Weight of the online network in each update of the target network."""
    batch_size: int = 64
    """Transitions in each update of each."""
    replay_capacity: int = 40_000
    """Transitions that each remembers."""
    epsilon_start: float = 0.8
    """Share of random goals in the first episode, and of random actions towards a goal that has never been reached."""
    epsilon: float = 0.02
    """What both shares fall to."""
    epsilon_decay: float = 0.999
    """Factor of the share of random goals after each episode, above 0 and at most 1."""


@dataclass(frozen=True)
class HDQNSettings(Baseline):
    """Learn which states to go to, and how to get there."""

    ALGO: ClassVar[str] = "hdqn"

    algorithm: HDQNConfig = field(default_factory=HDQNConfig)

    def conditions(self) -> Sequence[tuple[str, bool, str]]:
        """See Settings."""
        config = self.algorithm
        return (
            ("goals", len({*config.goals}) == len(config.goals), "numbers of states, each once"),
            ("learning_rate", config.learning_rate > 0, "above 0"),
            ("epsilon_decay", 0 < config.epsilon_decay <= 1, "above 0 and at most 1"),
        )


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
        return self.q(torch.cat([self.embedding(part) for part in parts], -1))


def double_q_target(
    reward: torch.Tensor, discount: torch.Tensor, online_q: torch.Tensor, target_q: torch.Tensor
) -> torch.Tensor:
    """reward + discount Q'(s', argmax Q(s', .)). (B,), (B,), and values at s' (B, n) of both networks -> (B,)."""
    return reward + discount * target_q.gather(-1, online_q.argmax(-1, keepdim=True)).squeeze(-1)


class DoubleDQN:
    """A network, its slowly following target network, its replay and its optimiser."""

    def __init__(self, network: GoalNetwork, config: HDQNConfig, device: torch.device) -> None:
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
    """Controller and meta-controller."""

    def __init__(self, spec: EnvSpec, config: HDQNConfig) -> None:
        super().__init__()
        self.spec = spec
        (num_states,) = spec.obs_shape
        self.goals = config.goals or tuple(range(num_states))
        self.controller = GoalNetwork(num_states, spec.num_actions, config.hidden_dim, takes_goal=True)
        self.meta = GoalNetwork(num_states, len(self.goals), config.hidden_dim, takes_goal=False)

    @torch.no_grad()
    def best_goals(self, states: np.ndarray) -> np.ndarray:
        """Places in `goals` of the most valuable ones, by the meta-controller. int64 (N,) -> (N,)."""
        states = self._on_device(states)
        return self.meta(states, states).argmax(-1).cpu().numpy()

    @torch.no_grad()
    def best_actions(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """The controller's actions at states, towards goals, which are states' numbers. int64 (N,), (N,) -> (N,)."""
        return self.controller(self._on_device(states), self._on_device(goals)).argmax(-1).cpu().numpy()

    def act_on(self, obs: np.ndarray, memory: Sequence[int | None]) -> tuple[torch.Tensor, list[int]]:
        """See RememberingPlayer; what is remembered is the goal, which lasts until it is reached."""
        states = state_ids(obs)
        best = np.array(self.goals)[self.best_goals(states)]
        goals = [int(new) if old in (None, s) else old for s, new, old in zip(states, best, memory)]
        return torch.from_numpy(self.best_actions(states, np.array(goals))[:, None]), goals

    def _on_device(self, numbers: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(numbers).to(self.meta.embedding.weight.device)


def state_ids(obs: np.ndarray) -> np.ndarray:
    """The states' numbers, int64 (N,), of one-hot vectors (N, num_states)."""
    return obs.argmax(-1)


# A run.


class HDQNTrainer(TrainingLoop):
    """A run of h-DQN (algorithm 1): an update of each network after each agent step of each environment."""

    LOOP_STATE = (
        *TrainingLoop.LOOP_STATE,
        "updates_done",
        "episodes_done",
        "states",
        "goals",
        "goal_choices",
        "goal_starts",
        "goal_rewards",
        "success",
    )
    PLAY_BACK = "python -m baselines.eval"
    SETTINGS = HDQNSettings

    config: HDQNSettings

    def __init__(self, config: HDQNSettings, console: Console, resume: bool = False) -> None:
        """Prepares a new run, or the continuation of the one in config's run folder.

        Raises UserError for whatever the user can put right, before anything is written.
        """
        state = self._prepare(config, console, resume)
        check_task(config, self.spec)
        seed, num_envs = config.train.seed, config.train.num_envs
        self.player = HDQNPlayer(self.spec, config.algorithm)
        self.controller = DoubleDQN(self.player.controller, config.algorithm, self.device)
        self.meta = DoubleDQN(self.player.meta, config.algorithm, self.device)
        self.rng = np.random.default_rng(seed_for(seed, ACTIONS))
        self.replay_rng = np.random.default_rng(seed_for(seed, REPLAY))
        self.updates_done = self.episodes_done = 0
        self.success = np.zeros(len(self.player.goals))  # of each goal: share of its latest attempts
        self.states: np.ndarray | None = None
        self.goals = np.full(num_envs, NO_GOAL)
        self.goal_choices, self.goal_starts = np.zeros((2, num_envs), np.int64)
        self.goal_rewards = np.zeros(num_envs)
        self._begin(state, self.metric_names())
        if self.states is None:
            self.states = state_ids(np.stack(self.stepper.reset()[0]))

    @classmethod
    def metric_names(cls) -> tuple[str, ...]:
        """Every name that an update's metrics have."""
        return ("controller_loss", "meta_loss", "goal_reached", "epsilon")

    @property
    def num_updates(self) -> int:
        """Updates of the controller so far."""
        return self.updates_done

    @property
    def epsilon(self) -> float:
        """Share of random goals now (epsilon 2)."""
        config = self.config.algorithm
        return max(config.epsilon, config.epsilon_start * config.epsilon_decay**self.episodes_done)

    def goal_epsilon(self) -> np.ndarray:
        """Share of random actions towards each environment's goal (epsilon 1), which falls as it is reached, (N,)."""
        config = self.config.algorithm
        return config.epsilon_start + (config.epsilon - config.epsilon_start) * self.success[self.goal_choices]

    def _step(self) -> None:
        self._set_goals()
        actions = self._choose_actions()
        self.stepper.send(actions[:, None])
        result = self.stepper.receive()
        next_states = state_ids(result.frame)
        for i, action in enumerate(actions):
            self._remember(i, int(action), int(next_states[i]), result)
            with self.stopwatch.section("update"):
                self._learn()
        self._go_on(next_states, result)
        self.agent_step += len(actions)
        self.progress.update(self.env_step, "training")

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

    def _choose_actions(self) -> np.ndarray:
        best = self.player.best_actions(self.states, self.goals)
        random = self.rng.integers(self.spec.num_actions, size=len(best))
        return np.where(self.rng.random(len(best)) < self.goal_epsilon(), random, best)

    def _remember(self, i: int, action: int, next_state: int, result: StepResult) -> None:
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
        self.means.add({"goal_reached": torch.tensor(float(reached), device=self.device)})
        self.goals[i] = NO_GOAL

    def _learn(self) -> None:
        metrics = {"controller_loss": self.controller.update(self.replay_rng)}
        if len(self.meta.replay):
            metrics["meta_loss"] = self.meta.update(self.replay_rng)
        self.updates_done += 1
        self._note(metrics | {"epsilon": torch.tensor(self.epsilon, device=self.device)})

    def _go_on(self, next_states: np.ndarray, result: StepResult) -> None:
        """Logs the episodes that have ended, and begins the next ones."""
        self.states = next_states
        self.episode_return += result.reward
        self.episode_length += 1
        for i, first_frame in enumerate(result.first_frame):
            if first_frame is not None:
                self._log_episode(i)
                self.episodes_done += 1
                self.states[i] = int(first_frame.argmax())

    # What the loop around it asks.

    def _playable(self) -> dict[str, Any]:
        return {"agent": self.config.variant, "networks": self.player.state_dict()}

    @staticmethod
    def load_player(config: HDQNSettings, spec: EnvSpec, device: torch.device, learning: dict) -> HDQNPlayer:
        """What plays, as a checkpoint's "learning" left it."""
        player = HDQNPlayer(spec, config.algorithm).to(device)
        player.load_state_dict(learning["networks"])
        return player

    def _default_settings(self) -> HDQNSettings:
        return HDQNSettings()

    def _state(self) -> dict[str, Any]:
        learners = {"controller": self.controller.state(), "meta": self.meta.state()}
        random = {"actions": self.rng.bit_generator.state, "replay": self.replay_rng.bit_generator.state}
        return {"learning": self._playable() | learners, "random": random}

    def _restore_state(self, state: dict[str, Any]) -> None:
        learning = state["learning"]
        self.player.load_state_dict(learning["networks"])
        self.controller.load(learning["controller"])
        self.meta.load(learning["meta"])
        self.rng.bit_generator.state = state["random"]["actions"]
        self.replay_rng.bit_generator.state = state["random"]["replay"]


def check_task(config: HDQNSettings, spec: EnvSpec) -> None:
    """Raises UserError where the task's states are no numbers, its actions no choice, or a goal is no state."""
    name = config.task_name
    if spec.num_actions is None or spec.action_dim != 1:
        actions = "continuous" if spec.num_actions is None else "several at once"
        raise UserError(
            f"algo is hdqn, which chooses one of several actions, but those of {name} are {actions}; choose another "
            "--env, such as SixStateChain-v0"
        )
    if not _has_discrete_states(config):
        raise UserError(
            f"algo is hdqn, whose goals are states with a number, but the states of {name} are vectors; choose another "
            "--env, such as SixStateChain-v0"
        )
    (num_states,) = spec.obs_shape
    if not {*config.algorithm.goals} <= {*range(num_states)}:
        raise UserError(
            f"goals is {config.algorithm.goals}, but they must be states of {name}, 0 to {num_states - 1}; "
            "change --goals"
        )


def _has_discrete_states(config: HDQNSettings) -> bool:
    if not config.task.env:
        return False
    with contextlib.closing(envs.from_config(config.task, seed=0)) as env:
        return isinstance(env.original.observation_space, spaces.Discrete)
