"""The benchmarks run, in sizes too small to say anything about speed."""

import copy
import csv
import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from baselines.train import NAMES
from sacae.errors import UserError
from tests.processes import in_own_group

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

TINY = ["--device", "cpu", "--hidden-dim", "8", "--replay-size", "8", "--rounds", "2", "--updates-per-round", "1"]

REFERENCE = {
    "utils.py": """
import gym, numpy

class Stack(gym.Wrapper):
    pass

class ReplayBuffer:
    def __init__(self, obs_shape, action_shape, capacity, batch_size, device):
        self.obses = numpy.empty((capacity, *obs_shape), numpy.uint8)
        self.next_obses = numpy.empty((capacity, *obs_shape), numpy.uint8)
        self.actions = numpy.empty((capacity, *action_shape), numpy.float32)
        self.rewards = numpy.empty((capacity, 1), numpy.float32)
        self.not_dones = numpy.empty((capacity, 1), numpy.float32)
        self.idx, self.full = 0, False

    def sample(self):
        assert self.full and self.not_dones.all() and self.obses.any()
        return self.obses[:2]
""",
    "sac_ae.py": """
import utils

class SacAeAgent:
    def __init__(self, obs_shape, action_shape, device, decoder_type, **settings):
        assert (obs_shape, action_shape, decoder_type) == ((9, 84, 84), (6,), "pixel")

    def update(self, buffer, logger, step):
        logger.log("train/batch_reward", buffer.sample().sum(), step)
""",
}
"""Stands in for a checkout of the reference implementation: the names that the benchmark uses of it."""


@pytest.fixture
def reference(tmp_path):
    folder = tmp_path / "reference"
    folder.mkdir()
    for name, text in REFERENCE.items():
        (folder / name).write_text(text)
    return folder


def run(script, *argv):
    command = [sys.executable, BENCHMARKS / script, *argv]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)


def test_throughput_times_both_sides_and_says_what_it_skipped(tmp_path, reference):
    out = tmp_path / "out" / "rows.json"
    table = tmp_path / "table.md"
    argv = ["--batch-size", 2, "--reference", reference, "--decoders", "rae", "--layers", 2, "--modes", "eager"]
    argv += ["captured", "--precisions", "fp32", "tf32", "--json", out, "--markdown", table]
    done = run("throughput.py", *TINY, *argv)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(out.read_text())
    assert (row["head"], row["decoder"], row["layers"], row["precision"]) == ("sac", "rae", 2, "fp32")
    assert (row["mode"], row["device"], row["batch_size"], row["rounds"]) == ("eager", "cpu", 2, 2)
    assert row["updates_per_second"] > 0
    assert row["ratio_min"] <= row["ratio"] <= row["ratio_max"]
    assert 0 < row["sample_share"] < 1
    assert row["env_steps_per_second"] is None
    assert "skipped tf32" in done.stderr
    assert "skipped captured" in done.stderr
    assert table.read_text() == done.stdout


@pytest.mark.slow
def test_throughput_times_a_real_training(tmp_path, gl):
    out = tmp_path / "rows.json"
    argv = ["--batch-size", 2, "--decoders", "state", "--layers", 2, "--modes", "eager", "--env-steps", 16]
    done = run("throughput.py", *TINY, *argv, "--render-quality", "fast", "--json", out)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(out.read_text())
    assert row["env_steps_per_second"] > 0
    assert row["ratio"] is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rounds": 0}, ["rounds is 0", "--rounds"]),
        ({"decoders": ("vea",)}, ["decoder is vea", "rae"]),
        ({"device": "cpu", "modes": ("captured",)}, ["nothing is left to time on cpu"]),
    ],
)
def test_throughput_refuses_what_it_cannot_time(monkeypatch, settings, words):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import throughput

    with pytest.raises(UserError) as refusal:
        throughput.plan(throughput.Options(**settings))
    assert all(word in str(refusal.value) for word in words)


def test_throughput_says_in_one_line_that_a_folder_is_no_reference():
    done = run("throughput.py", "--reference", "nowhere")
    assert done.returncode == 2
    assert "reference is nowhere" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_cost_of_the_family_is_in_units_of_sac_aes(tmp_path):
    out, markdown = tmp_path / "out" / "rows.json", tmp_path / "table.md"
    argv = ["--arms", "drqv2", "--batch-size", 2, "--json", out, "--markdown", markdown]
    done = run("family_cost.py", *TINY, *argv)
    assert done.returncode == 0, done.stderr
    beside, row = json.loads(out.read_text())
    assert (beside["arm"], beside["batch_size"], beside["cost"]) == ("sac_ae", 2, 1)
    assert (row["arm"], row["image_size"], row["hidden_dim"], row["updates_per_step"]) == ("drqv2", 84, 8, 0.5)
    assert 0 < row["cost_min"] <= row["cost"] <= row["cost_max"]
    assert markdown.read_text() == done.stdout


@pytest.fixture
def family_cost(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("family_cost")


def test_a_cost_is_to_the_same_round_and_a_step_has_its_presets_updates(family_cost):
    (beside, setup) = family_cost.plan(family_cost.Options(arms=("drqv2",), device="cpu"))
    times = [family_cost.Timing(rates, 0.1) for rates in ([10.0, 40.0, 30.0], [20.0, 10.0, 30.0])]
    row = family_cost.row(setup, times[1], times[0])
    assert [row[f"cost{suffix}"] for suffix in ("_min", "", "_max", "_per_step")] == [0.5, 1, 4, 0.5]
    assert (beside.arm, beside.batch_size, setup.batch_size, setup.config().replay.n_step) == ("sac_ae", 128, 256, 3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"arms": ("drq2",)}, ["no arm 'drq2'", "did you mean drqv2, drq"]),
        ({"rounds": 0}, ["rounds is 0", "--rounds"]),
        ({"device": "cpu", "mode": "captured"}, ["mode is captured, but cpu has none", "--mode"]),
        ({"device": "cpu", "precision": "tf32"}, ["precision is tf32, but cpu has none"]),
    ],
)
def test_what_cannot_be_timed_of_the_family_is_refused(family_cost, settings, words):
    with pytest.raises(UserError) as refusal:
        family_cost.plan(family_cost.Options(**settings))
    assert all(word in str(refusal.value) for word in words)


def test_scaling_writes_points_and_a_picture(tmp_path):
    argv = ["--base-batch-size", 2, "--decoder", "none", "--batch-sizes", 2, "--layers", "--image-sizes"]
    done = run("scaling.py", *TINY, *argv, "--stored-frames", 16, "--output", tmp_path / "out" / "scaling")
    assert done.returncode == 0, done.stderr
    points = json.loads((tmp_path / "out" / "scaling.json").read_text())["points"]
    assert [(point["swept"], point["value"]) for point in points] == [("batch_size", 2), ("replay_size", 16)]
    assert all(point["median"] > 0 for point in points)
    assert (tmp_path / "out" / "scaling.png").stat().st_size > 0


@pytest.mark.parametrize("name", ["SAC", "TD3", "DDPG", "DQN"])
def test_every_algorithm_in_bare_pytorch_updates_all_of_its_policy(name, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    bare = importlib.import_module("bare")
    training = bare.Run(name, "CartPole-v1" if name == "DQN" else "Pendulum-v1", seed_steps=5)
    network = training.agent.q if name == "DQN" else training.agent.actor
    before = copy.deepcopy(network.state_dict())
    for _ in range(10):
        training.step()
    assert not any(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_algorithms_from_state_are_timed_in_turn(tmp_path):
    out, table = tmp_path / "out" / "rows.json", tmp_path / "table.md"
    argv = ["--algos", "q_learning", "--rounds", "2", "--round-seconds", "0.01", "--json", out, "--markdown", table]
    done = run("baselines_throughput.py", *argv)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(out.read_text())
    assert (row["algo"], row["env"], row["rounds"], row["ratio"]) == ("q_learning", "CartPole-v1", 2, None)
    assert 0 < row["env_steps_per_second_min"] <= row["env_steps_per_second"] <= row["env_steps_per_second_max"]
    assert table.read_text() == done.stdout


@pytest.fixture
def baselines_throughput(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("baselines_throughput")


def test_every_algorithm_from_state_is_timed_somewhere(baselines_throughput):
    assert {*baselines_throughput.ENVIRONMENTS} == {
        *NAMES,
        *baselines_throughput.THEIRS.values(),
        *baselines_throughput.BARE.values(),
    } - {"ace"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"algos": ("sacc",)}, ["algos has sacc", "one of bare PyTorch DDPG,", "ddpg,", "--algos"]),
        ({"rounds": 0}, ["rounds is 0", "--rounds"]),
        ({"round_seconds": 0.0}, ["round_seconds is 0.0", "--round-seconds"]),
    ],
)
def test_what_cannot_be_timed_from_state_is_refused(baselines_throughput, settings, words):
    with pytest.raises(UserError) as refusal:
        baselines_throughput.main(baselines_throughput.Options(**settings))
    assert all(word in str(refusal.value) for word in words)


def test_ratios_are_to_the_same_round(baselines_throughput):
    row = baselines_throughput.row("ppo", "CartPole-v1", [10.0, 40.0, 30.0], [[10.0, 20.0, 5.0], [20.0, 10.0, 30.0]])
    assert [row[f"ratio{suffix}"] for suffix in ("_min", "", "_max")] == [1, 2, 6]
    assert [row[f"ratio_bare{suffix}"] for suffix in ("_min", "", "_max")] == [0.5, 1, 4]
    assert [row[f"env_steps_per_second{suffix}"] for suffix in ("_min", "", "_max")] == [10, 30, 40]


@pytest.fixture
def endurance(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("endurance")


watched_through_proc = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="needs /proc/PID/smaps_rollup"
)


@watched_through_proc
def test_a_training_is_watched_until_it_ends(tmp_path):
    out, table = tmp_path / "looks.json", tmp_path / "table.md"
    argv = ["--kinds", "state", "--steps", 400, "--seconds", 0.05, "--json", out, "--markdown", table]
    done = run("endurance.py", *argv)
    assert done.returncode == 0, done.stderr
    state = json.loads(out.read_text())["state"]
    assert f"## From state: {state['verdict']}" in table.read_text() == done.stdout
    assert max(look["step"] for look in state["looks"]) >= 360
    assert max(look["descriptors"] for look in state["looks"]) > 3
    assert max(look["threads"] for look in state["looks"]) >= 2  # The environment's process counts.
    assert max(look["memory"] for look in state["looks"]) > 10**8


@watched_through_proc
def test_a_look_counts_what_descendants_hold(endurance):
    code = "import os, sys; kept = [os.open('/dev/null', 0) for _ in range(100)]; b = b'1' * 10**8; print(flush=True)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code + '; sys.stdin.read()'!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        look = endurance.look(process.pid, 7)
    assert look.step == 7
    assert 100 < look.descriptors < 150
    assert 10**8 < look.memory < 1.5 * 10**8
    assert look.threads == 2


@pytest.mark.parametrize(
    ("grows", "verdict"),
    [
        ({}, "flat"),
        ({"memory": 10**3}, "flat"),
        ({"memory": 10**5}, "not flat: memory"),
        ({"descriptors": 1, "threads": 1}, "not flat: descriptors, threads"),
    ],
)
def test_what_grows_in_the_second_half_is_not_flat(endurance, grows, verdict):
    start = {"memory": 10**7, "descriptors": 10, "threads": 4}
    steps = [*range(0, 101, 5)]
    looks = [endurance.Look(i, **{k: v + i * grows.get(k, 0) for k, v in start.items()}) for i in steps]
    assert endurance.verdict(looks) == verdict
    passing = endurance.Look(90, 10**9, 100, 100)  # such as the program that writes a video
    assert endurance.verdict(sorted([*looks, passing], key=lambda look: look.step)) == verdict


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kinds": ("pixel",)}, ["kinds has pixel", "state and pixels", "--kinds"]),
        ({"steps": 10}, ["steps is 10", "--steps"]),
        ({"seconds": 0.0}, ["seconds is 0.0", "--seconds"]),
    ],
)
def test_what_cannot_be_watched_is_refused(endurance, settings, words):
    with pytest.raises(UserError) as refusal:
        endurance.main(endurance.Options(**settings))
    assert all(word in str(refusal.value) for word in words)


def test_a_training_that_fails_while_it_is_watched_is_one_line(endurance):
    with pytest.raises(UserError, match="ended with status 2: .*batch_size is 0"):
        endurance.watch(["--batch-size", "0"], 0.05)


def test_the_cost_of_protection_is_a_share_for_each_guard(tmp_path):
    table = tmp_path / "table.md"
    done = run("safety.py", "--steps", 1200, "--markdown", table)
    assert done.returncode == 0, done.stderr
    lines = table.read_text().splitlines()
    assert lines == done.stdout.splitlines()
    calls = {cells[1].strip(): int(cells[2]) for line in lines if (cells := line.split("|"))[3:] and "%" in line}
    assert calls["actions are finite"] == 1200
    assert calls["rewards are finite and below 1e20"] > 1200  # those of the evaluations too
    assert min(calls.values()) > 0


def gpu_day(*argv):
    command = ["bash", str(BENCHMARKS / "gpu_day.sh"), *map(str, argv)]
    environment = os.environ | {"PYTHON": sys.executable}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        ([], "--out is missing"),
        (["8", "--out", "x"], "8 is unknown"),
        (["--out"], "a value is missing"),
        (["--out", "x", "--reference", "nowhere"], "--reference nowhere is no folder"),
    ],
)
def test_a_wrong_call_of_the_gpu_day_says_how_it_is_called(argv, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = gpu_day(*argv)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("usage: ")]
    assert named in line


def test_packages_come_from_the_folder_or_archive_that_is_named(tmp_path):
    site, fake = tmp_path / "site", tmp_path / "python"
    (site / "lib").mkdir(parents=True)
    (site / "brought.py").touch()
    program = "import brought, os; print(os.environ['LD_LIBRARY_PATH'])"
    fake.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{program}"\n')
    fake.chmod(0o755)
    with tarfile.open(tmp_path / "site.tar.gz", "w:gz") as archive:
        archive.add(site, ".")
    for given in (site, tmp_path / "site.tar.gz"):
        environment = os.environ | {"PYTHON": str(fake), "SITE": str(given)}
        command = ["bash", str(BENCHMARKS / "gpu_day.sh"), "3", "--dry-run", "--out", str(tmp_path / "out")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 1  # there are no results of what only prints
        assert "brought" not in done.stdout + done.stderr
        assert "/lib" in done.stdout


def test_ctrl_c_ends_the_step_and_all_that_would_follow(tmp_path):
    fake = tmp_path / "python"
    fake.write_text(
        f"#!{sys.executable}\nimport signal, sys, time\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(print('saved')))\n"
        "if 'sacae' in sys.argv:\n    print('ready', flush=True)\n    time.sleep(30)\n"
    )
    fake.chmod(0o755)
    words = "bash", BENCHMARKS / "gpu_day.sh", "1", "--dry-run", "--out", tmp_path / "out"
    process = in_own_group(*words, env=os.environ | {"PYTHON": str(fake)}, stderr=subprocess.DEVNULL)
    begun = "".join(itertools.takewhile(lambda line: line != "ready\n", process.stdout))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "sacae doctor" in begun
    assert "saved\n=== status" in said  # 130 where the step ended before the shell looked after it
    assert "pytest" not in said
    assert "saved" in (tmp_path / "out" / "part1.log").read_text()


ARMS = {
    "paper.tar.gz": ["none", "rae"],
    "laptop.tar.gz": ["none", "rae"],
    "heads.tar.gz": ["ddpg", "discrete_sac", "td3"],
    "dqn.tar.gz": ["dqn"],
    "family.tar.gz": ["curl", "drq", "drqv2", "rad"],
    "n-step.tar.gz": ["n_step=3"],
}
"""Arms of the trainings in each archive that a part leaves."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "files"),
    [
        (1, ["captured.json", "resume.json"]),
        (2, ["throughput.json", "profile.md", "training.json", "sampling.json"]),
        (3, ["paper.tar.gz"]),
        (4, ["laptop.tar.gz"]),
        (5, ["heads.tar.gz", "dqn.tar.gz"]),
        (6, ["family.tar.gz"]),
        (7, ["n-step.tar.gz"]),
    ],
)
def test_each_part_of_the_gpu_day_runs_on_a_cpu_in_tiny_sizes(part, files, tmp_path):
    done = gpu_day(part, "--dry-run", "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {*files, f"part{part}.log"}
    assert len(files) < 5
    for file in filter(ARMS.get, files):
        with tarfile.open(tmp_path / file) as archive:
            runs = [name.split("/")[1:] for name in archive.getnames()]
        assert sorted(runs) == [["cheetah_run", arm, "1", "eval.csv"] for arm in ARMS[file]]
    if part == 2:
        throughput, training = (
            json.loads((tmp_path / name).read_text()) for name in ("throughput.json", "training.json")
        )
        assert {row["mode"] for row in throughput} >= {"eager"}
        assert [row["num_envs"] for row in training] == [1, 4]
        assert all(row["env_steps_per_second"] > 0 for row in training)
    if part == 1:
        compared = json.loads((tmp_path / "captured.json").read_text())
        assert [row["parameters"] for row in compared] == [0, 0]  # a CPU captures nothing, and repeats its sums
        assert all(row["largest_difference"] == 0 for row in json.loads((tmp_path / "resume.json").read_text()))


@pytest.fixture
def gpu_checks(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("gpu_checks")


def test_rows_differ_by_their_numbers_but_not_by_their_times(gpu_checks):
    first = [{"env_step": "10", "critic_loss": "2.0", "hours": "1.0", "env_steps_per_second": "5", "none": ""}]
    later = [first[0] | {"hours": "2.0", "env_steps_per_second": "7"}]
    assert gpu_checks.largest(first, later) == 0
    assert gpu_checks.largest(first, [later[0] | {"critic_loss": "2.5"}]) == 0.25
    assert gpu_checks.largest(first, first * 2) == "2 rows"


def training_of(folder, program):
    log = folder.with_name(f"{folder.name}.log")
    with log.open("w") as file:
        command = [sys.executable, "-c", program]
        return subprocess.Popen(command, stdout=file, stderr=file, process_group=0)


def test_a_training_that_fails_or_hangs_leaves_the_other_comparisons(gpu_checks, tmp_path, capsys):
    folder, soon = tmp_path / "run", time.monotonic() + 60
    rows = f"from pathlib import Path; f = Path({str(folder)!r}); f.mkdir()"
    rows += "; [(f / name).write_text('a\\n1\\n') for name in ('train.csv', 'eval.csv')]"
    fails = "print('the start'); raise SystemExit('out of memory')"
    hangs = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    whole = gpu_checks.rows_of(folder, training_of(folder, rows), soon)
    failed = gpu_checks.rows_of(folder, training_of(folder, fails), soon)
    hung = gpu_checks.rows_of(folder, training_of(folder, hangs), time.monotonic())
    assert whole == [{"a": "1"}] * 2
    assert failed == "a training ended with status 1: out of memory"
    assert hung == "a training ended with status none in time: no output"
    assert "the start" in capsys.readouterr().out
    assert gpu_checks.comparison(whole, whole) == {"rows": 2, "largest_difference": 0}
    assert gpu_checks.comparison(whole, failed) == gpu_checks.comparison(failed, whole) == {"problem": failed}


def test_a_precision_that_fails_is_a_row_and_a_status_beside_the_others(gpu_checks, tmp_path, monkeypatch, capsys):
    def captured_in(precision, options, device):
        if precision == "fp32":
            raise RuntimeError("CUDA error: an illegal memory access\nmore")
        return [{"check": "captured", "precision": precision, "parameters": 0.0}]

    monkeypatch.setattr(gpu_checks, "captured_in", captured_in)
    out = tmp_path / "rows.json"
    with pytest.raises(UserError, match="1 comparisons could not be made: CUDA error: an illegal memory access$"):
        gpu_checks.main(gpu_checks.Options(check="captured", device="cpu", json=out))
    assert [row.get("problem", row.get("parameters")) for row in json.loads(out.read_text())] == [
        "CUDA error: an illegal memory access",
        0.0,
    ]
    assert "Traceback" in capsys.readouterr().err


def test_a_kernels_time_counts_once(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    profile_update = importlib.import_module("profile_update")

    def event(key, kind, microseconds, note=False):
        return SimpleNamespace(
            key=key,
            device_type=kind,
            self_device_time_total=microseconds,
            self_cpu_time_total=1,
            is_user_annotation=note,
        )

    cpu, gpu = torch.autograd.DeviceType.CPU, torch.autograd.DeviceType.CUDA
    events = [event("aten::convolution", cpu, 4e6), event("aten::tanh", cpu, 2e6), event("sm90_fprop", gpu, 4e6)]
    events += [event("tanh_kernel", gpu, 2e6), event("Optimizer.step", gpu, 6e6, note=True)]
    profiled = SimpleNamespace(key_averages=lambda: events)
    kinds = profile_update.operator_seconds(profiled, 2, on_gpu=True)
    assert kinds == {"convolution, forward": 2.0, profile_update.OTHER: 1.0}
    kernels = profile_update.kernel_seconds(profiled, 2)
    assert kernels == {"sm90_fprop": 2.0, "tanh_kernel": 1.0}
    assert profile_update.table("kernels", kernels, 1)[2:] == ["| sm90_fprop | 67% | 2000.0 |", ""]


@pytest.fixture
def operators(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("operators")


def test_operators_are_counted_without_those_by_which_a_cpu_implements_them(operators):
    x, layer = torch.ones(2, 3), torch.nn.Linear(3, 4)

    def update():
        torch._foreach_add_([x, x], 1.0)  # one launch, however many tensors
        return layer(x).view(8).t().isfinite()  # two operators that make no launch; isfinite is four on a CPU or a GPU

    counts = operators.counted(update)
    launches = {name.removeprefix("launch "): n for name, n in counts.items() if name.startswith("launch ")}
    assert launches == {"_foreach_add_": 2, "addmm": 2, "eq": 2, "abs": 2, "ne": 2, "mul": 2}
    assert counts.row == {"operators": 5, "launches": 6}


def test_operators_of_each_row_are_written_as_a_table(operators, tmp_path):
    out = tmp_path / "out" / "rows.csv"
    rows = operators.main(operators.Options(cases=("dqn, state", "td3, state"), csv=out))
    assert [row["case"] for row in rows] == ["dqn, state", "td3, state"]
    assert all(0 < row["launches"] < row["operators"] < 200 for row in rows)
    assert out.read_text().splitlines()[0] == "case,update,operators,launches"
    with pytest.raises(UserError, match="cases has pong, but there are sac, pixels;"):
        operators.main(operators.Options(cases=("pong",)))


def test_the_committed_counts_are_those_of_this_code(operators):
    """Launches on a GPU are what an update costs: whoever adds some sees it here, and counts anew if it must be."""
    with (BENCHMARKS / "results" / "operators.csv").open() as file:
        written = {row["case"]: float(row["launches"]) for row in csv.DictReader(file) if row["update"] == "eager"}
    assert written.keys() == operators.CASES.keys()
    for case in ("sac, state", "td3, state", "sac, pixels"):
        found = operators.counted(operators.update_of(operators.CASES[case])).row["launches"]
        assert found <= written[case] * 1.1, case  # processors differ in what oneDNN does for them
