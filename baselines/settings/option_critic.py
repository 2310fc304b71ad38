"""Settings of option-critic."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from baselines.settings import Baseline


@dataclass(frozen=True)
class OptionCriticConfig:
    """The algorithm."""

    num_options: int = 2
    """Options, 1 or more; with one it is an actor-critic."""
    hidden_dim: int = 128
    """Width of the two hidden layers that values, policies and terminations share."""
    discount: float = 0.99
    """Discount factor gamma per agent step, 0 to 1."""
    critic_lr: float = 3e-4
    """Learning rate of the options' values and of the shared layers, which they alone train."""
    actor_lr: float = 3e-4
    """Learning rate of the options' policies and terminations."""
    critic_update_freq: int = 4
    """Agent steps from one update of the values to the next; policies and terminations learn at every step."""
    critic_target_update_freq: int = 250
    """Updates of the values from one copy of the target network to the next."""
    batch_size: int = 128
    """Transitions in each update of the values."""
    replay_capacity: int = 10_000
    """Transitions that are remembered."""
    seed_steps: int = 1000
    """Agent steps at the start, with the first options and policies, before anything is learned."""
    termination_reg: float = 0.01
    """Added to the advantage of going on, so that options last."""
    entropy_weight: float = 0.01
    """Weight of the policies' entropy."""
    epsilon_start: float = 1.0
    """Share of random choices among options at the start."""
    epsilon: float = 0.1
    """What that share falls to, exponentially."""
    epsilon_decay_steps: int = 10_000
    """Environment steps in which its distance from there falls to 1/e."""


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
