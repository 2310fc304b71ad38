"""Runs in parallel on this machine, each in its own process."""

import contextlib
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sacae.errors import UserError
from sacae.experiments import board as states
from sacae.experiments.board import Board
from sacae.experiments.plan import Run
from sacae.experiments.process import STOPPED, RunProcess
from sacae.signals import stop_signals

if TYPE_CHECKING:
    import torch

    from sacae.training.device import Choice

POLL_SECONDS = 0.2
SHARED_OUT = ("auto", "cuda")
"""Device settings with which runs use the GPUs of their places."""


@dataclass(frozen=True)
class Place:
    """A place for one run at a time. gpu: the value of CUDA_VISIBLE_DEVICES; None leaves it unchanged."""

    gpu: str | None
    num_threads: int

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of the run's process."""
        return {} if self.gpu is None else {"CUDA_VISIBLE_DEVICES": self.gpu}


class Stop:
    """How often a stop was requested."""

    count = 0


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Counts Ctrl-C, SIGTERM and SIGHUP instead of ending the program."""
    stop = Stop()

    def count(_number: int, _frame: object) -> None:
        stop.count += 1

    previous = {number: signal.signal(number, count) for number in stop_signals()}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def places(parallel: int | None, device: str) -> list[Place]:
    """Places for `parallel` runs; by default one for each GPU, or one place without a GPU.

    device: setting of the runs; with "auto" or "cuda", places get GPUs in turn.

    Raises UserError if parallel is below 1.
    """
    if parallel is not None and parallel < 1:
        raise UserError(f"parallel is {parallel}, but it must be at least 1; change --parallel")
    gpus = visible_gpus() if device in SHARED_OUT else []
    count = parallel or len(gpus) or 1
    # A single run can choose its threads; several would each use all cores and slow each other down.
    num_threads = 0 if count == 1 else max(1, _cores() // count)
    return [Place(gpus[i % len(gpus)] if gpus else None, num_threads) for i in range(count)]


RUN_BYTES = 400_000_000
"""Bytes that the process of a run takes at least."""


def check_memory(parallel: int) -> None:
    """Raises UserError unless as many runs at once fit into memory."""
    from sacae.replay.memory import check_processes

    check_processes("parallel", parallel, RUN_BYTES, "each run")


def visible_gpus() -> list[str]:
    """The GPUs that this process can use, by their names for CUDA_VISIBLE_DEVICES."""
    import torch

    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    count = torch.cuda.device_count()
    return named[:count] if named else [str(i) for i in range(count)]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def with_threads(run: Run, num_threads: int) -> Run:
    """The run with this number of threads, unless its settings name one. 0: PyTorch's default, also on resume."""
    if run.config.train.num_threads:
        return run
    return run.with_settings(num_threads=num_threads)


class LocalLauncher:
    """Makes runs, one at a time in each place."""

    def __init__(self, at: Sequence[Place]) -> None:
        self._free = list(reversed(at))
        self._gpus = {place.gpu for place in at} - {None}

    def connected(self) -> contextlib.AbstractContextManager[None]:
        """Nothing: this machine is there."""
        return contextlib.nullcontext()

    def auto_precisions(self, device: str) -> list[tuple[str, "Choice"]]:
        """The choice of `--precision auto` on each device that a run with this device setting can use, by its name.

        Raises UserError for a device that does not exist.
        """
        from sacae.training.device import auto_precision, choose_device

        if device in SHARED_OUT and self._gpus:
            chosen = [choose_device(f"cuda:{i}") for i, name in enumerate(visible_gpus()) if name in self._gpus]
        else:
            chosen = [choose_device(device)]
        on_gpus = any(one.type == "cuda" for one in chosen)
        return ask_elsewhere(chosen) if on_gpus else [(str(one), auto_precision(one)) for one in chosen]

    def launch(self, runs: Sequence[Run], board: Board) -> None:
        """Makes the runs, and shows on the board how each goes. The first Ctrl-C stops all, each with a checkpoint."""
        waiting = deque(runs)
        active: dict[RunProcess, Place] = {}
        with stop_on_signals() as stop:
            passed_on = 0
            try:
                while active or (waiting and not stop.count):
                    while waiting and self._free and not stop.count:
                        self._start(waiting.popleft(), active, board)
                    passed_on = _pass_on(stop, passed_on, active, board)
                    self._collect(active, board, stopping=stop.count > 0)
                    board.refresh()
                    time.sleep(POLL_SECONDS if active else 0)
            finally:
                for process in active:  # after an error in this loop: no run is left behind
                    process.stop()
                    process.wait()
        for run in waiting:
            board.set(run, states.STOPPED)

    def _start(self, run: Run, active: dict[RunProcess, Place], board: Board) -> None:
        place = self._free.pop()
        try:
            process = RunProcess(with_threads(run, place.num_threads), place.environment)
        except UserError as error:
            self._free.append(place)
            board.set(run, states.FAILED, str(error))
            return
        active[process] = place
        board.set(run, states.RUNNING)

    def _collect(self, active: dict[RunProcess, Place], board: Board, stopping: bool) -> None:
        for process in [p for p in active if p.poll() is not None]:
            self._free.append(active.pop(process))
            board.set(process.run, *outcome(process, stopping))


def ask_elsewhere(devices: Sequence["torch.device"]) -> list[tuple[str, "Choice"]]:
    """The choice of `--precision auto` on these devices, made in a short-lived process.

    Asking can open a GPU, and this process would then occupy GPU memory for the whole experiment.
    """
    from sacae.training.device import auto_precision

    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as elsewhere:
        return list(zip(map(str, devices), elsewhere.map(auto_precision, devices)))


def outcome(process: RunProcess, stopping: bool) -> tuple[str, str]:
    """State and problem of a run that has ended. stopping: whether a stop was requested."""
    status = process.poll()
    if status == 0:
        return states.FINISHED, ""
    if status == 130 or (stopping and status in STOPPED):
        return states.STOPPED, ""
    return states.FAILED, process.problem()


def _pass_on(stop: Stop, passed_on: int, active: dict[RunProcess, Place], board: Board) -> int:
    """Passes new stop requests on to every run; returns how many have been passed on in total."""
    if stop.count and not passed_on:
        board.say("stopping every run after its step, with a checkpoint (again: stop at once)")
    for _ in range(passed_on, stop.count):
        for process in active:
            process.stop()
    return stop.count
