"""Signals: which process of a run reacts to them, a stop with a checkpoint, an interruption without a traceback."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from types import FrameType

PARENTS_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)  # Windows has no SIGHUP
)
"""Signals that a terminal or a cluster may send to all processes of a run, but to which only the parent is to react: it
finishes its step, for which it needs the others, writes its checkpoint and then ends them."""

GRACE_SECONDS = 3.0
"""Time that an environment has to answer once the end of its run was requested."""

CLEAN_UP_SECONDS = 6.0
"""Time that a command has to tidy up after it was interrupted, in which it may wait for environments."""

REPEAT_SECONDS = 0.5
"""Signals that follow each other within this time are one request: a key that is held down, or a cluster that signals
both a group of processes and its leader."""

INTERRUPTED = 130
"""Exit status after Ctrl-C."""


# A run's other processes.


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


def follow_parent() -> None:
    """Called in a process that was started under `signals_held`: it leaves signals to its parent, and ends with it."""
    for number in PARENTS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PARENTS_SIGNALS)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process some time after its parent has ended, whatever it is doing.

    The kernel could do so at once (PR_SET_PDEATHSIG), but then an environment could not close what it has opened.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        time.sleep(GRACE_SECONDS)
        os._exit(1)


# A stop with a checkpoint.


class Abandoned(KeyboardInterrupt):
    """A stop was requested, and what was being waited for has not come within GRACE_SECONDS."""


class StopRequest:
    """Whether a stop was requested: by Ctrl-C, SIGTERM or SIGHUP, or by setting `requested`."""

    def __init__(self) -> None:
        self.requested = False
        self._last: float | None = None  # time of the last signal
        self._waiting = False
        self._alarm_before: list[object] = []  # what reacted to the alarm before it was set; empty if it is not set

    @contextlib.contextmanager
    def on_signals(self, say: Callable[[str], None]) -> Iterator[None]:
        """Within this block the first signal requests a stop; a later one does what it would do outside.

        say: prints a line. A SIGHUP that is ignored, as under nohup, stays so.
        """
        global _present

        def handle(number: int, frame: FrameType | None) -> None:
            before, self._last = self._last, time.monotonic()
            if before is None:
                self._begin(say)
            elif self._last - before >= REPEAT_SECONDS:
                _pass_on(number, frame, previous[number])

        numbers = stop_signals()
        if not numbers:  # nor may it touch what the main thread's training has set
            yield
            return
        outer, _present = _present, self
        previous: dict[int, object] = {number: signal.signal(number, handle) for number in numbers}
        try:
            yield
        finally:
            _present = outer
            for number, handler in previous.items():
                _restore(number, handler)
                if isinstance(handler, Interrupt) and self._last is not None:
                    handler.last = self._last

    def _begin(self, say: Callable[[str], None]) -> None:
        self.requested = True
        if self._waiting:
            self._set_alarm()
        with contextlib.suppress(RuntimeError):  # The signal came while something else was being printed.
            say("stopping after this step; the checkpoint follows (again: stop at once)")

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """See `may_be_abandoned`."""
        self._waiting = True
        if self.requested:
            self._set_alarm()
        try:
            yield
        finally:
            self._waiting = False
            self._clear_alarm()

    def _set_alarm(self) -> None:
        if not self._alarm_before and hasattr(signal, "setitimer"):
            self._alarm_before.append(signal.signal(signal.SIGALRM, self._abandon))
            signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)

    def _clear_alarm(self) -> None:
        if self._alarm_before:
            signal.setitimer(signal.ITIMER_REAL, 0)
            _restore(signal.SIGALRM, self._alarm_before.pop())

    def _abandon(self, _number: int, _frame: FrameType | None) -> None:
        if self._waiting:
            self._waiting = False
            raise Abandoned


_present: StopRequest | None = None
"""The one that reacts to signals at present: a process has one reaction to a signal, so it has one of these."""


@contextlib.contextmanager
def may_be_abandoned() -> Iterator[None]:
    """A block that waits for an environment. GRACE_SECONDS after a stop was requested, Abandoned ends the wait.

    Only what a checkpoint does not need may lie within: it can end at any point of the block. Has no effect outside
    `StopRequest.on_signals`, and none while a C function runs that does not return to Python.
    """
    if _present is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    with _present.waiting():
        yield


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that are to stop a training in this thread: none outside the main one, where Python has no handlers.

    Without SIGHUP if it is ignored, as nohup does.
    """
    if threading.current_thread() is not threading.main_thread():
        return ()
    ignored = hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return tuple(number for number in PARENTS_SIGNALS if not (ignored and number == signal.SIGHUP))


def _restore(number: int, handler: object) -> None:
    """Sets a handler that `signal.signal` returned: None is one from outside Python, which only that can set again."""
    if handler is not None:
        signal.signal(number, handler)  # type: ignore[arg-type]  # as signal() returned it


def _pass_on(number: int, frame: FrameType | None, handler: object) -> None:
    """Does what a signal did before: its default, or what a handler does."""
    _restore(number, handler)
    if callable(handler):
        handler(number, frame)
    elif handler is signal.SIG_DFL:
        signal.raise_signal(number)
    else:  # Ignored, as shells have it in the background; but whoever sends it twice means it.
        raise KeyboardInterrupt


# An interruption without a traceback.


class Interrupt:
    """What Ctrl-C does to a command: one KeyboardInterrupt, whose clean-up later ones do not disturb.

    Within an import it ends the process, for libraries turn a KeyboardInterrupt there into errors of their own. A
    clean-up that takes longer than CLEAN_UP_SECONDS is ended too.

    last: time of the last Ctrl-C, None before the first.
    """

    def __init__(self) -> None:
        self.last: float | None = None
        self._spent = False
        self._timer = threading.Timer(CLEAN_UP_SECONDS, os._exit, (INTERRUPTED,))
        self._timer.daemon = True

    def __call__(self, _number: int, frame: FrameType | None) -> None:
        """Handles the signal."""
        now, before = time.monotonic(), self.last
        self.last = now
        if self._spent or (before is not None and now - before < REPEAT_SECONDS):
            return
        if _in_import(frame):
            os._exit(INTERRUPTED)
        self._spent = True
        self._timer.start()
        raise KeyboardInterrupt

    def close(self) -> None:
        """The command has ended in time."""
        self._timer.cancel()


@contextlib.contextmanager
def interrupted_once() -> Iterator[None]:
    """Within this block Ctrl-C does what `Interrupt` says, unless it is ignored."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return
    interrupt = Interrupt()
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        interrupt.close()
        # After a Ctrl-C, another one may not disturb the end of Python either.
        signal.signal(signal.SIGINT, signal.SIG_IGN if interrupt.last is not None else before)


def _in_import(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
