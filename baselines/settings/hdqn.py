"""Settings of hierarchical DQN."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from baselines.settings import AlgorithmSettings
from sacae.declaration import Above, AtLeast, Must, Within


@dataclass(frozen=True)
class HDQNSettings(AlgorithmSettings):
    """Hierarchical DQN: learn which states to go to, and how to get there."""

    NAME: ClassVar[str] = "hdqn"

    goals: Annotated[
        tuple[int, ...],
        Must("numbers of states, each once", lambda settings: len({*settings["goals"]}) == len(settings["goals"])),
    ] = ()
    """Numbers of the states that may be goals; all states if it is empty."""
    hidden_dim: Annotated[int, AtLeast(1)] = 256
    """Width of the two hidden layers of controller and meta-controller."""
    discount: Annotated[float, Within(0, 1)] = 0.99
    """Discount factor gamma, 0 to 1: per agent step of the controller, per goal of the meta-controller."""
    learning_rate: Annotated[float, Above(0)] = 3e-4
    """Learning rate of controller and meta-controller."""
    critic_tau: Annotated[float, Within(0, 1)] = 0.005
    """Weight of the online network in each update of its target network."""
    batch_size: Annotated[int, AtLeast(1)] = 64
    """Transitions in each update of the controller, and in each of the meta-controller."""
    replay_capacity: Annotated[int, AtLeast(1)] = 40_000
    """Transitions that controller and meta-controller each remember."""
    epsilon_start: Annotated[float, Within(0, 1)] = 0.8
    """Share of random goals in the first episode, and of random actions towards a goal that was never reached."""
    epsilon: Annotated[float, Within(0, 1)] = 0.02
    """Share to which random goals and random actions both fall."""
    epsilon_decay: Annotated[float, Within(0, 1, above=True)] = 0.999
    """Factor of the share of random goals after each episode, above 0 and at most 1."""
