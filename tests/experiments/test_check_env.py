"""`sacae check-env`: what it prints of an environment, and the picture it writes."""

import errno
import importlib.util

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image

from sacae import cli
from sacae.errors import how_to_install
from sacae.experiments import check_env
from tests.envs.tiny import DrawsWrongly

TINY = "tests.envs.tiny:Tiny"

needs_atari = pytest.mark.skipif(importlib.util.find_spec("ale_py") is None, reason=how_to_install("atari"))


class Wrong(gymnasium.Env):
    """Observes more than its space says."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.full(2, 5, np.float32), {}

    def step(self, action):
        return np.full(2, 5, np.float32), 0.0, False, False, {}


class Fine(gymnasium.Env):
    """Has no fault."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def _shown(self):
        return np.zeros(2, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._shown(), {}

    def step(self, action):
        return self._shown(), 0.0, False, False, {}


class Raises(Wrong):
    """Returns what Gym did before 0.26."""

    def step(self, action):
        return super().step(action)[:4]


class Unseeded(Wrong):
    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self):
        return np.zeros(2, np.float32), {}


class NotFinite(Wrong):
    def step(self, action):
        return np.full(2, np.nan, np.float32), *super().step(action)[1:]


class NotFiniteAtReset(Fine):
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.full(2, np.nan, np.float32), {}


class NotFiniteBesideImage(Fine):
    observation_space = spaces.Dict(
        {"image": spaces.Box(0, 255, (48, 48, 3), np.uint8), "arm": spaces.Box(-1, 1, (2,), np.float32)}
    )

    def _shown(self):
        return {"image": np.zeros((48, 48, 3), np.uint8), "arm": np.full(2, np.nan, np.float32)}


class NoReward(Wrong):
    def step(self, action):
        return np.zeros(2, np.float32), None, False, False, {}


class Nothing(gymnasium.Env):
    pass


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(check_env, "MEASURED_SECONDS", 0.01)


def run(tmp_path, *words):
    return cli.main(["check-env", *words, "--out", str(tmp_path)])


def test_spaces_speed_and_what_an_agent_sees(tmp_path, capsys):
    assert run(tmp_path, f"{TINY}Drawing-v0", "--obs", "pixels", "--image-size", "48") == 0
    said = capsys.readouterr().out
    for part in ("an agent sees uint8 (3, 48, 48)", "an agent takes Box(-1.0, 1.0, (2,)", "agent steps/s", "frames/s"):
        assert part in said
    path = tmp_path / "tests.envs.tiny_TinyDrawing-v0.png"
    assert str(path) in said.replace("\n", "")
    assert Image.open(path).size == (48, 48)
    assert run(tmp_path, f"{TINY}Drawing-v0", "--obs", "pixels") == 0
    assert len(list(tmp_path.iterdir())) == 2  # Nothing is overwritten.


def test_an_agent_sees_what_it_does_in_a_training(tmp_path, capsys):
    assert run(tmp_path, f"{TINY}Drawing-v0") == 0
    assert "an agent sees float32 (7,)" in capsys.readouterr().out
    assert run(tmp_path, f"{TINY}Drawing-v0", "--image-size", "48") == 2
    assert "image_size is 48, but obs is state: this setting applies only if obs is pixels" in capsys.readouterr().err


def test_warnings_of_gymnasiums_checker_are_lines(gl, tmp_path, capsys):
    assert run(tmp_path, "CartPoleContinuous-v1", "--obs", "state", "--env-kwargs", "max_episode_steps=30") == 0
    said = capsys.readouterr().out
    assert "time limit: 30 agent steps" in said
    assert "gymnasium's checker: no fault" in said
    assert run(tmp_path, "Hopper-v5", "--obs", "state", "--env-kwargs", "width=32", "height=32") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "warning: A Box observation space maximum value is infinity. This is probably too high." in lines


def test_an_environment_that_cannot_be_rendered_here_is_checked_without_a_picture(tmp_path, capsys):
    assert run(tmp_path, f"{TINY}DrawsFailing-v0") == 0
    assert "TinyDrawsFailing-v0 cannot be rendered here: no crayon" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_fault_that_the_checker_finds_is_a_line_and_status_1(tmp_path, capsys):
    gymnasium.register("WrongObservation-v0", Wrong, max_episode_steps=5)
    assert run(tmp_path, "WrongObservation-v0", "--obs", "state") == 1
    assert "fault: AssertionError" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Raises, "fault: the environment raised ValueError: not enough values to unpack"),
        (Unseeded, "fault: the environment raised TypeError: Unseeded.reset() got an unexpected keyword argument"),
        (NoReward, "fault: the environment returned a reward that is no number, but a NoneType"),
        (NotFinite, "fault: the environment returned observation nan in entry 0"),
        (NotFiniteAtReset, "fault: the environment returned observation nan in entry 0"),
        (NotFiniteBesideImage, "fault: the environment returned physical state nan in entry 0"),
    ],
)
def test_what_would_be_an_error_in_training_is_a_line_and_status_1(kind, message, tmp_path, capsys):
    gymnasium.register(f"Fails{kind.__name__}-v0", kind, max_episode_steps=5)
    obs = "pixels+state" if kind is NotFiniteBesideImage else "state"
    assert run(tmp_path, f"Fails{kind.__name__}-v0", "--obs", obs) == 1
    assert message in " ".join(capsys.readouterr().out.split())


class Always(Fine):
    """Whose seed is fixed unless one is given."""

    def reset(self, *, seed=5, options=None):
        return super().reset(seed=seed)


def test_the_signature_of_an_environment_without_wrappers_is_checked(tmp_path, capsys):
    gymnasium.register("CheckSignature-v0", Always, max_episode_steps=5)
    assert run(tmp_path, "CheckSignature-v0", "--obs", "state") == 0
    assert "warning: The default seed argument in reset" in " ".join(capsys.readouterr().out.split())


def test_the_wrappers_that_an_environment_is_registered_with_are_checked_with_it(tmp_path, capsys):
    def mended():
        return gymnasium.wrappers.TransformObservation(Wrong(), lambda seen: seen / 5, Wrong.observation_space)

    def spoilt():
        return gymnasium.wrappers.TransformObservation(Fine(), lambda seen: seen + 5, Fine.observation_space)

    gymnasium.register("CheckMended-v0", mended, max_episode_steps=5)
    gymnasium.register("CheckSpoilt-v0", spoilt, max_episode_steps=5)
    assert run(tmp_path, "CheckMended-v0", "--obs", "state") == 0
    assert "gymnasium's checker: no fault" in capsys.readouterr().out
    assert run(tmp_path, "CheckSpoilt-v0", "--obs", "state") == 1
    assert "is not within the observation space" in " ".join(capsys.readouterr().out.split())


@needs_atari
def test_an_atari_game_is_checked_as_training_plays_it(tmp_path, capsys):
    assert run(tmp_path, "ALE/Pong-v5") == 0
    assert "time limit: 27,000 agent steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Unseeded, "FailsUnseeded-v0 cannot be reset: it raised TypeError"),
        (Nothing, "cannot be made here: AttributeError"),
    ],
)
def test_what_cannot_be_observed_at_all_is_one_line_and_status_2(kind, message, tmp_path, capsys):
    gymnasium.register(f"Fails{kind.__name__}-v0", kind, max_episode_steps=5)
    assert run(tmp_path, f"Fails{kind.__name__}-v0", "--obs", "pixels") == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("frame", [None, [1, 2], np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8)])
def test_a_frame_that_is_no_rgb_image_is_a_line(frame, tmp_path, capsys):
    arguments = {"frame": frame, "observes": "dictionary"}
    gymnasium.register("Frame-v0", DrawsWrongly, max_episode_steps=5, kwargs=arguments)
    assert run(tmp_path, "Frame-v0", "--obs", "state") == 0
    assert "rendering: Frame-v0 renders a frame" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_without_an_id_the_line_says_what_it_is(tmp_path, capsys):
    assert run(tmp_path) == 2
    assert "error: ID is missing: Name in Gymnasium's registry, such as Pendulum-v1; " in capsys.readouterr().err


def test_an_id_that_is_not_there_is_one_line_with_similar_ones(tmp_path, capsys):
    assert run(tmp_path, "Pendulum-v0") == 2
    said = capsys.readouterr().err
    assert "no environment Pendulum-v0 is registered; did you mean Pendulum-v1" in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_written_is_not_the_environments_fault(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Image.Image, "save", full)
    assert run(tmp_path, f"{TINY}Drawing-v0", "--obs", "pixels", "--image-size", "48") == 2
    said = capsys.readouterr()
    assert "cannot be written: no space left on device" in said.err
    assert "fault: the environment" not in said.out
