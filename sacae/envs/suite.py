"""The tasks of dm_control's suite: found and loaded, with an error of one line for what is not there."""

import logging
from collections.abc import Mapping
from numbers import Real
from typing import Any

from sacae.envs.arguments import CHANGE, argument_names, not_taken
from sacae.envs.faults import RAISED, describe
from sacae.envs.names import check_task
from sacae.errors import UserError

OLD_MODELS = "compiler attribute 'settotalmass' is deprecated"
"""What mujoco 3.17 says of models of dm_control 1.0.50 whenever one is loaded."""


def check(domain: str, task: str, task_kwargs: Mapping[str, Any], environment_kwargs: Mapping[str, Any]) -> None:
    """Raises UserError if there is no such task, it does not take an argument, or a time limit is none."""
    check_task(domain, task)
    from dm_control import suite
    from dm_control.rl.control import Environment

    given = {"task_kwargs": task_kwargs, "environment_kwargs": environment_kwargs}
    names = {"task_kwargs": argument_names(suite._DOMAINS[domain].SUITE[task])}  # They have no public name.
    names["environment_kwargs"] = argument_names(Environment) - {"physics", "task"} - names["task_kwargs"]
    for setting, other in (("task_kwargs", "environment_kwargs"), ("environment_kwargs", "task_kwargs")):
        for name in given[setting]:
            if name == "random":
                raise UserError(f"{setting} has random, but the seed of a task is set by --seed (seed); leave it out")
            if name in names[other]:
                raise UserError(f"{setting} has {name}, which is one of the {other}; give it there")
            if name not in names[setting]:
                raise not_taken(setting, name, f"{domain}_{task}", names[setting])
    limit = task_kwargs.get("time_limit", 1)
    if isinstance(limit, bool) or not (isinstance(limit, Real) and float(limit) > 0):
        raise UserError(
            f"task_kwargs has time_limit={limit}, but it must be a number of seconds above 0; "
            f"change {CHANGE['task_kwargs']}"
        )


def load(
    domain: str,
    task: str,
    seed: int,
    task_kwargs: Mapping[str, Any],
    environment_kwargs: Mapping[str, Any],
    visualize_reward: bool,
) -> Any:
    """As dm_control's `suite.load`, with arguments that `check` has seen.

    Raises UserError if the task cannot be made with the given `environment_kwargs`.
    """
    from dm_control import suite

    logging.getLogger("absl").addFilter(_concerns_the_user)
    try:
        return suite.load(domain, task, {"random": seed, **task_kwargs}, environment_kwargs, visualize_reward)
    except RAISED as error:
        if not environment_kwargs:
            raise
        raise UserError(
            f"environment_kwargs is {environment_kwargs}, but {domain}_{task} cannot be made with them: "
            f"{describe(error)}; change {CHANGE['environment_kwargs']}"
        ) from error


def _concerns_the_user(record: logging.LogRecord) -> bool:
    """Whether a user can act on a warning of the simulator."""
    return OLD_MODELS not in record.getMessage()
