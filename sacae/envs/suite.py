"""The tasks of dm_control's suite: found and loaded, with an error of one line for what is not there."""

import logging
from collections.abc import Mapping
from typing import Any

from sacae.envs.arguments import unknown_argument
from sacae.envs.names import check_task
from sacae.errors import UserError

OLD_MODELS = "compiler attribute 'settotalmass' is deprecated"
"""What mujoco 3.17 says of models of dm_control 1.0.50 whenever one is loaded."""


def check(domain: str, task: str, task_kwargs: Mapping[str, Any]) -> None:
    """Raises UserError if there is no such task, or its time limit is none."""
    check_task(domain, task)
    limit = task_kwargs.get("time_limit", 1)
    if not (isinstance(limit, int | float) and limit > 0):
        raise UserError(
            f"task_kwargs has time_limit={limit}, but it must be a number of seconds above 0; change --task-kwargs"
        )


def load(domain: str, task: str, task_kwargs: Mapping[str, Any], **arguments: Any) -> Any:
    """As dm_control's `suite.load`. Raises UserError for an argument that the task does not take."""
    from dm_control import suite
    from dm_control.rl.control import Environment

    logging.getLogger("absl").addFilter(_concerns_the_user)
    try:
        return suite.load(domain, task, task_kwargs=task_kwargs, **arguments)
    except TypeError as error:
        create = suite._DOMAINS[domain].SUITE[task]  # It has no public name.
        of_environment = arguments.get("environment_kwargs", {})
        unknown = unknown_argument("task_kwargs", task_kwargs, error, f"{domain}_{task}", create)
        unknown = unknown or unknown_argument("environment_kwargs", of_environment, error, "a task", Environment)
        if unknown:
            raise unknown from error
        raise


def _concerns_the_user(record: logging.LogRecord) -> bool:
    """Whether a user can act on a warning of the simulator."""
    return OLD_MODELS not in record.getMessage()
