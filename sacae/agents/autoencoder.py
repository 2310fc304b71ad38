"""The reconstruction objective: a regularised autoencoder, or a variational one.

RAE: Ghosh et al. 2019; Yarats et al. 2019, eq. 4. VAE: Kingma and Welling 2013; Higgins et al. 2017 (beta).
"""

import math

import torch
from torch import nn

from sacae.config import AutoencoderConfig
from sacae.decoder import PixelDecoder
from sacae.encoder import PixelEncoder
from sacae.types import Noise

Metrics = dict[str, torch.Tensor]


class RAE(nn.Module):
    """The regularised autoencoder: decodes the latent as it is, and keeps it short."""

    metric_names = ("reconstruction_loss",)
    draws_latent = False

    def __init__(self, obs_shape: tuple[int, ...], encoder: PixelEncoder, config: AutoencoderConfig) -> None:
        super().__init__()
        self.decoder = PixelDecoder(obs_shape, encoder)
        self.latent_penalty = config.latent_penalty
        self.penalise_before_tanh = config.penalise_before_tanh

    def forward(
        self, encoder: PixelEncoder, features: torch.Tensor, noise: Noise
    ) -> tuple[torch.Tensor, torch.Tensor, Metrics]:
        """Reconstruction (B, C, H, W), what is added to its error (), and further metrics, for (B, flat_dim)."""
        before_tanh, latent = encoder.project_in_steps(features)
        penalised = before_tanh if self.penalise_before_tanh else latent
        return self.decoder(latent), self.latent_penalty * half_squared_length(penalised.float()), {}


class VAE(nn.Module):
    """The variational autoencoder: decodes a sample around the latent, whose spread a layer of its own says."""

    metric_names = ("reconstruction_loss", "kl")
    draws_latent = True

    def __init__(self, obs_shape: tuple[int, ...], encoder: PixelEncoder, config: AutoencoderConfig) -> None:
        super().__init__()
        self.decoder = PixelDecoder(obs_shape, encoder)
        self.log_std = nn.Linear(math.prod(encoder.conv_shape), encoder.feature_dim)
        nn.init.orthogonal_(self.log_std.weight)
        nn.init.zeros_(self.log_std.bias)
        self.beta = config.vae_beta

    def forward(
        self, encoder: PixelEncoder, features: torch.Tensor, noise: Noise
    ) -> tuple[torch.Tensor, torch.Tensor, Metrics]:
        """As of RAE; the latent that the critic sees is the distribution's mean."""
        mean = encoder.project(features).float()
        log_std = LOG_STD_BOUND * torch.tanh(self.log_std(features).float() / LOG_STD_BOUND)
        kl = kl_to_standard_normal(mean, log_std)
        return self.decoder(mean + log_std.exp() * noise.latent), self.beta * kl, {"kl": kl}


AUTOENCODERS: dict[str, type[nn.Module]] = {"rae": RAE, "vae": VAE}
"""The autoencoder by the name that `--decoder` takes."""

LOG_STD_BOUND = 10.0
"""The VAE's log standard deviation stays within this of 0, so that its exponential does not overflow."""


def reconstruction_target(obs: torch.Tensor, noise: torch.Tensor, bits: int) -> torch.Tensor:
    """The observation at `bits` bits a colour, dithered, in [-0.5, 0.5) (Kingma and Dhariwal 2018; the paper uses 5).

    obs: uint8 (B, C, H, W). noise: random bytes of that shape, the dither in 1/256 of a step. Returns float32 of that
    shape, exact: it has no more than 16 significant bits.
    """
    quantised = torch.bitwise_right_shift(obs, 8 - bits)
    # Products with powers of two are exact; in place, because new images cost more than the arithmetic.
    return (noise / 256).add_(quantised).mul_(2.0**-bits).sub_(0.5)


def draw_bytes(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Uniform random bytes (B, C, H, W), channels last, on the generator's device.

    Drawn eight at a time: ten times as fast as uniform floats, which the target does not need.
    """
    batch_size, channels, height, width = shape
    words = torch.empty(-(-math.prod(shape) // 8), dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    flat = words.view(torch.uint8)[: math.prod(shape)]
    return flat.view(batch_size, height, width, channels).permute(0, 3, 1, 2)


def half_squared_length(latent: torch.Tensor) -> torch.Tensor:
    """Half the latent's squared length, averaged over the batch. (B, D) -> ()."""
    return (0.5 * latent.square().sum(1)).mean()


def kl_to_standard_normal(mean: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
    """KL(N(mean, std) || N(0, 1)), summed over the latent, averaged over the batch. (B, D), (B, D) -> ()."""
    return (0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std).sum(1).mean()
