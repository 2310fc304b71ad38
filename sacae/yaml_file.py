"""YAML files of settings that people write or edit: read with limits, and their values in the settings' types."""

import os
import stat
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from sacae.declaration import Declared
from sacae.errors import UserError, did_you_mean
from sacae.keywords import holds_keywords, words_of

MAX_BYTES = 8_000_000
MAX_DEPTH = 20
MAX_NODES = 200_000
"""Values in a file, those that aliases repeat included: a few lines of nested aliases stand for billions."""


def read(path: Path, what: str) -> Any:
    """The content of a YAML file, of plain values only.

    what: what the file should be, such as "a run's settings". Raises UserError with one line if it is no regular file,
    too large, nested too deeply, or no YAML; FileNotFoundError if it is not there.
    """
    try:
        text = _text(path)
        _refuse_explosions(yaml.parse(text, Loader=yaml.SafeLoader))
        return yaml.load(text, Loader=_OnceLoader)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read as {what}: {(error.strerror or str(error)).lower()}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as {what}: {_reason(error)}; correct it, or restore it") from None


class _OnceLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which also refuses a name that stands twice in a mapping: one of them would be lost."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Raises ComposerError for the second of two equal names; mappings may be merged in (<<) several times."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if (key.tag, key.value) in seen:
                    raise yaml.composer.ComposerError(None, None, f"{key.value} is given twice", key.start_mark)
                seen.add((key.tag, key.value))
        return node


def _text(path: Path) -> str:
    # Without O_NONBLOCK, opening a named pipe would wait for somebody to write to it.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is a folder, a pipe or a device, not a file")
        if status.st_size > MAX_BYTES:
            raise ValueError(f"it has {status.st_size:,} bytes, and at most {MAX_BYTES:,} are allowed")
        return file.read(MAX_BYTES + 1).decode("utf-8-sig")


def _refuse_explosions(events: Iterable[yaml.Event]) -> None:
    """Raises ValueError for content that is nested too deeply or, with its aliases written out, too large."""
    sizes: dict[str, int] = {}
    open_collections: list[tuple[str | None, int]] = []
    total = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"the alias *{event.anchor} stands for nothing before it")
            total += sizes[event.anchor]
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_collections.pop()
            if anchor:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.NodeEvent):
            if isinstance(event, yaml.CollectionStartEvent):
                open_collections.append((event.anchor, total))
            elif event.anchor:
                sizes[event.anchor] = 1
            total += 1
        if len(open_collections) > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        if total > MAX_NODES:
            raise ValueError(f"it holds more than {MAX_NODES:,} values, aliases written out")


def _reason(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}: " if mark else ""
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    return where + " ".join(str(getattr(error, "problem", None) or error).split())


def typed(one: Declared, value: Any) -> Any:
    """A value from a file or a command line in the setting's type: YAML reads 1e-3 as a text, and off as false.

    Raises UserError, naming the setting, its value, what is allowed, and the choices that are spelled most like it.
    """
    if isinstance(value, dict) and holds_keywords(one):
        try:
            return words_of(value)
        except UserError as error:
            raise UserError(f"{one.name}: {error}") from None
    if value is False and "off" in one.choices:
        return "off"
    is_list = isinstance(value, list | tuple)
    # As words, null would become the name "None" where a name is allowed, and bytes "b'...'".
    is_misplaced = isinstance(value, dict | bytes) or (value is None and types.NoneType not in one.kinds)
    if not is_misplaced and is_list == (get_origin(one.type) is tuple):
        for read_value in one.read([str(item) for item in value] if is_list else [str(value)]):
            return read_value
    allowed, hint = " or ".join(map(_described, one.kinds)), did_you_mean(_shortened(value), one.choices)
    raise UserError(f"{one.name} is {_shortened(value)}, but it must be {allowed}{hint}")


def _shortened(value: Any) -> str:
    text = repr(value) if isinstance(value, list | dict | tuple) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _described(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) is tuple:
        return f"a list, each of it {_described(get_args(kind)[0])}"
    names = {bool: "true or false", int: "a whole number", float: "a number", types.NoneType: "none"}
    return names.get(kind, "a name")
