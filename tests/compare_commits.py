"""Shows that two commits of this repository train alike: it runs the same tiny trainings with both and compares files.

    python tests/compare_commits.py HEAD~1 HEAD
    python tests/compare_commits.py v0.1.0 HEAD --only sac,td3

Each training stops about half-way, in the middle of an episode, and goes on with --resume. Whatever it writes as CSV
must be the same text in every cell, but for times. This is no test that pytest collects: all of it takes half an hour.
"""

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import zip_longest
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from sacae import cli
from sacae.commands.parsing import parse
from sacae.errors import UserError, did_you_mean

REPO = Path(__file__).resolve().parents[1]
OLD, NEW = "old", "new"
FEWEST_STEPS = 1080
"""The first part of a training then lasts for the 600 steps of an update of the policy gradients."""

TIMES = ("hours", "*_per_second", "share_*", "fit_seconds")
"""Columns that say how long something took: they differ from one run to the next of the same commit."""


@dataclass(frozen=True)
class CompareCommits:
    """Run the same tiny trainings with the code of two commits, and compare every CSV file that they write.

    Ends with exit status 1 where anything but times differs. Changes that are not committed take no part.
    """

    old: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="OLD")]
    """The commit whose results are right, such as HEAD~1, a branch or a tag."""
    new: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NEW")]
    """The commit whose results are to be the same. Its registries say which algorithms there are."""
    only: str | None = None
    """Algorithms to compare, with commas between, such as sac,td3; None compares all that NEW has."""
    steps: int = 4000
    """Environment steps of each training, 1080 or more. Below 2000, trainings from pixels finish no episode, and leave
    no row in train.csv to compare."""
    work_dir: Path | None = None
    """Folder in which a new folder is made for the worktrees and the runs; None is the system's temporary folder."""
    keep: bool = False
    """Leave the run folders and their logs where they are, to look at. The worktrees are removed all the same."""


# The trainings. None of them may write a file whose rows are not the same each time.

RUN = "--device cpu --num-threads 1 --no-save-video"
TINY = "--hidden-dim 16 --batch-size 16"
STATE = f"{RUN} {TINY} --precision fp32 --num-envs 2 --num-eval-episodes 2 --seed-steps 200 --initial-updates 50"
BASELINE = f"{RUN} --num-envs 2 --num-eval-episodes 2"
ON_POLICY = f"{BASELINE} --hidden-dim 16 --steps-per-update 600 --value-updates 5"
PIXELS = (  # of 50 agent steps each, since rendering is what takes long
    f"{RUN} --precision fp32 --num-eval-episodes 1 --domain cartpole --task swingup --action-repeat 20 --image-size 48 "
    "--num-filters 4 --feature-dim 8 --hidden-dim 16 --batch-size 4 --seed-steps 20 --initial-updates 20"
)
ONE_ENV, TWO_ENVS, IN_PROCESSES = "--no-overlap", "--num-envs 2 --no-overlap", "--num-envs 2 --overlap"
CONTINUOUS, DISCRETE = "--env Pendulum-v1", "--env CartPole-v1"

CASES: dict[str, dict[str, str]] = {
    "sac": {
        "state": f"{STATE} {CONTINUOUS}",
        "state, blocks, without replay": f"{STATE} {CONTINUOUS} --learning-starts 300 --updates-per-step 0.5 "
        "--update-every 10 --n-step 3 --max-grad-norm 1 --num-eval-envs 2 --overlap --no-save-replay",
        "state, soft resets": f"{STATE} {CONTINUOUS} --soft-reset reset --reset-every 700 --causal-every 900 "
        "--sparse-reward -3",
        "pixels, rae": f"{PIXELS} {TWO_ENVS}",
        "pixels, rae, in processes": f"{PIXELS} {IN_PROCESSES}",
        "pixels, none, shift": f"{PIXELS} {ONE_ENV} --decoder none --augment shift",
        "pixels, vae, color": f"{PIXELS} {ONE_ENV} --decoder vae --augment color",
        "pixels, state, crop": f"{PIXELS} {ONE_ENV} --decoder state --augment crop",
        "pixels, dynamics": f"{PIXELS} {ONE_ENV} --dynamics",
        "pixels, drq": f"{PIXELS} {TWO_ENVS} --preset drq",
        "pixels, rad": f"{PIXELS} {ONE_ENV} --preset rad --augment translate",
        "pixels, curl": f"{PIXELS} {ONE_ENV} --preset curl --decoder rae",
        "pixels, gates": f"{PIXELS} {ONE_ENV} --gates agent_steps --updates-per-step 0.5",
        "pixels, pretrained": f"{PIXELS} {ONE_ENV} --pretrain-updates 30 --penalise-before-tanh --tying all",
    },
    "sac_v": {"state": f"{STATE} {CONTINUOUS}", "pixels": f"{PIXELS} {TWO_ENVS}"},
    "td3": {"state": f"{STATE} {CONTINUOUS}", "pixels": f"{PIXELS} {TWO_ENVS}"},
    "ddpg": {"state": f"{STATE} {CONTINUOUS}", "pixels": f"{PIXELS} {TWO_ENVS}"},
    "discrete_sac": {"state": f"{STATE} {DISCRETE}", "pixels": f"{PIXELS} {TWO_ENVS}"},
    "dqn": {
        "state": f"{STATE} {DISCRETE} --dueling",
        "state, bins": f"{STATE} {CONTINUOUS} --discretisation joint --clip-reward",
        "pixels": f"{PIXELS} {TWO_ENVS}",
    },
    "drqv2": {
        "state": f"{STATE} {CONTINUOUS}",
        "pixels": f"{PIXELS} {TWO_ENVS}",
        "pixels, with its authors' settings": f"{PIXELS} {TWO_ENVS} --preset drqv2",
    },
    "ace": {
        "state": f"{STATE} --env Hopper-v5 --causal-every 700 --causal-samples 400 --causal-delay 300 --reset-every 600"
    },
    "q_learning": {
        "table": f"{BASELINE} {DISCRETE}",
        "table, shaped": f"{BASELINE} {DISCRETE} --shaping --shaping-steps 30",
    },
    "vpg": {"discrete": f"{ON_POLICY} {DISCRETE}"},
    "npg": {"continuous": f"{ON_POLICY} {CONTINUOUS}"},
    "trpo": {"discrete": f"{ON_POLICY} {DISCRETE}"},
    "ppo": {
        "discrete": f"{ON_POLICY} {DISCRETE} --policy-updates 5",
        "continuous": f"{ON_POLICY} {CONTINUOUS} --policy-updates 5 --minibatch-size 64 --value-target gae",
    },
    "her_ddpg": {"point mass": f"{BASELINE} {TINY} --env PointMassGoal-v0 --episodes-per-cycle 3"},
    "option_critic": {
        "four rooms": f"{BASELINE} {TINY} --env FourRooms-v0 --seed-steps 200 --critic-target-update-freq 50",
        "continuous": f"{BASELINE} {TINY} {CONTINUOUS} --seed-steps 200 --critic-target-update-freq 50",
    },
    "hdqn": {"chain": f"{BASELINE} {TINY} --env SixStateChain-v0 --epsilon-decay 0.99"},
}
"""The flags of each algorithm's trainings, by what they show. Those named pixels are trained by `sacae train`."""


@dataclass(frozen=True)
class Case:
    """One training."""

    algorithm: str
    name: str
    flags: str

    @property
    def words(self) -> list[str]:
        """What follows `python` on the command line."""
        by = "sacae train --agent" if self.name.startswith("pixels") else "baselines.train --algo"
        return shlex.split(f"-m {by} {self.algorithm} {self.flags}")

    @property
    def folder(self) -> str:
        """Its folder's path below that of all runs."""
        return f"{self.algorithm}/{self.name.replace(', ', '-').replace(' ', '_')}"


def cases_of(names: Sequence[str], only: str | None) -> list[Case]:
    """The trainings of a commit's algorithms, or of those in `only`.

    Raises UserError for an algorithm that CASES lacks, and for a name in `only` that is no algorithm.
    """
    unknown = [name for name in names if name not in CASES]
    if unknown:
        raise UserError(
            f"{Path(__file__).name} has no trainings of {', '.join(unknown)}, which NEW can train; add them to CASES"
        )
    chosen = names if only is None else [name.strip() for name in only.split(",")]
    for name in chosen:
        if name not in names:
            raise UserError(
                f"only is {only}, but NEW has no {name}, only {', '.join(names)}{did_you_mean(name, names)}"
            )
    return [Case(name, case, flags) for name in chosen for case, flags in CASES[name].items()]


# What two runs wrote.


@dataclass(frozen=True)
class Difference:
    """The first place where two runs differ. row: counted from 1, below the header."""

    where: str
    row: int | None
    column: str
    old: str
    new: str

    def __str__(self) -> str:
        place = [self.where, *([] if self.row is None else [f"row {self.row}"]), self.column]
        return f"{', '.join(place)}: {self.old} became {self.new}"


@dataclass(frozen=True)
class Outcome:
    """What came of a comparison. rows: compared, by file."""

    algorithm: str
    case: str
    rows: Mapping[str, int] = field(default_factory=dict)
    difference: Difference | None = None
    note: str = "equal"


def compare_folders(old: Path, new: Path) -> tuple[dict[str, int], Difference | None]:
    """Compares all CSV files below two folders; returns the rows compared, by file, and the first difference."""
    rows: dict[str, int] = {}
    names = sorted({path.relative_to(side).as_posix() for side in (old, new) for path in side.rglob("*.csv")})
    for name in names:
        there = [(side / name).exists() for side in (old, new)]
        if not all(there):
            return rows, Difference(name, None, "file", *["written" if found else "missing" for found in there])
        rows[name], difference = compare_csv(old / name, new / name, name)
        if difference:
            return rows, difference
    return rows, None if names else Difference("run folder", None, "CSV files", "none", "none")


def compare_csv(old: Path, new: Path, name: str) -> tuple[int, Difference | None]:
    """Compares two CSV files as text, cell by cell; returns the rows compared and the first difference.

    Columns that hold times are passed over; their names are not. name: what the difference calls the file.
    """
    (columns, *old_rows), (new_columns, *new_rows) = _read(old), _read(new)
    for i, pair in enumerate(zip_longest(columns, new_columns, fillvalue="missing"), 1):
        if pair[0] != pair[1]:
            return 0, Difference(name, None, f"name of column {i}", *pair)
    for row, (before, after) in enumerate(zip_longest(old_rows, new_rows), 1):
        if before is None or after is None:
            there = ["missing" if cells is None else "written" for cells in (before, after)]
            return row - 1, Difference(name, row, "whole row", *there)
        for column, *pair in zip_longest(columns, before, after, fillvalue="missing"):
            if pair[0] != pair[1] and not any(fnmatch(column, pattern) for pattern in TIMES):
                return row, Difference(name, row, column, *pair)
    return len(old_rows), None


def _read(path: Path) -> list[list[str]]:
    """Header and rows; a file without a header has an empty one."""
    with open(path, newline="") as file:
        return list(csv.reader(file)) or [[]]


# The runs.


@dataclass(frozen=True)
class Tree:
    """A commit's code in a folder, and how it is run."""

    folder: Path

    def run(self, words: Sequence[str], log: Path) -> int:
        """Runs Python with this code alone; returns the exit status. All output is added to the log."""
        environment = os.environ | {"PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1"}
        with open(log, "a") as output:
            command = [sys.executable, *words]
            return subprocess.run(command, cwd=self.folder, env=environment, stdout=output, stderr=output).returncode

    def algorithms(self, log: Path) -> list[str]:
        """The names in its registries. Raises UserError where they cannot be read, or other code answers."""
        if self.run(["-c", ASK], log):
            raise UserError(f"the registries of the {self.folder.name} commit cannot be read: {_last_line(log)}")
        told = json.loads(_last_line(log))
        if not Path(told["package"]).is_relative_to(self.folder.resolve()):
            raise UserError(f"{sys.executable} imports sacae from {told['package']}, not from the commit; use another")
        return told["names"]

    def train(self, case: Case, folder: Path, steps: int) -> Iterator[str]:
        """Trains a case in two parts; yields, after each, what went wrong with it, or ''."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        log = folder.with_name(f"{folder.name}.log")
        words = [*case.words, "--work-dir", str(folder), "--eval-every", str(steps // 4)]
        for budget, more in ((steps * 5 // 9, []), (steps, ["--resume"])):  # 5/9 is in the middle of an episode
            status = self.run([*words, "--num-train-steps", str(budget), *more], log)
            yield f"exit status {status}: {_last_line(log)}" if status else ""
            if status:
                return


ASK = """
import json, pathlib, sacae
from baselines.algorithms import ALGORITHMS
from baselines.train import ACE
from sacae.agents import HEADS
package = str(pathlib.Path(sacae.__file__).resolve())
print(json.dumps({"package": package, "names": [*HEADS, *ACE, *ALGORITHMS]}))
"""
"""What the code of a commit is asked: which algorithms it has, and where it lies."""


def _last_line(log: Path) -> str:
    return next((line.strip() for line in reversed(log.read_text().splitlines()) if line.strip()), "it said nothing")


def compare(case: Case, trees: Mapping[str, Tree], root: Path, steps: int, progress: Progress) -> Outcome:
    """Trains a case with both commits and compares what they wrote."""
    (task,) = progress.task_ids
    problems, folders = {}, {side: root / case.folder / side for side in trees}
    for side, tree in trees.items():
        progress.update(task, description=f"{case.algorithm}: {case.name} ({side})")
        for problem in tree.train(case, folders[side], steps):
            problems[side] = problem
            progress.advance(task)
    if any(problems.values()):
        said = [problems[side] or "no error" for side in (OLD, NEW)]
        return Outcome(case.algorithm, case.name, {}, Difference("training", None, "end", *said))
    return Outcome(case.algorithm, case.name, *compare_folders(folders[OLD], folders[NEW]))


def compare_all(cases: Sequence[Case], trees: Mapping[str, Tree], root: Path, steps: int, console: Console,
                known: Sequence[str]) -> list[Outcome]:  # fmt: skip
    """Compares one case after another, and shows how far that is. known: the algorithms that the old commit has."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    outcomes = []
    with Progress(*columns, console=console) as progress:
        progress.add_task("", total=4 * len(cases))
        for case in cases:
            if case.algorithm in known:
                outcome = compare(case, trees, root, steps, progress)
            else:
                outcome = Outcome(case.algorithm, case.name, note="not compared: OLD does not have it")
            outcomes.append(outcome)
            say = f"{case.algorithm}: {case.name}: {outcome.difference or outcome.note}"
            progress.console.print(say, highlight=False, markup=False, soft_wrap=True)
    return outcomes


def table_of(outcomes: Sequence[Outcome]) -> Table:
    """The outcomes, a row each."""
    table = Table("algorithm", "training", "rows compared", "result")
    for outcome in outcomes:
        rows = ", ".join(f"{count} of {name}" for name, count in outcome.rows.items())
        result = f"[red]{outcome.difference}" if outcome.difference else outcome.note
        table.add_row(outcome.algorithm, outcome.case, rows, result)
    return table


# Commits and folders.


def git(repo: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs git in a repository."""
    return subprocess.run(["git", "-C", str(repo), *words], capture_output=True, text=True)


def commit_of(repo: Path, name: str) -> str:
    """The full hash of a commit. Raises UserError where the repository has none of that name."""
    found = git(repo, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if found.returncode:
        raise UserError(f"there is no commit {name!r} in {repo}; `git log` and `git branch --all` list what there is")
    return found.stdout.strip()


@contextmanager
def worktrees(repo: Path, commits: Mapping[str, str], root: Path) -> Iterator[dict[str, Tree]]:
    """A worktree of each commit below root, by its side's name; they are gone afterwards, whatever happens."""
    folders = {side: root / side for side in commits}
    try:
        for side, commit in commits.items():
            made = git(repo, "worktree", "add", "--quiet", "--detach", str(folders[side]), commit)
            if made.returncode:
                raise UserError(f"git cannot make a worktree of {commit}: {made.stderr}")
        yield {side: Tree(folder) for side, folder in folders.items()}
    finally:
        for folder in folders.values():
            git(repo, "worktree", "remove", "--force", "--force", str(folder))


@contextmanager
def new_folder(within: Path | None, keep: bool) -> Iterator[Path]:
    """A new folder, removed afterwards unless it is to be kept."""
    if within:
        within.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="compare-commits-", dir=within)).resolve()
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def main(argv: Sequence[str], prog: str) -> int:
    """Compares two commits; returns the exit status."""
    command, console = parse(CompareCommits, argv, prog), Console()
    if command.steps < FEWEST_STEPS:
        raise UserError(f"steps is {command.steps}, but it must be at least {FEWEST_STEPS}; change --steps")
    commits = {OLD: commit_of(REPO, command.old), NEW: commit_of(REPO, command.new)}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the worktrees go then, too
    with new_folder(command.work_dir, command.keep) as root, worktrees(REPO, commits, root) as trees:
        names = {side: tree.algorithms(root / f"{side}.log") for side, tree in trees.items()}
        cases = cases_of(names[NEW], command.only)
        outcomes = compare_all(cases, trees, root / "runs", command.steps, console, names[OLD])
        if command.only is None:
            gone = Difference("registries", None, "algorithm", "there", "missing")
            outcomes += [Outcome(name, "", {}, gone) for name in names[OLD] if name not in names[NEW]]
    console.print(table_of(outcomes))
    if command.keep:
        console.print(f"the runs are in {root / 'runs'}", highlight=False, soft_wrap=True)
    differ = sum(outcome.difference is not None for outcome in outcomes)
    console.print(f"{differ} of {len(outcomes)} trainings differ", highlight=False)
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(cli.guarded(main, sys.argv[1:], Path(__file__).name))
