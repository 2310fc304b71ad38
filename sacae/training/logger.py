"""What a run writes down: train.csv, eval.csv, TensorBoard, and where its time went."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sacae.training.csv_log import CsvLog, Warn, state_in
from sacae.training.events import Events
from sacae.training.run_folder import EVAL_CSV, TRAIN_CSV
from sacae.training.trackers import Tracking

RUN_COLUMNS = ("agent", "task", "seed", "env_step", "agent_step")
SPEED_COLUMNS = ("hours", "env_steps_per_second", "updates_per_second")
EVAL_COLUMNS = (*RUN_COLUMNS, "episode", "episode_return", "episode_length", "hours")
SUCCESS = "success"
"""A learner whose metrics have this name reports which episodes ended in success; eval.csv then has a column of it."""
SECTIONS = ("env", "render", "wait", "sample", "update", "log")
"""What the time went into. Environments that step in their own processes do so (env, render) beside the rest, and only
what the loop waited for them (wait) adds to it."""


class Means:
    """Running means of metrics, kept on their device until they are read."""

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, metrics: Mapping[str, torch.Tensor]) -> None:
        """Counts one update's metrics in."""
        for name, value in metrics.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
            self.counts[name] = self.counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """The means since the last call; one synchronisation of the device for all of them."""
        if not self.sums:
            return {}
        sums = torch.stack([*self.sums.values()]).tolist()
        means = {name: total / self.counts[name] for name, total in zip(self.sums, sums)}
        self.sums, self.counts = {}, {}
        return means

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load(self, state: dict[str, Any], device: torch.device) -> None:
        """Takes over what `state` returned."""
        self.sums = {name: value.to(device) for name, value in state["sums"].items()}
        self.counts = dict(state["counts"])


class Stopwatch:
    """Wall-clock hours of the run, and the seconds spent in each section since they were last read.

    counted_elsewhere: seconds by section that somebody else counts up, as a Stepper does; a lap reads and clears them.
    """

    def __init__(self, hours_before: float = 0.0, counted_elsewhere: dict[str, float] | None = None) -> None:
        self._counted_elsewhere = {} if counted_elsewhere is None else counted_elsewhere
        self._started = time.perf_counter() - 3600 * hours_before
        self._lap_started = time.perf_counter()
        self.seconds = dict.fromkeys(SECTIONS, 0.0)

    @property
    def hours(self) -> float:
        """Hours since the run began, interruptions not counted."""
        return (time.perf_counter() - self._started) / 3600

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Counts the time inside towards a section."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started

    def lap(self) -> tuple[float, dict[str, float]]:
        """Seconds since the last lap, and each section's share of them."""
        now = time.perf_counter()
        lap = max(now - self._lap_started, 1e-9)
        for name, seconds in self._counted_elsewhere.items():
            self.seconds[name] += seconds
            self._counted_elsewhere[name] = 0.0
        shares = {f"share_{name}": seconds / lap for name, seconds in self.seconds.items()}
        self._lap_started, self.seconds = now, dict.fromkeys(SECTIONS, 0.0)
        return lap, shares


class Logger:
    """Writes the run's rows to CSV and TensorBoard, and tells a tracker.

    folder: the run folder. run: the columns that name the run (agent, task, seed). metrics: the update's metrics.
    state: what `state()` returned at the checkpoint from which the run goes on. reports_success: whether `evaluation`
    is told which episodes ended in success. warn: prints a line. tracking: the run's tracker, if it has one.
    """

    def __init__(
        self,
        folder: Path,
        run: Mapping[str, object],
        metrics: Sequence[str],
        state: dict[str, Any] | None,
        reports_success: bool = False,
        warn: Warn = print,
        tracking: Tracking | None = None,
    ) -> None:
        shares = [f"share_{section}" for section in SECTIONS]
        columns = [*RUN_COLUMNS, "episode_return", "episode_length", *metrics, *SPEED_COLUMNS, *shares]
        self.run, self.warn, self.tracking = dict(run), warn, tracking
        self._resumed_at = state["env_step"] if state else 0
        # Of a run that goes on without a tracker, and may go on with it again.
        self._tracked_before = state.get("tracker") if state else None
        self.train = self.rows(folder / TRAIN_CSV, columns, state, "train")
        eval_columns = (*EVAL_COLUMNS, SUCCESS) if reports_success else EVAL_COLUMNS
        self.eval = self.rows(folder / EVAL_CSV, eval_columns, state, "eval")
        self.events = Events(folder / "tb", state, warn)

    def rows(self, path: Path, columns: Sequence[str], saved: Mapping[str, Any] | None, name: str) -> CsvLog:
        """A CSV file, new, or as the checkpoint left it that keeps its state in `saved` under a name."""
        state = state_in(saved, name, self._resumed_at) if saved else None
        return CsvLog(path, columns, state, self.warn)

    def episode(self, row: Mapping[str, float]) -> None:
        """Records a training episode."""
        self.train.write({**self.run, **row})
        self.scalars("train", {name: row[name] for name in row if name != "env_step"}, int(row["env_step"]))

    def evaluation(
        self,
        row: Mapping[str, float],
        returns: Sequence[float],
        lengths: Sequence[int],
        successes: Sequence[bool] | None = None,
    ) -> None:
        """Records an evaluation: a CSV row for each episode, the means in TensorBoard.

        successes: which episodes ended in success, for a run that reports it.
        """
        for episode, (episode_return, length) in enumerate(zip(returns, lengths)):
            result = {"episode": episode, "episode_return": episode_return, "episode_length": length}
            if successes is not None:
                result[SUCCESS] = int(successes[episode])
            self.eval.write({**self.run, **row, **result})
        means = {"episode_return": float(np.mean(returns))}
        if successes is not None:
            means[SUCCESS] = float(np.mean(successes))
        self.scalars("eval", means, int(row["env_step"]))

    def scalars(self, group: str, row: Mapping[str, float], env_step: int) -> None:
        """Shows numbers in TensorBoard, and tells them to the tracker, as group/name."""
        named = {f"{group}/{name}": value for name, value in row.items()}
        self.events.scalars(named, env_step)
        if self.tracking:
            self.tracking.scalars(named, env_step)

    def image(self, name: str, image: NDArray[np.uint8], env_step: int) -> None:
        """Shows a uint8 (H, W, 3) picture in TensorBoard, and to the tracker."""
        self.events.image(name, image, env_step)
        if self.tracking:
            self.tracking.image(name, image, env_step)

    def state(self, env_step: int) -> dict[str, Any]:
        """Where the files stand, for a checkpoint."""
        sizes = self.events.sizes()
        files = {"train": self.train.state(), "eval": self.eval.state(), "event_sizes": sizes, "env_step": env_step}
        tracker = self.tracking.state() if self.tracking else self._tracked_before
        return files | ({"tracker": tracker} if tracker else {})

    def close(self) -> None:
        """Closes the files."""
        self.train.close()
        self.eval.close()
        self.events.close()
        if self.tracking:
            self.tracking.close()
