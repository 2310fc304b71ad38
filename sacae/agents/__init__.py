"""Agents: an algorithm (head) on a shared encoder, with a decoder.

Importing this room does not import PyTorch: the command line lists the heads' names before anything heavy is loaded.
"""

from typing import TYPE_CHECKING, Any

from sacae.config import Config
from sacae.heads import HEADS, HeadEntry
from sacae.registry import Registry

if TYPE_CHECKING:
    import torch

    from sacae.agents.agent import Agent
    from sacae.agents.capture import make_update
    from sacae.agents.head import Head
    from sacae.types import EnvSpec

_IMPORTED_LATER: Registry[Any] = Registry(
    {
        "Agent": "sacae.agents.agent:Agent",
        "Head": "sacae.agents.head:Head",
        "make_update": "sacae.agents.capture:make_update",
    }
)


def __getattr__(name: str) -> Any:
    if name in _IMPORTED_LATER:
        return _IMPORTED_LATER[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def make_agent(spec: "EnvSpec", config: Config, device: "torch.device | str" = "cpu") -> "Agent":
    """The agent that the settings describe."""
    from sacae.agents.agent import Agent

    return Agent(HEADS[config.agent.agent].head, spec, config, device)


__all__ = ["HEADS", "Agent", "Head", "HeadEntry", "make_agent", "make_update"]
