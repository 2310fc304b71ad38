"""The same runs on a Ray cluster of this machine."""

import os
import signal
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from sacae import cli
from sacae import config as configs
from sacae.errors import UserError, how_to_install
from sacae.experiments import ray_cluster
from sacae.experiments.ray_cluster import RayLauncher, auto_precision_here, make_run
from sacae.training.device import Choice, auto_precision
from tests.experiments.conftest import (
    CENTRING,
    CENTRING_FOLDER,
    TINY,
    TINY_PIXELS,
    resumptions,
    rows,
    start,
    wait_for,
    without,
)


def test_without_ray_one_line_names_what_to_install(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["ablate", "heads", "--tasks", "Pendulum-v1", "--launcher", "ray"]) == 2
    assert how_to_install("ray") in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


FAST, SLOW = Choice("bf16", "the CPU has AMX_BF16"), Choice("fp32", "the CPU has neither")


class Cluster:
    """Stands for Ray and a cluster: machines by name, with what they have and answer; None never has room.

    busy: none of them has room yet, and whoever waits only so long gets no answer.
    """

    busy = False

    def __init__(self, **machines) -> None:
        self.machines, self.options, self.cancelled = machines, [], []

    def init(self, **_):
        """Answers."""

    shutdown = init

    def nodes(self):
        return [
            {"NodeID": f"id of {name}", "NodeManagerHostname": name, "Alive": alive, "Resources": resources}
            for name, (alive, resources, _) in self.machines.items()
        ]

    def remote(self, function):
        assert function is auto_precision_here

        def with_options(scheduling_strategy, **options):
            node, soft = scheduling_strategy
            assert not soft, "another machine might answer"
            self.options.append(options)
            gpus_of_run = options["num_gpus"]

            def remote(device, gpus):
                assert gpus == gpus_of_run
                return node.removeprefix("id of "), device

            return SimpleNamespace(remote=remote)

        return SimpleNamespace(options=with_options)

    def wait(self, references, num_returns=1, timeout=None):
        answered = [one for one in references if self.machines[one[0]][2] and not (self.busy and timeout)]
        assert len(answered) >= num_returns or timeout, "it would wait for ever"
        return answered, [one for one in references if one not in answered]

    def get(self, reference):
        answer = self.machines[reference[0]][2]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def cancel(self, reference):
        self.cancelled.append(reference[0])


@pytest.fixture
def cluster(monkeypatch):
    """Puts such a cluster in Ray's place."""

    def stand_in(**machines):
        ray = Cluster(**machines)
        strategies = ModuleType("strategies")
        strategies.NodeAffinitySchedulingStrategy = lambda node_id, soft: (node_id, soft)
        monkeypatch.setitem(sys.modules, "ray", ray)
        monkeypatch.setitem(sys.modules, "ray.util", ModuleType("util"))
        monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", strategies)
        return ray

    return stand_in


BIG, SMALL = {"CPU": 8.0, "GPU": 2.0}, {"CPU": 1.0}


def test_each_machine_that_can_hold_a_run_is_asked_with_what_a_run_has(cluster, tmp_path):
    ray = cluster(b=(True, BIG, SLOW), a=(True, BIG, FAST), small=(True, SMALL, FAST), gone=(False, BIG, FAST))
    assert RayLauncher(tmp_path, cpus=2, gpus=0.5).auto_precisions("auto") == [("a", FAST), ("b", SLOW)]
    assert ray.options == [{"num_cpus": 2, "num_gpus": 0.5}] * 2


def test_a_machine_without_room_is_not_waited_for_where_others_answer(cluster, tmp_path):
    ray = cluster(a=(True, BIG, FAST), full=(True, BIG, None))
    assert RayLauncher(tmp_path).auto_precisions("auto") == [("a", FAST)]
    assert ray.cancelled == ["full"]


def test_the_first_machine_with_room_is_waited_for_where_none_has_any(cluster, tmp_path):
    ray = cluster(a=(True, BIG, FAST), full=(True, BIG, None))
    ray.busy = True
    assert RayLauncher(tmp_path).auto_precisions("auto") == [("a", FAST)]


def test_a_device_that_the_machines_lack_is_one_line(cluster, tmp_path):
    cluster(a=(True, BIG, UserError("device is cuda, but PyTorch finds 0 CUDA devices here")))
    with pytest.raises(UserError, match="precision is auto, but .* device is cuda, but PyTorch finds 0"):
        RayLauncher(tmp_path).auto_precisions("cuda")


def test_cores_and_gpus_on_different_machines_only_are_refused(cluster, tmp_path):
    cluster(a=(True, {"CPU": 8.0}, FAST), b=(True, {"CPU": 1.0, "GPU": 1.0}, FAST))
    launcher = RayLauncher(tmp_path, cpus=4, gpus=1)
    with pytest.raises(UserError, match="cpus_per_run is 4 and gpus_per_run is 1, but no"), launcher.connected():
        pytest.fail("connected")


def test_a_machine_answers_for_the_device_that_its_run_would_have():
    assert auto_precision_here("cpu", gpus=1) == auto_precision(torch.device("cpu"))


@pytest.mark.parametrize(("gpus", "visible"), [(0, ""), (0.5, "3")])
def test_a_run_without_gpus_sees_none_of_its_machine(gpus, visible, monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")  # Ray names those of a task that has some, and leaves others alone
    seen = []

    def started(_run, environment):
        seen.append((os.environ | environment)["CUDA_VISIBLE_DEVICES"])
        return SimpleNamespace(poll=lambda: 0)

    monkeypatch.setattr(ray_cluster, "RunProcess", started)
    make_run(None, str(tmp_path / "gone"), tmp_path / "stop", gpus)
    auto_precision_here("cpu", gpus)
    assert [*seen, os.environ["CUDA_VISIBLE_DEVICES"]] == [visible, visible]


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
    pytest.importorskip("ray", reason=how_to_install("ray"))
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
    pytest.importorskip("ray", reason=how_to_install("ray"))
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


@pytest.mark.slow
def test_the_machines_of_a_cluster_say_what_auto_is_and_every_run_has_it(tmp_path):
    pytest.importorskip("ray", reason=how_to_install("ray"))
    command = start(
        "ablate", "decoder", "--tasks", CENTRING, "--seeds", 1, "--launcher", "ray", "--work-dir", tmp_path,
        *without(TINY_PIXELS, "--precision"), "--num-train-steps", 20, "--eval-every", 20,
    )  # fmt: skip
    out, err = command.communicate(timeout=300)
    assert command.returncode == 0, out + err
    chosen, reason = auto_precision(torch.device("cpu"))
    assert f"precision: {chosen}, because {reason}\n" in out
    for arm in ("rae", "none"):
        assert (
            configs.load(tmp_path / CENTRING_FOLDER / arm / "1" / "config.yaml", configs.Config()).train.precision
            == chosen
        )


@pytest.mark.parametrize("argv", [["--device", "cuda"], ["--device", "cuda:0", "--gpus-per-run", "0"]])
def test_a_gpu_that_a_run_would_not_see_is_refused(argv, tmp_path, capsys):
    command = ["ablate", "decoder", "--launcher", "ray", "--work-dir", str(tmp_path / "runs"), *argv]
    assert cli.main(command) == 2
    assert "but gpus_per_run is 0, which hides the GPUs; give --gpus-per-run" in capsys.readouterr().err
