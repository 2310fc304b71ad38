"""Settings of SAC with a value network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from sacae.agents.settings.parts import ActorSettings, GaussianSettings, with_bound_of
from sacae.declaration import Above
from sacae.groups import HeadSettings


@dataclass(frozen=True)
class SACVSettings(GaussianSettings, ActorSettings, HeadSettings):
    """Soft actor-critic with a value network."""

    PRESET: ClassVar[Mapping[str, Any]] = {"std": "clamped", "log_std_min": -20.0, "tanh_correction": "exact"}
    """The policy of the algorithm's authors."""

    @classmethod
    def preset(cls, from_state: bool, given: Mapping[str, Any]) -> dict[str, Any]:
        """See HeadSettings."""
        preset = super().preset(from_state, given)
        return with_bound_of((preset | dict(given))["std"], preset)

    reward_scale: Annotated[float, Above(0)] = 1.0
    """Multiply rewards by this factor in the targets. The temperature is fixed at 1, so a larger factor gives the
    entropy less weight."""
