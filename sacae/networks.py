"""Layers, MLPs, their initialisation and its seed, and the density of the squashed Gaussian."""

import contextlib
import math
from collections.abc import Iterable, Iterator
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional as F


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Networks that are made within this block are drawn from the seed, on the CPU.

    Afterwards PyTorch's random numbers go on as if there had been no block: they are the caller's.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def orthogonal_init(module: nn.Module, convs: str = "delta_orthogonal") -> None:
    """Initialises every layer of a module as the reference does.

    Biases are 0 and linear weights orthogonal with gain 1. Convolutions and transposed convolutions are
    delta-orthogonal (Xiao et al. 2018, arXiv:1806.05393): zero except for the centre tap, which is orthogonal with gain
    sqrt(2). An even kernel has no centre tap: there the whole kernel, as a matrix with a row for each entry of its
    first axis, is orthogonal with that gain. LayerNorm keeps its default.

    convs: the initialisation of convolutions, as `conv_init` names it: delta_orthogonal; orthogonal, every kernel as an
        even one; default, PyTorch's.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight)
            nn.init.zeros_(layer.bias)
        elif convs != "default" and isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.zeros_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            height, width = layer.kernel_size
            centred = convs == "delta_orthogonal" and height % 2 == 1 and width % 2 == 1
            taps = layer.weight.data[:, :, height // 2, width // 2] if centred else layer.weight.data
            nn.init.orthogonal_(taps, nn.init.calculate_gain("relu"))


class Linear(nn.Linear):
    """A linear layer that computes in the dtype of its input, in float32 on a CPU by LinearProduct.

    Its gradient has no gradient of its own there.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in) -> (B, out)."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        if by_onednn(x, self.out_features):
            product: torch.Tensor = LinearProduct.apply(x, weight, bias)  # type: ignore[no-untyped-call]  # PyTorch has no type
            return product
        return F.linear(x, weight, bias)


ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
"""Whether PyTorch has oneDNN's linear layer, which its compiler uses on CPUs."""

FEW_OUTPUTS = 16
"""Outputs of a layer below which PyTorch's own product is faster, by what a call of oneDNN costs."""


def by_onednn(x: torch.Tensor, outputs: int) -> bool:
    """Whether a product with that many outputs is made by oneDNN. The compiler chooses for itself; ONNX has none."""
    on_cpu = ONEDNN and x.device.type == "cpu" and x.dtype == torch.float32
    traced = torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export()
    return on_cpu and outputs >= FEW_OUTPUTS and not traced


def onednn_product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x @ weight.T + bias. float32 (B, in), (out, in), (out,) -> (B, out)."""
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


class Context(Protocol):
    """What the forward of a torch.autograd.Function hands to its backward.

    stride: of a convolution.
    """

    stride: tuple[int, int]

    @property
    def saved_tensors(self) -> tuple[torch.Tensor, ...]:
        """What `save_for_backward` was given."""

    @property
    def needs_input_grad(self) -> tuple[bool, ...]:
        """For each argument of forward, whether a gradient is asked for."""

    def save_for_backward(self, *tensors: torch.Tensor) -> None:
        """Keeps tensors for the backward."""


class LinearProduct(torch.autograd.Function):
    """A linear layer and its gradients by oneDNN.

    PyTorch's own float32 products on a CPU use MKL, which takes two to four times as long on an AMD CPU with AVX-512.
    """

    @staticmethod
    def forward(ctx: Context, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """float32 (B, in), (out, in), (out,) -> (B, out)."""
        ctx.save_for_backward(x, weight)
        return onednn_product(x, weight, bias)

    @staticmethod
    def backward(ctx: Context, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x, where it needs one, weight and bias."""
        x, weight = ctx.saved_tensors
        of_x = onednn_product(gradient, weight.t()) if ctx.needs_input_grad[0] else None
        return of_x, onednn_product(gradient.t(), x.t()), gradient.sum(0)


class EnsembleProduct(torch.autograd.Function):
    """Linear layers of several networks and their gradients, each network's by oneDNN. See LinearProduct."""

    @staticmethod
    def forward(ctx: Context, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """float32 (N, B, in), (N, in, out), (N, 1, out) -> (N, B, out)."""
        ctx.save_for_backward(x, weight)
        return torch.stack([onednn_product(x_i, w.t(), b) for x_i, w, b in zip(x, weight, bias.squeeze(1))])

    @staticmethod
    def backward(ctx: Context, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x, where it needs one, weight and bias."""
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = None, None, None
        if ctx.needs_input_grad[0]:
            of_x = torch.stack([onednn_product(g, w) for g, w in zip(gradient, weight)])
        if ctx.needs_input_grad[1]:
            of_weight = torch.stack([onednn_product(x_i.t(), g.t()) for x_i, g in zip(x, gradient)])
            of_bias = gradient.sum(1, keepdim=True)
        return of_x, of_weight, of_bias


class Conv2d(nn.Conv2d):
    """A convolution that computes in the dtype of its input. Except in bfloat16, its gradients are those of Conv."""

    bias: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in, H, W) -> (B, out, h, w)."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        if x.dtype == torch.bfloat16:
            return F.conv2d(x, weight, bias, self.stride)
        inputs = x, weight, bias, self.stride
        out: torch.Tensor = Conv.apply(*inputs)  # type: ignore[no-untyped-call]  # PyTorch has no type
        return out


class ConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution that computes in the dtype of its input, with the gradients of TransposedConv."""

    bias: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # PyTorch's also takes output_size
        """(B, in, h, w) -> (B, out, H, W)."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        inputs = x, weight, bias, self.stride, self.output_padding
        out: torch.Tensor = TransposedConv.apply(*inputs)  # type: ignore[no-untyped-call]  # PyTorch has no type
        return out


class Conv(torch.autograd.Function):
    """A convolution without padding that computes its bias's gradient as a separate sum.

    Inside PyTorch's backward pass on a CPU, that sum takes a tenth of the time in float32, and none in bfloat16.
    """

    @staticmethod
    def forward(
        ctx: Context,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        stride: tuple[int, int],
    ) -> torch.Tensor:
        """(B, in, H, W), (out, in, k, k), (out,) -> (B, out, h, w)."""
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, bias, stride)

    @staticmethod
    def backward(ctx: Context, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x, where it needs one, weight and bias."""
        x, weight = ctx.saved_tensors
        of_x, of_weight = conv_gradients(gradient, x, weight, ctx.stride, of_x=ctx.needs_input_grad[0])
        return of_x, of_weight, gradient.sum((0, 2, 3)), None


def conv_gradients(
    gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int], of_x: bool
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Gradients of the input (None unless `of_x`) and of the weight of a convolution without padding."""
    found = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, (0, 0), (1, 1), False, (0, 0), 1, (of_x, True, False)
    )
    return found[0], found[1]


class TransposedConv(torch.autograd.Function):
    """A transposed convolution without padding whose backward pass uses the convolution that it transposes.

    The input's gradient is that convolution of the output's gradient. The weight's gradient is that of the
    convolution's weight, with input and output exchanged. PyTorch's backward pass of a transposed convolution gives the
    same result, but takes two to three times as long on a CPU.
    """

    @staticmethod
    def forward(
        ctx: Context,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        stride: tuple[int, int],
        output_padding: tuple[int, int],
    ) -> torch.Tensor:
        """(B, in, h, w), (in, out, k, k), (out,) -> (B, out, H, W)."""
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv_transpose2d(x, weight, bias, stride, output_padding=output_padding)

    @staticmethod
    def backward(ctx: Context, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x, weight and bias."""
        x, weight = ctx.saved_tensors
        of_x = F.conv2d(gradient, weight, stride=ctx.stride)
        _, of_weight = conv_gradients(x, gradient, weight, ctx.stride, of_x=False)
        return of_x, of_weight, gradient.sum((0, 2, 3)), None, None


class MLP(nn.Sequential):
    """Two hidden layers with ReLU, orthogonally initialised. float32 (B, input_dim) -> float32 (B, output_dim)."""

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int) -> None:
        super().__init__(
            Linear(input_dim, hidden_dim),
            nn.ReLU(),
            Linear(hidden_dim, hidden_dim),
            nn.ReLU(),
            Linear(hidden_dim, output_dim),
        )
        orthogonal_init(self)


class EnsembleMLP(nn.Module):
    """`count` independent MLPs of the same shape, evaluated together with batched matrix products.

    One tensor holds layer i of all MLPs: `weights[i]` is (N, in, out), `biases[i]` is (N, 1, out).
    """

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, count: int = 2) -> None:
        super().__init__()
        mlps = [MLP(input_dim, hidden_dim, output_dim) for _ in range(count)]
        layers = [*zip(*([layer for layer in mlp if isinstance(layer, nn.Linear)] for mlp in mlps))]
        self.weights = nn.ParameterList(torch.stack([layer.weight.T for layer in same]).detach() for same in layers)
        self.biases = nn.ParameterList(torch.stack([layer.bias for layer in same])[:, None].detach() for same in layers)

    def forward(self, x: torch.Tensor, frozen: bool = False) -> torch.Tensor:
        """float32 (B, input_dim) -> float32 (N, B, output_dim). frozen: only x receives a gradient, no parameter."""
        x = x.expand(len(self.weights[0]), *x.shape)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            x = x if i == 0 else F.relu(x)
            if frozen:
                weight, bias = weight.detach(), bias.detach()
            if by_onednn(x, weight.shape[-1]):
                x = EnsembleProduct.apply(x, weight, bias)  # type: ignore[no-untyped-call]  # PyTorch has no type
            else:
                x = torch.baddbmm(bias, x, weight)
        return x


LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


def gaussian_log_prob(noise: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
    """Log density of the sample mean + noise * exp(log_std) in each dimension. (B, A), (B, A) -> (B, A)."""
    return -0.5 * noise.square() - log_std - LOG_SQRT_2PI


def gaussian_entropy(log_std: torch.Tensor) -> torch.Tensor:
    """Entropy of a diagonal Gaussian, in nats, summed over dimensions. (B, A) -> (B,)."""
    return (log_std + 0.5 + LOG_SQRT_2PI).sum(-1)


def clipped_tanh_correction(action: torch.Tensor) -> torch.Tensor:
    """Log of tanh's derivative, by which each dimension's density is divided, at the action a. (B, A) -> (B, A).

    log(relu(1 - a^2) + 1e-6), as in the SAC-AE authors' code. Its gradient is 0 where tanh saturates.
    """
    return torch.log(F.relu(1 - action.square()) + 1e-6)


def exact_tanh_correction(before_tanh: torch.Tensor) -> torch.Tensor:
    """Log of tanh's derivative, log(1 - tanh(u)^2), computed from u without loss of precision. (B, A) -> (B, A).

    2 (log 2 - u - softplus(-2u)), as in Haarnoja et al.'s softlearning and TensorFlow Probability's Tanh bijector.
    """
    return 2 * (math.log(2) - before_tanh - F.softplus(-2 * before_tanh))


def own_parameters(module: nn.Module, other: nn.Module) -> list[nn.Parameter]:
    """The parameters of `module` that are not also parameters of `other`."""
    return without(module.parameters(), other.parameters())


def without(parameters: Iterable[nn.Parameter], left_out: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """The parameters that are not in `left_out`."""
    others = set(left_out)
    return [p for p in parameters if p not in others]


def linear_schedule(start: float, end: float, duration: int, step: int) -> float:
    """The value at `step` of a linear change from start to end over `duration` steps; end afterwards."""
    return end if step >= duration else start + (end - start) * step / duration
