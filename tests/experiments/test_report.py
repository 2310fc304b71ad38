"""`sacae report`: its numbers against the run folders', what it refuses, and that it changes no run."""

import csv
import datetime
import hashlib
import html
import itertools
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import trim_mean

from sacae import cli
from sacae import config as configs
from sacae.errors import how_to_install
from sacae.experiments.report import plots, published, runs, statistics
from sacae.experiments.report import report as reports
from sacae.training import run_folder
from sacae.training.logger import EVAL_COLUMNS
from sacae.training.pictures import write_video

STEPS = (0, 50_000, 100_000)
DAY = datetime.date(2024, 2, 29)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def make_run(folder: Path, returns: dict[int, list[float]], **settings) -> Path:
    """A run folder with an evaluation at each step, one episode for each return."""
    config = configs.make(work_dir=folder, **settings)
    run_folder.create(config)
    run = {"agent": config.variant, "task": config.task_name, "seed": config.train.seed}
    with open(folder / "eval.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, EVAL_COLUMNS)
        writer.writeheader()
        for step, of_step in returns.items():
            for episode, value in enumerate(of_step):
                row = {"env_step": step, "agent_step": step // 4, "episode": episode, "episode_return": value}
                writer.writerow(run | row | {"episode_length": 250, "hours": step / 50_000})
    speeds = ("updates_per_second", "env_steps_per_second")
    rows = [(0, 400), (25, 100), (27, 104), (26, 108)]
    lines = [",".join(speeds), *(f"{updates},{steps}" for updates, steps in rows)]
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    return folder


def returns(seed: int, level: float) -> dict[int, list[float]]:
    rng = np.random.default_rng(seed)
    return {step: (level * step / 1000 + rng.uniform(0, 20, 3)).tolist() for step in STEPS}


def make_arms(root: Path, seeds: int, **settings) -> Path:
    """Two arms of cheetah_run, with and without a decoder."""
    for decoder, level in (("rae", 3.0), ("none", 1.0)):
        for seed in range(1, seeds + 1):
            make_run(root / decoder / str(seed), returns(seed, level), decoder=decoder, seed=seed, **settings)
    return root


def report(*run_dirs: Path, out: Path) -> int:
    return cli.main(["report", *map(str, run_dirs), "--out", str(out)])


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def recomputed(root: Path, decoder: str, step: int) -> np.ndarray:
    """Each seed's mean return at a step, from the runs' own files."""
    values = []
    for path in sorted((root / decoder).glob("*/eval.csv")):
        values.append(np.mean([float(r["episode_return"]) for r in rows(path) if int(r["env_step"]) == step]))
    return np.array(values)


def fingerprint(root: Path) -> dict[str, tuple]:
    """Content and time of change of every file below a folder."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {str(f): (hashlib.sha256(f.read_bytes()).hexdigest(), f.stat().st_mtime_ns) for f in files}


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> tuple[Path, Path]:
    """Runs of two arms with four seeds each, and the report on them."""
    root = make_arms(tmp_path_factory.mktemp("runs"), 4)
    before = fingerprint(root)
    out = tmp_path_factory.mktemp("reports") / "new" / "report"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reports, "today", lambda: DAY)
        assert report(root, out=out) == 0
    assert fingerprint(root) == before
    return root, out


def test_curves_are_those_recomputed_from_the_runs(reported):
    root, out = reported
    found = rows(out / "data" / "curves.csv")
    assert {(r["arm"], int(r["env_step"])) for r in found} == set(itertools.product(("sac-rae", "sac-none"), STEPS))
    for row in found:
        values = recomputed(root, row["arm"].removeprefix("sac-"), int(row["env_step"]))
        assert float(row["mean"]) == pytest.approx(values.mean())
        assert float(row["iqm"]) == pytest.approx(trim_mean(values, 0.25))
        assert values.min() <= float(row["mean_low"]) < values.mean() < float(row["mean_high"]) <= values.max()
        assert int(row["seeds"]) == 4
        assert float(row["hours"]) == int(row["env_step"]) / 50_000


def test_returns_stand_beside_published_ones_with_their_source(reported):
    root, out = reported
    found = rows(out / "data" / "returns.csv")
    assert {int(row["env_step"]) for row in found} == {100_000}
    ours = {row["name"]: row for row in found if row["source"] == "these runs"}
    for decoder in ("rae", "none"):
        values = recomputed(root, decoder, 100_000)
        assert float(ours[f"sac-{decoder}"]["mean"]) == pytest.approx(values.mean())
        assert float(ours[f"sac-{decoder}"]["std"]) == pytest.approx(values.std(ddof=1))
    (curl,) = [row for row in found if row["name"] == "CURL"]
    assert float(curl["mean"]) == 299
    published = {row["source"]: row for row in found if row["name"] == "SAC-AE"}
    assert float(published["CURL paper Table 1 (arXiv:2004.04136)"]["mean"]) == 267
    assert float(published["DrQ paper Table 1 (ICLR 2021)"]["mean"]) == 240
    assert any("KarlXing" in source for source in published)


def test_improvement_and_profile_are_those_recomputed_from_the_runs(reported):
    root, out = reported
    none, rae = recomputed(root, "none", 100_000), recomputed(root, "rae", 100_000)
    (row,) = rows(out / "data" / "improvement.csv")
    assert (row["arm"], row["other"]) == ("sac-none", "sac-rae")
    assert float(row["probability"]) == np.mean([a > b for a in none for b in rae]) == 0
    for row in rows(out / "data" / "profile.csv"):
        values = {"sac-rae": rae, "sac-none": none}[row["arm"]]
        assert float(row["share"]) == np.mean(values > float(row["threshold"]) + 1e-9)


def test_throughput_is_of_the_episodes_with_updates_and_settings_that_differ_are_listed(reported):
    _, out = reported
    assert {row["env_steps_per_second"] for row in rows(out / "data" / "throughput.csv")} == {"104.0"}
    settings = rows(out / "data" / "settings.csv")
    assert {(r["setting"], r["arm"], r["value"]) for r in settings} == {
        ("decoder", "sac-rae", "rae"),
        ("decoder", "sac-none", "none"),
    }


def test_the_page_needs_nothing_beside_it_and_holds_every_plot(reported):
    _, out = reported
    text = (out / "index.html").read_text()
    for name in ("mean_env_step", "mean_hours", "iqm_env_step", "iqm_hours", "improvement", "profile", "throughput"):
        for kind in ("png", "svg"):
            assert (out / "plots" / f"cheetah_run-{name}.{kind}").stat().st_size > 1000
    assert text.count("<picture>") == 7
    assert 'src="http' not in text
    assert "sac-rae (4 seeds)" in text
    assert "CURL paper Table 1" in text


def test_two_reports_on_the_same_runs_are_equal_and_the_second_replaces_the_first(reported, tmp_path, monkeypatch):
    root, first = reported
    monkeypatch.setattr(reports, "today", lambda: DAY)
    out = tmp_path / "new" / "report"
    assert report(root, out=out) == 0
    (out / "notes.txt").write_text("mine")
    assert report(root, out=out) == 0
    assert (out / "notes.txt").read_text() == "mine"
    for name in ("index.html", "data/curves.csv", "data/improvement.csv"):
        assert (out / name).read_bytes() == (first / name).read_bytes()


def test_the_page_is_headed_by_the_reports_name_its_date_and_the_runs_commit(reported):
    root, out = reported
    text = (out / "index.html").read_text()
    assert reports._name(Path("reports/decoder")) == "decoder"
    commit = runs.read(root / "rae" / "1").git_commit
    assert "<h1>Report: new</h1>" in text
    assert f"29 February 2024; runs of commit {commit if commit == 'unknown' else commit[:7]}<" in text


@pytest.mark.parametrize(("seeds", "interval"), [(2, False), (3, True)])
def test_fewer_than_three_seeds_have_no_interval(tmp_path, seeds, interval):
    root = make_arms(tmp_path / "runs", seeds)
    assert report(root, out=tmp_path / "report") == 0
    for name, column in (("curves", "mean"), ("curves", "iqm"), ("improvement", "probability"), ("profile", "share")):
        for row in rows(tmp_path / "report" / "data" / f"{name}.csv"):
            assert bool(row[f"{column}_low"]) == bool(row[f"{column}_high"]) == interval
    assert ("so there are none" in (tmp_path / "report" / "index.html").read_text()) != interval


def test_bands_are_drawn_from_three_seeds_on_only():
    assert np.isnan(statistics.estimate(np.ones((2, 1, 5)), statistics.mean).low).all()
    assert not np.isnan(statistics.estimate(np.ones((3, 1, 5)), statistics.mean).low).any()


def test_a_published_curve_ends_where_ours_do_and_is_a_mark_where_it_has_one_point_there():
    axis = Figure().subplots()
    plots.published_curves(axis, published.curves("cheetah_run", {"pixels"}), 40_000)
    lines = {line.get_label().partition(" (")[0]: line for line in axis.lines}
    assert lines["SAC-AE"].get_xydata().tolist() == [[40_000, pytest.approx(160, abs=1)]]
    assert lines["SAC-AE"].get_marker() not in ("None", "none", "")
    assert len(lines["DrQ"].get_xdata()) > 1
    assert lines["DrQ"].get_marker() in ("None", "none", "")
    assert max(line.get_xdata().max() for line in lines.values()) <= 40_000


def test_a_published_curve_without_a_point_behind_step_0_up_to_where_ours_end_is_not_drawn():
    curves = published.curves("cheetah_run", {"pixels"})
    assert {"DrQ", "SAC-AE"} <= {curve.name for curve in curves}
    assert {"DrQ"} == {curve.name for curve in plots.shown(curves, 9_000)}
    assert not plots.shown(curves, 1_000)


@pytest.mark.parametrize(("seen", "names"), [({"state"}, {"SAC from state"}), ({"state", "pixels"}, None)])
def test_runs_from_state_stand_beside_published_ones_from_state_alone(seen, names):
    shown = {curve.name for curve in published.curves("cheetah_run", seen)}
    shown |= {value.name for value in published.values("cheetah_run", 100_000, seen)}
    assert shown == (names or {*published.NAMES.values()})


@pytest.mark.parametrize(("seeds", "compared"), [(3, False), (4, True)])
def test_iqm_improvement_and_profile_are_shown_from_four_seeds_on(tmp_path, seeds, compared):
    assert report(make_arms(tmp_path / "runs", seeds), out=tmp_path / "report") == 0
    drawn = {path.stem.removeprefix("cheetah_run-") for path in (tmp_path / "report" / "plots").glob("*.png")}
    always = {"mean_env_step", "mean_hours", "throughput"}
    assert drawn - always == ({"iqm_env_step", "iqm_hours", "improvement", "profile"} if compared else set())
    text = (tmp_path / "report" / "index.html").read_text()
    assert ("of arms with 4 seeds or more" in text) != compared
    assert (">IQM<" in text) == compared


def test_a_profile_changes_in_steps_at_the_returns_themselves():
    rows = [
        {"arm": "sac-rae", "seeds": 1, "threshold": at, "share": share, "share_low": np.nan, "share_high": np.nan}
        for at, share in ((0, 1.0), (10, 0.5), (30, 0.0), (31, 0.0))
    ]
    figures: list[Axes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "render", lambda title, caption, draw, height: draw(figures[0]))
        figures.append(Figure(layout="constrained").subplots())
        plots.profile("cheetah_run", rows, {"sac-rae": {"color": "k", "linestyle": "-"}}, "")
    (line,) = figures[0].lines
    assert line.get_drawstyle() == "steps-post"
    assert line.get_xdata().tolist() == [0, 10, 30, 31]


def test_the_statistics_are_rliables():
    from rliable import metrics

    rng = np.random.default_rng(0)
    ours, theirs = rng.integers(0, 5, (5, 3)).astype(float), rng.integers(0, 5, (4, 3)).astype(float)
    assert statistics.iqm(ours[..., None])[0] == pytest.approx(metrics.aggregate_iqm(ours))
    assert statistics.mean(ours[..., None])[0] == pytest.approx(metrics.aggregate_mean(ours))
    assert statistics.improvement(ours, theirs)[0] == pytest.approx(metrics.probability_of_improvement(ours, theirs))


def test_broken_and_empty_folders_are_named_and_left_out(tmp_path, capsys):
    root = make_arms(tmp_path / "runs", 1)
    (root / "empty").mkdir()
    unreadable = make_run(root / "unreadable", returns(2, 1), seed=2)
    (unreadable / "config.yaml").write_text("settings: [")
    without = make_run(root / "without", returns(3, 1), seed=3)
    (without / "eval.csv").unlink()
    garbled = make_run(root / "garbled", returns(4, 1), seed=4)
    (garbled / "eval.csv").write_text(
        (garbled / "eval.csv").read_text().replace("cheetah_run,4,0,0", "cheetah_run,4,?")
    )
    shutil.copytree(root / "rae" / "1", root / "copy")
    half = make_run(root / "half", returns(5, 1) | {150_000: [1.0]}, seed=5)
    (half / "eval.csv").write_text((half / "eval.csv").read_text()[:-8])  # a training that goes on
    assert report(root, out=tmp_path / "report") == 0
    said = capsys.readouterr().out.splitlines()
    left_out = [line for line in said if " is left out: " in line]
    names = {Path(line.partition(" is left out: ")[0]).name for line in left_out}
    assert len(left_out) == 5
    assert names in ({"empty", "unreadable", "without", "garbled", name} for name in ("copy", "1"))
    assert len(rows(tmp_path / "report" / "data" / "left_out.csv")) == 5
    assert {row["seed"] for row in rows(tmp_path / "report" / "data" / "runs.csv")} == {"1", "5"}


def test_arms_of_one_variant_are_told_apart_by_the_settings_that_differ(tmp_path):
    for layers, seed in itertools.product((2, 4), (1, 2)):
        settings = {"num_layers": layers, "seed": seed, "num_train_steps": 100_000 * seed}
        make_run(tmp_path / "runs" / f"{layers}-{seed}", returns(seed, layers), **settings)
    assert report(tmp_path / "runs", out=tmp_path / "report") == 0
    arms = {(row["arm"], row["seeds"]) for row in rows(tmp_path / "report" / "data" / "curves.csv")}
    assert arms == {("sac-rae num_layers=2", "2"), ("sac-rae num_layers=4", "2")}


def test_tasks_have_sections_of_their_own_and_come_together_as_shares_of_the_full_return(tmp_path):
    root = make_arms(tmp_path / "runs" / "cheetah", 3)
    make_arms(tmp_path / "runs" / "walker", 3, domain="walker", task="walk")
    make_run(tmp_path / "runs" / "pendulum", {0: [-1000.0], 100: [-200.0]}, env="Pendulum-v1")
    assert report(tmp_path / "runs", out=tmp_path / "report") == 0
    data = tmp_path / "report" / "data"
    assert {row["task"] for row in rows(data / "curves.csv")} == {"cheetah_run", "walker_walk", "Pendulum-v1"}
    (row,) = (r for r in rows(data / "returns.csv") if r["task"] == "all tasks" and r["name"] == "sac-rae")
    assert float(row["mean"]) == pytest.approx(recomputed(root, "rae", 100_000).mean() / 1000)  # both tasks are equal
    assert row["mean_low"]


@pytest.mark.parametrize("what", ["nothing", "no such folder", "empty selection", "foreign", "file", "inside"])
def test_refusals_are_one_line(tmp_path, capsys, what):
    root = make_arms(tmp_path / "runs", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("mine")
    run_dirs, out, expected = {
        "nothing": ([], tmp_path / "report", "RUN_DIR is missing"),
        "no such folder": ([tmp_path / "nowhere"], tmp_path / "report", "nowhere"),
        "empty selection": ([tmp_path / "empty"], tmp_path / "report", "no usable run"),
        "foreign": ([root], tmp_path / "foreign", "something other than a report"),
        "file": ([root], tmp_path / "foreign" / "thesis.txt", "is a file"),
        "inside": ([root], root / "rae" / "1" / "report", "outside the run folder"),
    }[what]
    before = fingerprint(tmp_path)
    assert report(*run_dirs, out=out) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert expected in error[0]
    assert fingerprint(tmp_path) == before


def test_the_folder_of_the_report_may_lie_among_what_is_named(tmp_path, monkeypatch):
    make_arms(tmp_path / "runs", 1)
    (tmp_path / "runs" / "report").mkdir()  # as mkdir -p makes it beforehand
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert report(Path("runs"), out=Path("runs/report")) == 0
    # As a shell writes out runs/*, with the report that is there now.
    assert report(*Path("runs").iterdir(), out=Path("runs/report")) == 0
    assert rows(tmp_path / "runs" / "report" / "data" / "left_out.csv") == []
    assert report(Path("runs"), Path("docs"), out=Path("docs/report")) == 0
    (left_out,) = rows(tmp_path / "docs" / "report" / "data" / "left_out.csv")
    assert left_out["folder"] == "docs"


BF16, FP32 = {"precision": "bf16"}, {"precision": "fp32"}
OBSERVATION = ({"decoder": "rae"} | BF16, {"decoder": "none"} | BF16, {"obs": "state"} | FP32)
WALKER = {"domain": "walker", "task": "walk"}


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ([{"decoder": "rae"} | BF16, {"decoder": "none"} | BF16], ["sac-rae", "sac-none"]),
        ([{"batch_size": 8} | BF16, {"batch_size": 16} | BF16], ["sac-rae batch_size=8", "sac-rae batch_size=16"]),
        ([BF16, FP32], ["sac-rae precision=bf16", "sac-rae precision=fp32"]),
        ([{"decoder": "rae"} | BF16, {"decoder": "none"} | FP32], ["sac-rae", "sac-none"]),
        (OBSERVATION, ["sac-rae", "sac-none", "sac-state"]),
        # Another task, trained on another machine: within neither do two runs of one variant differ.
        (
            [*OBSERVATION, *(settings | FP32 | WALKER for settings in OBSERVATION)],
            ["sac-rae", "sac-none", "sac-state"] * 2,
        ),
        # Another experiment's action repeat on one task names no preset of another.
        (
            [{}, {"action_repeat": 8}, WALKER, WALKER | {"decoder": "none"}],
            ["sac-rae action_repeat=4", "sac-rae action_repeat=8", "sac-rae", "sac-none"],
        ),
        (
            [{"num_layers": 2}, {"num_layers": 4}, WALKER],
            ["sac-rae num_layers=2", "sac-rae num_layers=4", "sac-rae num_layers=4"],
        ),
        ([{"preset": "laptop"}, {}, WALKER], [f"sac-rae preset={name}" for name in ("laptop", "sac_ae", "sac_ae")]),
        ([BF16, FP32, FP32 | WALKER], [f"sac-rae precision={value}" for value in ("bf16", "fp32", "fp32")]),
    ],
)
def test_a_setting_is_in_an_arms_name_only_where_it_tells_arms_of_one_variant_apart(settings, names):
    run_of = (runs.Run(Path(), configs.make(**one), (), "") for one in settings)
    assert runs.arm_names([*run_of]) == names


def test_arms_are_in_the_order_of_the_numbers_in_their_names():
    sizes = (128, 64, 512)
    some = [runs.Run(Path(), configs.make(batch_size=size), (), "") for size in sizes]
    some += [runs.Run(Path(), configs.make(decoder="none"), (), "")]
    arms = runs.by_task_and_arm(some)["cheetah_run"]
    assert list(arms) == ["sac-none", *(f"sac-rae batch_size={size}" for size in sorted(sizes))]


def test_a_missing_rliable_is_one_line_that_names_the_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rliable", None)
    monkeypatch.setitem(__import__("sys").modules, "rliable.library", None)
    assert report(make_arms(tmp_path / "runs", 1), out=tmp_path / "report") == 2
    assert how_to_install("report") in capsys.readouterr().err


TINY = (
    "--env tests.learning.centring:Centring-v0 --obs pixels --frame-stack 1 --num-layers 2 --num-filters 4 "
    "--feature-dim 8 --hidden-dim 16 --batch-size 4 --seed-steps 20 --initial-updates 5 --num-train-steps 40 "
    "--eval-every 20 --num-eval-episodes 2 --no-overlap --precision fp32 --num-threads 1"
)


def test_a_trained_pair_is_seen_side_by_side_with_reconstructions(tmp_path, capsys):
    root = tmp_path / "runs"
    for decoder in ("rae", "none"):
        assert cli.main(["train", *TINY.split(), "--decoder", decoder, "--work-dir", str(root / decoder / "1")]) == 0
    before = fingerprint(root)
    assert report(root, out=tmp_path / "report") == 0
    assert fingerprint(root) == before
    for row in rows(tmp_path / "report" / "data" / "curves.csv"):
        values = recomputed(root, row["arm"].removeprefix("sac-"), int(row["env_step"]))
        assert float(row["mean"]) == pytest.approx(values.mean())
    import imageio.v2 as imageio

    (video,) = (tmp_path / "report" / "media").glob("*.mp4")
    with imageio.get_reader(video, format="FFMPEG") as reader:
        assert reader.get_meta_data()["size"][0] == 2 * 256
    (strip,) = (tmp_path / "report" / "media").glob("*sac-rae-reconstruction.png")
    assert Image.open(strip).height > 1000
    text = (tmp_path / "report" / "index.html").read_text()
    assert "data:video/mp4;base64," in text
    assert "Reconstructions: sac-rae" in text
    capsys.readouterr()
    for video in (root / "none" / "1" / "video").iterdir():
        video.write_bytes(b"damaged")
    assert report(root, out=tmp_path / "report") == 0
    assert f"the videos of {root / 'none' / '1'} are left out: " in capsys.readouterr().out


MEASURE = """<script>onload = () => {
  const page = document.getElementById('f').contentDocument;
  const all = what => [...page.querySelectorAll(what)], box = element => element.getBoundingClientRect();
  const near = (a, b) => a !== b && a.left < b.right + 8 && b.left < a.right + 8
    && a.top < b.bottom + 8 && b.top < a.bottom + 8;
  const cards = all('.card, .facts div').map(box);
  const texts = all('h1, h2, h3, p, li, figcaption, th, td, nav a, .facts b');
  const scrolling = all('.scroll').filter(one => one.scrollWidth > one.clientWidth);
  document.title = JSON.stringify({
    width: page.documentElement.scrollWidth,
    broken: [...page.images].filter(image => !image.naturalWidth).length,
    touching: cards.filter(a => cards.some(b => near(a, b))).length,
    cut: texts.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.textContent),
    sizes: [...new Set(all('.plot img').map(one => Math.round(100 * one.clientWidth / one.naturalWidth)))],
    hidden: scrolling.filter(one => box(one.querySelectorAll('th')[1]).right > box(one).right).length,
    scrolling: scrolling.length,
  }) }</script>"""
"""Cards less than 8 pixels apart, texts wider than their box, sizes of plots, tables whose second column is hidden."""


def in_chromium(page: Path, width: int, folder: Path) -> tuple[dict, np.ndarray]:
    """What MEASURE finds on a page in a window of this width, and the picture of it."""
    probe = folder / "probe.html"
    # Chromium's window is at least 500 pixels wide, so a phone's width is that of a frame.
    frame = f'style="border:0;width:{width}px;height:1600px"'
    probe.write_text(f'<body style="margin:0"><iframe id="f" src="{page.as_uri()}" {frame}></iframe>{MEASURE}')
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files",
               f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000"]  # fmt: skip
    picture = folder / "page.png"
    shoot = [CHROMIUM, *options, "--window-size=1280,1600", f"--screenshot={picture}", probe.as_uri()]
    subprocess.run(shoot, check=True, capture_output=True, timeout=120)
    dump = [CHROMIUM, *options, "--dump-dom", probe.as_uri()]
    said = subprocess.run(dump, check=True, capture_output=True, text=True, timeout=120).stdout
    title = html.unescape(said.partition("<title>")[2].partition("</title>")[0])
    return json.loads(title), np.asarray(Image.open(picture).convert("RGB"))[:, :width]


def measured_in_chromium(page: Path, width: int, folder: Path) -> dict:
    """See in_chromium; whatever the page, it has these."""
    found, picture = in_chromium(page, width, folder)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100  # plots, not a blank page
    assert (found["width"], found["broken"], found["touching"], found["cut"]) == (width, 0, 0, [])
    assert len(found["sizes"]) == 1
    assert found["hidden"] == 0
    return found


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: none of chromium, chromium-browser, google-chrome is found")
@pytest.mark.parametrize("width", [1280, 400])
def test_chromium_draws_the_page_within_the_window_with_gaps_and_plots_of_one_size(reported, tmp_path, width):
    _, out = reported
    found = measured_in_chromium(out / "index.html", width, tmp_path)
    assert (found["scrolling"] > 0) == (width == 400)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: none of chromium, chromium-browser, google-chrome is found")
@pytest.mark.parametrize("width", [1280, 400])
def test_chromium_draws_long_names_and_pictures_within_the_window(tmp_path, width):
    longer = {"latent_penalty": 1e-5, "decoder_update_freq": 100, "actor_update_freq": 10, "encoder_tau": 0.005}
    for i, settings in enumerate(({}, longer, longer | {"batch_size": 8})):
        folder = make_run(tmp_path / "runs" / str(i), returns(i, 1.0), **settings)
        (folder / "reconstruction").mkdir()
        Image.new("RGB", (800, 400), "green").save(folder / "reconstruction" / "1000.png")
        write_video(folder / "video" / "1000.mp4", [np.full((64, 64, 3), i, np.uint8)] * 20, 20)
    (tmp_path / "runs" / "empty").mkdir()
    assert report(tmp_path / "runs", out=tmp_path / "report") == 0
    measured_in_chromium(tmp_path / "report" / "index.html", width, tmp_path)
