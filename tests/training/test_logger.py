"""What a run writes down: TensorBoard shows what the CSV files say, however often the run was stopped."""

import csv
import itertools
import types
from collections import defaultdict

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as PluginEventAccumulator
from tensorboard.summary.writer import event_file_writer

from sacae.training import causal
from sacae.training.logger import Logger
from tests.training.quick_fit import quick_fit

NOT_SHOWN = ("agent", "task", "seed", "env_step", "episode")
"""Columns of the CSV files that say which row it is."""


@pytest.fixture(autouse=True)
def _a_second_between_event_files(monkeypatch):
    """TensorBoard reads event files in the order of their names, which begin with the second of their start."""
    clock = itertools.count(1_700_000_000)
    monkeypatch.setattr(event_file_writer, "time", types.SimpleNamespace(time=lambda: next(clock)))


def written(folder, group):
    """Each column of a CSV file as (env_step, value): of eval.csv the means over the episodes of an evaluation."""
    with open(folder / f"{group}.csv", newline="") as file:
        rows = [*csv.DictReader(file)]
    if group == "eval":
        returns = defaultdict(list)
        for row in rows:
            returns[row["env_step"]].append(float(row["episode_return"]))
        rows = [{"env_step": step, "episode_return": np.mean(values)} for step, values in returns.items()]
    columns = defaultdict(list)
    for row in rows:
        for name, value in row.items():
            if value != "" and name not in NOT_SHOWN and not (group == "causal" and name == "agent_step"):
                columns[name].append((int(row["env_step"]), float(value)))
    return dict(columns)


def shown(folder, group):
    """The same as TensorBoard has it."""
    events = EventAccumulator(str(folder / "tb"), size_guidance={"scalars": 0}).Reload()
    prefix = f"{group}/"
    return {
        tag.removeprefix(prefix): [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if tag.startswith(prefix)
    }


def assert_tensorboard_shows_what_is_written(folder, groups=("train", "eval")):
    for group in groups:
        left, right = shown(folder, group), written(folder, group)
        assert left.keys() == right.keys()
        for name in left:
            assert [step for step, _ in left[name]] == [step for step, _ in right[name]], f"{group}/{name}"
            np.testing.assert_allclose([v for _, v in left[name]], [v for _, v in right[name]], rtol=1e-6)


def eval_steps(folder):
    return [step for step, _ in shown(folder, "eval")["episode_return"]]


class PowerCut(Exception):
    """The run ends without another checkpoint."""


def cut_power(training, agent_step):
    """Lets the run crash while it takes the step that comes after `agent_step`, and what is flushed lies on disk."""
    receive = training.stepper.receive

    def fail():
        if training.run.agent_step == agent_step:
            training.run.logger.events.sizes()  # writes out what is queued
            raise PowerCut
        return receive()

    training.stepper.receive = fail
    with pytest.raises(PowerCut):
        training.train()


def stop_in_evaluation(training, env_step):
    """Requests a stop, as Ctrl-C would, inside the evaluation at that step: its checkpoint comes before its rows."""

    def watch(name):
        training.run.stopping |= name == "play" and training.run.env_step == env_step

    training.learner.journal.watch = watch
    assert not training.train()
    assert training.run.env_step == env_step


def test_a_finished_run_with_more_steps_keeps_the_evaluation_and_the_episode_of_its_last_step(make_counting):
    first = make_counting(eval_every=20)
    assert first.train()
    assert shown(first.run.folder, "train")["episode_return"][-1][0] == 20
    longer = make_counting(num_train_steps=40, resume=True)
    assert longer.train()
    assert eval_steps(longer.run.folder) == [0, 20, 40]
    assert_tensorboard_shows_what_is_written(longer.run.folder)


def test_a_run_that_crashes_shows_nothing_twice_when_it_goes_on(make_counting):
    first = make_counting(eval_every=9, checkpoint_every=9)
    cut_power(first, 12)  # an evaluation and its checkpoint lie at 9, the end of an episode at 10
    second = make_counting(resume=True)
    assert second.run.agent_step == 9
    assert_tensorboard_shows_what_is_written(first.run.folder)
    cut_power(second, 16)
    third = make_counting(resume=True)
    assert third.run.agent_step == 9
    assert third.train()
    assert eval_steps(third.run.folder) == [0, 9, 18, 20]
    assert_tensorboard_shows_what_is_written(third.run.folder)


def test_an_evaluation_that_comes_after_its_steps_checkpoint_is_shown_once(make_counting):
    first = make_counting()
    stop_in_evaluation(first, 8)
    assert eval_steps(first.run.folder) == [0]
    second = make_counting(resume=True)
    cut_power(second, 10)
    assert eval_steps(first.run.folder) == [0, 8]
    third = make_counting(resume=True)
    assert third.run.agent_step == 8
    assert eval_steps(first.run.folder) == [0]
    stop_in_evaluation(third, 8)
    fourth = make_counting(resume=True)
    assert fourth.train()
    assert eval_steps(fourth.run.folder) == [0, 8, 16, 20]
    assert_tensorboard_shows_what_is_written(fourth.run.folder)


def test_rows_that_come_late_or_before_their_step_is_over_are_shown_once(make_training, monkeypatch):
    monkeypatch.setattr("sacae.training.off_policy.require_lingam", lambda: None)
    monkeypatch.setattr(causal, "timed_fit", quick_fit)
    first = make_training(
        "state", domain="reacher", task="easy", num_train_steps=80, checkpoint_every=40, eval_every=80,
        causal_entropy="absolute", causal_every=20, causal_samples=15, causal_delay=8,
        soft_reset="reset", reset_every=13,
    )  # fmt: skip
    cut_power(first, 28)
    # A fit of data of step 30 is taken over at 46, the reset of update 26 is at step 54.
    second = make_training("state", resume=True)
    assert second.run.agent_step == 20
    assert second.train()
    assert_tensorboard_shows_what_is_written(second.run.folder, ("train", "eval", "causal", "dormancy"))


def test_a_run_folder_whose_events_were_deleted_goes_on(make_counting):
    first = make_counting(eval_every=100)
    first.train()
    for path in (first.run.folder / "tb").iterdir():
        path.unlink()
    second = make_counting(num_train_steps=40, resume=True)
    assert second.train()
    assert eval_steps(second.run.folder) == [40]


def test_a_checkpoint_that_does_not_know_the_event_files_leaves_them(tmp_path):
    row = {"env_step": 5, "agent_step": 5}
    first = Logger(tmp_path, {}, (), None)
    first.evaluation(row, [1.0], [7])
    state = first.state(5)
    first.close()
    del state["event_sizes"]
    Logger(tmp_path, {}, (), state).close()
    assert eval_steps(tmp_path) == [5]


@pytest.mark.parametrize(
    ("reader", "kind"),
    [
        pytest.param(EventAccumulator, "scalars", id="for scripts"),
        pytest.param(PluginEventAccumulator, "tensors", id="TensorBoard's own"),
    ],
)
def test_a_reader_that_is_open_meanwhile_forgets_what_lies_beyond_the_checkpoint(reader, kind, make_counting):
    first = make_counting(num_train_steps=19, checkpoint_every=7)
    cut_power(first, 17)  # the last checkpoint lies at 14
    watching = reader(str(first.run.folder / "tb"), size_guidance={kind: 0})

    def seen(tag):
        return [event.step for event in getattr(watching.Reload(), kind.title())(tag)]

    assert seen("train/episode_return") == [5, 10, 15]
    assert make_counting(resume=True).train()
    assert seen("train/episode_return") == [5, 10, 15]
    assert seen("eval/episode_return") == [0, 8, 16, 19]
