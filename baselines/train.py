"""Trains from state: python -m baselines.train --algo NAME --env ID, or --domain D --task T; --help lists flags."""

import functools
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from baselines.algorithms import ALGORITHMS, SETTINGS
from baselines.settings import make
from sacae import cli, invocation
from sacae.agents import HEADS
from sacae.commands.train import train as train_agent
from sacae.commands.train import train_with
from sacae.errors import UserError, did_you_mean
from sacae.settings import Settings

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
    try:
        return _train(name, rest, f"{prog} --algo {name}")
    except UserError as error:
        error.args = (_with_own_advice(str(error)),)
        raise


def _train(name: str, argv: Sequence[str], prog: str) -> int:
    if name in SETTINGS:
        make_run = functools.partial(make, SETTINGS[name])
        defaults = make_run()
        fit = functools.partial(_with_what_applies, defaults)
        return train_with(make_run, defaults.declared(), lambda *said: ALGORITHMS[name].start(*said), argv, prog, fit)
    agent = ACE.get(name, ("--agent", name))
    if "--resume" in argv:  # whose folder has the other settings
        agent = agent[:2]
    return train_agent([*agent, "--obs", "state", *argv], prog)


def _with_what_applies(defaults: Settings, given: Mapping[str, Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """The given settings, and those of a run's that apply beside them."""
    together = dict(offered) | dict(given)
    idle = defaults.replace(**together).idle()
    return {name: value for name, value in together.items() if name in given or name not in idle}


def _with_own_advice(error: str) -> str:
    """An error whose advice this command takes: what it names otherwise or refuses, the rest of the package advises."""
    other = invocation.command("train")

    def by_algo(found: re.Match[str]) -> str:
        advises, agents = found.groups()
        names = [name for name in agents.split(" or ") if name in NAMES]
        return f"{advises} " + (f"--algo {' or '.join(names)}" if names else f"{other} --agent {agents}")

    error = re.sub(r"\b(use|give|choose) --agent (\w+(?: or \w+)*)", by_algo, error)
    return re.sub(r"\b(use|give) --obs (?=pixels|state)", rf"\1 {other} --obs ", error)


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
