"""Deep deterministic policy gradient (Lillicrap et al. 2015, arXiv:1509.02971).

Symbols: s, a, r, s' = batch.obs, .action, .reward, .next_obs; gamma = batch.discount; mu = actor.
"""

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sacae.agents.critic import Critic, bellman_error, over_views
from sacae.agents.head import OnEncoder
from sacae.agents.settings.ddpg import DDPGSettings
from sacae.agents.settings.parts import ExplorationSettings
from sacae.encoder import Encoder, features_of, tie
from sacae.networks import MLP, linear_schedule, own_parameters
from sacae.types import Batch, EnvSpec, Metrics, Noise


class DeterministicPolicy(nn.Module):
    """The actor mu(s): tanh of an MLP on the actor's own projection."""

    def __init__(self, encoder: Encoder, action_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.trunk = MLP(encoder.feature_dim, hidden_dim, action_dim)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, flat_dim) -> (B, A) in (-1, 1)."""
        return torch.tanh(self.trunk(self.encoder.project(features)))


class GaussianExploration:
    """Noise on a deterministic policy's actions. Its standard deviation falls linearly with environment steps."""

    def __init__(self, action_dim: int, config: ExplorationSettings) -> None:
        self.action_dim = action_dim
        self.schedule = config.exploration_noise_start, config.exploration_noise, config.exploration_steps

    def __call__(self, rng: np.random.Generator, count: int, env_step: int) -> NDArray[np.float32]:
        """Normal float32 (count, A) with the standard deviation of that environment step."""
        std = linear_schedule(*self.schedule, env_step)
        return np.float32(std) * rng.standard_normal((count, self.action_dim), dtype=np.float32)


def noisy(action: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
    """The action plus noise, clamped to [-1, 1]; unchanged if noise is None. (B, A), (B, A) -> (B, A)."""
    return action if noise is None else (action + noise).clamp(-1, 1)


class DDPG(nn.Module):
    """Networks and losses of DDPG. The agent owns the order of an update, its gates and the optimisers."""

    metric_names = ("critic_loss", "q", "batch_reward", "actor_loss")
    noise = ()

    def __init__(self, make_encoder: Callable[[], Encoder], spec: EnvSpec, config: DDPGSettings) -> None:
        super().__init__()
        self.critic = Critic(make_encoder(), spec.action_dim, config.hidden_dim, count=1)
        self.critic_target = copy.deepcopy(self.critic).requires_grad_(False)
        self.actor = DeterministicPolicy(make_encoder(), spec.action_dim, config.hidden_dim)
        self.actor_target = copy.deepcopy(self.actor).requires_grad_(False)
        tie(self.actor, self.critic, config.tying)
        tie(self.actor_target, self.critic_target, config.tying)
        self.exploration_noise = GaussianExploration(spec.action_dim, config)

    def act(self, features: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """mu(s), with exploration noise unless it is None. (B, flat_dim), (B, A) -> (B, A) in [-1, 1]."""
        return noisy(self.actor(features), noise)

    def critic_loss(self, features: torch.Tensor, batch: Batch, noise: Noise) -> tuple[torch.Tensor, Metrics]:
        """Bellman error (eq. 5): mean squared error to r + gamma Q'(s', mu'(s'))."""
        with torch.no_grad():
            target_features, actor_features = features_of(self.critic_target, self.actor_target, batch.next_obs)
            next_q = self.critic_target(target_features, self.actor_target(actor_features)).squeeze(0)
            target_q = batch.reward + batch.discount * over_views(next_q, batch)
        q = self.critic(features, batch.action)
        return bellman_error(q, target_q, batch)

    def policy_loss(
        self, features: torch.Tensor, critic_features: torch.Tensor, noise: Noise
    ) -> tuple[torch.Tensor, Metrics]:
        """The deterministic policy gradient (eq. 6): the descent of -Q(s, mu(s))."""
        loss = -self.critic(critic_features, self.actor(features), frozen=True).mean()
        return loss, {"actor_loss": loss}

    def targets(self) -> list[tuple[OnEncoder, OnEncoder]]:
        """(online network, target network) of critic and actor."""
        return [(self.critic, self.critic_target), (self.actor, self.actor_target)]

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of each optimiser. The encoder is the critic's; the actor's moves no convolution."""
        return {"critic": [*self.critic.parameters()], "actor": own_parameters(self.actor, self.critic)}
