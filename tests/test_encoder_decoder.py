"""Encoder and decoder: sizes, sharing, and that one undoes the shape of the other."""

import pytest
import torch

from sacae.decoder import PixelDecoder
from sacae.encoder import PixelEncoder, conv_sizes


@pytest.mark.parametrize(
    ("layers", "size", "encoder_parameters", "decoder_parameters"),
    [(2, 39, 2_445_622, 2_494_121), (4, 35, 1_990_518, 2_029_545), (6, 31, 1_586_614, 1_617_193)],
)
def test_sizes_and_parameter_counts_are_the_papers(layers, size, encoder_parameters, decoder_parameters):
    encoder = PixelEncoder((9, 84, 84), 50, layers, 32)
    decoder = PixelDecoder((9, 84, 84), encoder)
    assert encoder.conv_shape == (32, size, size)
    assert sum(p.numel() for p in encoder.parameters()) == encoder_parameters
    assert sum(p.numel() for p in decoder.parameters()) == decoder_parameters


@pytest.mark.parametrize("layers", [2, 4, 6])
@pytest.mark.parametrize("image_size", [48, 49, 63, 64, 84, 85, 100, 127, 128])
def test_the_decoder_undoes_the_encoders_shape_at_every_image_size(layers, image_size):
    shape = (9, image_size, image_size)
    encoder = PixelEncoder(shape, 8, layers, 2)
    obs = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
    latent = encoder(obs)
    assert latent.shape == (3, 8)
    assert latent.abs().max() < 1
    assert encoder.convs(obs / 255).shape[1:] == encoder.conv_shape
    assert PixelDecoder(shape, encoder)(latent).shape == obs.shape


def test_conv_sizes_of_the_default_image():
    assert conv_sizes(84, 6) == [84, 41, 39, 37, 35, 33, 31]


def test_copied_convolutions_are_the_same_parameters_and_the_projection_is_not():
    source, copy = (PixelEncoder((9, 48, 48), 8, 2, 4) for _ in range(2))
    copy.copy_conv_weights_from(source)
    for ours, theirs in zip(copy.convs.parameters(), source.convs.parameters(), strict=True):
        assert ours is theirs
    assert not {*copy.projection.parameters()} & {*source.projection.parameters()}
