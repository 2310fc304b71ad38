"""The optimisers, and objectives beside the critic that the agent does not know."""

import copy

import pytest
import torch
from torch import nn

from sacae.agents.descent import Descent
from sacae.agents.optimisers import FusedAdam, make_adams
from tests.agents.conftest import noise_for


def parameters_of(seed, sizes=((3, 2), (4,))):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(size, generator=generator)) for size in sizes]


@pytest.mark.parametrize("settings", [{}, {"betas": (0.5, 0.999)}, {"weight_decay": 0.1}])
def test_the_short_step_is_torchs_to_the_bit_also_where_moments_were_cleared(settings):
    ours, theirs = parameters_of(0), parameters_of(0)
    optimizers = (
        FusedAdam(ours, lr=0.1, fused=True, **settings),
        torch.optim.Adam(theirs, lr=0.1, fused=True, **settings),
    )
    for k in range(6):
        for optimizer, stepped in zip(optimizers, (ours, theirs), strict=True):
            for parameter, gradient in zip(stepped, parameters_of(k + 1), strict=True):
                parameter.grad = gradient.detach()
            if k == 3:
                optimizer.state.pop(stepped[1])
            optimizer.step()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    for ours, theirs in zip(*(optimizer.state_dict()["state"].values() for optimizer in optimizers), strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_two_optimisers_step_on_one_gradient_of_what_both_have():
    both, own = parameters_of(0, [(2,), (3,)])
    alone = copy.deepcopy(both)
    optimised = {"one": ([both], {"lr": 0.1}), "other": ([both, own], {"lr": 0.01})}
    adams = make_adams(optimised)
    descent = Descent(adams.values(), torch.zeros(2, dtype=torch.int64), torch.tensor(1))
    assert descent.parameters == [both, own]
    descent(both.square().sum() + own.sum())
    # Adam's first step is the learning rate in the direction of the gradient.
    torch.testing.assert_close(both, alone - 0.11 * alone.sign())


def test_the_first_bad_update_is_kept_for_each_optimiser():
    (parameter,) = parameters_of(0, [(2,)])
    first_bad, count = torch.zeros(1, dtype=torch.int64), torch.tensor(0)
    descent = Descent([FusedAdam([parameter], fused=True)], first_bad, count)
    for scale in (1.0, float("inf"), 1.0, float("nan")):
        count += 1
        descent(scale * parameter.sum())
    assert first_bad.tolist() == [2]


class Shrinking:
    """An objective that knows nothing but the protocol: it shortens the latent, scaled by a network of its own."""

    metric_names = ("length",)

    def __init__(self, encoder):
        self.encoder, self.scale = encoder, nn.Linear(1, 1)

    def networks(self):
        return {"shrinking": self.scale}

    def optimised(self):
        return {"shrinking": ([*self.encoder.parameters(), *self.scale.parameters()], {"lr": 1e-3})}

    def draw_noise(self, batch_size, generator):
        return {"latent": torch.randn(batch_size, 1, generator=generator)}

    def loss(self, features, batch, noise):
        length = self.encoder.project(features).square().mean(1, keepdim=True)
        loss = self.scale(length + noise.latent).square().mean()
        return loss, {"length": loss}


@pytest.mark.parametrize("beside", [True, False])
def test_an_objective_is_added_beside_or_instead_of_the_reconstruction(beside, make_small_agent, batch, monkeypatch):
    def objectives(spec, head, config):
        return (*(make(spec, head, config) if beside else ()), Shrinking(head.critic.encoder))

    from sacae.agents import agent as module

    make = module.make_objectives
    monkeypatch.setattr(module, "make_objectives", objectives)
    agent, other = make_small_agent(), make_small_agent()
    for k in range(2):
        metrics = agent.update(batch, noise_for(agent, k))
    assert set(metrics) == set(agent.metric_names)
    assert ("reconstruction_loss" in metrics) == beside
    assert {"shrinking", "critic"} <= set(agent.optimizers)
    before = copy.deepcopy(agent.state_dict())
    other.load_learning_state(copy.deepcopy(agent.learning_state()))
    for one in (agent, other):
        one.update(batch, noise_for(one, 2))
    assert not torch.equal(before["shrinking.weight"], agent.state_dict()["shrinking.weight"])
    for (name, ours), theirs in zip(agent.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
