"""A step on a loss: gradients, their bound by part, and the watch for numbers that are not finite."""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from sacae.agents.head import Head
from sacae.agents.optimisers import FusedAdam
from sacae.errors import UserError
from sacae.networks import EnsembleMLP

NormGroup = list[tuple[nn.Parameter, int | None]]
"""Parameters whose gradients have one norm; with an index, that entry along the first axis alone."""


class Descent:
    """Steps some optimisers on the gradient of one loss. Only their parameters receive a gradient.

    optimizers: their parameters may overlap; each of them steps on the same gradient.
    first_bad_update: int64, an entry for each optimiser, which takes the number of the first update whose loss or
        gradient is not finite. num_updates: int64 (), the number of the current update.
    """

    def __init__(
        self, optimizers: Iterable[FusedAdam], first_bad_update: torch.Tensor, num_updates: torch.Tensor
    ) -> None:
        self._optimizers = [*optimizers]
        of_all = (p for optimizer in self._optimizers for p in optimizer.param_groups[0]["params"])
        self.parameters: list[nn.Parameter] = [*dict.fromkeys(of_all)]
        self._strides = [parameter.stride() for parameter in self.parameters]
        self._first_bad_update, self._num_updates = first_bad_update, num_updates
        self._norm_groups: Sequence[NormGroup] = ()
        self._max_grad_norm = 0.0

    def bound(self, groups: Sequence[NormGroup], max_grad_norm: float) -> None:
        """From now on, scales the gradients of each group down to that norm where theirs is larger."""
        self._norm_groups, self._max_grad_norm = groups, max_grad_norm

    @torch.no_grad()
    def __call__(self, loss: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """One step. Returns the gradient of each of `parameters`."""
        gradients = torch.autograd.grad(loss, self.parameters)
        norm = total_norm(gradients)
        for parameter, gradient, stride in zip(self.parameters, gradients, self._strides):
            # Fused Adam walks through both as they lie in memory, whatever their strides say.
            same_layout = gradient.stride() == stride
            parameter.grad = gradient if same_layout else torch.empty_like(parameter).copy_(gradient)
        for group in self._norm_groups:
            clip(group, self._max_grad_norm)
        # Written so that it takes few operators; isfinite is four.
        finite, seen = torch.maximum(loss.abs(), norm) < math.inf, self._first_bad_update
        torch.where(finite | (seen > 0), seen, self._num_updates, out=seen)
        for optimizer in self._optimizers:
            optimizer.step()
        for parameter in self.parameters:
            parameter.grad = None
        return gradients


def make_descents(
    groups: Sequence[Mapping[str, FusedAdam]], first_bad_update: torch.Tensor, num_updates: torch.Tensor
) -> list[Descent]:
    """A descent for each group of optimisers that step together. first_bad_update: an entry for each optimiser."""
    watched = torch.split(first_bad_update, [len(group) for group in groups])
    return [Descent(group.values(), bad, num_updates) for group, bad in zip(groups, watched)]


def total_norm(tensors: list[torch.Tensor] | tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The norm () of all tensors as one vector; as torch.nn.utils.get_total_norm, for float32 on one device."""
    norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))
    return norm


def clip(group: NormGroup, max_grad_norm: float) -> None:
    """Scales a group's gradients down to that norm, in place, if theirs is larger."""
    gradients = []
    for parameter, index in group:
        assert parameter.grad is not None
        gradients.append(parameter.grad if index is None else parameter.grad[index])
    torch._foreach_mul_(gradients, (max_grad_norm / (total_norm(gradients) + 1e-6)).clamp(max=1.0))


def norm_groups(head: Head, stepped: Iterable[nn.Parameter]) -> list[NormGroup]:
    """What has a norm of its own: the critic's encoder, each Q or value function, the actor, the temperature."""
    left = dict.fromkeys(stepped)

    def take(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
        taken = [p for p in parameters if p in left]
        for parameter in taken:
            del left[parameter]
        return taken

    groups: list[NormGroup] = [[(p, None) for p in take(head.critic.encoder.parameters())]]
    for ensemble in (module for module in head.modules() if isinstance(module, EnsembleMLP)):
        members = take(ensemble.parameters())
        groups += [[(p, i) for p in members] for i in range(len(members[0]) if members else 0)]
    for part in head.children():
        groups.append([(p, None) for p in take(part.parameters())])
    groups.append([(p, None) for p in left])
    return [group for group in groups if group]


def raise_if_not_finite(first_bad_update: Mapping[str, int]) -> None:
    """Raises UserError if an optimiser's loss or gradient was not finite, naming it and the update."""
    for name, update in first_bad_update.items():
        if update:
            raise UserError(
                f"the {name} loss or its gradient was not finite at update {update}: training stopped; "
                "the last checkpoint is from before; try a smaller learning rate"
            )
