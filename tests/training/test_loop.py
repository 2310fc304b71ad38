"""The loop's order, and that a run which was stopped anywhere goes on as if it had not been."""

import os
import signal
import threading

import numpy as np
import pytest

from sacae import signals
from sacae.errors import UserError
from sacae.training import checkpoint
from tests.training.counting import BURST, BURST_STEP
from tests.training.runs import assert_same_rows, rows

STEP = ["act", "send", "learn", "update", "receive", "observe", "count", "after_step"]


def at(training, name, agent_step, do, occurrence=1):
    """Does something when a call of that name begins at that agent step, for the n-th time."""
    seen = 0

    def watch(called):
        nonlocal seen
        if called == name and training.run.agent_step == agent_step:
            seen += 1
            if seen == occurrence:
                do()

    training.learner.journal.watch = watch


def stop_at(training, name, agent_step, occurrence=1):
    """Requests a stop, as Ctrl-C would, when a call of that name begins at that agent step, for the n-th time."""
    at(training, name, agent_step, lambda: setattr(training.run, "stopping", True), occurrence)


def timeline(training):
    """What is called from now on, each with the agent step at which it begins."""
    seen = []
    training.learner.journal.watch = lambda name: seen.append((name, training.run.agent_step))
    return seen


def calls_without(training, *names):
    return [name for name in training.learner.journal.calls if name not in names]


# Order.


def test_a_step_acts_learns_receives_observes_counts_and_then_learns_what_waits_for_the_count(make_counting):
    training = make_counting(num_train_steps=2, eval_every=100, checkpoint_every=100)
    assert training.train()
    steps = calls_without(training, "play", "evaluate", "checkpoint")
    assert steps == STEP * 2


def test_the_step_is_counted_between_observing_it_and_what_waits_for_the_count(make_counting):
    training = make_counting(num_train_steps=2, eval_every=100, checkpoint_every=100)
    seen = timeline(training)
    training.train()
    assert [step for name, step in seen if name == "observe"] == [0, 1]
    assert [step for name, step in seen if name == "after_step"] == [1, 2]


def test_the_first_checkpoint_comes_before_anything_and_the_last_after_all_evaluations(make_counting):
    training = make_counting(num_train_steps=10, eval_every=4, checkpoint_every=8)
    seen = timeline(training)
    training.train()
    written = [call for call in seen if call[0] in ("evaluate", "checkpoint")]
    assert written == [
        ("checkpoint", 0), ("evaluate", 0), ("evaluate", 4), ("evaluate", 8), ("checkpoint", 8), ("evaluate", 10),
        ("checkpoint", 10),
    ]  # fmt: skip


def test_updates_are_made_before_the_environment_answers(make_counting):
    training = make_counting(num_train_steps=8)
    training.train()
    calls = training.learner.journal.calls
    sends = [i for i, name in enumerate(calls) if name == "send"]
    receives = [i for i, name in enumerate(calls) if name == "receive"]
    updates = [calls[start:end].count("update") for start, end in zip(sends, receives, strict=True)]
    assert updates == [1] * BURST_STEP + [BURST, 1]
    assert sum(updates) == training.learner.updates_done


# Stop.


@pytest.mark.parametrize(("name", "agent_step"), [("receive", 3), ("observe", 3), ("count", 4), ("after_step", 4)])
def test_a_stop_takes_effect_after_the_whole_step(name, agent_step, make_counting):
    training = make_counting()
    stop_at(training, name, agent_step)
    assert not training.train()
    assert training.run.agent_step == 4
    assert training.learner.journal.calls[-2:] == ["after_step", "checkpoint"]
    assert checkpoint.load(training.run.folder)[0]["loop"]["agent_step"] == 4


def test_a_stop_within_a_burst_asks_the_environment_nothing_and_sends_the_same_actions_again(make_counting):
    first = make_counting()
    stop_at(first, "update", BURST_STEP, occurrence=2)
    assert not first.train()
    assert first.learner.journal.calls[-5:] == ["send", "learn", "update", "update", "checkpoint"]
    assert first.run.agent_step == BURST_STEP
    second = make_counting(resume=True)
    assert second.train()
    np.testing.assert_array_equal(second.stepper.sent[0], first.stepper.sent[-1])
    rest = ["act", "send", "learn", *["update"] * (BURST - 2), "receive"]
    assert second.learner.journal.calls[: len(rest)] == rest
    assert not np.array_equal(second.stepper.sent[1], second.stepper.sent[0])


def test_a_stop_within_an_evaluation_writes_none_of_it_and_the_resumed_run_makes_it_whole(make_counting):
    first = make_counting()
    stop_at(first, "play", 8, occurrence=3)
    assert not first.train()
    assert first.learner.journal.calls[-4:] == ["play"] * 3 + ["checkpoint"]
    assert {row["env_step"] for row in rows(first.run.folder / "eval.csv")} == {"0"}
    second = make_counting(resume=True)
    second.train()
    assert calls_without(second, "play")[:2] == ["evaluate", "act"]
    steps = [row["env_step"] for row in rows(second.run.folder / "eval.csv")]
    assert steps == ["0", "0", "8", "8", "16", "16", "20", "20"]


def test_a_stop_at_the_last_step_leaves_the_last_evaluation_to_the_resumed_run(make_counting):
    first = make_counting()
    stop_at(first, "after_step", 20)
    assert not first.train()
    assert first.run.agent_step == 20
    second = make_counting(resume=True)
    assert second.train()
    assert calls_without(second, "play") == ["evaluate", "checkpoint"]


def test_ctrl_c_leaves_a_checkpoint_and_the_handlers_of_before(make_counting):
    training = make_counting()
    handler = signal.getsignal(signal.SIGINT)
    at(training, "update", 9, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert not training.train()
    assert signal.getsignal(signal.SIGINT) is handler
    state, _ = checkpoint.load(training.run.folder)
    assert state["loop"]["agent_step"] == 10
    assert state["learning"] == {"updates": training.learner.updates_done}


def test_a_second_ctrl_c_interrupts_at_once(make_counting, monkeypatch):
    monkeypatch.setattr(signals, "REPEAT_SECONDS", 0)
    training = make_counting()

    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    at(training, "update", 9, twice)
    with pytest.raises(KeyboardInterrupt):
        training.train()
    assert training.learner.journal.calls[-1] == "update"
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_run_trains_in_a_thread_other_than_the_main_one(make_counting):
    training = make_counting()
    complete = []
    thread = threading.Thread(target=lambda: complete.append(training.train()))
    thread.start()
    thread.join(60)
    assert complete == [True]


# Resume.


@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize(
    ("name", "agent_step", "occurrence"),
    [
        pytest.param("update", BURST_STEP, 2, id="within a burst"),
        pytest.param("act", 8, 1, id="before the first of a step's updates"),
        pytest.param("after_step", 10, 1, id="between two episodes"),
        pytest.param("after_step", 12, 1, id="within an episode"),
        pytest.param("play", 8, 3, id="within an evaluation"),
        pytest.param("play", 0, 1, id="before the first step"),
    ],
)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(name, agent_step, occurrence, num_envs, make_counting):
    whole = make_counting("whole", num_envs=num_envs)
    assert whole.train()
    first = make_counting("parts", num_envs=num_envs)
    stop_at(first, name, agent_step, occurrence)
    assert not first.train()
    second = make_counting("parts", resume=True)
    assert second.train()
    assert_same_rows(second, whole)
    assert second.learner.updates_done == whole.learner.updates_done
    assert first.learner.updates_done < whole.learner.updates_done


def test_rows_written_after_the_checkpoint_are_not_doubled_by_a_crash(make_counting):
    whole = make_counting("whole")
    whole.train()
    crashed = make_counting("crashed")

    def fail():
        raise OSError("power cut")

    at(crashed, "receive", 15, fail)
    with pytest.raises(OSError, match="power cut"):
        crashed.train()
    assert [row["env_step"] for row in rows(crashed.run.folder / "train.csv")] == ["5", "10", "15"]
    resumed = make_counting("crashed", resume=True)
    assert resumed.run.agent_step == 8
    resumed.train()
    assert_same_rows(resumed, whole)


def test_episodes_that_cannot_go_on_begin_anew_and_nothing_of_them_is_counted(make_counting):
    first = make_counting()
    stop_at(first, "after_step", 8)  # three steps into the second episode
    first.train()
    second = make_counting(resume=True, keeps_episodes=False)
    assert second.learner.begun == 1
    assert second.train()
    written = rows(second.run.folder / "train.csv")
    assert [(row["env_step"], row["episode_length"]) for row in written] == [("5", "5"), ("13", "5"), ("18", "5")]


@pytest.mark.parametrize(
    ("broken_at", "episodes"),
    [
        pytest.param(14, [5, 10], id="found before an episode's row"),
        pytest.param(15, [5, 10, 15], id="found before a checkpoint"),  # which is due at 16
    ],
)
def test_what_is_not_finite_is_never_written_down(broken_at, episodes, make_counting):
    training = make_counting()
    at(training, "act", broken_at, lambda: setattr(training.learner, "broken", True))
    with pytest.raises(UserError, match="not finite"):
        training.train()
    assert checkpoint.load(training.run.folder)[0]["loop"]["agent_step"] == 8
    assert checkpoint.load(training.run.folder, name=checkpoint.BEST)[0]["loop"]["agent_step"] <= 8
    assert [int(row["env_step"]) for row in rows(training.run.folder / "train.csv")] == episodes
