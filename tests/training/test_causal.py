"""Causality-aware entropy and soft resets within a run: what is fitted when, what is written down, stop and resume."""

import csv
import os
import signal
import sys

import numpy as np
import pytest
import torch

from sacae import config as configs
from sacae.agents.soft_reset import soft_reset
from sacae.errors import UserError
from sacae.training import causal
from sacae.training.off_policy import _learned_from
from tests.training.quick_fit import quick_fit
from tests.training.test_trainer import assert_same_run, stop_when

REACHER = {
    "domain": "reacher", "task": "easy", "action_repeat": 2, "num_train_steps": 120, "eval_every": 120,
    "checkpoint_every": 1000, "causal_entropy": "absolute", "causal_every": 20, "causal_samples": 15,
    "causal_delay": 8, "soft_reset": "reset", "reset_every": 11,
}  # fmt: skip


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("sacae.training.off_policy.require_lingam", lambda: None)
    monkeypatch.setattr(causal, "timed_fit", quick_fit)


def test_a_run_fits_weighs_and_writes_down(make_trainer):
    pytest.importorskip("lingam", reason="lingam is not installed; pip install 'sacae[ace]'")
    trainer = make_trainer("state", **REACHER)
    assert trainer.train()
    fits = rows(trainer.run.folder / "causal.csv")
    # Every 20 environment steps, but the first waits for 15 transitions, and each for the one before (8 agent steps).
    assert [int(row["env_step"]) for row in fits] == [30, 46, 62, 80, 100]
    weights = [[float(row[f"weight_{i}"]) for i in range(2)] for row in fits]
    effects = np.array([[float(row[f"effect_{i}"]) for i in range(2)] for row in fits])
    for weight, effect in zip(weights, np.abs(effects)):
        assert weight == pytest.approx(2 * np.exp(effect) / np.exp(effect).sum(), rel=1e-5)
    assert trainer.learner.agent.head.actor.entropy_weights.tolist() == pytest.approx(weights[-1], rel=1e-6)
    assert all(float(row["fit_seconds"]) > 0 for row in fits)
    for name in ("causal.png", "dormancy.png"):
        assert (trainer.run.folder / name).read_bytes().startswith(b"\x89PNG")
    for process in (trainer.learner.causal._executor._processes or {}).values():
        process.join(5)
        assert process.exitcode is not None


def test_resets_come_at_their_updates_and_dormancy_is_written_with_them(make_trainer, quick, monkeypatch):
    seeds = []

    def note(agent, kind, found, seed):
        seeds.append(seed)
        return soft_reset(agent, kind, found, seed)

    monkeypatch.setattr("sacae.training.resets.soft_reset", note)
    trainer = make_trainer("state", **REACHER)
    trainer.train()
    assert len({*seeds}) == 5
    written = rows(trainer.run.folder / "dormancy.csv")
    # Actor and critic move in every update from state, so a reset waits for none.
    assert [int(row["update"]) for row in written if row["retained"]] == [11, 22, 33, 44, 55]
    for row in written:
        share = float(row["dormant"])
        assert 0 <= share <= 1
        if row["retained"]:
            assert float(row["retained"]) == pytest.approx(min(max(1 - share, 0.2), 0.9))


@pytest.mark.parametrize(
    ("condition", "more"),
    [
        pytest.param(lambda trainer: trainer.run.agent_step >= 18, {}, id="while a fit is pending"),
        pytest.param(lambda trainer: trainer.run.agent_step >= 47, {}, id="between two fits"),
        pytest.param(
            lambda trainer: trainer.learner.updates_done >= 24,
            {"num_envs": 2, "soft_reset": "causal_dormant_reset"},
            id="after a reset",
        ),
    ],
)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(condition, more, make_trainer, quick):
    settings = REACHER | more
    whole = make_trainer("state", folder="whole", **settings)
    assert whole.train()
    first = make_trainer("state", folder="parts", **settings)
    stop_when(first, condition)
    assert not first.train()
    second = make_trainer("state", folder="parts", resume=True)
    assert second.train()
    assert_same_run(second, whole)
    for file in ("causal.csv", "dormancy.csv"):
        assert (second.run.folder / file).read_text() == (whole.run.folder / file).read_text()


def test_from_pixels_the_causes_are_the_latent(make_trainer, quick, monkeypatch):
    seen = []
    submit = causal.CausalEntropy._submit
    monkeypatch.setattr(
        causal.CausalEntropy, "_submit", lambda self, pending: seen.append(pending) or submit(self, pending)
    )
    settings = {"causal_entropy": "signed", "causal_every": 40, "causal_samples": 18, "causal_delay": 3}
    trainer = make_trainer("pixels", num_train_steps=100, eval_every=100, num_eval_episodes=1, **settings)
    assert trainer.train()
    assert seen[0]["states"].shape == (18, 8)
    assert np.abs(seen[0]["states"]).max() <= 1  # tanh
    assert seen[0]["actions"].shape == (18, 6)
    assert not torch.equal(trainer.learner.agent.head.actor.entropy_weights, torch.ones(6))


def test_a_fit_that_was_killed_is_said_in_one_line(make_trainer, quick):
    trainer = make_trainer("state", **REACHER)
    submit = trainer.learner.causal._submit

    def killed(pending):
        submit(pending)
        for process in trainer.learner.causal._executor._processes.values():
            os.kill(process.pid, signal.SIGKILL)

    trainer.learner.causal._submit = killed
    with pytest.raises(UserError, match="fits the effects of actions has ended.*--resume"):
        trainer.train()


def test_too_few_samples_for_a_fit_are_refused_before_anything_is_written(make_trainer, quick, tmp_path):
    # reacher: 6 numbers of state, 2 actions, the reward; and one more than these.
    with pytest.raises(UserError, match="causal_samples is 10, but it must be 11 or more"):
        make_trainer("state", **(REACHER | {"causal_samples": 10}))
    assert not (tmp_path / "run").exists()


def test_without_lingam_the_extra_is_named_before_anything_is_written(make_trainer, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "lingam", None)
    with pytest.raises(UserError, match=r"pip install 'sacae\[ace\]'"):
        make_trainer("state", **REACHER)
    assert not (tmp_path / "run").exists()


def test_a_sparse_reward_is_1_at_its_threshold():
    task = configs.make(sparse_reward=0.5).task
    assert _learned_from(np.array([0.4, 0.5, 0.6]), task).tolist() == [0, 1, 1]


def test_a_sparse_reward_is_learned_from_and_the_scores_written_down(make_trainer):
    def run(folder, **more):
        trainer = make_trainer("state", folder=folder, num_train_steps=60, seed_steps=100, **more)
        trainer.train()
        evaluations = [row["episode_return"] for row in rows(trainer.run.folder / "eval.csv")]
        return trainer.learner.replay.sample(500, np.random.default_rng(0)).reward, evaluations

    dense, scores = run("dense")
    threshold = float(dense.median())
    sparse, same_scores = run("sparse", sparse_reward=threshold)
    assert torch.equal(sparse, (dense >= threshold).float())
    assert 0 < sparse.mean() < 1
    assert same_scores == scores
