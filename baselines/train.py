"""Trains from state: python -m baselines.train --algo NAME --env ID, or --domain D --task T; --help lists flags."""

import functools
import sys
from collections.abc import Sequence

from baselines.algorithms import ALGORITHMS, SETTINGS
from baselines.settings import make
from sacae import cli
from sacae.agents import HEADS
from sacae.commands.train import train as train_agent
from sacae.commands.train import train_with
from sacae.errors import UserError, did_you_mean

PROG = "python -m baselines.train"
ACE = {"ace": ("--agent", "sac", "--causal-entropy", "absolute", "--soft-reset", "reset")}
"""A name for settings of an agent, as flags. The other flags follow them and therefore override them."""
FROM_PIXELS = frozenset({"drqv2"})
"""Heads that were made for images and have no page among the baselines."""
NAMES = [*(name for name in HEADS if name not in FROM_PIXELS), *ACE, *SETTINGS]
USAGE = f"""usage: {PROG} --algo NAME [--env ID | --domain DOMAIN --task TASK] [OPTIONS]

NAME is one of {", ".join(NAMES)}. {PROG} --algo NAME --help shows its options."""


def train(argv: Sequence[str], prog: str = PROG) -> int:
    """Runs a training; returns the exit status. Agents train as with `train.py --obs state`."""
    name, rest = _take_algo(argv)
    if name is None:
        print(USAGE)
        return 0
    prog = f"{prog} --algo {name}"
    if name in SETTINGS:
        make_run = functools.partial(make, SETTINGS[name])
        return train_with(make_run, make_run().declared(), lambda *given: ALGORITHMS[name].start(*given), rest, prog)
    agent = ACE.get(name, ("--agent", name))
    if "--resume" in rest:  # whose folder has the other settings
        agent = agent[:2]
    return train_agent([*agent, "--obs", "state", *rest], prog)


def _take_algo(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """The algorithm's name and the other words. None if the user only asks for help.

    Raises UserError for a missing or unknown name.
    """
    words = [word for given in argv for word in (given.split("=", 1) if given.startswith("--algo=") else [given])]
    if "--algo" not in words:
        if {"-h", "--help"} & {*words}:
            return None, []
        raise UserError(f"algo is missing, but it must be one of {', '.join(NAMES)}; give --algo NAME")
    at = words.index("--algo")
    name, rest = " ".join(words[at + 1 : at + 2]), words[:at] + words[at + 2 :]
    if name not in NAMES:
        raise UserError(f"algo is {name}, but it must be one of {', '.join(NAMES)}{did_you_mean(name, NAMES)}")
    for flag, because in (("--agent", "--algo names the algorithm"), ("--obs", "all algorithms learn from state")):
        if any(word.partition("=")[0] == flag for word in rest):
            raise UserError(f"{flag} is not allowed with {PROG}: {because}; leave it out")
    return name, rest


if __name__ == "__main__":
    sys.exit(cli.guarded(train, sys.argv[1:], PROG))
