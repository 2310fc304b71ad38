"""What an agent sees: the last frames of an episode, stacked."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from sacae.envs.contract import Action, Env, Info
from sacae.envs.seeds import as_seed
from sacae.types import PIXELS, STATE, Frames, Observation


class FrameStack:
    """The last `count` frames of an episode, oldest first; the first one repeated where there are not so many yet."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._frames: deque[Frames] = deque(maxlen=count)

    def begin(self, frame: Frames) -> None:
        """An episode begins with this frame."""
        self._frames.extend([frame] * self._count)

    def add(self, frame: Frames) -> None:
        """The episode goes on with this frame."""
        self._frames.append(frame)

    def observation(self) -> Frames:
        """The frames (C, ...), joined along their first axis: (count * C, ...)."""
        return np.concatenate(self._frames)


def beside_state(frames: Frames, state: NDArray[np.float32]) -> Observation:
    """What an agent sees that also sees a state: stacked images (K * C, H, W), and the state (S,) of the newest."""
    return {PIXELS: frames, STATE: state}


def as_batch(observations: Sequence[Any]) -> Observation:
    """Observations, all of the one kind or the other, along a new first axis."""
    if isinstance(observations[0], Mapping):
        return {name: np.stack([one[name] for one in observations]) for name in (PIXELS, STATE)}
    return np.stack(observations)


class StackedEnv(gymnasium.Env):
    """An environment whose observations are stacked as an agent sees them; all else is the inner environment's.

    Observations are uint8 (K * C, H, W), float32 (K * D,), or a dictionary of "pixels", uint8 (K * C, H, W), and
    "state", float32 (S,); actions float32 (A,) in [-1, 1] or int64 (A,) of choices.

    inner: that environment.
    """

    observation_space: spaces.Box | spaces.Dict

    def __init__(self, inner: Env, frame_stack: int, sees_state: bool = False) -> None:
        """inner: this environment owns it from here on. sees_state: whether observations are dictionaries."""
        self.inner, self._stack = inner, FrameStack(frame_stack)
        self.metadata, self.render_mode = inner.metadata, inner.render_mode
        frame = inner.observation_space
        low, high = (np.concatenate([bound] * frame_stack) for bound in (frame.low, frame.high))
        self._sees_state = sees_state
        stacked = spaces.Box(low, high, dtype=frame.dtype.type)
        self.observation_space = stacked
        if sees_state:
            assert inner.state_space is not None  # as the settings of a run that sees it say
            self.observation_space = spaces.Dict({PIXELS: stacked, STATE: inner.state_space})
        self.action_space = inner.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Info]:
        """Starts an episode, which depends on `seed` alone if one is given. Returns (obs, info)."""
        super().reset(seed=as_seed(seed))
        frame, info = self.inner.reset(seed=seed, options=options)
        self._stack.begin(frame)
        return self._seen(), info

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, Info]:
        """Takes an action (A,). Returns (obs, reward, terminated, truncated, info)."""
        frame, reward, terminated, truncated, info = self.inner.step(action)
        self._stack.add(frame)
        return self._seen(), reward, terminated, truncated, info

    def _seen(self) -> Observation:
        frames = self._stack.observation()
        return beside_state(frames, self.inner.state()) if self._sees_state else frames

    def render(self) -> NDArray[np.uint8]:
        """An image of the present moment, uint8 (H, W, 3)."""
        return self.inner.render()

    def close(self) -> None:
        """Frees the environment."""
        self.inner.close()
