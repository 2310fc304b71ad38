"""DDPG with hindsight experience replay (Andrychowicz et al. 2017, arXiv:1707.01495), with the numbers of Plappert et
al. 2018 (arXiv:1802.09464).

Goals and episodes are in her_ddpg_replay.py, networks and losses in her_ddpg_networks.py.
"""

import contextlib
from typing import Any

import numpy as np
import torch
from rich.console import Console

from baselines import point_mass  # noqa: F401 - registers PointMassGoal-v0
from baselines.her_ddpg_networks import GoalDDPG, Metrics
from baselines.her_ddpg_replay import EpisodeReplay, GoalSpace, goals_of
from baselines.settings.her_ddpg import HERSettings
from sacae import envs
from sacae.errors import UserError
from sacae.training.loop import ACTIONS, REPLAY, TrainingLoop, seed_for
from sacae.types import EnvSpec


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
