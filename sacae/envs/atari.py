"""Atari games with their usual preprocessing (Mnih et al. 2015, doi:10.1038/nature14236)."""

from typing import Any

import gymnasium
from gymnasium.wrappers import AtariPreprocessing

from sacae.envs.contract import Info
from sacae.errors import UserError, how_to_install

NOOPS = 30
"""Largest number of steps without action at a game's start; the actual number is drawn from 1 on."""


GAME_FRAMES_PER_SECOND = 60
"""Of the console; ale-py says 30, however long a step is."""


def register_games(env_id: str) -> None:
    """Adds the games of ale-py to Gymnasium's registry. Raises UserError if a package is missing."""
    try:
        import ale_py
        import cv2  # noqa: F401 - AtariPreprocessing scales images with it
    except ImportError as error:
        missing = f"Atari games need {error.name}, which is not installed"
        raise UserError(f"env is {env_id}, but {missing}; {how_to_install('atari')}") from None
    gymnasium.register_envs(ale_py)
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # Otherwise each game prints a banner.


def preprocessed(game: gymnasium.Env, image_size: int, frame_skip: int) -> gymnasium.Env:
    """A game that shows one grey image, uint8 (image_size, image_size, 1), and starts by itself.

    game: shows grey images of every game frame.
    frame_skip: game frames for which each action is held.
    """
    env = _Fire(AtariPreprocessing(game, NOOPS, frame_skip, image_size, grayscale_newaxis=True))
    env.metadata = {**env.metadata, "render_fps": GAME_FRAMES_PER_SECOND / frame_skip}
    return env


class _Fire(gymnasium.Wrapper):
    """Presses the fire button at an episode's start and after each lost life.

    Some games wait for it, and a policy that never presses it would wait until the time limit.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        meanings = env.get_wrapper_attr("get_action_meanings")()
        self._fire = meanings.index("FIRE") if "FIRE" in meanings else None
        self._lives = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Info]:
        observation, info = self.env.reset(seed=seed, options=options)
        if self._fire is not None:
            observation, _, terminated, truncated, info = self.env.step(self._fire)
            if terminated or truncated:
                observation, info = self.env.reset(seed=seed, options=options)
        self._lives = info["lives"]
        return observation, info

    def step(self, action: int) -> tuple[Any, float, bool, bool, Info]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        total_reward = float(reward)
        lost = info["lives"] < self._lives
        if lost and self._fire is not None and not (terminated or truncated):
            observation, reward, terminated, truncated, info = self.env.step(self._fire)
            total_reward += float(reward)
        self._lives = info["lives"]
        return observation, total_reward, terminated, truncated, info
