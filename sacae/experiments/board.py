"""Progress of a running experiment: a live table on a terminal, plain lines elsewhere."""

import csv
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from sacae.experiments.plan import Run
from sacae.text import printable, say

WAITING, RUNNING, FINISHED, SKIPPED, STOPPED, FAILED = "waiting", "running", "finished", "skipped", "stopped", "failed"
STYLES = {WAITING: "dim", RUNNING: "bold", FINISHED: "green", SKIPPED: "dim green", STOPPED: "yellow", FAILED: "red"}
REFRESH_SECONDS = 1.0
PLAIN_LINE_SECONDS = 60.0
TAIL_BYTES = 65536
LINES_AROUND_TABLE = 8


@dataclass(frozen=True)
class Progress:
    """A run's progress from its files: environment steps, mean return of the last evaluation, last speed."""

    env_step: int = 0
    evaluation: float | None = None
    steps_per_second: float | None = None


def read_progress(folder: Path) -> Progress:
    """A run's progress. What its files do not contain yet is 0 or None; incomplete rows are ignored."""
    episodes, evaluations = _last_rows(folder / "train.csv"), _last_rows(folder / "eval.csv")
    last = episodes[-1] if episodes else {}
    newest = evaluations[-1]["env_step"] if evaluations else "0"
    returns = [float(row["episode_return"]) for row in evaluations if row["env_step"] == newest]
    return Progress(
        max(int(last.get("env_step", 0)), int(newest)),
        sum(returns) / len(returns) if returns else None,
        float(last["env_steps_per_second"]) if last.get("env_steps_per_second") else None,
    )


def _last_rows(path: Path) -> list[dict[str, str]]:
    """The complete rows within a CSV file's last bytes."""
    try:
        with open(path, "rb") as file:
            header = file.readline().decode().strip().split(",")
            size = file.seek(0, 2)
            file.seek(max(size - TAIL_BYTES, 0))
            lines = file.read().decode(errors="replace").splitlines(keepends=True)
    except OSError:
        return []
    whole = [line for line in lines[1:] if line.endswith("\n")]  # the first is the header, or cut
    return [row for row in csv.DictReader(whole, fieldnames=header) if row[header[-1]] is not None]


class Board:
    """The state of every run. Without a terminal, changes are printed as lines."""

    def __init__(self, title: str, runs: Sequence[Run], console: Console) -> None:
        self.title, self.runs, self.console = title, list(runs), console
        self.state = {run.name: WAITING for run in runs}
        self.problem: dict[str, str] = {}
        self._progress: dict[str, Progress] = {}
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._last_refresh, self._last_line = 0.0, time.monotonic()

    def __enter__(self) -> "Board":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.refresh(at_once=True)
        if self._live:
            self._live.stop()

    def set(self, run: Run, state: str, problem: str = "") -> None:
        """Changes a run's state; `problem` is the reason of a failure."""
        self.state[run.name] = state
        if problem:
            self.problem[run.name] = problem
            self.say(f"{run.name} failed: {problem}; its log is {run.log}")
        elif not self._live:
            self.say(f"{run.name} {state}{self._how_far(run)}")

    def say(self, text: str) -> None:
        """Prints a line, above the table if there is one."""
        say(self.console, text)

    def refresh(self, at_once: bool = False) -> None:
        """Reads the files of active runs and shows their progress; cheap when called often."""
        now = time.monotonic()
        if now - self._last_refresh < REFRESH_SECONDS and not at_once:
            return
        self._last_refresh = now
        if self._live:
            self._live.update(self.table(), refresh=True)
        elif now - self._last_line >= PLAIN_LINE_SECONDS:
            self._last_line = now
            for run in self.runs:
                if self.state[run.name] == RUNNING:
                    self.say(f"{run.name}{self._how_far(run)}")

    def _how_far(self, run: Run) -> str:
        if self.state[run.name] == WAITING:
            return ""
        progress = self._read(run)
        text = f": {progress.env_step:,}/{run.num_steps:,} steps"
        return text if progress.evaluation is None else f"{text}, evaluation {progress.evaluation:.1f}"

    def _read(self, run: Run) -> Progress:
        """A run's progress; reads the files again only while the run is active, or after its state has changed."""
        key = f"{run.name} {self.state[run.name]}"
        if self.state[run.name] == RUNNING or key not in self._progress:
            self._progress[key] = read_progress(run.folder)
        return self._progress[key]

    def table(self) -> Table:
        """The runs as a table: as many as fit on the terminal, running and failed ones first."""
        counts = Counter(self.state.values())
        summary = ", ".join(f"{counts[state]} {state}" for state in STYLES if counts[state])
        table = Table(title=f"{escape(printable(self.title))}: {len(self.runs)} runs, {summary}", title_justify="left")
        for name in ("task", "arm"):
            table.add_column(name, overflow="fold")
        for name in ("seed", "steps", "of", "evaluation", "steps/s"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("state", no_wrap=True)
        for run in self._shown():
            table.add_row(*self._cells(run), style=STYLES[self.state[run.name]])
        return table

    def _shown(self) -> list[Run]:
        room = max(self.console.height - LINES_AROUND_TABLE, 1)
        if len(self.runs) <= room:
            return self.runs
        first = (RUNNING, FAILED, STOPPED, WAITING, FINISHED, SKIPPED)
        chosen = sorted(self.runs, key=lambda run: first.index(self.state[run.name]))[:room]
        return [run for run in self.runs if run in chosen]

    def _cells(self, run: Run) -> list[str]:
        state = self.state[run.name]
        progress = Progress() if state == WAITING else self._read(run)
        evaluation = "" if progress.evaluation is None else f"{progress.evaluation:.1f}"
        speed = f"{progress.steps_per_second:.1f}" if state == RUNNING and progress.steps_per_second else ""
        steps = f"{progress.env_step:,}", f"{run.num_steps:,}"
        return [
            escape(printable(run.task)),
            escape(printable(run.arm)),
            str(run.seed),
            *steps,
            evaluation,
            speed,
            state,
        ]

    @property
    def exit_status(self) -> int:
        """1 if a run failed, else 130 if one was stopped, else 0."""
        states = set(self.state.values())
        return 1 if FAILED in states else 130 if states & {STOPPED, WAITING, RUNNING} else 0
