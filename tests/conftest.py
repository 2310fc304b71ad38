"""Fixtures that tests of every room may need, and what a skipped test means in CI."""

import os
from types import SimpleNamespace

import hypothesis
import pytest

from sacae import cli
from sacae.envs import rendering

# The same examples on every run, and on a busy machine too.
unhurried = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("deterministic", derandomize=True, **unhurried)
hypothesis.settings.load_profile("deterministic")

ALLOWED_SKIPS = ("needs a CUDA GPU",)
"""Reasons for which a test may be skipped in CI. What else tests need, CI installs: a test skipped there never runs."""


def without_other_skips(report):
    """The report, failed with CI=true in the environment if something was skipped for another reason."""
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if reason not in ALLOWED_SKIPS:
            report.outcome = "failed"
            report.longrepr = f"skipped in CI, which installs what tests need: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A test."""
    return without_other_skips((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """A whole file."""
    return without_other_skips((yield))


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
