"""Agents: an algorithm (head) on a shared encoder, with a decoder.

Importing this room does not import PyTorch: the command line lists the heads' names before anything heavy is loaded.
"""

from typing import TYPE_CHECKING, Any

from sacae.config import Config, did_you_mean
from sacae.errors import UserError
from sacae.registry import Registry

if TYPE_CHECKING:
    import torch

    from sacae.agents.agent import Agent
    from sacae.agents.capture import make_update
    from sacae.agents.head import Head
    from sacae.types import EnvSpec

HEADS: Registry[type["Head"]] = Registry(
    {
        "sac": "sacae.agents.sac:SAC",
        "sac_v": "sacae.agents.sac_v:SACV",
        "td3": "sacae.agents.td3:TD3",
        "ddpg": "sacae.agents.ddpg:DDPG",
        "discrete_sac": "sacae.agents.discrete_sac:DiscreteSAC",
        "dqn": "sacae.agents.dqn:DQN",
    }
)
"""Every algorithm by the name that `--agent` takes. A new head is a file and a line here."""

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


def check_agent(name: str) -> None:
    """Raises UserError for a name that is not in HEADS."""
    if name not in HEADS:
        raise UserError(f"agent is {name}, but it must be one of {', '.join(HEADS)}{did_you_mean(name, HEADS)}")


def make_agent(spec: "EnvSpec", config: Config, device: "torch.device | str" = "cpu") -> "Agent":
    """The agent that the settings describe. Raises UserError for an unknown `agent`."""
    from sacae.agents.agent import Agent

    check_agent(config.agent.agent)
    return Agent(HEADS[config.agent.agent], spec, config, device)


__all__ = ["HEADS", "Agent", "Head", "check_agent", "make_agent", "make_update"]
