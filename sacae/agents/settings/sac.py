"""Settings of SAC."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sacae.agents.settings.parts import ActorSettings, GaussianSettings, TemperatureSettings, with_bound_of
from sacae.groups import HeadSettings


@dataclass(frozen=True)
class SACSettings(TemperatureSettings, GaussianSettings, ActorSettings, HeadSettings):
    """Soft actor-critic."""

    causal_entropy: Literal["off", "absolute", "signed"] = "off"
    """Weight each action dimension's entropy by its causal effect on the reward (ACE, Ji et al. 2024), which is fitted
    during training. absolute: by the size of the effect. signed: by the effect itself, as in the authors' code."""

    @classmethod
    def preset(cls, from_state: bool, given: Mapping[str, Any]) -> dict[str, Any]:
        """See HeadSettings. The authors' tanh correction is the default only for the authors' policy."""
        preset = super().preset(from_state, given)
        settings = preset | dict(given)
        if (
            from_state
            or settings.get("std", "rescaled") != "rescaled"
            or settings.get("causal_entropy", "off") != "off"
        ):
            preset["tanh_correction"] = "exact"
        return with_bound_of(settings.get("std", "rescaled"), preset)
