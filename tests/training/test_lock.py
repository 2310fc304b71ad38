"""One training at a time in a run folder."""

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sacae import cli
from sacae.errors import UserError
from sacae.training import checkpoint, lock, loop
from sacae.training.playback import play_back
from tests.training import test_kills
from tests.training.runs import rows, said

ROOT = Path(__file__).parents[2]
PATIENCE = 90.0
"""Seconds after which two trainings that both go on are a failure."""
HOLDER = """
import pathlib, sys, time
from sacae.training import lock

held = lock.take(pathlib.Path(sys.argv[1]))
print(flush=True)
time.sleep(60)
"""
AT_WORK = re.escape(f"is at work in another process (pid {os.getpid()}, host {socket.gethostname()})")


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_training_in_a_folder_is_refused_and_harms_nothing(resume, make_counting):
    first = make_counting()

    def files():
        # TensorBoard's own thread writes the first training's events whenever it likes.
        paths = [path for path in first.run.folder.rglob("*") if path.is_file()]
        return {path: path.read_bytes() if path.parent.name != "tb" else b"" for path in paths}

    before = files()
    with pytest.raises(UserError, match=AT_WORK):
        make_counting(resume=resume)
    assert files() == before
    assert first.train()


def test_the_lock_lasts_as_long_as_the_training_and_leaves_no_file(make_counting):
    first = make_counting(num_train_steps=10)
    first.learner.journal.watch = lambda _name: pytest.raises(UserError, lock.take, first.run.folder)
    assert first.train()
    assert not (first.run.folder / lock.LOCK).exists()
    assert make_counting(resume=True, num_train_steps=20).train()
    assert [row["env_step"] for row in rows(first.run.folder / "train.csv")] == ["5", "10", "15", "20"]


def test_a_failed_training_releases_the_folder(make_counting):
    first = make_counting()
    first.stepper.receive = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        first.train()
    assert make_counting(resume=True).train()


def test_a_folder_is_released_if_the_training_cannot_begin(make_counting, monkeypatch):
    make_counting().train()
    monkeypatch.setattr("tests.training.counting.CountingLearner.load", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError) as kept:  # with its traceback, and so with everything that was local there
        make_counting(resume=True)
    monkeypatch.undo()
    assert make_counting(resume=True, num_train_steps=30).train()
    assert kept.type is ZeroDivisionError


def test_the_lock_of_a_killed_training_is_taken_over(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, cwd=ROOT)
    with holder:
        holder.stdout.readline()
        for refuse in (lock.take, lock.refuse_if_held):
            with pytest.raises(UserError, match=rf"at work in another process \(pid {holder.pid}, host"):
                refuse(tmp_path)
        os.kill(holder.pid, signal.SIGKILL)
    lock.refuse_if_held(tmp_path)
    lock.take(tmp_path).release()


def test_a_lock_that_a_killed_training_left_does_not_make_a_folder_used(make_counting, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / lock.LOCK).write_text("pid 1, host long-ago\n")
    training = make_counting()
    assert said(training) == ""
    assert training.train()


def test_a_lock_that_nobody_holds_any_more_is_gone(tmp_path):
    held = lock.take(tmp_path)
    assert (tmp_path / lock.LOCK).exists()
    del held
    assert not (tmp_path / lock.LOCK).exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_warns_once_and_goes_on(number, make_counting, monkeypatch):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    for resume in (False, True):
        training = make_counting(resume=resume, num_train_steps=20 if resume else 10)
        assert said(training).count("has no locks") == 1
        assert not (training.run.folder / lock.LOCK).exists()
        assert training.train()


def test_of_trainings_that_begin_at_once_one_wins(tmp_path):
    winners, losers, barrier = [], [], threading.Barrier(8)

    def begin():
        barrier.wait()
        try:
            winners.append(lock.take(tmp_path))
        except UserError as error:
            losers.append(str(error))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) == 1
    assert len(losers) == 7
    assert all(re.search(AT_WORK, error) for error in losers)


def pair_of_trainings(folder, *flags):
    """Starts two trainings at once; returns the one that goes on, once the other has ended as it must."""
    both = [test_kills.start(folder, 100_000, *flags) for _ in range(2)]
    try:
        deadline = time.monotonic() + PATIENCE
        while not any(ended := [process.poll() is not None for process in both]):
            assert time.monotonic() < deadline, "both train in one folder"
            time.sleep(0.02)
        loser, winner = sorted(both, key=lambda process: process.poll() is None)
        _, errors = loser.communicate()
        assert (ended.count(True), loser.returncode) == (1, 2), errors
        assert errors.count("\n") == 1
        assert f"is at work in another process (pid {winner.pid}, host" in errors
        return winner
    except BaseException:
        for process in [process for process in both if process.poll() is None]:
            os.killpg(process.pid, signal.SIGKILL)
        raise


@pytest.mark.parametrize("pairs", [1, pytest.param(12, marks=pytest.mark.faults)])
def test_of_two_resumed_trainings_one_goes_on_and_every_row_is_there_once(pairs, tmp_path):
    folder = tmp_path / "run"
    first = test_kills.start(folder, 100_000)
    written = test_kills.wait_until_it_trains(first, folder, 0)
    os.killpg(first.pid, signal.SIGKILL)
    for pair in range(pairs):
        winner = pair_of_trainings(folder, "--resume")
        written = test_kills.wait_until_it_trains(winner, folder, written)
        assert winner.poll() is None
        last = pair == pairs - 1
        # A training that was killed leaves rows that the next one takes back.
        os.killpg(winner.pid, signal.SIGTERM if last else signal.SIGKILL)
        _, errors = winner.communicate()
        assert "Traceback" not in errors
    assert not (folder / lock.LOCK).exists()
    step = checkpoint.load(folder)[0]["loop"]["agent_step"]
    assert step > 0
    for name, steps in (("train.csv", range(1000, step + 1, 1000)), ("eval.csv", range(0, step + 1, 1000))):
        assert (folder / name).read_text().count("env_step,") == 1
        assert [int(row["env_step"]) for row in rows(folder / name)] == [*steps]


def test_a_lock_is_never_held_twice_while_others_release_it(tmp_path):
    inside, worst, done = [], [], time.monotonic() + 0.5

    def work():
        while time.monotonic() < done:
            try:
                held = lock.take(tmp_path)
            except UserError:
                continue
            inside.append(1)
            worst.append(len(inside))
            time.sleep(0)
            inside.pop()
            held.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(worst) == 1
    assert not (tmp_path / lock.LOCK).exists()


def test_a_live_run_can_be_played_and_reported(make_training, tmp_path, capsys):
    training = make_training(obs="state")
    assert loop.train(*training)  # not closed yet
    folder = training.run.folder
    with pytest.raises(UserError, match=AT_WORK):
        make_training(obs="state", resume=True)
    played = play_back(folder, 1, 1, False, 1000, "cpu", training.run.console)
    assert len(played["episode_returns"]) == 1
    assert cli.main(["report", str(folder), "--out", str(tmp_path / "report")]) == 0, capsys.readouterr()
    training.close()
