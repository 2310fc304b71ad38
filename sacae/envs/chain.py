"""SixStateChain-v0: the six-state chain of h-DQN, with a detour. Importing this module registers it."""

from typing import Any

import gymnasium
from gymnasium import spaces

from sacae.envs.contract import Info

NUM_STATES = 6
LEFT, RIGHT = 0, 1
END, START, FAR_END = 0, 1, NUM_STATES - 1
"""The states s1, where an episode ends, s2, where it starts, and s6, whose visit earns the full reward."""

FULL_REWARD, SMALL_REWARD = 1.0, 0.01


class SixStateChainEnv(gymnasium.Env):
    """A chain of states s1 to s6, numbered from 0 (Kulkarni et al. 2016, arXiv:1604.06057, section 4.1).

    An episode starts in s2 and ends in s1. Its reward is the full one if it has visited s6, otherwise the small one.
    Left (0) always moves left; right (1) moves right or left with probability 1/2 each; a move to the right in s6 stays
    there. The observation does not show whether s6 was visited. An agent that always chooses right reaches s6 before s1
    in one of five episodes.
    """

    metadata = {"render_modes": []}

    def __init__(self) -> None:
        self.observation_space = spaces.Discrete(NUM_STATES)
        self.action_space = spaces.Discrete(2)
        self._state, self._visited = START, False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, Info]:
        """Starts an episode. Returns (state, {})."""
        super().reset(seed=seed)
        self._state, self._visited = START, False
        return self._state, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, Info]:
        """Moves left or right. Returns (state, reward, terminated, False, {}).

        Raises gymnasium.error.InvalidAction for any other action.
        """
        if not self.action_space.contains(action):
            raise gymnasium.error.InvalidAction(f"an action is 0 (left) or 1 (right), but this one is {action!r}")
        to_the_right = action == RIGHT and self.np_random.random() < 0.5
        self._state = min(self._state + 1, FAR_END) if to_the_right else max(self._state - 1, END)
        self._visited |= self._state == FAR_END
        terminated = self._state == END
        reward = (FULL_REWARD if self._visited else SMALL_REWARD) if terminated else 0.0
        return self._state, reward, terminated, False, {}


gymnasium.register("SixStateChain-v0", f"{__name__}:{SixStateChainEnv.__name__}")
