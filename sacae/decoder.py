"""What draws the observation again from its latent vector."""

import torch
from torch import nn
from torch.nn import functional as F

from sacae.encoder import FIRST_STRIDE, KERNEL, PixelEncoder
from sacae.networks import orthogonal_init


class PixelDecoder(nn.Module):
    """The inverse of a PixelEncoder: a linear layer, then as many transposed convolutions, the last with stride 2.

    ReLU after each but the last, which is linear. Yarats et al. 2019, appendix B. Images lie channels last, and the
    linear layer's outputs are in (H, W, C) order, as PixelEncoder's features are.

    obs_shape: (C, H, W) of the stacked observation.
    encoder: the encoder whose sizes it reverses; none of its parameters are kept.
    """

    def __init__(self, obs_shape: tuple[int, ...], encoder: PixelEncoder) -> None:
        super().__init__()
        channels, height, _ = obs_shape
        self.conv_shape = encoder.conv_shape
        num_filters, conv_height, conv_width = encoder.conv_shape
        num_layers = sum(isinstance(layer, nn.Conv2d) for layer in encoder.convs)
        self.fc = nn.Linear(encoder.feature_dim, num_filters * conv_height * conv_width)
        self.deconvs = nn.ModuleList(
            nn.ConvTranspose2d(num_filters, num_filters, KERNEL) for _ in range(num_layers - 1)
        )
        # The stride-2 convolution drops the last row of an even image; output_padding brings it back.
        lost_rows = (height - KERNEL) % FIRST_STRIDE
        self.deconvs.append(nn.ConvTranspose2d(num_filters, channels, KERNEL, FIRST_STRIDE, output_padding=lost_rows))
        orthogonal_init(self)
        self.deconvs.to(memory_format=torch.channels_last)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """(B, feature_dim) -> (B, C, H, W), pixels scaled to [-0.5, 0.5) as the reconstruction target is."""
        num_filters, height, width = self.conv_shape
        x = F.relu(self.fc(latent)).unflatten(1, (height, width, num_filters)).permute(0, 3, 1, 2)
        for deconv in self.deconvs[:-1]:
            x = F.relu_(_conv_transpose(x, deconv))
        return self.deconvs[-1](x)


def _conv_transpose(x: torch.Tensor, deconv: nn.ConvTranspose2d) -> torch.Tensor:
    """What a transposed convolution of stride 1 computes, as the convolution it is: padded, with the kernel turned.

    Convolutions have the faster kernels, most of all for the gradient of the weight.
    """
    weight = deconv.weight.flip(2, 3).transpose(0, 1)
    return F.conv2d(x, weight, deconv.bias, padding=KERNEL - 1)
