"""An update on another device than the CPU, which PyTorch's `meta` device stands for: tensors without values.

It fails where tensors of two devices meet, and where a value is read, which would break a captured update. It says
nothing about the values.
"""

import numpy as np
import pytest
import torch

from sacae.agents import optimisers
from sacae.replay import FrameReplay
from sacae.training.logger import Means
from sacae.types import EnvSpec
from tests.agents.cases import CASES, make
from tests.agents.conftest import batch_for, noise_for
from tests.agents.replayed import captured

META = torch.device("meta")
PIXELS = EnvSpec((3, 48, 48), "uint8", 3, 2)
STATE = EnvSpec((5,), "float32", 1, 2)


class PlainAdam(torch.optim.Adam):
    """Adam of single operations: PyTorch's fused one is not made for `meta`."""

    def __init__(self, parameters, **settings):
        super().__init__(parameters, **settings | {"fused": False})


def on_meta(tensors):
    """A batch or noise on `meta`, which has no random numbers of its own."""
    return type(tensors)._make(None if tensor is None else tensor.to(META) for tensor in tensors)


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_an_update_stays_on_its_device_and_reads_no_value(settings, monkeypatch):
    monkeypatch.setattr(optimisers, "FusedAdam", PlainAdam)
    agent = make(settings, META)
    batch, noise = on_meta(batch_for(agent)), on_meta(noise_for(agent))
    for gates in {agent.next_gates() for _ in range(4)}:
        metrics = agent.run_update(batch, noise, gates)
        assert metrics
        assert {(value.device, value.shape) for value in metrics.values()} == {(META, ())}
    assert {tensor.device for tensor in agent.state_dict().values()} == {META}


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_a_captured_update_copies_in_and_its_metrics_are_counted_on_the_device(settings, monkeypatch):
    monkeypatch.setattr(optimisers, "FusedAdam", PlainAdam)
    agent, means = make(settings, META), Means()
    update = captured(agent)
    for seed in range(4):
        metrics = update(on_meta(batch_for(agent, seed)), on_meta(noise_for(agent, seed)))
        means.add(metrics)
    assert means.sums.keys() <= {*agent.metric_names}
    assert {(value.device, value.shape) for value in means.sums.values()} == {(META, ())}
    with pytest.raises(RuntimeError):  # the one place that reads them
        means.take()


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
