"""The task of a run of any kind, with all that its environments are made from."""

import dataclasses

from sacae import config as configs


def full_task(config: configs.Settings) -> configs.TaskConfig:
    """The run's task as a TaskConfig. What another kind of run does not let its user choose is an attribute there."""
    task = config.task
    if isinstance(task, configs.TaskConfig):
        return task
    names = [f.name for f in dataclasses.fields(configs.TaskConfig)]
    return configs.TaskConfig(**{name: getattr(task, name) for name in names if hasattr(task, name)})
