"""Training of a policy on what it has just done: collect, estimate advantages, improve the policy, fit the value."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from baselines.actor_critic import ActorCritic
from baselines.algorithm import Algorithm
from baselines.rollout import Rollout, RolloutBatch
from baselines.settings import Baseline
from baselines.settings.on_policy import OnPolicySettings
from sacae.envs.contract import Stepper, StepResult
from sacae.training.learner import Learner, require_finite
from sacae.training.run import Run
from sacae.training.streams import ACTIONS, UPDATES, restore, seed_for
from sacae.types import Actions, EnvSpec, Frames, Metrics


class PolicyStep(Protocol):
    """How an algorithm improves the policy.

    metric_names: of what `improve` returns.
    """

    metric_names: tuple[str, ...]

    def __init__(self, actor_critic: ActorCritic, config: OnPolicySettings) -> None:
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


def metric_names(policy_step: type[PolicyStep]) -> tuple[str, ...]:
    """Every name that an update's metrics have."""
    return (*policy_step.metric_names, "value_loss")


class OnPolicyLearner(Learner):
    """Collects steps with the policy, and learns from them once there are enough; `policy_step` says how."""

    def __init__(
        self,
        policy_step: type[PolicyStep],
        config: Baseline[OnPolicySettings],
        spec: EnvSpec,
        _stepper: Stepper,
        device: torch.device,
    ) -> None:
        seed, algorithm, num_envs = config.train.seed, config.algorithm, config.train.num_envs
        self.config, self.device = config, device
        self.player = self.actor_critic = ActorCritic(spec, algorithm.hidden_dim).to(device)
        self.policy_step = policy_step(self.actor_critic, algorithm)
        self.metric_names = metric_names(policy_step)
        self.value_optimizer = torch.optim.Adam(self.actor_critic.critic.parameters(), algorithm.value_lr)
        self.rollout = Rollout(spec, algorithm.steps_per_update // num_envs, num_envs)
        self.action_generator = torch.Generator(device).manual_seed(seed_for(seed, ACTIONS))
        self.minibatch_rng = np.random.default_rng(seed_for(seed, UPDATES))
        self._updates_done = 0
        self._obs: Frames  # (N, D), what the next actions answer to

    @property
    def updates_done(self) -> int:
        """See Learner."""
        return self._updates_done

    def begin(self, frames: Sequence[Frames], _states: Sequence[NDArray[np.float32] | None]) -> None:
        """See Learner."""
        self._obs = np.stack(frames)
        self.rollout.cut_off(range(len(frames)))

    def act(self, _run: Run) -> Actions:
        """See Learner."""
        obs = torch.from_numpy(self._obs).to(self.device)
        self._before = self.action_generator.get_state()
        try:
            self._drawn = self.actor_critic.sample(obs, self.action_generator).cpu().numpy()
        except RuntimeError:  # of probabilities that are not finite
            self.check_finite()
            raise
        # The policy's Gaussian is not bounded, the task's actions are. The update sees what was drawn.
        return self._drawn if self.actor_critic.discrete else self._drawn.clip(-1, 1)

    def take_back(self) -> None:
        """See Learner."""
        self.action_generator.set_state(self._before)

    def check_finite(self) -> None:
        """See Learner."""
        with torch.no_grad():
            outputs = self.actor_critic.actor(torch.from_numpy(self._obs).to(self.device))
        require_finite({"the policy": outputs.abs().max()}, self._updates_done)

    def observe(self, _run: Run, _actions: Actions, result: StepResult) -> None:
        """See Learner."""
        self.rollout.add(self._obs, self._drawn, result)
        self._obs = result.next_obs()

    def after_step(self, run: Run) -> None:
        """An update, once the steps for it are there."""
        if self.rollout.full:
            with run.stopwatch.section("update"):
                metrics = self._update()
            require_finite(metrics, self._updates_done)
            run.means.add(metrics)

    def _update(self) -> Metrics:
        config = self.config.algorithm
        monte_carlo = config.value_target == "returns"
        batch = self.rollout.batch(self.actor_critic, config.discount, config.gae_lambda, monte_carlo, self.device)
        metrics = self.policy_step.improve(batch, self.minibatch_rng)
        metrics["value_loss"] = self._fit_value(batch)
        self._updates_done += 1
        return {name: value.detach() for name, value in metrics.items()}

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

    # What evaluations and checkpoints ask for.

    def playable(self) -> dict[str, Any]:
        """See Learner."""
        return {"agent": self.config.variant, "networks": self.actor_critic.state_dict()}

    def state(self) -> dict[str, Any]:
        """See Learner."""
        return {
            "learning": self.playable()
            | {"policy_step": self.policy_step.state(), "value_optimizer": self.value_optimizer.state_dict()},
            "learner": {"updates_done": self._updates_done, "obs": self._obs},
            "rollout": self.rollout.state(),
            "random": {
                "actions": self.action_generator.get_state(),
                "minibatches": self.minibatch_rng.bit_generator.state,
            },
        }

    def load(self, state: Mapping[str, Any]) -> bool:
        """See Learner."""
        self.actor_critic.load_state_dict(state["learning"]["networks"])
        self.policy_step.load(state["learning"]["policy_step"])
        self.value_optimizer.load_state_dict(state["learning"]["value_optimizer"])
        self._updates_done, self._obs = state["learner"]["updates_done"], state["learner"]["obs"]
        self.rollout.load(state["rollout"])
        seed = seed_for(self.config.train.seed, ACTIONS, self._updates_done)
        restore(self.action_generator, state["random"]["actions"], seed)
        self.minibatch_rng.bit_generator.state = state["random"]["minibatches"]
        return True


def load_player(
    config: Baseline[OnPolicySettings], spec: EnvSpec, device: torch.device, learning: dict[str, Any]
) -> ActorCritic:
    """What plays, as a checkpoint's "learning" left it."""
    player = ActorCritic(spec, config.algorithm.hidden_dim).to(device)
    player.load_state_dict(learning["networks"])
    return player


def algorithm(settings: type[OnPolicySettings], policy_step: type[PolicyStep]) -> Algorithm:
    """The algorithm that improves its policy by these steps."""
    learner = functools.partial(OnPolicyLearner, policy_step)
    return Algorithm(settings, learner, load_player, metric_names(policy_step))
