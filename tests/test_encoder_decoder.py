"""Encoder and decoder: sizes, sharing, the initialisation, and that one undoes the shape of the other."""

import pytest
import torch
from torch import nn

from sacae.decoder import PixelDecoder
from sacae.encoder import NATURE, Conv, PixelEncoder, StateEncoder, conv_layers, conv_sizes
from sacae.groups import EncoderConfig
from sacae.networks import Conv2d, ConvTranspose2d, Linear

SMALL = {"default": conv_layers(EncoderConfig(num_filters=2)), "nature": NATURE}


def sac_ae_layers(num_layers, num_filters):
    return conv_layers(EncoderConfig(num_layers=num_layers, num_filters=num_filters))


def test_the_settings_name_the_convolutions():
    first, other = Conv(32, kernel=3, stride=2), Conv(32, kernel=3, stride=1)
    assert conv_layers(EncoderConfig()) == (first, other, other, other)
    assert sac_ae_layers(2, 8) == (Conv(8, 3, 2), Conv(8, 3, 1))
    assert conv_layers(EncoderConfig(encoder="nature")) == ((32, 8, 4), (64, 4, 2), (64, 3, 1))


@pytest.mark.parametrize(
    ("layers", "size", "encoder_parameters", "decoder_parameters"),
    [(2, 39, 2_445_622, 2_494_121), (4, 35, 1_990_518, 2_029_545), (6, 31, 1_586_614, 1_617_193)],
)
def test_sizes_and_parameter_counts_are_the_papers(layers, size, encoder_parameters, decoder_parameters):
    encoder = PixelEncoder((9, 84, 84), 50, sac_ae_layers(layers, 32))
    decoder = PixelDecoder((9, 84, 84), encoder)
    assert encoder.conv_shape == (32, size, size)
    assert sum(p.numel() for p in encoder.parameters()) == encoder_parameters
    assert sum(p.numel() for p in decoder.parameters()) == decoder_parameters


def test_natures_convolutions_are_those_of_the_dqn():
    encoder = PixelEncoder((9, 84, 84), 50, NATURE)
    decoder = PixelDecoder((9, 84, 84), encoder)
    assert encoder.conv_shape == (64, 7, 7)
    weights = [conv.weight.shape for conv in encoder.convs[::2]]
    assert weights == [(32, 9, 8, 8), (64, 32, 4, 4), (64, 64, 3, 3)]
    assert all(isinstance(layer, nn.ReLU) for layer in encoder.convs[1::2])
    assert sum(p.numel() for p in encoder.parameters()) == 245_174
    assert sum(p.numel() for p in decoder.parameters()) == 248_105


@pytest.mark.parametrize(
    ("layers", "image_size"),
    [(sac_ae_layers(n, 2), size) for n in (2, 4, 6) for size in (48, 49, 63, 64, 84, 85, 99, 100, 127, 128)]
    + [(NATURE, size) for size in (48, 49, 50, 51, 63, 64, 84, 85, 99, 100, 127, 128)],
)
def test_the_decoder_undoes_the_encoders_shape_at_every_image_size(layers, image_size):
    shape = (9, image_size, image_size)
    encoder = PixelEncoder(shape, 8, layers)
    decoder = PixelDecoder(shape, encoder)
    obs = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
    latent = encoder(obs)
    assert latent.shape == (3, 8)
    assert latent.abs().max() < 1
    assert encoder.convs(obs / 255).shape[1:] == encoder.conv_shape
    assert decoder(latent).shape == obs.shape
    x = torch.zeros(1, *encoder.conv_shape)
    for deconv, layer, size in reversed_layers(decoder, layers, image_size):
        x = deconv(x)
        assert (deconv.kernel_size[0], deconv.stride[0], x.shape[-1]) == (layer.kernel, layer.stride, size)


def reversed_layers(decoder, layers, image_size):
    return zip(decoder.deconvs, reversed(layers), reversed(conv_sizes(image_size, layers)[:-1]), strict=True)


def test_conv_sizes_of_the_default_image():
    assert conv_sizes(84, sac_ae_layers(6, 32)) == [84, 41, 39, 37, 35, 33, 31]
    assert conv_sizes(84, NATURE) == [84, 20, 9, 7]


@pytest.mark.parametrize(
    ("kernel", "stride", "output_padding"), [(3, 1, 0), (5, 1, 0), (3, 2, 1), (4, 2, 0), (8, 4, 3)]
)
def test_a_transposed_convolution_and_its_gradients_are_pytorchs(kernel, stride, output_padding):
    deconv = ConvTranspose2d(4, 6, kernel, stride, output_padding=output_padding).double()
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64, requires_grad=True)
    assert_same_with_gradients(deconv, nn.ConvTranspose2d.forward, x)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (8, 4), (4, 3)])
@pytest.mark.parametrize("of_image", [False, True])
def test_a_convolution_and_its_gradients_are_pytorchs(kernel, stride, of_image):
    x = torch.randn(2, 4, 17, 17, dtype=torch.float64, requires_grad=of_image)
    assert_same_with_gradients(Conv2d(4, 6, kernel, stride).double(), nn.Conv2d.forward, x)


@pytest.mark.parametrize("of_features", [False, True])
def test_a_linear_layer_and_its_gradients_are_pytorchs(of_features):
    x = torch.randn(7, 300, requires_grad=of_features)
    # oneDNN is asked in float32 alone, and adds in another order.
    assert_same_with_gradients(Linear(300, 5), nn.Linear.forward, x, rtol=1e-4, atol=1e-4)


def assert_same_with_gradients(layer, pytorchs, x, **tolerance):
    ours, theirs = layer(x), pytorchs(layer, x)
    torch.testing.assert_close(ours, theirs, **tolerance)
    upstream = torch.randn_like(theirs)
    wanted = [layer.weight, layer.bias, *([x] if x.requires_grad else [])]
    for a, b in zip(*(torch.autograd.grad(y, wanted, upstream) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, **tolerance)


def test_the_decoder_computes_its_layers_with_relu_between_them():
    encoder = PixelEncoder((3, 51, 51), 8, NATURE)
    decoder = PixelDecoder((3, 51, 51), encoder)
    latent = torch.randn(2, 8)
    channels, height, width = encoder.conv_shape
    x = decoder.fc(latent).relu().view(2, height, width, channels).permute(0, 3, 1, 2)
    for deconv in decoder.deconvs[:-1]:
        x = deconv(x).relu()
    torch.testing.assert_close(decoder(latent), decoder.deconvs[-1](x))


def test_nature_starts_orthogonal():
    encoder = PixelEncoder((9, 84, 84), 8, NATURE)
    decoder = PixelDecoder((9, 84, 84), encoder)
    for layer in (*encoder.convs[::2], *decoder.deconvs):
        odd = layer.kernel_size == (3, 3)
        weight = layer.weight[:, :, 1, 1] if odd else layer.weight.flatten(1)
        torch.testing.assert_close(weight @ weight.T, 2 * torch.eye(len(weight)), atol=1e-5, rtol=0)
        assert layer.weight.count_nonzero() == weight.count_nonzero()
        assert layer.bias.count_nonzero() == 0


@pytest.mark.parametrize("layers", SMALL.values(), ids=SMALL)
def test_copied_convolutions_are_the_same_parameters_and_the_projection_is_not(layers):
    source, copy = (PixelEncoder((9, 48, 48), 8, layers) for _ in range(2))
    copy.copy_conv_weights_from(source)
    assert len([*copy.convs.parameters()]) == 2 * len(layers)
    for ours, theirs in zip(copy.convs.parameters(), source.convs.parameters(), strict=True):
        assert ours is theirs
    assert not {*copy.projection.parameters()} & {*source.projection.parameters()}


def test_a_state_encoder_has_a_projection_that_adds_nothing():
    encoder = StateEncoder((5,))
    state = torch.randn(2, 5)
    assert torch.equal(encoder.projection(state), state)
    assert torch.equal(encoder(state), state)
    assert not encoder.state_dict()
