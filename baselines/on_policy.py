"""Training of a policy on what it has just done: collect, estimate advantages, improve the policy, fit the value."""

from collections.abc import Iterator
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from rich.console import Console
from torch.nn import functional as F

from baselines.actor_critic import ActorCritic
from baselines.rollout import Rollout, RolloutBatch
from baselines.settings.on_policy import OnPolicyConfig, OnPolicySettings
from sacae.training.loop import ACTIONS, UPDATES, TrainingLoop, seed_for
from sacae.types import EnvSpec

Metrics = dict[str, torch.Tensor]


class PolicyStep(Protocol):
    """How an algorithm improves the policy.

    metric_names: of what `improve` returns.
    """

    metric_names: tuple[str, ...]

    def __init__(self, actor_critic: ActorCritic, config: OnPolicyConfig) -> None:
        """Takes over the networks, of which it changes the policy's alone."""

    def improve(self, batch: RolloutBatch, rng: np.random.Generator) -> Metrics:
        """Changes the policy's parameters; returns metrics ()."""

    def state(self) -> dict[str, Any]:
        """For a checkpoint: what is learned beside the networks."""

    def load(self, state: dict[str, Any]) -> None:
        """Takes over what `state` returned."""


def minibatches(batch: RolloutBatch, size: int | None, rng: np.random.Generator) -> Iterator[RolloutBatch]:
    """A pass over all steps: all at once, or in random groups of that size, the last one what is left."""
    if size is None or size >= len(batch.obs):
        yield batch
        return
    for chosen in torch.from_numpy(rng.permutation(len(batch.obs))).to(batch.obs.device).split(size):
        yield RolloutBatch(*(column[chosen] for column in batch))


class OnPolicyTrainer(TrainingLoop):
    """A run of one of these algorithms. Subclasses name its settings and how it improves the policy."""

    SETTINGS: ClassVar[type[OnPolicySettings]]
    POLICY_STEP: ClassVar[type[PolicyStep]]
    LOOP_STATE = (*TrainingLoop.LOOP_STATE, "updates_done", "obs")
    PLAY_BACK = "python -m baselines.eval"

    config: OnPolicySettings

    def __init__(self, config: OnPolicySettings, console: Console, resume: bool = False) -> None:
        """Prepares a new run, or the continuation of the one in config's run folder.

        Raises UserError for whatever the user can put right, before anything is written.
        """
        state = self._prepare(config, console, resume)
        seed, algorithm = config.train.seed, config.algorithm
        self.player = self.actor_critic = ActorCritic(self.spec, algorithm.hidden_dim).to(self.device)
        self.policy_step = self.POLICY_STEP(self.actor_critic, algorithm)
        self.value_optimizer = torch.optim.Adam(self.actor_critic.critic.parameters(), algorithm.value_lr)
        num_envs = config.train.num_envs
        self.rollout = Rollout(self.spec, algorithm.steps_per_update // num_envs, num_envs)
        self.action_generator = torch.Generator(self.device).manual_seed(seed_for(seed, ACTIONS))
        self.minibatch_rng = np.random.default_rng(seed_for(seed, UPDATES))
        self.updates_done = 0
        self.obs: np.ndarray | None = None
        self._begin(state, self.metric_names())
        if self.obs is None:
            self.obs = np.stack(self.stepper.reset()[0])

    @classmethod
    def metric_names(cls) -> tuple[str, ...]:
        """Every name that an update's metrics have."""
        return (*cls.POLICY_STEP.metric_names, "value_loss")

    @property
    def num_updates(self) -> int:
        """Updates so far."""
        return self.updates_done

    def _step(self) -> None:
        obs = torch.from_numpy(self.obs).to(self.device)
        actions = self.actor_critic.sample(obs, self.action_generator).cpu().numpy()
        # The policy's Gaussian is not bounded, the task's actions are. The update sees what was drawn.
        self.stepper.send(actions if self.actor_critic.discrete else actions.clip(-1, 1))
        result = self.stepper.receive()
        self.rollout.add(self.obs, actions, result)
        self.obs = result.frame.copy()
        self.episode_return += result.reward
        self.episode_length += 1
        for i, first_frame in enumerate(result.first_frame):
            if first_frame is not None:
                self._log_episode(i)
                self.obs[i] = first_frame
        self.agent_step += len(actions)
        if self.rollout.full:
            with self.stopwatch.section("update"):
                self._learn()
        self.progress.update(self.env_step, "training")

    def _learn(self) -> None:
        config = self.config.algorithm
        monte_carlo = config.value_target == "returns"
        batch = self.rollout.batch(self.actor_critic, config.discount, config.gae_lambda, monte_carlo, self.device)
        metrics = self.policy_step.improve(batch, self.minibatch_rng)
        metrics["value_loss"] = self._fit_value(batch)
        self.updates_done += 1
        self._note({name: value.detach() for name, value in metrics.items()})

    def _fit_value(self, batch: RolloutBatch) -> torch.Tensor:
        """Regresses V on its targets; returns the mean squared error of the first pass."""
        config, losses = self.config.algorithm, []
        for _ in range(config.value_updates):
            for part in minibatches(batch, config.minibatch_size, self.minibatch_rng):
                loss = F.mse_loss(self.actor_critic.value(part.obs), part.value_target)
                self.value_optimizer.zero_grad()
                loss.backward()
                self.value_optimizer.step()
                losses.append(loss.detach())
        return torch.stack(losses[: max(1, len(losses) // config.value_updates)]).mean()

    # What the loop around it asks.

    def _playable(self) -> dict[str, Any]:
        return {"agent": self.config.variant, "networks": self.actor_critic.state_dict()}

    @staticmethod
    def load_player(config: OnPolicySettings, spec: EnvSpec, device: torch.device, learning: dict) -> ActorCritic:
        """What plays, as a checkpoint's "learning" left it."""
        player = ActorCritic(spec, config.algorithm.hidden_dim).to(device)
        player.load_state_dict(learning["networks"])
        return player

    def _default_settings(self) -> OnPolicySettings:
        return self.SETTINGS()

    def _state(self) -> dict[str, Any]:
        return {
            "learning": self._playable()
            | {"policy_step": self.policy_step.state(), "value_optimizer": self.value_optimizer.state_dict()},
            "rollout": self.rollout.state(),
            "random": {
                "actions": self.action_generator.get_state(),
                "minibatches": self.minibatch_rng.bit_generator.state,
            },
        }

    def _restore_state(self, state: dict[str, Any]) -> None:
        self.actor_critic.load_state_dict(state["learning"]["networks"])
        self.policy_step.load(state["learning"]["policy_step"])
        self.value_optimizer.load_state_dict(state["learning"]["value_optimizer"])
        self.rollout.load(state["rollout"])
        self.action_generator.set_state(state["random"]["actions"])
        self.minibatch_rng.bit_generator.state = state["random"]["minibatches"]
