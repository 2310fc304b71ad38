"""Progress of a running experiment: a live table on a terminal, plain lines elsewhere."""

import math
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
from sacae.text import draws_over, printable, say

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
    """A run's progress. What its files do not contain yet is 0 or None; incomplete and damaged rows are ignored."""
    episodes = _last_rows(folder / "train.csv", "env_steps_per_second")
    evaluations = [row for row in _last_rows(folder / "eval.csv", "episode_return") if math.isfinite(row[1])]
    last = episodes[-1][0] if episodes else 0
    # Of episodes that end together, one row has the speed.
    speed = next((speed for _, speed in reversed(episodes) if speed > 0), None)
    newest = evaluations[-1][0] if evaluations else 0
    returns = [episode_return for env_step, episode_return in evaluations if env_step == newest]
    return Progress(
        int(max(last, newest)),
        sum(returns) / len(returns) if returns else None,
        speed if speed is not None and math.isfinite(speed) else None,
    )


def _last_rows(path: Path, column: str) -> list[tuple[float, float]]:
    """Environment step and a column, NaN where it is no number, of the whole rows within a CSV file's last bytes."""
    try:
        if not path.is_file():
            return []
        with open(path, "rb") as file:
            # Limited, as a damaged file may be one long line.
            header = file.readline(TAIL_BYTES).decode(errors="replace").strip().split(",")
            size = file.seek(0, 2)
            file.seek(max(size - TAIL_BYTES, 0))
            lines = file.read(TAIL_BYTES).decode(errors="replace").splitlines(keepends=True)
    except OSError:
        return []
    whole = [line for line in lines[1:] if line.endswith("\n")]  # the first is the header, or cut
    # Not csv.reader: a quotation mark that damage has left would swallow the rows after it.
    rows = [dict(zip(header, line.strip().split(","))) for line in whole if line.count(",") == len(header) - 1]
    numbers = [(_number(row.get("env_step", "")), _number(row.get(column, ""))) for row in rows]
    return [row for row in numbers if math.isfinite(row[0])]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


class Board:
    """The state of every run. Without a terminal, changes are printed as lines."""

    def __init__(self, title: str, runs: Sequence[Run], console: Console) -> None:
        self.title, self.runs, self.console = title, list(runs), console
        self.state = {run.name: WAITING for run in runs}
        self.problem: dict[str, str] = {}
        self._progress: dict[str, Progress] = {}
        self._live = Live(console=console, auto_refresh=False) if draws_over(console) else None
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
