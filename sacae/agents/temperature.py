"""The entropy temperature alpha of soft actor-critic, learned or fixed."""

import math
from typing import Protocol

import torch
from torch import nn

from sacae.agents.settings.parts import TemperatureSettings


class WithTemperature(Protocol):
    """A head that `add_temperature` gave a temperature: one of the two is None."""

    log_alpha: nn.Parameter | None
    fixed_alpha: torch.Tensor | None

    def register_buffer(self, name: str, tensor: torch.Tensor | None) -> None:
        """As nn.Module.register_buffer."""


def add_temperature(head: WithTemperature, config: TemperatureSettings) -> None:
    """Gives a head its temperature alpha: `log_alpha` where it is learned, `fixed_alpha`, which may be 0, otherwise."""
    learned, start = config.learn_temperature, config.init_temperature
    head.log_alpha = nn.Parameter(torch.tensor(math.log(start))) if learned else None
    head.register_buffer("fixed_alpha", None if learned else torch.tensor(start))


def temperature(head: WithTemperature) -> torch.Tensor:
    """alpha (), learned or fixed."""
    if head.log_alpha is not None:
        return head.log_alpha.exp()
    assert head.fixed_alpha is not None
    return head.fixed_alpha
