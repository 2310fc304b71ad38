"""What only a GPU can show of updates: that each agent's can be captured, and what is left where one's cannot."""

import copy
import warnings

import pytest
import torch

from sacae.agents import make_update
from sacae.agents.self_test import disagreement
from tests.agents.cases import CASES, make
from tests.agents.conftest import batch_for

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

CANNOT_BE_CAPTURED = {"augment": "crop"}


def on_gpu(batch):
    return batch._make(None if tensor is None else tensor.to("cuda") for tensor in batch)


def updates_of(agent, capture):
    return make_update(agent, torch.Generator("cuda").manual_seed(0), capture)


@pytest.mark.parametrize("settings", [case for case in CASES if case != CANNOT_BE_CAPTURED], ids=str)
def test_captured_updates_of_every_agent_agree_with_eager_ones_on_a_gpu(settings):
    torch.manual_seed(0)
    assert disagreement(make(settings, "cuda")) == ""


@pytest.mark.parametrize("capture", [False, True])
def test_updates_on_a_gpu_warn_of_nothing(capture):
    agent = make({"agent": "sac"}, "cuda")
    update = updates_of(agent, capture)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(2):
            update(on_gpu(batch_for(agent, seed)))


def test_captured_updates_on_a_gpu_go_on_from_a_state_that_is_loaded():
    steps = []
    for capture in (False, True):
        torch.manual_seed(0)
        agent = make({"agent": "sac"}, "cuda")
        update, state = updates_of(agent, capture), copy.deepcopy(agent.learning_state())
        kept = [update(on_gpu(batch_for(agent, seed))) for seed in range(2)]  # lie in the pool of the graphs
        agent.load_learning_state(state)
        start = torch.cat([p.detach().flatten().clone() for p in agent.head.actor.parameters()])
        for seed in range(4):
            update(on_gpu(batch_for(agent, seed)))
        steps.append(torch.cat([p.detach().flatten() for p in agent.head.actor.parameters()]) - start)
        assert kept
    eager, captured = steps
    assert (captured - eager).norm() < 0.1 * eager.norm()


def test_after_a_recording_that_failed_on_a_gpu_updates_go_on_and_others_can_be_captured():
    agent = make(CANNOT_BE_CAPTURED, "cuda")
    assert "the test of it failed" in disagreement(agent)
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    metrics = updates_of(agent, False)(on_gpu(batch_for(agent)))
    assert all(torch.isfinite(value) for value in metrics.values())
    assert disagreement(make({"agent": "sac"}, "cuda")) == ""
