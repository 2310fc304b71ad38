"""Four rooms with a goal that moves (Bacon, Harb and Precup 2017, arXiv:1609.05140, section 5), in tables:
option-critic, an actor-critic with one option, SARSA.

    python -m baselines.four_rooms --out FOLDER

All seeds walk side by side, one NumPy operation for all of them. Symbols: N = seeds that still walk, C = cells, W =
options, A = actions; Q_Omega(s, w) = value of option w in s; Q_U(s, w, a) = that of its action a; T = temperature.
"""

import csv
import gzip
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from rich.console import Console

from sacae import cli
from sacae.commands.parsing import parse
from sacae.envs import four_rooms
from sacae.envs.four_rooms import EAST_DOORWAY, LONGEST_EPISODE, LOWER_RIGHT_ROOM, NUM_ACTIONS, NUM_CELLS, SLIP
from sacae.errors import UserError
from sacae.training.run_folder import write_atomically

PROG = "python -m baselines.four_rooms"

WATCHED = 200
"""Episodes at the end of each half in which it is counted which option is active where."""

WINDOW = 50
"""Episodes over which steps are averaged in pictures, tables and for recovery."""

RECOVERED = 2.0
"""A seed has recovered where its episodes take at most so many times the steps of the best policy."""


@dataclass(frozen=True)
class TableConfig:
    """What the agents learn with."""

    num_options: int = 4
    """Options of option-critic."""
    discount: float = 0.99
    """Discount factor gamma, 0 to 1."""
    critic_lr: float = 0.5
    """Step size of all values."""
    policy_lr: float = 0.25
    """Step size of the options' policies."""
    termination_lr: float = 0.25
    """Step size of the terminations."""
    temperature: float = 0.01
    """Temperature of every softmax: of policies, of the choice among options, and of SARSA's."""
    termination_reg: float = 0.0
    """Added to the advantage of going on, so that options last."""


@dataclass(frozen=True)
class FourRooms:
    """Walk through four rooms to a goal that moves: learning curves, which option is active where, and recovery."""

    out: Path
    """Folder for steps.csv.gz, summary.csv, curve.png and options.png; it must be empty."""
    seeds: int = 50
    """Runs of each agent."""
    first_seed: int = 1
    """The first of the seeds; others follow it."""
    episodes: int = 2000
    """Episodes of each run."""
    switch: int = 1000
    """Episodes before the goal moves from the eastern doorway to a random cell of the lower right room."""
    tables: TableConfig = field(default_factory=TableConfig)


def check(command: FourRooms) -> None:
    """Raises UserError, naming the setting, its value and what is allowed, for the first setting out of range."""
    tables = command.tables
    for name, value, holds, allowed in (
        ("seeds", command.seeds, command.seeds >= 1, "at least 1"),
        ("first_seed", command.first_seed, command.first_seed >= 0, "0 or more"),
        ("switch", command.switch, command.switch >= 1, "at least 1"),
        ("episodes", command.episodes, command.episodes > command.switch, f"above switch, {command.switch}"),
        ("num_options", tables.num_options, tables.num_options >= 1, "at least 1"),
        ("discount", tables.discount, 0 <= tables.discount <= 1, "from 0 to 1"),
        ("critic_lr", tables.critic_lr, 0 < tables.critic_lr <= 1, "above 0 and at most 1"),
        ("policy_lr", tables.policy_lr, tables.policy_lr > 0, "above 0"),
        ("termination_lr", tables.termination_lr, tables.termination_lr > 0, "above 0"),
        ("temperature", tables.temperature, tables.temperature > 0, "above 0"),
        ("termination_reg", tables.termination_reg, tables.termination_reg >= 0, "0 or more"),
        ("out", command.out, not command.out.exists() or not any(command.out.iterdir()), "an empty or a new folder"),
    ):
        if not holds:
            raise UserError(f"{name} is {value}, but it must be {allowed}; change --{name.replace('_', '-')}")


# Probabilities and their gradients.


def softmax(preferences: np.ndarray) -> np.ndarray:
    """(N, n) -> (N, n)."""
    shifted = np.exp(preferences - preferences.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Of each entry."""
    return 1 / (1 + np.exp(-x))


def draw(probabilities: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """A choice for each row, by its uniform draw from [0, 1). (N, n), (N,) -> int64 (N,)."""
    # The last choice takes what rounding leaves of the probability 1.
    return (np.cumsum(probabilities, -1)[:, :-1] <= uniform[:, None]).sum(-1)


def log_policy_gradient(preferences: np.ndarray, action: np.ndarray, temperature: float) -> np.ndarray:
    """d log pi(a) / d preferences, for pi = softmax(preferences / T). (N, A), (N,) -> (N, A)."""
    return (np.eye(preferences.shape[-1])[action] - softmax(preferences / temperature)) / temperature


def termination_gradient(beta: np.ndarray) -> np.ndarray:
    """d beta / dx, for beta = sigmoid(x), of each entry."""
    return beta * (1 - beta)


# The agents: tables of all seeds.


class Uniform(NamedTuple):
    """Uniform draws from [0, 1) for one step of N seeds, (N,) each, by what they decide."""

    fails: np.ndarray
    where: np.ndarray
    start: np.ndarray
    action: np.ndarray
    ends: np.ndarray
    option: np.ndarray


class Streams:
    """A stream of random numbers for each seed, so that what a seed does depends on no other."""

    BLOCK = 512

    def __init__(self, seeds: Sequence[int]) -> None:
        self.generators = [np.random.default_rng(seed) for seed in seeds]
        self._block = np.empty(0)
        self._used = self.BLOCK

    def next(self, rows: np.ndarray) -> Uniform:
        """The next draws of the seeds in these rows; all seeds' streams go on."""
        if self._used == self.BLOCK:
            shape = self.BLOCK, len(Uniform._fields)
            self._block = np.stack([generator.random(shape) for generator in self.generators], -1)
            self._used = 0
        self._used += 1
        return Uniform(*self._block[self._used - 1][:, rows])


class Agent(Protocol):
    """Tables of S seeds. `rows` are the numbers of the N seeds that a call is about; other arrays belong to these.

    option: the running options, int64 (S,).
    """

    option: np.ndarray

    def begin(self, rows: np.ndarray, cell: np.ndarray, uniform: Uniform) -> None:
        """An episode starts."""

    def act(self, rows: np.ndarray, cell: np.ndarray, uniform: Uniform) -> np.ndarray:
        """Actions, (N,)."""

    def learn(
        self,
        rows: np.ndarray,
        cell: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        next_cell: np.ndarray,
        alive: np.ndarray,
        uniform: Uniform,
    ) -> None:
        """Takes in a step, and prepares the next one; alive: 0 where the goal was reached."""


class OptionCriticTables:
    """Option-critic (algorithm 1). With one option it is an actor-critic."""

    def __init__(self, num_seeds: int, num_options: int, config: TableConfig) -> None:
        self.config = config
        self.q = np.zeros((num_seeds, NUM_CELLS, num_options))  # Q_Omega
        self.action_q = np.zeros((num_seeds, NUM_CELLS, num_options, NUM_ACTIONS))  # Q_U
        self.preferences = np.zeros_like(self.action_q)
        self.terminations = np.zeros_like(self.q)
        self.option = np.zeros(num_seeds, np.int64)

    def begin(self, rows: np.ndarray, cell: np.ndarray, uniform: Uniform) -> None:
        """See Agent."""
        self.option[rows] = self._choose(rows, cell, uniform)

    def act(self, rows: np.ndarray, cell: np.ndarray, uniform: Uniform) -> np.ndarray:
        """See Agent."""
        preferences = self.preferences[rows, cell, self.option[rows]]
        return draw(softmax(preferences / self.config.temperature), uniform.action)

    def learn(
        self,
        rows: np.ndarray,
        cell: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        next_cell: np.ndarray,
        alive: np.ndarray,
        uniform: Uniform,
    ) -> None:
        """See Agent."""
        option = self.option[rows]
        beta = sigmoid(self.terminations[rows, next_cell, option])
        self._evaluate(rows, cell, option, action, self._target(rows, option, reward, next_cell, beta, alive))
        self._improve_policy(rows, cell, option, action)
        self._improve_termination(rows, next_cell, option, beta, alive)
        ended = uniform.ends < beta
        self.option[rows] = np.where(ended, self._choose(rows, next_cell, uniform), option)

    def _choose(self, rows: np.ndarray, cell: np.ndarray, uniform: Uniform) -> np.ndarray:
        return draw(softmax(self.q[rows, cell] / self.config.temperature), uniform.option)

    def _target(
        self,
        rows: np.ndarray,
        option: np.ndarray,
        reward: np.ndarray,
        next_cell: np.ndarray,
        beta: np.ndarray,
        alive: np.ndarray,
    ) -> np.ndarray:
        """r + gamma [(1 - beta_w(s')) Q_Omega(s', w) + beta_w(s') max_w' Q_Omega(s', w')]."""
        going_on, best = self.q[rows, next_cell, option], self.q[rows, next_cell].max(-1)
        return reward + self.config.discount * alive * ((1 - beta) * going_on + beta * best)

    def _evaluate(
        self, rows: np.ndarray, cell: np.ndarray, option: np.ndarray, action: np.ndarray, target: np.ndarray
    ) -> None:
        """Intra-option Q-learning of both values."""
        self.q[rows, cell, option] += self.config.critic_lr * (target - self.q[rows, cell, option])
        error = target - self.action_q[rows, cell, option, action]
        self.action_q[rows, cell, option, action] += self.config.critic_lr * error

    def _improve_policy(self, rows: np.ndarray, cell: np.ndarray, option: np.ndarray, action: np.ndarray) -> None:
        """Up the gradient of theorem 1, with Q_Omega as baseline."""
        config = self.config
        advantage = self.action_q[rows, cell, option, action] - self.q[rows, cell, option]
        gradient = log_policy_gradient(self.preferences[rows, cell, option], action, config.temperature)
        # The authors' step has no factor 1/T, and their step size is meant for that.
        self.preferences[rows, cell, option] += config.policy_lr * config.temperature * advantage[:, None] * gradient

    def _improve_termination(
        self, rows: np.ndarray, next_cell: np.ndarray, option: np.ndarray, beta: np.ndarray, alive: np.ndarray
    ) -> None:
        """Up the gradient of theorem 2: an option ends more often where another one is better."""
        advantage = self.q[rows, next_cell, option] - self.q[rows, next_cell].max(-1) + self.config.termination_reg
        step = self.config.termination_lr * termination_gradient(beta) * advantage * alive
        self.terminations[rows, next_cell, option] -= step


class SarsaTables:
    """SARSA(0) with a softmax of its values. Its one option is always active."""

    def __init__(self, num_seeds: int, config: TableConfig) -> None:
        self.config = config
        self.q = np.zeros((num_seeds, NUM_CELLS, NUM_ACTIONS))
        self.option = np.zeros(num_seeds, np.int64)
        self.action = np.zeros(num_seeds, np.int64)

    def begin(self, rows: np.ndarray, cell: np.ndarray, uniform: Uniform) -> None:
        """See Agent."""
        self.action[rows] = self._choose(rows, cell, uniform)

    def act(self, rows: np.ndarray, _cell: np.ndarray, _uniform: Uniform) -> np.ndarray:
        """See Agent: the action that the last update looked at."""
        return self.action[rows]

    def learn(
        self,
        rows: np.ndarray,
        cell: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        next_cell: np.ndarray,
        alive: np.ndarray,
        uniform: Uniform,
    ) -> None:
        """See Agent: Q(s, a) <- Q(s, a) + eta (r + gamma Q(s', a') - Q(s, a))."""
        config = self.config
        next_action = self._choose(rows, next_cell, uniform)
        target = reward + config.discount * alive * self.q[rows, next_cell, next_action]
        self.q[rows, cell, action] += config.critic_lr * (target - self.q[rows, cell, action])
        self.action[rows] = next_action

    def _choose(self, rows: np.ndarray, cell: np.ndarray, uniform: Uniform) -> np.ndarray:
        return draw(softmax(self.q[rows, cell] / self.config.temperature), uniform.action)


def make_agents(num_seeds: int, config: TableConfig) -> dict[str, Agent]:
    """The three agents, by their names in files."""
    return {
        f"option-critic, {config.num_options} options": OptionCriticTables(num_seeds, config.num_options, config),
        "actor-critic": OptionCriticTables(num_seeds, 1, config),
        "sarsa": SarsaTables(num_seeds, config),
    }


# The walk.


class Walk(NamedTuple):
    """What an agent's S seeds did.

    steps: of each episode, int64 (S, E). goal: where it moves, int64 (S,). visits: how often an option was active in a
    cell, in the last WATCHED episodes before the goal moves and at the end, int64 (2, S, C, W).
    """

    steps: np.ndarray
    goal: np.ndarray
    visits: np.ndarray


def walk(agent: Agent, num_options: int, seeds: Sequence[int], episodes: int, switch: int) -> Walk:
    """Runs an agent for so many episodes of each seed, until the goal or LONGEST_EPISODE steps."""
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
            agent.begin(rows[new], cell[rows[new]], Uniform(*(numbers[new] for numbers in uniform)))
        here = cell[rows]
        _count_visits(visits, rows, episode[rows], episodes, switch, here, agent.option[rows])
        action = agent.act(rows, here, uniform)
        there = four_rooms.move(here, action, uniform.fails, uniform.where)
        reached = there == goal
        agent.learn(rows, here, action, reached.astype(float), there, (~reached).astype(float), uniform)
        cell[rows], length[rows] = there, length[rows] + 1
        # A limit of steps ends the episode, not the task: what was learned there goes on from the value of the cell.
        over = reached | (length[rows] == LONGEST_EPISODE)
        starts[rows] = over
        ended = rows[over]
        steps[ended, episode[ended]] = length[ended]
        episode[ended] += 1
        length[ended] = 0
    return Walk(steps, second_goal, visits)


def _count_visits(
    visits: np.ndarray,
    rows: np.ndarray,
    episode: np.ndarray,
    episodes: int,
    switch: int,
    cell: np.ndarray,
    option: np.ndarray,
) -> None:
    for half, end in enumerate((switch, episodes)):
        watched = (episode >= end - WATCHED) & (episode < end)
        visits[half, rows[watched], cell[watched], option[watched]] += 1


def fewest_steps(goal: int) -> float:
    """Steps to a goal from a random start under the best policy, by value iteration to within 1e-9."""
    astray = np.where(np.arange(NUM_ACTIONS) < four_rooms.NUM_AROUND[:, None], four_rooms.AROUND, 0)
    weight = (np.arange(NUM_ACTIONS) < four_rooms.NUM_AROUND[:, None]) / four_rooms.NUM_AROUND[:, None]
    steps, change = np.zeros(NUM_CELLS), np.inf
    while change > 1e-9:
        after_slip = (weight * steps[astray]).sum(1)
        better = 1 + SLIP * after_slip + (1 - SLIP) * steps[four_rooms.NEXT].min(1)
        better[goal] = 0.0
        steps, change = better, np.abs(better - steps).max()
    return float(steps.sum() / (NUM_CELLS - 1))


def recovery(steps: np.ndarray, goals: np.ndarray, switch: int) -> np.ndarray:
    """Episodes from the goal's move until the next WINDOW ones take, on average, at most RECOVERED times the fewest.

    steps: (S, E). -> float (S,), NaN where that does not happen.
    """
    fewest = {goal: fewest_steps(goal) for goal in set(goals.tolist())}
    result = np.full(len(goals), np.nan)
    for i, goal in enumerate(goals.tolist()):
        means = moving_average(steps[i, switch:])
        good = np.flatnonzero(means <= RECOVERED * fewest[goal])
        if len(good):
            result[i] = good[0]
    return result


def moving_average(steps: np.ndarray) -> np.ndarray:
    """Means over WINDOW episodes, or over all where there are fewer. (..., E) -> (..., E - WINDOW + 1)."""
    window = min(WINDOW, steps.shape[-1])
    sums = np.cumsum(steps, -1, dtype=float)
    sums = np.concatenate([np.zeros((*steps.shape[:-1], 1)), sums], -1)
    return (sums[..., window:] - sums[..., :-window]) / window


# What is written down.


def interval(values: np.ndarray, resamples: int = 2000) -> tuple[float, float]:
    """95% bootstrap interval of the mean, (S,)."""
    picks = np.random.default_rng(0).integers(len(values), size=(resamples, len(values)))
    low, high = np.quantile(values[picks].mean(1), (0.025, 0.975))
    return float(low), float(high)


def summary(walks: Mapping[str, Walk], switch: int) -> list[dict[str, object]]:
    """A row for each agent and phase: mean steps over seeds and WINDOW episodes, their interval, and the recovery."""
    rows = []
    for agent, told in walks.items():
        phases = {
            "before the goal moves": told.steps[:, max(0, switch - WINDOW) : switch],
            "after it has moved": told.steps[:, switch : switch + WINDOW],
            "at the end": told.steps[:, switch:][:, -WINDOW:],
        }
        episodes = recovery(told.steps, told.goal, switch)
        known = episodes[~np.isnan(episodes)]
        for phase, steps in phases.items():
            low, high = interval(steps.mean(1))
            rows.append(
                {
                    "agent": agent,
                    "phase": phase,
                    "seeds": len(steps),
                    "mean_steps": round(float(steps.mean()), 2),
                    "low": round(low, 2),
                    "high": round(high, 2),
                    "seeds_recovered": len(known),
                    "median_recovery_episodes": float(np.median(known)) if len(known) else "",
                }
            )
    return rows


def write_steps(path: Path, walks: Mapping[str, Walk], seeds: Sequence[int], switch: int) -> None:
    """Every episode of every seed as tidy rows."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("agent", "seed", "episode", "goal", "steps"))
    for agent, told in walks.items():
        for seed, goal, steps in zip(seeds, told.goal.tolist(), told.steps.tolist()):
            goals = ((EAST_DOORWAY if number < switch else goal) for number in range(len(steps)))
            writer.writerows((agent, seed, number, at, taken) for number, (at, taken) in enumerate(zip(goals, steps)))
    # No time of day in the file: the same runs make the same bytes.
    write_atomically(path, lambda temporary: temporary.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0)))


def write_summary(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """The table as a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*rows[0]])
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, lambda temporary: temporary.write_text(text.getvalue()))


def write_curve(path: Path, walks: Mapping[str, Walk], switch: int) -> None:
    """Steps of an episode over episodes: the mean over seeds, averaged over WINDOW episodes, and its 95% interval."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for agent, told in walks.items():
        halves = [(start, moving_average(half)) for start, half in _halves(told.steps, switch)]
        color = None
        for start, means in halves:
            episodes = start + np.arange(means.shape[1])
            mean, error = means.mean(0), 1.96 * means.std(0) / np.sqrt(len(means))
            (line,) = axis.plot(episodes, mean, color=color, label=None if color else agent)
            color = line.get_color()
            axis.fill_between(episodes, mean - error, mean + error, color=color, alpha=0.2, linewidth=0)
    goals = next(iter(walks.values())).goal
    moved = float(np.mean([fewest_steps(goal) for goal in goals.tolist()]))
    for (start, half), fewest in zip(_halves(next(iter(walks.values())).steps, switch), (fewest_steps(62), moved)):
        axis.hlines(fewest, start, start + half.shape[1], color="0.4", linestyle=":", linewidth=1)
    axis.set(xlabel=f"first of {WINDOW} episodes", ylabel="steps to the goal", yscale="log")
    axis.set_title(f"four rooms, {len(goals)} seeds; the goal moves after {switch:,} episodes; dotted: best policy")
    axis.title.set_fontsize("medium")
    axis.legend(frameon=False)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=120, format="png"))


def _halves(steps: np.ndarray, switch: int) -> list[tuple[int, np.ndarray]]:
    return [(0, steps[:, :switch]), (switch, steps[:, switch:])]


def write_options(path: Path, told: Walk, seed: int, title: str) -> None:
    """Which option is active where, in one seed: by colour the one that is so most often, and each one's share."""
    visits = told.visits[:, 0]
    num_options = visits.shape[-1]
    figure = Figure(figsize=(1.9 * (num_options + 1), 4.3), layout="constrained")
    axes = figure.subplots(2, num_options + 1, squeeze=False)
    for row, counts, goal, name in zip(axes, visits, (EAST_DOORWAY, told.goal[0]), ("before", "at the end")):
        seen = counts.sum(-1)
        shares = np.where(seen[:, None] > 0, counts / np.maximum(seen, 1)[:, None], np.nan)
        most = np.where(seen > 0, counts.argmax(-1), np.nan)
        colours = ListedColormap([f"C{option}" for option in range(num_options)])
        row[0].imshow(_as_image(most), cmap=colours, vmin=-0.5, vmax=num_options - 0.5, interpolation="nearest")
        row[0].set_ylabel(name)
        row[0].set_title("most active", fontsize="small")
        for option, axis in enumerate(row[1:]):
            axis.imshow(_as_image(shares[:, option]), cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(f"option {option + 1}", fontsize="small", color=f"C{option}")
        for axis in row:
            axis.set(xticks=[], yticks=[], facecolor="0.25")
            axis.plot(*four_rooms.CELLS[goal][::-1], "*", color="white", markeredgecolor="black", markersize=9)
    figure.suptitle(f"{title}, seed {seed}: share of steps in a cell in which an option is active", fontsize="small")
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=120, format="png"))


def _as_image(of_cells: np.ndarray) -> np.ndarray:
    """Values of cells (C,) in their places, (13, 13), NaN where there is a wall."""
    image = np.full(four_rooms.WALL.shape, np.nan)
    image[tuple(four_rooms.CELLS.T)] = of_cells
    return image


# The command.


def main(argv: Sequence[str], prog: str = PROG) -> int:
    """Runs all agents and writes the files; returns the exit status."""
    command = parse(FourRooms, argv, prog)
    check(command)
    console, walks = Console(), {}
    seeds = range(command.first_seed, command.first_seed + command.seeds)
    for name, agent in make_agents(command.seeds, command.tables).items():
        with console.status(f"{name}: {command.seeds} seeds of {command.episodes:,} episodes"):
            num_options = command.tables.num_options if isinstance(agent, OptionCriticTables) else 1
            walks[name] = walk(agent, num_options, seeds, command.episodes, command.switch)
    rows = summary(walks, command.switch)
    write_steps(command.out / "steps.csv.gz", walks, seeds, command.switch)
    write_summary(command.out / "summary.csv", rows)
    write_curve(command.out / "curve.png", walks, command.switch)
    first, told = next(iter(walks.items()))
    write_options(command.out / "options.png", told, seeds[0], first)
    for row in rows:
        recovered = f"{row['seeds_recovered']} of {row['seeds']} seeds recovered"
        steps = f"{row['mean_steps']} steps ({row['low']} to {row['high']})"
        console.print(f"{row['agent']}, {row['phase']}: {steps}; {recovered}", highlight=False, soft_wrap=True)
    console.print(f"written to {command.out}", highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(cli.guarded(main, sys.argv[1:], PROG))
