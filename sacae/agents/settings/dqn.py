"""Settings of DQN."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from sacae.declaration import AtLeast, Must, Within
from sacae.groups import HeadSettings


@dataclass(frozen=True)
class DQNSettings(HeadSettings):
    """Deep Q-learning."""

    DISCRETE_ACTIONS: ClassVar[bool] = True

    PRESET: ClassVar[Mapping[str, Any]] = {"critic_tau": 1.0, "encoder_tau": 1.0, "critic_target_update_freq": 1000}
    """The target network is copied instead of averaged."""

    epsilon_start: Annotated[float, Within(0, 1)] = 1.0
    """Initial fraction of random training actions, from which it decreases linearly."""
    epsilon: Annotated[float, Within(0, 1)] = 0.05
    """Fraction of random training actions after the first --exploration-steps."""
    exploration_steps: Annotated[int, AtLeast(0)] = 50_000
    """Environment steps, from the start of the run, over which epsilon decreases linearly from --epsilon-start to
    --epsilon."""
    target_network: bool = True
    """Compute targets with a target network, as in Mnih et al. 2015. Off: with the online network, as in Mnih et al.
    2013."""
    double_q: Annotated[
        bool,
        Must(
            "off if target_network is off: Double DQN needs two networks",
            lambda settings: settings["target_network"] or not settings["double_q"],
            of_new_runs=True,
        ),
    ] = True
    """The online network chooses the target's action and the target network evaluates it (Double DQN)."""
    dueling: bool = False
    """Separate streams for the state's value and the actions' advantages (Dueling DQN)."""
    td_loss: Literal["huber", "mse"] = "huber"
    """Loss of the temporal difference error; huber is linear beyond 1."""

    @classmethod
    def preset(cls, from_state: bool, given: Mapping[str, Any]) -> dict[str, Any]:
        """See HeadSettings."""
        without_target = {} if given.get("target_network", True) else {"double_q": False}
        return super().preset(from_state, given) | without_target
