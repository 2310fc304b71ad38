"""Random flags with extreme values: each command line is refused in one line, or would start a run.

Nothing is trained: `start` stops before the first environment is made. What lies behind it (memory, processes) has
tests of its own in tests/training/test_memory.py.
"""

import contextlib
import io
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.algorithms import SETTINGS
from baselines.train import NAMES
from baselines.train import train as train_baseline
from sacae import cli
from sacae import config as configs
from sacae.heads import HEADS
from sacae.training import off_policy

FLAGS = sorted("--" + name.replace("_", "-") for name in configs.every_setting())
OF_BASELINES = sorted(
    {"--" + name.replace("_", "-") for kind in SETTINGS.values() for name in kind.__dataclass_fields__} | {*FLAGS}
)
OPTIONS = {
    "eval": ["--episodes", "--num-envs", "--seed", "--device", "--best", "--no-video"],
    "show": ["--out", "--seed", "--device", "--best"],
    "probe": ["--episodes", "--max-steps", "--out", "--seed", "--device"],
    "report": ["--out"],
    "demo": ["--work-dir", "--seed"],
    "sweep": ["--grid", "--file", "--seeds", "--parallel", "--tasks", "--first-seed", "--retries"],
    "ablate": ["--arms", "--seeds", "--parallel", "--tasks", "--first-seed", "--cpus-per-run"],
}
"""Options of each command, beside the settings that it may take."""

EXTREMES = ["0", "-1", "1", "1e308", "-1e308", "inf", "-inf", "nan", "1e-400", "0.5", str(2**31), str(2**63 - 1),
            str(2**63), str(10**22), "9" * 5000, "", " ", "a" * 300, "a/" * 3000, "\0", "\x1b[31m", "\udcff", "é",
            "none", "true", "[b]", "$\\frac$", "=cmd|x", "--", "-", "/dev/full", "/proc/self/mem", "cpu",
            "state", "pixels", "sac", "dqn", "rae", "off", "critic_lr=1,2", "a=b", ",", "lr"]  # fmt: skip
TEXT = st.text(st.characters(exclude_characters="/."), max_size=20)  # no way out of the empty folder
VALUES = st.one_of(st.sampled_from(EXTREMES), st.integers().map(str), st.floats().map(repr), TEXT)


def words(flags):
    """Words of a command line: flags with a value, without one, or with `=`."""
    pair = st.one_of(
        st.tuples(st.sampled_from(flags), VALUES).map(list),
        st.tuples(st.sampled_from(flags), VALUES).map(lambda both: ["=".join(both)]),
        st.sampled_from(flags).map(lambda flag: [flag]),
        st.sampled_from(flags).map(lambda flag: ["--no-" + flag[2:]]),
    )
    return st.lists(pair, max_size=4).map(lambda parts: [word for part in parts for word in part])


TRAIN = st.tuples(st.sampled_from([*HEADS]), st.sampled_from(["state", "pixels"]), words([*FLAGS, "--resume"])).map(
    lambda parts: ["train", "--agent", parts[0], "--obs", parts[1], *parts[2]]
)
OTHERS = st.sampled_from([*OPTIONS]).flatmap(
    lambda name: st.tuples(st.just(name), st.lists(VALUES, max_size=2), words(OPTIONS[name] + FLAGS[:10]))
).map(lambda parts: [parts[0], *parts[1], *parts[2]])  # fmt: skip
BASELINES = st.tuples(st.sampled_from(NAMES), words(OF_BASELINES)).map(lambda parts: ["--algo", parts[0], *parts[1]])
LINES = st.one_of(TRAIN, TRAIN, OTHERS, BASELINES)


class WouldStart(Exception):
    """Raised where a run would start."""


@pytest.fixture(scope="module")
def nothing_starts(tmp_path_factory):
    """Stops every command before it makes anything, in an empty folder."""

    def stop(*_args, **_keywords):
        raise WouldStart

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("cwd"))
        patch.setattr(off_policy, "open_run", stop)
        patch.setattr("baselines.algorithm.open_run", stop)
        patch.setattr("sacae.experiments.tasks.settings_of", lambda name: {"env": "Pendulum-v1"})
        patch.setattr("sacae.experiments.experiment.conduct", stop)
        yield


def outcome(argv):
    """Exit status and error output of a command line; 0 if a run would start or the help is shown."""
    err = io.StringIO()
    command = train_baseline if argv[0] == "--algo" else None
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        try:
            status = cli.guarded(command, argv, "baselines.train") if command else cli.main(argv)
        except WouldStart:
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
    return status, err.getvalue()


def check(argv):
    """One line and status 2, or a run that would start; nothing written."""
    status, err = outcome(argv)
    assert status in (0, 2), (status, err)
    assert err.count("\n") == (1 if status == 2 else 0), err
    assert len(err) < 5000
    assert not os.listdir(".")


@given(argv=LINES)
@settings(max_examples=100, deadline=30_000)
def test_random_flags_are_refused_in_one_line_or_would_start_a_run(argv, nothing_starts):
    check(argv)


@pytest.mark.faults
@given(argv=LINES)
@settings(max_examples=1000, deadline=30_000, derandomize=False, print_blob=True)
def test_a_thousand_random_flags_are_refused_in_one_line_or_would_start_a_run(argv, nothing_starts):
    check(argv)
