"""Settings of tabular Q-learning."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from baselines.settings import AlgorithmSettings
from sacae.declaration import AtLeast, Must, OnlyWhere, Within


@dataclass(frozen=True)
class QLearningSettings(AlgorithmSettings):
    """Q-learning: learn a table of action values."""

    NAME: ClassVar[str] = "q_learning"

    PRESET: ClassVar[Mapping[str, Any]] = {"num_train_steps": 300_000}
    """Runs are shorter than those of other algorithms."""

    state_bins: Annotated[int, Within(2, 32_767)] = 6
    """Bins of equal width for each coordinate of the state."""
    observation_clip: Annotated[
        tuple[float, ...],
        Must("numbers above 0", lambda settings: all(size > 0 for size in settings["observation_clip"])),
    ] = ()
    """Largest absolute value of each coordinate of the state, beyond which it counts as the outermost bin. If it is
    empty, CartPole uses predefined bounds, and other environments need bounded states."""
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
