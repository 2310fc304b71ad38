"""What a run counts, writes down and keeps."""

import gc
import itertools

import numpy as np
import pytest
import torch
from matplotlib.lines import Line2D

from sacae.errors import UserError
from sacae.training import checkpoint
from tests.training import counting
from tests.training.counting import EPISODE_STEPS
from tests.training.runs import rows, rows_without_timing, said
from tests.training.test_loop import at


def column(training, name, file="train.csv", kind=int):
    return [kind(float(row[name])) for row in rows(training.run.folder / file)]


def evaluated_at(training):
    return sorted({*column(training, "env_step", "eval.csv")})


# Rows of train.csv.


def test_rows_count_both_kinds_of_steps_and_name_the_run(make_counting):
    training = make_counting(action_repeat=2, num_train_steps=24)
    training.train()
    # An episode of 5 environment steps takes 3 decisions of 2, of which the last is cut short.
    assert column(training, "agent_step") == [3, 6, 9, 12]
    assert column(training, "env_step") == [6, 12, 18, 24]
    assert column(training, "episode_length") == [3] * 4
    for row in rows(training.run.folder / "train.csv"):
        assert (row["agent"], row["task"], row["seed"]) == ("counting", training.run.config.task_name, "1")


def test_rows_have_the_sum_of_the_episodes_rewards_and_the_means_since_the_last_row(make_counting):
    training = make_counting()
    rewards = []
    receive = training.stepper.receive
    training.stepper.receive = lambda: rewards.append((result := receive()).reward[0]) or result
    training.train()
    sums = [sum(rewards[i : i + EPISODE_STEPS]) for i in range(0, 20, EPISODE_STEPS)]
    assert column(training, "episode_return", kind=float) == pytest.approx(sums, rel=1e-12)
    means = [total / EPISODE_STEPS for total in sums]
    assert column(training, "reward", kind=float) == pytest.approx(means, rel=1e-12)
    # Updates 1 to 5 were made by the first row, and with the burst 6 to 13 by the second.
    assert column(training, "update", kind=float)[:2] == [3.0, 9.5]
    # What waits for the count of a step comes after the step's row.
    assert column(training, "waited", kind=float) == [2.5, 7.0, 12.0, 17.0]


def test_episodes_that_end_at_one_step_have_a_row_each_in_order_with_their_own_step_metrics(make_counting):
    training = make_counting(num_envs=3, num_train_steps=30)
    answers = []
    receive = training.stepper.receive
    training.stepper.receive = lambda: answers.append(receive()) or answers[-1]
    shown = []
    training.run.progress.note = lambda **texts: shown.append(texts)
    training.train()
    assert column(training, "env_step") == [15, 15, 15, 30, 30, 30]
    returns = [sum(answer.reward[i] for answer in answers[:EPISODE_STEPS]) for i in range(3)]
    assert column(training, "episode_return", kind=float)[:3] == pytest.approx(returns, rel=1e-12)
    # The first row has the mean over all steps before and its own last; the others' have their own last alone.
    before = [reward for answer in answers[: EPISODE_STEPS - 1] for reward in answer.reward]
    last = answers[EPISODE_STEPS - 1].reward
    own = [(sum(before) + last[0]) / (len(before) + 1), last[1], last[2]]
    assert column(training, "reward", kind=float)[:3] == pytest.approx(own, rel=1e-12)
    # Updates that were made by then are the first row's, too.
    assert [row["update"] != "" for row in rows(training.run.folder / "train.csv")[:3]] == [True, False, False]
    # So are speed and shares: no time has passed since.
    for name in ("env_steps_per_second", "updates_per_second", "share_log"):
        assert [row[name] != "" for row in rows(training.run.folder / "train.csv")] == [True, False, False] * 2
    assert ["speed" in texts for texts in shown if "eval" not in texts].count(True) == 2
    assert training.run.last_speed > 0


def test_shares_of_time_are_shares(make_counting):
    training = make_counting()
    training.train()
    for row in rows(training.run.folder / "train.csv"):
        assert float(row["updates_per_second"]) > 0
        assert all(0 <= float(row[name]) <= 1 for name in row if name.startswith("share_"))


# Evaluations and checkpoints.


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, [0, 8, 16, 20]),
        ({"eval_every": 100}, [0, 20]),
        ({"eval_every": 10}, [0, 10, 20]),
        ({"eval_every": 8, "num_envs": 3}, [0, 9, 18, 21]),  # a step that passes a multiple, and the last
        ({"eval_every": 2, "num_envs": 6}, [0, 6, 12, 18, 24]),  # one evaluation where a step passes several
        ({"eval_every": 7, "action_repeat": 2}, [0, 8, 14, 20]),
    ],
)
def test_evaluations_come_before_the_first_step_at_multiples_and_after_the_last(settings, steps, make_counting):
    training = make_counting(**settings)
    training.train()
    assert evaluated_at(training) == steps


def test_evaluations_have_a_row_for_each_episode(make_counting):
    training = make_counting(num_eval_episodes=3, eval_every=20)
    training.learner.policy = lambda obs: np.zeros(len(obs))
    training.train()
    found = [(row["env_step"], row["episode"]) for row in rows(training.run.folder / "eval.csv")]
    assert found == [*itertools.product(["0", "20"], ["0", "1", "2"])]
    assert column(training, "episode_length", "eval.csv") == [EPISODE_STEPS] * 6
    # Each episode of each evaluation has a seed of its own.
    assert len({*column(training, "episode_return", "eval.csv", float)}) > 3


@pytest.mark.parametrize("num_eval_envs", [1, 2, 3])
def test_evaluations_do_not_depend_on_how_many_run_side_by_side(num_eval_envs, make_counting):
    alone = make_counting("alone", num_eval_episodes=3)
    alone.train()
    beside = make_counting("beside", num_eval_episodes=3, num_eval_envs=num_eval_envs)
    beside.train()
    files = [rows_without_timing(training.run.folder / "eval.csv") for training in (alone, beside)]
    assert files[0] == files[1]


def test_evaluations_leave_the_training_untouched(make_counting):
    often = make_counting("often", eval_every=2, num_eval_episodes=3)
    seldom = make_counting("seldom", eval_every=20, num_eval_episodes=1)
    for training in (often, seldom):
        training.train()
    files = [rows_without_timing(training.run.folder / "train.csv") for training in (often, seldom)]
    assert files[0] == files[1]


def test_the_best_evaluations_policy_is_kept(make_counting):
    training = make_counting()
    training.learner.policy = lambda obs: {0: 0.125, 8: 0.5, 16: 0.25, 20: 0.5}[training.run.env_step] - obs[:, 0]
    training.train()
    assert column(training, "episode_return", "eval.csv", float)[::2] == [0.625, 2.5, 1.25, 2.5]
    assert training.run.best_return == 2.5
    state, _ = checkpoint.load(training.run.folder, name=checkpoint.BEST)
    assert state["loop"]["agent_step"] == 8  # the later one only equals it
    assert state["learning"] == {"updates": 11}


def test_the_best_return_survives_a_resume(make_counting):
    first = make_counting()
    first.learner.policy = lambda obs: 0.5 - obs[:, 0]
    first.train()
    second = make_counting(resume=True, num_train_steps=40)
    assert second.run.best_return == 2.5
    second.learner.policy = lambda obs: 0.25 - obs[:, 0]
    second.train()
    assert checkpoint.load(second.run.folder, name=checkpoint.BEST)[0]["loop"]["agent_step"] == 0


@pytest.mark.parametrize("earlier_version", [False, True])
@pytest.mark.parametrize("later", [0.25, 0.625])
def test_after_a_resume_the_best_policy_is_of_an_evaluation_that_eval_csv_has(later, earlier_version, make_counting):
    first = make_counting(eval_every=4)
    first.learner.policy = lambda obs: {0: 0.5, 4: 0.25, 8: 0.25, 12: 0.75}[first.run.env_step] - obs[:, 0]
    at(first, "send", 13, crash)
    with pytest.raises(RuntimeError):
        first.train()
    assert (evaluated_at(first), best_at(first)) == ([0, 4, 8, 12], 12)
    if earlier_version:
        state, replay = checkpoint.load(first.run.folder)
        del state["best"]
        checkpoint._write(first.run.folder / "checkpoint" / checkpoint.STATE, state, replay)
    second = make_counting(resume=True)  # from the checkpoint at step 8
    assert (evaluated_at(second), best_at(second)) == ([0, 4, 8], None if earlier_version else 0)
    dropped = "warning: best.pt is damaged or newer than the checkpoint: it is dropped"
    assert (dropped in said(second)) is earlier_version
    second.learner.policy = lambda obs: later - obs[:, 0]
    second.train()
    assert best_at(second) == (12 if later > 0.5 else None if earlier_version else 0)


def test_a_policy_that_was_kept_as_the_best_does_not_learn_on_in_checkpoints(make_counting):
    first = make_counting()
    networks = torch.zeros(())
    first.learner.playable = lambda: {"updates": networks.fill_(first.learner.updates)}
    first.learner.policy = lambda obs: -first.run.env_step - obs[:, 0]  # the first is the best
    first.train()
    second = make_counting(resume=True)
    state, _ = checkpoint.load(second.run.folder, name=checkpoint.BEST)
    assert state["learning"] == {"updates": 0}


def crash():
    raise RuntimeError


def best_at(training):
    """The step of the policy that is kept as the best; None where there is none."""
    if not (training.run.folder / "checkpoint" / checkpoint.BEST).exists():
        return None
    return checkpoint.load(training.run.folder, name=checkpoint.BEST)[0]["loop"]["agent_step"]


# Going on later.


def test_a_finished_run_can_be_given_more_steps(make_counting):
    first = make_counting()
    assert first.train()
    second = make_counting(resume=True, num_train_steps=40)
    assert second.train()
    assert evaluated_at(second) == [0, 8, 16, 20, 24, 32, 40]
    assert column(second, "env_step") == [*range(5, 41, 5)]
    assert len(rows(second.run.folder / "eval.csv")) == 2 * 7


def test_a_run_is_not_given_fewer_steps_than_it_has_made(make_counting):
    make_counting().train()
    with pytest.raises(UserError, match=r"num_train_steps is 10, but the run in .* has made 20 environment"):
        make_counting(resume=True, num_train_steps=10)
    assert make_counting(resume=True, num_train_steps=20).run.finished


def test_a_finished_run_resumed_changes_nothing(make_counting):
    first = make_counting()
    first.train()
    before = [(first.run.folder / name).read_text() for name in ("train.csv", "eval.csv")]
    second = make_counting(resume=True)
    assert second.train()
    assert second.learner.journal.calls == ["checkpoint"]
    assert [(first.run.folder / name).read_text() for name in ("train.csv", "eval.csv")] == before


def test_a_run_folder_in_use_is_refused_and_left_alone(make_counting, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is no run folder and holds notes.txt; choose another --work-dir"):
        make_counting()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_two_runs_of_one_seed_are_equal_and_of_two_seeds_are_not(make_counting):
    files = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        training = make_counting(folder, seed=seed)
        training.train()
        found = rows_without_timing(training.run.folder / "train.csv")
        files.append([{name: value for name, value in row.items() if name != "seed"} for row in found])
    assert files[0] == files[1] != files[2]


def test_no_figure_is_left_in_memory_after_an_evaluation(tmp_path):
    """A figure's parts are cycles of references, and Python's own collections come too rarely."""
    training = counting.start(tmp_path / "run", num_train_steps=20, eval_every=10)
    gc.collect()
    gc.disable()
    try:
        training.train()
        assert (tmp_path / "run" / "curve.png").exists()
        assert not [found for found in gc.get_objects() if type(found) is Line2D]
    finally:
        gc.enable()
