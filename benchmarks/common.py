"""What the benchmarks share: a process for each thing that is timed, and where results go."""

import multiprocessing
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import tyro

from sacae.errors import UserError


class Worker:
    """A process that holds one object and is idle until one of its methods is asked for."""

    def __init__(self, make: Callable[..., Any], *args: Any) -> None:
        """Waits until the object is made. Raises UserError with what went wrong, here and in `ask`."""
        context = multiprocessing.get_context("spawn")  # Nothing of this process comes along.
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, args))
        self._process.start()
        theirs.close()
        try:
            self._receive()
        except UserError:
            self.close()
            raise

    def ask(self, method: str, *args: Any) -> Any:
        """What the object's method returns."""
        self._pipe.send((method, args))
        return self._receive()

    def close(self) -> None:
        """Ends the process; may be called again."""
        self._pipe.close()
        self._process.join()

    def _receive(self) -> Any:
        try:
            problem, answer = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise UserError(f"the process ended with status {self._process.exitcode}") from None
        if problem:
            raise UserError(problem)
        return answer


def _serve(pipe: Connection, make: Callable[..., Any], args: tuple) -> None:
    try:
        made = make(*args)
        pipe.send((None, None))
        while True:
            method, values = pipe.recv()
            pipe.send((None, getattr(made, method)(*values)))
    except (EOFError, KeyboardInterrupt):
        return  # The other side has closed the pipe, or Ctrl-C went to every process.
    except Exception as error:
        if not isinstance(error, UserError):
            traceback.print_exc()
        first_line, *_ = str(error).strip().splitlines() or [""]
        pipe.send((f"{type(error).__name__}: {first_line}", None))


def gpu_name(device: str) -> str | None:
    """The GPU's name; None where the device is none."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else None


def write(path: Path | None, text: str) -> None:
    """Writes text to a file, in a folder that is made where it is missing; nothing where path is None."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def say(text: str) -> None:
    """A line for the person who waits; standard output is the table's."""
    print(text, file=sys.stderr, flush=True)


def run(kind: type, action: Callable[[Any], Any]) -> None:
    """Parses options and acts on them, turning a UserError into a line on standard error and status 2."""
    options = tyro.cli(kind)
    try:
        action(options)
    except UserError as error:
        say(f"{Path(sys.argv[0]).name}: error: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
