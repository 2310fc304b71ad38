"""Which device trains, and with which arithmetic."""

import ctypes
import platform
import time

import torch

from sacae.config import EncoderConfig
from sacae.decoder import PixelDecoder
from sacae.encoder import PixelEncoder, conv_layers
from sacae.errors import UserError
from sacae.types import EnvSpec


def choose_device(name: str) -> torch.device:
    """The device that a `device` setting names; auto is the first CUDA device where there is one, else the CPU.

    Raises UserError for a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()) or (kind == "cpu" and index):
        raise UserError(f"device is {name}, but it must be auto, cpu, cuda or cuda:N; change --device")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device is {name}, but PyTorch finds {torch.cuda.device_count()} CUDA devices here; "
            "use --device cpu, or install a PyTorch build for your driver (`sacae doctor` shows what it sees)"
        )
    return torch.device("cuda", int(index or 0)) if kind == "cuda" else torch.device("cpu")


CANDIDATES = {"cpu": ("fp32", "bf16"), "cuda": ("tf32", "bf16")}
"""What `--precision auto` chooses among."""

WORTH_IT = 0.9
"""Share of the first candidate's time that another must stay under to be chosen: less is noise."""

MEASURED_BATCH = {"cpu": 8, "cuda": 128}


def choose_precision(setting: str, device: torch.device, spec: EnvSpec, encoder: EncoderConfig) -> str:
    """The arithmetic that a `precision` setting names on this device; auto is the fastest of its candidates, measured.

    Sets whether float32 products may use TF32, so that fp32 means float32. Raises UserError for tf32 without a GPU.
    """
    if setting == "tf32" and device.type != "cuda":
        raise UserError(f"precision is tf32, but {device} has none; use --precision fp32, bf16 or auto")
    if setting == "auto":
        setting = _fastest(device, spec, encoder) if spec.from_pixels else "fp32"
    _allow_tf32(setting == "tf32")
    return setting


def _allow_tf32(allow: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = allow
    torch.backends.cudnn.allow_tf32 = allow


def _fastest(device: torch.device, spec: EnvSpec, config: EncoderConfig) -> str:
    shape = spec.obs_shape
    with torch.random.fork_rng():
        encoder = PixelEncoder(shape, config.feature_dim, conv_layers(config))
        decoder = PixelDecoder(shape, encoder)
    network = torch.nn.Sequential(encoder, decoder).to(device)
    obs = torch.zeros((MEASURED_BATCH[device.type], *shape), dtype=torch.uint8, device=device)
    first, *others = CANDIDATES[device.type]
    best, best_seconds = first, WORTH_IT * _seconds(first, network, obs)
    for candidate in others:
        seconds = _seconds(candidate, network, obs)
        if seconds < best_seconds:
            best, best_seconds = candidate, seconds
    return best


def _seconds(precision: str, network: torch.nn.Module, obs: torch.Tensor) -> float:
    """Least time of a forward and backward pass."""
    _allow_tf32(precision == "tf32")
    times = []
    for _ in range(4):
        started = time.perf_counter()
        with torch.autocast(obs.device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = network(obs).float().square().mean()
        loss.backward()
        loss.item()  # waits for the device
        times.append(time.perf_counter() - started)
    return min(times)


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


def describe(device: torch.device) -> str:
    """One phrase for people: the GPU's name, or the number of CPU threads."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)"
