"""Soft actor-critic for discrete actions (Christodoulou 2019, arXiv:1910.07207), in one or several action dimensions.

Expectations over actions are exact. With several dimensions (Seyde et al. 2022, arXiv:2210.12566) the policy is
independent in each, and values are means over dimensions.

Symbols: s, a, r, s' = batch.obs, .action, .reward, .next_obs; gamma = batch.discount; alpha = temperature(head).
"""

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from sacae.agents.critic import bellman_error, choices_of, chosen_value, over_views
from sacae.agents.head import OnEncoder
from sacae.agents.settings.discrete_sac import DiscreteSACSettings
from sacae.agents.temperature import add_temperature, temperature
from sacae.encoder import Encoder, tie
from sacae.networks import MLP, EnsembleMLP, own_parameters
from sacae.types import Batch, EnvSpec, Metrics, Noise


class CategoricalPolicy(nn.Module):
    """The actor pi(a|s): a categorical distribution in each action dimension, on the actor's own projection."""

    def __init__(self, encoder: Encoder, spec: EnvSpec, hidden_dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.choices = choices_of(spec)
        self.trunk = MLP(encoder.feature_dim, hidden_dim, math.prod(self.choices))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Log-probabilities. (B, flat_dim) -> (B, A, n)."""
        logits = self.trunk(self.encoder.project(features)).unflatten(-1, self.choices)
        return F.log_softmax(logits, dim=-1)


class DiscreteCritic(nn.Module):
    """Q1(s, .) and Q2(s, .) of every choice in each action dimension, on one encoder."""

    def __init__(self, encoder: Encoder, spec: EnvSpec, hidden_dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.choices = choices_of(spec)
        self.q = EnsembleMLP(encoder.feature_dim, hidden_dim, math.prod(self.choices))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, flat_dim) -> (2, B, A, n)."""
        q: torch.Tensor = self.q(self.encoder.project(features)).unflatten(-1, self.choices)
        return q


def expectation(log_pi: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Expected value under the policy, averaged over action dimensions. (B, A, n), (B, A, n) -> (B, 1)."""
    return (log_pi.exp() * values).sum(-1).mean(-1, keepdim=True)


class DiscreteSAC(nn.Module):
    """Networks and losses of discrete SAC. The agent owns the order of an update, its gates and the optimisers."""

    metric_names = ("critic_loss", "q", "batch_reward", "actor_loss", "alpha_loss", "alpha", "entropy")
    noise = ()
    log_alpha: nn.Parameter | None
    fixed_alpha: torch.Tensor | None

    def __init__(self, make_encoder: Callable[[], Encoder], spec: EnvSpec, config: DiscreteSACSettings) -> None:
        super().__init__()
        self.critic = DiscreteCritic(make_encoder(), spec, config.hidden_dim)
        self.critic_target = copy.deepcopy(self.critic).requires_grad_(False)
        self.actor = CategoricalPolicy(make_encoder(), spec, config.hidden_dim)
        tie(self.actor, self.critic, config.tying)
        add_temperature(self, config)
        self.choices = choices_of(spec)
        self.target_entropy = config.target_entropy_factor * math.log(self.choices[1])  # in each dimension

    def exploration_noise(self, rng: np.random.Generator, count: int, env_step: int) -> NDArray[np.float32]:
        """Gumbel float32 (count, A, n): the largest of log-probabilities plus Gumbel noise is a sample."""
        return rng.gumbel(size=(count, *self.choices)).astype(np.float32)

    def act(self, features: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """A sampled action, or the most probable one if noise is None. (B, flat_dim), (B, A, n) -> int64 (B, A)."""
        log_pi: torch.Tensor = self.actor(features)
        return (log_pi if noise is None else log_pi + noise).argmax(-1)

    def critic_loss(self, features: torch.Tensor, batch: Batch, noise: Noise) -> tuple[torch.Tensor, Metrics]:
        """Soft Bellman error: the sum of both Qs' mean squared errors to one target."""
        with torch.no_grad():
            next_log_pi = self.actor(self.actor.encoder.features(batch.next_obs))
            next_q = self.critic_target(self.critic_target.encoder.features(batch.next_obs)).amin(0)
            next_value = expectation(next_log_pi, next_q - temperature(self) * next_log_pi)
            target_q = batch.reward + batch.discount * over_views(next_value, batch)
        q = chosen_value(self.critic(features), batch.action)
        return bellman_error(q, target_q, batch)

    def policy_loss(
        self, features: torch.Tensor, critic_features: torch.Tensor, noise: Noise
    ) -> tuple[torch.Tensor, Metrics]:
        """Actor's loss plus the temperature's, both expectations under pi."""
        log_pi = self.actor(features)
        with torch.no_grad():
            q = self.critic(critic_features).amin(0)
        alpha = temperature(self)
        actor_loss = expectation(log_pi, alpha.detach() * log_pi - q).mean()
        entropy = expectation(log_pi, -log_pi).detach()
        alpha_loss = (alpha * (entropy - self.target_entropy)).mean()
        metrics = {"actor_loss": actor_loss, "alpha_loss": alpha_loss, "alpha": alpha, "entropy": entropy.mean()}
        return actor_loss + (0 if self.log_alpha is None else alpha_loss), metrics

    def targets(self) -> list[tuple[OnEncoder, OnEncoder]]:
        """(online network, target network)."""
        return [(self.critic, self.critic_target)]

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of each optimiser. The encoder is the critic's; the actor's moves no convolution."""
        steps = {"critic": [*self.critic.parameters()], "actor": own_parameters(self.actor, self.critic)}
        if self.log_alpha is not None:
            steps["temperature"] = [self.log_alpha]
        return steps
