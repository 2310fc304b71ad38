"""The one error that is shown to a user as a single line."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can put right: a mistyped setting, a missing library, too little memory.

    The message is one line that names the setting, its value, what is allowed and what to do. The command line
    prints it without a traceback and exits with status 2.
    """


def did_you_mean(word: object, known: Iterable[object]) -> str:
    """'; did you mean a, b?' with the closest known words, or '' when none is close."""
    close = difflib.get_close_matches(str(word), [str(k) for k in known], n=3, cutoff=0.5)
    return f"; did you mean {', '.join(close)}?" if close else ""


def flag_of(name: str) -> str:
    """The flag of a setting, such as --batch-size."""
    return "--" + name.replace("_", "-")
