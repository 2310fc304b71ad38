"""The same runs on a Ray cluster of this machine."""

import os
import signal
import sys
from pathlib import Path

import pytest

from sacae import cli
from tests.experiments.conftest import TINY, resumptions, rows, start, wait_for


def test_without_ray_one_line_names_what_to_install(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["ablate", "heads", "--tasks", "Pendulum-v1", "--launcher", "ray"]) == 2
    assert "pip install 'sacae[ray]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def training_in(folder: Path) -> int | None:
    """The process that trains in a run folder."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except OSError:
            continue
        if str(folder) in words and "train" in words:
            return int(path.parent.name)
    return None


def parent_of(process: int) -> int:
    """The process that started it."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks processes up in /proc")
def test_both_arms_are_complete_though_a_worker_was_killed(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'sacae[ray]'")
    command = start(
        "ablate", "heads", "--arms", "sac,td3", "--tasks", "Pendulum-v1", "--seeds", 1, "--launcher", "ray",
        "--work-dir", tmp_path, "--cpus-per-run", 0.5, *TINY, "--num-train-steps", 1600, "--eval-every", 1600,
        "--checkpoint-every", 200,
    )  # fmt: skip
    folders = {arm: tmp_path / "Pendulum-v1" / arm / "1" for arm in ("sac", "td3")}
    wait_for(lambda: rows(folders["sac"] / "train.csv") > 1)
    worker = parent_of(training_in(folders["sac"]))
    os.kill(worker, signal.SIGKILL)
    out, err = command.communicate(timeout=300)
    assert command.returncode == 0, out + err
    assert "2 finished" in out
    assert resumptions(folders["sac"]) == 1
    for folder in folders.values():
        assert rows(folder / "train.csv") == 1600 // 200
        assert rows(folder / "eval.csv") == 2


@pytest.mark.slow
def test_ctrl_c_reaches_the_runs_of_a_cluster(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'sacae[ray]'")
    command = start(
        "ablate", "heads", "--arms", "td3", "--tasks", "Pendulum-v1", "--seeds", 1, "--launcher", "ray",
        "--work-dir", tmp_path, *TINY, "--num-train-steps", 20_000, "--checkpoint-every", 100_000,
    )  # fmt: skip
    folder = tmp_path / "Pendulum-v1" / "td3" / "1"
    wait_for(lambda: rows(folder / "train.csv") > 0)
    command.send_signal(signal.SIGINT)
    out, err = command.communicate(timeout=120)
    assert command.returncode == 130, out + err
    assert "1 stopped" in out
    assert "run stopped" in folder.with_name("1.log").read_text()
    assert not list(tmp_path.glob(".stop-*"))
