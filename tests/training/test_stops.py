"""Signals to a training: it stops with a checkpoint wherever they come, and stops waiting for what does not answer."""

import os
import signal
import time

import pytest

from sacae import signals
from sacae.training import checkpoint, run_folder
from tests.training.counting import BURST_STEP
from tests.training.runs import assert_same_rows, said
from tests.training.test_loop import at

LONG = 30.0
"""Seconds that no test may take."""


@pytest.fixture(autouse=True)
def handlers():
    """What reacts to signals is the same afterwards, and within reach of Ctrl-C even where that is ignored."""
    before = {number: signal.getsignal(number) for number in (*signals.PARENTS_SIGNALS, signal.SIGALRM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def short_grace(monkeypatch):
    monkeypatch.setattr(signals, "GRACE_SECONDS", 0.2)


def send(number=signal.SIGINT, times=1):
    for _ in range(times):
        os.kill(os.getpid(), number)


def hang(seconds=LONG):
    """Does not answer, and does not notice that a signal has come."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(end - time.monotonic())
    pytest.fail("nothing has interrupted this")


def assert_goes_on_as(whole, make_counting, **settings):
    """The stopped run, resumed, equals one that was not stopped."""
    second = make_counting(resume=True, **settings)
    assert second.train()
    assert_same_rows(second, whole)


@pytest.mark.parametrize("number", signals.PARENTS_SIGNALS)
def test_each_of_these_signals_leaves_a_checkpoint_of_the_whole_step(number, make_counting):
    if signal.getsignal(number) is signal.SIG_IGN:  # the tests run under nohup
        signal.signal(number, signal.SIG_DFL)
    training = make_counting()
    at(training, "update", 9, lambda: send(number))
    assert not training.train()
    assert checkpoint.load(training.run.folder)[0]["loop"]["agent_step"] == 10


def test_a_hangup_that_nohup_has_ignored_stays_ignored(make_counting):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    training = make_counting()
    at(training, "update", 9, lambda: send(signal.SIGHUP))
    assert training.train()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.parametrize("name", ["act", "update", "receive", "checkpoint", "evaluate"])
def test_a_key_held_down_is_one_request(name, make_counting):
    training = make_counting()
    at(training, name, 8, lambda: send(times=5))
    assert not training.train()
    assert said(training).count("stopping after this step") == 1
    assert checkpoint.load(training.run.folder)[0]["loop"]["agent_step"] in (8, 9)
    assert not [*training.run.folder.rglob(".tmp-*")]


def test_a_signal_that_comes_while_the_folder_is_made_leaves_a_checkpoint(make_counting, monkeypatch):
    whole = make_counting("whole")
    whole.train()
    create = run_folder.create
    monkeypatch.setattr(run_folder, "create", lambda config: send() or create(config))
    training = make_counting()
    monkeypatch.undo()
    assert not training.train()
    assert checkpoint.load(training.run.folder)[0]["loop"]["agent_step"] == 0
    assert_goes_on_as(whole, make_counting)


def test_a_stop_waits_for_an_environment_only_so_long(make_counting, short_grace):
    whole = make_counting("whole")
    whole.train()
    training = make_counting()
    training.stepper.envs[0].step = lambda action: hang()
    at(training, "receive", 0, send)
    started = time.monotonic()
    assert not training.train()
    assert time.monotonic() - started < LONG / 2
    assert "the environments did not answer" in said(training)
    assert_goes_on_as(whole, make_counting)


def test_a_stop_while_an_environment_hangs_ends_its_step(make_counting, short_grace):
    whole = make_counting("whole")
    whole.train()
    training = make_counting()
    step, steps = training.stepper.envs[0].step, []

    def hang_later(action):
        steps.append(action)
        if len(steps) <= BURST_STEP:
            return step(action)
        return send() or hang()

    training.stepper.envs[0].step = hang_later
    assert not training.train()
    assert checkpoint.load(training.run.folder)[0]["loop"]["agent_step"] == BURST_STEP
    assert_goes_on_as(whole, make_counting)


def test_a_stop_while_an_evaluations_environment_hangs_ends_the_evaluation(make_counting, short_grace):
    whole = make_counting("whole")
    whole.train()
    training = make_counting()

    def hang_in_evaluation():
        training.run._eval_envs[0].step = lambda action: send() or hang()

    at(training, "play", 8, hang_in_evaluation)
    assert not training.train()
    assert checkpoint.load(training.run.folder)[0]["loop"]["next_eval"] == 8
    assert_goes_on_as(whole, make_counting)


def test_an_answer_in_time_is_kept(make_counting, short_grace):
    training = make_counting()
    at(training, "receive", 8, send)
    assert not training.train()
    assert "did not answer" not in said(training)
    assert checkpoint.load(training.run.folder)[0]["loop"]["agent_step"] == 9
    time.sleep(2 * signals.GRACE_SECONDS)  # No alarm is left.
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_signal_within_a_line_that_is_printed_does_not_end_the_training(make_counting):
    training = make_counting()

    def reentrant(*_args, **_kwargs):
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stdout>'>")

    at(training, "update", 9, lambda: setattr(training.run.progress, "line", reentrant) or send())
    training.run.progress.line = reentrant
    training.run._log_evaluation = lambda *_: None
    assert not training.train()
    assert checkpoint.load(training.run.folder)[0]["loop"]["agent_step"] == 10
