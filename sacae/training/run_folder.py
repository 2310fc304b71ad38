"""The run folder: where it is, what must not be overwritten, and the record of what ran."""

import contextlib
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml

from sacae import config as configs
from sacae import yaml_file
from sacae.declaration import CHANGEABLE_ON_RESUME
from sacae.errors import UserError
from sacae.files import UNFINISHED, write_atomically
from sacae.settings import Settings
from sacae.training.lock import LOCK
from sacae.training.unstarted import CONFIG as CONFIG
from sacae.training.unstarted import is_empty

TRAIN_CSV = "train.csv"
EVAL_CSV = "eval.csv"
PACKAGES = ("sacae", "torch", "numpy", "mujoco", "dm_control", "gymnasium", "ale-py", "imageio", "tensorboard")


def make(folder: Path) -> None:
    """Makes the folder if it is missing. Raises UserError if that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from None


def create(config: Settings) -> None:
    """Makes the run folder and its config.yaml. Raises UserError if it is already in use or cannot be made."""
    folder = config.work_dir
    refuse_if_used(folder)
    make(folder)
    _write_config(folder, {"agent": config.variant, "settings": configs.to_yaml(config), **_circumstances()})


def record_resume(config: Settings, env_step: int) -> None:
    """Brings config.yaml up to date for a run that goes on, and adds to it when, where and with what it did."""
    content = configs.read(config.work_dir / CONFIG)
    settings = configs.to_yaml(config)
    before = _by_name(content["settings"])
    changed = {name: value for name, value in _by_name(settings).items() if value != before.get(name)}
    content["settings"] = settings
    resumed = content.get("resumed")
    content["resumed"] = resumed if isinstance(resumed, list) else []
    content["resumed"].append({"env_step": env_step, "changed": changed, **_circumstances()})
    _write_config(config.work_dir, content)


def refuse_other_settings(folder: Path, config: Settings, state: Mapping[str, Any]) -> None:
    """Raises UserError where a run folder's config.yaml is not of the run that its checkpoint is of.

    config: any settings of this kind of run. state: the checkpoint's; those of earlier versions hold no settings. A
    setting that a resumed run may change may differ, but it must be there: a default would take its place unseen.
    """
    saved, checkpoint = state.get("settings"), "the checkpoint"
    if saved is None:
        return
    path = folder / CONFIG
    there, wanted = _by_name(configs.read(path)["settings"]), _by_name(saved)
    changeable, idle = config.with_role(CHANGEABLE_ON_RESUME), config.idle()
    for name, one in config.declared().items():
        if name not in wanted or name in idle or name == "work_dir":  # earlier versions wrote some that are idle
            continue
        if name not in there:
            raise UserError(
                f"{path} lacks {name}, which is {wanted[name]} in {checkpoint}; add it, or restore the file"
            )
        if name not in changeable and yaml_file.typed(one, there[name]) != yaml_file.typed(one, wanted[name]):
            raise UserError(
                f"{name} is {there[name]} in {path}, but {wanted[name]} in {checkpoint}; a resumed run may change only "
                f"{', '.join(changeable)}; put it back"
            )


def _by_name(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for values in groups.values() for name, value in values.items()}


def remove_unfinished(folder: Path) -> None:
    """Removes the temporary files that a crash left in a run folder. Another command may be at work in evaluation/."""
    for part in (folder, *(folder / name for name in WRITTEN_BY_TRAINING)):
        for path in part.glob(f"{UNFINISHED}*"):
            with contextlib.suppress(OSError):
                path.unlink()


WRITTEN_BY_TRAINING = ("checkpoint", "video", "reconstruction")
"""Folders in a run folder that only its training writes to."""


def _write_config(folder: Path, content: dict[str, Any]) -> None:
    text = yaml.safe_dump(content, sort_keys=False)
    write_atomically(folder / CONFIG, lambda path: path.write_text(text), lambda: len(text))


def _not_writable(folder: Path, error: OSError) -> UserError:
    return UserError(f"work_dir {folder} cannot be written: {error.strerror}; choose another --work-dir")


def _circumstances() -> dict[str, Any]:
    """Library versions, the package's commit, the machine."""
    return {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "git_commit": _git_commit(),
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cpu_count": os.cpu_count(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
    }


def refuse_if_used(folder: Path) -> None:
    """Raises UserError if the folder holds anything but a lock, or is a file."""
    if folder.is_file():
        raise UserError(f"work_dir {folder} is a file; choose another --work-dir")
    if is_empty(folder):
        return
    if (folder / CONFIG).exists() or (folder / TRAIN_CSV).exists():
        raise UserError(
            f"work_dir {folder} already holds a run; continue it with --resume, or choose another --work-dir or --seed"
        )
    raise UserError(f"work_dir {folder} is no run folder and holds {_something_in(folder)}; choose another --work-dir")


def _something_in(folder: Path) -> str:
    """One name, and how many more there are."""
    first, *others = sorted(path.name for path in folder.iterdir() if path.name != LOCK)
    return f"{first} and {len(others)} more" if others else first


def make_results_folder(folder: Path) -> Path:
    """The folder, made where it is missing. Raises UserError, naming `out`, where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"out is {folder}, but that is no folder and cannot be made one ({error.strerror}); choose another --out"
        ) from None
    return folder


def unused_path(path: Path, *suffixes: str) -> Path:
    """The path itself if nothing is there, else the first of name-2, name-3, ... that is free.

    suffixes: of files beside it, such as ".mp4", which must not be there either.
    """
    names = (path.stem if i == 1 else f"{path.stem}-{i}" for i in range(1, 1_000_000))
    return next(
        path.with_name(name + path.suffix)
        for name in names
        if not any(path.with_name(name + suffix).exists() for suffix in (path.suffix, *suffixes))
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def version(package: str) -> str:
    """The installed version of a package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed as a package"


def _git_commit() -> str:
    """The commit of the checkout this package lies in, marked when the checkout has changes; 'unknown' outside one."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        ours = subprocess.run(
            [*git, "ls-files", "--error-unmatch", __file__], capture_output=True, check=False, timeout=10
        )
        if ours.returncode:
            return "unknown"
        return subprocess.run(
            [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, check=True, timeout=10,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
