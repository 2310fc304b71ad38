"""What a person sees while a run goes on: a progress bar on a terminal, plain lines elsewhere."""

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sacae.text import draws_over, say

PLAIN_LINE_SECONDS = 30.0


class ProgressReport:
    """Shows how far a run is, its last returns and its speed.

    total: environment steps in the whole run. `update` is cheap enough to call at every agent step.
    """

    def __init__(self, console: Console, total: int, done: int = 0) -> None:
        self.console = console
        self.total = total
        self._texts = {"return": "-", "eval": "-", "speed": ""}
        self._bar = None
        self._last_line = time.monotonic()
        self._started = (self._last_line, done)
        if draws_over(console):
            columns = [
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
                TextColumn("return {task.fields[returns]} eval {task.fields[evaluation]} {task.fields[speed]}"),
                TimeRemainingColumn(elapsed_when_finished=True, compact=True),
            ]
            self._bar = Progress(*columns, console=console, refresh_per_second=4)
            self._task = self._bar.add_task("training", total=total, completed=done, **self._fields())
            self._bar.start()

    def _fields(self) -> dict[str, Any]:
        return {"returns": self._texts["return"], "evaluation": self._texts["eval"], "speed": self._texts["speed"]}

    def note(self, **texts: str) -> None:
        """Changes what is shown as `return`, `eval` or `speed`."""
        self._texts |= texts

    def update(self, env_step: int, doing: str) -> None:
        """Shows the step reached, and what is being done ("training", "evaluating")."""
        if self._bar:
            self._bar.update(self._task, completed=env_step, description=doing, **self._fields())
            return
        now = time.monotonic()
        if now - self._last_line >= PLAIN_LINE_SECONDS:
            self._last_line = now
            self.line(f"{doing} {env_step:,}/{self.total:,} steps{self._plain_texts(env_step, now)}")

    def _plain_texts(self, env_step: int, now: float) -> str:
        started, done = self._started
        texts = "".join(
            f", {name} {text}" if name != "speed" else f", {text}" for name, text in self._texts.items() if text
        )
        if env_step <= done:
            return texts
        left = (now - started) / (env_step - done) * (self.total - env_step)
        return f"{texts}, {left / 60:.0f} min left"

    def line(self, text: str) -> None:
        """Prints a line above the bar."""
        say(self._bar.console if self._bar else self.console, text)

    def close(self) -> None:
        """Takes the bar down."""
        if self._bar:
            self._bar.stop()
