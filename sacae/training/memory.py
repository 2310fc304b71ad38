"""The memory that a training needs beside its replay, estimated before anything is allocated or started."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from sacae.agents import HEADS
from sacae.agents.augmentation import encoded_spec
from sacae.config import Config
from sacae.encoder import conv_layers, conv_sizes
from sacae.errors import UserError
from sacae.replay.memory import free_memory, place
from sacae.types import EnvSpec

FLOAT = 4
"""Bytes of a float32."""

OPTIMISED = 4
"""Numbers for each parameter that Adam trains: itself, its gradient and two moments."""


@dataclass(frozen=True)
class UpdateMemory:
    """Bytes of networks with their optimisers, of a batch, and of what an update keeps of it for the gradients."""

    networks: int
    batch: int
    activations: int

    @property
    def bytes(self) -> int:
        """All of them."""
        return self.networks + self.batch + self.activations


def update_memory(spec: EnvSpec, config: Config) -> UpdateMemory:
    """An estimate from the layers' sizes. Heads differ: it counts an actor and two critics, or one network of DQN."""
    hidden, obs = config.agent.hidden_dim, math.prod(spec.obs_shape)
    features, conv_parameters, conv_outputs = obs, 0, 0
    copies = 1
    if spec.from_pixels:
        features, conv_parameters, conv_outputs = _encoder(encoded_spec(spec, config), config)
        features += spec.state_dim if spec.sees_state else 0
        copies = 1 + (config.autoencoder.decoder in ("rae", "vae"))
    trained, targets = (1, 1) if HEADS[config.agent.agent].settings.DISCRETE_ACTIONS else (3, 2)
    outputs = spec.action_dim * (spec.num_actions or 2)
    mlp = (features + outputs) * hidden + hidden * hidden + hidden * outputs
    parameters = OPTIMISED * (trained * mlp + copies * conv_parameters) + targets * mlp + conv_parameters
    critic_views, _, _ = config.views
    of_batch = sum(config.views) * obs * (FLOAT + (1 if spec.from_pixels else 0))
    # Each layer's output has a gradient of its size, or a buffer of the kernel that computes it.
    of_update = 2 * FLOAT * ((copies + critic_views - 1) * conv_outputs + trained * 4 * hidden)
    batch_size = config.replay.batch_size
    return UpdateMemory(FLOAT * parameters, batch_size * of_batch, batch_size * of_update)


def _encoder(spec: EnvSpec, config: Config) -> tuple[int, int, int]:
    """Length of the latent, parameters of convolutions and projection, and numbers in the convolutions' outputs."""
    layers = conv_layers(config.encoder)
    sizes = conv_sizes(spec.obs_shape[-1], layers)[1:]
    inputs = [spec.obs_shape[0], *(layer.filters for layer in layers)]
    outputs = [layer.filters * size**2 for layer, size in zip(layers, sizes)]
    convs = sum(channels * layer.filters * layer.kernel**2 for channels, layer in zip(inputs, layers))
    feature_dim = config.encoder.feature_dim
    return feature_dim, convs + outputs[-1] * feature_dim, sum(outputs)


def check_update(need: UpdateMemory, config: Config, device: torch.device) -> None:
    """Raises UserError, with the setting that takes most, unless an update fits into the free memory of the device."""
    free = free_memory(device)
    if need.bytes <= free:
        return
    name = "hidden_dim" if need.networks > need.batch + need.activations else "batch_size"
    parts = ", ".join(f"{part} {size / 1e9:,.1f}" for part, size in vars(need).items())
    raise UserError(
        f"{name} is {config.flat()[name]:,}, with which an update needs about {need.bytes / 1e9:,.1f} GB in "
        f"{place(device)} ({parts}), but {max(0, free) / 1e9:.1f} GB is free; lower --batch-size, --hidden-dim or what "
        "else makes the networks large"
    )


@contextlib.contextmanager
def out_of_memory(need: UpdateMemory, config: Config, device: torch.device, storage: torch.device) -> Iterator[None]:
    """Turns the end of memory in an update into a UserError that names the settings and a batch that would fit.

    storage: the device of the replay's frames.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        batch_size = config.replay.batch_size
        advice = "lower --batch-size" + (f", such as {batch_size // 2}" if batch_size > 1 else " or --hidden-dim")
        if storage == device and device.type != "cpu":
            advice += ", or use --replay-device host"
        raise UserError(
            f"batch_size is {batch_size:,}, but {place(device)} has no room left for an update, which needs about "
            f"{need.bytes / 1e9:,.1f} GB: training stopped; {advice}, or end what else uses this memory"
        ) from error


OUT_OF_MEMORY = ("allocate memory", "out of memory", "ALLOC_FAILED")
"""What is said by errors that are a RuntimeError like any other: on a CPU, of CUDA, of its libraries."""


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory has run out, perhaps in the recording of a graph, whose end then raised another error."""
    if error is None:
        return False
    ran_out = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return ran_out or any(text in str(error) for text in OUT_OF_MEMORY) or _is_out_of_memory(error.__context__)
