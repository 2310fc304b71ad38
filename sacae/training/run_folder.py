"""The run folder: where it is, what must not be overwritten, and the record of what ran."""

import os
import platform
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml

from sacae import config as configs
from sacae.errors import UserError
from sacae.settings import Settings
from sacae.training.unstarted import CONFIG as CONFIG
from sacae.training.unstarted import is_empty

TRAIN_CSV = "train.csv"
EVAL_CSV = "eval.csv"
PACKAGES = ("sacae", "torch", "numpy", "mujoco", "dm_control", "gymnasium", "ale-py", "imageio", "tensorboard")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a temporary path and renames it to `path`: whoever reads `path` never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}")
    write(temporary)
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def make(folder: Path) -> None:
    """Makes the folder if it is missing. Raises UserError if that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from None


def create(config: Settings) -> None:
    """Makes the run folder and its config.yaml. Raises UserError if it is already in use or cannot be made."""
    refuse_if_used(config.work_dir)
    _write_config(config.work_dir, {"agent": config.variant, "settings": configs.to_yaml(config), **_circumstances()})


def record_resume(config: Settings, env_step: int) -> None:
    """Brings config.yaml up to date for a run that goes on, and adds to it when, where and with what it did."""
    path = config.work_dir / CONFIG
    content = yaml.safe_load(path.read_text())
    settings = configs.to_yaml(config)
    changed = {
        name: value
        for group, values in settings.items()
        for name, value in values.items()
        if value != content["settings"].get(group, {}).get(name)
    }
    content["settings"] = settings
    content.setdefault("resumed", []).append({"env_step": env_step, "changed": changed, **_circumstances()})
    _write_config(config.work_dir, content)


def _write_config(folder: Path, content: dict[str, Any]) -> None:
    text = yaml.safe_dump(content, sort_keys=False)
    try:
        write_atomically(folder / CONFIG, lambda path: path.write_text(text))
    except OSError as error:
        raise _unwritable(folder, error) from None


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(f"work_dir {folder} cannot be written: {error.strerror}; choose another --work-dir")


def _circumstances() -> dict[str, Any]:
    """Library versions, the package's commit, the machine."""
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
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
    if not is_empty(folder):
        raise UserError(
            f"work_dir {folder} already holds a run; continue it with --resume, or choose another --work-dir or --seed"
        )


def make_results_folder(folder: Path) -> Path:
    """The folder, made where it is missing. Raises UserError, naming `out`, where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"out is {folder}, but that is no folder and cannot be made one ({error.strerror}); choose another --out"
        ) from None
    return folder


def unused_path(path: Path) -> Path:
    """The path itself if nothing is there, else the first of name-2, name-3, ... that is free."""
    candidates = (path.with_name(f"{path.stem}-{i}{path.suffix}") for i in range(2, 1_000_000))
    return path if not path.exists() else next(p for p in candidates if not p.exists())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(package: str) -> str:
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
