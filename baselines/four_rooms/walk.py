"""Runs an agent through four rooms, all seeds in parallel. Symbols: S = seeds, E = episodes, C = cells, W = options."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.four_rooms.tables import Agent, Uniform
from sacae.envs import four_rooms
from sacae.envs.four_rooms import EAST_DOORWAY, LONGEST_EPISODE, LOWER_RIGHT_ROOM, NUM_CELLS

WATCHED = 200
"""Episodes at the end of each half that count for where each option is active."""


class Streams:
    """A random stream for each seed, so that a seed's run does not depend on the other seeds."""

    BLOCK = 512
    """Steps whose numbers are drawn at once."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self.generators = [np.random.default_rng(seed) for seed in seeds]
        self._block: NDArray[np.float64] = np.empty((0, 0, 0))
        self._used = self.BLOCK

    def next(self, rows: NDArray[Any]) -> Uniform:
        """The next numbers of the seeds in `rows`, (N,). The streams of all seeds advance."""
        if self._used == self.BLOCK:
            shape = self.BLOCK, len(Uniform._fields)
            self._block = np.stack([generator.random(shape) for generator in self.generators], -1)
            self._used = 0
        self._used += 1
        return Uniform(*self._block[self._used - 1][:, rows])


class Walk(NamedTuple):
    """The runs of an agent's S seeds.

    steps: length of each episode, int64 (S, E).
    goal: the cell to which the goal moves, int64 (S,).
    visits: how often each option was active in each cell, in the last WATCHED episodes before the goal moves and in the
        last WATCHED after it, or in as many as there are, int64 (2, S, C, W).
    """

    steps: NDArray[Any]
    goal: NDArray[Any]
    visits: NDArray[Any]


def walk(agent: Agent, num_options: int, seeds: Sequence[int], episodes: int, switch: int) -> Walk:
    """Runs an agent for `episodes` episodes of each seed. Each ends at the goal or after LONGEST_EPISODE steps.

    switch: episodes before the goal moves.
    """
    count, streams = len(seeds), Streams(seeds)
    second_goal = np.array([generator.choice(LOWER_RIGHT_ROOM) for generator in streams.generators])
    steps = np.zeros((count, episodes), np.int64)
    visits = np.zeros((2, count, NUM_CELLS, num_options), np.int64)
    episode, length = np.zeros((2, count), np.int64)
    cell, starts = np.zeros(count, np.int64), np.ones(count, bool)
    while len(rows := np.flatnonzero(episode < episodes)):
        uniform = streams.next(rows)
        goal = np.where(episode[rows] < switch, EAST_DOORWAY, second_goal[rows])
        new = np.flatnonzero(starts[rows])
        if len(new):
            cell[rows[new]] = four_rooms.start(goal[new], uniform.start[new])
            agent.begin(rows[new], cell[rows[new]], uniform.first[new])
        here = cell[rows]
        _count_visits(visits, rows, episode[rows], episodes, switch, here, agent.option[rows])
        action = agent.act(rows, here, uniform)
        there = four_rooms.move(here, action, uniform.fails, uniform.where)
        reached = there == goal
        agent.learn(rows, here, action, reached.astype(float), there, (~reached).astype(float), uniform)
        cell[rows], length[rows] = there, length[rows] + 1
        # The time limit ends the episode, but is not terminal: the update above bootstraps from the next cell's value.
        over = reached | (length[rows] == LONGEST_EPISODE)
        starts[rows] = over
        ended = rows[over]
        steps[ended, episode[ended]] = length[ended]
        episode[ended] += 1
        length[ended] = 0
    return Walk(steps, second_goal, visits)


def _count_visits(
    visits: NDArray[Any],
    rows: NDArray[Any],
    episode: NDArray[Any],
    episodes: int,
    switch: int,
    cell: NDArray[Any],
    option: NDArray[Any],
) -> None:
    for half, (first, end) in enumerate(((0, switch), (switch, episodes))):
        watched = (episode >= max(first, end - WATCHED)) & (episode < end)
        visits[half, rows[watched], cell[watched], option[watched]] += 1
