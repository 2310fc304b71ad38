"""Settings of DrQ-v2."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from sacae.agents.settings.parts import ActorSettings, ExplorationSettings
from sacae.declaration import AtLeast
from sacae.groups import HeadSettings


@dataclass(frozen=True)
class DrQV2Settings(ExplorationSettings, ActorSettings, HeadSettings):
    """DrQ-v2."""

    FEATURES_BEFORE_CRITIC: ClassVar[bool] = True

    PRESET_FROM_PIXELS: ClassVar[Mapping[str, Any]] = {"critic_lr": 1e-4, "encoder_tau": 0.01}
    """The authors'; what else they set is in `--preset drqv2`."""

    PRESET: ClassVar[Mapping[str, Any]] = {"actor_update_freq": 1, "critic_target_update_freq": 1}
    """Every update moves the actor and the target."""

    noise_clip: Annotated[float, AtLeast(0)] = 0.3
    """Bound on the noise on the policy's actions in both losses; training acts with unbounded noise."""
