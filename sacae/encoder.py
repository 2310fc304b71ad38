"""Encoders: from observations to latent vectors, for the actor and the critic."""

import functools
import math
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from sacae.groups import EncoderConfig
from sacae.networks import Conv2d, Linear, orthogonal_init
from sacae.types import EnvSpec


class Conv(NamedTuple):
    """A convolution without padding; kernel and stride are the same in both directions."""

    filters: int
    kernel: int
    stride: int


NATURE = (Conv(32, 8, 4), Conv(64, 4, 2), Conv(64, 3, 1))
"""The convolutions of Mnih et al. 2015, "Human-level control through deep reinforcement learning"."""


def conv_layers(config: EncoderConfig) -> tuple[Conv, ...]:
    """The convolutions that the `encoder` setting names, first to last."""
    if config.encoder == "nature":
        return NATURE
    first, other = Conv(config.num_filters, 3, 2), Conv(config.num_filters, 3, 1)
    return (first, *[other] * (config.num_layers - 1))


def conv_sizes(image_size: int, layers: tuple[Conv, ...]) -> list[int]:
    """Height (and width) of the image and of each convolution's output. 84 through NATURE: 84, 20, 9, 7."""
    sizes = [image_size]
    for layer in layers:
        sizes.append((sizes[-1] - layer.kernel) // layer.stride + 1)
    return sizes


def channels_last(obs: torch.Tensor) -> torch.Tensor:
    """Images (B, C, H, W) in channels-last memory format; state vectors (B, D) unchanged."""
    return obs.contiguous(memory_format=torch.channels_last) if obs.dim() == 4 else obs


class PixelEncoder(nn.Module):
    """Convolutions with ReLU, then a projection: linear, LayerNorm if `norm`, tanh if `tanh`.

    Yarats et al. 2019, appendix B. The two halves are separate methods, because gradients end between them: `features`
    is the convolutions, which critic and actor share; `project` belongs to each of them, unless the `tying` setting
    says otherwise.

    Images are stored channels last, which is faster than channels first. `features` flattens them in that order,
    (H, W, C), while the reference flattens (C, H, W).

    Parameters are float32. With bfloat16, only the convolutions and the matrix product of the projection compute in it.
    Everything after that product, and so every latent vector, is float32: near 300, bfloat16 has a resolution of 2.

    obs_shape: (C, H, W) of the stacked observation, H = W.
    layers: the convolutions, from `conv_layers`.
    conv_init: how the convolutions start, as the setting of that name says.
    centred: whether prepared images lie in [-0.5, 0.5], or in [0, 1].
    norm, tanh: whether the projection has LayerNorm, and tanh.
    dtype: of the convolutions and the projection's product, float32 or bfloat16.
    """

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        feature_dim: int,
        layers: tuple[Conv, ...],
        conv_init: str = "delta_orthogonal",
        norm: bool = True,
        tanh: bool = True,
        dtype: torch.dtype = torch.float32,
        centred: bool = False,
    ) -> None:
        super().__init__()
        self.dtype, self.centred = dtype, centred
        channels, height, _ = obs_shape
        convs = nn.Sequential()
        for layer in layers:
            convs.append(Conv2d(channels, layer.filters, layer.kernel, layer.stride))
            convs.append(nn.ReLU(inplace=True))
            channels = layer.filters
        self.convs: nn.Module = convs
        self.layers = layers
        self.feature_dim = self.latent_dim = feature_dim
        self.conv_shape = (channels, *2 * conv_sizes(height, layers)[-1:])
        flat_dim = math.prod(self.conv_shape)
        self.projection = nn.Sequential(
            Linear(flat_dim, feature_dim),
            nn.LayerNorm(feature_dim) if norm else nn.Identity(),
            nn.Tanh() if tanh else nn.Identity(),
        )
        self.conv_init = conv_init
        orthogonal_init(self, conv_init)
        self.convs.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in PyTorch

    def prepare(self, obs: torch.Tensor, state: torch.Tensor | None = None) -> torch.Tensor:
        """Input of `features`: uint8 (B, C, H, W) -> `dtype` of that shape in [0, 1], channels last; see `centred`.

        state: not for this encoder to see.
        """
        images = channels_last(obs).to(self.dtype).div_(255)
        return images.sub_(0.5) if self.centred else images

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Convolution features. Prepared images (B, C, H, W) -> `dtype` (B, flat_dim)."""
        maps: torch.Tensor = self.convs(images)
        return maps.permute(0, 2, 3, 1).flatten(1)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """Latent vector of convolution features. (B, flat_dim) -> float32 (B, feature_dim).

        Each entry is in [-1, 1] with latent_tanh, and unbounded without.
        """
        return self.latent(features)

    def latent(self, features: torch.Tensor) -> torch.Tensor:
        """The latent vector of images, whatever else `project` appends. (B, flat_dim) -> float32 (B, latent_dim)."""
        return self.project_in_steps(features)[1]

    def of_images(self, features: torch.Tensor) -> torch.Tensor:
        """The part of `features` that `latent` takes: all of them."""
        return features

    def project_in_steps(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The latent vector before and after its tanh. (B, flat_dim) -> float32 (B, feature_dim), twice.

        Without latent_tanh both are the same.
        """
        product, norm, tanh = self.projection
        before = norm(product(features).float())
        return before, tanh(before)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """The latent vector of images. uint8 (B, C, H, W) -> (B, latent_dim)."""
        return self.latent(self.features(self.prepare(obs)))

    def copy_conv_weights_from(self, source: "Encoder") -> None:
        """Shares the source's convolutions: the same parameters from now on, not a copy of their values.

        It shares the module, so that they stay shared after loading, a move to another device, and a deep copy of a
        module that holds both encoders.
        """
        self.convs = source.convs


class ImagesAndState(NamedTuple):
    """Prepared images (B, C, H, W), and what the agent sees beside them, float32 (B, state_dim)."""

    images: torch.Tensor
    state: torch.Tensor


class PixelStateEncoder(PixelEncoder):
    """A PixelEncoder behind whose latent vector stands the state that the agent sees beside the images.

    The state passes by the convolutions and the projection unchanged: features are (B, flat_dim + state_dim), and
    `project` returns (B, latent_dim + state_dim). What belongs to the images alone, such as a decoder, takes `latent`.

    state_dim: length of the state. Other arguments as of PixelEncoder.
    """

    def __init__(self, state_dim: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.state_dim = state_dim
        self.feature_dim = self.latent_dim + state_dim

    def prepare(self, obs: torch.Tensor, state: torch.Tensor | None = None) -> Any:
        """Input of `features`, which nothing else reads: an ImagesAndState, or the prepared images without a state."""
        images = super().prepare(obs)
        return images if state is None else ImagesAndState(images, state)

    def features(self, images: torch.Tensor | ImagesAndState) -> torch.Tensor:
        """Convolution features, float32 with the state behind them. -> (B, flat_dim + state_dim) or (B, flat_dim)."""
        if isinstance(images, torch.Tensor):
            return super().features(images)
        return torch.cat([super().features(images.images).float(), images.state], 1)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """The latent vector and the state behind it. (B, flat_dim + state_dim) -> float32 (B, feature_dim)."""
        return torch.cat([self.latent(self.of_images(features)), features[:, -self.state_dim :]], 1)

    def of_images(self, features: torch.Tensor) -> torch.Tensor:
        """The part of `features` that `latent` takes, in the dtype of the convolutions."""
        return features[:, : -self.state_dim].to(self.dtype)


class HasEncoder(Protocol):
    """A network on an encoder."""

    encoder: "Encoder"


def tie(follower: HasEncoder, leader: HasEncoder, tying: str) -> None:
    """Lets a network share what the `tying` setting names of another one's encoder."""
    if tying == "convs":
        follower.encoder.copy_conv_weights_from(leader.encoder)
    elif tying == "all":
        follower.encoder = leader.encoder


def features_of(one: HasEncoder, other: HasEncoder, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Convolution features of two networks' encoders, computed once where they share the convolutions."""
    features = one.encoder.features(images)
    shared = other.encoder.convs is one.encoder.convs
    return features, features if shared else other.encoder.features(images)


class StateEncoder(nn.Module):
    """Returns state vectors unchanged. It has the interface of PixelEncoder, so that agents work with either.

    obs_shape: (D,) of the stacked state.
    """

    def __init__(self, obs_shape: tuple[int, ...]) -> None:
        super().__init__()
        (self.feature_dim,) = obs_shape
        self.convs: nn.Module = nn.Identity()
        self.projection = self.convs

    def prepare(self, obs: torch.Tensor, state: torch.Tensor | None = None) -> torch.Tensor:
        """float32 (B, D) -> the same."""
        return obs

    def features(self, obs: torch.Tensor) -> torch.Tensor:
        """(B, D) -> the same."""
        return obs

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """(B, D) -> the same."""
        latent: torch.Tensor = self.projection(features)
        return latent

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """(B, D) -> the same."""
        return obs

    def copy_conv_weights_from(self, source: "Encoder") -> None:
        """Shares what there is, convolutions of no parameters, so that both are known to see the same."""
        self.convs = source.convs


Encoder = PixelEncoder | StateEncoder
"""An agent's encoder of observations."""


def make_encoder(spec: EnvSpec, config: EncoderConfig, dtype: torch.dtype = torch.float32) -> Encoder:
    """The encoder for an environment's observations. dtype: of a PixelEncoder's convolutions."""
    if not spec.from_pixels:
        return StateEncoder(spec.obs_shape)
    kind = functools.partial(PixelStateEncoder, spec.state_dim) if spec.sees_state else PixelEncoder
    return kind(
        spec.obs_shape,
        config.feature_dim,
        conv_layers(config),
        config.conv_init,
        config.latent_norm,
        config.latent_tanh,
        dtype,
        config.centre_pixels,
    )
