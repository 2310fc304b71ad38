"""One run as a separate process: `python -m sacae train` with the run's settings; its log is next to the folder."""

import ctypes
import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

from sacae.declaration import CHANGEABLE_ON_RESUME, NOT_COMPARED
from sacae.errors import UserError, flag_of
from sacae.experiments.plan import Left, Run, what_is_left
from sacae.files import cannot_be_written

ERROR_LINE = re.compile(r"^\S.*(error: |Error\b|Exception\b)")
STOPPED = (130, -signal.SIGINT, -signal.SIGTERM)
"""Exit statuses of a run after a stop request."""


class Busy(UserError):
    """Another process is working on the run."""


class RunProcess:
    """A running training. Its log stays locked until the training and all its processes have ended."""

    def __init__(self, run: Run, environment: Mapping[str, str] | None = None) -> None:
        """Starts the run, or resumes it from its checkpoint.

        environment: variables in addition to those of this process.

        Raises Busy if another process is working on it, and UserError like `what_is_left` or if there can be no log.
        """
        self.run = run
        with _opened(run) as log:
            _lock(log, run)
            self._log_start = log.seek(0, os.SEEK_END)
            # Checked after locking, because the previous holder of the lock can have continued the run.
            left = what_is_left(run)
            self._process: subprocess.Popen[bytes] | None = None
            if left is Left.NOTHING:
                return
            self._process = subprocess.Popen(
                command(run, resume=left is Left.REST),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | dict(environment or {}),
                start_new_session=True,  # Ctrl-C on the terminal is passed on once, by `stop`
                preexec_fn=FIRST_THING,
            )

    def poll(self) -> int | None:
        """The exit status, None while the run is active."""
        return 0 if self._process is None else self._process.poll()

    def wait(self) -> int:
        """Waits until the run ends; returns the exit status."""
        return 0 if self._process is None else self._process.wait()

    def stop(self) -> None:
        """Asks for a stop at the next whole step, with a checkpoint; a second time, for a stop at once."""
        if self._process is not None and self.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def problem(self) -> str:
        """The reason why the run ended, in one line: the last error in its log, or its last line."""
        try:
            with open(self.run.log, "rb") as file:
                file.seek(self._log_start)
                text = file.read().decode(errors="replace")
        except OSError as error:
            text = f"its log cannot be read: {error.strerror}"
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if ERROR_LINE.match(line)]
        said = (errors or lines or ["it printed nothing"])[-1]
        status = self.poll() or 0
        return f"ended by {signal.Signals(-status).name}; its last output: {said}" if status < 0 else said


def command(run: Run, resume: bool) -> list[str]:
    """The command line of a run."""
    # A continued experiment may change these; all else stands in a resumed run's config.yaml.
    free = {*run.config.with_role(CHANGEABLE_ON_RESUME)} & {*run.config.with_role(NOT_COMPARED)}
    changed = {name: value for name, value in run.settings.items() if name in free}
    words = ["--resume", *flags(changed)] if resume else flags(run.settings)
    return [sys.executable, "-m", "sacae", "train", "--work-dir", str(run.folder), *words]


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Settings as flags of `sacae train`."""
    words = []
    for name, value in settings.items():
        if isinstance(value, bool):
            words.append(flag_of(name if value else f"no_{name}"))
        else:
            words += [flag_of(name), *map(str, value if isinstance(value, tuple | list) else [value])]
    return words


def _opened(run: Run) -> BinaryIO:
    """The log, in a folder that may be new. Raises UserError if that is not possible."""
    try:
        run.log.parent.mkdir(parents=True, exist_ok=True)
        return open(run.log, "a+b")
    except OSError as error:
        raise cannot_be_written(run.log, error) from None


def _lock(log: Any, run: Run) -> None:
    """Locks the log. The run's processes inherit the lock with their output, so it lasts as long as they do.

    A file system without locks has none here either: the training says so in the log.
    """
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Busy(f"{run.folder} is at work in another process; wait for it, or stop it") from None
    except OSError:
        return


def _first_thing() -> Any:
    """Prepares a new process before it becomes a training.

    It unblocks signals that this process blocks, as a Ray worker does with Ctrl-C. On Linux, it requests a SIGTERM,
    which is a stop with a checkpoint, in case this process is killed.
    """
    pr_set_pdeathsig = 1
    prctl = ctypes.CDLL(None).prctl if sys.platform.startswith("linux") else lambda *_: None

    def begin() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        prctl(pr_set_pdeathsig, signal.SIGTERM)

    return begin


FIRST_THING = _first_thing()
"""For Popen's preexec_fn. It loads the C library here, because a new process must not."""
