"""DeepMind Control as Gymnasium environments, from pixels or from state.

Importing this room imports neither dm_control nor MuJoCo: that waits for the first environment, when the OpenGL
library has been chosen.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sacae.envs import rendering
from sacae.envs.dmc import DMCEnv, make
from sacae.envs.process import ProcessStepper
from sacae.envs.stepping import EnvInfo, Recipe, SerialStepper, Stepper

if TYPE_CHECKING:
    from sacae.config import TaskConfig
    from sacae.types import EnvSpec

__all__ = ["DMCEnv", "EnvInfo", "from_config", "make", "make_stepper", "rendering", "spec_of"]


def from_config(config: "TaskConfig", seed: int | None) -> DMCEnv:
    """The environment that a run's settings name; `seed` as in `make`. Raises UserError as `make`."""
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


def make_stepper(recipes: Sequence[Recipe], in_processes: bool) -> Stepper:
    """A stepper of one environment per recipe.

    in_processes: whether each environment gets a process of its own, in which it works while the caller goes on. The
        recipes must then be picklable.

    Raises what a recipe raises, and as `ProcessStepper`.
    """
    return ProcessStepper(recipes) if in_processes else SerialStepper([recipe() for recipe in recipes])


def spec_of(info: EnvInfo, frame_stack: int) -> "EnvSpec":
    """What agent and replay must know of environments whose last `frame_stack` observations the agent sees."""
    from sacae.types import EnvSpec  # Imports torch, which an environment in a process of its own does not need.

    return EnvSpec(info.frame_shape, info.frame_dtype, frame_stack, info.action_dim)
