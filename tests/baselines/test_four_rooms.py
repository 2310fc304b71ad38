"""The tables of four rooms: gradients, updates, the walk of many seeds, and what is written down."""

import csv
import gzip
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from baselines.four_rooms import evaluation
from baselines.four_rooms import walk as walking
from baselines.four_rooms.command import PROG, main
from baselines.four_rooms.evaluation import fewest_steps, moving_average, recovery
from baselines.four_rooms.pictures import write_curve
from baselines.four_rooms.tables import (
    OptionCriticTables,
    SarsaTables,
    TableConfig,
    Uniform,
    draw,
    log_policy_gradient,
    sigmoid,
    softmax,
    termination_gradient,
)
from baselines.four_rooms.walk import Streams, walk
from sacae import cli
from sacae.envs import four_rooms
from sacae.envs.four_rooms import EAST_DOORWAY, LOWER_RIGHT_ROOM, NUM_CELLS

WIDTH = 1e-6
ROWS = np.array([0])


def uniform(**given):
    """Draws for one seed, 0.5 unless given."""
    return Uniform(**{name: np.array([given.get(name, 0.5)]) for name in Uniform._fields})


# Gradients.


def test_gradients_are_those_of_finite_differences():
    rng = np.random.default_rng(0)
    preferences, action, temperature = rng.normal(size=(5, 4)), rng.integers(4, size=5), 0.3
    gradient = log_policy_gradient(preferences, action, temperature)
    for i in range(4):
        values = []
        for sign in (1, -1):
            moved = preferences.copy()
            moved[:, i] += sign * WIDTH
            values.append(np.log(softmax(moved / temperature)[np.arange(5), action]))
        assert np.allclose(gradient[:, i], (values[0] - values[1]) / (2 * WIDTH), atol=1e-7)
    x = rng.normal(size=9)
    slopes = (sigmoid(x + WIDTH) - sigmoid(x - WIDTH)) / (2 * WIDTH)
    assert np.allclose(termination_gradient(sigmoid(x)), slopes, atol=1e-9)


class SmallWorld:
    """Three states, two options, two actions, of which all probabilities are random and known.

    An episode begins in state 0 with option 0; policy over options `over`, discount 0.9, no end.
    """

    STATES, OPTIONS, ACTIONS, DISCOUNT = 3, 2, 2, 0.9

    def __init__(self):
        rng = np.random.default_rng(1)
        self.transition = rng.dirichlet(np.ones(self.STATES), (self.STATES, self.ACTIONS))
        self.reward = rng.normal(size=(self.STATES, self.ACTIONS))
        self.over = rng.dirichlet(np.ones(self.OPTIONS), self.STATES)
        self.preferences = rng.normal(size=(self.STATES, self.OPTIONS, self.ACTIONS))
        self.terminations = rng.normal(size=(self.STATES, self.OPTIONS))

    def solve(self):
        """pi (s, w, a), beta (s, w), values Q_Omega (s, w) and Q_U (s, w, a), and the chain of pairs (s, w)."""
        pi = softmax(self.preferences.reshape(-1, self.ACTIONS)).reshape(self.preferences.shape)
        beta = sigmoid(self.terminations)
        # What follows on arrival: the same option, or one chosen anew.
        arrival = np.einsum("sw,wv->swv", 1 - beta, np.eye(self.OPTIONS)) + np.einsum("sw,sv->swv", beta, self.over)
        chain = np.einsum("swa,sat,twv->swtv", pi, self.transition, arrival)
        size = self.STATES * self.OPTIONS
        flat = chain.reshape(size, size)
        expected = np.einsum("swa,sa->sw", pi, self.reward).ravel()
        q = np.linalg.solve(np.eye(size) - self.DISCOUNT * flat, expected).reshape(self.STATES, self.OPTIONS)
        on_arrival = np.einsum("twv,tv->tw", arrival, q)
        action_q = self.reward[:, None] + self.DISCOUNT * np.einsum("sat,tw->swa", self.transition, on_arrival)
        visits = np.linalg.inv(np.eye(size) - self.DISCOUNT * flat)[0].reshape(self.STATES, self.OPTIONS)
        return pi, beta, q, action_q, visits

    def value_slopes(self, parameter):
        """The gradient of Q_Omega(s0, w0) by central differences."""
        slopes, flat = np.zeros_like(parameter), parameter.reshape(-1)
        for i, before in enumerate(flat.copy()):
            values = []
            for sign in (1, -1):
                flat[i] = before + sign * WIDTH
                values.append(self.solve()[2][0, 0])
            flat[i] = before
            slopes.reshape(-1)[i] = (values[0] - values[1]) / (2 * WIDTH)
        return slopes


def test_theorem_1_holds_for_the_policys_gradient():
    """sum over (s, w) of their discounted visits, times sum_a pi(a) grad log pi(a) (Q_U(a) - Q_Omega)."""
    world = SmallWorld()
    pi, _, q, action_q, visits = world.solve()
    expected = np.zeros_like(world.preferences)
    for s in range(world.STATES):
        for a in range(world.ACTIONS):
            gradient = log_policy_gradient(world.preferences[s], np.full(world.OPTIONS, a), 1.0)
            advantage = action_q[s, :, a] - q[s]
            expected[s] += (visits[s] * pi[s, :, a] * advantage)[:, None] * gradient
    assert np.allclose(world.value_slopes(world.preferences), expected, atol=1e-7)


def test_theorem_2_holds_for_the_terminations_gradient():
    """minus sum over arrivals (s', w) of their discounted visits, times grad beta (Q_Omega(s', w) - V(s'))."""
    world = SmallWorld()
    pi, beta, q, _, visits = world.solve()
    arrivals = world.DISCOUNT * np.einsum("sw,swa,sat->tw", visits, pi, world.transition)
    advantage = q - (world.over * q).sum(-1, keepdims=True)
    expected = -arrivals * termination_gradient(beta) * advantage
    assert np.allclose(world.value_slopes(world.terminations), expected, atol=1e-7)


def test_draws_follow_their_probabilities():
    probabilities = np.array([[0.2, 0.0, 0.5, 0.3]] * 5)
    assert draw(probabilities, np.array([0.0, 0.19, 0.21, 0.69, 0.99999999])).tolist() == [0, 0, 2, 2, 3]
    # Probabilities that rounding leaves below 1 in sum still give a choice.
    assert draw(np.array([[0.3, 0.3, 0.3]]), np.array([0.95])).tolist() == [2]


# Updates, worked out by hand.


def test_an_update_of_option_critic_is_that_of_its_equations():
    """From cell 3 to cell 4 with option 1 of 2, action 2, reward 0; gamma = 0.5, step sizes 0.5, 0.2, 0.4, T = 2."""
    config = TableConfig(2, 0.5, critic_lr=0.5, policy_lr=0.2, termination_lr=0.4, temperature=2.0, termination_reg=0.1)
    agent = OptionCriticTables(1, 2, config)
    agent.option[0] = 1
    agent.q[0, 3], agent.q[0, 4], agent.action_q[0, 3, 1, 2] = (0.2, 1.0), (3.0, 2.0), 4.0
    agent.preferences[0, 3, 1] = (0.0, 0.0, 2.0, 0.0)
    beta = 1 / (1 + np.exp(-1.0))
    agent.terminations[0, 4, 1] = 1.0
    agent.learn(ROWS, np.array([3]), np.array([2]), np.array([0.0]), np.array([4]), np.array([1.0]), uniform(ends=0.99))
    target = 0.5 * ((1 - beta) * 2.0 + beta * 3.0)
    q, action_q = 1.0 + 0.5 * (target - 1.0), 4.0 + 0.5 * (target - 4.0)
    assert agent.q[0, 3].tolist() == pytest.approx([0.2, q])
    assert agent.action_q[0, 3, 1, 2] == pytest.approx(action_q)
    pi = np.exp([0, 0, 1, 0]) / np.exp([0, 0, 1, 0]).sum()
    step = 0.2 * (action_q - q) * (np.array([0, 0, 1, 0]) - pi)
    assert agent.preferences[0, 3, 1].tolist() == pytest.approx((np.array([0, 0, 2, 0]) + step).tolist())
    assert agent.terminations[0, 4, 1] == pytest.approx(1.0 - 0.4 * beta * (1 - beta) * (2.0 - 3.0 + 0.1))
    assert agent.option[0] == 1  # the draw was above beta
    changed = [np.count_nonzero(table) for table in (agent.action_q, agent.preferences, agent.terminations)]
    assert changed == [1, 4, 1]


def test_nothing_follows_the_goal():
    agent = OptionCriticTables(1, 2, TableConfig(2))
    agent.option[0], agent.q[0, 4] = 1, (3.0, 2.0)
    agent.learn(ROWS, np.array([3]), np.array([0]), np.array([1.0]), np.array([4]), np.array([0.0]), uniform())
    assert agent.q[0, 3, 1] == agent.action_q[0, 3, 1, 0] == 0.5
    assert (agent.terminations == 0).all()
    sarsa = SarsaTables(1, TableConfig())
    sarsa.q[0, 4] = 5.0
    sarsa.learn(ROWS, np.array([3]), np.array([0]), np.array([1.0]), np.array([4]), np.array([0.0]), uniform())
    assert sarsa.q[0, 3, 0] == 0.5


def test_an_option_that_ends_makes_way_for_one_chosen_by_its_value():
    agent = OptionCriticTables(1, 2, TableConfig(2, temperature=0.01))
    agent.q[0, 4] = 0.0, 1.0
    agent.learn(ROWS, np.array([3]), np.array([0]), np.array([0.0]), np.array([4]), np.array([1.0]), uniform(ends=0.4))
    assert agent.option[0] == 1
    agent.begin(ROWS, np.array([4]), np.array([0.5]))
    assert agent.option[0] == 1


def test_one_option_learns_the_same_whether_or_not_it_ends():
    """With one option beta is of no consequence: it is an actor-critic."""
    tables = []
    for x in (-3.0, 3.0):
        agent = OptionCriticTables(1, 1, TableConfig(1))
        agent.terminations[:], agent.q[0, 4] = x, 0.7
        agent.learn(ROWS, np.array([3]), np.array([2]), np.array([0.0]), np.array([4]), np.array([1.0]), uniform())
        tables.append((agent.q.copy(), agent.preferences.copy()))
    for ours, theirs in zip(*tables):
        assert np.allclose(ours, theirs)


def test_sarsa_learns_from_the_action_that_it_takes_next():
    agent = SarsaTables(1, TableConfig(discount=0.5, critic_lr=0.5, temperature=1.0))
    agent.q[0, 3, 1], agent.q[0, 4] = 2.0, (1.0, 2.0, 3.0, 4.0)
    here = uniform(action=0.999)  # the last action
    agent.learn(ROWS, np.array([3]), np.array([1]), np.array([1.0]), np.array([4]), np.array([1.0]), here)
    assert agent.act(ROWS, np.array([4]), uniform(action=0.0)).tolist() == [3]
    assert agent.q[0, 3, 1] == 2.0 + 0.5 * (1.0 + 0.5 * 4.0 - 2.0)


# The walk.


def make(count, config=None):
    config = config or TableConfig(2)
    return [OptionCriticTables(count, 2, config), SarsaTables(count, config)]


def test_a_seed_does_the_same_whoever_walks_beside_it():
    for alone, together in zip(make(1), make(3)):
        options = 1 if isinstance(alone, SarsaTables) else 2
        first, both = (walk(agent, options, seeds, 6, 3) for agent, seeds in ((alone, [8]), (together, [7, 8, 9])))
        assert first.steps[0].tolist() == both.steps[1].tolist()
        assert first.goal[0] == both.goal[1]
        assert np.array_equal(first.visits[:, 0], both.visits[:, 1])
        assert len({tuple(steps) for steps in both.steps.tolist()}) == 3


def test_an_episode_lasts_until_the_goal_which_moves_or_the_limit(monkeypatch):
    monkeypatch.setattr(walking, "LONGEST_EPISODE", 30)
    agent = SarsaTables(2, TableConfig())
    seen, learn = [], agent.learn

    def watched(rows, cell, action, reward, next_cell, alive, draws):
        seen.extend(zip(rows.tolist(), cell.tolist(), next_cell.tolist(), reward.tolist(), alive.tolist()))
        learn(rows, cell, action, reward, next_cell, alive, draws)

    agent.learn = watched
    told = walk(agent, 1, [1, 2], 8, 4)
    assert set(told.goal.tolist()) <= {*LOWER_RIGHT_ROOM.tolist()}
    for seed in (0, 1):
        steps = [entry for entry in seen if entry[0] == seed]
        assert len(steps) == told.steps[seed].sum()
        at = 0
        for episode, length in enumerate(told.steps[seed].tolist()):
            goal = EAST_DOORWAY if episode < 4 else told.goal[seed]
            mine = steps[at : at + length]
            at += length
            assert 1 <= length <= 30
            assert mine[0][1] != goal
            assert all(before[2] == after[1] for before, after in zip(mine, mine[1:]))
            assert all((there == goal) == (reward == 1) == (alive == 0) for _, _, there, reward, alive in mine)
            assert length == 30 or mine[-1][2] == goal
            assert all(there != goal for _, _, there, _, _ in mine[:-1])


@pytest.mark.parametrize("kind", [OptionCriticTables, SarsaTables])
def test_what_an_episodes_first_step_chooses_does_not_depend_on_what_began_it(kind):
    agent = kind(2000, *[4] * (kind is OptionCriticTables), TableConfig(4))
    first, second = [], []
    begin, learn = agent.begin, agent.learn

    def begins(rows, cell, number):
        begin(rows, cell, number)
        first.append(chosen(agent).copy())

    def learns(*step):
        learn(*step)
        if not second:
            second.append(chosen(agent).copy())

    agent.begin, agent.learn = begins, learns
    chosen = (lambda of: of.option) if kind is OptionCriticTables else (lambda of: of.action)
    if kind is OptionCriticTables:
        agent.terminations[:] = 50.0  # every option ends at once
    walk(agent, 4, range(2000), 1, 1)
    assert 0.2 < (first[0] == second[0]).mean() < 0.3


def test_visits_are_counted_in_the_last_episodes_of_each_half(monkeypatch):
    monkeypatch.setattr(walking, "WATCHED", 2)
    told = walk(OptionCriticTables(2, 2, TableConfig(2)), 2, [1, 2], 5, 4)
    for half, episodes in enumerate((slice(2, 4), slice(4, 5))):
        assert told.visits[half].sum((1, 2)).tolist() == told.steps[:, episodes].sum(1).tolist()


def test_streams_do_not_depend_on_which_seeds_still_walk():
    some, all_of_them = Streams([3, 4]), Streams([3, 4])
    for _ in range(1100):
        ours, theirs = some.next(np.array([1])), all_of_them.next(np.array([0, 1]))
    assert [x.item() for x in ours] == [x[1].item() for x in theirs]
    assert len({x.item() for x in ours}) == len(Uniform._fields)


# What is written down.


def test_the_fewest_steps_are_those_of_the_best_policy():
    """Played out with the best policy by value iteration; a goal in a corner is further than one in the middle."""
    assert 1 < fewest_steps(EAST_DOORWAY) < fewest_steps(0)
    rng = np.random.default_rng(0)
    steps = distances(EAST_DOORWAY)
    lengths = []
    cells = four_rooms.start(np.full(4000, EAST_DOORWAY), rng.random(4000))
    for length in range(1, 400):
        action = steps[four_rooms.NEXT[cells]].argmin(1)
        cells = four_rooms.move(cells, action, *rng.random((2, len(cells))))
        lengths += [length] * int((cells == EAST_DOORWAY).sum())
        cells = cells[cells != EAST_DOORWAY]
    assert len(lengths) == 4000
    assert np.mean(lengths) == pytest.approx(fewest_steps(EAST_DOORWAY), rel=0.04)


def distances(goal):
    """Moves to the goal from each cell, were there no slips: the best policy goes down them."""
    result = np.full(NUM_CELLS, np.inf)
    result[goal] = 0
    for _ in range(NUM_CELLS):
        result = np.minimum(result, 1 + result[four_rooms.NEXT].min(1))
    return result


def test_recovery_is_counted_from_the_moment_the_goal_moves(monkeypatch):
    monkeypatch.setattr(evaluation, "WINDOW", 2)
    good = fewest_steps(70) * 1.9
    steps = np.full((3, 10), 900.0)
    steps[:, :4] = good  # before the goal moves
    steps[0, 6:], steps[1, 4:] = good, good
    found = recovery(steps, np.array([70, 70, 70]), 4)
    assert found[:2].tolist() == [2, 0]
    assert np.isnan(found[2])
    assert moving_average(np.array([[1.0, 3.0, 5.0]])).tolist() == [[2, 4]]


def test_the_command_writes_tables_and_pictures_once(tmp_path, capsys):
    argv = ["--out", str(tmp_path / "out"), "--seeds", "2", "--first-seed", "5", "--episodes", "6", "--switch", "3",
            "--num-options", "2"]  # fmt: skip
    assert cli.guarded(main, argv, PROG) == 0
    assert "2 seeds recovered" in capsys.readouterr().out
    with gzip.open(tmp_path / "out" / "steps.csv.gz", "rt", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) == 3 * 2 * 6
    assert {row["seed"] for row in rows} == {"5", "6"}
    assert {row["agent"] for row in rows} == {"option-critic, 2 options", "actor-critic", "sarsa"}
    assert all((int(row["goal"]) == EAST_DOORWAY) == (int(row["episode"]) < 3) for row in rows)
    with open(tmp_path / "out" / "summary.csv", newline="") as file:
        table = [*csv.DictReader(file)]
    assert len(table) == 3 * 3
    before = [row for row in rows if row["agent"] == "sarsa" and int(row["episode"]) < 3]
    assert float(table[6]["mean_steps"]) == pytest.approx(np.mean([int(row["steps"]) for row in before]), abs=0.01)
    assert float(table[6]["low"]) <= float(table[6]["mean_steps"]) <= float(table[6]["high"])
    for name in ("curve.png", "options.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
    assert cli.guarded(main, argv, PROG) == 2
    assert "an empty or a new folder" in capsys.readouterr().err
    argv[1] = str(tmp_path / "out" / "summary.csv")  # a file
    assert cli.guarded(main, argv, PROG) == 2
    assert "an empty or a new folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--seeds", "0"], "seeds is 0"),
        (["--episodes", "1000"], "episodes is 1000, but it must be above switch, 1000"),
        (["--temperature", "0"], "temperature is 0.0"),
        (["--num-options", "0"], "num_options is 0"),
        (["--seeds", str(10**10)], "seeds is 10000000000, but it must be from 1 to 10000"),
        (["--episodes", str(10**11)], "episodes is 100000000000, but it must be from 1 to 100000"),
        (["--num-options", str(10**11)], "num_options is 100000000000, but it must be from 1 to 1024"),
        (["--first-seed", "-1"], "first_seed is -1"),
        (["--switch", "0"], "switch is 0"),
        (["--critic-lr", "1.5"], "critic_lr is 1.5"),
        (["--seed", "3"], "--seed"),
    ],
)
def test_a_mistake_is_one_line_with_status_2(argv, words, tmp_path, capsys):
    assert cli.guarded(main, ["--out", str(tmp_path / "out"), *argv], PROG) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert words in err
    assert not (tmp_path / "out").exists()


def test_ticks_of_the_curve_are_plain_numbers(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: (drawn.append(figure), path.touch()))
    walks = {"sarsa": SimpleNamespace(steps=np.full((2, 200), 30), goal=np.full(2, EAST_DOORWAY))}
    write_curve(tmp_path / "curve.png", walks, 100)
    (figure,) = drawn
    figure.draw_without_rendering()
    ticks = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert {"10", "100"} <= {*ticks}
