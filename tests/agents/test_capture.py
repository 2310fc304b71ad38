"""Captured updates, and the test that compares them with eager ones, with a stand-in for CUDA graphs."""

import contextlib
import copy
import itertools
from types import SimpleNamespace

import pytest
import torch

from sacae.agents.capture import WARM_UP_UPDATES, CudaGraphs, make_update
from sacae.agents.self_test import disagreement
from tests.agents.cases import CASES, make
from tests.agents.conftest import batch_for, noise_for
from tests.agents.replayed import captured, same, state_of

SOME = [{"agent": "sac"}, {"agent": "dqn"}, {"preset": "drqv2"}, {"agent": "td3", "obs": "state"}, {"dynamics": True}]


@pytest.fixture(params=SOME, ids=str)
def two_agents(request):
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        made.append(make(request.param))
    return made


def test_captured_updates_learn_what_eager_ones_do_to_the_last_bit(two_agents):
    eager, other = two_agents
    update, graphs = captured(other, torch.Generator().manual_seed(3)), {}
    plain = make_update(eager, torch.Generator().manual_seed(3))
    for seed in range(6):
        batch = batch_for(eager, seed)
        expected = plain(batch)
        assert same(update(batch), expected)
        graphs[tuple(expected)] = True
    assert same(state_of(eager), state_of(other))
    assert update._graphs.recorded == len(graphs)


def test_noise_that_is_passed_in_is_copied_in(two_agents):
    eager, other = two_agents
    update = captured(other)
    for seed in range(4):
        batch, noise = batch_for(eager, seed), noise_for(eager, seed)
        assert same(update(batch, noise), eager.update(batch, noise))


def test_each_graphs_policy_gradients_are_there_after_it_ran():
    agents = [make({"agent": "sac"}), make({"agent": "sac"})]
    agents[1].load_state_dict(agents[0].state_dict())
    for agent in agents:
        agent.policy_gradients = {}
    plain, update = (f(a, torch.Generator().manual_seed(0)) for f, a in zip((make_update, captured), agents))
    for step in (0, 1, 2, 3):
        plain(batch_for(agents[0], step))
        update(batch_for(agents[0], step))
        ours, theirs = ([*agent.policy_gradients.values()] for agent in agents)
        assert same(ours, theirs)
        assert bool(ours) is bool(step % 2)


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_the_self_test_trusts_captured_updates_and_leaves_the_agent_as_it_was(settings):
    agent = make(settings)
    before = state_of(agent)
    assert disagreement(agent, captured) == ""
    assert same(state_of(agent), before)
    assert agent.policy_gradients is None


def test_graphs_are_recorded_anew_for_a_state_that_was_loaded(two_agents):
    eager, other = two_agents
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    plain, update = make_update(eager, generators[0]), captured(other, generators[1])
    state = copy.deepcopy(eager.learning_state())
    for seed in range(4):
        plain(batch_for(eager, seed)), update(batch_for(other, seed))
    graphs = update._graphs.recorded
    for agent in (eager, other):
        agent.load_learning_state(copy.deepcopy(state))
    for seed in range(4):
        assert same(update(batch_for(other, seed)), plain(batch_for(eager, seed)))
    assert same(state_of(eager), state_of(other))
    assert update._graphs.recorded == 2 * graphs


def with_the_first_batch(agent, generator):
    first, update = batch_for(agent), make_update(agent, generator)
    return lambda batch: update(first)


def with_the_same_noise(agent, generator):
    state = generator.get_state()

    def update(batch):
        generator.set_state(state)
        return agent.update(batch, agent.draw_noise(generator))

    return update


def that_learns_nothing(agent, generator):
    before, update = {t: t.clone() for t in agent.parameters()}, make_update(agent, generator)

    def undone(batch):
        metrics = update(batch)
        with torch.no_grad():
            for tensor, value in before.items():
                tensor.copy_(value)
        return metrics

    return undone


def that_misses_one_part(part):
    def made(agent, generator):
        return lambda batch: agent.run_update(
            batch, agent.draw_noise(generator), agent.next_gates()._replace(**{part: False})
        )

    return made


def that_makes_numbers_not_finite(agent, generator):
    update = make_update(agent, generator)

    def spoilt(batch):
        metrics = update(batch)
        next(agent.parameters()).data.fill_(torch.nan)
        return metrics

    return spoilt


def with_metrics_of_the_first_update(agent, generator):
    kept, update = {}, make_update(agent, generator)

    def stale(batch):
        metrics = update(batch)
        return {name: kept.setdefault(name, value) for name, value in metrics.items()}

    return stale


def that_fails(agent, generator):
    raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nsecond line")


def that_fails_twice(agent, generator):
    try:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
    finally:  # as torch.cuda.graph does
        raise RuntimeError("CUDA error: operation failed due to a previous error during capture")


def that_does_not_fit(agent, generator):
    raise torch.OutOfMemoryError("CUDA out of memory")


WRONG = {
    with_the_first_batch: "differs from an uncaptured",
    with_the_same_noise: "random numbers of uncaptured updates",
    that_learns_nothing: "of critic differs",
    that_misses_one_part("policy"): "gradient of actor is missing",
    that_misses_one_part("targets"): "step of targets differs",
    that_misses_one_part("auxiliary"): "gradient of encoder is missing",
    that_makes_numbers_not_finite: "differs from an uncaptured update's by nan",
    with_metrics_of_the_first_update: "the metric ",
    that_fails: "the test of it failed (CUDA error: operation not permitted when stream is capturing)",
    that_fails_twice: "the test of it failed (CUDA error: operation not permitted when stream is capturing)",
    that_does_not_fit: "the test of it failed (CUDA out of memory)",
}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda made: made.__qualname__)
def test_the_self_test_finds_captured_updates_that_do_something_else(wrong):
    torch.manual_seed(0)
    agent = make({"agent": "sac"})
    before = state_of(agent)
    assert WRONG[wrong] in disagreement(agent, wrong)
    assert same(state_of(agent), before)


class FakeCuda:
    """Records which stream is the current one, of which device, when PyTorch would record a graph."""

    def __init__(self, monkeypatch):
        self.current, self.recorded_on, self.waits = "the default stream", [], []
        for name in ("stream", "graph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        self.pools, handles = [], itertools.count(1)
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, next(handles)))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(wait_stream=self.waits.append))
        monkeypatch.setattr(torch.cuda, "Stream", self.made)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: None))

    def made(self, device):
        return SimpleNamespace(device=device, wait_stream=self.waits.append)

    @contextlib.contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextlib.contextmanager
    def graph(self, graph, pool, stream):
        self.current = stream
        self.recorded_on.append(stream.device)
        self.pools.append(pool)
        yield  # after an error PyTorch leaves the stream as it is
        self.current = "whatever was current"


def test_a_graph_is_recorded_on_a_stream_of_the_agents_gpu(monkeypatch):
    cuda = FakeCuda(monkeypatch)
    graphs, streams = CudaGraphs(torch.device("cuda:1")), []
    graphs.warm_up(lambda: streams.append(cuda.current))
    graphs.record(lambda: streams.append(cuda.current), None)
    assert len(streams) == WARM_UP_UPDATES + 1
    assert all(stream is streams[0] for stream in streams)
    assert cuda.recorded_on == [torch.device("cuda:1")]
    assert len(cuda.waits) == 2


def test_graphs_share_a_pool_until_they_begin_anew(monkeypatch):
    cuda = FakeCuda(monkeypatch)
    graphs = CudaGraphs(torch.device("cuda:0"))
    for _ in range(2):
        graphs.record(dict, None)
    graphs.begin_anew()
    graphs.record(dict, None)
    assert cuda.pools[0] == cuda.pools[1] != cuda.pools[2]


def test_after_a_recording_that_failed_the_current_stream_is_the_one_from_before(monkeypatch):
    cuda = FakeCuda(monkeypatch)
    with pytest.raises(RuntimeError, match="not permitted"):
        CudaGraphs(torch.device("cuda:0")).record(lambda: that_fails(None, None), None)
    assert cuda.current == "the default stream"
