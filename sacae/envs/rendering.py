"""Chooses the OpenGL library that MuJoCo renders with, before MuJoCo is imported.

MuJoCo and dm_control read MUJOCO_GL once, at their import. On a machine without a display, dm_control itself chooses
GLFW, which fails at the first frame. So this module tries the libraries first, each in a process of its own, where a
crash or a hang of a broken driver does no harm. It stores the choice in environment variables, which child processes
inherit, so that a tree of processes tries them only once.
"""

import functools
import json
import os
import platform
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from sacae.errors import UserError

BACKENDS = ("egl", "osmesa", "glfw")
"""Values of MUJOCO_GL for libraries that render."""

OFF_VALUES = ("off", "disable", "disabled", "false", "0")
"""Values of MUJOCO_GL that switch rendering off; this module sets the first."""

GLFW_SYNONYMS = ("on", "enable", "enabled", "true", "1")
"""Other values of MUJOCO_GL that dm_control reads as glfw."""

SOFTWARE_RENDERERS = ("llvmpipe", "softpipe", "swrast", "swr (", "software rasterizer", "basic render")
"""Parts of a renderer's name, in lower case, that mean that the CPU renders."""

DIRECT3D = "D3D12 ("
"""How the name of Mesa's renderer through Direct3D 12 begins, the only one that reaches a GPU under WSL2."""

WSL_LIBRARIES = Path("/usr/lib/wsl/lib")
"""Where Windows puts its drivers' libraries under WSL2."""

RECORD = "SACAE_RENDERING"
"""Environment variable that passes the choice on to child processes."""

PROBE_TIMEOUT = 60.0
"""Seconds after which a library counts as hanging; many, because the first import from a network disk is slow."""

SOFTWARE_PACKAGES = "apt-get install libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libgles2"
OSMESA_PACKAGES = "apt-get install libosmesa6"
GPU_PACKAGES = "apt-get install libegl1 libglvnd0 libgl1 libgles2"
CONTAINER_HINT = "start a container with NVIDIA_DRIVER_CAPABILITIES=all"

# Exits without clean-up: some drivers crash or print during theirs. The renderer's name is printed by then.
_PROBE = """
import os, mujoco
context = mujoco.GLContext(64, 64)
context.make_current()
mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), mujoco.mjtFontScale.mjFONTSCALE_100)
from OpenGL import GL
name = GL.glGetString(GL.GL_RENDERER)
print("GL_RENDERER", name.decode() if name else "unknown", flush=True)
os._exit(0)
"""


@dataclass(frozen=True)
class Rendering:
    """The library that renders frames.

    backend: "egl", "osmesa" or "glfw"; "off" where nothing renders; "native" on macOS and Windows, which use their own.
    renderer: the driver's name for itself (GL_RENDERER); "" where it is unknown.
    problem: why nothing can be rendered and what to do, in one line; "" where rendering works.
    """

    backend: str
    renderer: str = ""
    problem: str = ""

    @property
    def software(self) -> bool:
        """Whether the CPU renders, not a GPU."""
        return any(name in self.renderer.lower() for name in SOFTWARE_RENDERERS)

    @property
    def warning(self) -> str:
        """How to render on the NVIDIA GPU, in one line; "" where there is none, or it renders already."""
        if under_wsl():
            return self._advice_under_wsl()
        if not (self.software and has_nvidia_gpu()):
            return ""
        return (
            f"rendering runs on the CPU although there is an NVIDIA GPU: {GPU_PACKAGES}; {CONTAINER_HINT}, or a list "
            f"that includes graphics; then unset MUJOCO_GL"
        )

    def _advice_under_wsl(self) -> str:
        if self.software:
            return (
                "rendering runs on the CPU under WSL2, where NVIDIA's driver has no OpenGL; Mesa reaches the GPU "
                "through Direct3D 12 on WSLg's display: set GALLIUM_DRIVER=d3d12 and MUJOCO_GL=glfw, or use "
                "--render-quality fast"
            )
        if self.renderer.startswith(DIRECT3D) and "nvidia" not in self.renderer.lower() and has_nvidia_gpu():
            return (
                f"rendering under WSL2 runs on {self.renderer.removeprefix(DIRECT3D).rstrip(')')} although there is an "
                "NVIDIA GPU: set MESA_D3D12_DEFAULT_ADAPTER_NAME=NVIDIA"
            )
        return ""

    def describe(self) -> str:
        """One line, such as `rendering: egl (llvmpipe, software)`."""
        if not self.renderer:
            return f"rendering: {self.backend}"
        name = self.renderer if self.renderer.startswith(DIRECT3D) else self.renderer.split(" (")[0]
        return f"rendering: {self.backend} ({name}{', software' if self.software else ''})"


def configure(required: bool = True) -> Rendering:
    """The OpenGL library of this process and its children, chosen at the first call.

    Sets MUJOCO_GL and PYOPENGL_PLATFORM. Follows the user's MUJOCO_GL if it is set. Otherwise tries GLFW if there is a
    display, then EGL, then OSMesa. On macOS and Windows it tries and sets nothing.

    required: whether the caller needs frames. If not, and nothing renders, rendering is switched off: dm_control can
        then be imported on a machine without any OpenGL library, and `problem` says what is wrong.

    Raises UserError for an unknown value of MUJOCO_GL, and, if required, where nothing renders.
    """
    if platform.system() != "Linux":
        return Rendering("native")
    imported = _imported_backend()
    wanted = imported or _wanted_backend()
    rendering = _recorded(wanted) or (_choose_imported(imported) if imported else _choose(wanted))
    if required and rendering.problem:
        raise UserError(rendering.problem)
    if not imported:
        _export(rendering)
    return rendering


def probe(backend: str) -> tuple[str, str]:
    """Tries one of BACKENDS in a process of its own.

    Returns the renderer's name and "", or "" and why the backend does not work.
    """
    environment = os.environ | _variables(backend)
    if backend == "glfw":
        environment.pop("PYOPENGL_PLATFORM", None)
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        return "", f"no answer in {PROBE_TIMEOUT:.0f} s"
    except OSError as error:
        return "", str(error)
    for line in done.stdout.splitlines():
        if line.startswith("GL_RENDERER "):
            return line.removeprefix("GL_RENDERER ").strip(), ""
    return "", _reason(done)


def has_nvidia_gpu() -> bool:
    """Whether the NVIDIA driver shows a GPU to this process or container."""
    if under_wsl():
        return (WSL_LIBRARIES / "nvidia-smi").exists()
    return Path("/proc/driver/nvidia/version").exists() or any(Path("/dev").glob("nvidia[0-9]*"))


def under_wsl() -> bool:
    """Whether this Linux runs in Windows."""
    try:
        return "microsoft" in Path("/proc/version").read_text().lower()
    except OSError:
        return False


def _imported_backend() -> str | None:
    """The backend with which dm_control was imported; nothing can change it afterwards. None before the import."""
    module = sys.modules.get("dm_control._render")
    return None if module is None else (module.BACKEND or "off")


def _wanted_backend() -> str | None:
    """The backend that MUJOCO_GL names; None where it is not set."""
    value = os.environ.get("MUJOCO_GL", "").strip().lower()
    if value in OFF_VALUES:
        return "off"
    if value in GLFW_SYNONYMS:
        return "glfw"
    if value and value not in BACKENDS:
        raise UserError(
            f"MUJOCO_GL is {value}, but it must be one of {', '.join(BACKENDS)}, or off for no rendering; unset it to "
            f"choose one automatically"
        )
    return value or None


def _recorded(wanted: str | None) -> Rendering | None:
    """The choice that this process or its parent has recorded; None if there is none, or it is not the wanted one."""
    try:
        rendering = Rendering(**json.loads(os.environ[RECORD]))
    except (KeyError, ValueError, TypeError):
        return None
    return rendering if rendering.backend == wanted else None


@functools.cache
def _choose_imported(backend: str) -> Rendering:
    """As `_choose`, once per process, since dm_control's backend is fixed. Child processes may choose another."""
    return _choose(backend)


def _choose(wanted: str | None) -> Rendering:
    if wanted == "off":
        return Rendering("off", problem=_problem_of_off())
    if wanted is not None:
        candidates: tuple[str, ...] = (wanted,)
    else:
        has_display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        candidates = ("glfw", "egl", "osmesa") if has_display else ("egl", "osmesa")
    failures = {}
    for backend in candidates:
        renderer, failures[backend] = probe(backend)
        if not failures[backend]:
            return Rendering(backend, renderer)
    return Rendering("off", problem=_problem(failures))


def _export(rendering: Rendering) -> None:
    """Passes the choice on to the libraries, which read it at their import, and to child processes."""
    os.environ.update(_variables(rendering.backend))
    if rendering.backend not in ("egl", "osmesa"):
        os.environ.pop("PYOPENGL_PLATFORM", None)
    os.environ[RECORD] = json.dumps(asdict(rendering))


def _variables(backend: str) -> dict[str, str]:
    variables = {"MUJOCO_GL": backend}
    if backend in ("egl", "osmesa"):
        # If the two differ, the import of dm_control fails.
        variables["PYOPENGL_PLATFORM"] = backend
    if backend == "osmesa":
        # dm_control frees its contexts after Python has stopped its render thread, which prints an error at every
        # exit. Its EGL contexts do not use that thread.
        variables["DISABLE_RENDER_THREAD_OFFLOADING"] = "1"
    return variables


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """Why a probe printed no renderer, from its status and last line."""
    if done.returncode < 0:
        return f"crashed with {signal.Signals(-done.returncode).name}"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if lines and "'NoneType' object has no attribute" in lines[-1]:
        return "its library is not installed"  # PyOpenGL's error in that case.
    return lines[-1] if lines else f"ended with status {done.returncode} and no message"


def _problem(failures: dict[str, str]) -> str:
    tried = "; ".join(f"{backend}: {failure}" for backend, failure in failures.items())
    if _imported_backend():
        return (
            f"dm_control was imported before an OpenGL library was chosen, and uses one that does not render here "
            f"({tried}); make the environment before importing dm_control, or set MUJOCO_GL=egl"
        )
    set_by_user = os.environ.get("MUJOCO_GL")
    setting = f"MUJOCO_GL is {set_by_user}, which does" if set_by_user else "MUJOCO_GL is not set and none does"
    return (
        f"no OpenGL library renders on this machine: {setting} not work ({tried}); on Debian or Ubuntu: "
        f"{SOFTWARE_PACKAGES} (or {OSMESA_PACKAGES}); with an NVIDIA GPU: {GPU_PACKAGES}, and {CONTAINER_HINT}"
        + ("; or unset MUJOCO_GL to try other libraries" if set_by_user else "")
    )


def _problem_of_off() -> str:
    if _imported_backend():
        return "dm_control was imported with rendering off; unset MUJOCO_GL, or set it to egl, and start Python again"
    return (
        f"MUJOCO_GL is {os.environ['MUJOCO_GL']}, so nothing can be rendered; unset it to choose a library "
        f"automatically, or observe the state instead of pixels"
    )
