"""Target networks: moving averages of the networks that learn."""

from collections.abc import Iterable

import torch

from sacae.agents.head import OnEncoder


class MovingAverages:
    """Moves targets towards their online networks: target <- tau * online + (1 - tau) * target.

    Parameters of encoders move by encoder_tau, all others by other_tau. What two targets share moves once.
    """

    def __init__(self, pairs: Iterable[tuple[OnEncoder, OnEncoder]], encoder_tau: float, other_tau: float) -> None:
        encoders: dict[torch.Tensor, torch.Tensor] = {}
        others: dict[torch.Tensor, torch.Tensor] = {}
        for online, target in pairs:
            in_encoder: set[torch.Tensor] = {*target.encoder.parameters()}
            for source, moved in zip(online.parameters(), target.parameters(), strict=True):
                if source is moved:  # DrQ-v2 has no target of its convolutions
                    continue
                (encoders if moved in in_encoder else others)[moved] = source
        self._groups = [
            ([*group.keys()], [*group.values()], tau)
            for group, tau in ((encoders, encoder_tau), (others, other_tau))
            if group
        ]

    @torch.no_grad()
    def move(self) -> None:
        """One step."""
        for targets, sources, tau in self._groups:
            torch._foreach_lerp_(targets, sources, tau)
