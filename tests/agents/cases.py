"""Small agents of every head, preset and objective, for what must hold of all of them."""

import dataclasses

import torch

from sacae import config as configs
from sacae.agents import HEADS, Agent, make_agent
from sacae.types import EnvSpec

SMALL = {"batch_size": 4, "hidden_dim": 8}
SMALL_IMAGES = {"image_size": 48, "num_layers": 2, "num_filters": 4, "feature_dim": 5}

CASES = [{"agent": name} for name in HEADS]
CASES += [{"agent": name, "obs": "state"} for name in HEADS]
CASES += [{"preset": preset} for preset in ("drq", "drqv2", "rad", "curl")]
CASES += [{"decoder": decoder} for decoder in ("vae", "none", "state")]
CASES += [{"augment": augment} for augment in ("shift", "crop", "color")]
CASES += [{"obs": "pixels+state"}, {"obs": "pixels+state", "preset": "curl", "critic_views": 2}]
CASES += [{"dynamics": True}, {"dynamics": True, "dynamics_contrastive": 0.1, "precision": "bf16"}]
CASES += [{"precision": "bf16"}, {"actor_gradient": "through"}, {"critic_gradient": False}]
CASES += [{"max_grad_norm": 1.0}, {"tanh_correction": "exact"}, {"freeze_encoder": True}]
CASES += [{"agent": "dqn", "encoder": "nature", "decoder": "none"}, {"agent": "dqn", "dueling": True}]
"""Settings beside the defaults and the small sizes."""


def make(settings: dict, device: torch.device | str = "cpu", **more: object) -> Agent:
    """The agent of one of CASES."""
    from_state = settings.get("obs") == "state"
    images = {} if from_state or settings.get("encoder") == "nature" else SMALL_IMAGES
    config = configs.make(**{"precision": "fp32"} | SMALL | images | settings | more)
    size = config.task.image_size
    spec = EnvSpec((5,), "float32", 1, 2) if from_state else EnvSpec((3, size, size), "uint8", 3, 2)
    if HEADS[config.agent.agent].settings.DISCRETE_ACTIONS:
        spec = dataclasses.replace(spec, num_actions=3)
    if config.keeps_state:
        spec = dataclasses.replace(spec, state_dim=7, sees_state=config.task.sees_state)
    return make_agent(spec, config, device)
