"""Proximal policy optimisation with a clipped ratio (Schulman et al. 2017, arXiv:1707.06347).

Symbols: r = pi(a|s) / pi_old(a|s); A = batch.advantage.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from baselines import on_policy
from baselines.actor_critic import ActorCritic
from baselines.on_policy import minibatches
from baselines.rollout import RolloutBatch
from baselines.settings.on_policy import PPOSettings
from baselines.vpg import approximate_kl
from sacae.types import Metrics


class PPO:
    """The policy's steps: Adam on the clipped objective, until the policy has gone far enough."""

    metric_names: tuple[str, ...] = ("policy_loss", "entropy", "kl", "clip_fraction", "policy_steps")

    def __init__(self, actor_critic: ActorCritic, config: PPOSettings) -> None:
        self._actor_critic, self._config = actor_critic, config
        self._optimizer = torch.optim.Adam(actor_critic.policy_parameters(), config.policy_lr)

    def improve(self, batch: RolloutBatch, rng: np.random.Generator) -> Metrics:
        """Steps on passes over the batch. Loss and entropy are of the first step, the rest is of the last."""
        config, steps = self._config, 0
        metrics: Metrics = {}
        for part in self._parts(batch, rng):
            policy = self._actor_critic.policy(part.obs)
            log_prob = policy.log_prob(part.action)
            kl = approximate_kl(log_prob.detach(), part.log_prob)
            if kl > 1.5 * config.target_kl:
                break
            loss, clipped = clipped_loss(log_prob, part.log_prob, part.advantage, config.clip_ratio)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            steps += 1
            if not metrics:
                metrics = {"policy_loss": loss.detach(), "entropy": policy.entropy().mean().detach()}
        else:
            kl = self._kl(part)
        metrics |= {"clip_fraction": clipped, "kl": kl}
        return metrics | {"policy_steps": torch.tensor(float(steps), device=batch.obs.device)}

    @torch.no_grad()
    def _kl(self, part: RolloutBatch) -> torch.Tensor:
        """The divergence from the policy that collected the batch."""
        return approximate_kl(self._actor_critic.policy(part.obs).log_prob(part.action), part.log_prob)

    def _parts(self, batch: RolloutBatch, rng: np.random.Generator) -> Iterator[RolloutBatch]:
        for _ in range(self._config.policy_updates):
            yield from minibatches(batch, self._config.minibatch_size, rng)

    def state(self) -> dict[str, Any]:
        """See PolicyStep."""
        return self._optimizer.state_dict()

    def load(self, state: dict[str, Any]) -> None:
        """See PolicyStep."""
        self._optimizer.load_state_dict(state)


def clipped_loss(
    log_prob: torch.Tensor, old_log_prob: torch.Tensor, advantage: torch.Tensor, clip_ratio: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """-E[min(r A, clip(r, 1 - eps, 1 + eps) A)] (eq. 7), and the share of steps whose ratio lies outside. (B,) each."""
    ratio = (log_prob - old_log_prob).exp()
    within = ratio.clamp(1 - clip_ratio, 1 + clip_ratio)
    loss = -torch.min(ratio * advantage, within * advantage).mean()
    return loss, (ratio.detach() != within.detach()).float().mean()


ALGORITHM = on_policy.algorithm(PPOSettings, PPO)
