"""Errors that are shown to a user as a single line."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can put right: a mistyped setting, a missing library, too little memory.

    The message is one line that names the setting, its value, what is allowed and what to do. The command line
    prints it without a traceback and exits with status 2.
    """


class EnvironmentFailed(UserError):
    """Environments failed in a way that ends a training. What was learned is in order and worth a checkpoint."""


def did_you_mean(word: object, known: Iterable[object]) -> str:
    """'; did you mean a, b?' with the closest known words in any case of letters, or '' when none is close."""
    by_lower: dict[str, str] = {}
    for one in known:
        by_lower.setdefault(str(one).lower(), str(one))
    close = [by_lower[name] for name in difflib.get_close_matches(str(word).lower(), by_lower, n=3, cutoff=0.5)]
    return f"; did you mean {', '.join(close)}?" if close else ""


def how_to_install(extra: str) -> str:
    """What installs an optional part (an extra of setup.cfg). The package is on no registry, so it takes a clone."""
    return f"in a clone of sacae, run: pip install -c constraints.txt -e '.[{extra}]'"


def flag_of(name: str) -> str:
    """The flag of a setting, such as --batch-size."""
    return "--" + name.replace("_", "-")
