"""Environment steps per second of every algorithm from state, beside stable-baselines3's and bare PyTorch.

    python benchmarks/baselines_throughput.py --json OUT.json

Every training lives in a process of its own that works only when told to, so that neither side's settings reach the
other. README.md in this folder says how to read the numbers.
"""

import json
import statistics
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from bare import Run as BareRun
from common import Worker, run, say, write
from memory import machine
from rich.console import Console

from baselines.algorithms import ALGORITHMS, SETTINGS
from baselines.settings import make
from sacae import config as configs
from sacae.errors import UserError
from sacae.settings import Settings
from sacae.training import off_policy
from sacae.training.loop import step

DISCRETE, CONTINUOUS = "CartPole-v1", "Pendulum-v1"
SB3 = "stable-baselines3"
THEIRS = {algo: f"{SB3} {algo.upper()}" for algo in ("ppo", "dqn", "sac", "td3", "ddpg")}
"""stable-baselines3's version of an algorithm, which is timed beside ours."""
BARE = {algo: f"bare PyTorch {algo.upper()}" for algo in ("dqn", "sac", "td3", "ddpg")}
"""The algorithm in as little code as it takes (bare.py), which is timed beside ours."""
ON_POLICY = ("vpg", "npg", "trpo", "ppo")

ENVIRONMENTS = {
    "ppo": (DISCRETE, CONTINUOUS),
    THEIRS["ppo"]: (DISCRETE, CONTINUOUS),
    "vpg": (DISCRETE, CONTINUOUS),
    "npg": (DISCRETE, CONTINUOUS),
    "trpo": (DISCRETE, CONTINUOUS),
    "q_learning": (DISCRETE,),
    "dqn": (DISCRETE,),
    BARE["dqn"]: (DISCRETE,),
    THEIRS["dqn"]: (DISCRETE,),
    "discrete_sac": (DISCRETE,),
    "sac": (CONTINUOUS,),
    BARE["sac"]: (CONTINUOUS,),
    THEIRS["sac"]: (CONTINUOUS,),
    "sac_v": (CONTINUOUS,),
    "td3": (CONTINUOUS,),
    BARE["td3"]: (CONTINUOUS,),
    THEIRS["td3"]: (CONTINUOUS,),
    "ddpg": (CONTINUOUS,),
    BARE["ddpg"]: (CONTINUOUS,),
    THEIRS["ddpg"]: (CONTINUOUS,),
    "option_critic": (DISCRETE, CONTINUOUS),
    "her_ddpg": ("PointMassGoal-v0",),
    "hdqn": ("SixStateChain-v0",),
}
"""Where each is timed. `ace` is left out: between its fits, which run in another process, it is SAC."""

STEPS_PER_UPDATE, MINIBATCH, PASSES = 2048, 64, 10
"""Of both PPOs: stable-baselines3's defaults. The others of its kind collect as many steps."""
SEED_STEPS = 300
"""Random agent steps at the start of what has a replay; they are not timed."""


@dataclass(frozen=True)
class Options:
    """Environment steps per second of every algorithm from state, all timed in turn in the same run."""

    algos: tuple[str, ...] = tuple(ENVIRONMENTS)
    """Algorithms, as --algo of baselines.train."""
    rounds: int = 5
    """Times that each is timed."""
    round_seconds: float = 2.5
    """About how long each of those is."""
    json: Path | None = None
    """File for the rows of the table, with the machine and the versions."""
    markdown: Path | None = None
    """File for the table."""


# What runs in a worker.


class Training(ABC):
    """A training on one CPU thread that goes on by as many steps as it is told."""

    least = 1
    """Steps after which it has done everything it does, once: a round is a multiple of it."""

    @abstractmethod
    def go_on(self, steps: int) -> None:
        """Trains for so many environment steps."""

    def seconds(self, steps: int) -> float:
        """Seconds that so many environment steps take."""
        start = time.perf_counter()
        self.go_on(steps)
        return time.perf_counter() - start

    def steps_in(self, seconds: float) -> int:
        """Environment steps that take about so long, at least once all that a training does."""
        steps = self.least
        while (elapsed := self.seconds(steps)) < seconds / 4:
            steps *= 2
        return max(1, round(steps * seconds / elapsed / self.least)) * self.least


class OurTraining(Training):
    """A training of ours: all but evaluations, checkpoints and videos."""

    def __init__(self, algo: str, env: str) -> None:
        self._folder = tempfile.TemporaryDirectory()  # Gone with this object.
        config = settings_of(algo, env, Path(self._folder.name, "run"))
        start = ALGORITHMS[algo].start if algo in ALGORITHMS else off_policy.start
        self._training = start(config, Console(quiet=True))
        self.least = STEPS_PER_UPDATE if algo in ON_POLICY else 200  # the latter: episodes, and cycles of HER's updates
        self.go_on(max(self.least, 2 * SEED_STEPS))

    def go_on(self, steps: int) -> None:
        """See Training."""
        end = self._training.run.env_step + steps
        while self._training.run.env_step < end:
            step(*self._training)


class SB3Training(Training):
    """stable-baselines3's algorithm: PPO with its defaults; the others with our sizes, an update for each step."""

    def __init__(self, name: str, env: str) -> None:
        import stable_baselines3

        torch.set_num_threads(1)
        algorithm = name.removeprefix(f"{SB3} ")
        self.least = STEPS_PER_UPDATE if algorithm == "PPO" else 200
        settings: dict[str, Any] = {}
        if algorithm != "PPO":
            settings = {"policy_kwargs": {"net_arch": [256, 256]}, "batch_size": 256, "train_freq": 1}
            settings |= {"gradient_steps": 1, "learning_starts": SEED_STEPS, "buffer_size": 100_000}
        self._model = getattr(stable_baselines3, algorithm)("MlpPolicy", env, device="cpu", seed=1, **settings)
        self.go_on(max(self.least, 2 * SEED_STEPS))

    def go_on(self, steps: int) -> None:
        """See Training."""
        self._model.learn(steps, reset_num_timesteps=False)


class BareTraining(Training):
    """The algorithm in bare PyTorch."""

    least = 200

    def __init__(self, name: str, env: str) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(1)
        self._run = BareRun(name.split()[-1], env, SEED_STEPS)
        self.go_on(2 * SEED_STEPS)

    def go_on(self, steps: int) -> None:
        """See Training."""
        for _ in range(steps):
            self._run.step()


def kind_of(algo: str) -> type[Training]:
    """What trains an algorithm of that name in a worker."""
    if algo in BARE.values():
        return BareTraining
    return SB3Training if algo in THEIRS.values() else OurTraining


def settings_of(algo: str, env: str, folder: Path) -> Settings:
    """An algorithm's defaults on an environment; PPO has those of stable-baselines3."""
    common: dict[str, Any] = {"env": env, "num_train_steps": 10**9, "num_threads": 1, "device": "cpu"}
    common |= {"save_video": False, "work_dir": folder}
    if algo == "ppo":  # target_kl: that its passes never end early, as theirs do not.
        passes = {"policy_updates": PASSES, "value_updates": PASSES, "minibatch_size": MINIBATCH, "target_kl": 1e9}
        common |= {"gae_lambda": 0.95, "value_lr": 3e-4, "value_target": "gae"} | passes
    if algo in ON_POLICY:
        common["steps_per_update"] = STEPS_PER_UPDATE
    if algo == "option_critic":
        common["seed_steps"] = SEED_STEPS
    if algo in SETTINGS:
        return make(SETTINGS[algo], **common)
    replay = {"seed_steps": SEED_STEPS, "initial_updates": 1, "replay_capacity": 100_000}
    theirs = {"double_q": False} if algo == "dqn" else {}  # stable-baselines3 has no other
    return configs.make(agent=algo, obs="state", **common, **replay, **theirs)


# What runs in the main process.


def main(options: Options) -> list[dict]:
    """Measures, prints a Markdown table, and writes the files asked for. Returns the rows."""
    check_options(options)
    workers: dict[tuple[str, str], Worker] = {}
    try:
        for algo in options.algos:
            for env in ENVIRONMENTS[algo]:
                try:
                    workers[algo, env] = Worker(kind_of(algo), algo, env)
                except UserError as error:
                    say(f"skipped {algo} on {env}: {error}")
        if not workers:
            raise UserError("nothing was timed: every algorithm was skipped, for the reasons above")
        rates = time_in_turn(workers, options)
    finally:
        for worker in workers.values():
            worker.close()
    about = machine() | {"stable_baselines3": sb3_version()}
    rows = [
        row(algo, env, values, [rates.get((table.get(algo), env)) for table in (THEIRS, BARE)])
        for (algo, env), values in rates.items()
    ]
    text = table(rows, about)
    print(text)
    write(options.markdown, text)
    write(options.json, json.dumps([row | about for row in rows], indent=2))
    return rows


def check_options(options: Options) -> None:
    """Raises UserError for what cannot be timed."""
    for algo in options.algos:
        if algo not in ENVIRONMENTS:
            raise UserError(
                f"algos has {algo}, but each must be one of {', '.join(sorted(ENVIRONMENTS))}; change --algos"
            )
    for name in ("rounds", "round_seconds"):
        if getattr(options, name) <= 0:
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{name} is {getattr(options, name)}, but it must be above 0; change {flag}")


def time_in_turn(workers: dict[tuple[str, str], Worker], options: Options) -> dict[tuple[str, str], list[float]]:
    """Steps per second of a round of each worker, then of the next round of each: what disturbs one disturbs all."""
    steps = {name: worker.ask("steps_in", options.round_seconds) for name, worker in workers.items()}
    rates: dict[tuple[str, str], list[float]] = {name: [] for name in workers}
    for number in range(options.rounds):
        say(f"round {number + 1} of {options.rounds}")
        for name, worker in workers.items():
            rates[name].append(steps[name] / worker.ask("seconds", steps[name]))
    return rates


def sb3_version() -> str | None:
    """Which stable-baselines3 is there; None without one."""
    try:
        return version("stable-baselines3")
    except PackageNotFoundError:
        return None


def row(algo: str, env: str, rates: Sequence[float], beside: Sequence[Sequence[float] | None]) -> dict:
    """What is known of an algorithm on an environment.

    beside: the rates of stable-baselines3's and of bare PyTorch, to each of which is a ratio in the same round; None
    where there are none.
    """
    found: dict[str, float | None] = {}
    for name, others in zip(("ratio", "ratio_bare"), beside, strict=True):
        ratios = [a / b for a, b in zip(rates, others)] if others else []
        found[name] = statistics.median(ratios) if ratios else None
        found |= {f"{name}_min": min(ratios, default=None), f"{name}_max": max(ratios, default=None)}
    return {
        "algo": algo,
        "env": env,
        "env_steps_per_second": statistics.median(rates),
        "env_steps_per_second_min": min(rates),
        "env_steps_per_second_max": max(rates),
        **found,
        "rounds": len(rates),
    }


def table(rows: Sequence[dict], about: dict) -> str:
    """The rows in Markdown, with the machine under them."""
    ratios = (f"of {SB3}'s (min to max)", "of bare PyTorch's (min to max)")
    head = ("algorithm", "environment", "env steps/s (min to max)", *ratios)
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(_table_line(row) for row in rows)]
    theirs = about["stable_baselines3"]
    lines += [
        "",
        f"Median of {rows[0]['rounds']} rounds, one thread each. {about['processor']}, {about['cpus']} cores; "
        f"PyTorch {about['torch']}, Python {about['python']}, NumPy {about['numpy']}, "
        f"stable-baselines3 {theirs or 'not installed'}; {about['date']}.",
    ]
    return "\n".join(lines)


def _table_line(row: dict) -> str:
    speed = f"{row['env_steps_per_second']:,.0f}"
    spread = f"{row['env_steps_per_second_min']:,.0f} to {row['env_steps_per_second_max']:,.0f}"
    ratios = [_ratio(row, name) for name in ("ratio", "ratio_bare")]
    return f"| {row['algo']} | {row['env']} | {speed} ({spread}) | {' | '.join(ratios)} |"


def _ratio(row: dict, name: str) -> str:
    if row[name] is None:
        return "-"
    return f"{row[name]:.2f} ({row[f'{name}_min']:.2f} to {row[f'{name}_max']:.2f})"


if __name__ == "__main__":
    run(Options, main)
