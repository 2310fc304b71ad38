"""Settings that several heads share, in parts; the settings of a head combine some of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from sacae.declaration import Above, AtLeast, Must, OnlyWhere, Within
from sacae.groups import FROM_PIXELS

HAS_BOUNDS = OnlyWhere("std is rescaled or clamped: softplus has no bounds", std=("rescaled", "clamped"))
LEARNED = OnlyWhere(learn_temperature=True)


@dataclass(frozen=True)
class ActorSettings:
    """Settings of heads with an actor."""

    PRESET_FROM_STATE: ClassVar[Mapping[str, Any]] = {"actor_lr": 3e-4, "actor_update_freq": 1}

    actor_lr: Annotated[float, Above(0)] = 1e-3
    """Learning rate of the actor."""
    actor_beta1: Annotated[float, Within(0, 1, below=True)] = 0.9
    """Adam beta1 of the actor."""
    actor_update_freq: Annotated[int, AtLeast(1)] = 2
    """Update actor and temperature at every n-th update, or agent step if --gates is agent_steps."""
    actor_gradient: Annotated[
        Literal["after_convs", "after_latent", "through"],
        FROM_PIXELS,
        Must(
            "after_convs or through unless tying is all (--tying all): nothing else trains the actor's own layers",
            lambda settings: settings["actor_gradient"] != "after_latent" or settings["tying"] == "all",
            of_new_runs=True,
        ),
    ] = "after_convs"
    """Where the actor's gradient stops: after_convs: behind the convolutions, or with --tying all behind the shared
    latent, as after_latent. after_latent: behind the actor's latent. through: nowhere."""
    tying: Annotated[Literal["convs", "all", "none"], FROM_PIXELS] = "convs"
    """Part of the critic's encoder that the actor shares: convs, all or none. With none the actor has separate
    convolutions, which its gradient trains."""


@dataclass(frozen=True)
class GaussianSettings:
    """Settings of a squashed Gaussian policy."""

    PRESET_FROM_STATE: ClassVar[Mapping[str, Any]] = {
        "std": "clamped",  # starts near 1, as in stable-baselines3 and Spinning Up; rescaled starts at 0.02
        "log_std_min": -20.0,
    }

    std: Literal["rescaled", "softplus", "clamped"] = "rescaled"
    """Form of the policy's standard deviation. rescaled: tanh scales its logarithm into the bounds. softplus: no
    bounds, at least 1e-4. clamped: its logarithm is clamped to the bounds."""
    log_std_min: Annotated[
        float, HAS_BOUNDS, Must("below log_std_max", lambda settings: settings["log_std_min"] < settings["log_std_max"])
    ] = -10.0
    """Lower bound of the policy's log standard deviation."""
    log_std_max: Annotated[float, HAS_BOUNDS] = 2.0
    """Upper bound of the policy's log standard deviation."""
    tanh_correction: Literal["clipped", "exact"] = "clipped"
    """How the log-probability of an action a = tanh(u) accounts for tanh. clipped: log(max(1 - a^2, 0) +
    1e-6), as the SAC-AE authors' code does; it has no gradient where tanh saturates. exact: 2 (log 2 - u -
    softplus(-2u)). The default is clipped for sac from pixels with std rescaled and without --causal-entropy, exact
    everywhere else."""


def with_bound_of(std: str, preset: Mapping[str, Any]) -> dict[str, Any]:
    """The presets, without the lower bound of a clamped std for one that is rescaled: it would start in the middle."""
    return {name: value for name, value in preset.items() if name != "log_std_min" or std != "rescaled"}


@dataclass(frozen=True)
class TemperatureSettings:
    """Settings of heads with an entropy temperature."""

    PRESET_FROM_STATE: ClassVar[Mapping[str, Any]] = {"alpha_lr": 3e-4, "alpha_beta1": 0.9}

    init_temperature: Annotated[
        float,
        AtLeast(0),
        Must(
            "above 0 if learn_temperature is on",
            lambda settings: settings["init_temperature"] > 0 or not settings["learn_temperature"],
        ),
    ] = 0.1
    """Initial entropy temperature alpha; 0 together with --no-learn-temperature removes the entropy term."""
    learn_temperature: bool = True
    """Learn the temperature so that the entropy approaches a target, or keep it fixed. The target is minus the number
    of action dimensions for sac, and set by --target-entropy-factor for discrete_sac."""
    alpha_lr: Annotated[float, Above(0), LEARNED] = 1e-4
    """Learning rate of the temperature."""
    alpha_beta1: Annotated[float, Within(0, 1, below=True), LEARNED] = 0.5
    """Adam beta1 of the temperature."""


@dataclass(frozen=True)
class ExplorationSettings:
    """Settings of a deterministic policy with exploration noise."""

    PRESET_FROM_PIXELS: ClassVar[Mapping[str, Any]] = {"actor_lr": 1e-4, "initial_updates": 1}
    """A deterministic policy has no entropy term that prevents tanh from saturating. At a learning rate of 1e-3, many
    updates on random actions drive its actions to -1 and 1, where the gradient vanishes."""

    exploration_noise_start: Annotated[float, AtLeast(0)] = 1.0
    """Initial standard deviation of the noise on training actions, from which it decreases linearly."""
    exploration_noise: Annotated[float, AtLeast(0)] = 0.1
    """Standard deviation of the noise on training actions after the first --exploration-steps."""
    exploration_steps: Annotated[int, AtLeast(0)] = 50_000
    """Environment steps, from the start of the run, over which the noise decreases linearly from
    --exploration-noise-start to --exploration-noise."""
