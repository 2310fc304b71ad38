"""What turns observations into latent vectors, for the actor and for the critic."""

import torch
from torch import nn

from sacae.networks import orthogonal_init

KERNEL = 3
FIRST_STRIDE = 2


def conv_sizes(image_size: int, num_layers: int) -> list[int]:
    """Height (and width) of the image and of each convolution's output. 84 with 4 layers: 84, 41, 39, 37, 35."""
    first = (image_size - KERNEL) // FIRST_STRIDE + 1
    return [image_size] + [first - i * (KERNEL - 1) for i in range(num_layers)]


def channels_last(obs: torch.Tensor) -> torch.Tensor:
    """Images (B, C, H, W) with the channels of a pixel side by side in memory; a state vector (B, D) as it is."""
    return obs.contiguous(memory_format=torch.channels_last) if obs.dim() == 4 else obs


class PixelEncoder(nn.Module):
    """`num_layers` convolutions of 3x3 (the first with stride 2, ReLU after each), then linear, LayerNorm, tanh.

    Yarats et al. 2019, appendix B. The two halves are called apart, because their gradients end in different places:
    `features` is the convolutions, shared between critic and actor, and `project` is each one's own.

    Images lie in memory with channels last, several times faster than channels first, and `features` flattens them
    as they lie, in (H, W, C) order, where the reference flattens (C, H, W).

    obs_shape: (C, H, W) of the stacked observation, H = W.
    """

    def __init__(self, obs_shape: tuple[int, ...], feature_dim: int, num_layers: int, num_filters: int) -> None:
        super().__init__()
        channels, height, _ = obs_shape
        strides = [FIRST_STRIDE] + [1] * (num_layers - 1)
        inputs = [channels] + [num_filters] * (num_layers - 1)
        self.convs = nn.Sequential()
        for input_channels, stride in zip(inputs, strides):
            self.convs.append(nn.Conv2d(input_channels, num_filters, KERNEL, stride))
            self.convs.append(nn.ReLU(inplace=True))
        self.feature_dim = feature_dim
        self.conv_shape = (num_filters, *2 * conv_sizes(height, num_layers)[-1:])
        flat_dim = num_filters * self.conv_shape[1] * self.conv_shape[2]
        self.projection = nn.Sequential(nn.Linear(flat_dim, feature_dim), nn.LayerNorm(feature_dim), nn.Tanh())
        orthogonal_init(self)
        self.convs.to(memory_format=torch.channels_last)

    def prepare(self, obs: torch.Tensor) -> torch.Tensor:
        """The images that `features` takes: uint8 (B, C, H, W) -> float32 of that shape in [0, 1], channels last."""
        return channels_last(obs) / 255

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Convolution features. Prepared images (B, C, H, W) -> (B, flat_dim)."""
        return self.convs(images).permute(0, 2, 3, 1).flatten(1)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """Latent vector of convolution features. (B, flat_dim) -> (B, feature_dim), each entry in (-1, 1)."""
        return self.projection(features)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """uint8 (B, C, H, W) -> (B, feature_dim)."""
        return self.project(self.features(self.prepare(obs)))

    def copy_conv_weights_from(self, source: "PixelEncoder") -> None:
        """Shares the source's convolutions: the same parameters from now on, not a copy of their values.

        The module itself is shared, so that loading, moving to a device and deep copies of whatever holds both
        encoders keep the tie.
        """
        self.convs = source.convs


class StateEncoder(nn.Module):
    """Passes a state vector on, with the interface of PixelEncoder, so that agents need not ask what they see.

    obs_shape: (D,) of the stacked state.
    """

    def __init__(self, obs_shape: tuple[int, ...]) -> None:
        super().__init__()
        (self.feature_dim,) = obs_shape

    def prepare(self, obs: torch.Tensor) -> torch.Tensor:
        """float32 (B, D) -> the same."""
        return obs

    def features(self, obs: torch.Tensor) -> torch.Tensor:
        """(B, D) -> the same."""
        return obs

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """(B, D) -> the same."""
        return features

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """(B, D) -> the same."""
        return obs

    def copy_conv_weights_from(self, source: "StateEncoder") -> None:
        """Nothing to share."""
