"""Processes that a test interrupts as a terminal does."""

import signal
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def in_own_group(*words, stderr=subprocess.PIPE, **options):
    """A process in a group of its own, whose output is read as text.

    Ctrl-C is not ignored, as it is in a job in the background: shells cannot trap it then, and Python leaves it so.
    """
    return subprocess.Popen(
        [str(word) for word in words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )
