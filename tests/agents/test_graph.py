"""Each loss is one graph for torch.compile, with no break in it, for every head, preset and objective."""

import dataclasses

import pytest
import torch

from sacae import config as configs
from sacae.agents import HEADS, make_agent
from sacae.types import Batch, EnvSpec

SMALL = {"batch_size": 4, "hidden_dim": 8, "num_filters": 4, "feature_dim": 5, "num_layers": 2, "image_size": 48}
CASES = [{"agent": name} for name in HEADS]
CASES += [{"agent": name, "obs": "state"} for name in HEADS if name != "drqv2"]
CASES += [{"preset": preset} for preset in ("drq", "drqv2", "rad", "curl")]
CASES += [{"decoder": decoder} for decoder in ("vae", "none", "state")]
CASES += [{"obs": "pixels+state"}, {"dynamics": True}, {"precision": "bf16"}, {"actor_gradient": "through"}]
CASES += [{"tanh_correction": "exact"}, {"agent": "dqn", "double_q": False, "dueling": True}]


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


def make(settings):
    small = SMALL if settings.get("obs") != "state" else {"batch_size": 4, "hidden_dim": 8}
    config = configs.make(**{"precision": "fp32"} | small | settings, compile=True)
    spec = EnvSpec((3, 48, 48), "uint8", 3, 2) if config.task.obs != "state" else EnvSpec((5,), "float32", 1, 2)
    if HEADS[config.agent.agent].settings.DISCRETE_ACTIONS:
        spec = dataclasses.replace(spec, num_actions=3)
    if config.keeps_state:
        spec = dataclasses.replace(spec, state_dim=7, sees_state=config.task.sees_state)
    return make_agent(spec, config)


def random_batch(spec, size):
    generator = torch.Generator().manual_seed(0)
    shape = (size, *spec.obs_shape)
    if spec.from_pixels:
        obs, next_obs = (torch.randint(256, shape, generator=generator, dtype=torch.uint8) for _ in range(2))
    else:
        obs, next_obs = (torch.randn(shape, generator=generator) for _ in range(2))
    action = torch.rand(size, spec.action_dim, generator=generator) * 2 - 1
    if spec.num_actions is not None:
        action = torch.randint(spec.num_actions, (size, spec.action_dim), generator=generator)
    state = torch.randn(size, spec.state_dim, generator=generator) if spec.state_dim else None
    next_state = state if spec.sees_state else None
    return Batch(obs, action, torch.rand(size, 1), torch.full((size, 1), 0.99), next_obs, state, next_state)


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_every_loss_is_one_graph(settings):
    agent = make(settings)
    batch, generator = random_batch(agent.spec, 4), torch.Generator().manual_seed(0)
    for _ in range(2):
        metrics = agent.update(batch, agent.draw_noise(generator))
        assert all(torch.isfinite(value) for value in metrics.values())


def test_a_loss_that_reads_a_value_is_not_one_graph():
    agent = make({"agent": "sac"})
    inside = agent.head.critic_loss

    def reads(features, batch, noise):
        loss, metrics = inside(features, batch, noise)
        return (loss * 2 if loss.item() > 0 else loss), metrics

    agent.head.critic_loss = reads
    agent._prepare_losses()
    with pytest.raises(torch._dynamo.exc.TorchDynamoException, match="data-dependent"):
        agent.update(random_batch(agent.spec, 4), agent.draw_noise(torch.Generator()))
