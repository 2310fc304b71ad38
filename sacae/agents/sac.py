"""Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905), as SAC-AE uses it (Yarats et al. 2019).

Symbols: s, a, r, s' = batch.obs, .action, .reward, .next_obs; gamma = batch.discount; alpha = temperature(head).
"""

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from sacae.agents.critic import Critic, bellman_error, over_views
from sacae.agents.head import OnEncoder
from sacae.agents.settings.parts import GaussianSettings
from sacae.agents.settings.sac import SACSettings
from sacae.agents.temperature import add_temperature, temperature
from sacae.encoder import Encoder, tie
from sacae.networks import (
    MLP,
    clipped_tanh_correction,
    exact_tanh_correction,
    gaussian_entropy,
    gaussian_log_prob,
    own_parameters,
)
from sacae.types import Batch, EnvSpec, Metrics, Noise

LEAST_STD = 1e-4
"""Added to a softplus standard deviation, which could otherwise reach 0, where there is no density."""


class Policy(nn.Module):
    """The actor pi(a|s): a Gaussian on the actor's own projection, squashed by tanh."""

    entropy_weights: torch.Tensor | None

    def __init__(
        self, encoder: Encoder, action_dim: int, hidden_dim: int, config: GaussianSettings, weighs_entropy: bool = False
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.trunk = MLP(encoder.feature_dim, hidden_dim, 2 * action_dim)
        # The weight of each action dimension's entropy with --causal-entropy; training sets it.
        self.register_buffer("entropy_weights", torch.ones(action_dim) if weighs_entropy else None)
        self.std = config.std
        self.log_std_bounds = (config.log_std_min, config.log_std_max)
        self.exact_tanh = config.tanh_correction == "exact"

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log standard deviation before tanh. (B, flat_dim) -> (B, A), (B, A)."""
        mean, unbounded = self.trunk(self.encoder.project(features)).chunk(2, dim=-1)
        return mean, self._log_std(unbounded)

    def _log_std(self, unbounded: torch.Tensor) -> torch.Tensor:
        """The log standard deviation from the network's output, as the `std` setting says. (B, A) -> (B, A)."""
        low, high = self.log_std_bounds
        if self.std == "softplus":
            return torch.log(F.softplus(unbounded) + LEAST_STD)
        if self.std == "clamped":
            return unbounded.clamp(low, high)
        # Rescaled rather than clamped, so that the gradient never vanishes at the bounds.
        return low + 0.5 * (high - low) * (torch.tanh(unbounded) + 1)

    def sample(self, features: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Action in (-1, 1), its log-probability, and the log standard deviation.

        With causal entropy the log-probability is that of each dimension times its weight (Ji et al. 2024, eq. 5).

        (B, flat_dim), standard normal (B, A) -> (B, A), (B, 1), (B, A).
        """
        mean, log_std = self(features)
        before_tanh = mean + noise * log_std.exp()
        action = torch.tanh(before_tanh)
        correction = exact_tanh_correction(before_tanh) if self.exact_tanh else clipped_tanh_correction(action)
        log_prob = gaussian_log_prob(noise, log_std) - correction
        if self.entropy_weights is not None:
            log_prob = self.entropy_weights * log_prob
        return action, log_prob.sum(-1, keepdim=True), log_std

    def act(self, features: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """A sampled action, or the mean action if noise is None. (B, flat_dim), (B, A) -> (B, A) in (-1, 1)."""
        if noise is None:
            mean, _ = self(features)
            return torch.tanh(mean)
        return self.sample(features, noise)[0]


class SAC(nn.Module):
    """Networks and losses of SAC. The agent owns the order of an update, its gates and the optimisers."""

    metric_names = ("critic_loss", "q", "batch_reward", "actor_loss", "alpha_loss", "alpha", "entropy")
    noise = ("next_action", "action")
    log_alpha: nn.Parameter | None
    fixed_alpha: torch.Tensor | None

    def __init__(self, make_encoder: Callable[[], Encoder], spec: EnvSpec, config: SACSettings) -> None:
        super().__init__()
        self.critic = Critic(make_encoder(), spec.action_dim, config.hidden_dim)
        self.critic_target = copy.deepcopy(self.critic).requires_grad_(False)
        weighs_entropy = config.causal_entropy != "off"
        self.actor = Policy(make_encoder(), spec.action_dim, config.hidden_dim, config, weighs_entropy)
        tie(self.actor, self.critic, config.tying)
        add_temperature(self, config)
        self.action_dim = spec.action_dim
        self.target_entropy = -float(spec.action_dim)

    def exploration_noise(self, rng: np.random.Generator, count: int, env_step: int) -> NDArray[np.float32]:
        """Standard normal float32 (count, A): the policy explores by being sampled."""
        return rng.standard_normal((count, self.action_dim), dtype=np.float32)

    def act(self, features: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """A sampled action, or the mean action if noise is None. (B, flat_dim), (B, A) -> (B, A) in (-1, 1)."""
        return self.actor.act(features, noise)

    def critic_loss(self, features: torch.Tensor, batch: Batch, noise: Noise) -> tuple[torch.Tensor, Metrics]:
        """Soft Bellman error (eq. 5 and 6): the sum of both Qs' mean squared errors to one target."""
        with torch.no_grad():
            next_features = self.actor.encoder.features(batch.next_obs)
            next_action, next_log_prob, _ = self.actor.sample(next_features, noise.next_action)
            target_features = self.critic_target.encoder.features(batch.next_obs)
            next_q = self.critic_target(target_features, next_action).amin(0)
            next_value = next_q - temperature(self) * next_log_prob
            target_q = batch.reward + batch.discount * over_views(next_value, batch)
        q = self.critic(features, batch.action)
        return bellman_error(q, target_q, batch)

    def policy_loss(
        self, features: torch.Tensor, critic_features: torch.Tensor, noise: Noise
    ) -> tuple[torch.Tensor, Metrics]:
        """Actor's loss (eq. 9) plus the temperature's (eq. 18); no parameter is in both."""
        action, log_prob, log_std = self.actor.sample(features, noise.action)
        q = self.critic(critic_features, action, frozen=True).amin(0)
        alpha = temperature(self)
        actor_loss = (alpha.detach() * log_prob - q).mean()
        alpha_loss = (alpha * (-log_prob - self.target_entropy).detach()).mean()
        metrics = {
            "actor_loss": actor_loss,
            "alpha_loss": alpha_loss,
            "alpha": alpha,
            "entropy": gaussian_entropy(log_std).mean(),
        }
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
