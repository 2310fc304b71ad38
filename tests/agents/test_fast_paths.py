"""Compiled, captured and low-precision updates compute what the plain update computes."""

import shutil

import pytest
import torch

from sacae import config as configs
from sacae.agents import make_agent
from sacae.agents.capture import CapturedUpdate, make_update
from sacae.types import Batch
from tests import golden
from tests.agents.test_golden import DATA

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler, g++")

BF16_FORWARD = 3e-2
"""Bound of the relative error of forward outputs in bf16, whose mantissa has 8 bits."""

BF16_LOSSES = 0.1
"""Bound of the relative difference between mean losses in bf16 and in float32 over the last of 200 updates."""


TF32_LOSSES = 0.05
"""The same bound for TF32, whose mantissa has 10 bits."""

CLOSE_LOSSES = ("reconstruction_loss", "actor_loss", "alpha_loss", "entropy", "q")


def mean_of_last_losses(update, batch):
    """Means over the updates from the 151st to the 200th in which the policy learns too."""
    rows = [update(batch) for _ in range(200)]
    tail = [rows[i] for i in range(151, 200, 2)]
    return {name: torch.stack([row[name] for row in tail]).mean().item() for name in tail[0]}


def failures(recording, agent, update=None):
    return [row for row in golden.compare(recording, agent, update) if not row[1] <= row[2]]


@pytest.fixture(scope="module")
def recording():
    return golden.Recording(DATA)


@needs_compiler
@pytest.mark.slow
def test_the_compiled_update_matches_the_reference(recording, monkeypatch):
    config = recording.config().replace(compile=True)
    monkeypatch.setattr(recording, "config", lambda: config)
    assert not failures(recording, golden.initial_agent(recording))


@needs_gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_the_captured_update_matches_the_reference(compiled, recording, monkeypatch):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    config = recording.config().replace(compile=compiled)
    monkeypatch.setattr(recording, "config", lambda: config)
    agent = golden.initial_agent(recording, "cuda")
    assert not failures(recording, agent, CapturedUpdate(agent, None))


@needs_gpu
def test_captured_updates_draw_new_noise_and_learn_like_eager_ones(make_small_agent, batch):
    settings = configs.make(num_layers=2, num_filters=4, feature_dim=8, hidden_dim=16, batch_size=5)
    results = []
    for capture in (True, False):
        torch.manual_seed(0)
        agent = make_agent(make_small_agent().spec, settings.replace(capture=capture), "cuda")
        update = make_update(agent, torch.Generator("cuda").manual_seed(5))
        on_gpu = Batch(*(tensor.cuda() for tensor in batch))
        results.append([{k: v.item() for k, v in update(on_gpu).items()} for _ in range(8)])
    assert results[0] == pytest.approx(results[1], rel=1e-3)
    assert len({row["critic_loss"] for row in results[0]}) == 8


def test_on_a_cpu_updates_are_made_directly(make_small_agent, batch):
    agent = make_small_agent()
    metrics = make_update(agent, torch.Generator().manual_seed(0))(batch)
    assert agent.updates_done == 1
    assert "critic_loss" in metrics


def test_gates_occur_in_two_combinations_by_default(make_small_agent):
    agent = make_small_agent()
    assert len({agent.next_gates() for _ in range(12)}) == 2


@pytest.fixture
def bf16_agent(make_small_agent):
    return lambda **settings: make_small_agent(precision="bf16", **settings)


def test_bf16_keeps_parameters_moments_losses_and_log_probabilities_in_float32(bf16_agent, batch):
    agent = bf16_agent(actor_update_freq=1)
    metrics = agent.update(batch, agent.draw_noise(torch.Generator().manual_seed(0)))
    assert {p.dtype for p in agent.parameters()} == {torch.float32}
    states = [s for o in agent.optimizers.values() for state in o.state.values() for s in state.values()]
    assert {s.dtype for s in states} == {torch.float32}
    assert {value.dtype for value in metrics.values()} == {torch.float32}
    with agent._autocast():
        features = agent.encoder.features(agent.encoder.prepare(batch.obs))
        action, log_prob, log_std = agent.head.actor.sample(features, torch.randn(5, 2))
    assert features.dtype == torch.bfloat16  # the convolutions did compute in bf16
    assert {action.dtype, log_prob.dtype, log_std.dtype} == {torch.float32}


@needs_gpu
def test_tf32_losses_stay_close_to_float32_over_200_updates(make_small_agent, batch, monkeypatch):
    on_gpu = Batch(*(tensor.cuda() for tensor in batch))
    histories = []
    for allow in (False, True):
        monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", allow)
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allow)
        torch.manual_seed(0)
        small = make_small_agent()
        agent = make_agent(small.spec, small.config, "cuda")
        agent.load_state_dict(small.state_dict())
        update = make_update(agent, torch.Generator("cuda").manual_seed(1))
        histories.append(mean_of_last_losses(update, on_gpu))
    for name in CLOSE_LOSSES:
        assert histories[1][name] == pytest.approx(histories[0][name], rel=TF32_LOSSES), name


def test_bf16_forward_outputs_are_close_to_float32(make_small_agent, bf16_agent, batch):
    plain, low = make_small_agent(), bf16_agent()
    low.load_state_dict(plain.state_dict())
    noise = torch.randn(5, 2)
    assert golden.relative_error(low.act(batch.obs), plain.act(batch.obs)) < BF16_FORWARD
    assert golden.relative_error(low.act(batch.obs, noise), plain.act(batch.obs, noise)) < BF16_FORWARD


def test_bf16_losses_stay_close_to_float32_over_200_updates(make_small_agent, bf16_agent, batch):
    agents = make_small_agent(), bf16_agent()
    updates = (make_update(agent, torch.Generator().manual_seed(1)) for agent in agents)
    plain, low = (mean_of_last_losses(update, batch) for update in updates)
    for name in CLOSE_LOSSES:
        assert low[name] == pytest.approx(plain[name], rel=BF16_LOSSES), name
