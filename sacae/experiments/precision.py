"""The precision of an experiment's runs if no setting names one: the same for all."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from sacae import config as configs
from sacae.errors import UserError
from sacae.experiments.plan import Left, Run
from sacae.training.device import Choice
from sacae.training.run_folder import CONFIG

Ask = Callable[[str], Sequence[tuple[str, Choice]]]
"""The choice of `--precision auto` on every device that a run with some `device` setting can use, by device name."""


def with_precision(left: Mapping[Run, Left], root: Path, ask: Ask, say: Callable[[str], None]) -> dict[Run, Left]:
    """The runs of an experiment, where new runs with precision auto get a fixed one: from state fp32.

    From pixels, it is the precision of the existing runs if they all have the same one, else the choice for the
    devices. Existing runs keep theirs.

    left: all runs, and what is left to do of each. root: the experiment's folder. say: prints the choice and its
    reason.
    """
    new = {run for run, kind in left.items() if kind is Left.ALL and run.config.train.precision == "auto"}
    devices = {run.config.train.device for run in new if _from_pixels(run.config)}
    decided = {"state": "fp32"}
    if devices:
        there = _precisions_there(left, root)
        decided["pixels"], why = _of_those_there(there) or _of_the_devices(sorted(devices), ask, there)
        say(f"precision: {decided['pixels']}, {why}")
    return {
        run.with_settings(precision=decided[_kind(run.config)]) if run in new else run: kind
        for run, kind in left.items()
    }


def _kind(config: configs.Config) -> str:
    return "pixels" if _from_pixels(config) else "state"


def _from_pixels(config: configs.Config) -> bool:
    return config.task.from_pixels


def _precisions_there(left: Mapping[Run, Left], root: Path) -> list[str]:
    """The precisions of the runs from pixels in an experiment's folder, except for arms that set their own."""
    named = {run.arm for run in left if run.config.train.precision != "auto"}
    to_be_made = {run.folder for run, kind in left.items() if kind is Left.ALL}
    folders = (path.parent for path in root.absolute().glob(f"*/*/*/{CONFIG}"))
    found = (_read(folder) for folder in folders if folder not in to_be_made and folder.parent.name not in named)
    return sorted({config.train.precision for config in found if config and _from_pixels(config)})


def _read(folder: Path) -> configs.Config | None:
    try:
        return configs.load(folder / CONFIG, configs.Config())
    except UserError:
        return None  # Not a run of this experiment: all of those were read before.


def _of_those_there(there: Sequence[str]) -> tuple[str, str] | None:
    return (there[0], "as the runs that are there have") if len(there) == 1 else None


def _of_the_devices(devices: Iterable[str], ask: Ask, there: Sequence[str]) -> tuple[str, str]:
    """The choice that all devices share, or fp32; and its reason, which mentions existing runs that differ."""
    answers = list(dict.fromkeys(answer for device in devices for answer in ask(device)))
    precisions = {choice.precision for _, choice in answers}
    if len(precisions) == 1:
        precision, reasons = precisions.pop(), dict.fromkeys(choice.reason for _, choice in answers)
        why = f"because {' and '.join(reasons)}"
    else:
        precision, each = "fp32", (f"on {name} {choice.reason}" for name, choice in answers)
        why = f"because the devices are not alike: {', '.join(each)}"
    return precision, f"{why}; the runs that are there have {' and '.join(there)}" if there else why
