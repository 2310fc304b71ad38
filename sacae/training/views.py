"""What goes on inside an agent at a few moments of an episode: what is drawn of it is in pictures.py."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sacae.agents import Agent
from sacae.types import Frames

MOMENTS = 6
"""Moments of an episode that a picture shows."""


@dataclass
class View:
    """N moments.

    steps: the agent step of each. obs: uint8 (N, K * channels, H, W), as acting sees them. target, reconstruction:
    float32 of that shape, in [-0.5, 0.5) up to error; None without a decoder of pixels. feature_maps: float32 (N,
    filters, h, w) of each convolution after its ReLU, first to last. channels: of one frame.
    """

    steps: list[int]
    obs: NDArray[np.uint8]
    target: NDArray[np.float32] | None
    reconstruction: NDArray[np.float32] | None
    feature_maps: list[NDArray[np.float32]]
    channels: int


@torch.no_grad()
def look(agent: Agent, observations: Sequence[Frames], seed: int) -> View:
    """Looks into a pixel agent at MOMENTS evenly spaced ones of an episode's observations, uint8 (K * C, H, W) each.

    seed: of the dither in the reconstruction target.
    """
    steps = [int(i) for i in np.linspace(0, len(observations) - 1, MOMENTS)]
    obs = torch.from_numpy(np.stack([observations[i] for i in steps])).to(agent.device)
    seen = agent.seen(obs)
    target = reconstruction = None
    if agent.reconstruction is not None and agent.reconstruction.of_pixels:
        generator = torch.Generator(agent.device).manual_seed(seed)
        noise = torch.randint(0, 256, seen.shape, generator=generator, device=agent.device, dtype=torch.uint8)
        images = agent.reconstruction.reconstruct(seen, noise)
        target, reconstruction = (image.cpu().numpy() for image in images)
    channels = agent.spec.frame_shape[0]
    return View(steps, seen.cpu().numpy(), target, reconstruction, feature_maps(agent, obs), channels)


@torch.no_grad()
def feature_maps(agent: Agent, obs: torch.Tensor) -> list[NDArray[np.float32]]:
    """The output of each of the critic's convolutions, after its ReLU, for uint8 observations (N, K * C, H, W)."""
    maps = []
    images = agent.encoder.prepare(agent.seen(obs))
    convs = agent.encoder.convs
    assert isinstance(convs, torch.nn.Sequential)  # a pixel agent's
    for module in convs:
        images = module(images)
        if isinstance(module, torch.nn.ReLU):
            maps.append(images.float().cpu().numpy())
    return maps
