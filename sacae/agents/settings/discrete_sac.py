"""Settings of SAC for discrete actions."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from sacae.agents.settings.parts import LEARNED, ActorSettings, TemperatureSettings
from sacae.declaration import Within
from sacae.groups import HeadSettings


@dataclass(frozen=True)
class DiscreteSACSettings(TemperatureSettings, ActorSettings, HeadSettings):
    """Soft actor-critic for discrete actions."""

    DISCRETE_ACTIONS: ClassVar[bool] = True

    target_entropy_factor: Annotated[float, Within(0, 1), LEARNED] = 0.98
    """Target entropy as a fraction of the uniform policy's entropy."""
