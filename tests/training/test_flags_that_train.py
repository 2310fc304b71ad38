"""Random flags with values that are allowed: each command line trains to its end, or is refused in one line."""

import contextlib
import io
import types
from typing import get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sacae import cli, envs
from sacae import config as configs
from sacae.envs.actions import discretised
from sacae.heads import HEADS
from sacae.training import pictures
from tests.training.short_episodes import short_episode_env

SIZES = {
    "domain": "cartpole", "task": "balance", "num_train_steps": "48", "seed_steps": "4", "initial_updates": "1",
    "batch_size": "4", "hidden_dim": "8", "image_size": "36", "num_filters": "2", "feature_dim": "4",
    "num_eval_episodes": "1", "replay_capacity": "100", "eval_every": "24", "checkpoint_every": "24",
}  # fmt: skip
"""A training of a second, of settings that exist for every agent; other flags come after them and win."""

FIXED = {"domain", "task", "env", "work_dir", "num_train_steps", "agent", "obs", "overlap"}
"""Settings that are not drawn: those that the training here stands for."""
UNWANTED = {"compile", "device", "num_threads", "precision"}
"""Settings that are not drawn because they take minutes or are the machine's."""
NUMBERS = {int: [0, 1, 2, 3, 5, 7], float: [0.0, 1e-8, 0.3, 0.9, 1.0, 10.0, 1e4]}


def values_of(one):
    """Words that may stand for a value of a setting: most are allowed."""
    if one.choices:
        return [str(choice) for choice in one.choices]
    words = [str(value) for kind in one.kinds for value in NUMBERS.get(kind, [])]
    words += ["none"] if types.NoneType in one.kinds else []
    element = get_args(one.type)[0] if get_origin(one.type) is tuple else None
    return words + [str(value) for value in NUMBERS.get(element, [])] or ["cpu"]


def flags(agent, obs):
    """Words of up to five flags of an agent's training."""
    known = configs.make(agent=agent, obs=obs).flat()
    drawn = {n: d for n, d in configs.every_setting().items() if n in known and n not in FIXED | UNWANTED}

    def words(name):
        flag = name.replace("_", "-")
        if drawn[name].type is bool:
            return st.sampled_from([[f"--{flag}"], [f"--no-{flag}"]])
        return st.sampled_from(values_of(drawn[name])).map(lambda value: [f"--{flag}", value])

    pairs = st.lists(st.sampled_from(sorted(drawn)).flatmap(words), max_size=5, unique_by=lambda pair: pair[0])
    return pairs.map(lambda found: ["--agent", agent, "--obs", obs, *(word for pair in found for word in pair)])


LINES = st.tuples(st.sampled_from([*HEADS]), st.sampled_from(["state", "pixels"])).flatmap(lambda pair: flags(*pair))


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """A function that trains with flags in this process, on short episodes: exit status and error output."""
    pixels = {"image_size", "num_filters", "feature_dim"}

    def run(words):
        folder = tmp_path_factory.mktemp("runs") / "run"
        sizes = {name: value for name, value in SIZES.items() if not ("state" in words and name in pixels)}
        argv = ["train", *(word for name, value in sizes.items() for word in (f"--{name.replace('_', '-')}", value))]
        err = io.StringIO()
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            try:
                status = cli.main([*argv, *words, "--no-overlap", "--num-threads", "1", "--work-dir", str(folder)])
            except SystemExit as stop:
                status = stop.code or 0
        return status, err.getvalue(), folder

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(envs, "from_config", lambda config, seed: discretised(short_episode_env(config, seed), config))
        patch.setattr(pictures, "write_learning_curve", lambda *_: None)
        yield run


def check(words, train):
    """A whole run with status 0, or one line with status 2."""
    status, err, folder = train(words)
    assert status in (0, 2), (status, err)
    if status == 0:
        assert (folder / "checkpoint" / "state.pt").exists()
    else:
        assert len(err.splitlines()) == 1, err


@given(words=LINES)
@settings(max_examples=8)
def test_random_allowed_flags_train_or_are_refused_in_one_line(words, train):
    check(words, train)


@pytest.mark.faults
@given(words=LINES)
@settings(max_examples=150, deadline=30_000, derandomize=False, print_blob=True)
def test_more_random_allowed_flags_train_or_are_refused_in_one_line(words, train):
    check(words, train)
