"""DeepMind Control with episodes of a few steps, in a module that a process of its own imports in no time."""

from sacae import envs
from sacae.envs import from_config

EPISODE_STEPS = 7


def short_episode_env(config, seed):
    """An environment as the settings name it, on DeepMind Control with a time limit of EPISODE_STEPS agent steps."""
    if config.env:
        return from_config(config, seed)
    control_timestep = 0.01  # of cheetah and cartpole
    return envs.make(
        config.domain,
        config.task,
        seed=seed,
        from_pixels=config.obs == "pixels",
        height=config.image_size,
        width=config.image_size,
        frame_skip=config.action_repeat,
        task_kwargs={"time_limit": (EPISODE_STEPS * config.action_repeat - 0.5) * control_timestep},
    )
