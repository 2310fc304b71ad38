"""When each part of an update is due."""

from typing import NamedTuple

from sacae.agents.settings.parts import ActorSettings
from sacae.config import Config


class Gates(NamedTuple):
    """Which parts of an update are due."""

    critic: bool
    policy: bool
    targets: bool
    auxiliary: bool


def due_gates(config: Config, update: int, step: int, has_objectives: bool) -> Gates:
    """What is due in an update: during pretraining the auxiliary objectives and the targets that follow the encoder,
    then what the frequencies say.

    update: its number, from 1. step: agent steps of each environment since learning started, from 0, which
    `--gates agent_steps` counts in place of updates.
    """
    agent, auxiliary = config.agent, config.autoencoder
    count = update - auxiliary.pretrain_updates
    pretrains = count <= 0
    if config.train.gates == "agent_steps" and not pretrains:
        count = step
    return Gates(
        critic=not pretrains,
        policy=not pretrains and isinstance(agent, ActorSettings) and count % agent.actor_update_freq == 0,
        targets=count % agent.critic_target_update_freq == 0,  # 0 at the last of pretraining, however rare they are
        auxiliary=pretrains or (has_objectives and count % auxiliary.decoder_update_freq == 0),
    )
