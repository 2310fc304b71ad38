"""The decoder: from a latent vector to the observation."""

import torch
from torch import nn
from torch.nn import functional as F

from sacae.encoder import PixelEncoder, conv_sizes
from sacae.networks import ConvTranspose2d, Linear, orthogonal_init


class PixelDecoder(nn.Module):
    """The inverse of a PixelEncoder: a linear layer, then its convolutions in reverse, each one transposed.

    Every layer but the last has a ReLU. Yarats et al. 2019, appendix B. Images are stored channels last, and the linear
    layer's outputs are in (H, W, C) order, like PixelEncoder's features.

    obs_shape: (C, H, W) of the stacked observation.
    encoder: supplies layers, sizes, initialisation and dtype; the decoder keeps none of its parameters.
    """

    def __init__(self, obs_shape: tuple[int, ...], encoder: PixelEncoder) -> None:
        super().__init__()
        channels, height, _ = obs_shape
        self.conv_shape, self.dtype = encoder.conv_shape, encoder.dtype
        num_filters, conv_height, conv_width = encoder.conv_shape
        self.fc = Linear(encoder.latent_dim, num_filters * conv_height * conv_width)
        inputs = [channels, *(layer.filters for layer in encoder.layers)]
        self.deconvs = nn.ModuleList()
        for layer, size, outputs in reversed([*zip(encoder.layers, conv_sizes(height, encoder.layers), inputs)]):
            # A strided convolution can skip the last rows; `output_padding` restores them.
            lost_rows = (size - layer.kernel) % layer.stride
            self.deconvs.append(
                ConvTranspose2d(layer.filters, outputs, layer.kernel, layer.stride, output_padding=lost_rows)
            )
        orthogonal_init(self, encoder.conv_init)
        self.deconvs.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in PyTorch

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """(B, feature_dim) -> float32 (B, C, H, W), pixels in the scale of the reconstruction target, [-0.5, 0.5)."""
        num_filters, height, width = self.conv_shape
        x = F.relu_(self.fc(latent.to(self.dtype))).unflatten(1, (height, width, num_filters))
        x = x.permute(0, 3, 1, 2)
        for deconv in self.deconvs[:-1]:
            x = F.relu_(deconv(x))
        pixels: torch.Tensor = self.deconvs[-1](x)
        return pixels.float()
