"""Settings of the policy gradients: vpg, npg, trpo, ppo."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from baselines.settings import Baseline
from sacae.settings import Above, AtLeast, Condition, Within


@dataclass(frozen=True)
class OnPolicyConfig:
    """What the algorithms share; defaults are Spinning Up's."""

    steps_per_update: int = 4000
    """Agent steps, summed over all environments, from one update to the next."""
    discount: Annotated[float, Within(0, 1)] = 0.99
    """Discount factor gamma per agent step, 0 to 1."""
    gae_lambda: Annotated[float, Within(0, 1)] = 0.97
    """Lambda of generalised advantage estimation, from 0 (one reward, then the value function) to 1 (rewards alone)."""
    hidden_dim: Annotated[int, AtLeast(1)] = 64
    """Width of the two hidden layers of the policy and of the value function."""
    value_target: Literal["returns", "gae"] = "returns"
    """What the value function is fitted to. returns: discounted sums of rewards. gae: the value plus the estimated
    advantage."""
    value_lr: Annotated[float, Above(0)] = 1e-3
    """Learning rate of the value function."""
    value_updates: Annotated[int, AtLeast(1)] = 80
    """Passes over the collected steps that fit the value function in each update."""
    minibatch_size: Annotated[int | None, AtLeast(2)] = None
    """Collected steps in each minibatch of an optimiser; None takes all at once."""


@dataclass(frozen=True)
class OnPolicySettings(Baseline):
    """Settings of a run of one of these algorithms."""

    algorithm: OnPolicyConfig = field(default_factory=OnPolicyConfig)

    def conditions(self) -> Sequence[Condition]:
        """See Grouped."""
        steps, num_envs = self.algorithm.steps_per_update, self.train.num_envs
        return (("steps_per_update", steps >= 2 * num_envs, f"2 or more for each of {num_envs} num_envs"),)


@dataclass(frozen=True)
class VPGConfig(OnPolicyConfig):
    """The algorithm."""

    policy_lr: Annotated[float, Above(0)] = 3e-4
    """Learning rate of the policy."""


@dataclass(frozen=True)
class VPGSettings(OnPolicySettings):
    """Learn a policy by its gradient, one step for each update."""

    ALGO: ClassVar[str] = "vpg"
    algorithm: VPGConfig = field(default_factory=VPGConfig)


@dataclass(frozen=True)
class NPGConfig(OnPolicyConfig):
    """The algorithm."""

    max_kl: Annotated[float, Above(0)] = 0.01
    """KL divergence delta that each step of the policy aims at, by the quadratic approximation."""
    damping: Annotated[float, AtLeast(0)] = 0.1
    """Number added to the diagonal of the Fisher matrix."""
    cg_iterations: Annotated[int, AtLeast(1)] = 10
    """Maximum iterations of the conjugate gradient method in each step of the policy."""


@dataclass(frozen=True)
class NPGSettings(OnPolicySettings):
    """Learn a policy by its natural gradient, one step for each update."""

    ALGO: ClassVar[str] = "npg"
    algorithm: NPGConfig = field(default_factory=NPGConfig)


@dataclass(frozen=True)
class TRPOConfig(NPGConfig):
    """The algorithm."""

    backtrack_coefficient: Annotated[float, Within(0, 1, above=True, below=True)] = 0.8
    """Factor by which the line search shortens a step of the policy that it refuses."""
    backtracks: Annotated[int, AtLeast(1)] = 10
    """Maximum number of step lengths that the line search tries."""


@dataclass(frozen=True)
class TRPOSettings(NPGSettings):
    """Learn a policy by steps of its natural gradient that stay in a trust region."""

    ALGO: ClassVar[str] = "trpo"
    algorithm: TRPOConfig = field(default_factory=TRPOConfig)


@dataclass(frozen=True)
class PPOConfig(VPGConfig):
    """The algorithm."""

    clip_ratio: Annotated[float, Within(0, 1, above=True, below=True)] = 0.2
    """Clip range epsilon: the objective gains nothing where the probability ratio is beyond 1 - epsilon or 1 +
    epsilon."""
    policy_updates: Annotated[int, AtLeast(1)] = 80
    """Maximum number of passes over the collected steps that improve the policy in each update."""
    target_kl: Annotated[float, Above(0)] = 0.01
    """End an update's passes for the policy once its KL divergence from the old policy exceeds 1.5 times this."""


@dataclass(frozen=True)
class PPOSettings(VPGSettings):
    """Learn a policy by a clipped surrogate objective, several passes for each update."""

    ALGO: ClassVar[str] = "ppo"
    algorithm: PPOConfig = field(default_factory=PPOConfig)
