"""Paths that users give, files that are whole or not there, and one line for each way in which writing one can fail."""

import contextlib
import errno
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from sacae.errors import UserError

UNFINISHED = ".tmp-"
"""How the names of files begin that are not complete yet."""

CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)
"""What file systems answer that cannot write a file or folder through to the disk at once."""

ADVICE = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there, or ask for a larger quota",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.ENOENT: "its folder was moved or deleted: put it back",
    errno.EIO: "check the disk",
    errno.EROFS: "the file system allows reading only: choose another folder",
}
OTHER_ADVICE = "check its permissions and the disk"


def as_path(given: str | os.PathLike[str]) -> Path:
    """The path that a user gives, with ~ as the home folder, which only a shell replaces and not behind a --flag=."""
    return Path(os.path.expanduser(given))


def write_atomically(path: Path, write: Callable[[Path], object], size: Callable[[], int] | None = None) -> None:
    """Calls `write` with a temporary path and renames it to `path`: whoever reads `path` never sees half a file.

    Makes the folder of `path`, but not the folders above it: a run folder that was deleted must not come back with one
    file in it. size: the bytes that the file needs, for the message; it is called only after a failure.

    Raises UserError if the file cannot be written. `path` then is as it was, and no temporary file is left.
    """
    temporary = path.with_name(UNFINISHED + path.name)
    try:
        path.parent.mkdir(exist_ok=True)
        write(temporary)
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        raise cannot_be_written(path, error, size() if size else None) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def cannot_be_written(path: Path, error: OSError, size: int | None = None) -> UserError:
    """The message on a failed write: path, reason, how much was needed and is free, what to do."""
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    need = "" if size is None else f" for its {in_units(size)}"
    free = f" ({_free(path)} free)" if error.errno == errno.ENOSPC else ""
    return UserError(f"{path} cannot be written: {reason}{need}{free}; {ADVICE.get(error.errno or 0, OTHER_ADVICE)}")


def in_units(size: int) -> str:
    """A number of bytes for people, such as 1.5 MB."""
    for factor, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size} bytes"


def _free(path: Path) -> str:
    try:
        return in_units(shutil.disk_usage(path.parent).free)
    except OSError:
        return "unknown space"


def sync(path: Path) -> None:
    """Makes a file or the names in a folder survive a power cut, where the file system can do that."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync_descriptor(descriptor)
    finally:
        os.close(descriptor)


def sync_descriptor(descriptor: int) -> None:
    """As `sync`, of an open file."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise


class PatientFile:
    """A file for writers that cannot stand an error in the middle, such as PyTorch's and zipfile.

    After the first error it only counts. `finish` then raises that error; `size` is what the file would have needed.

    watch: is given all bytes as they are written.
    """

    def __init__(self, file: BinaryIO, watch: Callable[[bytes], object] = lambda _data: None) -> None:
        self._file, self._watch = file, watch
        self._position, self.size = 0, 0
        self._error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Writes bytes, or counts them."""
        length = memoryview(data).nbytes
        self._position += length
        self.size = max(self.size, self._position)
        self._watch(data)
        self._attempt(lambda: self._write_all(data))
        return length

    def _write_all(self, data: bytes) -> None:
        """An unbuffered file may take less than all, and says why only when it is asked for the rest."""
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[self._file.write(rest) :]

    def read(self, _size: int = -1) -> bytes:
        """Raises UnsupportedOperation. NumPy takes for a file what has this method."""
        raise io.UnsupportedOperation("read")

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Goes to a position."""
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._attempt(lambda: self._file.seek(self._position))
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def flush(self) -> None:
        """Hands what was written to the operating system."""
        self._attempt(self._file.flush)

    def finish(self) -> None:
        """Flushes, and raises the OSError that came up, if one did."""
        self.flush()
        if self._error:
            raise self._error

    def _attempt(self, action: Callable[[], object]) -> None:
        if self._error is None:
            try:
                action()
            except OSError as error:
                self._error = error
