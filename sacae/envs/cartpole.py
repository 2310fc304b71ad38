"""CartPoleContinuous-v1: Gymnasium's CartPole-v1 whose push has a strength. The import of this module registers it."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv

TO_THE_RIGHT = np.ones(1, np.float32)
"""The action at which CartPole pushes with all of `force_mag`, in the direction of its sign."""


class CartPoleContinuousEnv(CartPoleEnv):
    """CartPole with one action in [-1, 1], the share of the full force that pushes the cart, to the right above 0.

    Observations, rewards, ends and pictures are CartPole's: -1 and 1 are exactly its two actions.
    """

    def __init__(self, **arguments: Any) -> None:
        """Arguments: as CartPole's."""
        super().__init__(**arguments)
        self.full_force = self.force_mag
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Pushes for one step of 0.02 s. float32 (1,) -> (obs, reward, terminated, truncated, info).

        Raises gymnasium.error.InvalidAction where the action is not in the space.
        """
        if not self.action_space.contains(action):
            raise gymnasium.error.InvalidAction(f"an action is float32 (1,) in [-1, 1], but this one is {action!r}")
        self.force_mag = self.full_force * float(action[0])
        return super().step(TO_THE_RIGHT)


_of_cartpole = gymnasium.spec("CartPole-v1")
gymnasium.register(
    "CartPoleContinuous-v1",
    f"{__name__}:{CartPoleContinuousEnv.__name__}",
    reward_threshold=_of_cartpole.reward_threshold,
    max_episode_steps=_of_cartpole.max_episode_steps,
)
