"""`--config FILE`: the settings in a YAML file, from which a new run starts."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sacae import config as configs
from sacae import yaml_file
from sacae.declaration import Declared
from sacae.errors import UserError
from sacae.keywords import holds_keywords
from sacae.settings import meant_by

Fit = Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]
"""Adds to settings those of other, offered ones that apply beside them: fit(settings, offered)."""

OF_ITS_RUN = ("work_dir", "device", "replay_device", "capture")
"""What a run's config.yaml holds of that run and its machine alone: a new one chooses anew."""

Rebase = Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]
"""Leaves out of a run's settings what others of them brought which the given ones change: rebase(given, run's)."""


def together(settings: Mapping[str, Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Both, where each applies in any case."""
    return dict(offered) | dict(settings)


def everything(given: Mapping[str, Any], of_run: Mapping[str, Any]) -> dict[str, Any]:
    """All of them, where none brings others."""
    return dict(of_run)


def started_from(
    path: Path, given: Mapping[str, Any], known: Mapping[str, Declared], fit: Fit, rebase: Rebase = everything
) -> dict[str, Any]:
    """The settings in a file, overridden by the given ones.

    A run's config.yaml holds all its settings; those that do not apply beside the given ones are left out, with a line.
    Of a file that somebody wrote none is left out. known: the declarations of all possible settings.

    Raises UserError if the file cannot be read, or has an unknown setting or a value of another type.
    """
    try:
        content = yaml_file.read(path, "settings")
    except FileNotFoundError:
        raise UserError(f"config is {path}, but there is no such file") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} cannot be read as settings: it must hold names and values, such as batch_size: 64")
    of_run = isinstance(content.get("settings"), dict)
    if of_run and (of_sweep := [key for key in ("grid", "arms", "tasks", "seeds") if key in content]):
        raise UserError(
            f"{path} has {of_sweep[0]} beside its settings, as a sweep's file: give it to sacae sweep --file"
        )
    try:
        values = _ungrouped(content["settings"] if of_run else content, known)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    former = configs.FORMER_AGENT_SETTINGS if of_run else frozenset()
    for name in values:
        if name not in known and name not in former:
            raise UserError(f"{path} has {name}, but there is no such setting{meant_by(name, known)}")
    try:
        read = {name: yaml_file.typed(known[name], value) for name, value in values.items() if name in known}
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if not of_run:
        return together(given, read)
    of_its_run = {*OF_ITS_RUN} | ({"replay_capacity"} if _has_room_for_the_run(read) else set())
    offered = {name: value for name, value in read.items() if name not in of_its_run}
    rebased = _of_the_task(rebase(given, offered), given)
    merged = fit(given, rebased)
    left_out = [name for name in fit({}, offered) if name in rebased and name not in merged]  # of what applied there
    if left_out:
        print(f"{path}: left out, because they do not apply here: {', '.join(left_out)}")
    return merged


def _of_the_task(settings: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings without its task's choice of actions, and without an environment in place of which there is a
    task of DeepMind Control.
    """
    left_out = {"discretisation"} if settings.get("discretisation") in ("none", "factored") else set()  # auto's choices
    if {"domain", "task"} & given.keys() and not given.get("env"):
        left_out |= {"env", "env_kwargs"}
    return {name: value for name, value in settings.items() if name not in left_out}


def _has_room_for_the_run(settings: Mapping[str, Any]) -> bool:
    """Whether a run's replay has just the size that it takes where none is given."""
    without = {name: value for name, value in settings.items() if name != "replay_capacity"}
    try:
        defaults = configs.Config().defaults_for(without)
        known = defaults.declared()  # earlier versions wrote those of other heads too
        chosen = defaults.replace(**{name: value for name, value in without.items() if name in known}).planned_capacity
        return bool(chosen == settings["replay_capacity"])
    except (UserError, KeyError):
        return False


def _ungrouped(content: Mapping[Any, Any], known: Mapping[str, Declared]) -> dict[str, Any]:
    """Settings by name, of a file that may have them in groups."""
    values: dict[str, Any] = {}
    for name, value in content.items():
        is_group = isinstance(value, dict) and not holds_keywords(known.get(name))
        for one, its_value in value.items() if is_group else [(name, value)]:
            if str(one) in values:
                raise UserError(f"{one} is given twice; leave one out")
            values[str(one)] = its_value
    return values
