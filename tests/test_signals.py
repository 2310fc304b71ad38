"""Ctrl-C ends a command with one status and no traceback, however often and whenever it comes."""

import os
import signal
import sys
import threading
import time

import pytest

from sacae import cli, signals
from sacae.training import checkpoint
from tests.processes import ROOT, in_own_group
from tests.test_output import TINY

PATIENCE = 60.0
"""Seconds after which something that should happen counts as not happening."""


@pytest.fixture(autouse=True)
def handler():
    """Ctrl-C interrupts, even where the tests run in the background; afterwards all is as before."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def ended(process):
    """Status and what was printed on standard error."""
    try:
        _, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, errors


def interrupt(times=1):
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_key_held_down_interrupts_a_command_once(capsys):
    def command(_argv, _prog):
        try:
            interrupt(5)
            time.sleep(PATIENCE)
        finally:
            interrupt(5)
            tidied.append(True)

    tidied = []
    assert cli.guarded(command, [], "sacae nothing") == 130
    assert tidied == [True]
    assert capsys.readouterr().err == ""
    interrupt()  # Nor does another one disturb the end of Python.


def test_a_command_that_was_not_interrupted_leaves_ctrl_c_as_it_was():
    assert cli.guarded(lambda *_: 0, [], "sacae nothing") == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_that_is_ignored_stays_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert cli.guarded(lambda *_: interrupt() or 0, [], "sacae nothing") == 0
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_clean_up_that_does_not_end_is_ended():
    code = (
        "import os, signal, time\nfrom sacae import cli, signals\nsignals.CLEAN_UP_SECONDS = 0.2\n"
        "def hang(*_):\n"
        "    try: os.kill(os.getpid(), signal.SIGINT)\n"
        "    finally:\n"
        "        while True: time.sleep(1)\n"
        "cli.guarded(hang, [], 'sacae nothing')"
    )
    assert ended(in_own_group(sys.executable, "-c", code)) == (130, "")


TORCH = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
except BaseException as error:
    raise ImportError("numpy.core.multiarray failed to import") from error
"""


@pytest.mark.parametrize("words", [["-m", "sacae", "train", *TINY], ["eval.py", "nowhere"]])
def test_ctrl_c_while_torch_is_imported_ends_the_command(words, tmp_path):
    (tmp_path / "torch.py").write_text(TORCH)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    process = in_own_group(
        sys.executable, *words, env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    )
    assert ended(process) == (130, "")


def test_a_key_held_down_stops_a_training_with_a_checkpoint(tmp_path):
    folder = tmp_path / "run"
    long = [*TINY, "--num-train-steps", "1000000"]
    process = in_own_group(sys.executable, "-m", "sacae", "train", *long, "--work-dir", folder)
    deadline = time.monotonic() + PATIENCE
    while not (folder / "checkpoint" / "best.pt").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    assert ended(process) == (130, "")
    assert checkpoint.load(folder)[0]["loop"]["next_eval"] >= 0
    assert not [path.name for path in folder.rglob("*") if path.name.startswith(".")]


def test_a_process_has_one_reaction_to_a_signal_at_a_time():
    outer, inner = signals.StopRequest(), signals.StopRequest()
    with outer.on_signals(lambda _: None):
        with inner.on_signals(lambda _: None):
            interrupt()
        assert (outer.requested, inner.requested) == (False, True)
        interrupt()
    assert outer.requested


def test_a_training_that_ends_in_another_thread_leaves_the_reaction_to_a_stop_as_it_is():
    begun, go_on = threading.Event(), threading.Event()

    def train_beside():
        with signals.StopRequest().on_signals(print):
            begun.set()
            go_on.wait(PATIENCE)

    beside = threading.Thread(target=train_beside)
    beside.start()
    begun.wait(PATIENCE)
    request = signals.StopRequest()
    with request.on_signals(print):
        go_on.set()
        beside.join(PATIENCE)
        with signals.may_be_abandoned():
            assert request._waiting
