"""Each loss is one graph for torch.compile, with no break in it, for every head, preset and objective."""

import pytest
import torch

from tests.agents.cases import CASES, make
from tests.agents.conftest import batch_for, noise_for


@pytest.fixture(autouse=True)
def without_breaks(monkeypatch):
    """torch.compile refuses what it cannot take into one graph; the graph runs uncompiled, which is faster here."""
    compile_as_it_is = torch.compile

    def compile_whole(function, **settings):
        return compile_as_it_is(function, **settings, fullgraph=True, backend="eager")

    monkeypatch.setattr(torch, "compile", compile_whole)
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_every_loss_is_one_graph(settings):
    agent = make(settings, compile=True)
    for seed in range(2):
        metrics = agent.update(batch_for(agent), noise_for(agent, seed))
        assert all(torch.isfinite(value) for value in metrics.values())


def test_a_loss_that_reads_a_value_is_not_one_graph():
    agent = make({"agent": "sac"}, compile=True)
    inside = agent.head.critic_loss

    def reads(features, batch, noise):
        loss, metrics = inside(features, batch, noise)
        return (loss * 2 if loss.item() > 0 else loss), metrics

    agent.head.critic_loss = reads
    agent._prepare_losses()
    with pytest.raises(torch._dynamo.exc.TorchDynamoException, match="data-dependent"):
        agent.update(batch_for(agent), noise_for(agent))
