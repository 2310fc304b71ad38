"""DeepMind Control and any Gymnasium environment, observed from pixels or from state, behind one contract.

Importing this package imports neither dm_control nor MuJoCo: the first environment does, after the OpenGL library has
been chosen.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import gymnasium

from sacae.envs import rendering
from sacae.envs.actions import DiscretisedEnv, choose_discretisation, discretised
from sacae.envs.cartpole import CartPoleContinuousEnv
from sacae.envs.chain import SixStateChainEnv
from sacae.envs.contract import Env, EnvInfo, Recipe, Stepper
from sacae.envs.dmc import DMCEnv, make
from sacae.envs.four_rooms import FourRoomsEnv
from sacae.envs.gym import GymEnv
from sacae.envs.making import LONGEST_EPISODE, rendering_problem
from sacae.envs.process import ProcessStepper
from sacae.envs.stepping import SerialStepper
from sacae.groups import TaskConfig
from sacae.gymnasium_ids import register as register_tasks
from sacae.keywords import keyword_arguments

if TYPE_CHECKING:
    from sacae.types import EnvSpec

__all__ = [
    "CartPoleContinuousEnv",
    "DMCEnv",
    "DiscretisedEnv",
    "Env",
    "EnvInfo",
    "FourRoomsEnv",
    "GymEnv",
    "SixStateChainEnv",
    "from_config",
    "make",
    "make_stepper",
    "rendering",
    "rendering_problem",
    "resolve_actions",
    "spec_of",
]

register_tasks()


def from_config(config: TaskConfig, seed: int | None) -> Env:
    """The environment that a run's settings name; `seed` as in `make`. Raises UserError as `make` and `GymEnv` do."""
    return discretised(_with_own_actions(config, seed), config)


def resolve_actions(config: TaskConfig, discrete_agent: bool, agent: str) -> tuple[TaskConfig, str | None]:
    """Resolves `discretisation` for this agent; also returns a line to print if "auto" changed the task's actions.

    discrete_agent: whether the agent of that name has discrete actions.

    Raises UserError where task and agent do not fit together, and as `from_config` does.
    """

    def action_space() -> gymnasium.spaces.Box | gymnasium.spaces.MultiDiscrete:
        observed = config
        if not config.env:
            # The actions do not depend on the observations, and building a state environment is faster. It imports
            # dm_control, though, so the OpenGL library must be chosen first.
            rendering.configure(required=config.from_pixels)
            observed = dataclasses.replace(config, obs="state")
        with contextlib.closing(_with_own_actions(observed, seed=0)) as env:
            return env.action_space

    name = config.env or f"{config.domain}_{config.task}"
    discretisation, note = choose_discretisation(config, discrete_agent, agent, name, action_space)
    return dataclasses.replace(config, discretisation=discretisation), note


def _with_own_actions(config: TaskConfig, seed: int | None) -> DMCEnv | GymEnv:
    """The environment before any discretisation."""
    if config.env:
        arguments = keyword_arguments(config.env_kwargs)
        size, repeat = config.image_size, config.action_repeat
        return GymEnv(config.env, seed, config.from_pixels, size, repeat, arguments, config.sees_state)
    arguments = keyword_arguments(config.task_kwargs)
    create = functools.partial(
        make,
        config.domain,
        config.task,
        seed=seed,
        from_pixels=config.from_pixels,
        height=config.image_size,
        width=config.image_size,
        frame_skip=config.action_repeat,
        camera_id=config.camera_id,
        render_quality=config.render_quality,
    )
    env = create(task_kwargs=arguments)
    if env.max_episode_steps is not None:
        return env
    env.close()  # An evaluation of a policy that never ends its episode would not end either.
    return create(task_kwargs=arguments | {"time_limit": LONGEST_EPISODE * env.control_timestep})


def make_stepper(
    recipes: Sequence[Recipe], in_processes: bool, keep_state: bool = False, max_errors: int = 0
) -> Stepper:
    """A stepper with one environment per recipe.

    in_processes: whether each environment runs in a process of its own, beside the caller. The recipes must then be
        picklable.
    keep_state: whether each frame comes with its physical state; only DeepMind Control reports one.
    max_errors: how many resets of an environment may fail in a row.

    Raises the recipes' errors, and as `SerialStepper` and `ProcessStepper` do.
    """
    if in_processes:
        return ProcessStepper(recipes, keep_state, max_errors)
    return SerialStepper([recipe() for recipe in recipes], keep_state, max_errors)


def spec_of(info: EnvInfo, frame_stack: int, sees_state: bool = False) -> "EnvSpec":
    """Describes environments to agent and replay; the agent observes the last `frame_stack` frames.

    sees_state: whether it also sees the state that is stored with the newest frame.
    """
    from sacae.types import EnvSpec  # Imports torch, which an environment's own process does not need.

    actions = info.action_dim, info.num_actions
    return EnvSpec(info.frame_shape, info.frame_dtype, frame_stack, *actions, info.state_dim, sees_state)
