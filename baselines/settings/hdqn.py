"""Settings of hierarchical DQN."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from baselines.settings import Baseline


@dataclass(frozen=True)
class HDQNConfig:
    """The algorithm."""

    goals: tuple[int, ...] = ()
    """Numbers of the states that may be goals; all states where it is empty."""
    hidden_dim: int = 256
    """Width of the two hidden layers of controller and meta-controller."""
    discount: float = 0.99
    """Discount factor gamma, 0 to 1: per agent step of the controller, per goal of the meta-controller."""
    learning_rate: float = 3e-4
    """Learning rate of controller and meta-controller."""
    critic_tau: float = 0.005
    """Weight of the online network in each update of its target network."""
    batch_size: int = 64
    """Transitions in each update of the controller, and in each of the meta-controller."""
    replay_capacity: int = 40_000
    """Transitions that controller and meta-controller each remember."""
    epsilon_start: float = 0.8
    """Share of random goals in the first episode, and of random actions towards a goal that was never reached."""
    epsilon: float = 0.02
    """Share to which random goals and random actions both fall."""
    epsilon_decay: float = 0.999
    """Factor of the share of random goals after each episode, above 0 and at most 1."""


@dataclass(frozen=True)
class HDQNSettings(Baseline):
    """Learn which states to go to, and how to get there."""

    ALGO: ClassVar[str] = "hdqn"

    algorithm: HDQNConfig = field(default_factory=HDQNConfig)

    def conditions(self) -> Sequence[tuple[str, bool, str]]:
        """See Settings."""
        config = self.algorithm
        return (
            ("goals", len({*config.goals}) == len(config.goals), "numbers of states, each once"),
            ("learning_rate", config.learning_rate > 0, "above 0"),
            ("epsilon_decay", 0 < config.epsilon_decay <= 1, "above 0 and at most 1"),
        )
