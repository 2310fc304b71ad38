"""Standard output and error that end before the program does: a closed pipe, a full disk, a terminal that is gone."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sacae import output

ROOT = Path(__file__).parents[1]
full_disk = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")


def closed_pipe():
    """The write end of a pipe that nobody reads any more, as after `| head`."""
    read, write = os.pipe()
    os.close(read)
    return write


def full():
    return os.open("/dev/full", os.O_WRONLY)


ENDS = [closed_pipe, pytest.param(full, marks=full_disk)]


def run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE):
    done = subprocess.run(
        [sys.executable, *map(str, words)], stdout=stdout, stderr=stderr, text=True, check=False, cwd=ROOT, timeout=120
    )
    for stream in (stdout, stderr):
        if stream > 0:
            os.close(stream)
    return done


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["nonsense"]])
def test_a_command_whose_output_is_lost_ends_without_a_traceback(words, end):
    done = run(["-m", "sacae", *words], stdout=end())
    assert done.returncode == (2 if words == ["nonsense"] else 0)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert ("standard output is lost (No space left" in done.stderr) == (end is full and words != ["nonsense"])
    assert done.stderr.count("\n") <= 1


TINY = ["--domain", "cartpole", "--task", "balance", "--obs", "state", "--num-train-steps", "300", "--seed-steps", "20",
        "--initial-updates", "1", "--batch-size", "4", "--hidden-dim", "8", "--eval-every", "10000",
        "--num-eval-episodes", "1", "--no-save-video", "--device", "cpu", "--precision", "fp32"]  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
def test_a_training_goes_on_after_its_output_is_lost(end, tmp_path):
    lost = end()
    done = run(["train.py", *TINY, "--work-dir", tmp_path / "run"], stdout=lost, stderr=os.dup(lost))
    assert done.returncode == 0
    assert (tmp_path / "run" / "curve.png").exists()
    assert len((tmp_path / "run" / "eval.csv").read_text().splitlines()) == 3


class Ending:
    """A stream that takes a few characters."""

    def __init__(self, room, number=errno.EIO):
        self.room, self.number, self.text = room, number, ""

    def write(self, text):
        if len(self.text) + len(text) > self.room:
            raise OSError(self.number, os.strerror(self.number))
        self.text += text
        return len(text)

    def flush(self):
        if len(self.text) == self.room:
            raise OSError(self.number, os.strerror(self.number))

    def fileno(self):
        raise OSError(errno.EBADF, "none")

    encoding = "utf-8"


@pytest.mark.parametrize("number", [errno.EIO, errno.EPIPE, errno.ENOSPC])
def test_what_does_not_fit_is_dropped(number, monkeypatch, capsys):
    ending = Ending(10, number)
    monkeypatch.setattr(sys, "stdout", ending)
    with output.lasting():
        print("12345")
        print("more than there is room for", flush=True)
        assert sys.stdout.encoding == "utf-8"
    assert sys.stdout is ending
    assert ending.text.startswith("12345\n")
    assert ("standard output is lost" in capsys.readouterr().err) == (number != errno.EPIPE)


def test_both_may_be_lost_or_missing(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Ending(0))
    monkeypatch.setattr(sys, "stderr", Ending(0))
    with output.lasting():
        print("nowhere")
        print("nowhere", file=sys.stderr)
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with output.lasting():
        print("nowhere")
