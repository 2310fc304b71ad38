"""Experiment trackers beside CSV and TensorBoard: Weights & Biases, MLflow. A run goes on without one that fails."""

import os
from collections.abc import Callable, Mapping
from importlib import util
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sacae.errors import UserError, how_to_install
from sacae.settings import Settings

PROJECT = "sacae"
"""The project, or experiment, of all runs, unless the tracker's environment variable names another one."""


class Tracker(Protocol):
    """What a tracker does. run_id: names the run there, so that a resumed run goes on in it."""

    run_id: str

    def scalars(self, row: Mapping[str, float], env_step: int) -> None:
        """Records numbers by name."""

    def image(self, name: str, image: NDArray[np.uint8], env_step: int) -> None:
        """Records a uint8 (H, W, 3) picture."""

    def close(self) -> None:
        """Ends the connection."""


class WandbTracker:
    """Weights & Biases, as its environment variables say: WANDB_MODE=offline, WANDB_PROJECT, WANDB_ENTITY."""

    def __init__(self, config: Settings, run_id: str | None) -> None:
        import wandb

        self._wandb = wandb
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=_name(config),
            group=f"{config.task_name} {config.variant}",
            id=run_id,
            resume="allow",
            dir=str(config.work_dir),
            config=_settings(config),
            settings=wandb.Settings(silent=True, console="off"),
        )
        self.run_id: str = self._run.id
        # Rows of fits come late, under the step of their data, which W&B's own counter would not take.
        self._run.define_metric("env_step")
        self._run.define_metric("*", step_metric="env_step")

    def scalars(self, row: Mapping[str, float], env_step: int) -> None:
        """See Tracker."""
        self._run.log({**row, "env_step": env_step})

    def image(self, name: str, image: NDArray[np.uint8], env_step: int) -> None:
        """See Tracker."""
        self._run.log({name: self._wandb.Image(image), "env_step": env_step})

    def close(self) -> None:
        """See Tracker."""
        self._run.finish()


class MlflowTracker:
    """MLflow, where its environment variables say: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME."""

    def __init__(self, config: Settings, run_id: str | None) -> None:
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.tracking import MlflowClient
        from mlflow.utils.time import get_current_time_millis

        self._client, self._metric = MlflowClient(), Metric
        self._now: Callable[[], int] = get_current_time_millis
        if run_id is None:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            found = self._client.get_experiment_by_name(name)
            experiment = found.experiment_id if found else self._client.create_experiment(name)
            run_id = str(self._client.create_run(experiment, run_name=_name(config)).info.run_id)
            params = [Param(key, str(value)) for key, value in _settings(config).items()]
            tags = [RunTag("task", config.task_name), RunTag("agent", config.variant)]
            self._client.log_batch(run_id, params=params, tags=tags)
        else:
            self._client.update_run(run_id, status="RUNNING")
        self.run_id = run_id

    def scalars(self, row: Mapping[str, float], env_step: int) -> None:
        """See Tracker."""
        now = self._now()
        metrics = [self._metric(name, float(value), now, env_step) for name, value in row.items()]
        self._client.log_batch(self.run_id, metrics=metrics)

    def image(self, name: str, image: NDArray[np.uint8], env_step: int) -> None:
        """See Tracker."""
        self._client.log_image(self.run_id, image, key=name, step=env_step)

    def close(self) -> None:
        """See Tracker."""
        self._client.set_terminated(self.run_id)


TRACKERS: Mapping[str, Callable[[Settings, str | None], Tracker]] = {"wandb": WandbTracker, "mlflow": MlflowTracker}
"""The trackers that `--logger` names. Each one's package and extra have its name."""


class Tracking:
    """A run's tracker, which is told of everything until it fails.

    kind: its name in TRACKERS. run_id: as of Tracker.
    """

    def __init__(
        self, kind: str, config: Settings, saved: Mapping[str, str] | None, warn: Callable[[str], None]
    ) -> None:
        """saved: what `state` returned at the checkpoint. Raises UserError if the tracker cannot start."""
        self.kind, self._warn = kind, warn
        require_package(kind)
        run_id = saved["run_id"] if saved and saved["kind"] == kind else None
        try:
            self._tracker: Tracker | None = TRACKERS[kind](config, run_id)
        except Exception as error:  # Each tracker has its own, and those of its connection.
            raise UserError(
                f"logger is {kind}, but {kind} cannot start: {_reason(error)}; mend that, or leave --logger out"
            ) from error
        self.run_id = self._tracker.run_id

    def scalars(self, row: Mapping[str, float], env_step: int) -> None:
        """See Tracker."""
        self._attempt(lambda tracker: tracker.scalars(row, env_step))

    def image(self, name: str, image: NDArray[np.uint8], env_step: int) -> None:
        """See Tracker."""
        self._attempt(lambda tracker: tracker.image(name, image, env_step))

    def state(self) -> dict[str, str]:
        """For a checkpoint."""
        return {"kind": self.kind, "run_id": self.run_id}

    def close(self) -> None:
        """See Tracker."""
        self._attempt(lambda tracker: tracker.close())
        self._tracker = None

    def _attempt(self, action: Callable[[Tracker], None]) -> None:
        """Tells the tracker nothing any more after an error, which is told."""
        if self._tracker is None:
            return
        try:
            action(self._tracker)
        except Exception as error:
            self._tracker = None
            self._warn(f"warning: {self.kind} failed ({_reason(error)}): it is told nothing from here on")


def require_package(kind: str) -> None:
    """Raises UserError, naming the extra, if a tracker's package is not there."""
    if util.find_spec(kind) is None:
        raise UserError(f"logger is {kind}, but {kind} is not installed; leave --logger out, or {how_to_install(kind)}")


def _name(config: Settings) -> str:
    return f"{config.task_name} {config.variant} {config.train.seed}"


def _settings(config: Settings) -> dict[str, Any]:
    """All settings that apply, by name."""
    values = {**config.applying(), "work_dir": config.work_dir}
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
