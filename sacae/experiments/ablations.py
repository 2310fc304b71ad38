"""The named ablations: the question of each, and its arms. A new one is an entry in ABLATIONS."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sacae.errors import UserError, did_you_mean
from sacae.heads import HEADS
from sacae.presets import PRESETS

Values = dict[str, Any]
"""Settings by name, as `sacae.config.make` takes them."""


@dataclass(frozen=True)
class Ablation:
    """A question, and the arms that answer it: settings by arm name."""

    question: str
    arms: Mapping[str, Values]


def _each(setting: str, *values: object, **fixed: object) -> dict[str, Values]:
    """One arm for each value of a setting, named after that value; all have the same further settings."""
    return {f"{setting}={value}": fixed | {setting: value} for value in values}


_VAE = {f"vae-beta={beta}": {"decoder": "vae", "vae_beta": beta} for beta in (1e-8, 1e-7, 1e-6, 1e-5)}

FAMILY = ("drq", "drqv2", "rad", "curl")
"""The presets of SAC-AE's descendants."""

ABLATIONS: dict[str, Ablation] = {
    "decoder": Ablation(
        "Does reconstruction help?",
        {"rae": {"decoder": "rae"}, "none": {"decoder": "none"}},
    ),
    "autoencoder": Ablation(
        "A deterministic autoencoder, a variational one with several weights of the KL term, a decoder of the state, "
        "or none?",
        {"rae": {"decoder": "rae"}, **_VAE, "state": {"decoder": "state"}, "none": {"decoder": "none"}},
    ),
    "dynamics": Ablation(
        "Does it help to predict the next latent as well, and to find it among others?",
        {
            "rae": {"decoder": "rae"},
            "rae-dynamics": {"decoder": "rae", "dynamics": True},
            "rae-dynamics-infonce": {"decoder": "rae", "dynamics": True, "dynamics_contrastive": 0.1},
        },
    ),
    "depth": Ablation("How many convolutions?", _each("num_layers", 2, 4, 6)),
    "encoder-tau": Ablation("How fast should the target encoder follow?", _each("encoder_tau", 0.005, 0.01, 0.05, 1.0)),
    "heads": Ablation(
        "Which algorithm on the same encoder?",
        {name: {"agent": name} for name in HEADS},
    ),
    "family": Ablation(
        "SAC-AE or one of its descendants?",
        {
            "sac_ae": {"agent": "sac", "preset": "sac_ae"},
            "none": {"agent": "sac", "decoder": "none"},
            **{preset: {"agent": PRESETS[preset]["agent"], "preset": preset} for preset in FAMILY},
        },
    ),
    "observation": Ablation(
        "What do pixels cost compared with the state, with and without a decoder?",
        {
            "pixels-rae": {"obs": "pixels", "decoder": "rae"},
            "pixels-none": {"obs": "pixels", "decoder": "none"},
            "state": {"obs": "state"},
        },
    ),
    "gradient": Ablation(
        "Whose gradients should train the encoder, in addition to the decoder's?",
        {
            "critic": {},
            "decoder-only": {"critic_gradient": False},
            # Nothing would train a separate projection of the actor, so it would stay random.
            "actor-latent": {"actor_gradient": "after_latent", "tying": "all"},
            "actor-through": {"actor_gradient": "through"},
        },
    ),
    "tying": Ablation("What should actor and critic share?", _each("tying", "convs", "all", "none")),
    "pretraining": Ablation(
        "Is it enough to pretrain the autoencoder on random frames?",
        {
            "joint": {},
            "pretrained": {"pretrain_updates": 10_000},
            # After pretraining no loss reaches the encoder: not the critic's, and the decoder's is never due again.
            "frozen": {
                "pretrain_updates": 10_000,
                "critic_gradient": False,
                "decoder_update_freq": 1_000_000_000,
                "gates": "updates",
            },
        },
    ),
    "augmentation": Ablation(
        "Does image augmentation help, with and without a decoder?",
        {
            **_each("augment", "none", "shift", "crop", "color"),
            "augment=shift-no-decoder": {"augment": "shift", "decoder": "none"},
        },
    ),
    "decoder-update": Ablation(
        "How often must the autoencoder be updated?", _each("decoder_update_freq", 1, 2, 10, 100)
    ),
    "latent-penalty": Ablation(
        "Does the penalty on the latent matter, before its tanh or after?",
        {
            **_each("latent_penalty", 0.0, 1e-6, 1e-4, 1e-2),
            "before-tanh-1e-06": {"penalise_before_tanh": True, "latent_penalty": 1e-6},
            "before-tanh-0.0001": {"penalise_before_tanh": True, "latent_penalty": 1e-4},
        },
    ),
    "weight-decay": Ablation("Does the decoder's weight decay matter?", _each("decoder_weight_decay", 0.0, 1e-7, 1e-5)),
    "bits": Ablation(
        "Does a coarse, dithered target help?",
        {**_each("target_bits", 3, 5, 8), "target_bits=5-plain": {"target_bits": 5, "target_dither": False}},
    ),
    "feature-dim": Ablation("How long should the latent be?", _each("feature_dim", 10, 50, 100)),
    "latent": Ablation(
        "Do LayerNorm and tanh on the latent matter?",
        {
            "norm-tanh": {},
            "norm": {"latent_tanh": False},
            "tanh": {"latent_norm": False},
            "plain": {"latent_norm": False, "latent_tanh": False},
        },
    ),
    "init": Ablation(
        "Does the initialisation of the convolutions matter?", _each("conv_init", "delta_orthogonal", "default")
    ),
    "action-repeat": Ablation("How long should an action be held?", _each("action_repeat", 1, 2, 4, 8)),
    "temperature": Ablation(
        "Learn the temperature or fix it, and where should it start?",
        {
            **_each("init_temperature", 0.01, 0.1, 1.0),
            "fixed-0.1": {"learn_temperature": False, "init_temperature": 0.1},
        },
    ),
    "replay-ratio": Ablation("How many updates for each agent step?", _each("updates_per_step", 1, 2, 4)),
    "n-step": Ablation("How many rewards before the target bootstraps?", _each("n_step", 1, 3, 5)),
}
"""Every ablation by the name that `sacae ablate` takes."""


def find(name: str) -> Ablation:
    """The ablation of that name. Raises UserError, which lists all names, if there is none."""
    if name not in ABLATIONS:
        raise UserError(f"there is no ablation {name!r}, only {', '.join(ABLATIONS)}{did_you_mean(name, ABLATIONS)}")
    return ABLATIONS[name]


def choose(arms: Mapping[str, Values], names: Iterable[str] | None, what: str) -> dict[str, Values]:
    """The arms of those names, or all if names is None.

    what: whose arms they are, for the message.

    Raises UserError for an unknown name, and if no arm is chosen.
    """
    chosen = list(arms) if names is None else list(dict.fromkeys(names))
    for name in chosen:
        if name not in arms:
            raise UserError(f"{what} has no arm {name!r}, only {', '.join(arms)}{did_you_mean(name, arms)}")
    if not chosen:
        raise UserError(f"arms is empty, but there must be one or more of {', '.join(arms)}; change --arms")
    return {name: arms[name] for name in chosen}
