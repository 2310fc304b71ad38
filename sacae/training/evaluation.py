"""Evaluation: whole episodes with the policy's mean action, in environments of their own."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from sacae.envs import Env, EnvInfo
from sacae.envs.contract import State
from sacae.envs.faults import RAISED, Fault, check_observation, check_state, describe
from sacae.envs.stepping import checked_step
from sacae.errors import UserError
from sacae.training.stacking import FrameStack, as_batch, beside_state
from sacae.types import Actions, EnvSpec, Frames, Observation

VIDEO_SIZE = 256

LONGEST_RECORD = 2_000
"""Agent steps of an episode of which frames and observations are kept: 400 MB of frames."""


class Player(Protocol):
    """What plays an evaluation: an agent, or anything else that acts without exploration."""

    @property
    def spec(self) -> EnvSpec:
        """What it sees and does."""

    def act(self, obs: Any) -> torch.Tensor:
        """Actions (N, A) for stacked observations (N, *obs_shape).

        Where the specification says `sees_state`, for {"pixels": (N, *obs_shape), "state": (N, state_dim)}.
        """


@runtime_checkable
class RememberingPlayer(Protocol):
    """A player that goes on with something within an episode, such as a running option."""

    @property
    def spec(self) -> EnvSpec:
        """What it sees and does."""

    def act_on(self, obs: Frames, memory: Sequence[Any]) -> tuple[torch.Tensor, Sequence[Any]]:
        """Actions (N, A) for stacked observations (N, *obs_shape), and what is to be remembered of each episode.

        memory: what the last call returned for each of these episodes; None where one has just begun.
        """


@dataclass
class Episode:
    """One evaluation episode.

    success: what the environment said at its last step (`success_of`); None where it does not say it.
    frames: uint8 (256, 256, 3) each, where a video was asked for. no_video: why there are none all the same: an
        environment that cannot be drawn may still be played. observations: the stacked frames that the agent saw,
        where asked for.
    """

    episode_return: float = 0.0
    length: int = 0
    success: bool | None = None
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    no_video: str = ""
    observations: list[Frames] = field(default_factory=list)

    def filmed(self) -> list[NDArray[np.uint8]]:
        """The frames. Raises UserError, with the reason, where drawing them failed."""
        if self.no_video:
            raise UserError(f"there is no video of this evaluation: {self.no_video}")
        return self.frames


def success_rate(episodes: Sequence[Episode]) -> float | None:
    """Share of episodes that ended in success; None where the environment does not say it."""
    successes = [episode.success for episode in episodes if episode.success is not None]
    return None if len(successes) < len(episodes) else sum(successes) / len(successes)


class Interrupted(Exception):
    """The evaluation was told to stop before its episodes had ended."""


class EpisodeFailed(UserError):
    """An environment raised an error, or returned what is not finite, so that there is no whole episode to report."""


@contextmanager
def episode_failures(number: int, step: int | None) -> Iterator[None]:
    """Turns what an environment raises into EpisodeFailed; a UserError stays as it is.

    number: the episode's. step: the one that is taken, counted from 1; None for a reset.
    """
    try:
        yield
    except UserError:
        raise
    except RAISED as error:
        when = "when it was reset" if step is None else f"at step {step}"
        raise EpisodeFailed(f"the environment of episode {number} {Fault.of(error).what} {when}") from error


def evaluate(
    player: Player | RememberingPlayer,
    envs: Sequence[Env],
    seeds: Sequence[int],
    video: bool = False,
    observations: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    on_step: Callable[[], None] = lambda: None,
) -> list[Episode]:
    """Runs one episode for each seed, as many side by side as there are environments, with batched actions.

    An episode starts from its seed alone, so the results do not depend on what the environments did before, and on how
    many run at once only by rounding: matrix products round differently for another number of rows, which in a chaotic
    environment grows to another return. Draws no random number.

    Raises Interrupted when `should_stop` says so, and EpisodeFailed if one of the episodes fails: the others alone
    would be a biased sample.

    video, observations: keep the frames of a video, or what the agent saw, of the first episode, as far as
        LONGEST_RECORD.
    """
    episodes = [Episode() for _ in seeds]
    waiting = deque(enumerate(seeds))
    running: list[_Slot] = []
    idle = list(envs)
    while waiting or running:
        while waiting and idle:
            index, seed = waiting.popleft()
            first = index == 0
            slot = _Slot(idle.pop(), index, episodes[index], player, video and first, observations and first)
            slot.begin(seed)
            running.append(slot)
        for slot, action in zip(list(running), _act(player, running)):
            if slot.step(action):
                running.remove(slot)
                idle.append(slot.env)
        on_step()
        if should_stop():
            raise Interrupted
    return episodes


def _act(player: Player | RememberingPlayer, slots: Sequence["_Slot"]) -> Actions:
    """Each slot's action, (N, A); what the player remembers of an episode stays with the slot that runs it."""
    if not isinstance(player, RememberingPlayer):
        return player.act(as_batch([slot.seen() for slot in slots])).cpu().numpy()
    obs = np.stack([slot.observation() for slot in slots])
    actions, memory = player.act_on(obs, [slot.memory for slot in slots])
    for slot, remembered in zip(slots, memory, strict=True):
        slot.memory = remembered
    return actions.cpu().numpy()


class _Slot:
    """An environment and the episode it is running."""

    def __init__(
        self,
        env: Env,
        number: int,
        episode: Episode,
        player: Player | RememberingPlayer,
        video: bool,
        observations: bool,
    ) -> None:
        self.env, self.episode = env, episode
        self.memory: Any = None
        self._number, self._info = number, EnvInfo.of(env, player.spec.sees_state)
        self._state: State | None = None
        self._keeps_frames, self._keeps_observations = video, observations
        self._stack = FrameStack(player.spec.frame_stack)

    def begin(self, seed: int) -> None:
        """Starts the episode. Raises EpisodeFailed."""
        with episode_failures(self._number, None):
            frame, _ = self.env.reset(seed=seed)
            check_observation(frame, self._info)
            self._state = self.env.state() if self._info.state_dim else None
            check_state(self._state)
        self._stack.begin(frame)
        self._note()

    def observation(self) -> Frames:
        return self._stack.observation()

    def seen(self) -> Observation:
        """What the player is shown: the stacked frames, and the state where it sees one."""
        return self.observation() if self._state is None else beside_state(self.observation(), self._state)

    def step(self, action: Actions) -> bool:
        """Takes a step; returns whether the episode ended. Raises EpisodeFailed."""
        with episode_failures(self._number, self.episode.length + 1):
            frame, reward, terminated, truncated, success, self._state = checked_step(self.env, action, self._info)
        self._stack.add(frame)
        self.episode.episode_return += float(reward)
        self.episode.length += 1
        self.episode.success = success
        self._note()
        return terminated or truncated

    def _note(self) -> None:
        if self.episode.length > LONGEST_RECORD:
            return
        if self._keeps_frames and not self.episode.no_video:
            self._film()
        if self._keeps_observations:
            self.episode.observations.append(self.observation())

    def _film(self) -> None:
        try:
            self.episode.frames.append(self.env.render(VIDEO_SIZE, VIDEO_SIZE))
        except RAISED as error:
            reason = str(error) if isinstance(error, UserError) else f"drawing a frame raised {describe(error)}"
            self.episode.frames, self.episode.no_video = [], reason
