"""Arguments that users give to environments: which ones there are, and the error for one that is unknown."""

import inspect
import re
from collections.abc import Callable, Collection
from typing import Any

from sacae.errors import UserError, did_you_mean, flag_of

_UNKNOWN = re.compile(r"unexpected keyword argument '(\w+)'")
"""Python's message about an argument that a function does not take; Gymnasium passes it on."""


def unknown_argument(
    setting: str, given: Collection[str], error: Exception, taker: str, creates: Callable[..., Any]
) -> UserError | None:
    """The error of one line for an argument that a function does not take; None if `error` is about something else.

    setting: "env_kwargs" or "task_kwargs". given: the names that the user gave. taker: the environment or the task.
    """
    found = _UNKNOWN.search(str(error))
    if not found or found[1] not in given:
        return None
    names = sorted(_argument_names(creates))
    advice = did_you_mean(found[1], names) or (f"; it takes {', '.join(names)}" if names else "")
    return UserError(f"{setting} has {found[1]}, but {taker} takes no such argument{advice}; change {flag_of(setting)}")


def _argument_names(creates: Callable[..., Any]) -> set[str]:
    """The arguments of a function, or of a class and those that it passes on to its bases."""
    names: set[str] = set()
    kinds = inspect.getmro(creates) if inspect.isclass(creates) else ()
    for function in [vars(kind)["__init__"] for kind in kinds if "__init__" in vars(kind)] or [creates]:
        parameters = inspect.signature(function).parameters.values()
        names |= {one.name for one in parameters if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)}
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            break
    return names - OF_THE_PACKAGE


OF_THE_PACKAGE = {"self", "render_mode", "random", "environment_kwargs"}
"""Arguments of environments and tasks that are none of the user's."""
