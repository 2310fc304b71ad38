"""Settings of tabular Q-learning."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from baselines.settings import Baseline, RunConfig


@dataclass(frozen=True)
class QLearningConfig:
    """The algorithm."""

    state_bins: int = 6
    """Bins of each coordinate of the state, of equal width."""
    observation_clip: tuple[float, ...] = ()
    """Largest size of each coordinate, beyond which it counts as the outermost bin; where it is left out, CartPole has
    its own and other environments need bounded states."""
    learning_rate: float = 0.5
    """Step size eta of an update."""
    discount: float = 0.99
    """Discount factor gamma per agent step, 0 to 1."""
    epsilon: float = 0.5
    """Share of random actions in the first episode; in the n-th it is that divided by n."""
    initial_value: float = 1.0
    """Values start uniformly random between 0 and this."""
    shaping: bool = False
    """Learn from another reward: at an episode's end +1 if it lasted shaping_steps, otherwise -1; before it 0. Both are
    the end of the shaped task."""
    shaping_steps: int = 195
    """Agent steps that an episode must last for a good end."""


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
