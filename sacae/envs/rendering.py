"""Chooses the OpenGL library that MuJoCo renders with, before MuJoCo is imported.

MuJoCo and dm_control read MUJOCO_GL once, at their import, and dm_control's own choice on a machine without a display
is GLFW, which fails at the first frame. So libraries are tried here first, each in a process of its own, where a crash
or a hang of a broken driver does no harm. The choice is kept in environment variables, which child processes inherit:
one process tree tries once.
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
"""Values of MUJOCO_GL that render."""

OFF_VALUES = ("off", "disable", "disabled", "false", "0")
"""Values of MUJOCO_GL with which nothing is rendered; the first is what is set here."""

GLFW_SYNONYMS = ("on", "enable", "enabled", "true", "1")
"""Other values of MUJOCO_GL that dm_control takes for glfw."""

SOFTWARE_RENDERERS = ("llvmpipe", "softpipe", "swrast", "swr (", "software rasterizer")
"""Parts of the renderer's name, in lower case, when the processor draws."""

RECORD = "SACAE_RENDERING"
"""Environment variable that tells child processes what was found."""

PROBE_TIMEOUT = 60.0
"""Seconds after which a library counts as hanging; long, because the first import from a network disk is slow."""

SOFTWARE_PACKAGES = "apt-get install libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libgles2"
OSMESA_PACKAGES = "apt-get install libosmesa6"
GPU_PACKAGES = "apt-get install libegl1 libglvnd0 libgl1 libgles2"
CONTAINER_HINT = "start a container with NVIDIA_DRIVER_CAPABILITIES=all"

# Ends without clean-up: some drivers crash or print while they are torn down, and the answer is out by then.
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
    """What frames are rendered with.

    backend: "egl", "osmesa" or "glfw"; "off" where nothing renders; "native" on macOS and Windows, whose own library is
        used.
    renderer: the driver's name of itself (GL_RENDERER); "" where it is not known.
    problem: why nothing can be rendered and what to do about it, one line; "" where rendering works.
    """

    backend: str
    renderer: str = ""
    problem: str = ""

    @property
    def software(self) -> bool:
        """Whether the processor draws instead of a graphics card."""
        return any(name in self.renderer.lower() for name in SOFTWARE_RENDERERS)

    @property
    def warning(self) -> str:
        """What keeps an NVIDIA GPU from rendering and what to do about it, one line; "" where nothing does."""
        if not (self.software and has_nvidia_gpu()):
            return ""
        return (
            f"rendering runs on the processor although there is an NVIDIA GPU: {GPU_PACKAGES}; {CONTAINER_HINT}, or a "
            f"list that has graphics in it; then unset MUJOCO_GL"
        )

    def describe(self) -> str:
        """One line, such as `rendering: egl (llvmpipe, software)`."""
        if not self.renderer:
            return f"rendering: {self.backend}"
        name = self.renderer.split(" (")[0]
        return f"rendering: {self.backend} ({name}{', software' if self.software else ''})"


def configure(required: bool = True) -> Rendering:
    """The OpenGL library of this process and its children, chosen at the first call.

    Sets MUJOCO_GL and PYOPENGL_PLATFORM. A MUJOCO_GL that the user set is honoured. Where it is not set, GLFW is tried
    if there is a display, then EGL, then OSMesa. On macOS and Windows nothing is tried and nothing set.

    required: whether the caller cannot do without frames. Otherwise, where nothing renders, rendering is switched off:
        dm_control can then be imported on a machine without any OpenGL library, and `problem` says what is wrong.

    Raises UserError where MUJOCO_GL has no such value, and, if required, where nothing renders.
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

    Returns the renderer's name and "", or "" and why it does not work.
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
    return Path("/proc/driver/nvidia/version").exists() or any(Path("/dev").glob("nvidia[0-9]*"))


def _imported_backend() -> str | None:
    """The backend that dm_control has taken already, after which nothing can change it."""
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
            f"MUJOCO_GL is {value}, but it must be one of {', '.join(BACKENDS)}, or off where nothing is rendered; "
            f"unset it to have one chosen"
        )
    return value or None


def _recorded(wanted: str | None) -> Rendering | None:
    """What this process or its parent found before, if it still holds."""
    try:
        rendering = Rendering(**json.loads(os.environ[RECORD]))
    except (KeyError, ValueError, TypeError):
        return None
    return rendering if rendering.backend == wanted else None


@functools.cache
def _choose_imported(backend: str) -> Rendering:
    """As `_choose`, once per process: what dm_control has imported stays. Children may still choose for themselves."""
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
    """Hands the choice to the libraries, which read it at their import, and to child processes."""
    os.environ.update(_variables(rendering.backend))
    if rendering.backend not in ("egl", "osmesa"):
        os.environ.pop("PYOPENGL_PLATFORM", None)
    os.environ[RECORD] = json.dumps(asdict(rendering))


def _variables(backend: str) -> dict[str, str]:
    variables = {"MUJOCO_GL": backend}
    if backend in ("egl", "osmesa"):
        # Where the two disagree, the import of dm_control fails.
        variables["PYOPENGL_PLATFORM"] = backend
    if backend == "osmesa":
        # dm_control frees its contexts after Python has stopped its render thread, and prints an error at every exit.
        # Its EGL contexts never use that thread.
        variables["DISABLE_RENDER_THREAD_OFFLOADING"] = "1"
    return variables


def _reason(done: subprocess.CompletedProcess) -> str:
    """Why a probe gave no answer, in its own last words."""
    if done.returncode < 0:
        return f"crashed with {signal.Signals(-done.returncode).name}"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if lines and "'NoneType' object has no attribute" in lines[-1]:
        return "its library is not installed"  # What PyOpenGL means by it.
    return lines[-1] if lines else f"ended with status {done.returncode} and no message"


def _problem(failures: dict[str, str]) -> str:
    tried = "; ".join(f"{backend}: {failure}" for backend, failure in failures.items())
    if _imported_backend():
        return (
            f"dm_control was imported before an OpenGL library was chosen for it, and took one that does not render "
            f"here ({tried}); make the environment before dm_control is imported, or set MUJOCO_GL=egl"
        )
    set_by_user = os.environ.get("MUJOCO_GL")
    setting = f"MUJOCO_GL is {set_by_user}, which does" if set_by_user else "MUJOCO_GL is not set and none does"
    return (
        f"no OpenGL library renders on this machine: {setting} not work ({tried}); on Debian or Ubuntu: "
        f"{SOFTWARE_PACKAGES} (or {OSMESA_PACKAGES}); with an NVIDIA GPU: {GPU_PACKAGES}, and {CONTAINER_HINT}"
        + ("; or unset MUJOCO_GL to have another library tried" if set_by_user else "")
    )


def _problem_of_off() -> str:
    if _imported_backend():
        return "dm_control was imported with rendering off; unset MUJOCO_GL, or set it to egl, and start Python again"
    return (
        f"MUJOCO_GL is {os.environ['MUJOCO_GL']}, so nothing can be rendered; unset it to have a library chosen, or "
        f"observe the state instead of pixels"
    )
