"""The reconstruction objective: a regularised or a variational autoencoder; beside it, the latent's dynamics.

RAE: Ghosh et al. 2019; Yarats et al. 2019, eq. 4. VAE: Kingma and Welling 2013; Higgins et al. 2017 (beta). InfoNCE
beside the dynamics' squared error: Lyu et al. 2026 (DR.Q, arXiv:2605.11711).
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from sacae.agents.contrastive import info_nce
from sacae.agents.optimisers import Optimised
from sacae.config import Config
from sacae.decoder import PixelDecoder
from sacae.encoder import PixelEncoder
from sacae.groups import AutoencoderConfig
from sacae.networks import MLP, Linear, own_parameters
from sacae.types import Batch, EnvSpec, Metrics, Noise


class RAE(nn.Module):
    """The regularised autoencoder: it decodes the latent itself, and keeps it short."""

    metric_names: tuple[str, ...] = ("reconstruction_loss",)

    def __init__(self, decoder: nn.Module, encoder: PixelEncoder, config: AutoencoderConfig) -> None:
        super().__init__()
        self.decoder = decoder
        self.latent_penalty = config.latent_penalty
        self.penalise_before_tanh = config.penalise_before_tanh

    def draw_noise(self, batch_size: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Nothing."""
        return {}

    def forward(
        self, encoder: PixelEncoder, features: torch.Tensor, noise: Noise
    ) -> tuple[torch.Tensor, torch.Tensor, Metrics]:
        """The decoder's output, the regulariser () that is added to its error, and further metrics. (B, flat_dim)."""
        before_tanh, latent = encoder.project_in_steps(features)
        penalised = before_tanh if self.penalise_before_tanh else latent
        return self.decoder(latent), self.latent_penalty * half_squared_length(penalised), {}


class VAE(nn.Module):
    """The variational autoencoder: it decodes a sample around the latent, with a spread from a layer of its own."""

    metric_names: tuple[str, ...] = ("reconstruction_loss", "kl")

    def __init__(self, decoder: nn.Module, encoder: PixelEncoder, config: AutoencoderConfig) -> None:
        super().__init__()
        self.decoder = decoder
        self.log_std = Linear(math.prod(encoder.conv_shape), encoder.latent_dim)
        nn.init.orthogonal_(self.log_std.weight)
        nn.init.zeros_(self.log_std.bias)
        self.beta = config.vae_beta

    def draw_noise(self, batch_size: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Standard normal (B, feature_dim), for the sample."""
        shape = batch_size, self.log_std.out_features
        return {"latent": torch.randn(shape, generator=generator, device=generator.device)}

    def forward(
        self, encoder: PixelEncoder, features: torch.Tensor, noise: Noise
    ) -> tuple[torch.Tensor, torch.Tensor, Metrics]:
        """As RAE.forward. The latent that the critic sees is the distribution's mean."""
        mean = encoder.latent(features)
        log_std = LOG_STD_BOUND * torch.tanh(self.log_std(features).float() / LOG_STD_BOUND)
        kl = kl_to_standard_normal(mean, log_std)
        return self.decoder(mean + log_std.exp() * noise.latent), self.beta * kl, {"kl": kl}


AUTOENCODERS: dict[str, type[RAE] | type[VAE]] = {"rae": RAE, "vae": VAE, "state": RAE}
"""The autoencoder of each decoder that `--decoder` names."""


class Dynamics(nn.Module):
    """Predicts the latent vector of the next observation from that of the observation and the action.

    The action is taken as it is, or where it is of choices, each dimension's as one of `num_actions` indicators. With
    n-step returns the next observation is that many steps on, and the action is the first of theirs.

    With `dynamics_contrastive` the prediction must also be found among the batch's next latents: the squared error
    alone can be small for a latent that says little.
    """

    metric_names: tuple[str, ...] = ("dynamics_loss", "dynamics_contrastive_loss")

    def __init__(self, spec: EnvSpec, encoder: PixelEncoder, config: Config) -> None:
        super().__init__()
        self.config = config.autoencoder
        if not self.config.dynamics_contrastive:
            self.metric_names = ("dynamics_loss",)
        self.num_actions = spec.num_actions
        action_width = spec.action_dim * (spec.num_actions or 1)
        self.mlp = MLP(encoder.latent_dim + action_width, config.agent.hidden_dim, encoder.latent_dim)

    def forward(self, latent: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """(B, feature_dim), float32 or int64 (B, A) -> float32 (B, feature_dim)."""
        if self.num_actions is not None:
            action = F.one_hot(action, self.num_actions).flatten(1)
        next_latent: torch.Tensor = self.mlp(torch.cat([latent, action.to(latent.dtype)], dim=1))
        return next_latent

    def loss(self, encoder: PixelEncoder, features: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, Metrics]:
        """The weighted loss () of the prediction, and metrics. Next latents are constants. features: of batch.obs."""
        with torch.no_grad():
            next_latent = encoder(batch.next_obs)
        predicted = self(encoder.latent(features), batch.action)
        metrics = {"dynamics_loss": F.mse_loss(predicted, next_latent)}
        loss = self.config.dynamics_weight * metrics["dynamics_loss"]
        if self.config.dynamics_contrastive:
            contrast = info_nce(cosine(predicted, next_latent) / self.config.dynamics_temperature)
            metrics["dynamics_contrastive_loss"] = contrast
            loss = loss + self.config.dynamics_contrastive * contrast
        return loss, metrics


class Reconstruction:
    """Trains the critic's encoder to reconstruct the images or to predict the physical state.

    With `--dynamics` it also predicts the next observation's latent. It is an AuxiliaryObjective (auxiliary.py).
    """

    def __init__(self, spec: EnvSpec, encoder: PixelEncoder, config: Config) -> None:
        self.config = config.autoencoder
        self.obs_shape = spec.obs_shape
        self.of_pixels = self.config.decoder != "state"
        self.encoder = encoder
        self.decoder: PixelDecoder | MLP = (
            PixelDecoder(spec.obs_shape, encoder)
            if self.of_pixels
            else MLP(encoder.latent_dim, config.agent.hidden_dim, spec.state_dim)
        )
        self.autoencoder = AUTOENCODERS[self.config.decoder](self.decoder, encoder, self.config)
        self.dynamics = Dynamics(spec, encoder, config) if self.config.dynamics else None
        self.metric_names = (*self.autoencoder.metric_names, *(self.dynamics.metric_names if self.dynamics else ()))

    def networks(self) -> dict[str, nn.Module]:
        """See AuxiliaryObjective."""
        return {"autoencoder": self.autoencoder} | ({"dynamics": self.dynamics} if self.dynamics else {})

    def optimised(self) -> Optimised:
        """See AuxiliaryObjective. "encoder" has moments apart from the critic's optimiser, as in the reference."""
        of_encoder = [*self.encoder.parameters(), *own_parameters(self.autoencoder, self.decoder)]
        of_decoder = [*self.decoder.parameters(), *(self.dynamics.parameters() if self.dynamics else ())]
        return {
            "encoder": (of_encoder, {"lr": self.config.encoder_lr}),
            "decoder": (of_decoder, {"lr": self.config.decoder_lr, "weight_decay": self.config.decoder_weight_decay}),
        }

    def draw_noise(self, batch_size: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """See AuxiliaryObjective."""
        dither = {"reconstruction": draw_bytes((batch_size, *self.obs_shape), generator)} if self.of_pixels else {}
        return dither | self.autoencoder.draw_noise(batch_size, generator)

    def loss(self, features: torch.Tensor, batch: Batch, noise: Noise) -> tuple[torch.Tensor, Metrics]:
        """See AuxiliaryObjective. The decoder's error and its regulariser, plus the dynamics' loss."""
        features = self.encoder.of_images(features)
        decoded, regulariser, metrics = self.autoencoder(self.encoder, features, noise)
        if self.of_pixels:
            shown = batch.obs if batch.clean is None else batch.clean
            error = F.mse_loss(decoded, self.target(shown, noise.reconstruction))
        else:
            assert batch.state is not None
            error = standardised_error(decoded, batch.state)
        loss = error + regulariser
        metrics |= {"reconstruction_loss": loss}
        if self.dynamics is not None:
            of_dynamics, further = self.dynamics.loss(self.encoder, features, batch)
            loss, metrics = loss + of_dynamics, metrics | further
        return loss, metrics

    def target(self, obs: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """What a decoder of pixels is to return for uint8 observations, with random bytes of their shape as dither."""
        dither = noise if self.config.target_dither else torch.zeros_like(noise)
        return reconstruction_target(obs, dither, self.config.target_bits)

    @torch.no_grad()
    def reconstruct(self, obs: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Target and reconstruction of observations as the encoder sees them, in [-0.5, 0.5) up to error.

        uint8 (N, *obs_shape), random bytes of that shape -> float32 of that shape, twice. Needs a decoder of pixels.
        """
        return self.target(obs, noise), self.decoder(self.encoder(obs))


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


SHORT = 1e-3
"""A vector shorter than this counts as one of this length: the cosine's gradient would grow without bound."""


def cosine(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """The cosine of the angle between each of ours and each of theirs. (B, D), (B, D) -> (B, B)."""
    return F.normalize(ours, dim=1, eps=SHORT) @ F.normalize(theirs, dim=1, eps=SHORT).T


def half_squared_length(latent: torch.Tensor) -> torch.Tensor:
    """Half the latent's squared length, averaged over the batch. (B, D) -> ()."""
    return (0.5 * latent.square().sum(1)).mean()


def kl_to_standard_normal(mean: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
    """KL(N(mean, std) || N(0, 1)), summed over the latent, averaged over the batch. (B, D), (B, D) -> ()."""
    return (0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std).sum(1).mean()
