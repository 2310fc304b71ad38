"""DeepMind Control, and any Gymnasium environment, behind one contract: from pixels or from state.

Importing this room imports neither dm_control nor MuJoCo: that waits for the first environment, when the OpenGL
library has been chosen.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sacae.config import TaskConfig
from sacae.envs import rendering
from sacae.envs.actions import DiscretisedEnv, choose_discretisation, discretised
from sacae.envs.cartpole import CartPoleContinuousEnv
from sacae.envs.chain import SixStateChainEnv
from sacae.envs.dmc import DMCEnv, make
from sacae.envs.four_rooms import FourRoomsEnv
from sacae.envs.gym import GymEnv, rendering_problem
from sacae.envs.process import ProcessStepper
from sacae.envs.stepping import Env, EnvInfo, Recipe, SerialStepper, Stepper

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


def from_config(config: TaskConfig, seed: int | None) -> Env:
    """The environment that a run's settings name; `seed` as in `make`. Raises UserError as `make` and `GymEnv`."""
    return discretised(_as_it_is(config, seed), config)


def resolve_actions(config: TaskConfig, discrete_agent: bool, agent: str) -> tuple[TaskConfig, str | None]:
    """The settings with `discretisation` as it is for this agent, and a line to print where it was chosen here.

    discrete_agent: whether the agent of that name chooses among discrete actions.

    Raises UserError where task and agent do not go together, and as `from_config`.
    """

    def action_space():
        seen = config
        if not config.env:
            # The actions are the same whatever is observed, and the state is made sooner; but once dm_control is
            # imported, it is too late to find out what renders.
            rendering.configure(required=config.obs == "pixels")
            seen = dataclasses.replace(config, obs="state")
        with contextlib.closing(_as_it_is(seen, seed=0)) as env:
            return env.action_space

    name = config.env or f"{config.domain}_{config.task}"
    discretisation, note = choose_discretisation(config, discrete_agent, agent, name, action_space)
    return dataclasses.replace(config, discretisation=discretisation), note


def _as_it_is(config: TaskConfig, seed: int | None) -> DMCEnv | GymEnv:
    """The environment with its own actions."""
    if config.env:
        return GymEnv(config.env, seed, config.obs == "pixels", config.image_size, config.action_repeat)
    return make(
        config.domain,
        config.task,
        seed=seed,
        from_pixels=config.obs == "pixels",
        height=config.image_size,
        width=config.image_size,
        frame_skip=config.action_repeat,
        camera_id=config.camera_id,
        render_quality=config.render_quality,
    )


def make_stepper(recipes: Sequence[Recipe], in_processes: bool, keep_state: bool = False) -> Stepper:
    """A stepper of one environment per recipe.

    in_processes: whether each environment gets a process of its own, in which it works while the caller goes on. The
        recipes must then be picklable.
    keep_state: whether the physical states that the frames show come with them; only DeepMind Control has any.

    Raises what a recipe raises, and as `ProcessStepper`.
    """
    if in_processes:
        return ProcessStepper(recipes, keep_state)
    return SerialStepper([recipe() for recipe in recipes], keep_state)


def spec_of(info: EnvInfo, frame_stack: int) -> "EnvSpec":
    """What agent and replay must know of environments whose last `frame_stack` observations the agent sees."""
    from sacae.types import EnvSpec  # Imports torch, which an environment in a process of its own does not need.

    actions = info.action_dim, info.num_actions
    return EnvSpec(info.frame_shape, info.frame_dtype, frame_stack, *actions, info.state_dim)
