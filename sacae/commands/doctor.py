"""`sacae doctor`: what works on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass

from sacae.commands.parsing import parse


@dataclass(frozen=True)
class Doctor:
    """Show what works here: rendering, devices, memory, versions; and what to install where something does not."""


def doctor(argv: Sequence[str], prog: str) -> int:
    """Prints what works here; returns 0 if rendering does, else 1."""
    parse(Doctor, argv, prog)

    from sacae.doctor import doctor as examine

    return examine()
