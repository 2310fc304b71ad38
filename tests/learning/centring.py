"""An environment of a few lines whose state is only in its pictures: bring a square to the middle of a line."""

import gymnasium
import numpy as np
from gymnasium import spaces

SIZE, SQUARE = 84, 14
STEP = 0.3
EPISODE_STEPS = 10


class Centring(gymnasium.Env):
    """A position in [-1, 1], moved by STEP times the action; the reward is 1 minus its distance from the middle.

    Observations are uint8 (84, 84, 3): a white square on black. A random policy gets about 4.9 of 10 an episode, the
    best one about 9.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space = spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.position = 0.0

    def reset(self, *, seed=None, options=None):
        """See gymnasium."""
        super().reset(seed=seed)
        self.position = self.np_random.uniform(-1, 1)
        return self.render(), {}

    def step(self, action):
        """See gymnasium."""
        self.position = float(np.clip(self.position + STEP * float(action[0]), -1, 1))
        return self.render(), 1 - abs(self.position), False, False, {}

    def render(self):
        """The picture."""
        picture = np.zeros((SIZE, SIZE, 3), np.uint8)
        left = round((self.position + 1) / 2 * (SIZE - SQUARE))
        top = (SIZE - SQUARE) // 2
        picture[top : top + SQUARE, left : left + SQUARE] = 255
        return picture


gymnasium.register("Centring-v0", Centring, max_episode_steps=EPISODE_STEPS)
