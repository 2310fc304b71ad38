"""Signals of a run that has processes of its own: who is to react to them."""

import contextlib
import signal
from collections.abc import Iterator
from multiprocessing import resource_tracker

PARENTS_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Signals that a terminal or a cluster may send to all processes of a run, but to which only the parent is to react: it
finishes its step, for which it needs the others, writes its checkpoint and then ends them."""


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Delays signals, for this thread and, until they see to it themselves, for the processes that it starts."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # Started together with a process, it would let the signals through again.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, PARENTS_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_signals_to_parent() -> None:
    """Called in a process that was started under `signals_held`: Ctrl-C is the parent's to act on."""
    for number in PARENTS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PARENTS_SIGNALS)
