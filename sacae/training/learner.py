"""What the training loop asks of an algorithm."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from sacae.envs.contract import StepResult
from sacae.errors import UserError
from sacae.replay import FrameReplay
from sacae.training.evaluation import Player, RememberingPlayer
from sacae.training.views import View
from sacae.types import Actions, Frames, Metrics

if TYPE_CHECKING:
    from sacae.training.run import Run


class Learner(ABC):
    """What is learned, and how: the part of a training that differs between algorithms. See loop.py for the order.

    player: acts without exploration, in evaluations.
    metric_names: every name that the metrics have which it adds to `run.means`; they are columns of train.csv.
    saved_replay: the replay that checkpoints save in chunks beside the state; None where there is none.
    saves_replay: whether they do. What an earlier one saved is read in any case.
    """

    player: Player | RememberingPlayer
    metric_names: tuple[str, ...]
    saved_replay: FrameReplay | None = None
    saves_replay: bool = True

    @property
    @abstractmethod
    def updates_done(self) -> int:
        """Updates so far."""

    @abstractmethod
    def begin(self, frames: Sequence[Frames], states: Sequence[NDArray[np.float32] | None]) -> None:
        """Episodes start in all environments: with a new run, or with a resumed one whose episodes cannot go on.

        frames: the first observation of each. states: the physical state of each, None where it is not kept.
        """

    @abstractmethod
    def act(self, run: Run) -> Actions:
        """Actions with exploration, float32 (N, A) in [-1, 1] or int64 (N, A)."""

    def learn(self, run: Run) -> bool:
        """Learns while the environments simulate, from what was there before.

        Returns False where a stop was requested in the middle: `act` then returns the same actions again.
        """
        return True

    def take_back(self) -> None:
        """The environments did not answer the last `act`: it returns the same again, also after a checkpoint."""
        return

    @abstractmethod
    def observe(self, run: Run, actions: Actions, result: StepResult) -> None:
        """Takes in what the environments returned. `run` counts the step, and logs ended episodes, after this call.

        Nothing is learned from the steps in `result.lost`: their episodes ended before, without a terminal state.
        """

    def step_metrics(self, i: int) -> Metrics:
        """Metrics () of environment i's last step, which count towards its row and not towards those of lower i."""
        return {}

    def after_step(self, run: Run) -> None:
        """Learns what has to wait until the step is counted and ended episodes are logged."""
        return

    def check_finite(self) -> None:
        """Raises UserError where something that was learned is not finite."""
        return

    def view(self, observations: Sequence[Frames], env_step: int) -> View | None:
        """What the networks compute at a few of an evaluation episode's observations; None if there is no picture."""
        return None

    @abstractmethod
    def playable(self) -> dict[str, Any]:
        """All that is needed to play the present policy: the "learning" of a checkpoint of the best evaluation."""

    def open(self, run: Run, state: Mapping[str, Any] | None) -> None:
        """Opens files of its own in the run folder. state: the checkpoint's, None in a new run."""
        return

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: "learning" for what was learned, "learner" for counters, and more as needed."""

    @abstractmethod
    def load(self, state: Mapping[str, Any]) -> bool:
        """Restores what `state` returned. Returns whether running episodes can go on; if not, `begin` follows."""

    def close(self) -> None:
        """Closes its files and processes."""
        return


def require_finite(metrics: Metrics, update: int) -> None:
    """Raises UserError where an update's loss, a tensor (), is not finite. Waits for the device."""
    for name, value in metrics.items():
        if not torch.isfinite(value):
            raise UserError(
                f"{name} was not finite at update {update}: training stopped; the last checkpoint is from before; "
                "try a smaller learning rate"
            )
