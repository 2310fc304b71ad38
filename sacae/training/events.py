"""What TensorBoard shows. A run goes on without it where its files cannot be written."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorboard.summary.writer import event_file_writer  # type: ignore[import-untyped]  # has no annotations
from torch.utils.tensorboard import SummaryWriter

EVENT_FILES = "events.out.tfevents.*"
"""The files that TensorBoard reads. Each start of a run adds one."""


class Events:
    """The files that TensorBoard reads.

    folder: of these files. state: what the checkpoint knows of them, from which the run goes on, None for a new run.
    warn: is told once if they cannot be written; nothing is written from then on.
    """

    def __init__(self, folder: Path, state: Mapping[str, Any] | None, warn: Callable[[str], None]) -> None:
        self._folder, self._warn = folder, warn
        self._writer: SummaryWriter | None = None
        _leave_errors_to_the_caller()
        with self._giving_up():
            self._open(state)

    def _open(self, state: Mapping[str, Any] | None) -> None:
        """A new event file, beside the former ones as the checkpoint knew them.

        They are cut back by bytes. A step does not say what is to go: of those with the checkpoint's own some were
        written before it, others after, and rows of fits come late, under the step of their data.
        """
        if state is None:
            # Drops nothing; but TensorBoard takes a mark of a start for a restart only where it has seen one before.
            self._writer = SummaryWriter(str(self._folder), purge_step=0)
            return
        if "event_sizes" in state:  # checkpoints of earlier versions have none
            for path in self._folder.glob(EVENT_FILES):
                if path.name in state["event_sizes"]:
                    cut_back(path, state["event_sizes"][path.name])
                else:
                    path.unlink()
        # A TensorBoard that has been open since before has read what was cut off; it drops what lies beyond this step.
        self._writer = SummaryWriter(str(self._folder), purge_step=state["env_step"] + 1)

    def scalars(self, row: Mapping[str, float], env_step: int) -> None:
        """Shows numbers by their names."""
        with self._giving_up():
            for name, value in row.items():
                if self._writer:
                    self._writer.add_scalar(name, value, env_step)

    def image(self, name: str, image: NDArray[np.uint8], env_step: int) -> None:
        """Shows a uint8 (H, W, 3) picture."""
        with self._giving_up():
            if self._writer:
                self._writer.add_image(name, image, env_step, dataformats="HWC")

    def sizes(self) -> dict[str, int]:
        """Bytes in each file, for a checkpoint."""
        with self._giving_up():
            if self._writer:
                self._writer.flush()
        sizes: dict[str, int] = {}
        with contextlib.suppress(OSError):  # files that disappear meanwhile
            sizes |= {path.name: path.stat().st_size for path in self._folder.glob(EVENT_FILES)}
        return sizes

    def close(self) -> None:
        """Closes the file."""
        with self._giving_up():
            if self._writer:
                self._writer.close()

    @contextlib.contextmanager
    def _giving_up(self) -> Iterator[None]:
        """Writes nothing any more after an error, which is told."""
        try:
            yield
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            self._warn(f"warning: {self._folder} cannot be written ({reason}): TensorBoard shows nothing from here on")
            writer, self._writer = self._writer, None
            with contextlib.suppress(OSError):
                if writer:
                    writer.close()


def cut_back(path: Path, size: int) -> None:
    """Drops what a file has beyond that many bytes. One that is shorter, or not there, stays so."""
    if path.exists() and path.stat().st_size > size:
        os.truncate(path, size)


def _leave_errors_to_the_caller() -> None:
    """Keeps TensorBoard's thread from printing a traceback: it keeps its error too, and raises it at the next call."""
    default = threading.excepthook
    if getattr(default, "leaves_errors_of_events", False):
        return

    def hook(args: threading.ExceptHookArgs) -> None:
        of_events = isinstance(args.thread, event_file_writer._AsyncWriterThread)
        if not (of_events and isinstance(args.exc_value, OSError)):
            default(args)

    hook.leaves_errors_of_events = True  # type: ignore[attr-defined]
    threading.excepthook = hook
