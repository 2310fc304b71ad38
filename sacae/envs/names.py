"""Names of DeepMind Control tasks: checked, and recognised where other packages write them otherwise."""

import re

from sacae.errors import UserError, did_you_mean


def check_task(domain: str, task: str) -> None:
    """Raises UserError if there is no such domain or task, with similar ones. Imports dm_control's suite."""
    from dm_control import suite

    domain, task = str(domain), str(task)
    tasks = suite.TASKS_BY_DOMAIN
    for name, value in (("domain", domain), ("task", task)):
        meant = {_joined(*both): both for both in suite.ALL_TASKS}.get(_joined(_bare(value)))
        if meant:
            raise UserError(f"{name} is {value}, which names a domain and its task; did you mean {_flags(*meant)}?")
    if domain not in tasks:
        advice = did_you_mean(domain, tasks) or f"; it has {', '.join(tasks)}"
        raise UserError(f"domain is {domain}, which is not in the DeepMind Control suite{advice}")
    if task not in tasks[domain]:
        close = did_you_mean(task, tasks[domain])
        raise UserError(f"task is {task}, but {domain} has {', '.join(tasks[domain])}{close}")


NAMESPACE = re.compile(r"^(?:dm_control|dmc)/(\w+)-(\w+)-v\d+$")
"""Ids of other packages' environments, such as shimmy's dm_control/cheetah-run-v0: domain and task."""


def advice_for_id(env_id: str) -> str:
    """'; did you mean --domain D --task T?' for a Gymnasium id of a DeepMind Control task, else ''."""
    found = NAMESPACE.match(env_id)
    return f"; did you mean {_flags(*found.groups())}?" if found else ""


def _bare(name: str) -> str:
    """The name without namespace and version."""
    return re.sub(r"^(?:dm_control|dmc)/|-v\d+$", "", name)


def _joined(*parts: str) -> str:
    """Domain and task in one word, however they are joined."""
    return re.sub(r"[-/ ]", "_", "_".join(parts)).lower()


def _flags(domain: str, task: str) -> str:
    return f"--domain {domain} --task {task}"
