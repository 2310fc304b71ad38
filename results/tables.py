"""Collects finished runs of experiments, and writes the tables of the results from the files that lie here.

    python results/tables.py                                 # every table anew, from the files here
    python results/tables.py decoder FOLDER_OF_ABLATION      # first copies the experiment's complete runs

FOLDER_OF_ABLATION/<task>/<arm>/<seed>/eval.csv become <task>/<arm>.csv of the experiment's folder, one seed after
another. A run that has not reached the experiment's last step is left out. A table lies in a README between
`<!-- table: NAME -->` and `<!-- end -->`: the mean over seeds of each evaluation's mean return.
"""

import csv
import re
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))  # for tests, which import this file from elsewhere

from plot import evaluations

RESULTS = Path(__file__).parent


class Experiment(NamedTuple):
    """A table: arms of an experiment on tasks, at its evaluations.

    folder: of the CSV files. readme: the file with the table. arms: name of a CSV file, without suffix, and what the
    table calls it. steps: environment steps of the columns; a run is complete when it has the last of them.
    """

    folder: Path
    readme: Path
    arms: dict[str, str]
    tasks: tuple[str, ...]
    steps: range
    heading: str


EXPERIMENTS = {
    "decoder": Experiment(
        RESULTS / "laptop/decoder",
        RESULTS / "laptop/README.md",
        {"rae": "on", "none": "off"},
        ("reacher_easy", "ball_in_cup_catch", "cartpole_swingup", "cheetah_run", "walker_walk", "finger_spin"),
        range(0, 100_001, 10_000),
        "decoder",
    ),
}


def collect(experiment: Experiment, root: Path) -> None:
    """Copies the complete runs below a folder, and says how many of each task and arm there are."""
    for task in experiment.tasks:
        for arm in experiment.arms:
            folders = [path.parent for path in (root / task / arm).glob("*/eval.csv")]
            folders.sort(key=lambda path: int(path.name))
            runs = [rows for folder in folders if (rows := _whole(folder / "eval.csv", experiment.steps[-1]))]
            if runs:
                target = experiment.folder / task / f"{arm}.csv"
                target.parent.mkdir(parents=True, exist_ok=True)
                with open(target, "w", newline="") as file:
                    writer = csv.writer(file, lineterminator="\n")
                    writer.writerows(runs[0][:1] + [row for rows in runs for row in rows[1:]])
                print(f"{task} {arm}: {len(runs)} of {len(folders)} runs complete")


def _whole(path: Path, last_step: int) -> list[list[str]]:
    """The rows of an evaluation file, header first; none if the run has not reached the step."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        rows = [*csv.reader(file)]
    column = rows[0].index("env_step") if rows else 0
    return rows if len(rows) > 1 and int(rows[-1][column]) >= last_step else []


def table(experiment: Experiment) -> str:
    """The table in Markdown."""
    names = ["0" if step == 0 else f"{step // 1000}k" for step in experiment.steps]
    lines = [f"| task | {experiment.heading} | seeds | {' | '.join(names)} |", "|" + "---|" * (len(names) + 3)]
    for task in experiment.tasks:
        for arm, label in experiment.arms.items():
            if (path := experiment.folder / task / f"{arm}.csv").exists():
                found = evaluations(path)
                means = [np.mean([np.mean(episodes) for episodes in found[s].values()]) for s in experiment.steps]
                cells = [task, label, str(len(found[experiment.steps[-1]])), *(f"{mean:.0f}" for mean in means)]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def with_table(text: str, name: str) -> str:
    """A README's text with its table of that name written anew."""
    start, end = f"<!-- table: {name} -->", "<!-- end -->"
    written, count = re.subn(
        f"({start}\n).*?(\n{end})",
        lambda found: f"{found[1]}\n{table(EXPERIMENTS[name])}\n{found[2]}",
        text,
        count=1,
        flags=re.DOTALL,
    )
    if not count:
        raise ValueError(f"there are no lines {start} and {end}")
    return written


def main() -> None:
    """See the module."""
    if len(sys.argv) == 3 and sys.argv[1] in EXPERIMENTS:
        collect(EXPERIMENTS[sys.argv[1]], Path(sys.argv[2]))
    elif len(sys.argv) > 1:
        raise SystemExit(f"usage: python results/tables.py [{'|'.join(EXPERIMENTS)} FOLDER]")
    for name, experiment in EXPERIMENTS.items():
        experiment.readme.write_text(with_table(experiment.readme.read_text(), name))


if __name__ == "__main__":
    main()
