"""What an agent has learned, as a dictionary, and the ways to take it over."""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sacae.errors import UserError

if TYPE_CHECKING:
    from sacae.agents.agent import Agent

Networks = dict[str, torch.Tensor]
"""Parameters and buffers by name, as in nn.Module.state_dict."""


def learning_state(agent: "Agent") -> dict[str, Any]:
    """Everything that `load_learning_state` needs to go on exactly: networks, counters, optimisers, its name."""
    return {
        "agent": agent.config.variant,
        "networks": agent.state_dict(),
        "optimizers": {name: optimizer.state_dict() for name, optimizer in agent.optimizers.items()},
    }


def load_learning_state(agent: "Agent", state: dict[str, Any]) -> None:
    """Takes over what `learning_state` returned. Raises UserError for the state of another algorithm."""
    load_networks(agent, state)
    for name, optimizer in agent.optimizers.items():
        optimizer.load_state_dict(state["optimizers"][name])


def load_networks(agent: "Agent", state: dict[str, Any]) -> None:
    """As `load_learning_state`, without what only further learning needs: "agent" and "networks" are enough.

    Also takes what `acting_state` returned; networks that only learning needs then stay as they are.
    """
    if state["agent"] != agent.config.variant:
        raise UserError(
            f"the checkpoint is of {state['agent']}, but the settings say {agent.config.variant}; "
            "leave --agent and --decoder out, or start in another --work-dir"
        )
    if "acting" in state:
        _copy(state["acting"], _acting_networks(agent))
        return
    agent.load_state_dict(_renamed(state["networks"], agent.state_dict()))
    agent.updates_done = int(agent.num_updates)


def acting_state(agent: "Agent") -> dict[str, Any]:
    """What `load_networks` needs so that an agent acts, encodes and reconstructs as this one; it cannot learn on.

    "acting": copies on the CPU of the policy, its encoder, the critic's and the decoder. What they share is there once,
    under its first name.
    """
    networks = {name: value.detach().cpu().clone() for name, value in _acting_networks(agent).items()}
    return {"agent": agent.config.variant, "acting": networks}


def _acting_networks(agent: "Agent") -> Networks:
    """Parameters and buffers of the networks that do something when the agent acts, encodes or reconstructs."""
    policy: Any = agent.head.critic if agent.head.actor is None else agent.head.actor
    others = agent.reconstruction.networks().values() if agent.reconstruction else ()
    parts: list[nn.Module] = [policy, agent.encoder, *others]
    acting = {id(value) for part in parts for value in (*part.parameters(), *part.buffers())}
    found: Networks = {}
    for name, value in agent.state_dict(keep_vars=True).items():
        if id(value) in acting:
            acting.remove(id(value))
            found[name] = value
    return found


def _copy(source: Networks, into: Networks) -> None:
    """Copies values. Raises RuntimeError where names or shapes differ."""
    if source.keys() != into.keys():
        raise RuntimeError(f"networks differ: {', '.join(sorted(source.keys() ^ into.keys()))}")
    for name, value in source.items():
        if value.shape != into[name].shape:
            raise RuntimeError(f"{name} has shape {tuple(value.shape)} instead of {tuple(into[name].shape)}")
        with torch.no_grad():
            into[name].copy_(value)


def load_encoder(agent: "Agent", state: dict[str, Any]) -> None:
    """Starts encoder and target encoder from another agent's learning state, and the decoder if it has the same one.

    Raises UserError if the encoders' sizes differ, or the other agent has no encoder.
    """
    networks = state["networks"]
    of_encoder = _part(networks, "head.critic.encoder.")
    if not of_encoder:
        raise UserError("encoder_from is of an agent that observes the state, without an encoder; name one from pixels")
    targets = [target.encoder for online, target in agent.head.targets() if online.encoder is agent.encoder]
    try:
        for encoder in (agent.encoder, *targets):
            encoder.load_state_dict(of_encoder)
        of_decoder = _part(networks, "autoencoder.decoder.")
        if agent.decoder is not None and _fits(agent.decoder, of_decoder):
            agent.decoder.load_state_dict(of_decoder)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"encoder_from is of an encoder of another size or kind ({reason})") from None


def _renamed(networks: Networks, own: Networks) -> Networks:
    """The networks as this version names them: 0.1.0 kept the logarithm of a fixed temperature too."""
    if "head.log_alpha" not in networks or "head.log_alpha" in own:
        return networks
    others = {name: value for name, value in networks.items() if name != "head.log_alpha"}
    return others | {"head.fixed_alpha": networks["head.log_alpha"].exp()}


def _part(networks: Networks, prefix: str) -> Networks:
    """The networks whose names begin so, under the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in networks.items() if name.startswith(prefix)}


def _fits(module: nn.Module, part: Networks) -> bool:
    """Whether the part is of a module of the same kind and size."""
    own = module.state_dict()
    return own.keys() == part.keys() and all(own[name].shape == part[name].shape for name in own)
