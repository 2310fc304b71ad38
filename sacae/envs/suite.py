"""The tasks of dm_control's suite: found and loaded, with an error of one line for what is not there."""

from collections.abc import Mapping
from typing import Any

from sacae.envs.arguments import unknown_argument
from sacae.errors import UserError, did_you_mean


def check(domain: str, task: str, task_kwargs: Mapping[str, Any]) -> None:
    """Raises UserError if there is no such task, or its time limit is none."""
    from dm_control import suite

    tasks = suite.TASKS_BY_DOMAIN
    if domain not in tasks:
        advice = did_you_mean(domain, tasks) or f"; it has {', '.join(tasks)}"
        raise UserError(f"domain is {domain}, which is not in the DeepMind Control suite{advice}")
    if task not in tasks[domain]:
        close = did_you_mean(task, tasks[domain])
        raise UserError(f"task is {task}, but {domain} has {', '.join(tasks[domain])}{close}")
    limit = task_kwargs.get("time_limit", 1)
    if not (isinstance(limit, int | float) and limit > 0):
        raise UserError(
            f"task_kwargs has time_limit={limit}, but it must be a number of seconds above 0; change --task-kwargs"
        )


def load(domain: str, task: str, task_kwargs: Mapping[str, Any], **arguments: Any) -> Any:
    """As dm_control's `suite.load`. Raises UserError for an argument that the task does not take."""
    from dm_control import suite

    try:
        return suite.load(domain, task, task_kwargs=task_kwargs, **arguments)
    except TypeError as error:
        create = suite._DOMAINS[domain].SUITE[task]  # It has no public name.
        unknown = unknown_argument("task_kwargs", task_kwargs, error, f"{domain}_{task}", create)
        if unknown:
            raise unknown from error
        raise
