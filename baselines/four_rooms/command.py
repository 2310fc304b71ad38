"""The command `python -m baselines.four_rooms`: its settings, its runs, and the files that it writes."""

import csv
import gzip
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from rich.console import Console

from baselines.four_rooms.evaluation import summary
from baselines.four_rooms.pictures import write_curve, write_options
from baselines.four_rooms.tables import OptionCriticTables, TableConfig, make_agents
from baselines.four_rooms.walk import Walk, walk
from sacae.commands.parsing import parse
from sacae.declaration import AtLeast, Within
from sacae.envs.four_rooms import EAST_DOORWAY
from sacae.files import write_atomically
from sacae.limits import MOST_EPISODES, MOST_RUNS
from sacae.settings import not_allowed
from sacae.text import say, waiting

PROG = "python -m baselines.four_rooms"


@dataclass(frozen=True)
class FourRooms:
    """Train tabular option-critic, actor-critic and SARSA in four rooms; write curves and pictures of options."""

    out: Path
    """Folder for steps.csv.gz, summary.csv, curve.png and options.png; it must be new or empty."""
    seeds: Annotated[int, Within(1, MOST_RUNS)] = 50
    """Number of runs of each agent, each with a random seed of its own."""
    first_seed: Annotated[int, AtLeast(0)] = 1
    """Random seed of the first run; each further run has the next number."""
    episodes: Annotated[int, Within(1, MOST_EPISODES)] = 2000
    """Number of episodes in each run."""
    switch: Annotated[int, AtLeast(1)] = 1000
    """Number of episodes before the goal moves from the eastern doorway to a random cell of the lower right room."""
    tables: TableConfig = field(default_factory=TableConfig)


def check(command: FourRooms) -> None:
    """Raises UserError where the goal would never move, and for a folder that holds something."""
    if command.episodes <= command.switch:
        raise not_allowed("episodes", command.episodes, f"above switch, {command.switch}")
    if not _is_free(command.out):
        raise not_allowed("out", command.out, "an empty or a new folder")


def _is_free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def write_steps(path: Path, walks: Mapping[str, Walk], seeds: Sequence[int], switch: int) -> None:
    """Writes a gzipped CSV file with a row for each episode of each seed."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("agent", "seed", "episode", "goal", "steps"))
    for agent, result in walks.items():
        for seed, goal, steps in zip(seeds, result.goal.tolist(), result.steps.tolist()):
            goals = ((EAST_DOORWAY if number < switch else goal) for number in range(len(steps)))
            writer.writerows((agent, seed, number, at, taken) for number, (at, taken) in enumerate(zip(goals, steps)))
    # Without a time of day, the same runs make the same bytes.
    write_atomically(path, lambda temporary: temporary.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0)))


def write_summary(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Writes the summary as a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*rows[0]])
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, lambda temporary: temporary.write_text(text.getvalue()))


def main(argv: Sequence[str], prog: str = PROG) -> int:
    """Runs all agents and writes the files. Returns the exit status."""
    command = parse(FourRooms, argv, prog)
    check(command)
    console, walks = Console(), {}
    seeds = range(command.first_seed, command.first_seed + command.seeds)
    for name, agent in make_agents(command.seeds, command.tables).items():
        with waiting(console, f"{name}: {command.seeds} seeds of {command.episodes:,} episodes"):
            num_options = command.tables.num_options if isinstance(agent, OptionCriticTables) else 1
            walks[name] = walk(agent, num_options, seeds, command.episodes, command.switch)
    rows = summary(walks, command.switch)
    write_steps(command.out / "steps.csv.gz", walks, seeds, command.switch)
    write_summary(command.out / "summary.csv", rows)
    write_curve(command.out / "curve.png", walks, command.switch)
    name, result = next(iter(walks.items()))  # option-critic
    write_options(command.out / "options.png", result, seeds[0], name)
    for row in rows:
        recovered = f"{row['seeds_recovered']} of {row['seeds']} seeds recovered"
        steps = f"{row['mean_steps']} steps ({row['low']} to {row['high']})"
        say(console, f"{row['agent']}, {row['phase']}: {steps}; {recovered}")
    say(console, f"written to {command.out}")
    return 0
