"""Standard output and error that a closed terminal, a broken pipe or a full disk cannot turn into an error."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


class Lasting:
    """A text stream that passes everything on to another one, until that fails; from then on text is dropped."""

    def __init__(self, stream: TextIO, errors: TextIO | None = None) -> None:
        """errors: where to say that the stream is lost; None says it nowhere."""
        self._stream, self._errors = stream, errors

    def write(self, text: str) -> int:
        """Writes text, or drops it; returns its length."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        """Passes on what is buffered, or drops it."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: OSError) -> None:
        """Leads the stream to nowhere, for others too that write to it: C libraries, and Python when it ends."""
        with contextlib.suppress(OSError):  # It may have no file descriptor.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        if error.errno != errno.EPIPE and self._errors is not None:
            # Whoever closed a pipe, such as head, has seen enough. Anybody else may wonder.
            print(f"standard output is lost ({error.strerror}); going on without it", file=self._errors)


def outlast() -> None:
    """Makes standard output and error of this process last. Needed in each process."""
    if sys.stderr is not None:
        sys.stderr = cast(TextIO, Lasting(sys.stderr))
    if sys.stdout is not None:
        sys.stdout = cast(TextIO, Lasting(sys.stdout, sys.stderr))


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """Standard output and error last within this block, and everything is written at its end."""
    before = sys.stdout, sys.stderr
    outlast()
    ours = sys.stdout, sys.stderr
    try:
        yield
    finally:
        for stream in ours:
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before
