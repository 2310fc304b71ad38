"""Settings of DDPG."""

from dataclasses import dataclass

from sacae.agents.settings.parts import ActorSettings, ExplorationSettings
from sacae.groups import HeadSettings


@dataclass(frozen=True)
class DDPGSettings(ExplorationSettings, ActorSettings, HeadSettings):
    """Deep deterministic policy gradient."""
