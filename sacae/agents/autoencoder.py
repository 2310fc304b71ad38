"""The reconstruction objective, a regularised autoencoder or a variational one; beside it, the latent's dynamics.

RAE: Ghosh et al. 2019; Yarats et al. 2019, eq. 4. VAE: Kingma and Welling 2013; Higgins et al. 2017 (beta).
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from sacae.config import Config
from sacae.decoder import PixelDecoder
from sacae.encoder import PixelEncoder
from sacae.networks import MLP, Linear
from sacae.types import EnvSpec, Noise

Metrics = dict[str, torch.Tensor]


class RAE(nn.Module):
    """The regularised autoencoder: decodes the latent as it is, and keeps it short."""

    metric_names = ("reconstruction_loss",)
    draws_latent = False
    draws_pixels = True

    def __init__(self, spec: EnvSpec, encoder: PixelEncoder, config: Config) -> None:
        super().__init__()
        self.decoder = self._make_decoder(spec, encoder, config)
        self.latent_penalty = config.autoencoder.latent_penalty
        self.penalise_before_tanh = config.autoencoder.penalise_before_tanh

    def _make_decoder(self, spec: EnvSpec, encoder: PixelEncoder, config: Config) -> nn.Module:
        return PixelDecoder(spec.obs_shape, encoder)

    def forward(
        self, encoder: PixelEncoder, features: torch.Tensor, noise: Noise
    ) -> tuple[torch.Tensor, torch.Tensor, Metrics]:
        """What is decoded, what is added to its error (), and further metrics, for (B, flat_dim).

        Decoded is the observation, (B, C, H, W), or with StateRAE the physical state, (B, state_dim).
        """
        before_tanh, latent = encoder.project_in_steps(features)
        penalised = before_tanh if self.penalise_before_tanh else latent
        return self.decoder(latent), self.latent_penalty * half_squared_length(penalised), {}


class StateRAE(RAE):
    """RAE whose decoder, an MLP, says the physical state that the newest frame shows, in place of the observation."""

    draws_pixels = False

    def _make_decoder(self, spec: EnvSpec, encoder: PixelEncoder, config: Config) -> nn.Module:
        return MLP(encoder.feature_dim, config.agent.hidden_dim, spec.state_dim)


class VAE(nn.Module):
    """The variational autoencoder: decodes a sample around the latent, whose spread a layer of its own says."""

    metric_names = ("reconstruction_loss", "kl")
    draws_latent = True
    draws_pixels = True

    def __init__(self, spec: EnvSpec, encoder: PixelEncoder, config: Config) -> None:
        super().__init__()
        self.decoder = PixelDecoder(spec.obs_shape, encoder)
        self.log_std = Linear(math.prod(encoder.conv_shape), encoder.feature_dim)
        nn.init.orthogonal_(self.log_std.weight)
        nn.init.zeros_(self.log_std.bias)
        self.beta = config.autoencoder.vae_beta

    def forward(
        self, encoder: PixelEncoder, features: torch.Tensor, noise: Noise
    ) -> tuple[torch.Tensor, torch.Tensor, Metrics]:
        """As of RAE; the latent that the critic sees is the distribution's mean."""
        mean = encoder.project(features)
        log_std = LOG_STD_BOUND * torch.tanh(self.log_std(features).float() / LOG_STD_BOUND)
        kl = kl_to_standard_normal(mean, log_std)
        return self.decoder(mean + log_std.exp() * noise.latent), self.beta * kl, {"kl": kl}


AUTOENCODERS: dict[str, type[nn.Module]] = {"rae": RAE, "vae": VAE, "state": StateRAE}
"""The autoencoder by the name that `--decoder` takes."""


class Dynamics(nn.Module):
    """Predicts the latent vector of the next observation from that of the observation and the action.

    The action is taken as it is, or where it is of choices, each dimension's as one of `num_actions` indicators. With
    n-step returns the next observation is that many steps on, and the action is the first of theirs.
    """

    metric_names = ("dynamics_loss",)

    def __init__(self, spec: EnvSpec, encoder: PixelEncoder, config: Config) -> None:
        super().__init__()
        self.num_actions = spec.num_actions
        action_width = spec.action_dim * (spec.num_actions or 1)
        self.mlp = MLP(encoder.feature_dim + action_width, config.agent.hidden_dim, encoder.feature_dim)

    def forward(self, latent: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """(B, feature_dim), float32 or int64 (B, A) -> float32 (B, feature_dim)."""
        if self.num_actions is not None:
            action = F.one_hot(action, self.num_actions).flatten(1)
        return self.mlp(torch.cat([latent, action.to(latent.dtype)], dim=1))


LOG_STD_BOUND = 10.0
"""The VAE's log standard deviation stays within this of 0, so that its exponential does not overflow."""


def reconstruction_target(obs: torch.Tensor, noise: torch.Tensor, bits: int) -> torch.Tensor:
    """The observation at `bits` bits a colour, dithered, in [-0.5, 0.5) (Kingma and Dhariwal 2018; the paper uses 5).

    obs: uint8 (B, C, H, W). noise: random bytes of that shape, the dither in 1/256 of a step; zeros are no dither.
    Returns float32 of that shape, exact: it has no more than 16 significant bits.
    """
    quantised = torch.bitwise_right_shift(obs, 8 - bits)
    # Products with powers of two are exact; in place, because new images cost more than the arithmetic.
    return (noise / 256).add_(quantised).mul_(2.0**-bits).sub_(0.5)


LEAST_VARIANCE = 1e-3
"""Added to the variance of a coordinate of the state: one that hardly varies in a batch is not to outweigh the rest."""


def standardised_error(decoded: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """The squared error of each coordinate in units of its variance in the batch, averaged over coordinates and batch.

    In these units the velocities, which are large, do not drown the positions. float32 (B, S), (B, S) -> ().
    """
    return ((decoded - state).square() / (state.var(0, correction=0) + LEAST_VARIANCE)).mean()


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
