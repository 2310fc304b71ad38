"""Which device of EGL renders: the GPU that trains, unless the user or the machine leaves no choice."""

import os
import shutil
import subprocess
import sys
from unittest import mock

import pytest
import torch
from rich.console import Console

from sacae import config as configs
from sacae.envs import egl_devices, rendering
from sacae.training import start

needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="the stand-in for libEGL needs gcc")

FAKE_EGL = r"""
#include <stdlib.h>
#include <string.h>
#include <stdint.h>
/* Devices as FAKE_EGL says: a digit is a GPU's number in CUDA, m is one of Mesa's, x ends the process. */
static const char *devices(void) { const char *all = getenv("FAKE_EGL"); return all ? all : ""; }
static unsigned query(int most, void **found, int *count) {
    const char *all = devices();
    *count = 0;
    for (; all[*count] && *count < most; ++*count) found[*count] = (void *)(0x7fff00000000 + (intptr_t)*count);
    return 1;
}
static unsigned attribute(void *device, int name, intptr_t *value) {
    char kind = devices()[(intptr_t)device - 0x7fff00000000];
    if (kind == 'x') abort();
    if (kind == 'm' || name != 0x323A) return 0;
    *value = kind - '0';
    return 1;
}
void *eglGetProcAddress(const char *name) {
    if (getenv("FAKE_EGL_WITHOUT")) return 0;
    if (!strcmp(name, "eglQueryDevicesEXT")) return query;
    if (!strcmp(name, "eglQueryDeviceAttribEXT")) return attribute;
    return 0;
}
"""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """A folder with a libEGL whose devices the variable FAKE_EGL lists."""
    folder = tmp_path_factory.mktemp("egl")
    (folder / "egl.c").write_text(FAKE_EGL)
    command = ["gcc", "-shared", "-fPIC", "-o", str(folder / egl_devices.LIBRARY), str(folder / "egl.c")]
    subprocess.run(command, check=True)
    return folder


@pytest.fixture
def machine(libraries, monkeypatch):
    """Lets the machine's EGL have such devices; returns those on which a frame was tried."""
    tried = []

    def probe(backend):
        device = os.environ[egl_devices.DEVICE_ID]
        tried.append(device)
        return (("NVIDIA", "") if device not in broken else ("", "eglInitialize failed")) if backend == "egl" else None

    broken = set()

    def has(devices, fails=()):
        broken.update(fails)
        monkeypatch.setenv("FAKE_EGL", devices)
        return tried

    with mock.patch.dict(os.environ, LD_LIBRARY_PATH=str(libraries)):
        for name in (egl_devices.DEVICE_ID, egl_devices.OURS, "MUJOCO_GL", "CUDA_VISIBLE_DEVICES"):
            os.environ.pop(name, None)
        for name in ("dm_control._render", "mujoco.egl"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setattr(egl_devices.platform, "system", lambda: "Linux")
        monkeypatch.setattr(rendering, "probe", probe)
        yield has


def chosen():
    return os.environ.get(egl_devices.DEVICE_ID)


@needs_compiler
def test_the_library_is_asked_without_a_context(machine):
    machine("20m1")
    assert egl_devices.query() == [2, 0, None, 1]


@needs_compiler
@pytest.mark.parametrize("devices", ["", "x", "0x"])
def test_a_library_that_crashes_or_has_no_devices_leaves_all_as_it_is(machine, devices):
    tried = machine(devices)
    assert egl_devices.query() == []
    assert egl_devices.use_gpu(0) == ""
    assert (chosen(), tried) == (None, [])


@needs_compiler
def test_a_library_without_the_extension_leaves_all_as_it_is(machine, monkeypatch):
    machine("10")
    monkeypatch.setenv("FAKE_EGL_WITHOUT", "1")
    assert egl_devices.query() == []


@needs_compiler
def test_the_gpu_that_trains_renders_and_a_line_says_so(machine):
    tried = machine("m201")
    line = egl_devices.use_gpu(1)
    assert line == "rendering: with EGL on device 3, which is cuda:1; MUJOCO_EGL_DEVICE_ID changes it"
    assert (chosen(), tried) == ("3", ["3"])


@needs_compiler
def test_processes_that_are_started_later_inherit_the_device(machine):
    machine("10")
    egl_devices.use_gpu(0)
    program = "import os; print(os.environ['MUJOCO_EGL_DEVICE_ID'])"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "1"


@needs_compiler
@pytest.mark.parametrize("devices", ["0", "m", "mm", "12"])
def test_with_one_device_or_none_of_that_gpu_nothing_is_set(machine, devices):
    assert machine(devices) == []
    assert egl_devices.use_gpu(0) == ""
    assert chosen() is None


@needs_compiler
@pytest.mark.parametrize(
    "of_user", [{"MUJOCO_EGL_DEVICE_ID": "0"}, {"MUJOCO_GL": "osmesa"}, {"MUJOCO_GL": "off"}, {"MUJOCO_GL": "glfw"}]
)
def test_what_the_user_chose_stays(machine, of_user):
    tried = machine("10")
    os.environ.update(of_user)
    before = dict(os.environ)
    assert egl_devices.use_gpu(0) == ""
    assert dict(os.environ) == before
    assert tried == []


@needs_compiler
def test_a_device_that_does_not_render_is_not_chosen(machine):
    tried = machine("10", fails=["1"])
    assert egl_devices.use_gpu(0) == ""
    assert (chosen(), tried) == (None, ["1"])
    assert egl_devices.OURS not in os.environ


@needs_compiler
@pytest.mark.parametrize("module", ["dm_control._render", "mujoco.egl"])
def test_a_simulator_that_has_egl_open_keeps_its_device(machine, monkeypatch, module):
    machine("10")
    monkeypatch.setitem(sys.modules, module, object())
    assert egl_devices.use_gpu(0) == ""
    assert chosen() is None


@needs_compiler
def test_a_later_run_in_the_same_process_chooses_anew(machine):
    machine("102")
    for index, device in ((0, "1"), (2, "2"), (7, None)):
        egl_devices.use_gpu(index)
        assert chosen() == device


@pytest.mark.parametrize(
    ("index", "numbers", "visible", "device"),
    [
        (0, [1, 0], None, 1),
        (1, [1, 0], None, 0),
        (2, [1, 0], None, None),
        (0, [3, 1, 0, 2], "2", 3),  # EGL has them all, with their own numbers
        (1, [3, 1, 0, 2], "1,3", 0),
        (0, [None, None, 0, None], "2", 2),  # EGL follows the variable
        (1, [1, 0, None], "2,3", 0),
        (0, [1, 0], "0,1", 1),
        (0, [1, 0], "1,0", None),  # either could be meant
        (0, [None, 0], "GPU-1d2f", 1),
        (0, [1, 0], "GPU-1d2f", None),
        (1, [1, 0], "1", None),
        (0, [1, 0], "", None),
    ],
)
def test_devices_are_matched_whether_or_not_the_driver_renumbers_them(index, numbers, visible, device):
    assert egl_devices.device_of_gpu(index, numbers, visible) == device


@pytest.mark.parametrize(("device", "asked"), [("cuda:1", [1]), ("cpu", [])])
def test_a_run_asks_for_the_gpu_it_trains_on(device, asked, tmp_path, monkeypatch, capsys):
    indices = []
    monkeypatch.setattr(start, "choose_device", torch.device)
    monkeypatch.setattr(start, "use_gpu", lambda index: indices.append(index) or "rendering: with EGL on device 3")
    start.open_run(configs.make(work_dir=tmp_path / "run", device=device), Console(), resume=False)
    assert indices == asked
    assert capsys.readouterr().out.count("rendering: with EGL on device 3") == len(asked)
