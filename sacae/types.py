"""What the rooms of the package hand each other: a description of an environment, a batch, an update's random draws."""

from dataclasses import dataclass
from typing import NamedTuple

import torch


@dataclass(frozen=True)
class EnvSpec:
    """What an agent and a replay must know about an environment.

    frame_shape: shape of one observation of the environment, (C, H, W) for pixels, (D,) for a state vector.
    frame_dtype: "uint8" for pixels, "float32" for state vectors.
    frame_stack: how many frames, oldest first, make what the agent sees; joined along the first axis.
    action_dim: number of continuous action dimensions, each in [-1, 1].
    """

    frame_shape: tuple[int, ...]
    frame_dtype: str
    frame_stack: int
    action_dim: int

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """Shape of the stacked observation, (K * C, H, W) or (K * D,)."""
        return (self.frame_stack * self.frame_shape[0], *self.frame_shape[1:])

    @property
    def from_pixels(self) -> bool:
        """Whether a frame is an image."""
        return len(self.frame_shape) == 3


class Batch(NamedTuple):
    """B transitions on the training device.

    obs, next_obs: uint8 (B, K * C, H, W) from pixels, float32 (B, K * D) from state.
    action: float32 (B, A).
    reward: float32 (B, 1), the discounted sum over the k <= n steps between obs and next_obs.
    discount: float32 (B, 1), gamma^k, or 0 where the last of these steps was truly terminal (a time limit is not).
    """

    obs: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    discount: torch.Tensor
    next_obs: torch.Tensor


class Noise(NamedTuple):
    """Every random draw of one update; None where the agent draws nothing of that kind.

    next_action: standard normal (B, A), for the policy at next_obs in the critic's target.
    action: standard normal (B, A), for the policy at obs in the actor's loss.
    reconstruction: random bytes (uint8), the shape of obs, the dither of the quantised reconstruction target.
    """

    next_action: torch.Tensor | None = None
    action: torch.Tensor | None = None
    reconstruction: torch.Tensor | None = None
