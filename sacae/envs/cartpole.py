"""CartPoleContinuous-v1: Gymnasium's CartPole-v1 with a continuous force. Importing this module registers it."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv
from numpy.typing import NDArray

from sacae.envs.contract import Info

TO_THE_RIGHT = np.ones(1, np.float32)
"""CartPole's action that applies the force `force_mag`, to the left where that is negative."""


class CartPoleContinuousEnv(CartPoleEnv):
    """CartPole with one action in [-1, 1], the fraction of the full force on the cart; positive pushes to the right.

    Observations, rewards, episode ends and images are CartPole's; -1 and 1 are exactly its two actions.
    """

    def __init__(self, **arguments: Any) -> None:
        """Takes CartPole's arguments."""
        super().__init__(**arguments)
        self.full_force = self.force_mag
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def step(  # type: ignore[override]  # CartPole's own action is an integer.
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, Info]:
        """Pushes for one step of 0.02 s. float32 (1,) -> (obs, reward, terminated, truncated, info).

        Raises gymnasium.error.InvalidAction for an action outside the space.
        """
        if not self.action_space.contains(action):
            raise gymnasium.error.InvalidAction(f"an action is float32 (1,) in [-1, 1], but this one is {action!r}")
        self.force_mag = self.full_force * float(action[0])
        result: tuple[NDArray[np.float32], float, bool, bool, Info] = super().step(  # type: ignore[no-untyped-call]
            TO_THE_RIGHT  # CartPole's step has no annotations.
        )
        return result


_of_cartpole = gymnasium.spec("CartPole-v1")
gymnasium.register(
    "CartPoleContinuous-v1",
    f"{__name__}:{CartPoleContinuousEnv.__name__}",
    reward_threshold=_of_cartpole.reward_threshold,
    max_episode_steps=_of_cartpole.max_episode_steps,
)
