"""Grids over settings, from words such as critic_lr=1e-3,3e-4 or from a YAML file."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sacae import config as configs
from sacae import yaml_file
from sacae.declaration import InExperiments
from sacae.errors import UserError, did_you_mean
from sacae.experiments.ablations import Values
from sacae.limits import MOST_RUNS
from sacae.settings import meant_by

FILE_KEYS = ("tasks", "seeds", "settings", "grid", "arms")


@dataclass(frozen=True)
class Sweep:
    """The content of a sweep's file. grid: values by setting. arms: additional arms. settings: those of all runs."""

    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    arms: Mapping[str, Values] = field(default_factory=dict)
    settings: Values = field(default_factory=dict)
    tasks: Sequence[str] | None = None
    seeds: int | None = None


def grid_of(words: Iterable[str]) -> dict[str, list[Any]]:
    """Values by setting, from words such as critic_lr=1e-3,3e-4. Raises UserError for an invalid word."""
    grid: dict[str, list[Any]] = {}
    for word in words:
        name, equals, values = word.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not values.strip(", "):
            raise UserError(f"grid has {word!r}, but it must be a setting and its values, such as critic_lr=1e-3,3e-4")
        if name in grid:
            raise UserError(f"grid has {name} twice; give all its values in one word")
        grid[name] = [typed(name, value.strip()) for value in values.split(",")]
    return grid


def arms_of(grid: Mapping[str, Sequence[Any]]) -> dict[str, Values]:
    """One arm for each combination of values in the grid. Raises UserError if the grid is empty or repeats a value."""
    if not grid:
        raise UserError("grid is empty; name settings and their values, such as --grid critic_lr=1e-3,3e-4")
    if (count := math.prod(map(len, grid.values()))) > MOST_RUNS:
        raise UserError(f"grid has {count:,} combinations, but an experiment has at most {MOST_RUNS:,} runs; split it")
    combinations = [dict(zip(grid, values)) for values in itertools.product(*grid.values())]
    arms = {_arm_name(combination): combination for combination in combinations}
    if len(arms) < len(combinations):
        raise UserError(f"grid has a value twice among {', '.join(grid)}; name each value once")
    return arms


def _arm_name(settings: Values) -> str:
    return ",".join(f"{name}={value}" for name, value in settings.items()).replace("/", "_")


def read(path: Path) -> Sweep:
    """Reads a sweep's file. Raises UserError if it cannot be read, or has invalid content."""
    try:
        content = yaml_file.read(path, "a sweep")
    except FileNotFoundError:
        raise UserError(f"file {path} cannot be read: there is no such file; change --file") from None
    content = _mapping(content, path.name)
    for key in content:
        if key not in FILE_KEYS:
            raise UserError(
                f"file {path} has {key!r}, but only {', '.join(FILE_KEYS)} are allowed{did_you_mean(key, FILE_KEYS)}"
            )
    return Sweep(
        grid={name: _values(name, values) for name, values in _mapping(content.get("grid"), "grid").items()},
        arms=_arms(_mapping(content.get("arms"), "arms")),
        settings=_typed_all(content.get("settings"), "settings"),
        tasks=_words("tasks", content.get("tasks")),
        seeds=_count("seeds", content.get("seeds")),
    )


def _arms(content: Mapping[Any, Any]) -> dict[str, Values]:
    arms: dict[str, Values] = {}
    for name, settings in content.items():
        if _arm(name) in arms:  # 1 and '1' are two names for YAML
            raise UserError(f"arms has {_arm(name)} twice; give one of them another name")
        arms[_arm(name)] = _typed_all(settings, name)
    return arms


def _arm(name: Any) -> str:
    if isinstance(name, bool) or name is None:  # what YAML makes of on, off, yes, no and null
        raise UserError(f"arms has a name that YAML reads as {name}; put it in quotes")
    return str(name)


def _mapping(content: Any, what: str) -> dict[str, Any]:
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{what} is {content!r}, but it must be a mapping of names to values")
    return content


def _values(name: str, values: Any) -> list[Any]:
    values = values if isinstance(values, list) else [values]
    if not values:
        raise UserError(f"{name} has no values in the grid; give it one or more")
    return [typed(name, value) for value in values]


def _typed_all(settings: Any, what: str) -> Values:
    return {name: typed(name, value) for name, value in _mapping(settings, what).items()}


def _words(name: str, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UserError(f"{name} is {value!r}, but it must be a list of names")
    return tuple(word.strip() for word in words if word.strip())


def _count(name: str, value: Any) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise UserError(f"{name} is {value!r}, but it must be a whole number")
    if value is not None and not 1 <= value <= MOST_RUNS:
        raise UserError(f"{name} is {value:,}, but it must be from 1 to {MOST_RUNS:,}")
    return value


def typed(name: str, value: Any) -> Any:
    """The value in the setting's type: YAML reads 1e-3 as a string, and all values on the command line are strings.

    Raises UserError for an unknown setting, a setting that experiments replace by a flag, and an invalid value.
    """
    known = configs.every_setting()
    if name not in known:
        raise UserError(f"there is no setting {name!r}{meant_by(name, known)}")
    one = known[name]
    for mark in one.marks:
        if isinstance(mark, InExperiments):
            raise UserError(f"{name} is in a grid or a file, but experiments set it by a flag; use {mark.flag}")
    return yaml_file.typed(one, value)
