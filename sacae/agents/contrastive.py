"""The contrastive objective: InfoNCE between two augmentations of an observation (CURL, Laskin et al. 2020).

CURL: arXiv:2004.04136. InfoNCE: van den Oord et al. 2018, arXiv:1807.03748.
"""

import torch
from torch import nn
from torch.nn import functional as F

from sacae.agents.optimisers import Optimised
from sacae.encoder import PixelEncoder
from sacae.types import Batch, Metrics, Noise


class Similarity(nn.Module):
    """The bilinear similarity z W z' of latent vectors."""

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(feature_dim, feature_dim))  # uniform in [0, 1), as the authors' W

    def forward(self, anchor: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
        """(B, D), (B, D) -> (B, B), of each anchor with each positive."""
        return anchor @ self.weight @ positive.T


def info_nce(logits: torch.Tensor) -> torch.Tensor:
    """The cross entropy () of choosing, in each row of (B, B), the entry on the diagonal."""
    logits = logits - logits.amax(1, keepdim=True)  # as the authors do, beside what cross entropy does itself
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


class Contrastive:
    """Trains the critic's encoder to find, among the batch, the other augmentation of an observation.

    The other one's latent is the target encoder's, and no gradient flows into it. It is an AuxiliaryObjective
    (auxiliary.py).
    """

    metric_names: tuple[str, ...] = ("contrastive_loss",)

    def __init__(self, encoder: PixelEncoder, target: PixelEncoder, lr: float) -> None:
        self.encoder, self.target, self.lr = encoder, target, lr
        self.similarity = Similarity(encoder.latent_dim)

    def networks(self) -> dict[str, nn.Module]:
        """See AuxiliaryObjective."""
        return {"similarity": self.similarity}

    def optimised(self) -> Optimised:
        """See AuxiliaryObjective. Both step the encoder, on one and the same gradient, as in the authors' code."""
        encoder = [*self.encoder.parameters()]
        return {
            "contrastive_encoder": (encoder, {"lr": self.lr}),
            "contrastive": ([*encoder, *self.similarity.parameters()], {"lr": self.lr}),
        }

    def draw_noise(self, batch_size: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Nothing: the augmentation draws the second window."""
        return {}

    def loss(self, features: torch.Tensor, batch: Batch, noise: Noise) -> tuple[torch.Tensor, Metrics]:
        """See AuxiliaryObjective. InfoNCE of batch.obs and batch.positive."""
        assert batch.positive is not None
        with torch.no_grad():
            positive = self.target(batch.positive)
        anchor = self.encoder.latent(self.encoder.of_images(features))
        loss = info_nce(self.similarity(anchor, positive))
        return loss, {"contrastive_loss": loss}
