"""Causality-aware entropy and soft resets within a run: what is fitted when, what is written down, stop and resume."""

import multiprocessing
import re
import sys
import time

import numpy as np
import pytest
import torch

from sacae.agents.soft_reset import soft_reset
from sacae.errors import UserError, how_to_install
from sacae.training import causal, resets
from tests.training.quick_fit import LONG, describing_fit, dying_fit, long_fit, quick_fit
from tests.training.runs import assert_same_run, in_parts, rows

REACHER = {
    "domain": "reacher", "task": "easy", "action_repeat": 2, "num_train_steps": 120, "eval_every": 120,
    "checkpoint_every": 1000, "causal_entropy": "absolute", "causal_every": 20, "causal_samples": 15,
    "causal_delay": 8, "soft_reset": "reset", "reset_every": 11,
}  # fmt: skip


@pytest.fixture
def quick(monkeypatch):
    """Fits that take no time, and no pictures of them."""
    monkeypatch.setattr("sacae.training.off_policy.require_lingam", lambda: None)
    monkeypatch.setattr(causal, "timed_fit", quick_fit)
    for module in (causal, resets):
        monkeypatch.setattr(module, "write_series", lambda *_: None)


def test_a_run_fits_weighs_and_writes_down(make_training):
    pytest.importorskip("lingam", reason=how_to_install("ace"))
    training = make_training("state", **REACHER)
    assert training.train()
    fits = rows(training.run.folder / "causal.csv")
    # Every 20 environment steps, but the first waits for 15 transitions, and each for the one before (8 agent steps).
    assert [int(row["env_step"]) for row in fits] == [30, 46, 62, 80, 100]
    weights = [[float(row[f"weight_{i}"]) for i in range(2)] for row in fits]
    effects = np.array([[float(row[f"effect_{i}"]) for i in range(2)] for row in fits])
    for weight, effect in zip(weights, np.abs(effects)):
        assert weight == pytest.approx(2 * np.exp(effect) / np.exp(effect).sum(), rel=1e-5)
    assert training.learner.agent.head.actor.entropy_weights.tolist() == pytest.approx(weights[-1], rel=1e-6)
    assert all(float(row["fit_seconds"]) > 0 for row in fits)
    for name in ("causal.png", "dormancy.png"):
        assert (training.run.folder / name).read_bytes().startswith(b"\x89PNG")


def test_resets_come_at_their_updates_and_dormancy_is_written_with_them(make_training, quick, monkeypatch):
    seeds = []

    def note(agent, kind, found, seed):
        seeds.append(seed)
        return soft_reset(agent, kind, found, seed)

    monkeypatch.setattr("sacae.training.resets.soft_reset", note)
    training = make_training("state", **REACHER)
    training.train()
    assert len({*seeds}) == 5
    written = rows(training.run.folder / "dormancy.csv")
    # Actor and critic move in every update from state, so a reset waits for none.
    assert [int(row["update"]) for row in written if row["retained"]] == [11, 22, 33, 44, 55]
    for row in written:
        share = float(row["dormant"])
        assert 0 <= share <= 1
        if row["retained"]:
            assert float(row["retained"]) == pytest.approx(min(max(1 - share, 0.2), 0.9))


@pytest.mark.parametrize(
    ("conditions", "more"),
    [
        pytest.param(
            [lambda training: training.run.agent_step == 18, lambda training: training.run.agent_step == 47],
            {},
            id="while a fit is pending, and between two fits",
        ),
        pytest.param(
            [lambda training: training.learner.updates_done == 24],
            {"num_envs": 2, "soft_reset": "causal_dormant_reset"},
            id="after a reset",
        ),
    ],
)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(conditions, more, make_training, quick):
    whole = make_training("state", folder="whole", **(REACHER | more))
    assert whole.train()

    def parts(resume=False):
        return make_training("state", folder="parts", resume=resume, **(REACHER | more))

    resumed = in_parts(parts, conditions)
    assert_same_run(resumed, whole)
    for file in ("causal.csv", "dormancy.csv"):
        assert (resumed.run.folder / file).read_text() == (whole.run.folder / file).read_text()


def test_from_pixels_the_causes_are_the_latent(make_training, quick, monkeypatch):
    monkeypatch.setattr(causal, "timed_fit", describing_fit)
    settings = {"causal_entropy": "signed", "causal_every": 40, "causal_samples": 18, "causal_delay": 3}
    training = make_training("pixels", num_train_steps=88, eval_every=88, **settings)
    assert training.train()
    (fit,) = rows(training.run.folder / "causal.csv")
    samples, causes, largest, actions, *_ = [float(fit[f"effect_{i}"]) for i in range(6)]
    assert (samples, causes, actions) == (18, 8, 6)
    assert 0 < largest <= 1  # tanh
    assert not torch.equal(training.learner.agent.head.actor.entropy_weights, torch.ones(6))


def test_a_fit_that_was_killed_is_said_in_one_line(make_training, quick, monkeypatch):
    monkeypatch.setattr(causal, "timed_fit", dying_fit)
    training = make_training("state", **REACHER)
    with pytest.raises(UserError, match="fits the effects of actions has ended.*--resume"):
        training.train()


def test_a_fit_that_is_under_way_ends_with_the_run(make_training, quick, monkeypatch):
    monkeypatch.setattr(causal, "timed_fit", long_fit)
    others = {*multiprocessing.active_children()}
    training = make_training("state", **(REACHER | {"num_train_steps": 40, "causal_delay": 1000}))
    assert training.train()
    # The executor's own thread may wait for the process too, and take its exit status first: so ask again, not once.
    give_up = time.monotonic() + LONG / 2
    while {*multiprocessing.active_children()} - others and time.monotonic() < give_up:
        time.sleep(0.05)
    assert {*multiprocessing.active_children()} <= others


def test_too_few_samples_for_a_fit_are_refused_before_anything_is_written(make_training, quick, tmp_path):
    # reacher: 6 numbers of state, 2 actions, the reward; and one more than these.
    with pytest.raises(UserError, match="causal_samples is 10, but it must be 11 or more"):
        make_training("state", **(REACHER | {"causal_samples": 10}))
    assert not (tmp_path / "run").exists()


def test_without_lingam_the_extra_is_named_before_anything_is_written(make_training, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "lingam", None)
    with pytest.raises(UserError, match=re.escape(how_to_install("ace"))):
        make_training("state", **REACHER)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("threshold", "learned"), [(-1.0, 1.0), (-0.5, 0.0)])
def test_a_sparse_reward_is_1_at_its_threshold(threshold, learned, make_training):
    game = {"env": "MountainCar-v0", "agent": "dqn", "action_repeat": 1}  # every reward is -1
    training = make_training("state", sparse_reward=threshold, num_train_steps=8, eval_every=8, **game)
    training.train()
    assert set(training.learner.replay.sample(20, np.random.default_rng(0)).reward.flatten().tolist()) == {learned}


def test_a_sparse_reward_is_learned_from_and_the_scores_written_down(make_training):
    def run(folder, **more):
        training = make_training("state", folder=folder, num_train_steps=60, seed_steps=100, **more)
        training.train()
        evaluations = [row["episode_return"] for row in rows(training.run.folder / "eval.csv")]
        return training.learner.replay.sample(500, np.random.default_rng(0)).reward, evaluations

    dense, scores = run("dense")
    threshold = float(dense.median())
    sparse, same_scores = run("sparse", sparse_reward=threshold)
    assert torch.equal(sparse, (dense >= threshold).float())
    assert 0 < sparse.mean() < 1
    assert same_scores == scores
