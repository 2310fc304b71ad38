"""Settings of the policy gradients: vpg, npg, trpo, ppo."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from baselines.settings import Baseline


@dataclass(frozen=True)
class OnPolicyConfig:
    """What the algorithms share; defaults are Spinning Up's."""

    steps_per_update: int = 4000
    """Agent steps, summed over all environments, from one update to the next."""
    discount: float = 0.99
    """Discount factor gamma per agent step, 0 to 1."""
    gae_lambda: float = 0.97
    """Lambda of generalised advantage estimation, from 0 (one reward, then the value function) to 1 (rewards alone)."""
    hidden_dim: int = 64
    """Width of the two hidden layers of the policy and of the value function."""
    value_target: Literal["returns", "gae"] = "returns"
    """What the value function is fitted to. returns: discounted sums of rewards. gae: the value plus the estimated
    advantage."""
    value_lr: float = 1e-3
    """Learning rate of the value function."""
    value_updates: int = 80
    """Passes over the collected steps that fit the value function in each update."""
    minibatch_size: int | None = None
    """Collected steps in each minibatch of an optimiser; None takes all at once."""


@dataclass(frozen=True)
class OnPolicySettings(Baseline):
    """Settings of a run of one of these algorithms."""

    algorithm: OnPolicyConfig = field(default_factory=OnPolicyConfig)

    def conditions(self) -> Sequence[tuple[str, bool, str]]:
        """See Settings."""
        config, num_envs = self.algorithm, self.train.num_envs
        return (
            ("steps_per_update", config.steps_per_update >= 2 * num_envs, f"2 or more for each of {num_envs} num_envs"),
            ("gae_lambda", 0 <= config.gae_lambda <= 1, "from 0 to 1"),
            ("value_lr", config.value_lr > 0, "above 0"),
            ("value_updates", config.value_updates >= 1, "at least 1"),
            ("minibatch_size", config.minibatch_size is None or config.minibatch_size >= 2, "2 or more"),
        )


@dataclass(frozen=True)
class VPGConfig(OnPolicyConfig):
    """The algorithm."""

    policy_lr: float = 3e-4
    """Learning rate of the policy."""


@dataclass(frozen=True)
class VPGSettings(OnPolicySettings):
    """Learn a policy by its gradient, one step for each update."""

    ALGO: ClassVar[str] = "vpg"
    algorithm: VPGConfig = field(default_factory=VPGConfig)

    def conditions(self) -> Sequence[tuple[str, bool, str]]:
        """See Settings."""
        return (*super().conditions(), ("policy_lr", self.algorithm.policy_lr > 0, "above 0"))


@dataclass(frozen=True)
class NPGConfig(OnPolicyConfig):
    """The algorithm."""

    max_kl: float = 0.01
    """KL divergence delta that each step of the policy aims at, by the quadratic approximation."""
    damping: float = 0.1
    """Number added to the diagonal of the Fisher matrix."""
    cg_iterations: int = 10
    """Maximum iterations of the conjugate gradient method in each step of the policy."""


@dataclass(frozen=True)
class NPGSettings(OnPolicySettings):
    """Learn a policy by its natural gradient, one step for each update."""

    ALGO: ClassVar[str] = "npg"
    algorithm: NPGConfig = field(default_factory=NPGConfig)

    def conditions(self) -> Sequence[tuple[str, bool, str]]:
        """See Settings."""
        config = self.algorithm
        return (
            *super().conditions(),
            ("max_kl", config.max_kl > 0, "above 0"),
            ("damping", config.damping >= 0, "0 or more"),
            ("cg_iterations", config.cg_iterations >= 1, "at least 1"),
        )


@dataclass(frozen=True)
class TRPOConfig(NPGConfig):
    """The algorithm."""

    backtrack_coefficient: float = 0.8
    """Factor by which the line search shortens a step of the policy that it refuses."""
    backtracks: int = 10
    """Maximum number of step lengths that the line search tries."""


@dataclass(frozen=True)
class TRPOSettings(NPGSettings):
    """Learn a policy by steps of its natural gradient that stay in a trust region."""

    ALGO: ClassVar[str] = "trpo"
    algorithm: TRPOConfig = field(default_factory=TRPOConfig)

    def conditions(self) -> Sequence[tuple[str, bool, str]]:
        """See Settings."""
        config = self.algorithm
        return (
            *super().conditions(),
            ("backtrack_coefficient", 0 < config.backtrack_coefficient < 1, "above 0 and below 1"),
            ("backtracks", config.backtracks >= 1, "at least 1"),
        )


@dataclass(frozen=True)
class PPOConfig(VPGConfig):
    """The algorithm."""

    clip_ratio: float = 0.2
    """Clip range epsilon: the objective gains nothing where the probability ratio is beyond 1 - epsilon or 1 +
    epsilon."""
    policy_updates: int = 80
    """Maximum number of passes over the collected steps that improve the policy in each update."""
    target_kl: float = 0.01
    """End an update's passes for the policy once its KL divergence from the old policy exceeds 1.5 times this."""


@dataclass(frozen=True)
class PPOSettings(VPGSettings):
    """Learn a policy by a clipped surrogate objective, several passes for each update."""

    ALGO: ClassVar[str] = "ppo"
    algorithm: PPOConfig = field(default_factory=PPOConfig)

    def conditions(self) -> Sequence[tuple[str, bool, str]]:
        """See Settings."""
        config = self.algorithm
        return (
            *super().conditions(),
            ("clip_ratio", 0 < config.clip_ratio < 1, "above 0 and below 1"),
            ("policy_updates", config.policy_updates >= 1, "at least 1"),
            ("target_kl", config.target_kl > 0, "above 0"),
        )
