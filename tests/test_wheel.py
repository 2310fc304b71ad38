"""The wheel, installed and used where there is no checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.experiments.conftest import TINY

ROOT = Path(__file__).parents[1]
PACKAGES = ("sacae", "baselines")
SOURCES = (*PACKAGES, "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
ALONE = ["--no-deps", "--no-index"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy, because a build leaves folders behind."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    subprocess.run(
        [*PIP, "wheel", *ALONE, "--no-build-isolation", "--wheel-dir", folder, source], check=True, timeout=120
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Runs words in an environment that has the wheel and, of this one's packages, all but the checkout."""
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([*PIP, "--python", python, "install", *ALONE, wheel], env=environment, check=True, timeout=120)
    # Folders in a .pth file come last, and the .pth files in them, by which an editable install is found, are not read.
    (site,) = (folder / "venv" / "lib").glob("*/site-packages")
    (site / "outer.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))

    def run(*words: object) -> str:
        done = subprocess.run(
            [str(python.parent / str(words[0])), *map(str, words[1:])],
            cwd=folder, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run.folder = folder
    return run


def test_the_wheel_has_every_file_of_the_packages_and_no_other(wheel):
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"sacae/py.typed", "sacae/experiments/report/published.csv"} <= expected
    files = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert files == expected


def test_the_wheel_works_without_the_checkout(installed, gl):
    place = installed("python", "-c", "import sacae, baselines; print(sacae.__file__, baselines.__file__)")
    assert place.count(str(installed.folder)) == 2
    assert "sacae 0." in installed("sacae", "--version")
    assert "rendering" in installed("sacae", "doctor")
    run, page = installed.folder / "runs" / "sac" / "1", installed.folder / "report"
    installed(
        "sacae", "train", "--env", "Pendulum-v1", "--num-train-steps", 20, "--eval-every", 20, "--work-dir", run, *TINY
    )
    assert (run / "eval.csv").exists()
    assert "return" in installed("sacae", "eval", run, "--episodes", 1, "--no-video")
    installed("sacae", "report", run.parents[1], "--out", page)
    assert "Pendulum-v1" in (page / "index.html").read_text()
