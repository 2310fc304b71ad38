"""Settings of tabular Q-learning."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from baselines.settings import Baseline, RunConfig


@dataclass(frozen=True)
class QLearningConfig:
    """The algorithm."""

    state_bins: int = 6
    """Bins of equal width for each coordinate of the state."""
    observation_clip: tuple[float, ...] = ()
    """Largest absolute value of each coordinate of the state, beyond which it counts as the outermost bin; without it,
    CartPole has its own bounds and other environments need bounded states."""
    learning_rate: float = 0.5
    """Step size eta of each update of the table."""
    discount: float = 0.99
    """Discount factor gamma per agent step, 0 to 1."""
    epsilon: float = 0.5
    """Share of random actions in the first episode; in episode n it is this divided by n."""
    initial_value: float = 1.0
    """Upper end of the table's initial values, which are uniformly random from 0."""
    shaping: bool = False
    """Learn from another reward: +1 at the end of an episode that lasted shaping_steps, -1 at the end of a shorter one,
    0 before. Either end is terminal."""
    shaping_steps: int = 195
    """Agent steps that an episode must last to earn +1 with --shaping."""


@dataclass(frozen=True)
class QLearningRunConfig(RunConfig):
    """How long a run is, how it is watched, where it lies."""

    num_train_steps: int = 300_000
    """Length of the run in environment steps (agent steps times action repeat)."""


@dataclass(frozen=True)
class QLearningSettings(Baseline):
    """Learn a table of values by Q-learning."""

    ALGO: ClassVar[str] = "q_learning"

    algorithm: QLearningConfig = field(default_factory=QLearningConfig)
    train: QLearningRunConfig = field(default_factory=QLearningRunConfig)

    def conditions(self) -> Sequence[tuple[str, bool, str]]:
        """See Settings."""
        config = self.algorithm
        return (
            ("state_bins", config.state_bins >= 2, "2 or more"),
            ("observation_clip", all(size > 0 for size in config.observation_clip), "numbers above 0"),
            ("learning_rate", 0 < config.learning_rate <= 1, "above 0 and at most 1"),
            ("initial_value", config.initial_value >= 0, "0 or more"),
            ("shaping_steps", config.shaping_steps >= 1, "at least 1"),
        )
