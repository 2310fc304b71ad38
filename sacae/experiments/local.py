"""Runs side by side on this machine, each in a process of its own."""

import contextlib
import multiprocessing
import os
import signal
import threading
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

if TYPE_CHECKING:
    import torch

    from sacae.training.device import Choice

POLL_SECONDS = 0.2
SHARED_OUT = ("auto", "cuda")
"""Settings of the device with which runs take the GPUs of their places."""


@dataclass(frozen=True)
class Place:
    """Where one run at a time computes. gpu: what CUDA_VISIBLE_DEVICES is to hold, None leaves it."""

    gpu: str | None
    num_threads: int

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the run's process."""
        return {} if self.gpu is None else {"CUDA_VISIBLE_DEVICES": self.gpu}


class Stop:
    """How often a stop was asked for."""

    count = 0


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Counts Ctrl-C and SIGTERM in place of ending the program."""
    stop = Stop()

    def count(_number: int, _frame: object) -> None:
        stop.count += 1

    in_main_thread = threading.current_thread() is threading.main_thread()
    signals = (signal.SIGINT, signal.SIGTERM) if in_main_thread else ()  # Python refuses handlers elsewhere
    previous = {number: signal.signal(number, count) for number in signals}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def places(parallel: int | None, device: str) -> list[Place]:
    """Where runs compute: `parallel` places, by default one for each GPU, or one where there is none.

    device: as the runs' setting; GPUs are shared out where it is "auto" or "cuda".

    Raises UserError where parallel is below 1.
    """
    if parallel is not None and parallel < 1:
        raise UserError(f"parallel is {parallel}, but it must be at least 1; change --parallel")
    gpus = visible_gpus() if device in SHARED_OUT else []
    count = parallel or len(gpus) or 1
    # One run alone may choose its threads; several would each take all cores, and slow each other down.
    num_threads = 0 if count == 1 else max(1, _cores() // count)
    return [Place(gpus[i % len(gpus)] if gpus else None, num_threads) for i in range(count)]


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    count = torch.cuda.device_count()
    return named[:count] if named else [str(i) for i in range(count)]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def with_threads(run: Run, num_threads: int) -> Run:
    """The run with so many threads, unless it has its own number; 0 leaves it."""
    if not num_threads or run.config.train.num_threads:
        return run
    return run.with_settings(num_threads=num_threads)


class LocalLauncher:
    """Works through runs, one at a time in each place."""

    def __init__(self, at: Sequence[Place]) -> None:
        self._free = list(reversed(at))
        self._gpus = {place.gpu for place in at} - {None}

    def connected(self) -> contextlib.AbstractContextManager[None]:
        """Nothing: this machine is there."""
        return contextlib.nullcontext()

    def auto_precisions(self, device: str) -> list[tuple[str, "Choice"]]:
        """What `--precision auto` is on each device where a run of this device setting may compute, by its name.

        Raises UserError for a device that is not there.
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
                for process in active:  # only where something went wrong here: no run is left alone
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
    """What `--precision auto` is on these devices, asked in a process that ends.

    To ask may open a GPU, and this process would hold memory of it as long as the experiment goes on.
    """
    from sacae.training.device import auto_precision

    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as elsewhere:
        return list(zip(map(str, devices), elsewhere.map(auto_precision, devices)))


def outcome(process: RunProcess, stopping: bool) -> tuple[str, str]:
    """State and problem of a run that has ended. stopping: whether it was asked to stop."""
    status = process.poll()
    if status == 0:
        return states.FINISHED, ""
    if status == 130 or (stopping and status in STOPPED):
        return states.STOPPED, ""
    return states.FAILED, process.problem()


def _pass_on(stop: Stop, passed_on: int, active: dict[RunProcess, Place], board: Board) -> int:
    """Tells every run of each stop asked for since; returns how many they have been told of."""
    if stop.count and not passed_on:
        board.say("stopping every run after its step, with a checkpoint (again: stop at once)")
    for _ in range(passed_on, stop.count):
        for process in active:
            process.stop()
    return stop.count
