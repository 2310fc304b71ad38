"""The choice of an OpenGL library: what is tried, what is set, what the user is told."""

import json
import os
import subprocess
import sys
from unittest import mock

import pytest

from sacae.envs import rendering
from sacae.errors import UserError

LLVMPIPE = "llvmpipe (LLVM 15.0.6, 256 bits)"
NVIDIA = "NVIDIA H200/PCIe/SSE2"
OURS = ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY", "DISABLE_RENDER_THREAD_OFFLOADING")


@pytest.fixture
def machine(monkeypatch):
    """A headless Linux machine on which nothing is chosen; returns what its libraries answer, and what was tried."""
    with mock.patch.dict(os.environ):
        for name in (*OURS, rendering.RECORD):
            os.environ.pop(name, None)
        monkeypatch.delitem(sys.modules, "dm_control._render", raising=False)
        monkeypatch.setattr(rendering.platform, "system", lambda: "Linux")
        monkeypatch.setattr(rendering, "has_nvidia_gpu", lambda: False)
        rendering._choose_imported.cache_clear()
        answers, tried = {}, []

        def probe(backend):
            tried.append(backend)
            return (answers[backend], "") if backend in answers else ("", "its library is not installed")

        monkeypatch.setattr(rendering, "probe", probe)
        yield answers, tried
        rendering._choose_imported.cache_clear()


def without_ours() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in (*OURS, rendering.RECORD)}


def test_egl_is_preferred_without_a_display(machine):
    answers, tried = machine
    answers.update(egl=NVIDIA, osmesa=LLVMPIPE)
    assert rendering.configure().backend == "egl"
    assert tried == ["egl"]
    assert os.environ["MUJOCO_GL"] == os.environ["PYOPENGL_PLATFORM"] == "egl"


def test_osmesa_is_taken_where_egl_does_not_work(machine):
    answers, tried = machine
    answers.update(osmesa=LLVMPIPE)
    assert rendering.configure().backend == "osmesa"
    assert tried == ["egl", "osmesa"]
    assert os.environ["MUJOCO_GL"] == os.environ["PYOPENGL_PLATFORM"] == "osmesa"


def test_glfw_is_preferred_with_a_display(machine):
    answers, tried = machine
    answers.update(egl=NVIDIA, glfw=NVIDIA)
    os.environ.update(DISPLAY=":0", PYOPENGL_PLATFORM="egl")
    assert rendering.configure().backend == "glfw"
    assert os.environ["MUJOCO_GL"] == "glfw"
    assert "PYOPENGL_PLATFORM" not in os.environ


def test_a_library_is_tried_once_per_process_tree(machine):
    answers, tried = machine
    answers.update(egl=LLVMPIPE)
    first = rendering.configure()
    assert rendering.configure() == first
    assert tried == ["egl"]


def test_a_child_process_inherits_the_choice_and_does_not_try_again(machine):
    answers, _ = machine
    answers.update(egl="a name that no driver has")
    rendering.configure()
    code = "from sacae.envs import rendering; print(rendering.configure().describe())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "rendering: egl (a name that no driver has)"


def test_a_changed_mujoco_gl_is_tried_again(machine):
    answers, tried = machine
    answers.update(egl=NVIDIA, osmesa=LLVMPIPE)
    rendering.configure()
    os.environ["MUJOCO_GL"] = "osmesa"
    assert rendering.configure().backend == "osmesa"
    assert tried == ["egl", "osmesa"]


def test_a_mujoco_gl_of_the_user_is_honoured_in_any_case(machine):
    answers, tried = machine
    answers.update(egl=NVIDIA, osmesa=LLVMPIPE)
    os.environ["MUJOCO_GL"] = "OSMesa"
    assert rendering.configure().backend == "osmesa"
    assert tried == ["osmesa"]
    assert os.environ["MUJOCO_GL"] == "osmesa"


def test_a_mujoco_gl_that_does_not_exist_is_refused_even_where_nothing_is_rendered(machine):
    os.environ["MUJOCO_GL"] = "vulkan"
    for required in (True, False):
        with pytest.raises(UserError, match="MUJOCO_GL is vulkan, but it must be one of egl, osmesa, glfw, or off"):
            rendering.configure(required)


def test_a_mujoco_gl_that_does_not_work_is_refused_with_the_reason(machine):
    answers, _ = machine
    answers.update(egl=NVIDIA)
    os.environ["MUJOCO_GL"] = "osmesa"
    with pytest.raises(UserError, match="MUJOCO_GL is osmesa.*not installed.*or unset MUJOCO_GL"):
        rendering.configure()


@pytest.mark.parametrize("value", rendering.OFF_VALUES)
def test_rendering_that_the_user_switched_off_is_refused_where_it_is_needed(machine, value):
    os.environ["MUJOCO_GL"] = value
    with pytest.raises(UserError, match=f"MUJOCO_GL is {value}, so nothing can be rendered; unset it"):
        rendering.configure()
    assert rendering.configure(required=False).backend == "off"


def test_without_any_library_the_user_is_told_what_was_tried_and_what_to_install(machine):
    with pytest.raises(UserError) as error:
        rendering.configure()
    message = str(error.value)
    assert "\n" not in message
    for part in ("egl: its", "osmesa: its", "apt-get install libegl1 ", "libosmesa6", "NVIDIA_DRIVER_CAPABILITIES"):
        assert part in message
    assert "MUJOCO_GL" not in os.environ  # So that a library installed now is found at the next call.


def test_without_any_library_rendering_is_off_where_it_is_not_needed_and_refused_later(machine):
    _, tried = machine
    assert rendering.configure(required=False).backend == "off"
    assert os.environ["MUJOCO_GL"] == "off"
    with pytest.raises(UserError, match="apt-get install"):
        rendering.configure()
    assert tried == ["egl", "osmesa"]


def test_what_dm_control_imported_already_is_kept(machine, monkeypatch):
    answers, tried = machine
    answers.update(egl=NVIDIA, osmesa=LLVMPIPE)
    monkeypatch.setitem(sys.modules, "dm_control._render", mock.Mock(BACKEND="osmesa"))
    assert rendering.configure().backend == "osmesa"
    rendering.configure()
    assert tried == ["osmesa"]
    assert "MUJOCO_GL" not in os.environ


def test_dm_control_imported_with_a_library_that_does_not_work_is_named_as_the_cause(machine, monkeypatch):
    answers, _ = machine
    answers.update(egl=NVIDIA)
    monkeypatch.setitem(sys.modules, "dm_control._render", mock.Mock(BACKEND="glfw"))
    with pytest.raises(UserError, match="dm_control was imported before"):
        rendering.configure()
    assert rendering.configure(required=False).backend == "off"


def test_other_systems_are_left_alone(machine, monkeypatch):
    _, tried = machine
    monkeypatch.setattr(rendering.platform, "system", lambda: "Darwin")
    before = dict(os.environ)
    assert rendering.configure().backend == "native"
    assert tried == []
    assert dict(os.environ) == before


@pytest.mark.parametrize("renderer", [LLVMPIPE, "softpipe", "Mesa DRI swrast"])
def test_software_rendering_is_recognised_and_said(renderer):
    found = rendering.Rendering("egl", renderer)
    assert found.software
    assert found.describe().endswith(", software)")


def test_the_description_is_one_short_line():
    assert rendering.Rendering("egl", LLVMPIPE).describe() == "rendering: egl (llvmpipe, software)"
    assert rendering.Rendering("egl", NVIDIA).describe() == f"rendering: egl ({NVIDIA})"


def test_software_rendering_beside_an_nvidia_gpu_is_warned_of(monkeypatch):
    monkeypatch.setattr(rendering, "has_nvidia_gpu", lambda: True)
    warning = rendering.Rendering("egl", LLVMPIPE).warning
    for part in ("libegl1 libglvnd0 libgl1 libgles2", "NVIDIA_DRIVER_CAPABILITIES"):
        assert part in warning
    assert rendering.Rendering("egl", NVIDIA).warning == ""
    monkeypatch.setattr(rendering, "has_nvidia_gpu", lambda: False)
    assert rendering.Rendering("egl", LLVMPIPE).warning == ""


BASIC = "D3D12 (Microsoft Basic Render Driver)"
INTEL = "D3D12 (Intel(R) Iris(R) Xe Graphics)"


@pytest.mark.parametrize(
    ("renderer", "said"),
    [
        (LLVMPIPE, "rendering runs on the CPU under WSL2"),
        (BASIC, "rendering runs on the CPU under WSL2"),
        (INTEL, "runs on Intel(R) Iris(R) Xe Graphics although there is an NVIDIA GPU"),
        ("D3D12 (NVIDIA GeForce RTX 4090)", ""),
    ],
)
def test_under_wsl_a_renderer_that_is_not_the_gpu_is_told_what_to_set(renderer, said, monkeypatch):
    monkeypatch.setattr(rendering, "under_wsl", lambda: True)
    monkeypatch.setattr(rendering, "has_nvidia_gpu", lambda: True)
    warning = rendering.Rendering("egl", renderer).warning
    assert said in warning
    assert bool(warning) is bool(said)
    assert "\n" not in warning
    monkeypatch.setattr(rendering, "has_nvidia_gpu", lambda: False)
    assert bool(rendering.Rendering("egl", renderer).warning) is (renderer in (LLVMPIPE, BASIC))


@pytest.mark.parametrize(
    ("version", "is_wsl"),
    [
        ("Linux version 5.15.153.1-microsoft-standard-WSL2 (root@941d701f84f1)", True),
        ("Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com)", True),
        ("Linux version 6.1.0-25-amd64 (debian-kernel@lists.debian.org)", False),
        (None, False),
    ],
)
def test_wsl_is_recognised_by_the_kernels_version(version, is_wsl, monkeypatch):
    def read_text(path):
        if str(path) != "/proc/version" or version is None:
            raise FileNotFoundError(path)
        return version

    monkeypatch.setattr(rendering.Path, "read_text", read_text)
    assert rendering.under_wsl() is is_wsl


def test_the_description_names_the_gpu_behind_direct3d():
    assert rendering.Rendering("glfw", INTEL).describe() == f"rendering: glfw ({INTEL})"
    assert rendering.Rendering("glfw", BASIC).describe() == f"rendering: glfw ({BASIC}, software)"


def test_a_probe_of_the_library_in_use_tells_its_renderer(gl):
    if gl.backend not in rendering.BACKENDS:
        pytest.skip("the system's own library is not probed")
    renderer, failure = rendering.probe(gl.backend)
    assert renderer
    assert failure == ""


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed with SIGSEGV"),
        ("import time; time.sleep(60)", "no answer in 1 s"),
        ("raise ImportError('no driver')", "ImportError: no driver"),
        ("raise SystemExit(3)", "ended with status 3 and no message"),
    ],
)
def test_a_broken_driver_is_survived_and_described(monkeypatch, code, reason):
    monkeypatch.setattr(rendering, "_PROBE", code)
    monkeypatch.setattr(rendering, "PROBE_TIMEOUT", 1.0 if "sleep" in code else 30.0)
    assert rendering.probe("egl") == ("", reason)


def test_importing_the_room_imports_no_simulator():
    code = "import sys, json, sacae.envs; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not {"mujoco", "dm_control", "OpenGL", "torch"} & set(loaded)


def test_state_needs_no_opengl_library():
    code = """
import sacae.envs
sacae.envs.rendering.probe = lambda backend: ("", "its library is not installed")
env = sacae.envs.make("cheetah", "run", from_pixels=False)
env.reset(); env.step(env.action_space.sample())
try:
    env.render()
except sacae.envs.rendering.UserError as error:
    print(error, "OpenGL" in __import__("sys").modules)
"""
    done = subprocess.run([sys.executable, "-c", code], env=without_ours(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "apt-get install" in done.stdout
    assert done.stdout.strip().endswith("False")


@pytest.mark.parametrize("end", ["", "env.close(); env.close()"])
def test_the_interpreter_ends_without_noise(gl, end):
    code = f"import sacae.envs; env = sacae.envs.make('cheetah', 'run'); env.reset()\n{end}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
