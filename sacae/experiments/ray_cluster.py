"""The same runs on a Ray cluster: each is a task, retried and resumed if its worker or machine is lost.

Every machine needs this package, and the run folders at the same path.
"""

import contextlib
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacae.errors import UserError, how_to_install
from sacae.experiments import board as states
from sacae.experiments.board import Board
from sacae.experiments.local import outcome, stop_on_signals, with_threads
from sacae.experiments.plan import Run
from sacae.experiments.process import Busy, RunProcess

if TYPE_CHECKING:
    from sacae.training.device import Choice

POLL_SECONDS = 0.5
ANSWER_SECONDS = 60.0
"""How long to wait for answers of machines that are full; there is no limit for the first answer."""
BUSY_SECONDS = 300.0
"""How long a retry waits for the previous attempt's processes, which save a checkpoint after losing their worker."""


@dataclass(frozen=True)
class RayLauncher:
    """Makes runs on a Ray cluster.

    root: the experiment's folder, on a path that all machines share. address: of the cluster, such as ray://head:10001
    or auto; None is RAY_ADDRESS, or else a cluster of this machine only. cpus, gpus: reserved for each run. retries:
    how often a run is resumed after its worker was lost or its process killed.
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

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """A connection to the cluster. Raises UserError if there is no cluster, or no machine can hold a run."""
        ray = _import_ray()
        try:
            ray.init(address=self.address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"ray_address is {self.address}, but Ray does not answer: {reason}") from None
        try:
            self._refuse_what_never_fits(ray)
            yield
        finally:
            ray.shutdown()

    def auto_precisions(self, device: str) -> list[tuple[str, "Choice"]]:
        """The choice of `--precision auto` for this device setting on each machine that can hold a run, by its name.

        A task with a run's resources answers, because Ray decides which GPUs it gets. Raises UserError if it fails.
        """
        ray = _import_ray()
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        asked = {}
        for node in self._machines(ray):
            ask = ray.remote(auto_precision_here).options(
                num_cpus=self.cpus,
                num_gpus=self.gpus,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            )
            asked[ask.remote(device, self.gpus)] = node["NodeManagerHostname"]
        answered, late = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_SECONDS)
        if not answered:
            answered, late = ray.wait(list(asked))
        for reference in late:
            ray.cancel(reference)
        try:
            return sorted((asked[reference], ray.get(reference)) for reference in answered)
        except Exception as error:
            raise UserError(
                f"precision is auto, but asking the cluster what it supports failed: {_why(error)}"
            ) from None

    def launch(self, runs: Sequence[Run], board: Board) -> None:
        """Makes the runs and shows their progress. The first Ctrl-C stops all, each with a checkpoint."""
        self.root.mkdir(parents=True, exist_ok=True)
        stop_file = self.root.absolute() / f".stop-{uuid.uuid4().hex}"
        try:
            self._work_through(_import_ray(), runs, board, stop_file)
        finally:
            stop_file.unlink(missing_ok=True)

    def _refuse_what_never_fits(self, ray: Any) -> None:
        """Raises UserError if no machine of the cluster has a run's resources: Ray would wait forever."""
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        for flag, resource, asked in (("cpus-per-run", "CPU", self.cpus), ("gpus-per-run", "GPU", self.gpus)):
            most = max((resources.get(resource, 0.0) for resources in alive), default=0.0)
            if asked > most:
                raise UserError(
                    f"{flag.replace('-', '_')} is {asked:g}, but no machine of the cluster has more than {most:g}; "
                    f"change --{flag}"
                )
        if not self._machines(ray):
            raise UserError(
                f"cpus_per_run is {self.cpus:g} and gpus_per_run is {self.gpus:g}, but no machine of the cluster has "
                "both; change --cpus-per-run or --gpus-per-run"
            )

    def _machines(self, ray: Any) -> list[dict[str, Any]]:
        """The machines that can hold a run when they are free."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus}
        alive = [node for node in ray.nodes() if node["Alive"]]
        return [node for node in alive if all(node["Resources"].get(name, 0) >= wanted[name] for name in wanted)]

    def _work_through(self, ray: Any, runs: Sequence[Run], board: Board, stop_file: Path) -> None:
        remote = ray.remote(make_run).options(
            num_cpus=self.cpus,
            num_gpus=self.gpus,
            max_retries=self.retries,
            retry_exceptions=[Killed],
        )
        # Otherwise a run would use all cores of its machine.
        prepared = {run: with_threads(run, max(1, int(self.cpus))) for run in runs}
        pending = {remote.remote(prepared[run], os.getcwd(), stop_file, self.gpus): run for run in runs}
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


def refuse_hidden_gpus(runs: Iterable[Run], gpus: float) -> None:
    """Raises UserError if a run is to train on a GPU and has none."""
    for run in runs:
        if not gpus and run.config.train.device.startswith("cuda"):
            raise UserError(
                f"device is {run.config.train.device}, but gpus_per_run is 0, which hides the GPUs; give "
                "--gpus-per-run, such as 1 or 0.25"
            )


def environment_of(gpus: float) -> dict[str, str]:
    """Environment variables of a run with so many GPUs. Ray names those that it has; without any, it hides none."""
    return {} if gpus else {"CUDA_VISIBLE_DEVICES": ""}


def auto_precision_here(device: str, gpus: float) -> "Choice":
    """The choice of `--precision auto` for this device setting, on the machine that executes this function.

    gpus: of a run.
    """
    os.environ.update(environment_of(gpus))
    from sacae.training.device import auto_precision, choose_device

    return auto_precision(choose_device(device))


class Killed(Exception):
    """The run's process was killed, for example because memory ran out; another attempt can succeed."""


def make_run(run: Run, cwd: str, stop_file: Path, gpus: float) -> tuple[str, str]:
    """Makes or resumes one run on the machine that executes this function; returns its state and problem.

    cwd: folder from which the user's environments are imported. Stops with a checkpoint once stop_file exists. gpus:
    that Ray reserved for it.

    Raises Killed if the run's process was killed.
    """
    if stop_file.exists():
        return states.STOPPED, ""
    if os.path.isdir(cwd):
        os.chdir(cwd)
    try:
        process = _start_when_free(run, stop_file, environment_of(gpus))
    except UserError as error:
        return states.FAILED, str(error)
    stopping = False
    while (status := process.poll()) is None:
        if not stopping and stop_file.exists():
            stopping = True
            process.stop()
        time.sleep(POLL_SECONDS)
    if status < 0 and not stopping:
        raise Killed(process.problem())
    return outcome(process, stopping)


def _start_when_free(run: Run, stop_file: Path, environment: Mapping[str, str]) -> RunProcess:
    """Starts the run once the processes of the previous attempt have ended. Raises Busy if they do not end."""
    give_up = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return RunProcess(run, environment)
        except Busy:
            if time.monotonic() > give_up or stop_file.exists():
                raise
            time.sleep(POLL_SECONDS)


def _answer(ray: Any, reference: Any) -> tuple[str, str]:
    """The result of `make_run`, or the reason why Ray gave up the run."""
    try:
        became: tuple[str, str] = ray.get(reference)
        return became
    except Exception as error:
        return states.FAILED, _why(error)


def _why(error: Exception) -> str:
    """The error of a Ray task, in one line."""
    cause = getattr(error, "cause", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[-1]


def _show_running(runs: Iterable[Run], board: Board) -> None:
    """Marks runs as running once their folder is there: Ray does not tell which of its tasks have begun."""
    for run in runs:
        if board.state[run.name] == states.WAITING and (run.folder / "train.csv").exists():
            board.set(run, states.RUNNING)


def _import_ray() -> Any:
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray
    except ImportError:
        raise UserError(f"launcher is ray, but Ray is not installed; {how_to_install('ray')}") from None
    return ray
