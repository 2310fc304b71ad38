"""Settings of option-critic."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from baselines.settings import Baseline


@dataclass(frozen=True)
class OptionCriticConfig:
    """The algorithm."""

    num_options: int = 2
    """Number of options, 1 or more; with 1 it is an actor-critic."""
    hidden_dim: int = 128
    """Width of the two hidden layers that option values, policies and terminations share."""
    discount: float = 0.99
    """Discount factor gamma per agent step, 0 to 1."""
    critic_lr: float = 3e-4
    """Learning rate of the option values and of the shared layers, which only the values train."""
    actor_lr: float = 3e-4
    """Learning rate of the option policies and terminations."""
    critic_update_freq: int = 4
    """Agent steps from one update of the option values to the next; policies and terminations learn at every step."""
    critic_target_update_freq: int = 250
    """Updates of the option values from one copy of the target network to the next."""
    batch_size: int = 128
    """Transitions in each update of the option values."""
    replay_capacity: int = 10_000
    """Transitions that the replay holds."""
    seed_steps: int = 1000
    """Agent steps at the start, with the initial options and policies, before anything is learned."""
    termination_reg: float = 0.01
    """Number added to the advantage of continuing an option, so that options last."""
    entropy_weight: float = 0.01
    """Weight of the entropy of the option policies in their loss."""
    epsilon_start: float = 1.0
    """Share of random choices among options at the start."""
    epsilon: float = 0.1
    """Share to which random choices among options fall, exponentially."""
    epsilon_decay_steps: int = 10_000
    """Environment steps in which the share of random choices among options loses all but 1/e of its distance from
    epsilon."""


@dataclass(frozen=True)
class OptionCriticSettings(Baseline):
    """Learn options: policies, when they end, and which to choose."""

    ALGO: ClassVar[str] = "option_critic"

    algorithm: OptionCriticConfig = field(default_factory=OptionCriticConfig)

    def conditions(self) -> Sequence[tuple[str, bool, str]]:
        """See Settings."""
        config = self.algorithm
        return (
            ("num_options", config.num_options >= 1, "at least 1"),
            ("critic_update_freq", config.critic_update_freq >= 1, "at least 1"),
            ("termination_reg", config.termination_reg >= 0, "0 or more"),
            ("entropy_weight", config.entropy_weight >= 0, "0 or more"),
            ("epsilon_decay_steps", config.epsilon_decay_steps >= 1, "at least 1"),
        )
