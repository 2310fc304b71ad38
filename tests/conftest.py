"""Fixtures that tests of every room may need."""

import pytest

from sacae.envs import rendering


@pytest.fixture(scope="session")
def gl() -> rendering.Rendering:
    """What frames are rendered with; skips the test where nothing renders."""
    found = rendering.configure(required=False)
    if found.problem:
        pytest.skip(found.problem)
    return found
