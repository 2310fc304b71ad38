"""DDPG with hindsight experience replay (Andrychowicz et al. 2017, arXiv:1707.01495), with the numbers of Plappert et
al. 2018 (arXiv:1802.09464).

Goals and episodes are in her_ddpg_replay.py, networks and losses in her_ddpg_networks.py.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from rich.console import Console

from baselines import point_mass  # noqa: F401 - registers PointMassGoal-v0
from baselines.her_ddpg_networks import GoalDDPG, Metrics
from baselines.her_ddpg_replay import EpisodeReplay, GoalSpace, goals_of
from baselines.settings import Baseline, RunConfig
from sacae import envs
from sacae.errors import UserError
from sacae.training.loop import ACTIONS, REPLAY, TrainingLoop, seed_for
from sacae.types import EnvSpec


@dataclass(frozen=True)
class HERConfig:
    """The algorithm; defaults are those of Plappert et al. 2018."""

    her_k: int = 4
    """Transitions with a goal in hindsight for each with the goal it had; 0 is DDPG without hindsight."""
    episodes_per_cycle: int = 2
    """Episodes, over all environments, from one cycle of updates to the next."""
    updates_per_cycle: int = 40
    """Updates in a cycle; the target networks move once, at its end."""
    discount: float = 0.98
    """Discount factor gamma per agent step, 0 to 1."""
    batch_size: int = 256
    """Transitions in an update."""
    actor_lr: float = 1e-3
    """Learning rate of the actor."""
    critic_lr: float = 1e-3
    """Learning rate of the critic."""
    hidden_dim: int = 256
    """Width of the three hidden layers of actor and critic."""
    polyak: float = 0.95
    """Weight of the old target network where it moves, 0 to 1."""
    action_l2: float = 1.0
    """Weight of the mean square of the policy's actions in the actor's loss."""
    clip_targets: bool = True
    """Clip the critic's targets to [-1 / (1 - gamma), 0], where returns of rewards -1 and 0 lie; switch it off for
    other rewards."""
    random_eps: float = 0.3
    """Share of uniformly random actions in training."""
    exploration_noise: float = 0.2
    """Standard deviation of the Gaussian noise on the others."""
    replay_capacity: int = 1_000_000
    """Transitions that are kept, in whole episodes."""


@dataclass(frozen=True)
class HERRunConfig(RunConfig):
    """How long a run is, how it is watched, where it lies."""

    num_train_steps: int = 100_000
    """Length of the run in environment steps."""
    eval_every: int = 5_000
    """Environment steps from one evaluation to the next; there is also one before the first and after the last step."""
    num_eval_episodes: int = 20
    """Episodes in each evaluation, without exploration."""


@dataclass(frozen=True)
class HERSettings(Baseline):
    """Learn to reach goals by DDPG with hindsight."""

    ALGO: ClassVar[str] = "her_ddpg"

    algorithm: HERConfig = field(default_factory=HERConfig)
    train: HERRunConfig = field(default_factory=HERRunConfig)

    @property
    def hindsight_share(self) -> float:
        """Share of transitions in a batch that have a goal in hindsight: 1 - 1 / (1 + k)."""
        return 1 - 1 / (1 + self.algorithm.her_k)

    @property
    def lowest_target(self) -> float | None:
        """The least return of rewards -1 and 0; None where targets are not clipped."""
        return -1 / (1 - self.algorithm.discount) if self.algorithm.clip_targets else None

    def conditions(self) -> Sequence[tuple[str, bool, str]]:
        """See Settings."""
        config = self.algorithm
        return (
            ("action_repeat", self.task.action_repeat == 1, "1, since a new goal's reward is known for single steps"),
            ("her_k", config.her_k >= 0, "0 or more"),
            ("episodes_per_cycle", config.episodes_per_cycle >= 1, "at least 1"),
            ("updates_per_cycle", config.updates_per_cycle >= 1, "at least 1"),
            ("discount", config.discount < 1 or not config.clip_targets, "below 1 unless --no-clip-targets is given"),
            ("polyak", 0 <= config.polyak <= 1, "from 0 to 1"),
            ("action_l2", config.action_l2 >= 0, "0 or more"),
            ("random_eps", 0 <= config.random_eps <= 1, "from 0 to 1"),
        )


class HERTrainer(TrainingLoop):
    """A run of DDPG with hindsight: whole episodes, and after every few of them a cycle of updates."""

    LOOP_STATE = (*TrainingLoop.LOOP_STATE, "updates_done", "episodes_waiting")
    PLAY_BACK = "python -m baselines.eval"
    SETTINGS = HERSettings
    REPORTS_SUCCESS = True

    config: HERSettings

    def __init__(self, config: HERSettings, console: Console, resume: bool = False) -> None:
        """Prepares a new run, or the continuation of the one in config's run folder.

        Raises UserError for whatever the user can put right, before anything is written.
        """
        state = self._prepare(config, console, resume)
        algorithm, seed = config.algorithm, config.train.seed
        goals, compute_reward = goals_of(self.stepper.envs[0], config.task_name)
        replay = self.stepper.env_info, config.train.num_envs, algorithm.replay_capacity
        self.replay = EpisodeReplay(*replay, goals, compute_reward)
        self.player = self.ddpg = make_networks(self.config, self.spec, goals).to(self.device)
        self.optimizers = {
            "critic": torch.optim.Adam(self.ddpg.critic.parameters(), algorithm.critic_lr, fused=True),
            "actor": torch.optim.Adam(self.ddpg.actor.parameters(), algorithm.actor_lr, fused=True),
        }
        self.action_rng, self.replay_rng = (
            np.random.default_rng(seed_for(seed, stream)) for stream in (ACTIONS, REPLAY)
        )
        self.updates_done = 0
        self.episodes_waiting = 0  # since the last cycle
        self.last_metrics: Metrics = {}
        self._begin(state, self.metric_names())
        if state is None:
            self.replay.begin(np.stack(self.stepper.reset()[0]))

    @classmethod
    def metric_names(cls) -> tuple[str, ...]:
        """Every name that an episode's and an update's metrics have."""
        return ("success", *GoalDDPG.metric_names)

    @property
    def num_updates(self) -> int:
        """Updates so far."""
        return self.updates_done

    def _step(self) -> None:
        actions = self._explore(self.replay.obs)
        self.stepper.send(actions)
        result = self.stepper.receive()
        self.episode_return += result.reward
        self.episode_length += 1
        for i, first_frame in enumerate(result.first_frame):
            if first_frame is not None:
                self._note_success(i)
                self._log_episode(i)
        ended = self.replay.add(actions, result)
        self.agent_step += len(actions)
        self.episodes_waiting += len(ended)
        with self.stopwatch.section("update"):
            for obs in ended:
                self.ddpg.update_normalisers(obs)
        while self.episodes_waiting >= self.config.algorithm.episodes_per_cycle:
            self.episodes_waiting -= self.config.algorithm.episodes_per_cycle
            self._cycle()
        self.progress.update(self.env_step, "training")

    def _explore(self, obs: np.ndarray) -> np.ndarray:
        """The policy's actions with noise, some of them random. float32 (N, D) -> float32 (N, A) in [-1, 1]."""
        config, rng = self.config.algorithm, self.action_rng
        actions = self.ddpg.act(obs).cpu().numpy()
        noise = config.exploration_noise * rng.standard_normal(actions.shape, dtype=np.float32)
        anything = rng.uniform(-1, 1, actions.shape).astype(np.float32)
        is_random = rng.random((len(actions), 1)) < config.random_eps
        return np.where(is_random, anything, (actions + noise).clip(-1, 1)).astype(np.float32)

    def _note_success(self, i: int) -> None:
        success = self.stepper.envs[i].last_info.get("is_success")
        if success is not None:
            self.means.add({"success": torch.tensor(float(success), device=self.device)})

    def _cycle(self) -> None:
        for _ in range(self.config.algorithm.updates_per_cycle):
            self._update()
        self.ddpg.move_targets(self.config.algorithm.polyak)

    def _update(self) -> None:
        """One step of the critic, then one of the actor, on the same batch."""
        config = self.config.algorithm
        with self.stopwatch.section("sample"):
            share = self.config.hindsight_share
            batch = self.replay.sample(config.batch_size, share, config.discount, self.replay_rng, self.device)
        with self.stopwatch.section("update"):
            metrics: Metrics = {}
            for name, loss_of in (("critic", self.ddpg.critic_loss), ("actor", self.ddpg.actor_loss)):
                loss, told = loss_of(batch)
                self.optimizers[name].zero_grad()
                # The actor's loss goes through the critic, but has no gradient for it.
                loss.backward(inputs=[*getattr(self.ddpg, name).parameters()])
                self.optimizers[name].step()
                metrics |= told
            self.last_metrics = {name: value.detach() for name, value in metrics.items()}
            self.means.add(self.last_metrics)
            self.updates_done += 1

    def _check_finite(self) -> None:
        # What is not finite once stays so: the newest losses tell for all before.
        for name, value in self.last_metrics.items():
            if not torch.isfinite(value):
                raise UserError(
                    f"{name} is not finite after update {self.updates_done}: training stopped; the last checkpoint is "
                    "from before; try a smaller --actor-lr and --critic-lr"
                )

    # What the loop around it asks.

    def _playable(self) -> dict[str, Any]:
        return {"agent": self.config.variant, "networks": self.ddpg.state_dict()}

    @staticmethod
    def load_player(config: HERSettings, spec: EnvSpec, device: torch.device, learning: dict) -> GoalDDPG:
        """What plays, as a checkpoint's "learning" left it."""
        with contextlib.closing(envs.from_config(config.task, seed=0)) as env:
            goals, _ = goals_of(env, config.task_name)
        player = make_networks(config, spec, goals).to(device)
        player.load_state_dict(learning["networks"])
        return player

    def _default_settings(self) -> HERSettings:
        return HERSettings()

    def _state(self) -> dict[str, Any]:
        optimizers = {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}
        return {
            "learning": self._playable() | {"optimizers": optimizers},
            "episodes": self.replay.state(),
            "random": {
                "actions": self.action_rng.bit_generator.state,
                "replay": self.replay_rng.bit_generator.state,
            },
        }

    def _restore_state(self, state: dict[str, Any]) -> None:
        self.ddpg.load_state_dict(state["learning"]["networks"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["learning"]["optimizers"][name])
        self.replay.load(state["episodes"])
        self.action_rng.bit_generator.state = state["random"]["actions"]
        self.replay_rng.bit_generator.state = state["random"]["replay"]


def make_networks(config: HERSettings, spec: EnvSpec, goals: GoalSpace) -> GoalDDPG:
    """Networks with random parameters. Raises UserError where the task's actions are choices."""
    if spec.num_actions is not None:
        raise UserError(
            f"algo is her_ddpg, whose actions are continuous, but {config.task_name} has {spec.num_actions} discrete "
            "ones; choose another --env"
        )
    return GoalDDPG(spec, goals, config.algorithm.hidden_dim, config.algorithm.action_l2, config.lowest_target)
