"""Renders on the GPU that trains: finds the device of EGL that is a GPU of CUDA, without making a context.

EGL counts its devices in another order than CUDA, and there may be one of Mesa's among them. MuJoCo and dm_control read
MUJOCO_EGL_DEVICE_ID at their import, and take the first device that works without it. Run as a script, this file prints
the number that CUDA gives each device, so that a driver that crashes does no harm.
"""

import ctypes
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

DEVICE_ID = "MUJOCO_EGL_DEVICE_ID"
"""Environment variable of MuJoCo and dm_control: the place of a device in EGL's list."""

OURS = "SACAE_EGL_DEVICE_ID"
"""Environment variable that has the same value where this module chose it, and not the user."""

LIBRARY = "libEGL.so.1"
EGL_CUDA_DEVICE_NV = 0x323A
"""The attribute of the extension EGL_NV_device_cuda: the number of the device in CUDA."""

MOST_DEVICES = 64
QUERY_TIMEOUT = 20.0
"""Seconds after which a driver counts as hanging."""


def use_gpu(index: int) -> str:
    """Has MuJoCo render on that GPU in this process and its children; says in one line on which EGL device, or "".

    Nothing is set where the user's MUJOCO_EGL_DEVICE_ID or MUJOCO_GL decides, where EGL has one device, where none is
    known to be that GPU or that one does not render, and where a simulator has EGL open already.

    index: the GPU's number in this process, as in cuda:N. Call it before a simulator is imported.
    """
    from sacae.envs import rendering  # not at the top, because this file is also a script

    chosen_before = os.environ.get(OURS)
    if platform.system() != "Linux" or os.environ.get("MUJOCO_GL", "egl").strip().lower() not in ("", "egl"):
        return ""
    if os.environ.get(DEVICE_ID) != chosen_before or "dm_control._render" in sys.modules or "mujoco.egl" in sys.modules:
        return ""
    for name in (DEVICE_ID, OURS):
        os.environ.pop(name, None)
    device = device_of_gpu(index, query(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    if device is None:
        return ""
    os.environ[DEVICE_ID] = os.environ[OURS] = str(device)
    _, problem = rendering.probe("egl")
    if problem:
        for name in (DEVICE_ID, OURS):
            del os.environ[name]
        return ""
    return f"rendering: with EGL on device {device}, which is cuda:{index}; {DEVICE_ID} changes it"


def device_of_gpu(index: int, numbers: Sequence[int | None], visible: str | None) -> int | None:
    """The place in EGL's list of the GPU that is cuda:index here; None where there is no choice or it is not known.

    numbers: what CUDA calls each device of EGL; None for a device that is no GPU of NVIDIA. visible: the value of
    CUDA_VISIBLE_DEVICES. Drivers differ in whether it renumbers the devices of EGL too.
    """
    if len(numbers) < 2:
        return None
    known = {number: place for place, number in enumerate(numbers) if number is not None}
    if visible is None:
        return known.get(index)
    names = [name.strip() for name in visible.split(",") if name.strip()]
    physical = [int(name) for name in names if name.isdecimal()]
    if index >= len(names):
        return None
    if physical == [*range(len(names))]:
        return known.get(index)
    if sorted(physical) == [*range(len(names))]:  # only the order tells, and not whether EGL follows it
        return None
    if known.keys() == {*range(len(names))}:  # renumbered
        return known[index]
    return known.get(physical[index]) if len(physical) == len(names) else None


def query() -> list[int | None]:
    """What CUDA calls each device of EGL, in EGL's order, asked in a process of its own; [] where EGL does not tell."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", __file__],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=QUERY_TIMEOUT,
        )
        return [None if number is None else int(number) for number in json.loads(done.stdout)]
    except (OSError, subprocess.TimeoutExpired, ValueError, TypeError):
        return []


def cuda_numbers(library: Any) -> list[int | None]:
    """As `query`, in this process. library: libEGL, a ctypes.CDLL."""
    find = library.eglGetProcAddress
    find.restype, find.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    devices_at, attribute_at = find(b"eglQueryDevicesEXT"), find(b"eglQueryDeviceAttribEXT")
    if not (devices_at and attribute_at):
        return []
    pointers, integers = ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int)
    query_devices = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, pointers, integers)(devices_at)
    values = ctypes.POINTER(ctypes.c_ssize_t)
    query_attribute = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_void_p, ctypes.c_int, values)(attribute_at)
    devices, count = (ctypes.c_void_p * MOST_DEVICES)(), ctypes.c_int()
    if not query_devices(MOST_DEVICES, devices, ctypes.byref(count)):
        return []
    numbers: list[int | None] = []
    for device in devices[: count.value]:
        number = ctypes.c_ssize_t()
        known = query_attribute(device, EGL_CUDA_DEVICE_NV, ctypes.byref(number))
        numbers.append(number.value if known else None)
    return numbers


if __name__ == "__main__":
    print(json.dumps(cuda_numbers(ctypes.CDLL(LIBRARY))), flush=True)
    os._exit(0)  # Some drivers crash in their clean-up.
