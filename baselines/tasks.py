"""What algorithms ask of a task before they begin."""

import contextlib
from typing import Any

import gymnasium
from gymnasium import spaces

from baselines.settings import AlgorithmSettings, Baseline
from sacae import envs
from sacae.errors import UserError
from sacae.training.task import full_task
from sacae.types import EnvSpec


def look_at(config: Baseline[AlgorithmSettings]) -> tuple[spaces.Space[Any], gymnasium.Env | None]:
    """What the task shows before it is flattened to a vector, and its environment as its author wrote it.

    The space is what the wrappers show that the environment is registered with. The environment, None for DeepMind
    Control, is closed again: it is there to read its attributes.
    """
    with contextlib.closing(envs.from_config(full_task(config), seed=0)) as env:
        shown = env.registered if isinstance(env, envs.GymEnv) else env
        return shown.observation_space, env.original


def require_choice(config: Baseline[AlgorithmSettings], spec: EnvSpec) -> int:
    """How many actions there are to choose from. Raises UserError where an action is not one of several."""
    if spec.num_actions is not None and spec.action_dim == 1:
        return spec.num_actions
    actions, other = ("continuous", "sac") if spec.num_actions is None else ("several at once", "dqn")
    raise UserError(
        f"algo is {config.variant}, which chooses one of several actions, but those of {config.task_name} are "
        f"{actions}; choose another --env, or an --algo such as {other}"
    )
