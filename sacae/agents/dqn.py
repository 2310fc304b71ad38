"""Deep Q-learning: DQN of 2013 and 2015 (Mnih et al.), Double (van Hasselt et al. 2015), Dueling (Wang et al. 2016).

With several action dimensions each has values of its own, whose mean is the action's (Seyde et al. 2022,
arXiv:2210.12566).

Symbols: s, a, r, s' = batch.obs, .action, .reward, .next_obs; gamma = batch.discount.
"""

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from sacae.agents.critic import choices_of, chosen_value, over_views
from sacae.agents.head import OnEncoder
from sacae.agents.settings.dqn import DQNSettings
from sacae.encoder import Encoder
from sacae.networks import MLP, linear_schedule
from sacae.types import Batch, EnvSpec, Metrics, Noise

GREEDY = -1
"""Stands in the noise where the best choice is to be taken, not a random one."""

TD_LOSSES = {"huber": F.smooth_l1_loss, "mse": F.mse_loss}


class QNetwork(nn.Module):
    """Q(s, .) of every choice in each action dimension, on one encoder; dueling: a stream for V(s), one for A(s, .)."""

    def __init__(self, encoder: Encoder, spec: EnvSpec, config: DQNSettings) -> None:
        super().__init__()
        self.encoder = encoder
        self.choices = choices_of(spec)
        self.q = MLP(encoder.feature_dim, config.hidden_dim, math.prod(self.choices))
        self.value = MLP(encoder.feature_dim, config.hidden_dim, 1) if config.dueling else None

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, flat_dim) -> (B, A, n)."""
        latent = self.encoder.project(features)
        q: torch.Tensor = self.q(latent).unflatten(-1, self.choices)
        if self.value is None:
            return q
        value: torch.Tensor = self.value(latent)
        return value.unsqueeze(-1) + q - q.mean(-1, keepdim=True)  # Wang et al. 2016, eq. 9


class DQN(nn.Module):
    """Network and loss of DQN. The agent owns the order of an update, its gates and the optimisers."""

    metric_names = ("critic_loss", "q", "batch_reward")
    noise = ()
    actor = policy_loss = None

    def __init__(self, make_encoder: Callable[[], Encoder], spec: EnvSpec, config: DQNSettings) -> None:
        super().__init__()
        self.critic = QNetwork(make_encoder(), spec, config)
        # The DQN of 2013 takes its targets from the network that learns.
        self.critic_target = copy.deepcopy(self.critic).requires_grad_(False) if config.target_network else None
        self.choices = choices_of(spec)
        self.epsilon_schedule = config.epsilon_start, config.epsilon, config.exploration_steps
        self.double_q = config.double_q and config.target_network  # one network alone cannot disagree with itself
        self.td_loss = TD_LOSSES[config.td_loss]

    def exploration_noise(self, rng: np.random.Generator, count: int, env_step: int) -> NDArray[np.int64]:
        """int64 (count, A): with probability epsilon, for each dimension by itself, a random choice, else GREEDY."""
        action_dim, num_actions = self.choices
        explores = rng.random((count, action_dim)) < linear_schedule(*self.epsilon_schedule, env_step)
        return np.where(explores, rng.integers(num_actions, size=(count, action_dim)), GREEDY)

    def act(self, features: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """The best action, overridden by random choices in the noise. (B, flat_dim), (B, A) -> int64 (B, A)."""
        best = self.critic(features).argmax(-1)
        return best if noise is None else torch.where(noise == GREEDY, best, noise)

    def critic_loss(self, features: torch.Tensor, batch: Batch, noise: Noise) -> tuple[torch.Tensor, Metrics]:
        """The error to r + gamma max_a Q'(s', a), or where double_q to r + gamma Q'(s', argmax_a Q(s', a))."""
        with torch.no_grad():
            target = self.critic if self.critic_target is None else self.critic_target
            next_q = target(target.encoder.features(batch.next_obs))
            judge = self.critic(self.critic.encoder.features(batch.next_obs)) if self.double_q else next_q
            next_value = chosen_value(next_q, judge.argmax(-1))
            target_q = batch.reward + batch.discount * over_views(next_value, batch)
        q = chosen_value(self.critic(features), batch.action)
        views = len(q) // len(target_q)
        loss = views * self.td_loss(q, target_q.repeat(views, 1))
        return loss, {"critic_loss": loss, "q": q.mean(), "batch_reward": batch.reward.mean()}

    def targets(self) -> list[tuple[OnEncoder, OnEncoder]]:
        """(online network, target network)."""
        return [] if self.critic_target is None else [(self.critic, self.critic_target)]

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of the critic's optimiser; there is no actor."""
        return {"critic": [*self.critic.parameters()]}
