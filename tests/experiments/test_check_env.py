"""`sacae check-env`: what it prints of an environment, and the picture it writes."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image

from sacae import cli
from sacae.experiments import check_env

TINY = "tests.envs.tiny:Tiny"


class Wrong(gymnasium.Env):
    """Observes more than its space says."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.full(2, 5, np.float32), {}

    def step(self, action):
        return np.full(2, 5, np.float32), 0.0, False, False, {}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(check_env, "MEASURED_SECONDS", 0.01)


def run(tmp_path, *words):
    return cli.main(["check-env", *words, "--out", str(tmp_path)])


def test_spaces_speed_and_what_an_agent_sees(tmp_path, capsys):
    assert run(tmp_path, f"{TINY}Drawing-v0", "--image-size", "48") == 0
    said = capsys.readouterr().out
    for part in ("an agent sees uint8 (3, 48, 48)", "an agent takes Box(-1.0, 1.0, (2,)", "agent steps/s", "frames/s"):
        assert part in said
    path = tmp_path / "tests.envs.tiny_TinyDrawing-v0.png"
    assert str(path) in said.replace("\n", "")
    assert Image.open(path).size == (48, 48)
    assert run(tmp_path, f"{TINY}Drawing-v0") == 0
    assert len(list(tmp_path.iterdir())) == 2  # Nothing is overwritten.


def test_warnings_of_gymnasiums_checker_are_lines(gl, tmp_path, capsys):
    assert run(tmp_path, "CartPoleContinuous-v1", "--obs", "state", "--env-kwargs", "max_episode_steps=30") == 0
    said = capsys.readouterr().out
    assert "time limit: 30 agent steps" in said
    assert "gymnasium's checker: no fault" in said
    assert run(tmp_path, "Hopper-v5", "--obs", "state", "--env-kwargs", "width=32", "height=32") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "warning: A Box observation space maximum value is infinity. This is probably too high." in lines


def test_an_environment_that_cannot_be_rendered_here_is_checked_without_a_picture(tmp_path, capsys):
    assert run(tmp_path, f"{TINY}DrawsFailing-v0", "--obs", "state") == 0
    assert "TinyDrawsFailing-v0 cannot be rendered here: no crayon" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_fault_that_the_checker_finds_is_a_line_and_status_1(tmp_path, capsys):
    gymnasium.register("WrongShape-v0", Wrong, max_episode_steps=5)
    assert run(tmp_path, "WrongShape-v0", "--obs", "state") == 1
    assert "fault: AssertionError" in capsys.readouterr().out


def test_an_id_that_is_not_there_is_one_line_with_similar_ones(tmp_path, capsys):
    assert run(tmp_path, "Pendulum-v0") == 2
    said = capsys.readouterr().err
    assert "no environment Pendulum-v0 is registered; did you mean Pendulum-v1" in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())
