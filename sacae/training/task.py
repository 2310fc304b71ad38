"""The task of a run of any kind, with all that its environments are made from."""

import dataclasses

from sacae.groups import TaskConfig
from sacae.settings import Settings


def full_task(config: Settings) -> TaskConfig:
    """The run's task as a TaskConfig. What another kind of run does not let its user choose is an attribute there."""
    task = config.task
    if isinstance(task, TaskConfig):
        return task
    names = [f.name for f in dataclasses.fields(TaskConfig)]
    return TaskConfig(**{name: getattr(task, name) for name in names if hasattr(task, name)})
