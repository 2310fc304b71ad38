"""DDPG towards goals: normalised inputs, networks and losses (Andrychowicz et al. 2017, arXiv:1707.01495, appendix A).

Symbols: s, g, a, r, s' = observation, desired goal, action, reward, next observation; gamma = batch.discount;
mu = actor; Q = critic; Q', mu' = their targets.
"""

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from baselines.her_ddpg_replay import GoalSpace
from sacae.types import Batch, EnvSpec, Frames, Metrics

RAW_CLIP = 200.0
"""Largest size of a coordinate before it is normalised."""

CLIP = 5.0
"""Largest size of a coordinate afterwards."""

LEAST_STD = 0.01
"""What a coordinate is divided by at least, so that one that hardly changes is not blown up."""

HIDDEN_LAYERS = 3


class Normaliser(nn.Module):
    """Shifts and scales each coordinate by mean and standard deviation of all that `update` was shown."""

    count: torch.Tensor
    total: torch.Tensor
    total_squares: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        # Sums in double precision: a mean of a million values loses nothing that a float32 can show.
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("total", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("total_squares", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))

    def update(self, values: NDArray[np.float32]) -> None:
        """Counts in vectors (B, size)."""
        shown = torch.as_tensor(values, dtype=torch.float64, device=self.total.device).clamp(-RAW_CLIP, RAW_CLIP)
        self.count += len(shown)
        self.total += shown.sum(0)
        self.total_squares += shown.square().sum(0)
        mean = self.total / self.count
        self.mean.copy_(mean)
        self.std.copy_((self.total_squares / self.count - mean.square()).clamp(min=LEAST_STD**2).sqrt())

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(B, size) -> float32 (B, size) within CLIP; as they are, but for the clipping, where nothing was shown."""
        return ((values.clamp(-RAW_CLIP, RAW_CLIP) - self.mean) / self.std).clamp(-CLIP, CLIP)


def relu_layers(input_dim: int, hidden_dim: int, output_dim: int) -> nn.Sequential:
    """Hidden layers with ReLU; weights as Glorot and Bengio 2010, biases 0. (B, input_dim) -> (B, output_dim)."""
    sizes = [input_dim, *[hidden_dim] * HIDDEN_LAYERS]
    hidden = [layer for pair in zip(sizes, sizes[1:]) for layer in (nn.Linear(*pair), nn.ReLU())]
    network = nn.Sequential(*hidden, nn.Linear(hidden_dim, output_dim))
    for layer in network:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return network


def target_value(
    reward: torch.Tensor, discount: torch.Tensor, next_q: torch.Tensor, lowest: float | None
) -> torch.Tensor:
    """r + gamma Q'(s', g, mu'(s', g)), clipped to [lowest, 0] unless that is None. (B, 1) each.

    Where rewards are -1 and 0 no return lies outside of [-1 / (1 - gamma), 0].
    """
    target = reward + discount * next_q
    return target if lowest is None else target.clamp(lowest, 0)


class GoalDDPG(nn.Module):
    """Networks and losses of DDPG whose actor and critic are told the goal. Its `act` is what plays."""

    metric_names = ("critic_loss", "q", "batch_reward", "actor_loss")

    def __init__(
        self, spec: EnvSpec, goals: GoalSpace, hidden_dim: int, action_l2: float, lowest_target: float | None
    ) -> None:
        """action_l2: weight of the penalty of large actions. lowest_target: see `target_value`."""
        super().__init__()
        self.spec, self._goals = spec, goals
        self._action_l2, self._lowest_target = action_l2, lowest_target
        input_dim = goals.observation_dim + goals.goal_dim
        self.observation_normaliser = Normaliser(goals.observation_dim)
        self.goal_normaliser = Normaliser(goals.goal_dim)
        self.actor = nn.Sequential(relu_layers(input_dim, hidden_dim, spec.action_dim), nn.Tanh())
        self.critic = relu_layers(input_dim + spec.action_dim, hidden_dim, 1)
        self.actor_target = copy.deepcopy(self.actor).requires_grad_(False)
        self.critic_target = copy.deepcopy(self.critic).requires_grad_(False)

    def update_normalisers(self, obs: NDArray[np.float32]) -> None:
        """Counts in an episode's obs (T + 1, D): as goals both what was desired and what was achieved, for either is
        asked for in updates."""
        self.observation_normaliser.update(obs[:, self._goals.observation])
        self.goal_normaliser.update(obs[:, self._goals.desired_goal])
        self.goal_normaliser.update(obs[:, self._goals.achieved_goal])

    def inputs(self, obs: torch.Tensor) -> torch.Tensor:
        """s and g, normalised. (B, D) -> (B, observation_dim + goal_dim)."""
        observation = self.observation_normaliser(obs[:, self._goals.observation])
        goal = self.goal_normaliser(obs[:, self._goals.desired_goal])
        return torch.cat([observation, goal], dim=-1)

    @torch.no_grad()
    def act(self, obs: Frames | torch.Tensor) -> torch.Tensor:
        """mu(s, g). float32 (B, D) -> float32 (B, A) in [-1, 1]."""
        action: torch.Tensor = self.actor(self.inputs(torch.as_tensor(obs, device=self.goal_normaliser.mean.device)))
        return action

    def critic_loss(self, batch: Batch) -> tuple[torch.Tensor, Metrics]:
        """Mean squared error of Q(s, g, a) to its target."""
        with torch.no_grad():
            next_inputs = self.inputs(batch.next_obs)
            next_q = self.critic_target(torch.cat([next_inputs, self.actor_target(next_inputs)], dim=-1))
            target_q = target_value(batch.reward, batch.discount, next_q, self._lowest_target)
        q = self.critic(torch.cat([self.inputs(batch.obs), batch.action], dim=-1))
        loss = F.mse_loss(q, target_q)
        return loss, {"critic_loss": loss, "q": q.mean(), "batch_reward": batch.reward.mean()}

    def actor_loss(self, batch: Batch) -> tuple[torch.Tensor, Metrics]:
        """-E[Q(s, g, mu(s, g))] and, weighted, the mean square of actions, which keeps tanh from saturating."""
        inputs = self.inputs(batch.obs)
        action = self.actor(inputs)
        q = self.critic(torch.cat([inputs, action], dim=-1))
        loss = -q.mean() + self._action_l2 * action.square().mean()
        return loss, {"actor_loss": loss}

    @torch.no_grad()
    def move_targets(self, polyak: float) -> None:
        """target <- polyak target + (1 - polyak) network."""
        for online, target in ((self.actor, self.actor_target), (self.critic, self.critic_target)):
            for new, old in zip(online.parameters(), target.parameters()):
                old.lerp_(new, 1 - polyak)
