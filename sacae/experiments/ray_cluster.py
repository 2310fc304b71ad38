"""The same runs on a Ray cluster: each a task of its own, retried and resumed where a worker or machine is lost.

Every machine needs this package, and the run folders at the same path.
"""

import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacae.errors import UserError
from sacae.experiments import board as states
from sacae.experiments.board import Board
from sacae.experiments.local import outcome, stop_on_signals, with_threads
from sacae.experiments.plan import Run
from sacae.experiments.process import Busy, RunProcess

POLL_SECONDS = 0.5
BUSY_SECONDS = 300.0
"""How long a retry waits for what is left of the attempt before it: it saves a checkpoint when its worker is lost."""


@dataclass(frozen=True)
class RayLauncher:
    """Makes runs on a Ray cluster.

    root: the experiment's folder, which every machine must see. address: of the cluster, such as ray://head:10001 or
    auto; None is RAY_ADDRESS, or else a cluster of this machine alone. cpus, gpus: what Ray sets aside for each run.
    retries: how often a run goes on after its worker was lost or its process killed.
    """

    root: Path
    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    retries: int = 3

    def __post_init__(self) -> None:
        for name, value, least in (("gpus_per_run", self.gpus, 0), ("retries", self.retries, 0)):
            if value < least:
                raise UserError(f"{name} is {value}, but it must be {least} or more; change --{name.replace('_', '-')}")
        if self.cpus <= 0:
            raise UserError(f"cpus_per_run is {self.cpus}, but it must be above 0; change --cpus-per-run")
        _import_ray()

    def launch(self, runs: Sequence[Run], board: Board) -> None:
        """Makes the runs, and shows on the board how each goes. The first Ctrl-C stops all, each with a checkpoint."""
        if not runs:
            return
        ray = _import_ray()
        try:
            ray.init(address=self.address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"ray_address is {self.address}, but Ray does not answer: {reason}") from None
        self.root.mkdir(parents=True, exist_ok=True)
        stop_file = self.root.absolute() / f".stop-{uuid.uuid4().hex}"
        try:
            self._refuse_what_never_fits(ray)
            self._work_through(ray, runs, board, stop_file)
        finally:
            stop_file.unlink(missing_ok=True)
            ray.shutdown()

    def _refuse_what_never_fits(self, ray: Any) -> None:
        """Raises UserError where no machine of the cluster has what a run is to have: Ray would wait for ever."""
        for flag, resource, asked in (("cpus-per-run", "CPU", self.cpus), ("gpus-per-run", "GPU", self.gpus)):
            most = max((node["Resources"].get(resource, 0.0) for node in ray.nodes() if node["Alive"]), default=0.0)
            if asked > most:
                raise UserError(
                    f"{flag.replace('-', '_')} is {asked:g}, but no machine of the cluster has more than {most:g}; "
                    f"change --{flag}"
                )

    def _work_through(self, ray: Any, runs: Sequence[Run], board: Board, stop_file: Path) -> None:
        remote = ray.remote(make_run).options(
            num_cpus=self.cpus,
            num_gpus=self.gpus,
            max_retries=self.retries,
            retry_exceptions=[Killed],
        )
        # One run alone would take all cores of its machine.
        prepared = {run: with_threads(run, max(1, int(self.cpus))) for run in runs}
        pending = {remote.remote(prepared[run], os.getcwd(), stop_file): run for run in runs}
        with stop_on_signals() as stop:
            while pending:
                if stop.count and not stop_file.exists():
                    board.say("stopping every run after its step, with a checkpoint")
                    stop_file.touch()
                done, _ = ray.wait(list(pending), num_returns=len(pending), timeout=POLL_SECONDS)
                for reference in done:
                    run = pending.pop(reference)
                    board.set(run, *_answer(ray, reference))
                _show_running(pending.values(), board)
                board.refresh()


class Killed(Exception):
    """The run's process was killed, as by a machine that ran out of memory; another attempt may go through."""


def make_run(run: Run, cwd: str, stop_file: Path) -> tuple[str, str]:
    """Makes one run, or goes on with it, on the machine where this is called; returns its state and problem.

    cwd: where environments of the user's own are imported from. Ends early, with a checkpoint, once stop_file exists.

    Raises Killed where the run's process was killed.
    """
    if stop_file.exists():
        return states.STOPPED, ""
    if os.path.isdir(cwd):
        os.chdir(cwd)
    try:
        process = _start_when_free(run, stop_file)
    except UserError as error:
        return states.FAILED, str(error)
    stopping = False
    while process.poll() is None:
        if not stopping and stop_file.exists():
            stopping = True
            process.stop()
        time.sleep(POLL_SECONDS)
    if process.poll() < 0 and not stopping:
        raise Killed(process.problem())
    return outcome(process, stopping)


def _start_when_free(run: Run, stop_file: Path) -> RunProcess:
    """Starts the run, once what is left of an attempt before has ended. Raises Busy where it does not end."""
    give_up = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return RunProcess(run)
        except Busy:
            if time.monotonic() > give_up or stop_file.exists():
                raise
            time.sleep(POLL_SECONDS)


def _answer(ray: Any, reference: Any) -> tuple[str, str]:
    """What became of a run: as `make_run` returns, or why Ray gave it up."""
    try:
        return ray.get(reference)
    except Exception as error:
        cause = getattr(error, "cause", None)
        return states.FAILED, str(cause or error).strip().splitlines()[-1]


def _show_running(runs: Sequence[Run], board: Board) -> None:
    """Marks runs as running once their folder is there: Ray does not tell which of its tasks have begun."""
    for run in runs:
        if board.state[run.name] == states.WAITING and (run.folder / "train.csv").exists():
            board.set(run, states.RUNNING)


def _import_ray() -> Any:
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray
    except ImportError:
        raise UserError("launcher is ray, but Ray is not installed; run: pip install 'sacae[ray]'") from None
    return ray
