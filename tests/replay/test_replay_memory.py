"""What a replay takes, told before it is taken, and the refusal of what does not fit."""

import re

import pytest
import torch

from sacae.errors import UserError
from sacae.replay import FrameReplay, MemoryPlan, choose_storage, memory
from sacae.types import EnvSpec

PIXELS = EnvSpec((3, 84, 84), "uint8", 3, 6)
CPU, GPU = torch.device("cpu"), torch.device("cuda:0")


@pytest.fixture
def free(monkeypatch):
    """Sets what is free, in bytes, beyond the headroom."""

    def set_free(host, gpu=0):
        monkeypatch.setattr(memory, "free_host_memory", lambda: host + memory.HOST_HEADROOM)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (gpu + memory.DEVICE_HEADROOM, 10**12))

    return set_free


@pytest.mark.parametrize("capacity", [10_000, 100_000, 1_000_000])
@pytest.mark.parametrize("n_step", [1, 3])
def test_a_transition_from_pixels_takes_at_most_21_5_kilobytes(capacity, n_step):
    spec = EnvSpec((3, 84, 84), "uint8", 3, 21)
    assert MemoryPlan(spec, capacity, 1, n_step, 125).bytes_per_transition <= 21_500


def test_a_hundred_thousand_transitions_take_at_most_two_point_two_gigabytes():
    assert MemoryPlan(PIXELS, 100_000).bytes <= 2.2e9


def test_the_plan_is_what_the_replay_allocates():
    replay = FrameReplay(EnvSpec((3, 4, 4), "uint8", 3, 2), 50, 3, 2)
    arrays = [*replay._columns.values(), replay._table._numbers]
    assert replay._frames.frames.nbytes == replay.plan.frame_bytes
    assert sum(array.nbytes for array in arrays) == replay.plan.column_bytes


def test_the_description_is_one_line_for_the_user():
    plan = MemoryPlan(PIXELS, 125_000, episode_length=250)
    assert plan.describe(CPU) == "replay: 125,000 transitions, 2.66 GB in host memory (21.3 kB each)"
    assert plan.describe(GPU) == "replay: 125,000 transitions, 2.66 GB in the memory of cuda:0 (21.3 kB each)"


def test_a_small_replay_is_described_in_small_units():
    plan = MemoryPlan(EnvSpec((5,), "float32", 1, 1), 400)
    assert plan.describe(CPU) == f"replay: 400 transitions, {plan.bytes / 1e3:.1f} kB in host memory (47 bytes each)"


def test_auto_takes_the_gpu_when_the_frames_fit_and_the_host_otherwise(free):
    plan = MemoryPlan(PIXELS, 1000)
    free(host=plan.bytes, gpu=plan.frame_bytes)
    assert choose_storage(plan, GPU, "auto") == GPU
    free(host=plan.bytes, gpu=plan.frame_bytes - 1)
    assert choose_storage(plan, GPU, "auto") == CPU


def test_a_preference_is_followed(free):
    plan = MemoryPlan(PIXELS, 1000)
    free(host=plan.bytes, gpu=plan.frame_bytes)
    assert choose_storage(plan, GPU, "host") == CPU
    assert choose_storage(plan, GPU, "device") == GPU
    assert choose_storage(plan, CPU, "device") == CPU


def test_what_does_not_fit_is_refused_with_the_largest_capacity_that_would(free):
    plan = MemoryPlan(PIXELS, 1_000_000, num_streams=3, n_step=3)
    free(host=10**10)
    with pytest.raises(UserError) as refused:
        choose_storage(plan, CPU, "auto")
    message = str(refused.value)
    assert re.fullmatch(
        r"replay_capacity is 1,000,000, which needs 21\.38 GB in host memory, but 10\.00 GB is free for it; "
        r"at most [\d,]+ fit: lower --replay-capacity, free memory or choose a machine with more",
        message,
    )
    largest = int(re.search(r"at most ([\d,]+)", message)[1].replace(",", ""))
    choose_storage(MemoryPlan(PIXELS, largest, 3, 3), CPU, "auto")
    with pytest.raises(UserError):
        choose_storage(MemoryPlan(PIXELS, largest + 1, 3, 3), CPU, "auto")


def test_a_gpu_that_is_too_small_is_refused_when_it_is_wanted(free):
    free(host=10**12, gpu=10**9)
    with pytest.raises(UserError, match=r"the memory of cuda:0, but 1\.00 GB is free.*--replay-device host"):
        choose_storage(MemoryPlan(PIXELS, 100_000), GPU, "device")


def test_a_host_without_room_for_the_columns_is_refused(free):
    free(host=1000, gpu=10**12)
    with pytest.raises(UserError, match="in host memory in addition to its frames"):
        choose_storage(MemoryPlan(PIXELS, 100_000), GPU, "device")


def test_less_than_the_headroom_is_refused_without_a_negative_number(free):
    free(host=-5)
    with pytest.raises(UserError, match=r"0\.00 GB is free for it; not one transition fits"):
        choose_storage(MemoryPlan(PIXELS, 10), CPU)


def test_an_unknown_preference_is_refused():
    with pytest.raises(UserError, match="replay_device is disk, but it must be one of auto, device, host"):
        choose_storage(MemoryPlan(PIXELS, 10), CPU, "disk")


def test_memory_is_taken_when_the_replay_is_made_and_a_lack_of_it_is_told_then():
    with pytest.raises(UserError, match="replay_capacity needs .* frames on cpu, more than its memory holds"):
        FrameReplay(PIXELS, 10**12)


def test_the_machine_tells_what_is_free(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal:  9000 kB\nMemAvailable:  4000 kB\n")
    assert memory._machine_free(tmp_path / "meminfo") == 4000 * 1024
    assert memory._machine_free(tmp_path / "missing") > 0
    assert memory.free_host_memory() > 0


def write_group(folder, **contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        (folder / name.replace("memory_", "memory.")).write_text(text)


def test_control_groups_of_version_2_limit_what_is_free(tmp_path):
    (tmp_path / "cgroup").write_text("0::/slice/job\n")
    write_group(tmp_path / "slice", memory_max="1000\n", memory_current="600\n", memory_stat="inactive_file 50\n")
    write_group(tmp_path / "slice/job", memory_max="max\n", memory_current="500\n", memory_stat="inactive_file 50\n")
    assert memory._control_groups_free(tmp_path / "cgroup", tmp_path) == [450]


def test_control_groups_of_version_1_limit_what_is_free_in_a_container(tmp_path):
    # The path is the host's and does not exist inside; the mount's root is the container's own group.
    (tmp_path / "cgroup").write_text("3:cpu,cpuacct:/docker/1\n2:memory:/docker/1\n")
    write_group(
        tmp_path / "memory",
        memory_limit_in_bytes="1000\n",
        memory_usage_in_bytes="600\n",
        memory_stat="inactive_file 1\ntotal_inactive_file 20\n",
    )
    assert memory._control_groups_free(tmp_path / "cgroup", tmp_path) == [420]


def test_a_machine_without_control_groups_is_not_limited_by_them(tmp_path):
    assert memory._control_groups_free(tmp_path / "missing", tmp_path) == []
