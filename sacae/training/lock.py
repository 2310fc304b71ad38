"""The lock on a run folder: one training at a time. It needs neither PyTorch nor a simulator."""

import contextlib
import os
import socket
import time
import weakref
from io import BufferedRandom
from pathlib import Path

from sacae.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
"""The file, which is there only while a training is at work, or after one was killed."""

NAME_SECONDS = 1.0
"""Time that the holder has to write its name into a lock it has just taken."""


class Lock:
    """A run folder's lock, held until `release`. The operating system releases it when the process ends, however.

    warning: a line to print if the file system has no locks, otherwise "".
    """

    def __init__(self, folder: Path, file: BufferedRandom | None, warning: str = "") -> None:
        """file: the locked file, None without locks."""
        self.warning = warning
        self._finalizer = weakref.finalize(self, _release, folder / LOCK, file)

    def release(self) -> None:
        """Removes the file and the lock, as the end of the program does; may be called again."""
        self._finalizer()


def take(folder: Path) -> Lock:
    """Takes the lock of an existing folder.

    Raises UserError if another training holds it, or the folder cannot be written. If the file system has no locks,
    the training goes on without, and the returned `Lock` has a warning.
    """
    while True:
        file = _open(folder)
        try:
            _flock(file)
            if _is_there(file, folder):
                break
        except BlockingIOError:
            raise UserError(_at_work(folder, file)) from None
        except OSError as error:
            file.close()
            with contextlib.suppress(OSError):
                (folder / LOCK).unlink()
            reason = error.strerror or "no flock"
            return Lock(
                folder,
                None,
                f"warning: the file system of {folder} has no locks ({reason}); start no second training in it",
            )
        file.close()
    with contextlib.suppress(OSError):  # On a full disk the lock holds without a name.
        file.truncate(0)
        file.write(f"pid {os.getpid()}, host {socket.gethostname()}\n".encode())
        file.flush()
    return Lock(folder, file)


def refuse_if_held(folder: Path) -> None:
    """Raises UserError if a training is at work in the folder. Writes nothing."""
    try:
        with open(folder / LOCK, "r+b") as file:
            try:
                _flock(file)
            except BlockingIOError:
                raise UserError(_at_work(folder, file)) from None
    except OSError:  # There is no such file, or there are no locks.
        return


def _release(path: Path, file: BufferedRandom | None) -> None:
    if file is not None:
        # Removed while it is locked: whoever has opened it meanwhile sees that it is gone, and makes a new one.
        with contextlib.suppress(OSError):
            path.unlink()
        file.close()


def _open(folder: Path) -> BufferedRandom:
    try:
        # Not "w": what another holder has written must stay. Not "a": that could not write at the start.
        return os.fdopen(os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    except OSError as error:
        raise UserError(f"work_dir {folder} cannot be written: {error.strerror}; choose another --work-dir") from None


def _flock(file: BufferedRandom) -> None:
    """Locks the file. Raises BlockingIOError if it is locked, another OSError if that is not possible here."""
    if fcntl is None:
        raise OSError
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_there(file: BufferedRandom, folder: Path) -> bool:
    """Whether the folder still has this file: its holder may have removed it before it was locked here."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(folder / LOCK))
    except FileNotFoundError:
        return False


def _at_work(folder: Path, file: BufferedRandom) -> str:
    deadline = time.monotonic() + NAME_SECONDS
    while True:
        file.seek(0)
        name = file.read(500).decode(errors="replace").strip()
        if name or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    file.close()
    return f"{folder} is at work in another process ({name or 'unknown'}); wait for it, or stop it"
