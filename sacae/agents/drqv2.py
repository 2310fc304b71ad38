"""DrQ-v2 (Yarats et al. 2021, arXiv:2107.09645): DDPG with clipped double Q on augmented images.

Symbols: s, a, r, s' = batch.obs, .action, .reward, .next_obs; gamma = batch.discount, of n steps; mu = actor; sigma =
std, which falls during training. Actor and critic have a projection each on the critic's convolutions, and the target
critic has one too, on the same convolutions: there is no target of them.
"""

import copy
from collections.abc import Callable

import torch
from torch import nn

from sacae.agents.critic import Critic, bellman_error, over_views
from sacae.agents.ddpg import DeterministicPolicy, GaussianExploration
from sacae.agents.head import OnEncoder
from sacae.agents.settings.drqv2 import DrQV2Settings
from sacae.encoder import Encoder, features_of, tie
from sacae.networks import gaussian_entropy, gaussian_log_prob, linear_schedule, own_parameters
from sacae.types import Batch, EnvSpec, Metrics, Noise

LARGEST_ACTION = 1 - 1e-6
"""Bound on actions in the losses and in training, as in the authors' code."""

LEAST_STD = torch.finfo(torch.float32).tiny
"""Stands for a standard deviation of 0 in the metrics, where there is no density."""


def bounded(action: torch.Tensor) -> torch.Tensor:
    """The action within +-LARGEST_ACTION, with the gradient of the action itself. (B, A) -> (B, A)."""
    return action + (action.clamp(-LARGEST_ACTION, LARGEST_ACTION) - action).detach()


class DrQV2(nn.Module):
    """Networks and losses of DrQ-v2. The agent owns the order of an update, its gates and the optimisers."""

    metric_names = ("critic_loss", "q", "target_q", "batch_reward", "actor_loss", "actor_log_prob", "actor_entropy")
    noise = ("next_action", "action")
    std: torch.Tensor

    def __init__(self, make_encoder: Callable[[], Encoder], spec: EnvSpec, config: DrQV2Settings) -> None:
        super().__init__()
        self.critic = Critic(make_encoder(), spec.action_dim, config.hidden_dim)
        self.critic_target = copy.deepcopy(self.critic).requires_grad_(False)
        self.critic_target.encoder.copy_conv_weights_from(self.critic.encoder)
        self.actor = DeterministicPolicy(make_encoder(), spec.action_dim, config.hidden_dim)
        tie(self.actor, self.critic, config.tying)
        self.exploration_noise = GaussianExploration(spec.action_dim, config)
        self.noise_clip = config.noise_clip
        self.register_buffer("std", torch.tensor(config.exploration_noise_start))

    def follow_schedule(self, env_step: int) -> None:
        """Sets sigma, a tensor () that CUDA graphs read, to its value at that environment step."""
        self.std.fill_(linear_schedule(*self.exploration_noise.schedule, env_step))

    def act(self, features: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """mu(s), with exploration noise unless it is None. (B, flat_dim), (B, A) -> (B, A) in [-1, 1]."""
        action: torch.Tensor = self.actor(features)
        return action if noise is None else bounded(action + noise)

    def sample(self, features: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """mu(s), and the action around it with clipped noise (eq. 2). (B, flat_dim), standard normal (B, A)."""
        mean = self.actor(features)
        return mean, bounded(mean + (self.std * noise).clamp(-self.noise_clip, self.noise_clip))

    def critic_loss(self, features: torch.Tensor, batch: Batch, noise: Noise) -> tuple[torch.Tensor, Metrics]:
        """Clipped double Q with n-step returns (eq. 1): the sum of both Qs' mean squared errors to one target."""
        with torch.no_grad():
            actor_features, target_features = features_of(self.actor, self.critic_target, batch.next_obs)
            _, next_action = self.sample(actor_features, noise.next_action)
            next_q = self.critic_target(target_features, next_action).amin(0)
            target_q = batch.reward + batch.discount * over_views(next_q, batch)
        loss, metrics = bellman_error(self.critic(features, batch.action), target_q, batch)
        return loss, metrics | {"target_q": target_q.mean()}

    def policy_loss(
        self, features: torch.Tensor, critic_features: torch.Tensor, noise: Noise
    ) -> tuple[torch.Tensor, Metrics]:
        """The deterministic policy gradient at an action with clipped noise, through the smaller Q (eq. 3)."""
        mean, action = self.sample(features, noise.action)
        loss = -self.critic(critic_features, action, frozen=True).amin(0).mean()
        std = self.std.clamp(min=LEAST_STD)
        log_std = std.log().expand_as(mean)
        log_prob = gaussian_log_prob((action - mean).detach() / std, log_std).sum(-1)
        entropy = gaussian_entropy(log_std)
        return loss, {"actor_loss": loss, "actor_log_prob": log_prob.mean(), "actor_entropy": entropy.mean()}

    def targets(self) -> list[tuple[OnEncoder, OnEncoder]]:
        """(online network, target network); they share the convolutions."""
        return [(self.critic, self.critic_target)]

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of each optimiser. The encoder is the critic's; the actor's moves no convolution."""
        return {"critic": [*self.critic.parameters()], "actor": own_parameters(self.actor, self.critic)}
