"""Gradient dormancy and soft resets (Ji et al. 2024, "ACE", arXiv:2402.14528, section 4.3).

A neuron is dormant if its weights hardly receive a gradient. A soft reset moves parameters towards freshly
initialised ones, theta <- f theta + (1 - f) phi; f, the retained share, falls as dormancy grows.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from sacae.agents.agent import Agent
from sacae.agents.sac import SAC
from sacae.agents.settings.sac import SACSettings
from sacae.encoder import make_encoder
from sacae.networks import own_parameters, seeded

LEAST_RETAINED, MOST_RETAINED = 0.2, 0.9
"""Bounds of the retained share in the released code: a reset replaces a tenth at least and four fifths at most."""


class Dormancy(NamedTuple):
    """The dormant neurons of some linear layers: a mask, bool (out,), for each layer; their share of all neurons."""

    masks: list[torch.Tensor]
    share: float


def dormancy(gradients: Sequence[torch.Tensor], threshold: float) -> Dormancy:
    """The dormant neurons of linear layers, from the gradients of their weights, (out, in) each.

    A neuron is dormant if the norm of its weights' gradient is at most `threshold` times the layer's mean norm.
    """
    norms = [gradient.norm(dim=1) for gradient in gradients]
    masks = [norm <= threshold * norm.mean() for norm in norms]
    return Dormancy(masks, sum(int(mask.sum()) for mask in masks) / sum(map(len, masks)))


def retained_by_dormancy(share: float) -> float:
    """f = clip(1 - share, 0.2, 0.9)."""
    return min(max(1 - share, LEAST_RETAINED), MOST_RETAINED)


def retained_by_causes(weights: torch.Tensor) -> float:
    """f = clip(1.5 - exp(-8 d), 0.2, 0.9), d the difference of the largest and the smallest weight of an action.

    Equal weights retain half; the more they differ, the more is retained. This is the released code's formula, and the
    opposite of what its description says.
    """
    spread = float(weights.max() - weights.min())
    return min(max(1.5 - math.exp(-8 * spread), LEAST_RETAINED), MOST_RETAINED)


@torch.no_grad()
def mix(parameters: Sequence[nn.Parameter], fresh: Sequence[torch.Tensor], retained: float) -> None:
    """theta <- f theta + (1 - f) phi, in place."""
    for parameter, replacement in zip(parameters, fresh, strict=True):
        parameter.lerp_(replacement.to(parameter), 1 - retained)


@torch.no_grad()
def mix_dormant(
    layers: Sequence[nn.Linear], fresh: Sequence[nn.Linear], masks: Sequence[torch.Tensor], retained: float
) -> None:
    """As `mix`, of the dormant neurons alone: their rows of the weight and their biases."""
    for layer, replacement, mask in zip(layers, fresh, masks, strict=True):
        for parameter, other in ((layer.weight, replacement.weight), (layer.bias, replacement.bias)):
            parameter[mask] = parameter[mask].lerp(other.to(parameter)[mask], 1 - retained)


def forget_moments(optimizers: Sequence[torch.optim.Optimizer], parameters: Sequence[nn.Parameter]) -> None:
    """Clears the moments that optimisers hold of parameters, because they belong to the values from before a reset."""
    for optimizer in optimizers:
        for parameter in parameters:
            optimizer.state.pop(parameter, None)


def soft_reset(agent: Agent, kind: str, asleep: Dormancy, seed: int) -> float:
    """Moves the agent's policy and critic towards fresh ones of that seed, as the `soft_reset` setting says.

    The critic's encoder stays as it is, and with it what the actor shares with it: its convolutions, unless tying is
    none. Critic and target move by the same parameters, so that they do not separate. Returns the retained share.
    """
    head = agent.head
    assert isinstance(head, SAC)  # the settings allow no resets of another head
    actor, critic, critic_target = head.actor, head.critic, head.critic_target
    if "causal" in kind:
        assert actor.entropy_weights is not None  # nor without causal entropy
        retained = retained_by_causes(actor.entropy_weights)
    else:
        retained = retained_by_dormancy(asleep.share)
    settings = agent.config.agent
    assert isinstance(settings, SACSettings)
    with seeded(seed):
        fresh = type(head)(lambda: make_encoder(agent.encoded_spec, agent.config.encoder), agent.spec, settings)
    if "dormant" in kind:
        layers = own_linear_layers(actor, critic)
        mix_dormant(layers, own_linear_layers(fresh.actor, fresh.critic), asleep.masks, retained)
        changed = [parameter for layer in layers for parameter in layer.parameters()]
    else:
        changed = [*own_parameters(actor, critic), *critic.q.parameters()]
        replacements = [*own_parameters(fresh.actor, fresh.critic), *fresh.critic.q.parameters()]
        mix(changed, replacements, retained)
        mix([*critic_target.q.parameters()], [*fresh.critic.q.parameters()], retained)
    forget_moments([*agent.optimizers.values()], changed)
    return retained


def own_linear_layers(actor: nn.Module, critic: nn.Module) -> list[nn.Linear]:
    """The linear layers that the actor does not share with the critic, first to last."""
    own = set(own_parameters(actor, critic))
    return [layer for layer in actor.modules() if isinstance(layer, nn.Linear) and layer.weight in own]
