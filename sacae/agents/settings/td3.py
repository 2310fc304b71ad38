"""Settings of TD3."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from sacae.agents.settings.parts import ActorSettings, ExplorationSettings
from sacae.declaration import AtLeast
from sacae.groups import HeadSettings


@dataclass(frozen=True)
class TD3Settings(ExplorationSettings, ActorSettings, HeadSettings):
    """Twin delayed DDPG."""

    PRESET: ClassVar[Mapping[str, Any]] = {"actor_update_freq": 2, "critic_target_update_freq": 2}
    """The updates are delayed from state too."""

    target_noise: Annotated[float, AtLeast(0)] = 0.2
    """Standard deviation of the noise on the target policy's actions (target policy smoothing)."""
    target_noise_clip: Annotated[float, AtLeast(0)] = 0.5
    """Bound on the noise on the target policy's actions."""
