"""`sacae report`: reads run folders and writes tables, plots, videos and a page that shows them."""

import dataclasses
import datetime
import hashlib
import io
import itertools
import math
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from rich.console import Console

from sacae.errors import UserError
from sacae.experiments.report import folder, media, page, plots, runs, statistics, tables
from sacae.experiments.report.runs import Arms
from sacae.experiments.report.tables import ALL_TASKS, FULL_RETURN, Row, Tables
from sacae.files import UNFINISHED
from sacae.text import say, shortened
from sacae.training.figures import styles

INLINE_BYTES = 4_000_000
"""Maximum size of a video that is embedded in the page; a larger one is a separate file."""

SHOWN_COMMITS = 3
"""Commits that the page names; more are a number."""

COMPARABLE_SEEDS = 4
"""Fewer seeds of an arm have no IQM, which would be the mean, and no chances of improvement and profiles."""

IQM_HEADINGS = {"iqm": "IQM", "iqm_interval": "95% interval of IQM"}

LONGEST_SLUG = 90
"""Bytes of the name of a task or an arm in the name of a file, which may have both."""


def today() -> datetime.date:
    """The date of a report."""
    return datetime.date.today()


def report(run_dirs: Sequence[Path], out: Path, console: Console) -> Path:
    """Writes a report on run folders, given directly or through folders that contain them; returns the page's path.

    Raises UserError if no run is usable, if `out` holds something else, or if rliable is missing.
    """
    if not run_dirs:
        raise UserError("RUN_DIR is missing; name run folders, or folders that hold some, such as runs")
    folder.refuse_if_foreign(out)
    statistics.require_rliable()
    tasks, found = runs.collect(run_dirs)
    everyone = [run for arms in tasks.values() for of_arm in arms.values() for run in of_arm]
    left_out = [one for one in found if one.folder.resolve() != out.resolve()]  # it is empty, or an earlier report
    unusable = [one.folder for one in left_out if runs.is_run_folder(one.folder)]
    folder.refuse_if_inside_a_run(out, [run.folder for run in everyone] + unusable)
    for one in left_out:
        say(console, str(one))
    for task, arms in tasks.items():
        named = ", ".join(plots.label(arm, len(of_arm)) for arm, of_arm in arms.items())
        say(console, f"{task}: {named}")
    numbers = tables.make(tasks, left_out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f"{UNFINISHED}report-") as new:
            _Writer(Path(new), _name(out), tasks, numbers, console).write([str(one) for one in left_out])
            folder.replace(out, Path(new))
    except OSError as error:
        raise UserError(
            f"out is {out}, but it cannot be written: {error.strerror or error}; choose another --out"
        ) from None
    say(console, f"report: {out / folder.PAGE}")
    return out / folder.PAGE


def _name(out: Path) -> str:
    """What a report calls itself: its folder, or the one around a folder that is just called report."""
    folder = out.resolve()
    return folder.parent.name if folder.name == "report" and folder.parent.name else folder.name


@dataclasses.dataclass
class _Writer:
    """Writes a report into an empty folder. name: what the report calls itself."""

    folder: Path
    name: str
    tasks: dict[str, Arms]
    tables: Tables
    console: Console

    def __post_init__(self) -> None:
        names = dict.fromkeys(arm for arms in self.tasks.values() for arm in arms)
        self.style = styles(list(names))

    def write(self, left_out: Sequence[str]) -> None:
        """Writes everything."""
        tables.write(self.tables, self.folder / "data")
        sections = [self._task(task, arms) for task, arms in self.tasks.items()]
        if any(row["task"] == ALL_TASKS for row in self.tables.returns):
            sections.insert(0, self._all_tasks())
        sections.append(self._runs())
        whole = page.Page(
            title=f"Report: {self.name}",
            subtitle=f"{today():%-d %B %Y}; runs of {self._commits()}",
            facts=self._facts(),
            notes=self._notes(),
            warnings=page.Card("Left out", page.Warnings(left_out)) if left_out else None,
            sections=sections,
        )
        (self.folder / folder.PAGE).write_text(whole.html(), encoding="utf-8")

    def _commits(self) -> str:
        """The commits with which the runs were trained."""
        found = list(dict.fromkeys(row["git_commit"] for row in self.tables.runs))
        names = [shortened(commit if commit == "unknown" else commit[:7], 40) for commit in found[:SHOWN_COMMITS]]
        more = f" and {len(found) - SHOWN_COMMITS} more" if len(found) > SHOWN_COMMITS else ""
        return f"commit{'' if len(found) == 1 else 's'} {', '.join(names)}{more}"

    def _seeds(self) -> list[int]:
        return [len(of_arm) for arms in self.tasks.values() for of_arm in arms.values()]

    def _facts(self) -> list[tuple[str, str]]:
        seeds, arms = self._seeds(), {arm for arms in self.tasks.values() for arm in arms}
        fewest, most = min(seeds), max(seeds)
        return [
            (str(len(self.tasks)), "task" if len(self.tasks) == 1 else "tasks"),
            (str(len(arms)), "arm" if len(arms) == 1 else "arms"),
            (str(sum(seeds)), "run" if sum(seeds) == 1 else "runs"),
            (f"{fewest}–{most}" if fewest < most else str(most), f"seed{'' if most == 1 else 's'} of each arm"),
        ]

    def _notes(self) -> list[str]:
        fewest, most = min(self._seeds()), max(self._seeds())
        intervals = "Intervals are 95% stratified bootstrap intervals over seeds. "
        if most < statistics.MIN_SEEDS:
            intervals += "An arm needs 3 seeds for one, so there are none: differences may be chance."
        elif fewest < statistics.MIN_SEEDS:
            intervals += "Arms with fewer than 3 seeds get none: their differences may be chance."
        if fewest >= COMPARABLE_SEEDS:
            return [intervals]
        what = "Interquartile means, probabilities of improvement and performance profiles"
        return [intervals, f"{what} are shown of arms with {COMPARABLE_SEEDS} seeds or more: fewer say too little."]

    def _task(self, task: str, arms: Arms) -> page.Section:
        """A task's section: curves, returns with published ones, videos, reconstructions and the rest."""
        where = f"at {tables.last_common_step(arms):,} environment steps"
        section = page.Section(task, ["; ".join(plots.label(arm, len(of_arm)) for arm, of_arm in arms.items())])
        if any(not tables.common_steps(of_arm) for of_arm in arms.values()):
            section.notes.append("An arm whose runs have no evaluation step in common has no curve.")
        section.cards += self._curves(task, arms)
        section.cards += self._returns(task, where)
        section.cards += self._comparisons(task, where) + self._throughput_plot(task)
        section.cards += self._throughput(task)
        section.cards += self._settings(task, arms)
        section.cards += self._video(task, arms)
        section.cards += self._reconstructions(task, arms)
        return section

    def _curves(self, task: str, arms: Arms) -> list[page.Card]:
        rows, seeds = _of(self.tables.curves, task), _of(self.tables.seeds, task)
        cards = []
        for statistic, of_these in (("mean", rows), ("iqm", _comparable(rows))):
            for over in ("env_step", "hours") if of_these else ():
                seen = tables.observations(arms)
                plot = plots.curves(task, of_these, seeds, statistic, over, self.style, seen)
                cards.append(self._save(plot, task, f"{statistic}_{over}"))
        return cards

    def _returns(self, task: str, where: str) -> list[page.Card]:
        rows = _of(self.tables.returns, task)
        if not rows:
            return []
        headings = {"name": "arm", "mean": "mean", "interval": "95% interval", "std": "std", "seeds": "seeds"}
        headings |= IQM_HEADINGS if _comparable(rows, own=True) else {}
        lines: list[Row] = []
        for step, of_step in itertools.groupby(rows, key=lambda row: int(row["env_step"])):
            lines += [{"group": f"at {step:,} environment steps"}, *map(_readable, of_step)]
        caption = (
            f"Each run's last evaluation at or before the step, at most {runs.NEAR:.0%} before it. Marked rows are "
            "these runs, the others published values; std is over seeds."
        )
        content = page.table(lines, headings | {"source": "source"})
        return [page.Card(f"Returns, last {where}", content, caption)]

    def _comparisons(self, task: str, where: str) -> list[page.Card]:
        cards = []
        if rows := [row for row in _comparable(_of(self.tables.improvement, task)) if _enough(row["other_seeds"])]:
            cards.append(self._save(plots.improvement(task, rows, where), task, "improvement"))
        if rows := _comparable(_of(self.tables.profile, task)):
            cards.append(self._save(plots.profile(task, rows, self.style, where), task, "profile"))
        return cards

    def _throughput_plot(self, task: str) -> list[page.Card]:
        plot = plots.throughput(task, _of(self.tables.throughput, task), self.style)
        return [self._save(plot, task, "throughput")] if plot else []

    def _throughput(self, task: str) -> list[page.Card]:
        rows = [row | {name: _percent(row[name]) for name in runs.SHARES} for row in _of(self.tables.throughput, task)]
        headings = {
            "arm": "arm", "env_steps_per_second": "environment steps/s", "updates_per_second": "updates/s",
            "hours": "hours", "seeds": "seeds",
        } | {name: name.removeprefix("share_") for name in runs.SHARES}  # fmt: skip
        caption = "Shares of wall-clock time; with --overlap, env and render run in parallel with the rest."
        return [page.Card("Throughput", page.table(rows, headings), caption)]

    def _settings(self, task: str, arms: Arms) -> list[page.Card]:
        # Keys are numbers, because an arm can have any name.
        keys = {arm: str(i) for i, arm in enumerate(arms)}
        rows: dict[str, Row] = {}
        for row in _of(self.tables.settings, task):
            # An arm lacks the settings that belong to another algorithm.
            cells = rows.setdefault(row["setting"], {"setting": row["setting"]} | dict.fromkeys(keys.values()))
            cells[keys[row["arm"]]] = str(row["value"])
        if not rows:
            return []
        headings = {"setting": "setting"} | {key: plots.label(arm, len(arms[arm])) for arm, key in keys.items()}
        return [page.Card("Settings that differ", page.table(list(rows.values()), headings))]

    def _video(self, task: str, arms: Arms) -> list[page.Card]:
        path = self.folder / "media" / f"{_slug(task)}.mp4"
        shown, missing = media.side_by_side(arms, path, lambda text: say(self.console, text))
        if not shown:
            return []
        content = path.read_bytes()
        source = page.data("video/mp4", content) if len(content) <= INLINE_BYTES else f"media/{path.name}"
        caption = "The last recorded evaluation episode of one run of each arm: " + "; ".join(shown) + "."
        caption += f" No video: {', '.join(missing)}." if missing else ""
        poster = media.poster(path)
        content_of_card = page.Video(source, page.data("image/jpeg", _encoded(poster, "JPEG")), poster.width)
        return [page.Card("Videos", content_of_card, caption)]

    def _reconstructions(self, task: str, arms: Arms) -> list[page.Card]:
        cards = []
        for arm, of_arm in arms.items():
            if found := media.strips(of_arm, lambda text: say(self.console, text)):
                picture, what = found
                png = _encoded(picture, "PNG")
                self._put("media", f"{_slug(task)}-{_slug(arm)}-reconstruction.png", png)
                content = page.Picture(page.data("image/png", png), what, picture.width)
                cards.append(page.Card(f"Reconstructions: {arm}", content, what + ".", wide=False))
        return cards

    def _all_tasks(self) -> page.Section:
        where = "at each task's last common step"
        rows = [_readable(row) for row in _of(self.tables.returns, ALL_TASKS)]
        headings = {"name": "arm", "mean": "mean", "interval": "95% interval", "seeds": "seeds of each task"}
        headings |= IQM_HEADINGS if _comparable(rows) else {}
        caption = (
            f"Returns as a share of {FULL_RETURN} over the tasks of the DeepMind Control suite, {where}; arms that "
            "have all of these tasks, with as many seeds of each as the task with the fewest has."
        )
        returns = page.Card("All tasks together", page.table(rows, headings | {"source": "source"}), caption)
        return page.Section(ALL_TASKS, [], [returns, *self._comparisons(ALL_TASKS, where)])

    def _runs(self) -> page.Section:
        headings = {
            "task": "task", "arm": "arm", "episode_return": "last return", "seed": "seed",
            "last_env_step": "last environment step", "planned_env_steps": "planned", "hours": "hours",
            "folder": "folder",
        }  # fmt: skip
        files = ", ".join(f"data/{name}.csv" for name in vars(self.tables))
        return page.Section(
            "Runs",
            [f"The numbers behind this page: {files}. Plots: plots/ (PNG and SVG)."],
            [page.Card("Every run", page.table(self.tables.runs, headings))],
        )

    def _save(self, plot: plots.Plot, task: str, name: str) -> page.Card:
        self._put("plots", f"{_slug(task)}-{name}.svg", plot.svg["light"])
        self._put("plots", f"{_slug(task)}-{name}.png", plot.png)
        return page.plot(plot)

    def _put(self, kind: str, name: str, content: bytes) -> None:
        (self.folder / kind).mkdir(exist_ok=True)
        (self.folder / kind / name).write_bytes(content)


def _of(rows: Sequence[Row], task: str) -> list[Row]:
    return [row for row in rows if row["task"] == task]


def _enough(seeds: int) -> bool:
    return seeds >= COMPARABLE_SEEDS


def _comparable(rows: Sequence[Row], own: bool = False) -> list[Row]:
    """The rows of arms with enough seeds. own: without published ones."""
    return [row for row in rows if _enough(row["seeds"]) and not (own and not _is_own(row))]


def _is_own(row: Row) -> bool:
    return bool(row["source"].startswith("these runs"))


def _readable(row: Row) -> Row:
    """A row of returns with its intervals as text, and without an IQM of few seeds."""
    return row | {
        "own": _is_own(row),
        "iqm": row["iqm"] if _enough(row["seeds"]) else None,
        "interval": _interval(row["mean_low"], row["mean_high"]),
        "iqm_interval": _interval(row["iqm_low"], row["iqm_high"]) if _enough(row["seeds"]) else None,
    }


def _interval(low: float | None, high: float | None) -> str | None:
    if low is None or high is None or math.isnan(low):
        return None
    return f"{page.words(low)} to {page.words(high)}"


def _percent(share: float) -> str | None:
    return None if math.isnan(share) else f"{share:.0%}"


def _encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def _slug(name: str) -> str:
    """A text as a part of a file name; a long one is cut, and a digest keeps it apart from others."""
    slug = re.sub(r"[^\w.+-]+", "_", name)
    if len(slug.encode()) <= LONGEST_SLUG:
        return slug
    start = slug.encode()[:LONGEST_SLUG].decode(errors="ignore")
    return f"{start}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
