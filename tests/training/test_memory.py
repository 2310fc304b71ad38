"""What a training needs beside its replay is counted before anything is allocated or started."""

import dataclasses
import io
import subprocess
import sys

import pytest
import torch
from rich.console import Console

from sacae import config as configs
from sacae.agents import HEADS, make_agent
from sacae.errors import UserError
from sacae.replay import MemoryPlan, choose_storage, memory
from sacae.training import off_policy
from sacae.training import start as starting
from sacae.training.memory import check_update, out_of_memory, update_memory
from sacae.types import EnvSpec

STATE = EnvSpec((17,), "float32", 1, 6)
PIXELS = EnvSpec((3, 84, 84), "uint8", 3, 6)
CPU, GPU = torch.device("cpu"), torch.device("cuda:0")


@pytest.fixture
def free(monkeypatch):
    """Sets what is free, in bytes; on the host beyond its headroom."""

    def set_free(host, gpu=0):
        monkeypatch.setattr(memory, "free_host_memory", lambda: host + memory.HOST_HEADROOM)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (gpu, 10**12))

    return set_free


@pytest.mark.parametrize("agent", ["sac", "td3", "ddpg", "sac_v", "dqn"])
@pytest.mark.parametrize("obs", ["state", "pixels"])
def test_the_estimate_of_the_networks_is_near_what_they_are(agent, obs):
    config = configs.make(agent=agent, obs=obs, precision="fp32", hidden_dim=256)
    choices = 3 if HEADS[agent].settings.DISCRETE_ACTIONS else None
    spec = dataclasses.replace(PIXELS if obs == "pixels" else STATE, num_actions=choices)
    networks = make_agent(spec, config, "cpu")
    parameters = [*networks.parameters()]
    trained = {id(p) for optimizer in networks.optimizers.values() for g in optimizer.param_groups for p in g["params"]}
    real = sum(4 * p.numel() * (4 if id(p) in trained else 1) for p in parameters)
    assert 0.6 < update_memory(spec, config).networks / real < 1.6


PEAKS = """
import resource, sys
import torch
from sacae import config as configs
from sacae.agents import make_agent
from sacae.training.memory import update_memory
from sacae.types import Batch, EnvSpec

torch.set_num_threads(1)
settings, peaks, estimates = eval(sys.argv[1]), [], []
for size in eval(sys.argv[2]):
    config = configs.make(**settings, precision="fp32", batch_size=size)
    side = config.task.image_size
    spec = EnvSpec((17,), "float32", 1, 6) if config.task.obs == "state" else EnvSpec((3, side, side), "uint8", 3, 6)
    agent = make_agent(spec, config, "cpu")
    obs = torch.zeros(size, *spec.obs_shape, dtype=torch.uint8 if spec.from_pixels else torch.float32)
    batch = Batch(obs, torch.zeros(size, 6), torch.zeros(size, 1), torch.ones(size, 1), obs.clone())
    for _ in range(2):
        agent.update(batch, agent.draw_noise(torch.Generator()))
    peaks.append(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    estimates.append(update_memory(spec, config).bytes)
print((estimates[1] - estimates[0]) / (peaks[1] - peaks[0]))
"""
"""How many times the real memory of a larger batch the estimate is, in a process of its own."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is Linux's")
@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({"obs": "state"}, (2048, 16384)),
        ({"preset": "laptop"}, (64, 512)),
        ({}, (32, 128)),
        ({"decoder": "none"}, (32, 128)),
    ],
)
def test_the_estimate_of_a_batch_is_near_the_real_peak(settings, sizes):
    command = [sys.executable, "-c", PEAKS, repr(settings), repr(sizes)]
    ratio = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert 0.6 < ratio < 1.7


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"batch_size": 10**9}, "batch_size is 1,000,000,000, with which an update needs about"),
        ({"hidden_dim": 10**6}, "hidden_dim is 1,000,000, with which an update needs about"),
        ({"hidden_dim": 2**63 - 1}, "hidden_dim is 9,223,372,036,854,775,807, with which an update needs about"),
    ],
)
def test_an_update_that_does_not_fit_is_refused_by_the_setting_that_takes_most(settings, named, free):
    free(host=16 * 10**9)
    config = configs.make(obs="state", **settings)
    with pytest.raises(UserError, match=named):
        check_update(update_memory(STATE, config), config, CPU)


def test_an_update_on_the_gpu_must_fit_there(free):
    config = configs.make(num_train_steps=1000)
    free(host=0, gpu=10**8)
    with pytest.raises(UserError, match="in the memory of cuda:0"):
        check_update(update_memory(PIXELS, config), config, GPU)
    free(host=0, gpu=10**10)
    check_update(update_memory(PIXELS, config), config, GPU)


def test_the_replay_gets_what_the_update_leaves(free):
    plan = MemoryPlan(PIXELS, 1000)
    free(host=plan.bytes + 1000)
    assert choose_storage(plan, CPU, beside=1000) == CPU
    with pytest.raises(UserError, match="replay_capacity is 1,000"):
        choose_storage(plan, CPU, beside=1001)
    free(host=plan.bytes, gpu=plan.frame_bytes + 10**10)
    assert choose_storage(plan, GPU, beside=10**10) == GPU
    assert choose_storage(plan, GPU, beside=10**10 + 1) == CPU


@pytest.mark.parametrize("settings", [{"batch_size": 10**9}, {"hidden_dim": 10**7}, {"num_envs": 1000}])
def test_a_huge_training_is_refused_before_networks_or_processes_are_made(settings, free, tmp_path, monkeypatch):
    def nothing_is_made(*_args, **_keywords):
        raise AssertionError("made before the refusal")

    free(host=3 * 10**9)
    monkeypatch.setattr(off_policy, "make_agent", nothing_is_made)
    monkeypatch.setattr(off_policy, "FrameReplay", nothing_is_made)
    if "num_envs" in settings:
        monkeypatch.setattr(starting.envs, "make_stepper", nothing_is_made)
    config = configs.make(env="Pendulum-v1", obs="state", num_train_steps=100, overlap="num_envs" in settings,
                          save_video=False, device="cpu", work_dir=tmp_path / "run", **settings)  # fmt: skip
    with pytest.raises(UserError, match=f"{next(iter(settings))} is "):
        off_policy.start(config, Console(file=io.StringIO()))
    assert not (tmp_path / "run").exists()


def test_as_many_processes_as_fit_are_allowed_and_one_always_is(free):
    free(host=1000)
    memory.check_processes("parallel", 10, 100, "each run")
    memory.check_processes("parallel", 1, 10**6, "each run")
    with pytest.raises(UserError, match=r"parallel is 11, but each run takes .* enough for 10; change --parallel"):
        memory.check_processes("parallel", 11, 100, "each run")


CPU_MESSAGE = "[enforce fail at alloc_cpu.cpp:126] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"


def in_a_recording():
    """The error with which PyTorch ends the recording of a graph in which memory ran out."""
    ended = RuntimeError("CUDA error: operation failed due to a previous error during capture")
    ended.__context__ = torch.OutOfMemoryError("CUDA out of memory")
    return ended


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError(CPU_MESSAGE),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        in_a_recording(),
    ],
)
@pytest.mark.parametrize(
    ("device", "storage", "named"),
    [
        (CPU, CPU, "batch_size is 128, but host memory has no room left .* lower --batch-size, such as 64, or end"),
        (GPU, CPU, "the memory of cuda:0 has no room left .* lower --batch-size, such as 64, or end"),
        (GPU, GPU, "the memory of cuda:0 .* lower --batch-size, such as 64, or use --replay-device host, or end"),
    ],
)
def test_the_end_of_memory_in_an_update_names_what_to_change(error, device, storage, named):
    config = configs.make()
    with pytest.raises(UserError, match=named), out_of_memory(update_memory(PIXELS, config), config, device, storage):
        raise error


def test_other_errors_in_an_update_stay_what_they_are():
    config = configs.make()
    with pytest.raises(RuntimeError, match="shapes"), out_of_memory(update_memory(PIXELS, config), config, CPU, CPU):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_a_training_whose_memory_ends_stops_with_a_line(make_training, monkeypatch):
    training = make_training("state")

    def fail(*_args, **_keywords):
        raise RuntimeError(CPU_MESSAGE)

    monkeypatch.setattr(training.learner, "update", fail)
    with pytest.raises(UserError, match="batch_size is 4, but host memory has no room left"):
        training.train()
    assert (training.run.folder / "checkpoint" / "state.pt").exists()
