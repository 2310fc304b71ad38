"""What an algorithm supplies: the `Head` protocol."""

from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sacae.encoder import Encoder
from sacae.groups import HeadSettings
from sacae.types import Batch, EnvSpec, Metrics, Noise

PolicyLoss = Callable[[torch.Tensor, torch.Tensor, Noise], tuple[torch.Tensor, Metrics]]
"""Called as policy_loss(features, critic_features, noise), both features (B, flat_dim) and of batch.obs.

features: by the actor's encoder, detached unless the actor trains convolutions. critic_features: by the critic's
encoder, detached.
"""


class OnEncoder(Protocol):
    """A network whose input is an encoder's features. It may share the encoder, or only its convolutions."""

    @property
    def encoder(self) -> Encoder:
        """The encoder."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """All parameters, the encoder's first."""


@runtime_checkable
class Scheduled(Protocol):
    """A head with numbers that change during training, each a tensor () because a CUDA graph keeps a Python number."""

    def follow_schedule(self, env_step: int) -> None:
        """Sets them to their values at that environment step."""


class Head(Protocol):
    """An algorithm: networks, losses and how it acts. It is an nn.Module; sac.py has an example.

    Features are what the convolutions return, (B, flat_dim), with the state behind them where the agent sees one.
    `encoder.project` makes a vector of them, (B, encoder.feature_dim), inside each network. A loss draws no random
    numbers, reads no tensor's value on the host, and reaches every parameter of its optimisers. A number that changes
    during training must be a tensor (), because a CUDA graph keeps a Python number as it was at capture.

    Actions are float32 (B, A) in [-1, 1], or where the head's settings say DISCRETE_ACTIONS choices, int64 (B, A).
    """

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of all metrics that the losses return."""

    @property
    def noise(self) -> tuple[str, ...]:
        """The fields of Noise that the losses need, standard normal (B, A): "next_action", "action", both or none."""

    def __init__(self, make_encoder: Callable[[], Encoder], spec: EnvSpec, config: HeadSettings) -> None:
        """Call make_encoder once for each encoder that the head needs."""

    @property
    def critic(self) -> OnEncoder:
        """The value functions. The auxiliary objectives train their encoder too."""

    @property
    def actor(self) -> OnEncoder | None:
        """The policy, if there is one. `act` gets the features of its encoder, or without it those of the critic's."""

    def children(self) -> Iterator[nn.Module]:
        """As nn.Module.children."""

    def modules(self) -> Iterator[nn.Module]:
        """As nn.Module.modules."""

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of each optimiser: "critic", and for a policy "actor", "temperature" or both."""

    def exploration_noise(self, rng: np.random.Generator, count: int, env_step: int) -> NDArray[np.generic]:
        """What `act` needs to explore in `count` environments at that environment step: an array (count, ...)."""

    def act(self, features: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """Action (B, A) for features (B, flat_dim). The deterministic action if noise is None."""

    def critic_loss(self, features: torch.Tensor, batch: Batch, noise: Noise) -> tuple[torch.Tensor, Metrics]:
        """The loss () that the optimiser "critic" minimises, and metrics.

        features: of batch.obs by the critic's encoder. batch: its obs and next_obs are ready for `encoder.features`.
        """

    @property
    def policy_loss(self) -> PolicyLoss | None:
        """The method that returns the loss () of all other optimisers, and metrics; None without a policy."""

    def targets(self) -> list[tuple[OnEncoder, OnEncoder]]:
        """(online network, target network) for each target network."""
