"""Vanilla policy gradient (Sutton et al. 2000; Williams 1992), with a value function as baseline.

Symbols: A = batch.advantage; pi_old = the policy that collected the batch.
"""

from typing import Any

import numpy as np
import torch

from baselines import on_policy
from baselines.actor_critic import ActorCritic
from baselines.rollout import RolloutBatch
from baselines.settings.on_policy import VPGSettings
from sacae.types import Metrics


class VPG:
    """The policy's step: Adam on -E[log pi(a|s) A]."""

    metric_names: tuple[str, ...] = ("policy_loss", "entropy", "kl")

    def __init__(self, actor_critic: ActorCritic, config: VPGSettings) -> None:
        self._actor_critic = actor_critic
        self._optimizer = torch.optim.Adam(actor_critic.policy_parameters(), config.policy_lr)

    def improve(self, batch: RolloutBatch, _rng: np.random.Generator) -> Metrics:
        """One step on all of the batch."""
        policy = self._actor_critic.policy(batch.obs)
        loss = policy_gradient_loss(policy.log_prob(batch.action), batch.advantage)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        with torch.no_grad():
            log_prob = self._actor_critic.policy(batch.obs).log_prob(batch.action)
            kl = approximate_kl(log_prob, batch.log_prob)
        return {"policy_loss": loss.detach(), "entropy": policy.entropy().mean().detach(), "kl": kl}

    def state(self) -> dict[str, Any]:
        """See PolicyStep."""
        return self._optimizer.state_dict()

    def load(self, state: dict[str, Any]) -> None:
        """See PolicyStep."""
        self._optimizer.load_state_dict(state)


def policy_gradient_loss(log_prob: torch.Tensor, advantage: torch.Tensor) -> torch.Tensor:
    """-E[log pi(a|s) A], whose gradient is minus the policy gradient at pi = pi_old. (B,), (B,) -> ()."""
    return -(log_prob * advantage).mean()


def approximate_kl(log_prob: torch.Tensor, old_log_prob: torch.Tensor) -> torch.Tensor:
    """KL(pi_old || pi) estimated from actions of pi_old: E[r - 1 - log r] with r = pi / pi_old, never negative.

    Schulman 2020, "Approximating KL divergence". (B,), (B,) -> ().
    """
    log_ratio = log_prob - old_log_prob
    return (log_ratio.exp() - 1 - log_ratio).mean()


ALGORITHM = on_policy.algorithm(VPGSettings, VPG)
