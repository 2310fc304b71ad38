"""Keyword arguments on the command line and in config.yaml: words such as gravity=9.8."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from sacae.declaration import Declared, Must
from sacae.errors import UserError

FORM = "words of the form name=value, each name once and each value a number, true, false, null or text"
"""What is allowed, in words."""


def keyword_arguments(words: Sequence[str]) -> dict[str, Any]:
    """Values by name. A value is typed as a YAML scalar, but 1e-3 is a number too.

    Raises UserError for words that are not of that form.
    """
    arguments: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not (equals and name.isidentifier() and name not in arguments):
            raise UserError(f"{word!r} is given, but there must be {FORM}")
        arguments[name] = _scalar(text)
    return arguments


def words_of(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """The words from which `keyword_arguments` reads these values. Raises UserError if no words give them."""
    words = tuple(f"{name}={_text(value)}" for name, value in arguments.items())
    if keyword_arguments(words) != dict(arguments):
        raise UserError(f"{dict(arguments)!r} is given, but there must be {FORM}")
    return words


def _text(value: Any) -> str:
    """How a word writes a value."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str) and not _stands_for_itself(value):
        return json.dumps(value)  # In quotes, which YAML reads as a text whatever it holds.
    return str(value)


def _stands_for_itself(text: str) -> bool:
    try:
        return bool(_scalar(text) == text)
    except UserError:
        return False


def are_keyword_arguments(words: Sequence[str]) -> bool:
    """Whether `keyword_arguments` reads these words."""
    try:
        keyword_arguments(words)
    except UserError:
        return False
    return True


def _scalar(text: str) -> Any:
    """The value of a text. Raises UserError for a number that is not finite, a list and a mapping."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text) if isinstance(node, yaml.ScalarNode) else node
    except (yaml.YAMLError, ValueError):
        return text
    if isinstance(value, yaml.Node) or (isinstance(value, float) and not math.isfinite(value)):
        raise UserError(f"{text!r} is given as a value, but there must be {FORM}")
    if isinstance(value, str) and isinstance(node, yaml.ScalarNode) and node.style:  # in quotes
        return value
    return value if isinstance(value, bool | int | float) or (value is None and text) else _number_or(text)


def _number_or(text: str) -> float | str:
    """The number that YAML 1.1 reads as a text, such as 1e-3, or else the text."""
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


class Keywords(Must):
    """The mark of a setting of such words, by its name. From Python and in a file, a mapping may stand for them."""

    def __init__(self, name: str) -> None:
        super().__init__(FORM, lambda settings: are_keyword_arguments(settings[name]))


def holds_keywords(setting: Declared | None) -> bool:
    """Whether a setting has that mark."""
    return setting is not None and any(isinstance(mark, Keywords) for mark in setting.marks)
