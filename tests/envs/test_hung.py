"""Environments in processes that do not answer: a line says so, a stop does not wait for them, none outlives a run."""

import functools
import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pytest

from sacae import signals
from sacae.envs import process
from sacae.envs.process import ProcessStepper
from tests.envs.test_stepping import PATIENCE, START, linux_only, runs, script, toys, wait_for  # noqa: F401

ACTIONS = np.zeros((1, 2), np.float32)


@pytest.fixture
def hung():
    """A stepper whose environment hangs in its first step."""
    stepper = ProcessStepper(toys(sleep))
    stepper.reset()
    yield stepper
    stepper._children.kill()
    stepper.close()


def sleep(step):
    time.sleep(10 * PATIENCE)


def sleep_impatiently(step):
    signals.GRACE_SECONDS = 0.2  # of this process
    sleep(step)


def spin_impatiently(step):
    signals.GRACE_SECONDS = 0.2
    while True:
        pass


def test_a_line_says_how_long_an_environment_has_not_answered(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(process, "SILENT_SECONDS", 0.05)
    stepper = ProcessStepper(toys(None, functools.partial(wait_for, tmp_path / "go")))
    stepper.reset()
    caplog.clear()
    stepper.send(np.zeros((2, 2), np.float32))
    waiting = threading.Timer(0.5, (tmp_path / "go").touch)
    waiting.start()
    stepper.receive()
    waiting.join()
    stepper.close()
    assert caplog.messages == ["environment 1 has not answered for 0 s"]  # and not again within a minute


def test_the_line_is_printed_again_from_time_to_time(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(process, "SILENT_SECONDS", 0.01)
    monkeypatch.setattr(process, "AGAIN_SECONDS", 0.01)
    stepper = ProcessStepper(toys(functools.partial(wait_for, tmp_path / "go")))
    stepper.reset()
    caplog.clear()
    stepper.send(ACTIONS)
    monkeypatch.setattr(process.LOGGER, "warning", lambda *_: lines.append(1) or len(lines) < 5 or touch())
    lines, touch = [], (tmp_path / "go").touch
    stepper.receive()
    stepper.close()
    assert len(lines) >= 5


def test_a_healthy_environment_is_not_worth_a_line(caplog):
    stepper = ProcessStepper(toys(None))
    stepper.reset()
    stepper.send(ACTIONS)
    stepper.receive()
    stepper.close()
    assert caplog.messages == []


def test_after_a_stop_request_a_step_is_abandoned_and_its_process_ends(hung, monkeypatch):
    monkeypatch.setattr(signals, "GRACE_SECONDS", 0.2)
    (child,) = multiprocessing.active_children()
    before = hung.snapshot()
    hung.send(ACTIONS)
    stop = signals.StopRequest()
    started = time.monotonic()
    with stop.on_signals(print):
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.raises(signals.Abandoned, hung.receive)
    hung.close()
    assert time.monotonic() - started < process.END_SECONDS
    assert child.exitcode == -signal.SIGKILL
    assert hung.snapshot() == before


@linux_only
@pytest.mark.parametrize("trouble", ["sleep_impatiently", "spin_impatiently"])
def test_a_hung_environment_does_not_outlive_a_parent_that_is_killed(script, trouble):  # noqa: F811
    parent = script(
        "from tests.envs import test_hung\n"
        + START.replace("toys(None, None)", f"toys(None, test_hung.{trouble})")
        + f"stepper.send(np.zeros((2, 2), np.float32))\ntime.sleep({PATIENCE})"
    )
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    time.sleep(0.2)  # the step begins
    parent.kill()
    deadline = time.monotonic() + PATIENCE
    while any(runs(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [pid for pid in pids if runs(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def printing(step):
    print("x" * 100_000, flush=True)


def test_an_environment_that_prints_goes_on_after_its_output_is_lost(script):  # noqa: F811
    parent = script(
        "from tests.envs import test_hung\nstepper = ProcessStepper(toys(test_hung.printing))\nstepper.reset()\n"
        "for _ in range(3): stepper.send(np.zeros((1, 2), np.float32)); stepper.receive()\n"
        "stepper.close()\nprint('done', file=sys.stderr)"
    )
    parent.stdout.close()
    _, errors = parent.communicate(timeout=PATIENCE)
    assert (errors, parent.returncode) == ("done\n", 0)
