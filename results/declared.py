"""The tables of the results: what each has in its rows and columns, and the page it stands on."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from columns import (
    Column,
    Row,
    Runs,
    Table,
    best,
    comparable,
    count,
    episodes_at,
    from_record,
    hours,
    last,
    last_episodes,
    markdown,
    mean_at,
    minutes,
    over_seeds,
    published_beside,
    read,
    seeds,
    steps,
    success,
)
from numpy.typing import NDArray

from sacae.experiments.report import statistics


class Experiment(NamedTuple):
    """Runs of an experiment, which `python results/tables.py NAME FOLDER` collects.

    folder: of the CSV files, below results/. arms: name of a CSV file, without suffix, and what tables call it.
    tasks: each with the environment step that its runs have to reach. compared: algorithms whose published curves are
    drawn.
    """

    folder: str
    arms: dict[str, str]
    tasks: dict[str, int]
    compared: tuple[str, ...]

    def rows(self) -> tuple[Row, ...]:
        """A row for each task and arm, also for those without a run so far."""
        return tuple(
            Row((task, label), f"{self.folder}/{task}/{arm}.csv")
            for task in self.tasks
            for arm, label in self.arms.items()
        )


class Written(NamedTuple):
    """A table that a function of its own writes, from the folder of results."""

    page: str
    text: Callable[[Path], str]


EXPERIMENTS = {
    "decoder": Experiment(
        "laptop/decoder",
        {"rae": "SAC-AE", "none": "SAC without decoder"},
        dict.fromkeys(("reacher_easy", "ball_in_cup_catch", "cartpole_swingup", "cheetah_run"), 100_000)
        | dict.fromkeys(("walker_walk", "finger_spin"), 60_000),
        ("SAC-AE", "SAC from pixels"),
    ),
    "family": Experiment(
        "laptop/family",
        {
            "sac_ae": "SAC-AE",
            "none": "SAC without decoder",
            "drq": "DrQ",
            "drqv2": "DrQ-v2",
            "rad": "RAD",
            "curl": "CURL",
        },
        dict.fromkeys(("cartpole_swingup", "cheetah_run"), 100_000),
        ("SAC-AE", "SAC from pixels", "DrQ", "DrQ-v2"),
    ),
    "laptop-heads": Experiment(
        "laptop/heads",
        {"sac": "SAC-AE", "td3": "TD3", "ddpg": "DDPG", "discrete_sac": "discrete SAC", "dqn": "DQN"},
        dict.fromkeys(("cartpole_swingup", "cheetah_run"), 100_000),
        ("SAC-AE",),
    ),
    "full-size": Experiment(
        "sac_ae/decoder",
        {"rae": "SAC-AE", "none": "SAC without decoder"},
        dict.fromkeys(("cartpole_swingup", "cheetah_run"), 100_000),
        ("SAC-AE", "SAC from pixels"),
    ),
    "beside": Experiment(
        "sac_ae/beside",
        {
            "reference": "the authors' code",
            "updates": "this package",
            "agent_steps": "this package with --gates agent_steps",
        },
        {"cheetah_run": 40_000},
        (),
    ),
}


def named(step: int) -> str:
    """A step as the head of a column."""
    return "0" if step == 0 else f"{step // 1000}k"


TENTHS = range(0, 100_001, 10_000)


def from_state(
    task: str, algorithms: dict[str, str], digits: int = 1, extra: dict[str, Column] | None = None, leading: str = ""
) -> Table:
    """A table of results/state. algorithms: by file, what the table calls them.

    task: the page's section. leading: head of a column with the task; then files have it in their names.
    """
    names: dict[str, Column] = {
        "steps": steps,
        "seeds": count,
        "last evaluation": last(digits),
        "best evaluation (its step)": best(digits),
    }
    labels = [leading] if leading else []
    rows = [
        Row((*(file.partition("/")[:1] if labels else ()), label), f"state/{file if labels else f'{task}/{file}'}.csv")
        for file, label in algorithms.items()
    ]
    rows = [row._replace(link=f"state/README.md#{task.lower()}") for row in rows]
    return Table("state", (*labels, "algorithm"), names | (extra or {}) | {"minutes": minutes}, tuple(rows))


HINDSIGHT = {"her_ddpg": "DDPG with hindsight", "ddpg_without_her": "DDPG without (`--her-k 0`)"}
SUCCESS: dict[str, Column] = {"success at the end": success}

STATE = {
    "Pendulum-v1": from_state(
        "Pendulum-v1",
        {
            "sac": "SAC",
            "td3": "TD3",
            "ddpg": "DDPG",
            "sac_v": "SAC with a value network",
            "ppo": "PPO",
            "option_critic": "option-critic, continuous",
        },
    ),
    "CartPole-v1": from_state(
        "CartPole-v1",
        {
            "ppo": "PPO",
            "trpo": "TRPO",
            "npg": "NPG",
            "vpg": "VPG, policy lr 1e-2, 2000 steps an update",
            "vpg_defaults": "VPG, Spinning Up's defaults",
            "q_learning": "Q-learning",
            "option_critic": "option-critic",
        },
    ),
    "CartPoleContinuous-v1": from_state("CartPoleContinuous-v1", {"sac": "SAC"}),
    "Hopper-v5": from_state(
        "Hopper-v5",
        {"ppo": "PPO", "trpo": "TRPO", "npg": "NPG", "vpg": "VPG", "sac": "SAC", "td3": "TD3", "ace": "ACE"},
        digits=0,
        extra={"training return, last 50 episodes": from_record},
    ),
    "control-suite": from_state(
        "cheetah_run-and-cartpole_swingup",
        {"cheetah_run/sac": "SAC", "cheetah_run/ace": "ACE", "cartpole_swingup/sac": "SAC"},
        leading="task",
    ),
    "LunarLander-v3": from_state("LunarLander-v3", {"double_dqn": "Double DQN", "option_critic": "option-critic"}),
    "PointMassGoal-v0": from_state("PointMassGoal-v0", HINDSIGHT, extra=SUCCESS),
    "FetchReach-v4": from_state("FetchReach-v4", HINDSIGHT, extra=SUCCESS),
    "SixStateChain-v0": from_state("SixStateChain-v0", {"hdqn": "h-DQN", "dqn": "DQN"}, digits=3),
}


def four_rooms(results: Path) -> str:
    """Option-critic's agents in four rooms."""
    grid = [["agent", "before", "the 50 episodes after", "last 50", "recovered"]]
    names = {"actor-critic": "actor-critic (one option)", "sarsa": "SARSA"}
    with open(results / "state/four_rooms/summary.csv", newline="") as file:
        rows = [*csv.DictReader(file)]
    for agent in dict.fromkeys(row["agent"] for row in rows):
        phases = [row for row in rows if row["agent"] == agent]
        spans = [[float(row[name]) for name in ("mean_steps", "low", "high")] for row in phases]
        one = phases[0]
        recovered = f"{one['seeds_recovered']} of {one['seeds']}"
        recovered += f", after {float(one['median_recovery_episodes']):.0f} episodes in the median"
        cells = [f"{mean:.2f} ({low:.3g} to {high:.3g})" for mean, low, high in spans]
        grid.append([names.get(agent, agent), *cells, recovered])
    return markdown(grid)


def agents(results: Path) -> str:
    """The returns of the trained agents, as `sacae eval` wrote them beside each."""
    lines = [("task", "training seed", "steps", "fresh episodes", "mean return", "smallest to largest")]
    for path in sorted(results.glob("agents/*/evaluation/*-seed1000.json")):
        found = json.loads(path.read_text())
        returns = found["episode_returns"]
        mean = f"{found['mean']:.0f} ± {found['std']:.0f}"
        extremes = f"{min(returns):.0f} to {max(returns):.0f}"
        lines.append(
            (found["task"], str(found["training_seed"]), f"{found['env_step']:,}", str(len(returns)), mean, extremes)
        )
    return markdown(lines)


def intervals(results: Path) -> str:
    """Returns at the end of the decoder experiment, and how likely a run returns more with it; with 95% intervals.

    Tasks with runs of one length and number have a row together.
    """
    experiment = EXPERIMENTS["decoder"]
    names = [*experiment.arms.values()]
    grid = [["task", "steps", "seeds", *names, f"probability that {names[0]} returns more"]]
    together: dict[tuple[str, ...], list[list[NDArray[np.float64]]]] = {}
    for task, last_step in experiment.tasks.items():
        paths = [results / experiment.folder / task / f"{arm}.csv" for arm in experiment.arms]
        if all(path.exists() for path in paths):
            ends = [np.array(read(path).means(last_step))[:, None] for path in paths]
            returns = [_interval(statistics.estimate(scores[..., None], statistics.mean), 0) for scores in ends]
            runs = f"{last_step:,}", " and ".join(dict.fromkeys(str(len(scores)) for scores in ends))
            together.setdefault(runs, []).append(ends)
            grid.append([task, *runs, *returns, _interval(statistics.estimate_improvement(*ends), 2)])
    for runs, of_tasks in together.items():
        if len(of_tasks) > 1:
            of_all = (np.concatenate(scores, axis=1) for scores in zip(*of_tasks, strict=True))
            label = "both" if len(of_tasks) == 2 else f"all {len(of_tasks)}"
            grid.append([label, *runs, "", "", _interval(statistics.estimate_improvement(*of_all), 2)])
    return markdown(grid)


def _interval(estimate: statistics.Estimate, digits: int) -> str:
    return f"{estimate.value[0]:.{digits}f} ({estimate.low[0]:.{digits}f} to {estimate.high[0]:.{digits}f})"


def probes(results: Path) -> str:
    """What the latents of the decoder experiment encode: R², on average over coordinates, which `sacae probe` wrote."""
    grid = [["task", "coordinates", *EXPERIMENTS["decoder"].arms.values(), "untrained encoder", "pixels PCA"]]
    for path in sorted(results.glob("laptop/probe/*.csv")):
        with open(path, newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["note"] != "constant"]
        latents = [_probed(rows, "latent", arm) for arm in EXPERIMENTS["decoder"].arms]
        compared = [f"{np.mean(_probed(rows, source)):.2f}" for source in ("random encoder", "pixels PCA")]
        number = len({row["coordinate"] for row in rows})
        grid.append([path.stem, str(number), *(_with_seeds(values) for values in latents), *compared])
    return markdown(grid)


def _probed(rows: list[dict[str, str]], source: str, arm: str = "") -> list[float]:
    """Mean R² over coordinates of each run, below 0 as 0. arm: the folder of the runs; "" is all."""
    runs: dict[str, list[float]] = {}
    for row in rows:
        if row["source"] == source and arm in ("", Path(row["run"]).parent.name):
            runs.setdefault(row["run"], []).append(max(float(row["r2"]), 0.0))
    return [float(np.mean(values)) for values in runs.values()]


def _with_seeds(values: list[float]) -> str:
    """A mean over seeds, from the least to the largest."""
    return f"{np.mean(values):.2f} ({len(values)} seeds: {min(values):.2f} to {max(values):.2f})"


def heads(names: dict[str, str], link: str) -> tuple[Row, ...]:
    """Rows of results/heads by file."""
    return tuple(
        Row((file.partition("/")[0], label), f"heads/{file}.csv", link=f"heads/README.md#{link}")
        for file, label in names.items()
    )


HEADS = {
    "heads-from-state": Table(
        "heads",
        ("task", "head"),
        {
            "seeds": seeds,
            "environment steps": steps,
            "last evaluation (10 episodes)": last_episodes,
            "best checkpoint (its step), 20 fresh episodes": from_record,
            "hours": hours,
        },
        heads(
            {
                "Pendulum-v1/sac": "SAC",
                "Pendulum-v1/td3": "TD3",
                "Pendulum-v1/ddpg": "DDPG",
                "Pendulum-v1/sac_v": "SAC with a value network",
                "CartPole-v1/discrete_sac": "discrete SAC",
                "CartPole-v1/dqn_2015": "DQN 2015",
                "CartPole-v1/double_dqn": "Double DQN",
                "CartPole-v1/dueling_double_dqn": "Dueling Double DQN",
                "CartPole-v1/dqn_2013": "DQN 2013",
            },
            "from-state",
        ),
    ),
    "heads-from-pixels": Table(
        "heads",
        ("task", "head"),
        {"last evaluation": last_episodes, "best evaluation (its step)": best(1), "hours": hours},
        heads(
            {
                "cheetah_run/sac": "SAC",
                "cheetah_run/td3": "TD3",
                "cheetah_run/small_last_layer/td3": "TD3, fast start, small last layer",
                "cheetah_run/td3_fast_start": "TD3, fast start",
                "cheetah_run/ddpg": "DDPG",
                "cheetah_run/small_last_layer/ddpg": "DDPG, fast start, small last layer",
                "cheetah_run/ddpg_fast_start": "DDPG, fast start",
                "cartpole_swingup/sac": "SAC",
                "cartpole_swingup/discrete_sac": "discrete SAC, factored",
                "cartpole_swingup/dqn": "DQN, factored",
            },
            "from-pixels",
        ),
    ),
}

SAC_AE = Table(
    "sac_ae",
    ("environment steps",),
    {
        "0": episodes_at(0, digits=2, extremes=True),
        "10,000": episodes_at(10_000, extremes=True),
        "20,000": episodes_at(20_000, extremes=True),
        "20,000, `eval.py`, ten other initial states": from_record,
    },
    (
        Row(
            ("evaluation, 10 episodes: mean ± standard deviation, smallest to largest",),
            "sac_ae/cheetah_run/sac-rae.csv",
        ),
    ),
    across=True,
)

FULL_SIZE = Table(
    "sac_ae",
    ("task", "agent"),
    {"seed": seeds} | {named(step): mean_at(step) for step in TENTHS} | {"minutes": minutes},
    EXPERIMENTS["full-size"].rows(),
    by_seed=True,
)

BESIDE = Table(
    "sac_ae",
    ("task", "code"),
    {"seeds": count} | {named(step): mean_at(step) for step in range(0, 40_001, 5_000)} | {"at the end": last(0)},
    EXPERIMENTS["beside"].rows(),
)

DECODER = Table(
    "decoder",
    ("environment steps",),
    {f"{step:,}": episodes_at(step) for step in range(20_000, 40_001, 5_000)}
    | {"published at 40,000, full size": published_beside},
    (
        Row(("`rae`, 5 episodes",), "heads/cheetah_run/sac.csv"),
        Row(("`none`, 5 episodes",), "decoder/report/data/seeds.csv", "sac-none"),
    ),
    across=True,
)

SEARCH = Table(
    "laptop",
    ("candidate",),
    {named(step): mean_at(step) for step in TENTHS[1:]} | {"cost of an update": from_record},
    (
        Row(("pilot, the current preset",), "laptop/search/pilot.csv"),
        Row(("1024 hidden units, learning after 250 agent steps",), "laptop/search/wide.csv"),
        Row(("two updates of 64 in each step, learning after 250 agent steps",)),
        Row(("two updates of 32 in each step, learning after 250 agent steps",), "laptop/search/ratio2-batch32.csv"),
        Row(("three-step returns",), "laptop/search/n-step-3.csv"),
    ),
)

SEARCH_CHECK = Table(
    "laptop",
    ("cartpole_swingup",),
    {"seeds": count} | {named(step): mean_at(step) for step in TENTHS[1:]},
    (
        Row(("the current preset",), "laptop/decoder/cartpole_swingup/rae.csv"),
        Row(("three-step returns, seed 11",), "laptop/search/n-step-3-cartpole.csv"),
    ),
)

SEARCH_SEEDS = Table(
    "laptop",
    ("cheetah_run",),
    {"seeds": count} | {named(step): mean_at(step) for step in TENTHS[1:]},
    (
        Row(("the current preset, seeds 1 and 2",), "laptop/decoder/cheetah_run/rae.csv", seeds=("1", "2")),
        Row(("three-step returns, seeds 1 and 2",), "laptop/search/n-step-3-seeds.csv"),
    ),
)

LAPTOP = Table(
    "laptop",
    ("task", "agent"),
    {"seeds": count} | {named(step): mean_at(step) for step in TENTHS},
    EXPERIMENTS["decoder"].rows(),
)

FAMILY = LAPTOP._replace(rows=EXPERIMENTS["family"].rows())

LAPTOP_HEADS = LAPTOP._replace(rows=EXPERIMENTS["laptop-heads"].rows())


def shortly(runs: Runs) -> str:
    """The return at the end, with ± over seeds, and with as many digits as an overview needs."""
    size = max(map(abs, runs.means(runs.steps)))
    return over_seeds(runs, 0 if size >= 20 else 1 if size >= 0.3 else 3)


class Sources:
    """Letters for the sources of published values, in the order in which a table names them."""

    def __init__(self) -> None:
        self.letters: dict[str, str] = {}

    def cell(self, runs: Runs) -> str:
        """Published values of the same algorithm, each with the letter of its source."""
        found = comparable(runs)
        for _, source in found:
            self.letters.setdefault(source, chr(ord("a") + len(self.letters)))
        return ", ".join(f"{value} ({self.letters[source]})" for value, source in found) or "–"

    def below(self, grid: list[list[str]]) -> str:
        """A table with its sources."""
        return f"{markdown(grid)}\n\n" + " ".join(f"({letter}) {source}." for source, letter in self.letters.items())


AGENTS = {"sac-rae": "SAC-AE", "sac-none": "SAC without decoder"}
PIXELS = {
    "[full size](sac_ae/README.md)": SAC_AE,
    "[full size, on a GPU](sac_ae/README.md#on-a-gpu-with-and-without-the-decoder)": FULL_SIZE,
    "[decoder](decoder/README.md)": DECODER,
    "[laptop preset](laptop/README.md#with-and-without-the-decoder)": LAPTOP,
    "[the family](laptop/README.md#the-family)": FAMILY,
    "[laptop preset, heads](laptop/README.md#the-heads)": LAPTOP_HEADS,
    "[heads](heads/README.md#from-pixels)": HEADS["heads-from-pixels"],
}


def from_pixels(results: Path) -> str:
    """Every run from pixels once, beside published values of the same algorithm and steps."""
    grid = [["experiment", "task", "agent", "steps", "seeds", "return at the end", "published"]]
    seen: set[tuple[str, str, str]] = set()
    sources = Sources()
    for experiment, table in PIXELS.items():
        for row in table.present(results):
            runs = read(results / row.file, row.agent)
            key = runs.task, runs.agent, repr(runs.returns)  # two experiments may have an arm in common
            if key in seen:
                continue
            seen.add(key)
            agent = AGENTS.get(runs.agent, row.labels[-1])
            grid.append([experiment, runs.task, agent, *(f(runs) for f in (steps, count, shortly, sources.cell))])
    return sources.below(grid)


def from_states(results: Path) -> str:
    """Every run from state: a row for each task, length and number of seeds."""
    groups: dict[tuple[str, ...], list[tuple[str, Runs]]] = {}
    for table in (*STATE.values(), HEADS["heads-from-state"]):
        for row in table.present(results):
            runs = read(results / row.file)
            key = f"[{runs.task}]({row.link})", steps(runs), count(runs)
            groups.setdefault(key, []).append((row.labels[-1], runs))
    grid = [["task", "steps", "seeds", "return at the end", "published SAC"]]
    sources = Sources()
    for key, members in groups.items():
        found = [text for _, runs in members if (text := sources.cell(runs)) != "–"]
        returns = "; ".join(f"{label}: {shortly(runs)}" for label, runs in members)
        grid.append([*key, returns, found[0] if found else "–"])
    return sources.below(grid)


TABLES: dict[str, Table | Written] = {
    "from-pixels": Written(".", from_pixels),
    "from-state": Written(".", from_states),
    "sac_ae": SAC_AE,
    "full-size": FULL_SIZE,
    "beside": BESIDE,
    "decoder-on-off": DECODER,
    "search": SEARCH,
    "search-check": SEARCH_CHECK,
    "search-seeds": SEARCH_SEEDS,
    "decoder": LAPTOP,
    "family": FAMILY,
    "laptop-heads": LAPTOP_HEADS,
    "decoder-intervals": Written("laptop", intervals),
    "probes": Written("laptop", probes),
    **HEADS,
    **STATE,
    "four-rooms": Written("state", four_rooms),
    "agents": Written("agents", agents),
}
"""Every table, by the name in its page."""
