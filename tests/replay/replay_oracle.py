"""A replay that keeps every transition whole, stacks included: slow, wasteful, and plain enough to be trusted.

And what plays the same random episodes into it and into FrameReplay, and compares them.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st

from sacae.replay import FrameReplay
from sacae.types import Batch, EnvSpec

PIXELS = EnvSpec((3, 4, 4), "uint8", 3, 2)

many_examples = settings(max_examples=150)
"""Settings of the property tests."""

ALPHABET = 251
"""Frames are told apart by a counter modulo this prime, spread over their pixels."""


@dataclass
class Episode:
    """frames[i + 1] followed actions[i]; first_row is the number, in its stream, of the row that holds frames[0].

    states[i] is that of frames[i]; None where the replay keeps none.
    """

    first_row: int
    frames: list[np.ndarray]
    states: list[np.ndarray | None]
    actions: list[np.ndarray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    terminated: list[bool] = field(default_factory=list)
    over: bool = False

    def stack(self, at: int, frame_stack: int) -> np.ndarray:
        """The frame at `at` and those before it, the first repeated."""
        padded = [self.frames[0]] * (frame_stack - 1) + self.frames
        return np.concatenate(padded[at : at + frame_stack])


class NaiveReplay:
    """What FrameReplay promises, written down directly. Forgets nothing; eviction is a rule on row numbers."""

    def __init__(self, spec: EnvSpec, num_streams: int, n_step: int, discount: float, rows_per_stream: int):
        self.spec, self.n_step, self.discount, self.rows_per_stream = spec, n_step, discount, rows_per_stream
        self.episodes: list[list[Episode]] = [[] for _ in range(num_streams)]
        self.rows = [0] * num_streams

    def begin(self, stream: int, frame: np.ndarray, state: np.ndarray | None = None) -> None:
        if self.episodes[stream]:
            self.episodes[stream][-1].over = True
        self.episodes[stream].append(Episode(self.rows[stream], [frame.copy()], [state]))
        self.rows[stream] += 1

    def add(self, stream, action, reward, terminated, truncated, frame, state=None) -> None:
        episode = self.episodes[stream][-1]
        assert not episode.over
        episode.frames.append(frame.copy())
        episode.states.append(state)
        episode.actions.append(action)
        episode.rewards.append(reward)
        episode.terminated.append(terminated)
        episode.over = terminated or truncated
        self.rows[stream] += 1

    def transitions(self) -> list[tuple[np.ndarray, ...]]:
        """The fields of Batch of all that may be sampled: stream after stream, oldest first."""
        return [
            self._transition(episode, at)
            for stream, episodes in enumerate(self.episodes)
            for episode in episodes
            for at in range(len(episode.actions))
            if self._may_be_sampled(stream, episode, at)
        ]

    def _may_be_sampled(self, stream: int, episode: Episode, at: int) -> bool:
        complete = episode.over or at + self.n_step <= len(episode.actions)
        oldest_of_stack = episode.first_row + max(0, at - self.spec.frame_stack + 1)
        return complete and oldest_of_stack >= self.rows[stream] - self.rows_per_stream

    def _transition(self, episode: Episode, at: int) -> tuple[np.ndarray, ...]:
        steps = min(self.n_step, len(episode.actions) - at)
        reward = sum((self.discount**i * episode.rewards[at + i] for i in range(steps)), 0.0)
        discount = 0.0 if episode.terminated[at + steps - 1] else self.discount**steps
        return (
            episode.stack(at, self.spec.frame_stack),
            episode.actions[at],
            np.array([reward], np.float32),
            np.array([discount], np.float32),
            episode.stack(at + steps, self.spec.frame_stack),
            *([episode.states[at]] if self.spec.state_dim else []),
        )


class EveryRow:
    """Stands in for a random generator: draws each index once, in order."""

    def integers(self, high: int, size: int) -> np.ndarray:
        assert high == size
        return np.arange(size)


def make_frame(spec: EnvSpec, counter: int) -> np.ndarray:
    """A frame unlike those of other counters."""
    size = int(np.prod(spec.frame_shape))
    values = (counter * 7 + np.arange(size) * (counter // ALPHABET + 1)) % ALPHABET
    return values.reshape(spec.frame_shape).astype(spec.frame_dtype)


def make_action(spec: EnvSpec, counter: int) -> np.ndarray:
    """An action unlike those of other counters, as far as there are others."""
    if spec.num_actions is None:
        return np.linspace(-1, 1, spec.action_dim, dtype=np.float32) * (counter % 97)
    return (counter + np.arange(spec.action_dim)) % spec.num_actions


def make_state(spec: EnvSpec, counter: int) -> np.ndarray | None:
    """A state unlike those of other counters, where the specification has one."""
    return counter + np.arange(spec.state_dim, dtype=np.float32) / 8 if spec.state_dim else None


def columns(batch: Batch) -> dict[str, torch.Tensor]:
    """The fields of a batch that are there."""
    return {name: column for name, column in batch._asdict().items() if column is not None}


def assert_equal(replay, oracle: NaiveReplay) -> None:
    """Everything that may be sampled is the oracle's, bit for bit and in its order."""
    expected = oracle.transitions()
    assert len(replay) == len(expected)
    if expected:
        batch = columns(replay.sample(len(expected), EveryRow()))
        for (name, column), wanted in zip(batch.items(), zip(*expected, strict=True), strict=True):
            np.testing.assert_array_equal(column.numpy(), np.stack(wanted), err_msg=name, strict=True)


def assert_same_batches(first, second, seed: int = 0) -> None:
    """Equal generators draw bit-identical batches from both replays."""
    assert len(first) == len(second)
    if len(first):
        one, other = (columns(replay.sample(16, np.random.default_rng(seed))) for replay in (first, second))
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name].numpy(), other[name].numpy(), strict=True)


@st.composite
def layouts(draw):
    """Settings of a replay, small enough to go round often."""
    return {
        "spec": draw(
            st.one_of(
                st.builds(EnvSpec, st.just((1, 2, 2)), st.just("uint8"), st.integers(1, 4), st.just(2)),
                st.builds(EnvSpec, st.just((3,)), st.just("float32"), st.integers(1, 4), st.just(1)),
                st.builds(EnvSpec, st.just((3,)), st.just("float32"), st.integers(1, 4), st.just(2), st.just(5)),
                st.builds(
                    EnvSpec,
                    st.just((1, 2, 2)),
                    st.just("uint8"),
                    st.integers(1, 4),
                    st.just(2),
                    st.just(None),
                    st.integers(1, 3),
                ),
            )
        ),
        "capacity": draw(st.integers(1, 25)),
        "num_streams": draw(st.integers(1, 3)),
        "n_step": draw(st.integers(1, 5)),
        "discount": draw(st.sampled_from([0.0, 0.9, 0.99, 1.0])),
        "episode_length": draw(st.sampled_from([None, 1, 2, 7])),
    }


EPISODE = st.tuples(st.integers(0, 2), st.integers(0, 12), st.sampled_from(["terminated", "truncated", "cut off"]))


def pair(layout):
    """A replay and the oracle for it."""
    replay = FrameReplay(**layout)
    oracle = NaiveReplay(
        layout["spec"], layout["num_streams"], layout["n_step"], layout["discount"], replay.plan.rows_per_stream
    )
    return replay, oracle


class Player:
    """Plays the same episodes into several replays; every frame, state, action and reward differs from all others."""

    def __init__(self, spec, *replays):
        self.spec, self.replays, self.counter = spec, replays, 0

    def seen(self):
        """A frame, and its state where there is one."""
        self.counter += 1
        return make_frame(self.spec, self.counter), make_state(self.spec, self.counter)

    def begin(self, stream):
        frame, state = self.seen()
        for replay in self.replays:
            replay.begin(stream, frame, state)

    def step(self, stream, terminated=False, truncated=False):
        frame, state = self.seen()
        action = make_action(self.spec, self.counter)
        for replay in self.replays:
            replay.add(stream, action, 0.1 * self.counter, terminated, truncated, frame, state)

    def episode(self, stream, length, end):
        self.begin(stream)
        for i in range(length):
            last = i == length - 1
            self.step(stream, last and end == "terminated", last and end == "truncated")
