"""Values of states and actions, on an encoder."""

import torch
from torch import nn
from torch.nn import functional as F

from sacae.encoder import Encoder
from sacae.networks import MLP, EnsembleMLP
from sacae.types import Batch, EnvSpec, Metrics


class Critic(nn.Module):
    """Q(s, a) of continuous actions: several independent Q functions, two unless told otherwise, on one encoder."""

    def __init__(self, encoder: Encoder, action_dim: int, hidden_dim: int, count: int = 2) -> None:
        super().__init__()
        self.encoder = encoder
        self.q = EnsembleMLP(encoder.feature_dim + action_dim, hidden_dim, 1, count)

    def forward(self, features: torch.Tensor, action: torch.Tensor, frozen: bool = False) -> torch.Tensor:
        """(B, flat_dim), (B, A) -> (count, B, 1).

        frozen: a gradient for the action alone, as in a policy's loss. It must not reach the projection, which with
        --tying all is the policy's too: a higher Q is to come of better actions, not of another latent. For the Q
        functions' parameters oneDNN's products would compute one that nothing needs.
        """
        latent = self.encoder.project(features)
        q: torch.Tensor = self.q(torch.cat([latent.detach() if frozen else latent, action], dim=-1), frozen)
        return q


class Value(nn.Module):
    """V(s) on an encoder."""

    def __init__(self, encoder: Encoder, hidden_dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.v = MLP(encoder.feature_dim, hidden_dim, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, flat_dim) -> (B, 1)."""
        v: torch.Tensor = self.v(self.encoder.project(features))
        return v


def over_views(value: torch.Tensor, batch: Batch) -> torch.Tensor:
    """The mean over the K views of next_obs. (K * B, 1), views one after another -> (B, 1)."""
    mean: torch.Tensor = value.view(-1, *batch.reward.shape).mean(0)
    return mean


def bellman_error(q: torch.Tensor, target_q: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, Metrics]:
    """The sum of the mean squared errors of each Q function in each view to one target, and the metrics with it.

    (count, M * B, 1), (B, 1) -> ().
    """
    views = q.shape[1] // len(target_q)
    target_q = target_q.repeat(views, 1)
    loss = len(q) * views * F.mse_loss(q, target_q.expand_as(q))  # the mean runs over all of them; the papers add them
    return loss, {"critic_loss": loss, "q": q.mean(), "batch_reward": batch.reward.mean()}


def choices_of(spec: EnvSpec) -> tuple[int, int]:
    """(A, n): action dimensions, and choices in each. Raises ValueError where actions are continuous."""
    if spec.num_actions is None:
        raise ValueError("actions are continuous, but this algorithm chooses among discrete ones")
    return spec.action_dim, spec.num_actions


def chosen_value(q: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """Value of discrete actions: the mean over action dimensions of the chosen values (Seyde et al. 2022).

    Values of every choice (..., B, A, n), int64 (B, A) -> (..., B, 1).
    """
    chosen = q.gather(-1, action.unsqueeze(-1).expand(*q.shape[:-1], 1))
    return chosen.squeeze(-1).mean(-1, keepdim=True)
