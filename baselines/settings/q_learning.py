"""Settings of tabular Q-learning."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from baselines.settings import Baseline, RunConfig
from sacae.settings import AtLeast, Condition, OnlyWhere, Within


@dataclass(frozen=True)
class QLearningConfig:
    """The algorithm."""

    state_bins: Annotated[int, AtLeast(2)] = 6
    """Bins of equal width for each coordinate of the state."""
    observation_clip: tuple[float, ...] = ()
    """Largest absolute value of each coordinate of the state, beyond which it counts as the outermost bin; without it,
    CartPole has its own bounds and other environments need bounded states."""
    learning_rate: Annotated[float, Within(0, 1, above=True)] = 0.5
    """Step size eta of each update of the table."""
    discount: Annotated[float, Within(0, 1)] = 0.99
    """Discount factor gamma per agent step, 0 to 1."""
    epsilon: Annotated[float, Within(0, 1)] = 0.5
    """Share of random actions in the first episode; in episode n it is this divided by n."""
    initial_value: Annotated[float, AtLeast(0)] = 1.0
    """Upper end of the table's initial values, which are uniformly random from 0."""
    shaping: bool = False
    """Learn from another reward: +1 at the end of an episode that lasted shaping_steps, -1 at the end of a shorter one,
    0 before. Either end is terminal."""
    shaping_steps: Annotated[int, AtLeast(1), OnlyWhere(shaping=True)] = 195
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

    def conditions(self) -> Sequence[Condition]:
        """See Grouped."""
        above_zero = all(size > 0 for size in self.algorithm.observation_clip)
        return (("observation_clip", above_zero, "numbers above 0"),)
