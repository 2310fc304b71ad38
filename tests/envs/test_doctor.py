"""What `sacae doctor` finds and says."""

import importlib.util

import pytest

from sacae import doctor
from sacae.envs import rendering
from sacae.errors import UserError, how_to_install


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(doctor, "MEASURED_SECONDS", 0.1)


def test_a_working_machine_is_described(gl, capsys):
    assert doctor.doctor() == 0
    said = capsys.readouterr().out
    for part in (gl.describe().removeprefix("rendering: "), "frames/s", "threads", "transitions", "dm_control 1.0"):
        assert part in said
    assert "\x1b" not in said


def test_a_machine_that_cannot_render_is_told_what_to_install(monkeypatch, capsys):
    def configure():
        raise UserError(rendering._problem({"egl": "its library is not installed"}))

    monkeypatch.setattr(rendering, "_imported_backend", lambda: None)
    monkeypatch.setattr(rendering, "configure", configure)
    assert doctor.doctor() == 1
    said = capsys.readouterr().out
    for part in ("apt-get install", "NVIDIA_DRIVER_CAPABILITIES", "versions", "transitions"):
        assert part in said


def test_a_gpu_that_does_not_render_is_warned_of(gl, monkeypatch, capsys):
    monkeypatch.setattr(rendering, "has_nvidia_gpu", lambda: True)
    monkeypatch.setattr(rendering, "configure", lambda required=True: rendering.Rendering("egl", "llvmpipe (LLVM 15)"))
    assert doctor.doctor() == 0
    assert "although there is an NVIDIA GPU" in capsys.readouterr().out


def test_software_rendering_under_wsl_is_told_what_to_set(gl, monkeypatch, capsys):
    monkeypatch.setattr(rendering, "under_wsl", lambda: True)
    monkeypatch.setattr(rendering, "configure", lambda required=True: rendering.Rendering("egl", "llvmpipe (LLVM 15)"))
    assert doctor.doctor() == 0
    assert "under WSL2" in capsys.readouterr().out


def test_what_is_optional_is_told_with_what_installs_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ale_py" else "here")
    assert doctor._atari() == f"not installed; --env ALE/... needs it; {how_to_install('atari')}"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: "here")
    assert doctor._atari().startswith("ale_py")


def test_a_transition_takes_one_frame_of_memory():
    assert doctor._transitions(21_168 * 1_000_000) == pytest.approx(990_000, rel=0.01)
