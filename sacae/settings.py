"""How settings are declared: a dataclass field says everything about its setting, and all else reads it from there.

A field has a type, a default and a sentence under it, which is its help. `Annotated` adds what values are allowed
(`AtLeast`, `Above`, `Within`, ...), what else it depends on (`OnlyWhere`), and its roles, such as CHANGEABLE_ON_RESUME:

    vae_beta: Annotated[float, AtLeast(0), OnlyWhere(decoder="vae")] = 1e-7

Fields lie in groups, and their names are unique across the groups of a run, so that a setting is known by its name
alone on the command line, in sweeps and in `replace`.
"""

import ast
import dataclasses
import functools
import inspect
import math
import textwrap
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Protocol,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from sacae.errors import UserError, did_you_mean, flag_of

# What a field says beside its type.


class Bound(Protocol):
    """What values are allowed. None, where a setting may be None, is asked of no bound."""

    @property
    def allowed(self) -> str:
        """The allowed values, such as "at least 1"."""

    def holds(self, value: Any) -> bool:
        """Whether the value is one of them."""


@dataclass(frozen=True)
class Within:
    """Numbers from low to high, both included unless it is said otherwise."""

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
        """See Bound. Not-a-number is nowhere."""
        over = value > self.low if self.above else value >= self.low
        return over and (value < self.high if self.below else value <= self.high)


def AtLeast(low: float) -> Within:
    """Numbers from `low` on."""
    return Within(low)


def Above(low: float) -> Within:
    """Numbers greater than `low`."""
    return Within(low, above=True)


@dataclass(frozen=True)
class OneOf:
    """One of the names in a collection that may grow, such as a registry; the help lists them."""

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
    """What must hold of the setting beside others, where it has a meaning.

    allowed: the allowed values, for people. holds: whether the value of the setting is, among all settings by name.
    of_new_runs: older versions allowed it, so that it is asked of new runs alone.
    """

    allowed: str
    holds: Callable[[Mapping[str, Any]], bool]
    of_new_runs: bool = False


class Role(Enum):
    """What a setting is to the commands."""

    CHANGEABLE_ON_RESUME = auto()
    """It may differ when a run goes on: how long it is, what is watched and kept, where it computes."""
    NOT_COMPARED = auto()
    """An experiment that goes on may have another value: where it computes, how it is watched, what it keeps."""
    OF_THE_MACHINE = auto()
    """A resumed run is given it anew, since it may go on elsewhere."""
    NO_ARM = auto()
    """It makes no other arm in a report: which run it is, how long it is, what is watched, where it computes."""


CHANGEABLE_ON_RESUME, NOT_COMPARED, OF_THE_MACHINE, NO_ARM = Role


@dataclass(frozen=True)
class InExperiments:
    """Experiments have a flag of their own in place of the setting."""

    flag: str


class OnlyWhere:
    """A setting that has a meaning only where at least one of the named settings has one of the given values.

    Several on one field must all hold. A setting that the run does not have counts as None.

    text: what must be, for people, where names and values do not say it. values: a value, a tuple of values, or a
    function of the value, by the other setting's name.
    """

    def __init__(self, text: str = "", /, **values: object) -> None:
        self._cases = {name: value if isinstance(value, tuple) else (value,) for name, value in values.items()}
        self.text = text or " or ".join(f"{n} is {' or '.join(map(_said, v))}" for n, v in self._cases.items())

    def holds(self, settings: Mapping[str, Any]) -> bool:
        """Whether it does beside these settings."""
        return any(self._has(settings.get(name), allowed) for name, allowed in self._cases.items())

    @staticmethod
    def _has(value: Any, allowed: Sequence[object]) -> bool:
        return any(one(value) if callable(one) else one == value for one in allowed)

    def found(self, settings: Mapping[str, Any]) -> str:
        """What the named settings are instead, such as 'decoder is rae'."""
        there = {name: settings[name] for name in self._cases if name in settings}
        return " and ".join(f"{name} is {_said(value)}" for name, value in there.items())


def _said(value: object) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Declared:
    """What a field says of its setting. type: without its metadata. marks: bounds, OnlyWhere, roles."""

    name: str
    type: Any
    default: Any
    help: str
    marks: tuple[Any, ...]

    @property
    def bounds(self) -> list[Bound]:
        """What values are allowed."""
        return [mark for mark in self.marks if isinstance(mark, Within | OneOf)]

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values of a Literal; none where it is no choice."""
        return get_args(self.type) if get_origin(self.type) is Literal else ()

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The types that a value may have: one, but for those such as `int | None`."""
        return get_args(self.type) if get_origin(self.type) in (Union, types.UnionType) else (self.type,)

    def only_where(self) -> list[OnlyWhere]:
        """All of what must hold for the setting to have a meaning."""
        return [mark for mark in self.marks if isinstance(mark, OnlyWhere)]

    def read(self, texts: Sequence[str]) -> list[Any]:
        """The value that words on the command line or in a file stand for, as a list of one; empty where for none."""
        if get_origin(self.type) is tuple:
            element = get_args(self.type)[0]
            values = [_as(element, text) for text in texts]
            return [tuple(value for (value,) in values)] if all(values) else []
        # A name could be anything else, so that None comes first.
        for kind in sorted(self.kinds, key=lambda kind: kind is not types.NoneType):
            for value in _as(kind, texts[0]) if texts else ():
                return [value]
        return []

    def kept(self, value: Any) -> Any:
        """The value as the setting's type has it, where YAML or Python says the same otherwise: 2 for 2.0, a list."""
        if self.type is float and type(value) is int:
            return float(value)
        if isinstance(value, list):
            return tuple(value)
        return Path(value) if Path in self.kinds and isinstance(value, str) else value


def _as(kind: Any, text: str) -> list[Any]:
    """The text as that type, as a list of one; empty where it is none."""
    if get_origin(kind) is Literal:
        return [choice for choice in get_args(kind) if str(choice) == text]
    if kind is bool:
        return {"true": [True], "false": [False]}.get(text.lower(), [])
    if kind is types.NoneType:
        return [None] if text.lower() == "none" else []
    try:
        return [kind(text)]
    except ValueError:
        return []


def _read_declarations(kind: type) -> Mapping[str, Declared]:
    lineage = [get_type_hints(part, include_extras=True) for part in kind.__mro__[:-1]]
    helps, found = _helps(kind), {}
    for f in dataclasses.fields(kind):
        hint, *marks = _parts(lineage[0][f.name])
        if not marks:  # a field that only changes a default is what its base says
            marks = next((marks for hints in lineage[1:] for _, *marks in [_parts(hints.get(f.name))] if marks), [])
        help_text = helps.get(f.name, "")
        for names in (mark for mark in marks if isinstance(mark, OneOf)):
            help_text = f"{help_text.rstrip('.')}: {', '.join(names.names)}."
        found[f.name] = Declared(f.name, hint, f.default, help_text, tuple(marks))
    return found


declared: Callable[[type], Mapping[str, Declared]] = functools.cache(_read_declarations)
"""What the fields of a group of settings, a dataclass, declare, by name."""


def _parts(hint: Any) -> tuple[Any, ...]:
    """A type, and what `Annotated` adds to it."""
    return get_args(hint) if get_origin(hint) is Annotated else (hint,)


def _helps(kind: type) -> dict[str, str]:
    """The sentence under each field of a class and its bases; nothing for a class whose source cannot be read."""
    found: dict[str, str] = {}
    for part in reversed(kind.__mro__[:-1]):
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        except (OSError, TypeError):
            continue
        assert isinstance(tree, ast.ClassDef)
        for field, under in zip(tree.body, tree.body[1:]):
            said = under.value.value if isinstance(under, ast.Expr) and isinstance(under.value, ast.Constant) else None
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(said, str):
                found[field.target.id] = " ".join(said.split())
    return found


# Settings in groups.

S = TypeVar("S", bound="Grouped")

Condition = tuple[str, bool, str]
"""What must hold beside choices and bounds: the setting, whether it does, what is allowed."""


@dataclass(frozen=True)
class Grouped:
    """The settings of a run, in groups, each a field that is a dataclass; immutable."""

    FORMER: ClassVar[frozenset[str]] = frozenset()
    """Names that files of older versions may hold and that mean nothing to this run."""

    def groups(self) -> dict[str, type]:
        """The dataclass of each group of settings, by the group's name."""
        return {f.name: type(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def declared(self) -> dict[str, Declared]:
        """What is declared of every setting, by its name."""
        return {name: one for kind in self.groups().values() for name, one in declared(kind).items()}

    def flat(self) -> dict[str, Any]:
        """Every setting by its name, those without a meaning here too."""
        return {name: getattr(getattr(self, g), name) for g, kind in self.groups().items() for name in declared(kind)}

    def idle(self) -> dict[str, OnlyWhere]:
        """The settings that have no meaning beside the others, and where they would have one."""
        values = self.flat()
        return {
            name: where
            for name, one in self.declared().items()
            for where in reversed(one.only_where())  # the first that fails is kept
            if not where.holds(values)
        }

    def applying(self) -> dict[str, Any]:
        """Every setting that has a meaning here, by its name."""
        idle = self.idle()
        return {name: value for name, value in self.flat().items() if name not in idle}

    def with_role(self, role: Role) -> list[str]:
        """The names of the settings that have this role."""
        return [name for name, one in self.declared().items() if role in one.marks]

    def replace(self, **settings: Any) -> Self:
        """A copy with the named settings changed. Raises UserError for a name that is not a setting."""
        group_of = {name: group for group, kind in self.groups().items() for name in declared(kind)}
        groups: dict[str, dict[str, Any]] = {}
        for name, value in settings.items():
            if name not in group_of:
                raise UserError(self.unknown(name, value))
            group = group_of[name]
            groups.setdefault(group, {})[name] = declared(self.groups()[group])[name].kept(value)
        changed = {group: dataclasses.replace(getattr(self, group), **values) for group, values in groups.items()}
        return dataclasses.replace(self, **changed)

    def unknown(self, name: str, value: Any) -> str:
        """What to tell of a name that is not a setting of this run."""
        return f"there is no setting {name!r}{did_you_mean(name, self.declared())}"

    def conditions(self) -> Sequence[Condition]:
        """What must hold beside choices and bounds."""
        return ()

    def conditions_of_new_runs(self) -> Sequence[Condition]:
        """As `conditions`, of what older versions allowed: their runs can still be resumed, played and reported."""
        return ()

    @classmethod
    def blank(cls, _values: Mapping[str, Any]) -> Self:
        """The defaults to which a file adds its values."""
        return cls()


def check(settings: Grouped, new_run: bool = True, given: Iterable[str] = ()) -> None:
    """Raises UserError, naming the setting, its value and what is allowed, for the first that is not.

    new_run: whether they are to begin a run, rather than of one that exists, which older versions may have begun.
    given: the names that a user gave; those must have a meaning.
    """
    values = settings.flat()

    def require(name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise UserError(f"{name} is {values[name]}, but it must be {allowed}; change {flag_of(name)}")

    for name, one in settings.declared().items():
        if one.choices:
            require(name, values[name] in one.choices, "one of " + ", ".join(map(str, one.choices)))
        for bound in one.bounds if values[name] is not None else ():
            require(name, bound.holds(values[name]), bound.allowed)
    refuse_idle(settings, given)
    idle = settings.idle()
    for name, one in settings.declared().items():
        for must in (mark for mark in one.marks if isinstance(mark, Must) and name not in idle):
            require(name, must.holds(values) or (must.of_new_runs and not new_run), must.allowed)
    for condition in (*settings.conditions(), *(settings.conditions_of_new_runs() if new_run else ())):
        require(*condition)


def refuse_idle(settings: Grouped, given: Iterable[str]) -> None:
    """Raises UserError for the first of the given names that has no meaning beside the other settings."""
    values, idle = settings.flat(), settings.idle()
    for name in given:
        if name in idle:
            where = idle[name]
            raise UserError(
                f"{name} is {values[name]} but {where.found(values)}: it has a meaning only where {where.text}; "
                f"leave {flag_of(name)} out"
            )


def plain(settings: Grouped) -> dict[str, dict[str, Any]]:
    """The settings that have a meaning as mappings of group and name, ready for YAML."""
    values = settings.applying()
    return {
        group: {
            name: str(values[name]) if isinstance(values[name], Path) else values[name]
            for name in declared(kind)
            if name in values
        }
        for group, kind in settings.groups().items()
    }
