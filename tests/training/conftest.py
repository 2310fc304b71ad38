"""Fixtures of runs: tiny ones of agents, and ones that only count."""

import pytest

from sacae import envs
from sacae.training import pictures
from tests.training import counting, runs
from tests.training.short_episodes import short_episode_env


@pytest.fixture
def short_episodes(monkeypatch):
    """Runs on DeepMind Control whose episodes end after EPISODE_STEPS agent steps."""
    monkeypatch.setattr(envs, "from_config", short_episode_env)


@pytest.fixture
def no_curves(monkeypatch):
    """Learning curves are not drawn: in a tiny run that takes longer than the learning."""
    monkeypatch.setattr(pictures, "write_learning_curve", lambda *_: None)


@pytest.fixture
def make_training(short_episodes, no_curves, tmp_path):
    """A function that starts or resumes a tiny run of an agent in a folder of tmp_path; see runs.start."""

    def make(obs="pixels", resume=False, folder="run", **settings):
        return runs.start(tmp_path / folder, resume, obs, **settings)

    return make


@pytest.fixture
def make_counting(no_curves, tmp_path):
    """A function that starts or resumes a run that counts in a folder of tmp_path; see counting.start."""

    def make(folder="run", resume=False, **settings):
        return counting.start(tmp_path / folder, resume, **settings)

    return make
