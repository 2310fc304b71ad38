"""Evaluation: whole episodes with the policy's mean action, in environments of their own."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from sacae.agents import Agent
from sacae.envs import Env

VIDEO_SIZE = 256

LONGEST_RECORD = 2_000
"""Agent steps of an episode of which frames and observations are kept: 400 MB of frames."""


@dataclass
class Episode:
    """One evaluation episode.

    frames: uint8 (256, 256, 3) each, where a video was asked for. observations: what the agent saw, where asked for.
    """

    episode_return: float = 0.0
    length: int = 0
    frames: list[np.ndarray] = field(default_factory=list)
    observations: list[np.ndarray] = field(default_factory=list)


class Interrupted(Exception):
    """The evaluation was told to stop before its episodes had ended."""


def evaluate(
    agent: Agent,
    envs: Sequence[Env],
    seeds: Sequence[int],
    video: bool = False,
    observations: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    on_step: Callable[[], None] = lambda: None,
) -> list[Episode]:
    """Runs one episode for each seed, as many side by side as there are environments, with batched actions.

    An episode starts from its seed alone, so the results do not depend on how many run at once or on what the
    environments did before. Draws no random number. Raises Interrupted when `should_stop` says so.

    video, observations: keep the frames of a video, or what the agent saw, of the first episode, as far as
        LONGEST_RECORD.
    """
    episodes = [Episode() for _ in seeds]
    waiting = deque(enumerate(seeds))
    running = []
    idle = list(envs)
    while waiting or running:
        while waiting and idle:
            index, seed = waiting.popleft()
            first = index == 0
            running.append(_Slot(idle.pop(), episodes[index], agent, seed, video and first, observations and first))
        actions = agent.act(np.stack([slot.observation() for slot in running])).cpu().numpy()
        for slot, action in zip(list(running), actions):
            if slot.step(action):
                running.remove(slot)
                idle.append(slot.env)
        on_step()
        if should_stop():
            raise Interrupted
    return episodes


class _Slot:
    """An environment and the episode it is running."""

    def __init__(self, env: Env, episode: Episode, agent: Agent, seed: int, video: bool, observations: bool) -> None:
        self.env, self.episode = env, episode
        self._keeps_frames, self._keeps_observations = video, observations
        frame, _ = env.reset(seed=seed)
        self._frames = deque([frame] * agent.spec.frame_stack, maxlen=agent.spec.frame_stack)
        self._note()

    def observation(self) -> np.ndarray:
        return np.concatenate(self._frames)

    def step(self, action: np.ndarray) -> bool:
        """Takes a step; returns whether the episode ended."""
        frame, reward, terminated, truncated, _ = self.env.step(action)
        self._frames.append(frame)
        self.episode.episode_return += float(reward)
        self.episode.length += 1
        self._note()
        return terminated or truncated

    def _note(self) -> None:
        if self.episode.length > LONGEST_RECORD:
            return
        if self._keeps_frames:
            self.episode.frames.append(self.env.render(VIDEO_SIZE, VIDEO_SIZE))
        if self._keeps_observations:
            self.episode.observations.append(self.observation())
