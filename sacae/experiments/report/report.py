"""`sacae report`: reads run folders and writes tables, plots, videos and a page that shows them."""

import dataclasses
import hashlib
import io
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
from sacae.text import say

INLINE_BYTES = 4_000_000
"""Maximum size of a video that is embedded in the page; a larger one is a separate file."""

TITLE = "Training report"

LONGEST_SLUG = 90
"""Bytes of the name of a task or an arm in the name of a file, which may have both."""


def report(run_dirs: Sequence[Path], out: Path, console: Console) -> Path:
    """Writes a report on run folders, given directly or through folders that contain them; returns the page's path.

    Raises UserError if no run is usable, if `out` holds something else, or if rliable is missing.
    """
    if not run_dirs:
        raise UserError("RUN_DIR is missing; name run folders, or folders that hold some, such as runs")
    folder.refuse_if_foreign(out)
    statistics.require_rliable()
    tasks, left_out = runs.collect(run_dirs)
    everyone = [run for arms in tasks.values() for of_arm in arms.values() for run in of_arm]
    folder.refuse_if_inside_a_run(out, [run.folder for run in everyone] + [one.folder for one in left_out])
    for one in left_out:
        say(console, str(one))
    for task, arms in tasks.items():
        named = ", ".join(plots.label(arm, len(of_arm)) for arm, of_arm in arms.items())
        say(console, f"{task}: {named}")
    numbers = tables.make(tasks, left_out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".tmp-report-") as new:
            _Writer(Path(new), tasks, numbers, console).write([str(one) for one in left_out])
            folder.replace(out, Path(new))
    except OSError as error:
        raise UserError(
            f"out is {out}, but it cannot be written: {error.strerror or error}; choose another --out"
        ) from None
    say(console, f"report: {out / 'index.html'}")
    return out / "index.html"


@dataclasses.dataclass
class _Writer:
    """Writes a report into an empty folder."""

    folder: Path
    tasks: dict[str, Arms]
    tables: Tables
    console: Console

    def __post_init__(self) -> None:
        names = dict.fromkeys(arm for arms in self.tasks.values() for arm in arms)
        self.style = plots.styles(list(names))

    def write(self, left_out: Sequence[str]) -> None:
        """Writes everything."""
        tables.write(self.tables, self.folder / "data")
        sections = [self._task(task, arms) for task, arms in self.tasks.items()]
        if any(row["task"] == ALL_TASKS for row in self.tables.returns):
            sections.insert(0, self._all_tasks())
        sections.append(self._runs())
        (self.folder / "index.html").write_text(
            page.page(TITLE, self._introduction(left_out), sections), encoding="utf-8"
        )

    def _introduction(self, left_out: Sequence[str]) -> list[str]:
        seeds = [len(of_arm) for arms in self.tasks.values() for of_arm in arms.values()]
        arms = {arm for arms in self.tasks.values() for arm in arms}
        fewest, most = min(seeds), max(seeds)
        numbers = [
            (str(len(self.tasks)), "task" if len(self.tasks) == 1 else "tasks"),
            (str(len(arms)), "arm" if len(arms) == 1 else "arms"),
            (str(sum(seeds)), "run" if sum(seeds) == 1 else "runs"),
            (f"{fewest}–{most}" if fewest < most else str(most), f"seed{'' if most == 1 else 's'} of each arm"),
        ]
        note = (
            "Intervals are 95% stratified bootstrap intervals over seeds. "
            + ("No arm has the 3 seeds that one needs, so there are none: " if most < statistics.MIN_SEEDS else
               "Some arms have fewer than the 3 seeds that one needs, and get none: " if fewest < statistics.MIN_SEEDS
               else "")
            + ("differences between arms may be chance." if fewest < statistics.MIN_SEEDS else "")
        )  # fmt: skip
        pieces = [page.facts(numbers), page.paragraph(note, "soft")]
        return pieces + ([page.listing("Left out", left_out)] if left_out else [])

    def _task(self, task: str, arms: Arms) -> page.Section:
        """A task's section: curves, returns with published ones, videos, reconstructions and the rest."""
        last = tables.last_common_step(arms)
        where = f"at {last:,} environment steps"
        seeds = ", ".join(plots.label(arm, len(of_arm)) for arm, of_arm in arms.items())
        section = page.Section(task, [page.paragraph(seeds, "soft")])
        section.pieces.append(page.grid(self._curves(task)))
        if any(not tables.common_steps(of_arm) for of_arm in arms.values()):
            section.pieces.append(page.paragraph("An arm whose runs have no evaluation step in common has no curve."))
        section.pieces += self._returns(task, where)
        section.pieces += self._video(task, arms)
        section.pieces += self._reconstructions(task, arms)
        section.pieces.append(page.grid(self._comparisons(task, where) + self._throughput_plot(task)))
        section.pieces += [self._throughput(task), *self._settings(task, arms)]
        return section

    def _curves(self, task: str) -> list[str]:
        rows, seeds = _of(self.tables.curves, task), _of(self.tables.seeds, task)
        if not rows:
            return []
        drawn = [
            (f"{statistic}_{over}", plots.curves(task, rows, seeds, statistic, over, self.style))
            for over in ("env_step", "hours")
            for statistic in ("mean", "iqm")
        ]
        return [self._save(plot, task, name) for name, plot in drawn]

    def _returns(self, task: str, where: str) -> list[str]:
        rows = [_readable(row) for row in _of(self.tables.returns, task)]
        columns = {
            "env_step": "environment steps",
            "name": "arm",
            "seeds": "seeds",
            "mean": "mean",
            "interval": "95% interval",
            "std": "std over seeds",
            "iqm": "IQM",
            "iqm_interval": "95% interval of IQM",
            "source": "source",
        }
        caption = (
            f"Each run's last evaluation at or before the step, at most {runs.NEAR:.0%} before it; marked rows are "
            "these runs, the others published values. Published curves are independent of the papers' tables."
        )
        return [page.card(f"Returns, last {where}", page.table(rows, columns, own="own"), caption)] if rows else []

    def _comparisons(self, task: str, where: str) -> list[str]:
        cards = []
        if rows := _of(self.tables.improvement, task):
            cards.append(self._save(plots.improvement(task, rows, where), task, "improvement"))
        if rows := _of(self.tables.profile, task):
            cards.append(self._save(plots.profile(task, rows, self.style, where), task, "profile"))
        return cards

    def _throughput_plot(self, task: str) -> list[str]:
        plot = plots.throughput(task, _of(self.tables.throughput, task), self.style)
        return [self._save(plot, task, "throughput")] if plot else []

    def _throughput(self, task: str) -> str:
        rows = [row | {name: _percent(row[name]) for name in runs.SHARES} for row in _of(self.tables.throughput, task)]
        columns = {
            "arm": "arm", "seeds": "seeds", "hours": "hours", "env_steps_per_second": "environment steps/s",
            "updates_per_second": "updates/s",
        } | {name: name.removeprefix("share_") for name in runs.SHARES}  # fmt: skip
        caption = "Shares of wall-clock time; with --overlap, env and render run in parallel with the rest."
        return page.card("Throughput", page.table(rows, columns), caption)

    def _settings(self, task: str, arms: Arms) -> list[str]:
        rows: dict[str, dict[str, str]] = {}
        for row in _of(self.tables.settings, task):
            rows.setdefault(row["setting"], {"setting": row["setting"]})[row["arm"]] = str(row["value"])
        if not rows:
            return []
        columns = {"setting": "setting"} | {arm: plots.label(arm, len(of_arm)) for arm, of_arm in arms.items()}
        # An arm lacks the settings that belong to another algorithm.
        cells = [dict.fromkeys(columns) | row for row in rows.values()]
        return [page.card("Settings that differ", page.table(cells, columns))]

    def _video(self, task: str, arms: Arms) -> list[str]:
        path = self.folder / "media" / f"{_slug(task)}.mp4"
        shown, missing = media.side_by_side(arms, path)
        if not shown:
            return []
        content = path.read_bytes()
        source = page.data("video/mp4", content) if len(content) <= INLINE_BYTES else f"media/{path.name}"
        caption = "The last recorded evaluation episode of one run of each arm: " + "; ".join(shown) + "."
        caption += f" No video: {', '.join(missing)}." if missing else ""
        return [page.card("Videos", page.video(source, _encoded(media.poster(path), "JPEG")), caption)]

    def _reconstructions(self, task: str, arms: Arms) -> list[str]:
        cards = []
        for arm, of_arm in arms.items():
            if found := media.strips(of_arm, lambda text: say(self.console, text)):
                picture, what = found
                png = _encoded(picture, "PNG")
                self._put("media", f"{_slug(task)}-{_slug(arm)}-reconstruction.png", png)
                cards.append(page.card(f"Reconstructions: {arm}", page.image(png, what, "strip"), what + ".", kind=""))
        return [page.grid(cards)] if cards else []

    def _all_tasks(self) -> page.Section:
        where = "at each task's last common step"
        rows = [_readable(row) for row in _of(self.tables.returns, ALL_TASKS)]
        columns = {
            "name": "arm", "seeds": "seeds of each task", "mean": "mean", "interval": "95% interval", "iqm": "IQM",
            "iqm_interval": "95% interval of IQM", "source": "source",
        }  # fmt: skip
        caption = (
            f"Returns as a share of {FULL_RETURN} over the tasks of the DeepMind Control suite, {where}; arms that "
            "have all of these tasks, with as many seeds of each as the task with the fewest has."
        )
        pieces = [page.card("All tasks together", page.table(rows, columns), caption)]
        return page.Section(ALL_TASKS, [*pieces, page.grid(self._comparisons(ALL_TASKS, where))])

    def _runs(self) -> page.Section:
        columns = {
            "task": "task", "arm": "arm", "seed": "seed", "last_env_step": "last environment step",
            "planned_env_steps": "planned", "hours": "hours", "episode_return": "last return", "folder": "folder",
        }  # fmt: skip
        files = ", ".join(f"data/{name}.csv" for name in vars(self.tables))
        return page.Section(
            "Runs",
            [
                page.card("Every run", page.table(self.tables.runs, columns)),
                page.paragraph(f"The numbers behind this page: {files}. Plots: plots/ (PNG and SVG).", "soft"),
            ],
        )

    def _save(self, plot: plots.Plot, task: str, name: str) -> str:
        self._put("plots", f"{_slug(task)}-{name}.svg", plot.svg["light"])
        self._put("plots", f"{_slug(task)}-{name}.png", plot.png)
        return page.plot(plot)

    def _put(self, kind: str, name: str, content: bytes) -> None:
        (self.folder / kind).mkdir(exist_ok=True)
        (self.folder / kind / name).write_bytes(content)


def _of(rows: Sequence[Row], task: str) -> list[Row]:
    return [row for row in rows if row["task"] == task]


def _readable(row: Row) -> Row:
    """A row of returns with its intervals as text."""
    own = row["source"].startswith("these runs")
    return row | {
        "own": own,
        "interval": _interval(row["mean_low"], row["mean_high"]),
        "iqm_interval": _interval(row["iqm_low"], row["iqm_high"]),
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
