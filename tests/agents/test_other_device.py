"""An update on another device than the CPU, which PyTorch's `meta` device stands for: tensors without values.

It fails where tensors of two devices meet, and where a value is read, which would break a captured update. It says
nothing about the values.
"""

import dataclasses

import numpy as np
import pytest
import torch

from sacae import config as configs
from sacae.agents import HEADS, make_agent, optimisers
from sacae.replay import FrameReplay
from sacae.types import Batch, EnvSpec, Noise

META = torch.device("meta")
PIXELS = EnvSpec((3, 48, 48), "uint8", 3, 2)
STATE = EnvSpec((5,), "float32", 1, 2)
SMALL = {"batch_size": 4, "hidden_dim": 8, "num_filters": 4, "feature_dim": 5, "num_layers": 2}
FROM_PIXELS = [{"agent": name} for name in HEADS]
FROM_PIXELS += [{"decoder": decoder} for decoder in ("vae", "none", "state")]
FROM_PIXELS += [{"augment": augment} for augment in ("shift", "crop", "color")]
FROM_PIXELS += [{"preset": preset, "image_size": 48} for preset in ("drq", "drqv2", "rad", "curl")]
FROM_PIXELS += [{"obs": "pixels+state"}, {"obs": "pixels+state", "preset": "curl", "critic_views": 2}]
FROM_PIXELS += [{"dynamics": True}, {"precision": "bf16"}, {"actor_gradient": "through"}, {"critic_gradient": False}]
FROM_PIXELS += [{"max_grad_norm": 1.0}, {"tanh_correction": "exact"}, {"freeze_encoder": True}]


class PlainAdam(torch.optim.Adam):
    """Adam of single operations: PyTorch's fused one is not made for `meta`."""

    def __init__(self, parameters, **settings):
        super().__init__(parameters, **settings | {"fused": False, "capturable": False})


@pytest.fixture(autouse=True)
def without_kernels(monkeypatch):
    """Replaces what PyTorch does not have for `meta`."""
    monkeypatch.setattr(optimisers, "FusedAdam", PlainAdam)


def make(spec, **settings):
    config = configs.make(**{"obs": "pixels" if spec.from_pixels else "state", "precision": "fp32"} | settings)
    if HEADS[config.agent.agent].settings.DISCRETE_ACTIONS:
        spec = dataclasses.replace(spec, num_actions=3)
    if config.keeps_state:
        spec = dataclasses.replace(spec, state_dim=7, sees_state=config.task.sees_state)
    return make_agent(spec, config, META)


def batch_for(agent):
    size, spec = agent.config.replay.batch_size, agent.spec
    obs = torch.empty(size, *spec.obs_shape, dtype=torch.uint8 if spec.from_pixels else torch.float32, device=META)
    kind = torch.float32 if spec.num_actions is None else torch.int64
    action = torch.empty(size, spec.action_dim, dtype=kind, device=META)
    scalar = torch.empty(size, 1, device=META)
    state = torch.empty(size, spec.state_dim, device=META) if spec.state_dim else None
    return Batch(obs, action, scalar, scalar.clone(), obs.clone(), state, state if spec.sees_state else None)


def noise_for(agent):
    """Noise as a generator of the device would draw it: `meta` has none."""
    drawn = agent.draw_noise(torch.Generator())
    return Noise._make(None if tensor is None else tensor.to(META) for tensor in drawn)


def check(agent):
    batch = batch_for(agent)
    for gates in {agent.next_gates() for _ in range(4)}:
        metrics = agent.run_update(batch, noise_for(agent), gates)
        assert metrics
        assert {(value.device, value.shape) for value in metrics.values()} == {(META, ())}
    assert {tensor.device for tensor in agent.state_dict().values()} == {META}


@pytest.mark.parametrize("settings", FROM_PIXELS, ids=str)
def test_an_update_from_pixels_stays_on_its_device_and_reads_no_value(settings):
    check(make(PIXELS, **SMALL | settings))


def test_an_update_of_the_nature_encoder_stays_on_its_device_and_reads_no_value():
    check(make(PIXELS, agent="dqn", encoder="nature", decoder="none", batch_size=4))


@pytest.mark.parametrize("name", HEADS)
def test_an_update_from_state_stays_on_its_device_and_reads_no_value(name):
    check(make(STATE, agent=name, batch_size=4, hidden_dim=8))


@pytest.mark.parametrize("spec", [PIXELS, STATE], ids=["pixels", "state"])
def test_a_batch_arrives_on_the_agents_device(spec):
    replay = FrameReplay(spec, 20, device=META, storage=torch.device("cpu"))
    frame, action = np.zeros(spec.frame_shape, spec.frame_dtype), np.zeros(spec.action_dim, np.float32)
    replay.begin(0, frame)
    for _ in range(8):
        replay.add(0, action, 1.0, False, False, frame)
    batch = replay.sample(4, np.random.default_rng(0))
    assert {(tensor.device, len(tensor)) for tensor in batch if tensor is not None} == {(META, 4)}
    assert batch.obs.shape == (4, *spec.obs_shape)
