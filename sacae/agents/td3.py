"""Twin delayed DDPG (Fujimoto et al. 2018, arXiv:1802.09477): DDPG with clipped double Q, a delayed policy, smoothing.

Symbols: s, a, r, s' = batch.obs, .action, .reward, .next_obs; gamma = batch.discount; mu = actor. The delay is the
agent's: `actor_update_freq` and `critic_target_update_freq` count updates.
"""

import copy
from collections.abc import Callable

import torch
from torch import nn

from sacae.agents.critic import Critic, bellman_error, over_views
from sacae.agents.ddpg import DeterministicPolicy, GaussianExploration, noisy
from sacae.agents.head import OnEncoder
from sacae.agents.settings.td3 import TD3Settings
from sacae.encoder import Encoder, features_of, tie
from sacae.networks import own_parameters
from sacae.types import Batch, EnvSpec, Metrics, Noise


class TD3(nn.Module):
    """Networks and losses of TD3. The agent owns the order of an update, its gates and the optimisers."""

    metric_names = ("critic_loss", "q", "batch_reward", "actor_loss")
    noise = ("next_action",)

    def __init__(self, make_encoder: Callable[[], Encoder], spec: EnvSpec, config: TD3Settings) -> None:
        super().__init__()
        self.critic = Critic(make_encoder(), spec.action_dim, config.hidden_dim)
        self.critic_target = copy.deepcopy(self.critic).requires_grad_(False)
        self.actor = DeterministicPolicy(make_encoder(), spec.action_dim, config.hidden_dim)
        self.actor_target = copy.deepcopy(self.actor).requires_grad_(False)
        tie(self.actor, self.critic, config.tying)
        tie(self.actor_target, self.critic_target, config.tying)
        self.exploration_noise = GaussianExploration(spec.action_dim, config)
        self.target_noise, self.target_noise_clip = config.target_noise, config.target_noise_clip

    def act(self, features: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """mu(s), with exploration noise unless it is None. (B, flat_dim), (B, A) -> (B, A) in [-1, 1]."""
        return noisy(self.actor(features), noise)

    def smoothed_target_action(self, target_features: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """The target policy's action with clipped noise. (B, flat_dim), standard normal (B, A) -> (B, A)."""
        smoothing = (self.target_noise * noise).clamp(-self.target_noise_clip, self.target_noise_clip)
        return noisy(self.actor_target(target_features), smoothing)

    def critic_loss(self, features: torch.Tensor, batch: Batch, noise: Noise) -> tuple[torch.Tensor, Metrics]:
        """Clipped double Q (algorithm 1): the sum of both Qs' mean squared errors to the smaller target."""
        with torch.no_grad():
            target_features, actor_features = features_of(self.critic_target, self.actor_target, batch.next_obs)
            next_action = self.smoothed_target_action(actor_features, noise.next_action)
            next_q = self.critic_target(target_features, next_action).amin(0)
            target_q = batch.reward + batch.discount * over_views(next_q, batch)
        q = self.critic(features, batch.action)
        return bellman_error(q, target_q, batch)

    def policy_loss(
        self, features: torch.Tensor, critic_features: torch.Tensor, noise: Noise
    ) -> tuple[torch.Tensor, Metrics]:
        """The deterministic policy gradient through the first Q alone."""
        loss = -self.critic(critic_features, self.actor(features), frozen=True)[0].mean()
        return loss, {"actor_loss": loss}

    def targets(self) -> list[tuple[OnEncoder, OnEncoder]]:
        """(online network, target network) of critic and actor."""
        return [(self.critic, self.critic_target), (self.actor, self.actor_target)]

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of each optimiser. The encoder is the critic's; the actor's moves no convolution."""
        return {"critic": [*self.critic.parameters()], "actor": own_parameters(self.actor, self.critic)}
