"""A stochastic policy and a value function on the state, networks of their own."""

import torch
from torch import nn
from torch.distributions import Categorical, Independent, Normal

from sacae.types import EnvSpec, Frames

FIRST_LOG_STD = -0.5
"""Log standard deviation of a continuous policy at the start; it does not depend on the state (Spinning Up)."""


def tanh_mlp(input_dim: int, hidden_dim: int, output_dim: int) -> nn.Sequential:
    """Two hidden layers with tanh, initialised as PyTorch does. (B, input_dim) -> (B, output_dim)."""
    return nn.Sequential(
        nn.Linear(input_dim, hidden_dim),
        nn.Tanh(),
        nn.Linear(hidden_dim, hidden_dim),
        nn.Tanh(),
        nn.Linear(hidden_dim, output_dim),
    )


class ActorCritic(nn.Module):
    """pi(a|s) and V(s): a Gaussian of independent dimensions, or independent choices, by what the task takes."""

    def __init__(self, spec: EnvSpec, hidden_dim: int) -> None:
        super().__init__()
        self.spec = spec
        self.discrete = spec.num_actions is not None
        (obs_dim,) = spec.obs_shape
        outputs = spec.action_dim * (spec.num_actions or 1)
        self.actor = tanh_mlp(obs_dim, hidden_dim, outputs)
        self.log_std = None if self.discrete else nn.Parameter(torch.full((spec.action_dim,), FIRST_LOG_STD))
        self.critic = tanh_mlp(obs_dim, hidden_dim, 1)

    def policy_parameters(self) -> list[nn.Parameter]:
        """The parameters of pi."""
        return [*self.actor.parameters(), *([] if self.log_std is None else [self.log_std])]

    def policy(self, obs: torch.Tensor) -> "Independent[Categorical | Normal]":
        """pi(.|s) of states (B, D); its log_prob, entropy and KL divergence are (B,), summed over action dimensions."""
        outputs = self.actor(obs)
        # Not validated: what is not finite shows in the loss, and ends the run with a line that says which.
        if self.log_std is None:
            return Independent(Categorical(logits=self._logits(outputs), validate_args=False), 1, validate_args=False)
        std = self.log_std.exp().expand_as(outputs)
        return Independent(Normal(outputs, std, validate_args=False), 1, validate_args=False)

    def value(self, obs: torch.Tensor) -> torch.Tensor:
        """V(s). (B, D) -> (B,)."""
        values: torch.Tensor = self.critic(obs)
        return values.squeeze(-1)

    @torch.no_grad()
    def sample(self, obs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Actions drawn from pi(.|s): float32 (B, A), not bounded, or int64 (B, A)."""
        distribution = self.policy(obs).base_dist
        if isinstance(distribution, Categorical):
            draws = torch.multinomial(distribution.probs.flatten(0, 1), 1, generator=generator)
            return draws.view(len(obs), self.spec.action_dim)
        return torch.normal(distribution.mean, distribution.stddev, generator=generator)

    @torch.no_grad()
    def act(self, obs: Frames | torch.Tensor) -> torch.Tensor:
        """The most likely actions: float32 (B, A) in [-1, 1], or int64 (B, A)."""
        outputs: torch.Tensor = self.actor(torch.as_tensor(obs, device=next(self.parameters()).device))
        return self._logits(outputs).argmax(-1) if self.discrete else outputs.clamp(-1, 1)

    def _logits(self, outputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = outputs.unflatten(-1, (self.spec.action_dim, self.spec.num_actions))
        return logits
