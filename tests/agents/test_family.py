"""The presets of SAC-AE's descendants as agents: they learn, compiled and in bf16 too, and go on after saving."""

import copy
from typing import get_args

import pytest
import torch

from sacae.agents import make_update
from sacae.declaration import declared
from sacae.experiments.ablations import FAMILY
from sacae.groups import ReplayConfig
from tests.agents.conftest import assert_goes_on_after_loading, noise_for


@pytest.fixture
def make_family_agent(make_small_agent):
    def make(preset, **settings):
        return make_small_agent(preset=preset, image_size=48, **settings)

    return make


@pytest.mark.parametrize("preset", FAMILY)
@pytest.mark.parametrize("decoder", ["none", "rae", "vae", "state"])
def test_every_preset_learns_with_every_decoder(preset, decoder, make_family_agent, batch):
    agent = make_family_agent(preset, decoder=decoder)
    before = copy.deepcopy(agent.state_dict())
    metrics = {}
    for k in range(2):
        metrics |= agent.update(batch, noise_for(agent, k))
    assert set(metrics) == set(agent.metric_names)
    agent.check_finite()
    stepped = {p for o in agent.optimizers.values() for p in o.param_groups[0]["params"]}
    assert [n for n, p in agent.named_parameters() if p in stepped and torch.equal(before[n], p)] == []


@pytest.mark.parametrize("preset", FAMILY)
@pytest.mark.parametrize("augment", get_args(declared(ReplayConfig)["augment"].type))
def test_every_preset_learns_and_acts_with_every_augmentation(preset, augment, make_family_agent, batch):
    agent = make_family_agent(preset, augment=augment)
    metrics = agent.update(batch, noise_for(agent))
    agent.check_finite()
    assert ("contrastive_loss" in metrics) == (preset == "curl" and augment != "none")
    assert agent.act(batch.obs).shape == (5, 2)


@pytest.mark.parametrize("preset", FAMILY)
def test_every_preset_in_bf16_has_losses_in_float32_that_are_close(preset, make_family_agent, batch):
    plain, low = (make_family_agent(preset, precision=precision) for precision in ("fp32", "bf16"))
    ours, theirs = (agent.update(batch, noise_for(agent)) for agent in (plain, low))
    assert {value.dtype for value in theirs.values()} == {torch.float32}
    assert theirs["critic_loss"].item() == pytest.approx(ours["critic_loss"].item(), rel=0.1, abs=0.05)


@pytest.mark.parametrize("preset", FAMILY)
def test_every_preset_goes_on_bit_identically_after_saving_and_loading(preset, make_family_agent, batch):
    agent, other = make_family_agent(preset), make_family_agent(preset)
    agent.follow_schedule(10_000)
    assert_goes_on_after_loading(agent, other, batch)


@pytest.mark.slow
@pytest.mark.parametrize("preset", FAMILY)
def test_the_compiled_update_of_every_preset_computes_the_same(preset, make_family_agent, batch):
    plain, compiled = (make_family_agent(preset, compile=flag) for flag in (False, True))
    for agent in (plain, compiled):
        update = make_update(agent, torch.Generator().manual_seed(0))
        for _ in range(2):
            update(batch)
    for (key, ours), theirs in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3, msg=key)
