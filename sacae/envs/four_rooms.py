"""FourRooms-v0: four rooms with a goal. Importing this module registers it."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from sacae.envs.contract import Info
from sacae.errors import UserError

LAYOUT = (
    "#############",
    "#     #     #",
    "#     #     #",
    "#           #",
    "#     #     #",
    "#     #     #",
    "## ####     #",
    "#     ### ###",
    "#     #     #",
    "#     #     #",
    "#           #",
    "#     #     #",
    "#############",
)
"""Walls (#) and cells (Sutton, Precup and Singh 1999, "Between MDPs and semi-MDPs", fig. 2)."""

WALL = np.array([[mark == "#" for mark in row] for row in LAYOUT])
CELLS = np.argwhere(~WALL)
"""Row and column of each cell, int64 (104, 2); the cells are numbered row by row."""

NUM_CELLS, NUM_ACTIONS = len(CELLS), 4
MOVES = np.array([[-1, 0], [1, 0], [0, -1], [0, 1]])
"""Steps in row and column of each action: up, down, left, right."""

EAST_DOORWAY = 62
"""The cell of the doorway between the two rooms on the right."""

LOWER_RIGHT_ROOM = np.flatnonzero((CELLS[:, 0] >= 8) & (CELLS[:, 1] >= 6))
"""The cells of that room and of its western doorway, int64 (21,), as in the authors' code."""

SLIP = 1 / 3
"""Probability that a move fails and leads to a random neighbouring cell."""

LONGEST_EPISODE = 1000
"""Time limit of an episode, in steps."""

PIXELS_PER_CELL = 20


def _neighbours() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The tables NEXT (104, 4), AROUND (104, 4) and NUM_AROUND (104,)."""
    number = np.full(WALL.shape, -1)
    number[tuple(CELLS.T)] = np.arange(NUM_CELLS)
    reached = number[tuple((CELLS[:, None] + MOVES).transpose(2, 0, 1))]
    free = reached >= 0
    first = np.argsort(~free, axis=1, kind="stable")
    return np.where(free, reached, np.arange(NUM_CELLS)[:, None]), np.take_along_axis(reached, first, 1), free.sum(1)


NEXT, AROUND, NUM_AROUND = _neighbours()
"""Of each cell: the cell to which each action leads, itself at a wall; its neighbours, first in a row of 4; how many
neighbours it has."""


def move(cell: Any, action: Any, fails: Any, where: Any) -> NDArray[np.int64]:
    """The cell to which an action leads from a cell. All arguments: numbers, or arrays of one shape.

    fails: uniform draw from [0, 1) that decides whether the move fails.
    where: uniform draw from [0, 1) that decides to which neighbour a failed move leads.
    """
    astray = AROUND[cell, (where * NUM_AROUND[cell]).astype(np.int64)]
    return np.where(fails < SLIP, astray, NEXT[cell, action])


class FourRoomsEnv(gymnasium.Env):
    """A walk through four rooms to a goal. Reaching it has reward 1 and ends the episode.

    The observation is the cell's number, 0 to 103. The actions 0 to 3 move up, down, left or right. With probability
    1/3 a move fails and leads to a random neighbouring cell. A move against a wall stays in place. An episode starts in
    a random cell other than the goal.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, goal: int = EAST_DOORWAY, render_mode: str | None = None) -> None:
        """goal: the number of its cell. Raises UserError if there is no such cell."""
        self.observation_space = spaces.Discrete(NUM_CELLS)
        self.action_space = spaces.Discrete(NUM_ACTIONS)
        self.render_mode = render_mode
        self.goal = _as_goal(goal)
        self._cell = self.goal

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, Info]:
        """Starts an episode. Returns (cell, {}).

        options: "goal", if given, is the cell to which the goal moves. Raises UserError if there is no such cell.
        """
        super().reset(seed=seed)
        self.goal = _as_goal((options or {}).get("goal", self.goal))
        self._cell = int(start(self.goal, self.np_random.random()))
        return self._cell, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, Info]:
        """Moves. Returns (cell, reward, terminated, False, {}).

        Raises gymnasium.error.InvalidAction for any other action.
        """
        if not self.action_space.contains(action):
            raise gymnasium.error.InvalidAction(f"an action is 0 to {NUM_ACTIONS - 1}, but this one is {action!r}")
        self._cell = int(move(self._cell, action, *self.np_random.random(2)))
        terminated = self._cell == self.goal
        return self._cell, float(terminated), terminated, False, {}

    def render(self) -> NDArray[np.uint8]:
        """An image with grey walls, a green goal and the red agent, uint8 (260, 260, 3)."""
        image = np.where(WALL[..., None], 96, 255).repeat(3, axis=2).astype(np.uint8)
        image[tuple(CELLS[self.goal])] = 0, 160, 0
        image[tuple(CELLS[self._cell])] = 200, 0, 0
        return image.repeat(PIXELS_PER_CELL, axis=0).repeat(PIXELS_PER_CELL, axis=1)


def start(goal: Any, where: Any) -> NDArray[np.int64]:
    """The cell in which an episode starts, any but the goal. All arguments: numbers, or arrays of one shape.

    where: uniform draw from [0, 1) that decides the cell.
    """
    cell = np.asarray(where * (NUM_CELLS - 1)).astype(np.int64)
    return np.where(cell >= goal, cell + 1, cell)


def _as_goal(goal: Any) -> int:
    if goal not in range(NUM_CELLS):
        raise UserError(f"goal is {goal}, but it must be a cell from 0 to {NUM_CELLS - 1}; choose one of these")
    return int(goal)


gymnasium.register(
    "FourRooms-v0", f"{__name__}:{FourRoomsEnv.__name__}", max_episode_steps=LONGEST_EPISODE, reward_threshold=1.0
)
