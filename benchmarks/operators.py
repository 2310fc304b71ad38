"""How many operators an update has: on a GPU the launch of each costs time, however small the networks are.

    python benchmarks/operators.py --reference PATH --csv benchmarks/results/operators.csv

Counted on a CPU, where nothing is timed. The sizes of networks and batches do not matter to the counts.
"""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch._inductor.config
from common import run, say, write
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile
from work import ReferenceWork, Setup

from sacae import config as configs
from sacae.agents import HEADS, Agent, make_agent, make_update
from sacae.agents.self_test import random_batch
from sacae.errors import UserError
from sacae.types import EnvSpec

SMALL = {"batch_size": 2, "hidden_dim": 8, "precision": "fp32"}
STATE_DIM, ACTION_DIM, NUM_ACTIONS = 17, 6, 3

CASES: Mapping[str, dict[str, Any]] = {
    **{f"{head}, pixels": {"agent": head} for head in HEADS},
    **{f"{head}, state": {"agent": head, "obs": "state"} for head in HEADS},
    **{f"preset {name}": {"preset": name} for name in ("drq", "drqv2", "rad", "curl")},
    "sac, no decoder": {"decoder": "none"},
    "sac, vae": {"decoder": "vae"},
    "sac, dynamics": {"dynamics": True},
    "sac, clipped": {"max_grad_norm": 1.0},
    "sac, bf16": {"precision": "bf16"},
}
"""Settings beside the defaults."""

_COMPOSITE = torch._C._dispatch_get_registrations_for_dispatch_key("CompositeImplicitAutograd")
OF_OTHERS = frozenset(name.partition(".")[0] for name in _COMPOSITE)
"""Operators that only call others."""

# fmt: off
WITHOUT_KERNEL = frozenset({
    "alias", "as_strided", "as_strided_", "detach", "detach_", "diagonal", "empty", "empty_like",
    "empty_strided", "expand", "lift_fresh", "new_empty", "new_empty_strided", "permute", "resize_", "select",
    "set_", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze",
    "view", "_reshape_alias", "_unsafe_view", "_local_scalar_dense",
})
# fmt: on
"""Operators that look at memory in another way, or reserve it."""


@dataclass(frozen=True)
class Options:
    """Operators and launches of one update of each head and preset."""

    cases: tuple[str, ...] = ()
    """Names of rows; all by default."""
    compiled: tuple[str, ...] = ()
    """Names of rows that are counted compiled too, which takes minutes each."""
    reference: Path | None = None
    """A checkout of pytorch_sac_ae, whose update is counted too."""
    most: int = 0
    """Print so many of the most frequent operators of each row."""
    csv: Path | None = None
    """File for the rows."""


class Counts(Counter[str]):
    """What runs, by name; a row of the table."""

    @property
    def row(self) -> dict[str, float]:
        """Averages of the two kinds of update."""
        operators = sum(n for name, n in self.items() if name.startswith("operator "))
        launches = sum(n for name, n in self.items() if name.startswith("launch "))
        return {"operators": operators / 2, "launches": launches / 2}


def main(options: Options) -> list[dict[str, Any]]:
    """Counts, prints the table and writes it. Returns the rows."""
    names = options.cases or tuple(CASES)
    for field, given in (("cases", names), ("compiled", options.compiled)):
        for name in given:
            if name not in CASES:
                raise UserError(f"{field} has {name}, but there are {'; '.join(CASES)}; change --{field}")
    torch._inductor.config.cpp.enable_kernel_profile = True  # shows the kernels of torch.compile
    rows = [_row(name, "eager", counted(update_of(CASES[name])), options.most) for name in names]
    rows += [_row(name, "compiled", counted(update_of(CASES[name], True)), options.most) for name in options.compiled]
    if options.reference:
        rows.append(_row("sac, pixels", "reference", counted_reference(options.reference), options.most))
    text = _csv(rows)
    print(text, end="")
    write(options.csv, text.rstrip("\n"))
    return rows


def _row(name: str, update: str, counts: Counts, most: int) -> dict[str, Any]:
    for operator, number in counts.most_common(most):
        say(f"{name}: {operator} {number / 2:g}")
    return {"case": name, "update": update, **counts.row}


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{x:g}" if isinstance(x, float) else x for name, x in row.items()} for row in rows)
    return file.getvalue()


def update_of(settings: Mapping[str, Any], compiled: bool = False) -> Callable[[], object]:
    """A function that makes one update, of a batch that is there already."""
    agent = agent_of(settings, compiled)
    update, batch = make_update(agent, torch.Generator().manual_seed(0)), random_batch(agent, 0)
    return lambda: update(batch)


def agent_of(settings: Mapping[str, Any], compiled: bool) -> Agent:
    """An agent of cheetah's sizes but with small layers."""
    config = configs.make(**{**SMALL, **settings, "compile": compiled})
    size = config.task.image_size
    spec = EnvSpec(
        (3, size, size) if config.task.from_pixels else (STATE_DIM,),
        "uint8" if config.task.from_pixels else "float32",
        config.task.frame_stack,
        ACTION_DIM,
        NUM_ACTIONS if HEADS[config.agent.agent].settings.DISCRETE_ACTIONS else None,
    )
    return make_agent(spec, config)


def counted_reference(path: Path) -> Counts:
    """The reference's update without its sampling, which ours does apart.

    Its optimisers take all tensors at once, as PyTorch has them do on a GPU unless told otherwise.
    """
    work = ReferenceWork(path, Setup("sac", "rae", 4, "fp32", "eager", "cpu", 2, 8, replay_size=16))
    for optimizer in vars(work.agent).values():
        if isinstance(optimizer, torch.optim.Optimizer):
            optimizer.param_groups[0]["foreach"] = True
    counts = counted(work.step)
    counts.subtract(counted(work.sample))
    return counts


def counted(update: Callable[[], object]) -> Counts:
    """What two updates in a row run, one with and one without the parts that are due every second time."""
    for _ in range(4):
        update()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        update()
        update()
    counts = Counts()
    for event in profiled.events() or ():
        if _is_operator(event) and not any(map(_is_operator, _above(event))):
            counts[f"operator {event.name}"] += 1
            counts.update(_launches(event))
    return counts


def _is_operator(event: FunctionEvent) -> bool:
    """Whether it is an operator or, with torch.compile, a kernel of several fused ones."""
    return ("::" in event.name and not event.name.startswith("autograd::")) or "cpp_fused" in event.name


def _above(event: FunctionEvent) -> Iterable[FunctionEvent]:
    while (event := event.cpu_parent) is not None:
        yield event


def _launches(event: FunctionEvent) -> Counter[str]:
    """The operators that compute or copy something, without those by which a CPU implements them."""
    name = "fused" if "cpp_fused" in event.name else event.name.rpartition("::")[2]
    if event.name not in OF_OTHERS:
        return Counter() if name in WITHOUT_KERNEL else Counter([f"launch {name}"])
    launches: Counter[str] = Counter()
    for child in event.cpu_children:
        launches += _launches(child)
    return launches


if __name__ == "__main__":
    run(Options, main)
