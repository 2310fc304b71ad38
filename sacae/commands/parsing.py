"""Parses the command line with tyro; a mistake becomes a UserError with a message of one line."""

import contextlib
import dataclasses
import io
import itertools
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from sacae.declaration import Declared, declared, whole_number
from sacae.errors import UserError, flag_of
from sacae.files import as_path
from sacae.settings import OTHER_NAMES, Settings, check_value
from sacae.text import shortened, wrapped

T = TypeVar("T")


def parse(kind: type[T], argv: Sequence[str], prog: str) -> T:
    """Parses a command's options. Raises UserError, with tyro's error message on one line or for a value out of range.

    kind: the options, a dataclass; `Annotated` adds the allowed values as in `sacae.declaration`.
    """
    output, shown_help = io.StringIO(), _LikeStandardOutput()
    try:
        with contextlib.redirect_stderr(output), contextlib.redirect_stdout(shown_help):
            command = tyro.cli(
                _with_whole_helps(kind),
                args=list(argv),
                prog=prog,
                config=(tyro.conf.OmitArgPrefixes,),
                registry=_READING,
            )
    except SystemExit as stop:
        if stop.code in (None, 0):
            print(wrapped(re.sub(r"\n{3,}", "\n\n", shown_help.getvalue())), end="")
            raise
        message = shortened(_one_line(output.getvalue()), LONGEST_MESSAGE)
        message = _with_what_is_meant(message, argv, _options(kind))
        raise UserError(f"{message}; {prog} --help lists the options") from None
    check_options(command, argv)
    return command


def _with_whole_helps(kind: type[T]) -> type[T]:
    """The options and their groups, each help text on one line: tyro keeps the line breaks of indented source code."""
    fields = []
    for f in dataclasses.fields(kind):  # type: ignore[arg-type]  # options are dataclasses
        one, hint = declared(kind)[f.name], declared(kind)[f.name].type
        default: dict[str, Any] = {"default": f.default, "default_factory": f.default_factory}
        if _is_group(hint) and any(inner.help for inner in declared(hint).values()):
            hint = _with_whole_helps(hint)
            default = {"default_factory": hint}
        help_text = tyro.conf.arg(help=one.help or None)
        fields.append((f.name, Annotated[hint, *one.marks, help_text], dataclasses.field(**default)))
    return dataclasses.make_dataclass(
        kind.__name__, fields, bases=(kind,), namespace={"__doc__": kind.__doc__}, frozen=True, kw_only=True
    )


class _LikeStandardOutput(io.StringIO):
    """Keeps what is printed. tyro asks it whether there may be colours and lines."""

    def __init__(self) -> None:
        super().__init__()
        self._replaced = sys.stdout

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has a variable
        return self._replaced.encoding

    def isatty(self) -> bool:
        return self._replaced.isatty()


_READING = tyro.constructors.ConstructorRegistry()
"""How tyro reads words: 1e5 is a whole number, too, and ~ the home folder."""


def _reads(kind: type[T], metavar: str, read: Callable[[str], T]) -> None:
    """Makes tyro read a word of this kind by `read`, which raises ValueError for another."""

    @_READING.primitive_rule
    def _(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[T] | None:
        if info.type is not kind:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar=metavar,
            instance_from_str=lambda words: read(words[0]),
            is_instance=lambda value: isinstance(value, kind),
            str_from_instance=lambda value: [str(value)],
        )


_reads(int, "INT", whole_number)
_reads(Path, "PATH", as_path)


def _with_what_is_meant(message: str, argv: Sequence[str], options: Mapping[str, Any]) -> str:
    """tyro's message on unknown options, with this package's name for one that other codebases have.

    A value after a switch is such an option, too. options: their types by name.
    """
    if not message.startswith("Unrecognized"):
        return message
    for word, following in itertools.pairwise([*argv, "--"]):
        flag, equals, value = word.partition("=")
        if not flag.startswith("--"):
            continue
        name = flag.removeprefix("--").replace("-", "_")
        meant = [other for other in OTHER_NAMES.get(name, ()) if other in options]
        if meant:
            return f"{flag} is unknown; did you mean {' or '.join(map(flag_of, meant))}?"
        value = value if equals else following
        if options.get(name) is bool and not value.startswith("--"):
            return f"{flag} takes no value such as {shortened(value)}: give {flag} or {flag_of(f'no_{name}')}"
    return message


def _options(kind: type) -> dict[str, Any]:
    """The types of a command's options by name, those in groups included."""
    options: dict[str, Any] = {}
    for name, one in declared(kind).items():
        options |= _options(one.type) if _is_group(one.type) else {name: one.type}
    return options


def _is_group(kind: Any) -> bool:
    """Whether an option's type is a dataclass of further options."""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


LONGEST_MESSAGE = 500
"""Characters of tyro's message, which repeats what was given."""


def check_options(command: Any, argv: Sequence[str] = ()) -> None:
    """Raises UserError if an option exceeds one of its limits.

    argv: the words that were parsed. tyro reads an empty one as the current folder, which nobody means by it.
    """
    for name, one in declared(type(command)).items():
        value = getattr(command, name)
        if dataclasses.is_dataclass(value):
            check_options(value, argv)
            continue
        if value == one.default:  # The name of an ablation that was not given; the command reports it.
            continue
        paths = value if isinstance(value, tuple) else (value,)
        check_value(one, "" if Path() in paths and "" in _values_of(name, argv) else value)


def _values_of(name: str, argv: Sequence[str]) -> Sequence[str]:
    """The words that an option may have its value from: those after its flag, or without it those after no flag."""
    flag = flag_of(name)
    after = [following for word, following in itertools.pairwise(argv) if word == flag]
    joined = [word.removeprefix(f"{flag}=") for word in argv if word.startswith(f"{flag}=")]
    return after + joined or [word for before, word in itertools.pairwise(["", *argv]) if not before.startswith("--")]


def option_value(name: str, argv: Sequence[str]) -> str | None:
    """The last value that the words give an option; None if they give none."""
    flag = flag_of(name)
    words = [word for before, word in itertools.pairwise(["", *argv]) if before == flag and not word.startswith("--")]
    given = {at: word for at, word in enumerate(argv) if word.startswith(f"{flag}=")}
    return words[-1] if words else (given[max(given)].removeprefix(f"{flag}=") if given else None)


def _one_line(box: str) -> str:
    """The first message in an error box of tyro, drawn in Unicode or ASCII, and the options that tyro suggests."""
    sections: list[list[str]] = [[]]
    _, *lines = box.strip().splitlines() or [""]  # the first line is the box's title
    for line in lines:
        text = line.strip("│|╭╮╰╯ ")
        if set(text) <= set("─-+"):
            sections.append([])
        else:
            sections[-1].append(text)
    message, *rest = [section for section in sections if section] or [[box]]
    missing = re.match(r"Missing from .*?: (--\S+ \S+|[A-Z_]+) (.*?)\.? \(required\)", " ".join(message))
    if missing:
        return f"{missing[1]} is missing: {missing[2]}"
    suggested = [line for section in rest if section[0].startswith("Perhaps") for line in section if line[0] == "-"]
    return " ".join(message).rstrip(".") + (f"; did you mean {' or '.join(suggested)}?" if suggested else "")


def with_values(argv: Sequence[str], known: Mapping[str, Declared]) -> list[str]:
    """The words with a value behind each switch that may be None too: --capture True for --capture, False for --no-."""
    words: list[str] = []
    for at, word in enumerate(argv):
        name = word.removeprefix("--").replace("-", "_")
        setting = name.removeprefix("no_")
        if not word.startswith("--") or setting not in known or known[setting].type != (bool | None):
            words.append(word)
            continue
        follows_value = bool(known[setting].read(argv[at + 1 : at + 2]))
        words.append(flag_of(setting) if name != setting or not follows_value else word)
        if name != setting or not follows_value:
            words.append(str(name == setting))
    return words


def given_settings(argv: Sequence[str], known: Mapping[str, Declared]) -> dict[str, Any]:
    """The settings among the words of a command line, by name. Invalid values are left out: the parser reports them.

    known: the declarations of all possible settings.
    """
    given: dict[str, Any] = {}
    argv = with_values(argv, known)
    for at, word in enumerate(argv):
        flag, equals, value = word.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        setting = name if name in known else name.removeprefix("no_")
        if not flag.startswith("--") or setting not in known or (setting != name and known[setting].type is not bool):
            continue
        following = itertools.takewhile(lambda word: not word.startswith("--"), argv[at + 1 :])
        texts = [value] if equals else [*following]
        if known[setting].type is bool:
            given[setting] = setting == name
        else:
            # An invalid choice stays, because the error message of `check` lists the choices.
            wrong = texts[:1] if known[name].choices else []
            for value in (known[name].read(texts) or wrong)[:1]:
                given[name] = value
    return given


Shown = Mapping[str, Mapping[str, tuple[Declared, Any]]]
"""The settings that a command offers, by group and name, each with its declaration and default."""


def shown(settings: Settings) -> Shown:
    """The settings that apply, with their values as defaults."""
    values = settings.applying()
    return {
        group: {name: (one, values[name]) for name, one in declared(kind).items() if name in values}
        for group, kind in settings.groups().items()
    }


def parse_with_settings(kind: type[T], offered: Shown, argv: Sequence[str], prog: str) -> tuple[T, dict[str, Any]]:
    """Parses a command's options and the settings that it offers; returns both.

    kind: the options, a dataclass whose fields all have defaults. Raises UserError as `parse` does.
    """
    groups = [(name, _group(name, settings)) for name, settings in offered.items() if settings]
    fields = [(name, group, dataclasses.field(default_factory=group)) for name, group in groups]
    view = dataclasses.make_dataclass(
        kind.__name__, fields, bases=(kind,), namespace={"__doc__": kind.__doc__}, frozen=True, kw_only=True
    )
    known = {name: one for settings in offered.values() for name, (one, _) in settings.items()}
    command: Any = parse(view, with_values(argv, known), prog)
    return command, {name: value for group, _ in groups for name, value in vars(getattr(command, group)).items()}


def _group(name: str, settings: Mapping[str, tuple[Declared, Any]]) -> type:
    """A dataclass with the settings of a group, from which tyro makes the flags."""
    fields = []
    for setting, (one, default) in settings.items():
        hint = Annotated[one.type, tyro.conf.arg(help=one.help)] if one.help else one.type
        fields.append((setting, hint, dataclasses.field(default=default)))
    return dataclasses.make_dataclass(name, fields, namespace={"__doc__": ""}, frozen=True)
