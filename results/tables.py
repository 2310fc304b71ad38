"""Collects finished runs of experiments, and writes the tables of the results from the files that lie here.

    python results/tables.py                                 # every table anew, from the files here
    python results/tables.py decoder                         # draws the experiment's picture, too
    python results/tables.py decoder FOLDER_OF_ABLATION      # first copies the experiment's complete runs

FOLDER_OF_ABLATION/<task>/<arm>/<seed>/eval.csv become <task>/<arm>.csv of the experiment's folder, one seed after
another, beside the seeds that are there already, and all of them one picture beside that folder. A run that has not
reached the last step of its task is left out. A table lies in a README between `<!-- table: NAME -->` and
`<!-- end -->`. `declared.py` says what each has in its rows and columns.
"""

import csv
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for tests, which import this file from elsewhere

from columns import RESULTS
from declared import EXPERIMENTS, TABLES, Experiment
from plot import draw_together

MARKED = re.compile(r"(<!-- table: (\S+) -->\n).*?(\n<!-- end -->)", re.DOTALL)


def collect(experiment: Experiment, root: Path, results: Path = RESULTS) -> None:
    """Copies the complete runs below a folder, and says how many of each task and arm there are."""
    if not root.is_dir():
        raise SystemExit(f"{root} is no folder; name the one of the experiment's runs, with TASK/ARM/SEED in it")
    for task, last_step in experiment.tasks.items():
        for arm in experiment.arms:
            folders = [path.parent for path in (root / task / arm).glob("[0-9]*/eval.csv")]
            folders.sort(key=lambda path: int(path.name))
            runs = [rows for folder in folders if (rows := _whole(folder / "eval.csv", last_step))]
            if runs:
                target = results / experiment.folder / task / f"{arm}.csv"
                target.parent.mkdir(parents=True, exist_ok=True)
                seeds = _by_seed(_rows(target)) | {seed: rows for run in runs for seed, rows in _by_seed(run).items()}
                with open(target, "w", newline="") as file:
                    writer = csv.writer(file, lineterminator="\n")
                    writer.writerows(runs[0][:1] + [row for seed in sorted(seeds) for row in seeds[seed]])
                print(f"{task} {arm}: {len(runs)} of {len(folders)} runs complete, {len(seeds)} seeds now")


def _whole(path: Path, last_step: int) -> list[list[str]]:
    """The rows of an evaluation file, header first; none if the run has not reached the step."""
    rows = _rows(path)
    column = rows[0].index("env_step") if rows else 0
    return rows if len(rows) > 1 and int(rows[-1][column]) >= last_step else []


def _rows(path: Path) -> list[list[str]]:
    """The rows of a CSV file, header first; none if there is no such file."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [*csv.reader(file)]


def _by_seed(rows: list[list[str]]) -> dict[int, list[list[str]]]:
    """The rows without their header, by seed."""
    found: dict[int, list[list[str]]] = {}
    for row in rows[1:]:
        found.setdefault(int(row[rows[0].index("seed")]), []).append(row)
    return found


def pages() -> list[Path]:
    """The pages of the results."""
    return [RESULTS / "README.md", *sorted(RESULTS.glob("*/README.md"))]


def written(page: Path) -> str:
    """A page's text with its tables written anew. Raises ValueError for a table that is not declared for this page."""

    def table(found: re.Match[str]) -> str:
        declared = TABLES.get(found[2])
        if declared is None or RESULTS / declared.page / "README.md" != page:
            raise ValueError(f"{page}: declared.py has no table {found[2]} for this page")
        return f"{found[1]}\n{declared.text(RESULTS)}\n{found[3]}"

    return MARKED.sub(table, page.read_text())


def main() -> None:
    """See the module."""
    if len(sys.argv) in (2, 3) and sys.argv[1] in EXPERIMENTS:
        experiment = EXPERIMENTS[sys.argv[1]]
        for folder in sys.argv[2:]:
            collect(experiment, Path(folder))
        draw_together(RESULTS / experiment.folder, [*experiment.tasks], experiment.arms, experiment.compared)
    elif len(sys.argv) > 1:
        raise SystemExit(f"usage: python results/tables.py [{'|'.join(EXPERIMENTS)} [FOLDER]]")
    for page in pages():
        page.write_text(written(page))


if __name__ == "__main__":
    main()
