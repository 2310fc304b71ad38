"""Named sets of settings, for `--preset`, and what they change for some tasks."""

from collections.abc import Mapping
from typing import Any

from sacae.groups import NamedTask

_RAD = {
    "agent": "sac",
    "decoder": "none",
    "augment": "window",
    "latent_tanh": False,
    "replay_capacity": 100_000,
    "initial_updates": 0,
}
"""CURL's settings but for its loss: RAD was made of its code."""

PRESETS: dict[str, dict[str, Any]] = {
    "sac_ae": {},
    "laptop": {
        "image_size": 48,
        "num_filters": 16,
        "hidden_dim": 256,
        "batch_size": 64,
        "render_quality": "fast",
        "precision": "fp32",  # the same on every machine
        "num_train_steps": 100_000,
    },
    "drq": {
        "agent": "sac",
        "decoder": "none",
        "conv_init": "orthogonal",
        "augment": "shift",
        "critic_views": 2,
        "target_views": 2,
        "tanh_correction": "exact",
        "encoder_tau": 0.01,
        "alpha_lr": 1e-3,
        "alpha_beta1": 0.9,
        "batch_size": 512,
        "replay_capacity": 100_000,
        "initial_updates": 0,
    },
    "drqv2": {
        "agent": "drqv2",
        "action_repeat": 2,
        "decoder": "none",
        "conv_init": "orthogonal",
        "centre_pixels": True,
        "augment": "shift",
        "n_step": 3,
        "batch_size": 256,
        "replay_capacity": 1_000_000,
        "seed_steps": 2000,
        "initial_updates": 0,
        "updates_per_step": 0.5,
    },
    "rad": _RAD,
    "curl": _RAD | {"contrastive": True},
}
"""Settings of each `--preset`; flags override them. results/laptop explains the choice of laptop's values. A preset
that names an agent is an algorithm, whose runs have its name; docs/<preset>.md compares it with its authors' code."""

EASY = frozenset(
    {
        "ball_in_cup_catch", "cartpole_balance", "cartpole_balance_sparse", "cartpole_swingup", "finger_spin",
        "hopper_stand", "pendulum_swingup", "walker_stand", "walker_walk",
    }
)  # fmt: skip
"""The tasks that DrQ-v2's authors call easy; those of the humanoid are hard, all others medium."""

SCHEDULES = {"easy": 100_000, "medium": 500_000, "hard": 2_000_000}
"""Agent steps over which DrQ-v2's noise falls, by difficulty."""


def named(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the preset that these settings name, for their task. Empty for an unknown preset."""
    name = str(settings.get("preset", "sac_ae"))  # Of a damaged file it may be anything.
    values = PRESETS.get(name, {})
    return values | (_drqv2_by_task(settings, values) if name == "drqv2" else {})


def _drqv2_by_task(settings: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The schedule of DrQ-v2's noise, and its authors' exceptions."""
    domain, task = settings.get("domain", NamedTask.domain), settings.get("task", NamedTask.task)
    name = "" if settings.get("env") else f"{domain}_{task}"
    difficulty = "easy" if name in EASY else "hard" if name.startswith("humanoid_") else "medium"
    action_repeat = settings.get("action_repeat", values["action_repeat"])
    by_task: dict[str, Any] = {"exploration_steps": SCHEDULES[difficulty] * action_repeat}
    if name in ("walker_stand", "walker_walk", "walker_run"):
        by_task |= {"n_step": 1, "batch_size": 512}
    elif difficulty == "hard":
        by_task |= {"critic_lr": 8e-5, "actor_lr": 8e-5, "feature_dim": 100}
    elif name == "quadruped_run":
        by_task["replay_capacity"] = 100_000
    return by_task
