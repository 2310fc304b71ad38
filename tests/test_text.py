"""What is printed: no escape sequences from outside, and substitutes for what a terminal cannot show."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from sacae import cli
from sacae.experiments.board import Board
from sacae.text import draws_over, printable, say, shortened, waiting
from sacae.training.progress import ProgressReport
from tests.training.runs import start

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("runs/ä [b]", "runs/ä [b]"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\rb\x07", "a\\rb\\x07"),
        ("a\nb", "a\nb"),
        ("\u202eabc", "\\u202eabc"),
        ("\udcff", "\\udcff"),
        ("\x9b31m", "\\x9b31m"),
    ],
)
def test_what_steers_a_terminal_is_shown_as_an_escape(text, shown):
    assert printable(text) == shown


def test_a_line_is_printed_without_markup_and_escape_sequences():
    console = Console(file=io.StringIO(), width=20, force_terminal=True)
    say(console, "x[/b]y [red]z \x1b[31m" + "a" * 30)
    assert console.file.getvalue() == "x[/b]y [red]z \\x1b[31m" + "a" * 30 + "\n"


@pytest.mark.parametrize(("term", "draws"), [("xterm", True), ("dumb", False)])
def test_a_display_draws_over_itself_on_a_terminal_that_can(term, draws, monkeypatch):
    monkeypatch.setenv("TERM", term)
    ours, theirs = os.openpty()
    with open(theirs, "w") as terminal:
        assert draws_over(Console(file=terminal)) == draws
    os.close(ours)


def test_colours_that_are_forced_bring_no_display_into_a_file(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    file = io.StringIO()
    console = Console(file=file)
    progress = ProgressReport(console, 100)
    progress.update(50, "training")
    progress.line("a line")
    progress.close()
    with Board("title", [], console) as board:
        board.say("another")
    with waiting(console, "playing"):
        pass
    assert file.getvalue() == "a line\nanother\n"


def test_a_long_value_keeps_its_ends():
    assert shortened("a" * 100 + "b" * 200 + "c" * 100, 11) == "aaaaa…ccccc"
    assert shortened("short") == "short"


def test_an_error_message_holds_no_escape_sequences(capsys):
    assert cli.main(["eval", "\x1b[31mred"]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_a_folder_whose_name_looks_like_markup_is_played_back(tmp_path, capsys):
    folder = tmp_path / "x[" / "b]y"
    start(folder, env="Pendulum-v1", obs="state", num_train_steps=10, eval_every=10).train()
    assert cli.main(["eval", str(folder), "--episodes", "1", "--no-video"]) == 0
    assert f"written to {folder}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["--help"], 0),
        (["train", "--help"], 0),
        (["train", "--domain", "chéétah"], 2),
        (["eval", "rüns/ö"], 2),
        (["report", "rüns", "--out", "ö"], 2),
        (["trän"], 2),
        (["train", "--num-train-steps", "ü"], 2),
    ],
)
def test_a_terminal_that_is_not_utf_8_gets_substitutes(argv, status, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "sacae", *argv], capture_output=True, check=False, cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == status
    assert b"Traceback" not in done.stderr
    assert (done.stdout + done.stderr).isascii()


def test_results_are_printed_on_a_terminal_that_is_not_utf_8(tmp_path, monkeypatch):
    folder = tmp_path / "rün"
    start(folder, env="Pendulum-v1", obs="state", num_train_steps=10, eval_every=10).train()
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert cli.main(["eval", str(folder), "--episodes", "1", "--no-video"]) == 0
    out.flush()
    assert b"r\\xfcn" in out.buffer.getvalue()
