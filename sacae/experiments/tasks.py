"""Tasks by name: of the DeepMind Control suite, such as cheetah_run, or of Gymnasium's registry."""

import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from sacae.errors import UserError, did_you_mean

GYMNASIUM = re.compile(r"[/:]|-v\d+$")
"""Parts that only names of Gymnasium's registry have: a namespace, a module, a version."""


def settings_of(name: str) -> dict[str, Any]:
    """The settings that choose the task of that name: `env`, or `domain` and `task`. Raises UserError if unknown."""
    if GYMNASIUM.search(name):
        from sacae.envs import making

        making.find(name)
        return {"env": name}
    suite = suite_tasks()
    if name not in suite:
        advice = did_you_mean(name, suite) or f"; the suite has {', '.join(suite)}; a Gymnasium id ends in its version"
        raise UserError(f"tasks has {name!r}, which is not in the DeepMind Control suite{advice}; change --tasks")
    domain, task = suite[name]
    return {"domain": domain, "task": task}


def choose(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Settings by the task's name. Raises UserError for an unknown name, and if there is none."""
    chosen = {name: settings_of(name) for name in names}
    if not chosen:
        raise UserError("tasks is empty, but there must be one or more, such as cheetah_run,walker_walk; give --tasks")
    return chosen


@functools.cache
def suite_tasks() -> dict[str, tuple[str, str]]:
    """Domain and task by their joint name. Both can contain underscores, so the name alone does not separate them."""
    # In a separate process: once dm_control is imported, it is too late to choose the OpenGL library.
    program = "import json; from dm_control import suite; print(json.dumps(suite.ALL_TASKS))"
    environment = os.environ | {"MUJOCO_GL": "disable"}
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment
    )
    if answer.returncode:
        reason = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"the DeepMind Control suite cannot be loaded: {reason}; sacae doctor shows what is missing")
    return {f"{domain}_{task}": (domain, task) for domain, task in json.loads(answer.stdout)}
