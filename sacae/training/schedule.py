"""When evaluations, checkpoints and updates are due."""

import math
from fractions import Fraction
from typing import Any


class Every:
    """Due at step 0, then at each multiple of `every` that is reached or passed, and a last time at `last`.

    next: the step from which on it is due; one beyond `last` when nothing is left.
    """

    def __init__(self, every: int, last: int) -> None:
        self._every, self._last = every, last
        self.next = 0

    def due(self, step: int) -> bool:
        """Whether it is due at this step."""
        return step >= self.next

    def done(self, step: int) -> None:
        """Notes that it was done at this step."""
        self.next = step + 1 if step >= self._last else self._after(step)

    def go_on(self, next_step: int, step: int) -> None:
        """Continues a schedule that stood at `next_step`, at this step; `every` and `last` may have changed."""
        overdue = next_step <= step
        self.next = next_step if overdue or step >= self._last else self._after(step)

    def _after(self, step: int) -> int:
        return min((step // self._every + 1) * self._every, self._last)


class UpdateSchedule:
    """Which updates are due at an agent step: a burst when learning starts, afterwards a ratio of the agent steps.

    After s agent steps of all environments since learning started, floor(ratio * s) updates have been made beside the
    burst. With `every` above 1 they are made in blocks, each time s has passed another multiple of it.

    began: agent step at which learning started, None before.
    """

    def __init__(self, ratio: float, every: int, burst: int) -> None:
        """ratio: updates for each agent step, taken as the decimal number that it is written as."""
        self._ratio, self._every = Fraction(repr(ratio)), every
        self._burst = burst
        self._counted = 0
        self.began: int | None = None

    def due(self, agent_step: int) -> int:
        """Updates to make at this agent step, counted as made from now on. The first call starts learning."""
        if self.began is None:
            self.began = agent_step
            burst, self._burst = self._burst, 0
            return burst
        steps = (agent_step - self.began) // self._every * self._every
        due = math.floor(self._ratio * steps) - self._counted
        self._counted += due
        return due

    def wait(self, burst: int) -> None:
        """Learning has to wait: it starts again at the next `due`, with this burst, what is left of the first."""
        self.began, self._counted, self._burst = None, 0, burst

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"began": self.began, "counted": self._counted, "burst": self._burst}

    def load(self, state: dict[str, Any]) -> None:
        """Takes over what `state` returned."""
        self.began, self._counted, self._burst = state["began"], state["counted"], state["burst"]
