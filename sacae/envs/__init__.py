"""DeepMind Control as Gymnasium environments, from pixels or from state.

Importing this room imports neither dm_control nor MuJoCo: that waits for the first environment, when the OpenGL
library has been chosen.
"""

from typing import TYPE_CHECKING

from sacae.envs import rendering
from sacae.envs.dmc import DMCEnv, make
from sacae.envs.stepping import EnvInfo, make_stepper

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


def spec_of(info: EnvInfo, frame_stack: int) -> "EnvSpec":
    """What agent and replay must know of environments whose last `frame_stack` observations the agent sees."""
    from sacae.types import EnvSpec  # Imports torch, which an environment in a process of its own does not need.

    return EnvSpec(info.frame_shape, info.frame_dtype, frame_stack, info.action_dim)
