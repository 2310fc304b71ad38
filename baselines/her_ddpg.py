"""DDPG with hindsight experience replay (Andrychowicz et al. 2017, arXiv:1707.01495), with the numbers of Plappert et
al. 2018 (arXiv:1802.09464).

Goals and episodes are in her_ddpg_replay.py, networks and losses in her_ddpg_networks.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from baselines import point_mass  # noqa: F401 - registers PointMassGoal-v0
from baselines.algorithm import Algorithm
from baselines.her_ddpg_networks import GoalDDPG
from baselines.her_ddpg_replay import ComputeReward, EpisodeReplay, GoalSpace, goals_of
from baselines.settings import Baseline
from baselines.settings.her_ddpg import HERSettings
from baselines.tasks import look_at
from sacae.envs.contract import Stepper, StepResult
from sacae.errors import UserError
from sacae.training.learner import Learner
from sacae.training.run import Run
from sacae.training.streams import ACTIONS, REPLAY, seed_for
from sacae.types import Actions, EnvSpec, Frames, Metrics


class HERLearner(Learner):
    """DDPG with hindsight: whole episodes, and after every few of them a cycle of updates."""

    metric_names = ("success", *GoalDDPG.metric_names)
    player: GoalDDPG

    def __init__(self, config: Baseline[HERSettings], spec: EnvSpec, stepper: Stepper, device: torch.device) -> None:
        algorithm, seed = config.algorithm, config.train.seed
        self.config, self.device = config, device
        goals, compute_reward = _goals(config)
        replay = stepper.env_info, config.train.num_envs, algorithm.replay_capacity
        self.replay = EpisodeReplay(*replay, goals, compute_reward)
        self.player = self.ddpg = make_networks(config, spec, goals).to(device)
        self.optimizers = {
            "critic": torch.optim.Adam(self.ddpg.critic.parameters(), algorithm.critic_lr, fused=True),
            "actor": torch.optim.Adam(self.ddpg.actor.parameters(), algorithm.actor_lr, fused=True),
        }
        self.action_rng, self.replay_rng = (
            np.random.default_rng(seed_for(seed, stream)) for stream in (ACTIONS, REPLAY)
        )
        self._updates_done = 0
        self.episodes_waiting = 0  # since the last cycle
        self.last_metrics: Metrics = {}
        self._result: StepResult
        self._ended: list[NDArray[np.float32]] = []

    @property
    def updates_done(self) -> int:
        """See Learner."""
        return self._updates_done

    def begin(self, frames: Sequence[Frames], _states: Sequence[NDArray[np.float32] | None]) -> None:
        """See Learner."""
        self.replay.begin(np.stack(frames))

    def act(self, _run: Run) -> NDArray[np.float32]:
        """See Learner."""
        self._before = self.action_rng.bit_generator.state
        return self._explore(self.replay.obs)

    def take_back(self) -> None:
        """See Learner."""
        self.action_rng.bit_generator.state = self._before

    def observe(self, _run: Run, actions: Actions, result: StepResult) -> None:
        """See Learner."""
        self._result = result
        self._ended = self.replay.add(actions, result)
        self.episodes_waiting += len(self._ended)

    def step_metrics(self, i: int) -> Metrics:
        """See Learner. Success counts at an episode's end."""
        success = self._result.success[i]
        if self._result.first_frame[i] is None or success is None:
            return {}
        return {"success": torch.tensor(float(success), device=self.device)}

    def after_step(self, run: Run) -> None:
        """Learns from the episodes that ended: the statistics of observations, then the cycles that are due."""
        with run.stopwatch.section("update"):
            for obs in self._ended:
                self.ddpg.update_normalisers(obs)
        while self.episodes_waiting >= self.config.algorithm.episodes_per_cycle:
            self.episodes_waiting -= self.config.algorithm.episodes_per_cycle
            self._cycle(run)

    def _explore(self, obs: NDArray[np.float32]) -> NDArray[np.float32]:
        """The policy's actions with noise, some of them random. float32 (N, D) -> float32 (N, A) in [-1, 1]."""
        config, rng = self.config.algorithm, self.action_rng
        actions = self.ddpg.act(obs).cpu().numpy()
        noise = config.exploration_noise * rng.standard_normal(actions.shape, dtype=np.float32)
        anything = rng.uniform(-1, 1, actions.shape).astype(np.float32)
        is_random = rng.random((len(actions), 1)) < config.random_eps
        return np.where(is_random, anything, (actions + noise).clip(-1, 1)).astype(np.float32)

    def _cycle(self, run: Run) -> None:
        for _ in range(self.config.algorithm.updates_per_cycle):
            self._update(run)
        self.ddpg.move_targets(self.config.algorithm.polyak)

    def _update(self, run: Run) -> None:
        """One step of the critic, then one of the actor, on the same batch."""
        config = self.config.algorithm
        with run.stopwatch.section("sample"):
            share = config.hindsight_share
            batch = self.replay.sample(config.batch_size, share, config.discount, self.replay_rng, self.device)
        with run.stopwatch.section("update"):
            metrics: Metrics = {}
            for name, loss_of in (("critic", self.ddpg.critic_loss), ("actor", self.ddpg.actor_loss)):
                loss, of_loss = loss_of(batch)
                self.optimizers[name].zero_grad()
                # The actor's loss goes through the critic, but has no gradient for it.
                loss.backward(inputs=[*getattr(self.ddpg, name).parameters()])
                self.optimizers[name].step()
                metrics |= of_loss
            self.last_metrics = {name: value.detach() for name, value in metrics.items()}
            run.means.add(self.last_metrics)
            self._updates_done += 1

    def check_finite(self) -> None:
        """See Learner."""
        # What is not finite once stays so: the newest losses tell for all before.
        for name, value in self.last_metrics.items():
            if not torch.isfinite(value):
                raise UserError(
                    f"{name} is not finite after update {self._updates_done}: training stopped; the last checkpoint is "
                    "from before; try a smaller --actor-lr and --critic-lr"
                )

    # What evaluations and checkpoints ask for.

    def playable(self) -> dict[str, Any]:
        """See Learner."""
        return {"agent": self.config.variant, "networks": self.ddpg.state_dict()}

    def state(self) -> dict[str, Any]:
        """See Learner."""
        optimizers = {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}
        return {
            "learning": self.playable() | {"optimizers": optimizers},
            "learner": {"updates_done": self._updates_done, "episodes_waiting": self.episodes_waiting},
            "episodes": self.replay.state(),
            "random": {
                "actions": self.action_rng.bit_generator.state,
                "replay": self.replay_rng.bit_generator.state,
            },
        }

    def load(self, state: Mapping[str, Any]) -> bool:
        """See Learner."""
        self.ddpg.load_state_dict(state["learning"]["networks"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["learning"]["optimizers"][name])
        counters = state["learner"]
        self._updates_done, self.episodes_waiting = counters["updates_done"], counters["episodes_waiting"]
        self.replay.load(state["episodes"])
        self.action_rng.bit_generator.state = state["random"]["actions"]
        self.replay_rng.bit_generator.state = state["random"]["replay"]
        return True


def load_player(
    config: Baseline[HERSettings], spec: EnvSpec, device: torch.device, learning: dict[str, Any]
) -> GoalDDPG:
    """What plays, as a checkpoint's "learning" left it."""
    goals, _ = _goals(config)
    player = make_networks(config, spec, goals).to(device)
    player.load_state_dict(learning["networks"])
    return player


def _goals(config: Baseline[HERSettings]) -> tuple[GoalSpace, ComputeReward]:
    """See `goals_of`; both are the same in every environment of the task."""
    return goals_of(*look_at(config), config.task_name)


def make_networks(config: Baseline[HERSettings], spec: EnvSpec, goals: GoalSpace) -> GoalDDPG:
    """Networks with random parameters. Raises UserError if the task's actions are choices."""
    if spec.num_actions is not None:
        raise UserError(
            f"algo is her_ddpg, whose actions are continuous, but {config.task_name} has {spec.num_actions} discrete "
            "ones; choose another --env"
        )
    algorithm = config.algorithm
    return GoalDDPG(spec, goals, algorithm.hidden_dim, algorithm.action_l2, algorithm.lowest_target)


def check_targets(config: Baseline[HERSettings]) -> None:
    """Raises UserError where targets are clipped at 0 and the task pays more for a reached goal."""
    if not config.algorithm.clip_targets:
        return
    goals, compute_reward = _goals(config)
    same = np.zeros((1, goals.goal_dim), np.float32)
    (reward,) = compute_reward(same, same)
    if reward > 0:
        raise UserError(
            f"clip_targets is on, which expects rewards of -1 and 0, but {config.task_name} rewards a reached goal "
            f"with {reward:g}; give --no-clip-targets"
        )


ALGORITHM = Algorithm(HERSettings, HERLearner, load_player, HERLearner.metric_names, check_new=check_targets)
