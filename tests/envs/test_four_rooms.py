"""FourRooms-v0."""

import gymnasium
import numpy as np
import pytest

from sacae.envs import four_rooms
from sacae.envs.four_rooms import CELLS, EAST_DOORWAY, LOWER_RIGHT_ROOM, NUM_CELLS, move, start
from sacae.errors import UserError

ID = "FourRooms-v0"
UP, DOWN, LEFT, RIGHT = range(4)
HOLDS, FAILS = 0.5, 0.2  # draws of a move that succeeds, and of one that fails


def at(row, column):
    """A cell's number."""
    return int(np.flatnonzero((CELLS[:, 0] == row) & (CELLS[:, 1] == column))[0])


def test_cells_are_numbered_as_in_the_paper():
    assert NUM_CELLS == 104
    assert CELLS[EAST_DOORWAY].tolist() == [7, 9]
    assert LOWER_RIGHT_ROOM.tolist() == [68, 69, 70, 71, 72, 78, 79, 80, 81, 82, *range(88, 94), *range(99, 104)]


@pytest.mark.parametrize(("action", "to"), [(UP, (2, 3)), (DOWN, (4, 3)), (LEFT, (3, 2)), (RIGHT, (3, 4))])
def test_a_move_that_succeeds_leads_to_the_next_cell(action, to):
    assert move(at(3, 3), action, HOLDS, 0.9) == at(*to)


def test_a_move_against_a_wall_stays():
    assert move(at(1, 1), UP, HOLDS, 0.0) == move(at(1, 1), LEFT, HOLDS, 0.0) == at(1, 1)
    assert move(at(7, 9), LEFT, HOLDS, 0.0) == at(7, 9)


def test_a_move_that_fails_leads_to_any_free_cell_around():
    corner = [int(move(at(1, 1), UP, FAILS, where)) for where in np.arange(0, 1, 0.05)]
    assert sorted(set(corner)) == sorted([at(1, 2), at(2, 1)])
    assert corner.count(at(1, 2)) == corner.count(at(2, 1)) == 10
    doorway = {int(move(at(7, 9), LEFT, FAILS, where)) for where in np.arange(0, 1, 0.05)}
    assert doorway == {at(6, 9), at(8, 9)}
    middle = {int(move(at(3, 3), UP, FAILS, where)) for where in np.arange(0, 1, 0.05)}
    assert middle == {at(2, 3), at(4, 3), at(3, 2), at(3, 4)}


def test_a_third_of_all_moves_fails():
    rng = np.random.default_rng(0)
    cells = move(np.full(30_000, at(3, 3)), np.full(30_000, UP), *rng.random((2, 30_000)))
    # Up also comes about by failing, one time in four.
    assert np.mean(cells == at(2, 3)) == pytest.approx(2 / 3 + 1 / 12, abs=0.01)
    assert np.mean(cells == at(4, 3)) == pytest.approx(1 / 12, abs=0.01)


def test_an_episode_starts_anywhere_but_at_the_goal():
    cells = start(np.full(103, 62), np.arange(103) / 103 + 1e-9)
    assert cells.tolist() == [cell for cell in range(104) if cell != 62]


def test_the_goal_pays_one_and_ends_the_episode_and_nothing_else_pays():
    env = gymnasium.make(ID)
    rng, total = np.random.default_rng(0), 0
    cell, _ = env.reset(seed=0)
    for _ in range(3000):
        cell, reward, terminated, truncated, _ = env.step(int(rng.integers(4)))
        assert (reward == 1) == terminated == (cell == EAST_DOORWAY)
        total += terminated
        if terminated or truncated:
            env.reset()
    assert total > 3


def test_the_goal_moves_where_a_reset_says_so_and_stays_there():
    env = gymnasium.make(ID, goal=5).unwrapped
    env.reset(seed=0)
    assert env.goal == 5
    env.reset(options={"goal": 70})
    env.reset()
    assert env.goal == 70
    for goal in (104, -1, 2.5):
        with pytest.raises(UserError, match=f"goal is {goal}"):
            env.reset(options={"goal": goal})


@pytest.mark.parametrize("action", [4, -1, 0.5])
def test_an_action_that_there_is_not_is_refused(action):
    env = gymnasium.make(ID).unwrapped
    env.reset(seed=0)
    with pytest.raises(gymnasium.error.InvalidAction, match="an action is 0 to 3"):
        env.step(action)


def test_it_draws_walls_goal_and_walker():
    env = gymnasium.make(ID, render_mode="rgb_array")
    cell, _ = env.reset(seed=0)
    image = env.render()
    assert (image.dtype, image.shape) == (np.uint8, (260, 260, 3))
    small = image[::20, ::20]
    assert (small[four_rooms.WALL] == 96).all()
    assert small[tuple(CELLS[EAST_DOORWAY])].tolist() == [0, 160, 0]
    assert small[tuple(CELLS[cell])].tolist() == [200, 0, 0]
