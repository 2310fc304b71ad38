"""Whether captured updates can be trusted on this machine: a few of them, compared with eager ones."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch

from sacae.agents.agent import Agent
from sacae.agents.capture import CapturedUpdate, make_update
from sacae.types import Batch, Metrics

UPDATES = 3

TOLERANCE = 0.5
"""Largest difference relative to what eager updates give. A part that is missing, or learns from another batch, differs
by about 1; other rounding, in gradients that nearly cancel in bf16, by up to a few tenths."""

OF_ROUNDING = 3.0
"""The same relative to the difference between eager updates and the same again: a GPU adds in any order."""

Make = Callable[[Agent, torch.Generator], Callable[..., Metrics]]
"""Makes a function that updates an agent with a batch, drawing from a generator on the agent's device."""


class Learned(NamedTuple):
    """What some updates did.

    numbers: vectors: the mean gradients that each optimiser remembers, how far its parameters and all other numbers
        moved, and each metric, (UPDATES,). random_state: of the generator afterwards, which says what was drawn.
    """

    numbers: dict[str, torch.Tensor]
    random_state: torch.Tensor


def disagreement(agent: Agent, captured: Make = CapturedUpdate) -> str:
    """Why captured updates of a new agent cannot be trusted, in words; "" where they do what eager ones do.

    Both learn from the same random batches, with the same noise. Afterwards the agent is as before, and so is PyTorch's
    random state. captured: makes what is tested.
    """
    before = copy.deepcopy(agent.learning_state())
    on_gpu = agent.device.type == "cuda"
    with torch.random.fork_rng(devices=[agent.device] if on_gpu else []):
        try:
            eager, again, tested = (_learned(agent, before, make) for make in (_make_eager, _make_eager, captured))
            return _difference(eager, again, tested)
        except RuntimeError as error:
            return f"the test of it failed ({_first_line(_cause(error))})"
        finally:
            agent.load_learning_state(before)
            if on_gpu:
                torch.cuda.empty_cache()


def _make_eager(agent: Agent, generator: torch.Generator) -> Callable[..., Metrics]:
    return make_update(agent, generator, capture=False)


def _learned(agent: Agent, before: dict[str, object], make: Make) -> Learned:
    """What an agent learns from that state on."""
    agent.load_learning_state(copy.deepcopy(before))
    start = {name: _vector(tensors) for name, tensors in _parts(agent).items()}
    generator = torch.Generator(agent.device).manual_seed(0)
    update = make(agent, generator)
    metrics: dict[str, list[torch.Tensor]] = {}
    for seed in range(UPDATES):
        for name, value in update(random_batch(agent, seed)).items():
            metrics.setdefault(name, []).append(value.detach().clone())
    # Only how far, not where to: Adam's first steps have one size, so that gradients near 0 step in either direction.
    moved = {f"step of {name}": (_vector(part) - start[name]).norm()[None] for name, part in _parts(agent).items()}
    gradients = {f"gradient of {name}": _vector(_means(optimizer)) for name, optimizer in agent.optimizers.items()}
    told = {f"metric {name}": torch.stack(values).double().cpu() for name, values in metrics.items()}
    return Learned(gradients | moved | told, generator.get_state())


def _means(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """Adam's moving averages of the gradients; of parameters that were not stepped there are none."""
    return [state["exp_avg"] for state in optimizer.state.values()]


def _parts(agent: Agent) -> dict[str, list[torch.Tensor]]:
    stepped = {name: optimizer.param_groups[0]["params"] for name, optimizer in agent.optimizers.items()}
    taken = {id(parameter) for parameters in stepped.values() for parameter in parameters}
    rest = [tensor for tensor in (*agent.parameters(), *agent.buffers()) if id(tensor) not in taken]
    targets = [tensor for tensor in rest if tensor.is_floating_point()]
    counters = [tensor for tensor in rest if not tensor.is_floating_point()]
    return {name: part for name, part in {**stepped, "targets": targets, "counters": counters}.items() if part}


def _vector(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([torch.zeros(0), *(tensor.detach().flatten().double().cpu() for tensor in tensors)])


def _difference(eager: Learned, again: Learned, tested: Learned) -> str:
    if not torch.equal(eager.random_state, tested.random_state):
        return "they do not draw the random numbers of uncaptured updates"
    for name, expected in eager.numbers.items():
        found, repeated = tested.numbers.get(name), again.numbers[name]
        if found is None or found.shape != expected.shape:
            return f"the {name} is missing"
        allowed = max(TOLERANCE * expected.norm().item(), OF_ROUNDING * (repeated - expected).norm().item())
        difference = (found - expected).norm().item()
        if not difference <= allowed:  # neither does one that is not a number
            return f"the {name} differs from an uncaptured update's by {difference:.3g}, more than {allowed:.3g}"
    return ""


def random_batch(agent: Agent, seed: int) -> Batch:
    """A random batch of what the agent sees and does, on its device."""
    spec, size = agent.spec, agent.config.replay.batch_size
    generator = torch.Generator().manual_seed(seed)

    def normal(width: int) -> torch.Tensor:
        return torch.randn(size, width, generator=generator)

    def observations() -> torch.Tensor:
        shape = size, *spec.obs_shape
        if spec.from_pixels:
            return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        return torch.randn(shape, generator=generator)

    state = normal(spec.state_dim) if spec.state_dim else None
    of_choices = spec.num_actions is not None
    batch = Batch(
        obs=observations(),
        action=torch.randint(spec.num_actions or 1, (size, spec.action_dim), generator=generator)
        if of_choices
        else normal(spec.action_dim).clamp(-1, 1),
        reward=normal(1),
        discount=torch.full((size, 1), agent.config.agent.discount),
        next_obs=observations(),
        state=state,
        next_state=normal(spec.state_dim) if spec.sees_state else None,
    )
    return Batch._make(None if tensor is None else tensor.to(agent.device) for tensor in batch)


def _cause(error: BaseException) -> BaseException:
    """The error that came first: where a graph's recording fails, a second one says no more than that it did."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    return error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
