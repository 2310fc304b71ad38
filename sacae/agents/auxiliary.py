"""Objectives that train the critic's encoder beside the critic: what one supplies, and which ones a run has."""

from typing import Protocol

import torch
from torch import nn

from sacae.agents.autoencoder import Reconstruction
from sacae.agents.contrastive import Contrastive
from sacae.agents.head import Head
from sacae.agents.optimisers import Optimised
from sacae.config import Config
from sacae.encoder import PixelEncoder
from sacae.types import Batch, EnvSpec, Metrics, Noise


class AuxiliaryObjective(Protocol):
    """A loss on the critic's encoder, with networks and optimisers of its own.

    metric_names: the names of all metrics that the loss returns.
    """

    metric_names: tuple[str, ...]

    def networks(self) -> dict[str, nn.Module]:
        """Networks of its own, by their names in a checkpoint."""

    def optimised(self) -> Optimised:
        """Parameters, those of the encoder included, and settings of each optimiser that steps on the loss."""

    def draw_noise(self, batch_size: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """The random numbers that the loss needs, by fields of Noise, on the generator's device."""

    def loss(self, features: torch.Tensor, batch: Batch, noise: Noise) -> tuple[torch.Tensor, Metrics]:
        """Loss () and metrics. features: of batch.obs by the critic's encoder. batch: augmented, images in uint8."""


def make_objectives(spec: EnvSpec, head: Head, config: Config) -> tuple[AuxiliaryObjective, ...]:
    """The objectives that the settings ask for, in the order of their steps.

    spec: of what the encoder sees.
    """
    objectives: list[AuxiliaryObjective] = []
    encoder = head.critic.encoder
    if config.autoencoder.decoder != "none":
        assert isinstance(encoder, PixelEncoder)  # the settings refuse a decoder where the agent sees state vectors
        objectives.append(Reconstruction(spec, encoder, config))
    if config.views[-1]:
        targets = [target.encoder for online, target in head.targets() if online.encoder is encoder]
        target = targets[0] if targets else encoder
        assert isinstance(encoder, PixelEncoder)
        assert isinstance(target, PixelEncoder)
        objectives.append(Contrastive(encoder, target, config.autoencoder.contrastive_lr))
    return (*objectives,)
