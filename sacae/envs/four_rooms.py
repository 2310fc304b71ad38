"""FourRooms-v0: four rooms with a goal. The import of this module registers it."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

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
"""Walls and cells, numbered row by row (Sutton, Precup and Singh 1999, "Between MDPs and semi-MDPs", fig. 2)."""

WALL = np.array([[mark == "#" for mark in row] for row in LAYOUT])
CELLS = np.argwhere(~WALL)
"""Row and column of each cell, int64 (104, 2)."""

NUM_CELLS, NUM_ACTIONS = len(CELLS), 4
MOVES = np.array([[-1, 0], [1, 0], [0, -1], [0, 1]])
"""Up, down, left, right."""

EAST_DOORWAY = 62
LOWER_RIGHT_ROOM = np.flatnonzero((CELLS[:, 0] >= 8) & (CELLS[:, 1] >= 6))
"""The cells of that room and of its western doorway, int64 (21,), as in the authors' experiment."""

SLIP = 1 / 3
"""Probability that a move fails."""

LONGEST_EPISODE = 1000
"""Steps after which an episode is cut off."""

PIXELS_PER_CELL = 20


def _neighbours() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each move leads, (104, 4), a wall leaving one where one is; the free cells around, first in a row of 4, and
    how many they are, (104,)."""
    number = np.full(WALL.shape, -1)
    number[tuple(CELLS.T)] = np.arange(NUM_CELLS)
    reached = number[tuple((CELLS[:, None] + MOVES).transpose(2, 0, 1))]
    free = reached >= 0
    first = np.argsort(~free, axis=1, kind="stable")
    return np.where(free, reached, np.arange(NUM_CELLS)[:, None]), np.take_along_axis(reached, first, 1), free.sum(1)


NEXT, AROUND, NUM_AROUND = _neighbours()


def move(cell: Any, action: Any, fails: Any, where: Any) -> Any:
    """Where a move from a cell leads; integers or arrays of them.

    fails, where: uniform draws from [0, 1), whether the move fails and to which of the free cells around it leads then.
    """
    astray = AROUND[cell, (where * NUM_AROUND[cell]).astype(np.int64)]
    return np.where(fails < SLIP, astray, NEXT[cell, action])


class FourRoomsEnv(gymnasium.Env):
    """A walk through four rooms to a goal, which pays 1 and ends the episode.

    Observed is the cell's number, 0 to 103. A move up, down, left or right fails with probability 1/3, and then leads
    to any of the free cells around; one against a wall stays. An episode starts in any cell but the goal.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, goal: int = EAST_DOORWAY, render_mode: str | None = None) -> None:
        """goal: number of the goal's cell. Raises UserError where there is no such cell."""
        self.observation_space = spaces.Discrete(NUM_CELLS)
        self.action_space = spaces.Discrete(NUM_ACTIONS)
        self.render_mode = render_mode
        self.goal = _as_goal(goal)
        self._cell = self.goal

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict]:
        """Starts an episode. Returns (cell, {}).

        options: may have "goal", the cell to which the goal moves. Raises UserError where there is no such cell.
        """
        super().reset(seed=seed)
        self.goal = _as_goal((options or {}).get("goal", self.goal))
        self._cell = int(start(self.goal, self.np_random.random()))
        return self._cell, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict]:
        """Moves; returns (cell, reward, terminated, False, {}).

        Raises gymnasium.error.InvalidAction where the action is none of the four.
        """
        if not self.action_space.contains(action):
            raise gymnasium.error.InvalidAction(f"an action is 0 to {NUM_ACTIONS - 1}, but this one is {action!r}")
        self._cell = int(move(self._cell, action, *self.np_random.random(2)))
        terminated = self._cell == self.goal
        return self._cell, float(terminated), terminated, False, {}

    def render(self) -> np.ndarray:
        """Walls grey, the goal green, the walker red; uint8 (260, 260, 3)."""
        image = np.where(WALL[..., None], 96, 255).repeat(3, axis=2).astype(np.uint8)
        image[tuple(CELLS[self.goal])] = 0, 160, 0
        image[tuple(CELLS[self._cell])] = 200, 0, 0
        return image.repeat(PIXELS_PER_CELL, axis=0).repeat(PIXELS_PER_CELL, axis=1)


def start(goal: Any, where: Any) -> Any:
    """The cell in which an episode starts, any but the goal; where: uniform draws from [0, 1). Integers or arrays."""
    cell = np.asarray(where * (NUM_CELLS - 1)).astype(np.int64)
    return cell + (cell >= goal)


def _as_goal(goal: Any) -> int:
    if goal not in range(NUM_CELLS):
        raise UserError(f"goal is {goal}, but it must be a cell from 0 to {NUM_CELLS - 1}; choose one of these")
    return int(goal)


gymnasium.register(
    "FourRooms-v0", f"{__name__}:{FourRoomsEnv.__name__}", max_episode_steps=LONGEST_EPISODE, reward_threshold=1.0
)
