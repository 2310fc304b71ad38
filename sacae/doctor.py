"""What works on this machine, what it is worth, and what to install: `sacae doctor`."""

import importlib.metadata
import importlib.util
import platform
import shutil
import time
from collections.abc import Iterator
from typing import Any, Literal

import torch
from rich.console import Console

from sacae import envs
from sacae.errors import UserError, how_to_install
from sacae.replay.memory import MemoryPlan, free_host_memory
from sacae.types import EnvSpec

PACKAGES = ("torch", "numpy", "mujoco", "dm_control", "gymnasium", "sacae")

MATRIX_FEATURES = ("avx512_bf16", "amx_bf16", "amx_fp16")
"""Processor features that speed up training in reduced precision, as PyTorch names them."""

MEASURED_SECONDS = 2.0
"""How long frames are rendered to measure the speed."""

PLANNED_TRANSITIONS = 100_000
"""Size of the replay from which the memory of one transition is worked out."""


def doctor() -> int:
    """Prints rendering, devices, memory and versions. Returns 0, or 1 where nothing can be rendered."""
    console = Console(highlight=False)
    rendering, problem = _rendering()
    packages = ("atari", _atari()), ("versions", _versions())
    findings = [*_describe_rendering(rendering), *_devices(), *_memory(), *packages]
    for label, text in findings:
        _say(console, label, text)
    if problem:
        _say(console, "problem", problem, style="bold red")
    return 1 if problem else 0


def _say(console: Console, label: str, text: str, style: str = "bold") -> None:
    # Names of devices and packages may hold square brackets, which are not markup; pipes get whole lines.
    console.print(f"{label:<10}", style=style, end="", markup=False)
    console.print(text, markup=False, soft_wrap=True)


def _rendering() -> tuple[envs.rendering.Rendering | None, str]:
    """What renders, and "" or what is wrong."""
    try:
        return envs.rendering.configure(), ""
    except UserError as error:
        return None, str(error)


def _describe_rendering(rendering: envs.rendering.Rendering | None) -> Iterator[tuple[str, str]]:
    if rendering is None:
        yield "rendering", "does not work"
        return
    yield "rendering", rendering.describe().removeprefix("rendering: ")
    qualities: tuple[Literal["exact", "fast"], ...] = ("exact", "fast")
    speeds = ", ".join(f"{_renders_per_second(quality):.0f} frames/s {quality}" for quality in qualities)
    yield "", f"{speeds} (render quality), 84x84, cheetah run, one process"
    if rendering.warning:
        yield "", rendering.warning


def _renders_per_second(render_quality: Literal["exact", "fast"]) -> float:
    env = envs.make("cheetah", "run", seed=0, render_quality=render_quality)
    env.reset()  # Renders once, which loads what the first frame needs.
    started, frames = time.perf_counter(), 0
    while time.perf_counter() - started < MEASURED_SECONDS:
        env.render()
        frames += 1
    speed = frames / (time.perf_counter() - started)
    env.close()
    return speed


def _devices() -> Iterator[tuple[str, str]]:
    features: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # Older releases of PyTorch do not tell.
    name = features.get("cpu_name") or platform.processor() or platform.machine()
    fast = ", ".join(f"{feature} {_answer(features.get(feature))}" for feature in MATRIX_FEATURES)
    level = torch.backends.cpu.get_cpu_capability()
    yield "cpu", f"{name}, {torch.get_num_threads()} threads, {level}; {fast}"
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        yield (
            f"cuda:{index}",
            f"{torch.cuda.get_device_name(index)}, {free / 1e9:.1f} GB of {total / 1e9:.1f} GB free, "
            f"{_transitions(free):,} transitions fit; bf16 {_answer(_has_bf16(index))}",
        )
    if not torch.cuda.device_count():
        built = f"PyTorch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "PyTorch is a CPU build"
        seen = ", although there is an NVIDIA GPU" if envs.rendering.has_nvidia_gpu() else ""
        yield "cuda", f"none{seen} ({built})"


def _answer(supported: bool | None) -> str:
    return {None: "unknown", False: "no", True: "yes"}[supported]


def _has_bf16(index: int) -> bool:
    # Ampere and later multiply bfloat16 matrices; older ones only emulate it.
    return torch.cuda.get_device_capability(index) >= (8, 0)


def _memory() -> Iterator[tuple[str, str]]:
    free = free_host_memory()
    yield "memory", f"{free / 1e9:.1f} GB free, {_transitions(free):,} transitions of 9x84x84 fit"
    yield "disk", f"{shutil.disk_usage('.').free / 1e9:.1f} GB free in this folder"


def _transitions(free: int) -> int:
    """How many transitions from pixels fit into so many bytes: each frame is kept once, and stacked when drawn."""
    spec = EnvSpec(frame_shape=(3, 84, 84), frame_dtype="uint8", frame_stack=3, action_dim=6)
    return int(free / MemoryPlan(spec, PLANNED_TRANSITIONS).bytes_per_transition)


def _atari() -> str:
    """Whether games can be played, which is optional."""
    if all(importlib.util.find_spec(package) for package in ("ale_py", "cv2")):
        return f"ale_py {_version('ale-py')}"
    return f"not installed; --env ALE/... needs it; {how_to_install('atari')}"


def _versions() -> str:
    return f"python {platform.python_version()}, " + ", ".join(f"{name} {_version(name)}" for name in PACKAGES)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
