"""Declares settings: each is a dataclass field that holds all information about it, and other modules read it there.

A field has a type, a default and a sentence under it, which is its help. `Annotated` adds the allowed values
(`AtLeast`, `Above`, `Within`, ...), the conditions under which the setting applies (`OnlyWhere`), and its roles, such
as CHANGEABLE_ON_RESUME:

    vae_beta: Annotated[float, AtLeast(0), OnlyWhere(decoder="vae")] = 1e-7

The fields form groups. A name occurs in only one group of a run, so the command line, sweeps and `replace` identify a
setting by its name.
"""

import ast
import dataclasses
import decimal
import functools
import inspect
import math
import textwrap
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Union, get_args, get_origin, get_type_hints

from sacae.files import as_path
from sacae.limits import LIMITS, Text
from sacae.text import shortened

# The marks that `Annotated` adds to a field's type.


class Bound(Protocol):
    """The allowed values of a setting. None is not checked: the type decides whether it is allowed."""

    @property
    def allowed(self) -> str:
        """The allowed values in words, such as "at least 1"."""

    def holds(self, value: Any) -> bool:
        """Whether the value is allowed."""


@dataclass(frozen=True)
class Within:
    """Numbers from low to high. above: low is excluded. below: high is excluded."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    @property
    def allowed(self) -> str:
        """See Bound."""
        if not (self.above or self.below or math.inf in (-self.low, self.high)):
            return f"from {self.low} to {self.high}"
        if self.high == math.inf and not self.above:
            return "0 or more" if self.low == 0 else f"at least {self.low}"
        lower = f"above {self.low}" if self.above else f"at least {self.low}"
        return lower if self.high == math.inf else f"{lower} and {'below' if self.below else 'at most'} {self.high}"

    def holds(self, value: float) -> bool:
        """See Bound. False for not-a-number."""
        above_low = value > self.low if self.above else value >= self.low
        return above_low and (value < self.high if self.below else value <= self.high)


def AtLeast(low: float) -> Within:
    """Numbers greater than or equal to `low`."""
    return Within(low)


def Above(low: float) -> Within:
    """Numbers greater than `low`."""
    return Within(low, above=True)


@dataclass(frozen=True)
class OneOf:
    """One of the names in a collection that can grow, such as a registry; the help lists the names."""

    names: Collection[str]

    @property
    def allowed(self) -> str:
        """See Bound."""
        return f"one of {', '.join(self.names)}"

    def holds(self, value: object) -> bool:
        """See Bound."""
        return value in self.names


@dataclass(frozen=True)
class Must:
    """A condition on the setting that depends on other settings. It is checked only if the setting applies.

    allowed: the allowed values in words. holds: whether the condition holds, given the values of all settings by name.
    of_new_runs: only new runs must fulfil it, because runs of older versions may not.
    """

    allowed: str
    holds: Callable[[Mapping[str, Any]], bool]
    of_new_runs: bool = False


class Role(Enum):
    """How the commands treat a setting."""

    CHANGEABLE_ON_RESUME = auto()
    """A resumed run may change it: length, observation of the run, files, device."""
    NOT_COMPARED = auto()
    """A continued experiment may change it: device, observation of the run, files."""
    NO_ARM = auto()
    """It does not distinguish arms in a report: task, seed, length, observation of the run, files, device."""


CHANGEABLE_ON_RESUME, NOT_COMPARED, NO_ARM = Role


@dataclass(frozen=True)
class InExperiments:
    """Experiments replace the setting by another flag."""

    flag: str


class OnlyWhere:
    """The setting applies only if at least one of the named settings has one of the given values.

    If a field has several, all must hold. A setting that the run does not have counts as None.

    text: the condition in words, if names and values do not describe it well. values: for each other setting, by its
    name: a value, a tuple of values, or a function of the value.
    """

    def __init__(self, text: str = "", /, **values: object) -> None:
        self._cases = {name: value if isinstance(value, tuple) else (value,) for name, value in values.items()}
        self.text = text or " or ".join(f"{n} is {' or '.join(map(in_words, v))}" for n, v in self._cases.items())

    def holds(self, settings: Mapping[str, Any]) -> bool:
        """Whether the condition holds for these settings."""
        return any(self._matches(settings.get(name), allowed) for name, allowed in self._cases.items())

    @staticmethod
    def _matches(value: Any, allowed: Sequence[object]) -> bool:
        return any(one(value) if callable(one) else one == value for one in allowed)

    def actual(self, settings: Mapping[str, Any]) -> str:
        """The values of the named settings in words, such as 'decoder is rae'."""
        values = {name: settings[name] for name in self._cases if name in settings}
        return " and ".join(f"{name} is {in_words(value)}" for name, value in values.items())


def in_words(value: object) -> str:
    """A setting's value in a message: on or off for a switch, quotes for an empty text, and long ones cut."""
    if isinstance(value, bool):
        return {True: "on", False: "off"}[value]
    return shortened(str(value)) or "''"


@dataclass(frozen=True)
class Declared:
    """The declaration of a setting. type: without its marks. marks: bounds, conditions, roles."""

    name: str
    type: Any
    default: Any
    help: str
    marks: tuple[Any, ...]

    @property
    def bounds(self) -> list[Bound]:
        """The bounds on its value that it declares."""
        return [mark for mark in self.marks if isinstance(mark, Within | OneOf | Text)]

    def broken_by(self, value: Any) -> Bound | None:
        """The first bound that a value of the setting's type exceeds: a declared one, or the limit of its type."""
        if value is None:
            return None
        elements = value if isinstance(value, tuple) else (value,)
        broken = [bound for bound in self.bounds if not bound.holds(value)]
        return next(iter(broken + [limit for limit in self._limits() if not all(map(limit.holds, elements))]), None)

    def _limits(self) -> list[Bound]:
        """The limits of its types; a declared limit of texts replaces the usual one."""
        kinds = [get_args(kind)[0] if get_origin(kind) is tuple else kind for kind in self.kinds]
        has_own = any(isinstance(bound, Text) for bound in self.bounds)
        return [LIMITS[kind] for kind in kinds if kind in LIMITS and not (kind is str and has_own)]

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values of a Literal; empty for other types."""
        return get_args(self.type) if get_origin(self.type) is Literal else ()

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The possible types of a value: one, or several for a type such as `int | None`."""
        return get_args(self.type) if get_origin(self.type) in (Union, types.UnionType) else (self.type,)

    def only_where(self) -> list[OnlyWhere]:
        """The conditions under which the setting applies."""
        return [mark for mark in self.marks if isinstance(mark, OnlyWhere)]

    def musts(self) -> list[Must]:
        """The conditions on its value that depend on other settings."""
        return [mark for mark in self.marks if isinstance(mark, Must)]

    def read(self, texts: Sequence[str]) -> list[Any]:
        """The value that words from the command line or a file represent, in a list; an empty list if they are invalid.

        Only a tuple takes more than one word.
        """
        if get_origin(self.type) is tuple:
            element = get_args(self.type)[0]
            values = [_as(element, text) for text in texts]
            return [tuple(value for (value,) in values)] if all(values) else []
        # None comes first, because a string type would accept "none" too.
        for kind in sorted(self.kinds, key=lambda kind: kind is not types.NoneType):
            for value in _as(kind, texts[0]) if texts else ():
                return [value]
        return []

    def converted(self, value: Any) -> Any:
        """The value in the setting's type: an int becomes a float, a list a tuple, a string a path."""
        if self.type is float and type(value) is int:
            return float(value)
        if isinstance(value, list):
            return tuple(value)
        # An empty path stays a text, because Path("") is the current folder.
        return as_path(value) if Path in self.kinds and isinstance(value, str | Path) and value != "" else value


def _as(kind: Any, text: str) -> list[Any]:
    """The text converted to that type, in a list; an empty list if it cannot be converted."""
    if get_origin(kind) is Literal:
        return [choice for choice in get_args(kind) if str(choice) == text]
    if kind is bool:
        return {"true": [True], "false": [False]}.get(text.lower(), [])
    if kind is types.NoneType:
        return [None] if text.lower() == "none" else []
    if kind is Path:
        return [as_path(text) if text else text]  # see Declared.converted
    try:
        return [whole_number(text) if kind is int else kind(text)]
    except ValueError:
        return []


def whole_number(text: str) -> int:
    """The number that a text such as 100000, 1e5 or 2.5e3 represents. Raises ValueError if it is not a whole one."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = decimal.Decimal(text)
    except decimal.InvalidOperation:
        raise ValueError(f"{shortened(text)!r} is not a number") from None
    # Far beyond the largest count, and before 1e999999999 is written out.
    if not number.is_finite() or number.adjusted() > LARGEST_EXPONENT or number != number.to_integral_value():
        raise ValueError(f"{shortened(text)!r} is not a whole number")
    return int(number)


LARGEST_EXPONENT = 30
"""Of a whole number that is written with an exponent."""


def _read_declarations(kind: type) -> Mapping[str, Declared]:
    lineage = [get_type_hints(part, include_extras=True) for part in kind.__mro__[:-1]]
    helps, declarations = _helps(kind), {}
    for f in dataclasses.fields(kind):
        hint, *marks = _parts(lineage[0][f.name])
        if not marks:  # a field that only changes the default inherits the marks of the base class
            marks = next((marks for hints in lineage[1:] for _, *marks in [_parts(hints.get(f.name))] if marks), [])
        help_text = helps.get(f.name, "")
        for names in (mark for mark in marks if isinstance(mark, OneOf)):
            help_text = f"{help_text.rstrip('.')}: {', '.join(names.names)}."
        declarations[f.name] = Declared(f.name, hint, f.default, help_text, tuple(marks))
    return declarations


declared: Callable[[type], Mapping[str, Declared]] = functools.cache(_read_declarations)
"""The declarations of the settings in a group, which is a dataclass, by name."""


def _parts(hint: Any) -> tuple[Any, ...]:
    """A type and its marks."""
    return get_args(hint) if get_origin(hint) is Annotated else (hint,)


def _helps(kind: type) -> dict[str, str]:
    """The sentence under each field of a class and its bases; none for a class without readable source code."""
    helps: dict[str, str] = {}
    for part in reversed(kind.__mro__[:-1]):
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        except (OSError, TypeError):
            continue
        assert isinstance(tree, ast.ClassDef)
        for field, below in zip(tree.body, tree.body[1:]):
            text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else None
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, str):
                helps[field.target.id] = " ".join(text.split())
    return helps
