"""Compiled, captured and low-precision updates compute what the plain update computes."""

import copy
import functools
import math
import shutil

import pytest
import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from sacae import config as configs
from sacae.agents import make_agent
from sacae.agents.capture import CapturedUpdate, make_update
from sacae.experiments.ablations import FAMILY
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


def failures_on_gpu(recording, agent, update):
    """As `failures`, but with the temperature's loss beside the larger of its two terms, which nearly cancel.

    Its error beside the small difference is several times that of the policy's entropy, which is within its own bound.
    """
    found = []
    for name, error, bound in failures(recording, agent, update):
        if golden.LOGGED.get(name.partition(".log.")[2]) == "alpha_loss":
            loss = recording[name].item()
            target = agent.head.log_alpha.exp().item() * agent.head.target_entropy
            error *= abs(loss) / max(abs(target), abs(loss + target))
        found += [(name, error, bound)] if error > bound else []
    return found


@pytest.fixture
def allow_tf32():
    """Chooses whether float32 arithmetic may use TF32; monkeypatch cannot put PyTorch's switches back."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32

    def choose(allow):
        products.allow_tf32 = convolutions.allow_tf32 = allow

    yield choose
    products.allow_tf32, convolutions.allow_tf32 = before


def on_gpu(batch):
    """The batch, of which a field that is not there stays None."""
    return Batch._make(None if tensor is None else tensor.cuda() for tensor in batch)


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
@pytest.mark.parametrize("name", [DATA.stem, *FAMILY])
def test_the_captured_update_matches_the_authors(name, compiled, allow_tf32):
    allow_tf32(False)
    recording = golden.Recording(DATA.with_stem(name))
    agent = golden.initial_agent(recording, "cuda", compile=compiled)
    assert not failures_on_gpu(recording, agent, CapturedUpdate(agent, None))


def test_the_bound_for_gpus_allows_an_error_of_the_temperatures_loss_only_beside_its_terms():
    recording = golden.Recording(DATA.with_stem("rad"))

    def names_of_failures(find, factor):
        agent = golden.initial_agent(recording)

        def update(batch, noise):
            metrics = agent.update(batch, noise)
            return {name: value * (factor if name == "alpha_loss" else 1) for name, value in metrics.items()}

        return {name.rpartition("/")[0].rpartition(".")[2] for name, *_ in find(recording, agent, update)}

    assert names_of_failures(failures, 1.00012) == {"train_alpha"}
    assert not names_of_failures(failures_on_gpu, 1.00012)
    assert names_of_failures(failures_on_gpu, 1.01) == {"train_alpha"}


@needs_gpu
def test_captured_updates_draw_new_noise_and_learn_like_eager_ones(make_small_agent, batch, allow_tf32):
    allow_tf32(False)
    settings = configs.make(num_layers=2, num_filters=4, feature_dim=8, hidden_dim=16, batch_size=5)
    results = []
    for capture in (True, False):
        torch.manual_seed(0)
        agent = make_agent(make_small_agent().spec, settings.replace(capture=capture), "cuda")
        update = make_update(agent, torch.Generator("cuda").manual_seed(5))
        results.append([{k: v.item() for k, v in update(on_gpu(batch)).items()} for _ in range(8)])
    for captured, eager in zip(*results, strict=True):
        assert captured == pytest.approx(eager, rel=1e-3, abs=1e-4)
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
    features = agent.encoder.features(agent.encoder.prepare(batch.obs))
    action, log_prob, log_std = agent.head.actor.sample(features, torch.randn(5, 2))
    assert features.dtype == torch.bfloat16  # the convolutions did compute in bf16
    assert {action.dtype, log_prob.dtype, log_std.dtype} == {torch.float32}


class Operators(TorchDispatchMode):
    """Every operator that runs, with the dtypes of what it takes and gives, and the sizes of what it takes."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        tensors = [x for x in tree_flatten((args, kwargs))[0] if torch.is_tensor(x)]
        given = [x for x in tree_flatten(result)[0] if torch.is_tensor(x)]
        sizes = {size for x in tensors for size in x.shape}
        self.seen.append((operator.__name__.split(".")[0], {x.dtype for x in [*tensors, *given]}, sizes))
        return result


def operators_of_compiled_losses(agent, batch, monkeypatch):
    """The operators of the graphs that torch.compile makes of the agent's losses and their gradients."""
    seen = []

    def note(graph, _inputs):
        for node in graph.graph.nodes:
            if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
                continue
            taken = [n.meta["val"] for n in node.all_input_nodes]
            given = tree_flatten(node.meta["val"])[0]
            tensors = [x for x in (*taken, *given) if torch.is_tensor(x)]
            sizes = {size for x in taken if torch.is_tensor(x) for size in x.shape}
            seen.append((node.target.__name__.split(".")[0], {x.dtype for x in tensors}, sizes))
        return make_boxed_func(graph.forward)

    backend = aot_autograd(fw_compiler=note, bw_compiler=note)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    agent(compile=True, actor_update_freq=1).update(batch, noise_of(agent))
    return seen


def noise_of(make_agent):
    return make_agent().draw_noise(torch.Generator().manual_seed(0))


BEHIND_THE_PRODUCT = ("native_layer_norm", "native_layer_norm_backward", "tanh", "tanh_backward", "exp", "log")
"""Operators of LayerNorm, of the policy and of losses: where one meets bfloat16, something behind the product does."""

PRODUCTS = ("addmm", "mm", "bmm", "baddbmm")


IN_BF16 = [{"decoder": "rae"}, {"decoder": "vae"}, {"dynamics": True, "dynamics_contrastive": 0.1}]
IN_BF16 += [{"preset": preset, "image_size": 48} for preset in FAMILY]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("settings", IN_BF16, ids=str)
def test_in_a_bf16_update_everything_behind_the_projections_product_is_float32(
    compiled, settings, bf16_agent, batch, monkeypatch
):
    make = functools.partial(bf16_agent, **settings)
    if compiled:
        seen = operators_of_compiled_losses(make, batch, monkeypatch)
    else:
        with Operators() as operators:
            make(actor_update_freq=1).update(batch, noise_of(make))
        seen = operators.seen
    names = {name for name, _, _ in seen}
    assert {"native_layer_norm", "native_layer_norm_backward", "baddbmm", "convolution", "tanh_backward"} <= names
    flat_dim = math.prod(make().encoder.conv_shape)
    for name, dtypes, sizes in seen:
        low = torch.bfloat16 in dtypes
        if name in BEHIND_THE_PRODUCT:
            assert not low, name
        elif name in PRODUCTS:  # in bfloat16: the projection's, the decoder's first layer's, and no other
            assert low == (flat_dim in sizes), (name, sizes)
        elif name in ("convolution", "convolution_backward"):
            assert torch.float32 not in dtypes, name


def test_in_a_bf16_update_a_critic_near_300_resolves_a_hundredth(bf16_agent, batch):
    agent = bf16_agent()
    with torch.no_grad():
        agent.head.critic.q.biases[-1].fill_(300.0)
    exact = copy.deepcopy(agent.head.critic.q).double()
    values = []
    agent.head.critic.q.register_forward_hook(lambda _, taken, given: values.append((taken[0], given)))
    agent.update(batch, agent.draw_noise(torch.Generator().manual_seed(0)))
    taken, given = values[0]
    assert given.mean() > 250
    assert (given - exact(taken.double())).abs().max() < 1e-3


@needs_gpu
def test_tf32_losses_stay_close_to_float32_over_200_updates(make_small_agent, batch, allow_tf32):
    histories = []
    for allow in (False, True):
        allow_tf32(allow)
        torch.manual_seed(0)
        small = make_small_agent()
        agent = make_agent(small.spec, small.config, "cuda")
        agent.load_state_dict(small.state_dict())
        update = make_update(agent, torch.Generator("cuda").manual_seed(1))
        histories.append(mean_of_last_losses(update, on_gpu(batch)))
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
