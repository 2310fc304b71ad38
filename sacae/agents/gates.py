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
    """What is due in an update: during pretraining the auxiliary objectives alone, then what the frequencies say.

    update: its number, from 1. step: agent steps of each environment since learning started, from 0, which
    `--gates agent_steps` counts in place of updates.
    """
    agent, auxiliary = config.agent, config.autoencoder
    count = update - auxiliary.pretrain_updates
    if count <= 0:
        return Gates(critic=False, policy=False, targets=False, auxiliary=True)
    if config.train.gates == "agent_steps":
        count = step
    return Gates(
        critic=True,
        policy=isinstance(agent, ActorSettings) and count % agent.actor_update_freq == 0,
        targets=count % agent.critic_target_update_freq == 0,
        auxiliary=has_objectives and count % auxiliary.decoder_update_freq == 0,
    )
