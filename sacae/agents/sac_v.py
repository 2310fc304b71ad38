"""Soft actor-critic with a value network (Haarnoja et al. 2018a, arXiv:1801.01290): SAC's first form.

Symbols: s, a, r, s' = batch.obs, .action, .reward, .next_obs; gamma = batch.discount; V = value, V_target =
value_target, Q = critic, pi = actor. The temperature is 1, so that the rewards' scale decides what entropy is worth.
"""

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from sacae.agents.critic import Critic, Value, bellman_error
from sacae.agents.head import OnEncoder
from sacae.agents.sac import Policy
from sacae.agents.settings.sac_v import SACVSettings
from sacae.encoder import Encoder, tie
from sacae.networks import gaussian_entropy, own_parameters
from sacae.types import Batch, EnvSpec, Metrics, Noise


class SACV(nn.Module):
    """Networks and losses of SAC with V. The agent owns the order of an update, its gates and the optimisers."""

    metric_names = ("critic_loss", "value_loss", "q", "v", "batch_reward", "actor_loss", "entropy")
    noise = ("action",)

    def __init__(self, make_encoder: Callable[[], Encoder], spec: EnvSpec, config: SACVSettings) -> None:
        super().__init__()
        self.critic = Critic(make_encoder(), spec.action_dim, config.hidden_dim)
        # On the encoder of the two Qs. Its target has the only copy of that encoder.
        self.value = Value(self.critic.encoder, config.hidden_dim)
        self.value_target = copy.deepcopy(self.value).requires_grad_(False)
        self.actor = Policy(make_encoder(), spec.action_dim, config.hidden_dim, config)
        tie(self.actor, self.critic, config.tying)
        self.reward_scale = config.reward_scale
        self.action_dim = spec.action_dim

    def exploration_noise(self, rng: np.random.Generator, count: int, env_step: int) -> NDArray[np.float32]:
        """Standard normal float32 (count, A): the policy explores by being sampled."""
        return rng.standard_normal((count, self.action_dim), dtype=np.float32)

    def act(self, features: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """A sampled action, or the mean action if noise is None. (B, flat_dim), (B, A) -> (B, A) in (-1, 1)."""
        return self.actor.act(features, noise)

    def critic_loss(self, features: torch.Tensor, batch: Batch, noise: Noise) -> tuple[torch.Tensor, Metrics]:
        """V's loss (eq. 5) plus both Qs' (eq. 7). Neither reaches the other's target, so one step takes both."""
        shared = self.actor.encoder.convs is self.critic.encoder.convs
        actor_features = features if shared else self.actor.encoder.features(batch.obs)
        target_v, target_q = self.soft_values(features, actor_features, noise.action), self.backup(batch)
        v, q = self.value(features), self.critic(features, batch.action)
        value_loss = F.mse_loss(v, target_v)
        critic_loss, metrics = bellman_error(q, target_q, batch)
        return critic_loss + value_loss, metrics | {"value_loss": value_loss, "v": v.mean()}

    @torch.no_grad()
    def soft_values(self, features: torch.Tensor, actor_features: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """The target of V(s) (eq. 3 and 5), min Q(s, a~) - log pi(a~|s) at a sampled action a~.

        (B, flat_dim) of the critic's encoder and of the actor's, standard normal (B, A) -> (B, 1).
        """
        action, log_prob, _ = self.actor.sample(actor_features, noise)
        q: torch.Tensor = self.critic(features, action)
        return q.amin(0) - log_prob

    @torch.no_grad()
    def backup(self, batch: Batch) -> torch.Tensor:
        """The target of Q(s, a) (eq. 8): the scaled reward plus gamma V_target(s'). -> (B, 1)."""
        next_value: torch.Tensor = self.value_target(self.value_target.encoder.features(batch.next_obs))
        return self.reward_scale * batch.reward + batch.discount * next_value

    def policy_loss(
        self, features: torch.Tensor, critic_features: torch.Tensor, noise: Noise
    ) -> tuple[torch.Tensor, Metrics]:
        """The actor's loss (eq. 12 and 13), log pi(a~|s) - min Q(s, a~), through the same noise as V's target."""
        action, log_prob, log_std = self.actor.sample(features, noise.action)
        actor_loss = (log_prob - self.critic(critic_features, action, frozen=True).amin(0)).mean()
        return actor_loss, {"actor_loss": actor_loss, "entropy": gaussian_entropy(log_std).mean()}

    def targets(self) -> list[tuple[OnEncoder, OnEncoder]]:
        """(online network, target network): only V has one."""
        return [(self.value, self.value_target)]

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of each optimiser. Encoder, Q and V are the critic's; the actor's moves no convolution."""
        value = own_parameters(self.value, self.critic)
        return {"critic": [*self.critic.parameters(), *value], "actor": own_parameters(self.actor, self.critic)}
