"""How much memory a replay needs, computed before any is allocated, and on which device its frames fit."""

import bisect
import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from sacae.errors import UserError
from sacae.files import in_units
from sacae.types import EnvSpec

SHORTEST_EPISODE = 125
"""Default of the shortest episode in agent steps that a replay is planned for: 1000 environment steps at action repeat
8."""

DEVICE_HEADROOM = 2 * 2**30
"""Bytes of GPU memory left free for networks, optimisers and activations of training."""

HOST_HEADROOM = 2**29
"""Bytes of host memory left free for libraries, the simulator and saving."""

ROW_NUMBER = np.dtype(np.int64)
"""dtype of an entry in the table of rows that can be sampled; the table has room for one entry per row."""


def column_layout(spec: EnvSpec) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """The small columns of a row, each with its dtype and the shape of one entry.

    action: taken at the row's frame. reward, terminated: result of that action. has_action: False for an episode's
    last frame and for the newest frame, which has no action yet. step: agent steps since the start of the episode.
    state: the physical state that the frame shows, if the specification has one.
    """
    columns = {
        "action": (np.dtype(spec.action_dtype), (spec.action_dim,)),
        "reward": (np.dtype(np.float64), ()),
        "terminated": (np.dtype(np.bool_), ()),
        "has_action": (np.dtype(np.bool_), ()),
        "step": (np.dtype(np.int32), ()),
    }
    return columns | ({"state": (np.dtype(np.float32), (spec.state_dim,))} if spec.state_dim else {})


@dataclass(frozen=True)
class MemoryPlan:
    """The rows and bytes of a replay. Nothing is allocated.

    spec: shape and dtype of a frame and of an action, frame stack.
    capacity: transitions, over all streams.
    num_streams: environments; capacity is split evenly over them, rounded up.
    n_step: rewards summed in a transition.
    episode_length: agent steps of the shortest episode planned for; None is SHORTEST_EPISODE. With shorter episodes
        the replay holds fewer transitions, because every episode needs one row more than it has transitions.

    Raises UserError if a number is below 1.
    """

    spec: EnvSpec
    capacity: int
    num_streams: int = 1
    n_step: int = 1
    episode_length: int | None = None

    def __post_init__(self) -> None:
        _require_at_least_one("replay_capacity", self.capacity)
        _require_at_least_one("num_envs", self.num_streams)
        _require_at_least_one("n_step", self.n_step)
        _require_at_least_one("episode_length", self.shortest_episode)

    @property
    def shortest_episode(self) -> int:
        """Agent steps of the shortest episode planned for."""
        return SHORTEST_EPISODE if self.episode_length is None else self.episode_length

    @property
    def rows_per_stream(self) -> int:
        """Rows that keep a stream's newest ceil(capacity / num_streams) complete transitions available for sampling.

        In the worst case, the oldest of them is the last of its episode. Then ceil(capacity / length) episodes end
        within them, each with a row that has no action. The oldest one's stack needs frame_stack - 1 rows before it.
        After the newest follow n_step - 1 transitions with incomplete returns, and the frame without an action yet.
        """
        transitions = math.ceil(self.capacity / self.num_streams)
        episode_ends = math.ceil(transitions / self.shortest_episode)
        return transitions + episode_ends + (self.spec.frame_stack - 1) + self.n_step

    @property
    def rows(self) -> int:
        """Rows over all streams."""
        return self.num_streams * self.rows_per_stream

    @property
    def frame_bytes(self) -> int:
        """Bytes of all frames."""
        return self.rows * math.prod(self.spec.frame_shape) * np.dtype(self.spec.frame_dtype).itemsize

    @property
    def column_bytes(self) -> int:
        """Bytes of everything except the frames, which is always in host memory."""
        columns = sum(dtype.itemsize * math.prod(shape) for dtype, shape in column_layout(self.spec).values())
        return self.rows * (columns + ROW_NUMBER.itemsize)

    @property
    def bytes(self) -> int:
        """Bytes of the whole replay."""
        return self.frame_bytes + self.column_bytes

    @property
    def bytes_per_transition(self) -> float:
        """Bytes of the whole replay for each transition of its capacity."""
        return self.bytes / self.capacity

    def describe(self, storage: torch.device) -> str:
        """One line for the user: the size of the replay, and in which memory it is."""
        size = f"{self.bytes / 1e9:.2f} GB" if self.bytes >= 10**7 else in_units(self.bytes)
        each = in_units(round(self.bytes_per_transition))
        return f"replay: {self.capacity:,} transitions, {size} in {place(storage)} ({each} each)"


def choose_storage(
    plan: MemoryPlan,
    device: torch.device | str,
    preference: Literal["auto", "device", "host"] = "auto",
    beside: int = 0,
) -> torch.device:
    """The device for the frames of a replay: the training device if it is a CUDA GPU, or the host.

    auto chooses the GPU if the frames fit into its free memory less DEVICE_HEADROOM, and the host otherwise.
    beside: bytes that networks and updates need on the training device.
    A training device that is not a CUDA GPU shares the host's memory.

    Raises UserError if the replay does not fit on the preferred device (or, for auto, on either).
    """
    if preference not in ("auto", "device", "host"):
        raise UserError(f"replay_device is {preference}, but it must be one of auto, device, host")
    device, host = torch.device(device), torch.device("cpu")
    if device.type != "cuda":
        _check_fits(plan, host, beside)
        return host
    if preference == "device" or (preference == "auto" and plan.frame_bytes <= _free_for_replay(device, beside)):
        _check_fits(plan, device, beside)
        return device
    _check_fits(plan, host)
    return host


def _check_fits(plan: MemoryPlan, storage: torch.device, beside: int = 0) -> None:
    """Raises UserError unless the frames fit on `storage`, and the rest of the replay into host memory."""
    on_host = storage.type == "cpu"
    need = plan.bytes if on_host else plan.frame_bytes
    free = _free_for_replay(storage, beside)
    if need > free:
        largest = _largest_capacity(plan, free, on_host)
        advice = f"at most {largest:,} fit: lower --replay-capacity" if largest else "not one transition fits"
        raise UserError(
            f"replay_capacity is {plan.capacity:,}, which needs {need / 1e9:.2f} GB in {place(storage)}, but "
            f"{max(0, free) / 1e9:.2f} GB is free for it; {advice}, free memory"
            + (" or choose a machine with more" if on_host else " or use --replay-device host")
        )
    if not on_host and plan.column_bytes > _free_for_replay(torch.device("cpu")):
        raise UserError(
            f"replay_capacity is {plan.capacity:,}, which needs {plan.column_bytes / 1e9:.2f} GB in host memory in "
            f"addition to its frames, but less is free; lower --replay-capacity or free memory"
        )


def _largest_capacity(plan: MemoryPlan, free: int, on_host: bool) -> int:
    def need(capacity: int) -> int:
        smaller = dataclasses.replace(plan, capacity=capacity)
        return smaller.bytes if on_host else smaller.frame_bytes

    return bisect.bisect_right(range(1, plan.capacity), free, key=need)


def _free_for_replay(storage: torch.device, beside: int = 0) -> int:
    """Bytes that a replay may use on a device. Negative if less than the headroom is free.

    beside: bytes that training needs there; a GPU's headroom is meant for them.
    """
    return free_memory(storage) - (max(DEVICE_HEADROOM, beside) if storage.type == "cuda" else beside)


def free_memory(device: torch.device) -> int:
    """Bytes of a device's memory that a training may use."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    return free_host_memory() - HOST_HEADROOM


def check_processes(name: str, count: int, bytes_each: int, what: str) -> None:
    """Raises UserError unless as many processes fit into free host memory. name: the setting that counts them."""
    free = free_memory(torch.device("cpu"))
    if count * bytes_each > max(free, bytes_each):  # one always may try
        raise UserError(
            f"{name} is {count:,}, but {what} takes about {bytes_each / 1e9:.1f} GB and {max(0, free) / 1e9:.1f} GB is "
            f"free, enough for {max(1, free // bytes_each):,}; change --{name.replace('_', '-')}"
        )


def free_host_memory() -> int:
    """Bytes of host memory still available to this process: the minimum over the machine and its control groups."""
    return min([_machine_free(), *_control_groups_free()])


def _machine_free(meminfo: Path = Path("/proc/meminfo")) -> int:
    try:
        lines = meminfo.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # Not Linux: free memory is unknown, so assume all of it.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _control_groups_free(
    membership: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
) -> list[int]:
    """Free bytes in each control group (version 1 or 2) around this process that limits memory."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    free = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, limit, usage = mount, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root, limit, usage = mount / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        # In a container the path can be the host's, of which only the mount's root exists: skip missing groups.
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(root) and (folder / limit).exists():
                free += _group_free(folder, limit, usage)
    return free


def _group_free(group: Path, limit: str, usage: str) -> list[int]:
    """Free bytes in one control group, as a list that is empty if the group sets no limit."""
    try:
        most = (group / limit).read_text().strip()
        if most == "max":
            return []
        # Cached file pages count as used, but the kernel frees them when memory is needed.
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        cached = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
        return [int(most) - int((group / usage).read_text()) + cached]
    except (OSError, ValueError):
        return []


def place(storage: torch.device) -> str:
    """A device's memory in words."""
    return "host memory" if storage.type == "cpu" else f"the memory of {storage}"


def _require_at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise UserError(f"{name} is {value}, but it must be at least 1; change --{name.replace('_', '-')}")
