"""Arguments that users give to environments: which ones there are, and the errors for those that are wrong."""

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from numbers import Integral
from typing import Any

from sacae.errors import UserError, did_you_mean, flag_of

_UNKNOWN = re.compile(r"unexpected keyword argument '(\w+)'")
"""Python's message about an argument that a function does not take; Gymnasium passes it on."""

CHANGE = {"env_kwargs": flag_of("env_kwargs"), "task_kwargs": flag_of("task_kwargs"), "environment_kwargs": "them"}
"""What to change of arguments, by the name under which they are given."""


def check_whole(**values: Any) -> None:
    """Raises UserError for the first value that is no whole number of at least 1."""
    for name, value in values.items():
        if not (isinstance(value, Integral) and int(value) >= 1):
            raise UserError(f"{name} is {value!r}, but it must be a whole number, at least 1; change it")


def named_arguments(setting: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The given arguments; none for None. setting: as in CHANGE. Raises UserError for what is no arguments by name."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise UserError(
            f"{setting} is {given!r}, but it must be a dictionary of arguments by name, such as {{'name': 1.5}}; "
            f"change {CHANGE[setting]}"
        )
    return dict(given)


def unknown_argument(
    setting: str, given: Collection[str], error: Exception, taker: str, creates: Callable[..., Any]
) -> UserError | None:
    """The error of one line for an argument that a function does not take; None if `error` is about something else.

    setting, taker: as in `not_taken`. given: the names that the user gave.
    """
    found = _UNKNOWN.search(str(error))
    if not found or found[1] not in given:
        return None
    return not_taken(setting, found[1], taker, argument_names(creates))


def not_taken(setting: str, name: str, taker: str, names: Collection[str]) -> UserError:
    """The error for an argument that is not one of the names. setting: as in CHANGE. taker: environment or task."""
    advice = did_you_mean(name, names) or (f"; it takes {', '.join(sorted(names))}" if names else "")
    return UserError(f"{setting} has {name}, but {taker} takes no such argument{advice}; change {CHANGE[setting]}")


def argument_names(creates: Callable[..., Any]) -> set[str]:
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
