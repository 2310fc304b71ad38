"""Settings of the policy gradients: vpg, npg, trpo, ppo."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from baselines.settings import AlgorithmSettings
from sacae.declaration import Above, AtLeast, Must, Within

# The parts that the algorithms' settings consist of.


@dataclass(frozen=True)
class RolloutSettings:
    """Collected steps, advantages and value function, as all four have them; defaults are those of Spinning Up."""

    steps_per_update: Annotated[
        int,
        Must("at least twice num_envs", lambda settings: settings["steps_per_update"] >= 2 * settings["num_envs"]),
        Must(
            "at most the run's agent steps, num_train_steps / action_repeat, or it ends before it has learned anything",
            lambda settings: (
                (settings["steps_per_update"] - 1) * settings["action_repeat"] < settings["num_train_steps"]
            ),
            of_new_runs=True,
        ),
    ] = 4000
    """Agent steps, summed over all environments, from one update to the next."""
    discount: Annotated[float, Within(0, 1)] = 0.99
    """Discount factor gamma per agent step, 0 to 1."""
    gae_lambda: Annotated[float, Within(0, 1)] = 0.97
    """Lambda of generalised advantage estimation, from 0 (one reward, then the value function) to 1 (rewards alone)."""
    hidden_dim: Annotated[int, AtLeast(1)] = 64
    """Width of the two hidden layers of the policy and of the value function."""
    value_target: Literal["returns", "gae"] = "returns"
    """Target of the value function. returns: discounted sums of rewards. gae: the value plus the estimated
    advantage."""
    value_lr: Annotated[float, Above(0)] = 1e-3
    """Learning rate of the value function."""
    value_updates: Annotated[int, AtLeast(1)] = 80
    """Passes over the collected steps that fit the value function in each update."""
    minibatch_size: Annotated[int | None, AtLeast(2)] = None
    """Collected steps in each minibatch of the value function's fit, and of PPO's steps; None: all at once."""


@dataclass(frozen=True)
class GradientSettings:
    """Steps of the policy along its gradient."""

    policy_lr: Annotated[float, Above(0)] = 3e-4
    """Learning rate of the policy."""


@dataclass(frozen=True)
class NaturalGradientSettings:
    """Steps of the policy along its natural gradient."""

    max_kl: Annotated[float, Above(0)] = 0.01
    """KL divergence delta that each step of the policy aims at, by the quadratic approximation."""
    damping: Annotated[float, AtLeast(0)] = 0.1
    """Number added to the diagonal of the Fisher matrix."""
    cg_iterations: Annotated[int, AtLeast(1)] = 10
    """Maximum iterations of the conjugate gradient method in each step of the policy."""


# The algorithms.


@dataclass(frozen=True)
class VPGSettings(GradientSettings, RolloutSettings, AlgorithmSettings):
    """Vanilla policy gradient: one step of the policy in each update."""

    NAME: ClassVar[str] = "vpg"


@dataclass(frozen=True)
class NPGSettings(NaturalGradientSettings, RolloutSettings, AlgorithmSettings):
    """Natural policy gradient: one step of the policy in each update."""

    NAME: ClassVar[str] = "npg"


@dataclass(frozen=True)
class TRPOSettings(NaturalGradientSettings, RolloutSettings, AlgorithmSettings):
    """Trust region policy optimisation: steps along the natural gradient that stay in a trust region."""

    NAME: ClassVar[str] = "trpo"

    backtrack_coefficient: Annotated[float, Within(0, 1, above=True, below=True)] = 0.8
    """Factor by which the line search shortens a rejected step of the policy."""
    backtracks: Annotated[int, AtLeast(1)] = 10
    """Maximum number of step lengths that the line search tries."""


@dataclass(frozen=True)
class PPOSettings(GradientSettings, RolloutSettings, AlgorithmSettings):
    """Proximal policy optimisation: several passes with a clipped objective in each update."""

    NAME: ClassVar[str] = "ppo"

    clip_ratio: Annotated[float, Within(0, 1, above=True, below=True)] = 0.2
    """Clip range epsilon: a probability ratio outside [1 - epsilon, 1 + epsilon] does not increase the objective
    further."""
    policy_updates: Annotated[int, AtLeast(1)] = 80
    """Maximum number of passes over the collected steps that improve the policy in each update."""
    target_kl: Annotated[float, Above(0)] = 0.01
    """End an update's passes for the policy once its KL divergence from the old policy exceeds 1.5 times this."""


OnPolicySettings = VPGSettings | NPGSettings | TRPOSettings | PPOSettings
"""The settings of any of them."""
