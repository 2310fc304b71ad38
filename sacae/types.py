"""What the rooms of the package hand each other: a description of an environment, a batch, random draws, metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

Frames = NDArray[np.uint8 | np.float32]
"""Observations of an environment: uint8 of pixels, float32 of a state vector."""

Actions = NDArray[np.float32 | np.int64]
"""float32 in [-1, 1] where actions are continuous, int64 where they are choices."""

Metrics = dict[str, torch.Tensor]
"""Scalars () on the training device, by the names of columns of train.csv."""

Observation: TypeAlias = Frames | Mapping[str, Frames]
"""What an agent sees: stacked frames, or with `obs` pixels+state stacked images at PIXELS and a vector at STATE."""

PIXELS, STATE = "pixels", "state"

NOT_DRAWN: Any = None
"""What stands in Noise for a draw that an agent does not need. Its fields are typed as tensors: a loss reads only those
that its head or objective asked for."""


@dataclass(frozen=True)
class EnvSpec:
    """What an agent and a replay must know about an environment.

    frame_shape: shape of one observation of the environment, (C, H, W) for pixels, (D,) for a state vector.
    frame_dtype: "uint8" for pixels, "float32" for state vectors.
    frame_stack: how many frames, oldest first, make what the agent sees; joined along the first axis.
    action_dim: number of action dimensions.
    num_actions: choices in each of them, 0 to num_actions - 1; None where they are continuous, in [-1, 1].
    state_dim: length of the state kept beside each frame, for a decoder of it or for the agent; 0 where none is kept.
    sees_state: whether the agent sees the newest frame's state beside the images.
    """

    frame_shape: tuple[int, ...]
    frame_dtype: str
    frame_stack: int
    action_dim: int
    num_actions: int | None = None
    state_dim: int = 0
    sees_state: bool = False

    @property
    def action_dtype(self) -> str:
        """NumPy name of an action's dtype: "float32" where it is continuous, "int64" where it is a choice."""
        return "float32" if self.num_actions is None else "int64"

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

    obs, next_obs: uint8 (B, K * C, H, W) from pixels, float32 (B, K * D) from state. In the critic's loss they may be
        several views, one after another: (M * B, ...) and action likewise, (K * B, ...).
    action: float32 (B, A) in [-1, 1], or int64 (B, A) of choices.
    reward: float32 (B, 1), the discounted sum over the k <= n steps between obs and next_obs.
    discount: float32 (B, 1), gamma^k, or 0 where the last of these steps was truly terminal (a time limit is not).
    state: float32 (B, state_dim), the state beside obs's newest frame; None where it is not kept.
    next_state: the same of next_obs; None unless the agent sees it.
    positive: uint8 (B, K * C, h, w), a further augmentation of obs for a contrastive loss; None where there is none.
    clean: uint8 of that shape, obs as the policy would see it; None where nothing needs it.
    """

    obs: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    discount: torch.Tensor
    next_obs: torch.Tensor
    state: torch.Tensor | None = None
    next_state: torch.Tensor | None = None
    positive: torch.Tensor | None = None
    clean: torch.Tensor | None = None


class Noise(NamedTuple):
    """Every random draw of one update; None where the agent draws nothing of that kind.

    next_action: standard normal (K * B, A), for the policy at the K views of next_obs in the critic's target.
    action: standard normal (B, A), for the policy at obs in the actor's loss.
    reconstruction: random bytes (uint8), the shape of obs, the dither of the quantised reconstruction target.
    latent: standard normal (B, feature_dim), for the variational autoencoder's sample.
    augmentation: uniform in [0, 1), float32 (M + K, B, 4), for the M views of obs and the K of next_obs; with a
        contrastive loss one more, for `positive`.
    """

    next_action: torch.Tensor = NOT_DRAWN
    action: torch.Tensor = NOT_DRAWN
    reconstruction: torch.Tensor = NOT_DRAWN
    latent: torch.Tensor = NOT_DRAWN
    augmentation: torch.Tensor = NOT_DRAWN
