"""OpenGL contexts of several environments in one process: each must draw into its own, and free what is its own.

OpenGL commands go to the context that is current in the thread, whoever issues them. Objects of different contexts have
the same numbers, so a command in the wrong context draws into, or deletes, what belongs to another environment.
"""

import contextlib
import ctypes
import os
import sys
import threading
import weakref
from typing import Any

import gymnasium

from sacae.errors import UserError

GYMNASIUM = "gymnasium.envs.mujoco.mujoco_rendering"
"""The module that draws Gymnasium's MuJoCo environments. It is imported with the first of them."""

WINDOWS = "pygame"
"""The package that opens windows and draws Gymnasium's simple environments; SDL may do both with OpenGL."""

DM_CONTROL = "dm_control._render.base"
"""The module in which dm_control remembers which of its contexts is current in each thread."""

EGL_USERS = ("mujoco.egl", "dm_control._render.pyopengl.egl_renderer")
"""Modules that make EGL contexts, each with its EGL_DISPLAY."""


def of_gymnasium(env: gymnasium.Env) -> Any:
    """The renderer of a MuJoCo environment of Gymnasium or gymnasium-robotics; None for any other environment."""
    return getattr(env.unwrapped, "mujoco_renderer", None)


def use_own(env: gymnasium.Env) -> None:
    """Makes a MuJoCo environment's context current; Gymnasium 1.4 does so only when it makes the context."""
    renderer = of_gymnasium(env)
    if renderer is None:
        return
    refuse_after_fork()
    if renderer.viewer is None:
        wake_display()  # Its context is made with the first frame.
    else:
        renderer.viewer.make_context_current()


def free_when_collected(env: gymnasium.Env) -> None:
    """Lets an environment that nobody closes free its contexts as `free` does."""
    renderer = of_gymnasium(env)
    if renderer is not None:
        # Not at exit: the OpenGL library may have been shut down by then.
        weakref.finalize(env.unwrapped, _free, renderer).atexit = False


def free(env: gymnasium.Env) -> None:
    """Frees a MuJoCo environment's contexts, and in each of them first what was made there.

    Gymnasium 1.4 frees the context and leaves its textures and buffers to the garbage collector. That deletes the
    same numbers in the context that is current then: another environment's frames are black from there on.
    """
    renderer = of_gymnasium(env)
    if renderer is not None:
        _free(renderer)


def _free(renderer: Any) -> None:
    viewers = getattr(renderer, "_viewers", {})
    while viewers:  # Taken out: Gymnasium would also shut down GLFW for the whole process.
        _, viewer = viewers.popitem()
        with contextlib.suppress(Exception):  # A driver's error while an environment goes away harms nobody.
            viewer.make_context_current()
            viewer.con.free()
            viewer.free()
    renderer.viewer = None


def use_dm_controls() -> None:
    """Lets dm_control make its context current again before its next command.

    It believes that its last context is still current, but a MuJoCo environment of Gymnasium may have drawn since, or a
    window of pygame. Without this, frames would stay the same for ever.
    """
    if DM_CONTROL in sys.modules and (GYMNASIUM in sys.modules or WINDOWS in sys.modules):
        _forget_current()


def _forget_current() -> None:
    base: Any = sys.modules[DM_CONTROL]
    current = base._CURRENT_CONTEXT_FOR_THREAD.pop(threading.current_thread(), None)
    base._CURRENT_THREAD_FOR_CONTEXT.pop(current, None)


def wake_display() -> None:
    """Initialises EGL's display again, before a context is made, where something in this process has terminated it.

    All libraries share the display of a device. If one ends it, new contexts of the others fail from then on. SDL does
    when a window of pygame is closed on a machine without a screen, as Gymnasium's check_env opens one.
    """
    for name in EGL_USERS:
        module: Any = sys.modules.get(name)
        display = getattr(module, "EGL_DISPLAY", None)
        if display is not None:
            module.EGL.eglInitialize(display, None, None)  # Nothing happens if it is initialised.


def is_lost(error: Exception) -> bool:
    """Whether an error says that the context is gone, as all are once something has terminated EGL's display."""
    return type(error).__module__.partition(".")[0] == "OpenGL"


def abandon_lost(physics: Any) -> None:
    """Takes contexts that are gone from a `Physics` of dm_control, which makes new ones with its next frame.

    They are never freed: that would delete objects by their numbers in whatever context is current, where they are
    another environment's.
    """
    if physics._contexts is None:
        return
    _forget_current()  # dm_control notes a context as current before it tries to make it so
    try:
        with physics._contexts.gl.make_current():
            return
    except Exception as error:
        if not is_lost(error):
            raise
    _forget_current()
    _abandon(physics)


def free_physics(physics: Any) -> None:
    """Frees a `Physics` of dm_control, and its contexts unless they are gone."""
    abandon_lost(physics)
    try:
        physics.free()
    except Exception as error:  # A context that is current draws on after its display has ended, but cannot be freed.
        if not is_lost(error):
            raise
        _abandon(physics)
        physics.free()


def _abandon(physics: Any) -> None:
    lost, physics._contexts = physics._contexts, None
    for drawing in lost.gl._patients:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(drawing))
    lost.gl._free_unconditionally = lambda: None
    lost.mujoco._gl_context = None


_drawn_by: int | None = None
"""The process that has drawn with OpenGL; a fork takes the number along into the child."""


def refuse_after_fork() -> None:
    """Call it before drawing. Raises UserError in a process that was forked from one that had drawn.

    The threads of the OpenGL library do not survive a fork, and a frame would wait for them for ever.
    """
    global _drawn_by
    if _drawn_by not in (None, os.getpid()):
        raise UserError(
            "a frame was rendered before this process was forked, and OpenGL would hang in it; start processes of "
            'environments with spawn, such as gymnasium.vector.AsyncVectorEnv(env_fns, context="spawn"), or '
            'gymnasium.make_vec(id, vectorization_mode="async", vector_kwargs={"context": "spawn"})'
        )
    _drawn_by = os.getpid()
