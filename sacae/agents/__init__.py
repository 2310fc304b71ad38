"""Agents: an algorithm (head) on a shared encoder, with a decoder."""

import torch

from sacae.agents.agent import Agent
from sacae.agents.capture import make_update
from sacae.agents.ddpg import DDPG
from sacae.agents.discrete_sac import DiscreteSAC
from sacae.agents.dqn import DQN
from sacae.agents.head import Head
from sacae.agents.sac import SAC
from sacae.agents.sac_v import SACV
from sacae.agents.td3 import TD3
from sacae.config import Config, did_you_mean
from sacae.errors import UserError
from sacae.types import EnvSpec

HEADS: dict[str, type[Head]] = {
    "sac": SAC,
    "sac_v": SACV,
    "td3": TD3,
    "ddpg": DDPG,
    "discrete_sac": DiscreteSAC,
    "dqn": DQN,
}
"""Every algorithm by the name that `--agent` takes. A new head is a file and a line here."""


def check_agent(name: str) -> None:
    """Raises UserError for a name that is not in HEADS."""
    if name not in HEADS:
        raise UserError(f"agent is {name}, but it must be one of {', '.join(HEADS)}{did_you_mean(name, HEADS)}")


def make_agent(spec: EnvSpec, config: Config, device: torch.device | str = "cpu") -> Agent:
    """The agent that the settings describe. Raises UserError for an unknown `agent`."""
    check_agent(config.agent.agent)
    return Agent(HEADS[config.agent.agent], spec, config, device)


__all__ = ["HEADS", "Agent", "Head", "check_agent", "make_agent", "make_update"]
