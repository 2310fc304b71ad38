"""Fixtures that tests of every room may need."""

from types import SimpleNamespace

import pytest

from sacae import cli
from sacae.envs import rendering


@pytest.fixture(scope="session")
def gl() -> rendering.Rendering:
    """What frames are rendered with; skips the test where nothing renders."""
    found = rendering.configure(required=False)
    if found.problem:
        pytest.skip(found.problem)
    return found


@pytest.fixture
def parsed(monkeypatch):
    """Parses the words of a training as the command line does, and returns the settings without training."""
    seen = []

    def start(config, *_):
        seen.append(config)
        return SimpleNamespace(train=lambda: True)

    monkeypatch.setattr("sacae.training.off_policy.start", start)

    def parse(*words):
        assert cli.main(["train", *map(str, words)]) == 0, words
        return seen.pop()

    return parse
