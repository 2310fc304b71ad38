"""Settings of option-critic."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from baselines.settings import AlgorithmSettings
from sacae.declaration import Above, AtLeast, Within

MOST_OPTIONS = 1024
"""Most options, each of which takes a part of the networks or a table."""


@dataclass(frozen=True)
class OptionCriticSettings(AlgorithmSettings):
    """Option-critic: learn options, which are policies with an end, and which of them to choose."""

    NAME: ClassVar[str] = "option_critic"

    num_options: Annotated[int, Within(1, MOST_OPTIONS)] = 2
    """Number of options; with 1 it is an actor-critic."""
    hidden_dim: Annotated[int, AtLeast(1)] = 128
    """Width of the two hidden layers that option values, policies and terminations share."""
    discount: Annotated[float, Within(0, 1)] = 0.99
    """Discount factor gamma per agent step, 0 to 1."""
    critic_lr: Annotated[float, Above(0)] = 3e-4
    """Learning rate of the option values and of the shared layers, which only the values train."""
    actor_lr: Annotated[float, Above(0)] = 3e-4
    """Learning rate of the option policies and terminations."""
    critic_update_freq: Annotated[int, AtLeast(1)] = 4
    """Agent steps from one update of the option values to the next; policies and terminations learn at every step."""
    critic_target_update_freq: Annotated[int, AtLeast(1)] = 250
    """Updates of the option values from one copy of the target network to the next."""
    batch_size: Annotated[int, AtLeast(1)] = 128
    """Transitions in each update of the option values."""
    replay_capacity: Annotated[int, AtLeast(1)] = 10_000
    """Transitions that the replay holds."""
    seed_steps: Annotated[int, AtLeast(0)] = 1000
    """Agent steps at the start, with the initial options and policies, before anything is learned."""
    termination_reg: Annotated[float, AtLeast(0)] = 0.01
    """Number added to the advantage of continuing an option, so that options last."""
    entropy_weight: Annotated[float, AtLeast(0)] = 0.01
    """Weight of the entropy of the option policies in their loss."""
    epsilon_start: Annotated[float, Within(0, 1)] = 1.0
    """Share of random choices among options at the start."""
    epsilon: Annotated[float, Within(0, 1)] = 0.1
    """Share to which random choices among options fall, exponentially."""
    epsilon_decay_steps: Annotated[int, AtLeast(1)] = 10_000
    """Environment steps in which the share of random choices among options loses all but 1/e of its distance from
    epsilon."""
