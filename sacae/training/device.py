"""Which device trains, with which arithmetic, and whether its updates are captured."""

import contextlib
import ctypes
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch

from sacae.config import Config
from sacae.errors import UserError

T = TypeVar("T")


def choose_device(setting: str | torch.device) -> torch.device:
    """The device that a `device` setting names; auto is the first CUDA device where there is one, else the CPU.

    Raises UserError for a device that is not there.
    """
    name = str(setting)
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdigit()) or (kind != "cuda" and index):
        raise UserError(f"device is {name}, but it must be auto, cpu, cuda, cuda:N or mps; change --device")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError("device is mps, but PyTorch finds no GPU of Apple here; use --device cpu")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device is {name}, but PyTorch finds {torch.cuda.device_count()} CUDA devices here; "
            "use --device cpu, or install a PyTorch build for your driver (`sacae doctor` shows what it sees)"
        )
    return torch.device("cuda", int(index or 0)) if kind == "cuda" else torch.device(kind)


BF16_CAPABILITY = (8, 0)
"""CUDA compute capability from which a GPU multiplies bfloat16 matrices; older ones only emulate it."""

BF16_FEATURES = ("amx_bf16", "avx512_bf16")
"""Features of a CPU that multiplies bfloat16, as PyTorch names them."""


class Choice(NamedTuple):
    """A precision, and why it is that one, as in "because ..."."""

    precision: str
    reason: str


def choose_precision(setting: str, device: torch.device, from_pixels: bool) -> str:
    """The arithmetic that a `precision` setting names on this device; auto is `auto_precision`'s, from state fp32.

    For a CUDA device it sets whether float32 products may use TF32, so that fp32 means float32. Raises UserError for
    tf32 without a GPU, and for what is not known to work on a GPU of Apple, which computes in fp32.
    """
    if device.type == "mps" and setting not in ("auto", "fp32"):
        raise UserError(f"precision is {setting}, but {device} computes in fp32 only; use --precision fp32 or auto")
    if setting == "tf32" and device.type != "cuda":
        others = "use a CUDA device, or in a new run --precision fp32, bf16 or auto"
        raise UserError(f"precision is tf32, but {device} has none; {others}")
    if setting == "auto":
        setting = auto_precision(device).precision if from_pixels else "fp32"
    if device.type == "cuda":
        _compute_float32([_float32_of(setting)] * len(_float32_switches()))
    return setting


def _float32_of(precision: str) -> str:
    """PyTorch's name of the arithmetic of float32 products on a CUDA device."""
    return "tf32" if precision == "tf32" else "ieee"


def _float32_switches() -> tuple[Any, ...]:
    """Each has an fp32_precision: of matrix products, convolutions and recurrent networks on a CUDA device."""
    cudnn: Any = torch.backends.cudnn  # its types lack both
    return torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn


def _compute_float32(values: Sequence[str]) -> None:
    """Sets the switches. The older ones (allow_tf32) go along: PyTorch refuses to compute where the two disagree."""
    torch.backends.cuda.matmul.allow_tf32 = values[0] == "tf32"
    torch.backends.cudnn.allow_tf32 = values[1] == "tf32"
    for switch, value in zip(_float32_switches(), values):
        switch.fp32_precision = value


@contextlib.contextmanager
def computing_in(precision: str, device: torch.device) -> Iterator[None]:
    """Within the block, float32 products on a CUDA device may use TF32 only if the precision is tf32.

    What the process has chosen is put back: a training may go on around an agent that only plays.
    """
    if device.type != "cuda":
        yield
        return
    before = [switch.fp32_precision for switch in _float32_switches()]  # the older switches cannot always be read
    try:
        _compute_float32([_float32_of(precision)] * len(before))
        yield
    finally:
        _compute_float32(before)


def auto_precision(device: torch.device) -> Choice:
    """What `--precision auto` is from pixels on this device. Only asks what the device has; nothing is computed."""
    if device.type == "cuda":
        return rule(torch.cuda.get_device_capability(device), {})
    if device.type == "mps":
        return Choice("fp32", "a GPU of Apple computes in it")
    return rule(None, torch.cpu.get_capabilities())


def rule(capability: tuple[int, int] | None, features: Mapping[str, object]) -> Choice:
    """bf16 where the device multiplies it itself, else fp32.

    capability: the GPU's; None is a CPU. features: the CPU's, as `torch.cpu.get_capabilities` tells them.
    """
    if capability is not None:
        precision, against = ("bf16", "at least") if capability >= BF16_CAPABILITY else ("fp32", "below")
        has, least = (".".join(map(str, pair)) for pair in (capability, BF16_CAPABILITY))
        return Choice(precision, f"the GPU's compute capability is {has}, {against} {least}")
    had = [feature.upper() for feature in BF16_FEATURES if features.get(feature)]
    if had:
        return Choice("bf16", f"the CPU has {had[0]}")
    return Choice("fp32", f"the CPU has neither {' nor '.join(map(str.upper, BF16_FEATURES))}")


def choose_capture(config: Config, device: torch.device, disagreement: Callable[[], str]) -> tuple[bool, str]:
    """Whether updates run as CUDA graphs, and why not where somebody may expect it; "" where nobody does.

    A setting that names it is followed without a test. disagreement: why captured updates of this agent cannot be
    trusted on this device; "" where they can. It takes seconds and is asked last. Raises UserError where capture is
    asked for on a GPU beside a setting that forbids it.
    """
    asked, forbidden = config.train.capture, _forbids_capture(config)
    if device.type != "cuda":
        return bool(asked), f"{device} has no CUDA graphs" if asked else ""
    if asked and forbidden:
        raise UserError(f"capture is on, but {forbidden}, which cannot be captured; leave --capture out")
    if asked is not None:
        return asked, ""
    problem = forbidden or disagreement()
    return not problem, problem


def _forbids_capture(config: Config) -> str:
    """The setting with which an update cannot be captured, and its value; "" where none is in the way."""
    if config.causal.soft_reset != "off":
        return f"soft_reset is {config.causal.soft_reset}"
    # kornia's crop copies its boxes' corners from host memory, and waits for that.
    return "augment is crop" if config.replay.augment == "crop" else ""


def keep_freed_memory() -> None:
    """Has the C library keep memory that is freed for the next use, where it can (glibc).

    An update on the CPU allocates and frees gigabytes in pieces of some 25 MB. Each piece would go back to the system
    and come back as zeroed pages, which took a tenth of the update's time.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL("libc.so.6")
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, 2**31 - 1)


def use_threads(count: int) -> None:
    """Has PyTorch use so many threads; 0: as many as before an earlier training of this process chose a number."""
    _choose("num_threads", count or None, torch.get_num_threads, torch.set_num_threads)


def compute_deterministically(wanted: bool) -> None:
    """Has PyTorch use only algorithms that give the same bits each time, or no longer does so.

    An operation that has none is an error. To be called before the first operation on a GPU: cuBLAS reads its variable
    when it starts.
    """
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        # Else every page of an empty replay would be touched. PyTorch's types do not know the switch.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    _choose("deterministic", (True, False) if wanted else None, _determinism, _set_determinism)


def _determinism() -> tuple[bool, bool]:
    """Whether an operation that differs each time is an error, or else a warning."""
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_determinism(mode: tuple[bool, bool]) -> None:
    enabled, only_warns = mode
    torch.use_deterministic_algorithms(enabled, warn_only=only_warns)


_chosen: dict[str, tuple[Any, Any]] = {}
"""What trainings of this process have chosen: what PyTorch did before, and what it does since."""


def _choose(name: str, value: T | None, get: Callable[[], T], set_to: Callable[[T], object]) -> None:
    """Sets a mode of PyTorch. None undoes what an earlier training chose, unless somebody else has since."""
    before, ours = _chosen.pop(name, (None, None))
    in_force = ours is not None and get() == ours
    if value is not None:
        _chosen[name] = before if in_force else get(), value
        set_to(value)
    elif in_force:
        set_to(before)


def describe(device: torch.device) -> str:
    """One phrase for people: the GPU's name, or the number of CPU threads."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return "mps" if device.type == "mps" else f"cpu ({torch.get_num_threads()} threads)"
