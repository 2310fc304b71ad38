"""One bad run is left out of a report with a line, and names from outside do nothing but name."""

import csv
import io
import itertools
import shutil
import struct
import tempfile
import warnings
import zlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from sacae.errors import UserError
from sacae.experiments import plan
from sacae.experiments.report import report as reports
from sacae.experiments.report import runs, tables
from sacae.training.run_folder import CONFIG
from tests.experiments.test_report import make_run

STEPS = {0: [1.0], 1000: [2.0, 3.0]}


def made(folder, out):
    """What the report on a folder prints; the page must be there."""
    console = Console(file=io.StringIO(), width=10_000)
    page = reports.report([folder], out, console)
    assert page.exists()
    return console.file.getvalue()


def edit(folder, **settings):
    """Changes settings in the config.yaml of a run, as another program would."""
    content = yaml.safe_load((folder / CONFIG).read_text())
    for group in content["settings"].values():
        group.update({name: value for name, value in settings.items() if name in group})
    (folder / CONFIG).write_text(yaml.safe_dump(content))


def baseline(folder, agent="mine", **task):
    """A run of an algorithm that this package does not know, whose config.yaml can hold anything."""
    make_run(folder, STEPS)
    content = yaml.safe_load((folder / CONFIG).read_text())
    content["agent"] = agent
    content["settings"] = {"task": task, "train": {"seed": 1, "num_train_steps": 1000}, "algorithm": {"rate": agent}}
    (folder / CONFIG).write_text(yaml.safe_dump(content))


BAD_CSV = {
    "a cell of 200,000 characters": lambda text: text.replace("3.0", "3" * 200_000),
    "a return of 1e308": lambda text: text.replace("3.0", "1e308"),
    "infinite hours": lambda text: text.replace(",0.02", ",inf"),
    "a step beyond 64 bits": lambda text: text.replace("\n", "\n").replace(",1000,", ",1" + "0" * 400 + ","),
    "a negative step": lambda text: text.replace(",1000,", ",-1000,"),
    "NUL bytes": lambda text: text.replace("3.0", "\0\0"),
    "a missing column": lambda text: text.replace("hours", "days"),
    "no rows": lambda text: text.partition("\n")[0] + "\n",
}


@pytest.mark.parametrize("damage", BAD_CSV)
def test_a_run_with_a_damaged_file_is_left_out_with_a_line(damage, tmp_path):
    make_run(tmp_path / "runs" / "good", STEPS)
    bad = make_run(tmp_path / "runs" / "bad", STEPS, seed=2)
    text = (bad / "eval.csv").read_text()
    (bad / "eval.csv").write_text(BAD_CSV[damage](text))
    assert (bad / "eval.csv").read_text() != text
    said = made(tmp_path / "runs", tmp_path / "out")
    assert f"{bad} is left out: " in said
    assert max(map(len, said.splitlines())) < 1000


@pytest.mark.parametrize(
    "wrong",
    [{"seed": "one"}, {"seed": [1]}, {"num_train_steps": 10**400}, {"env": [5]}, {"domain": "a" * 300},
     {"domain": "\x1b[31mred"}, {"action_repeat": {}}, {"work_dir": "\0"}],
)  # fmt: skip
def test_a_run_with_wrong_settings_is_left_out_with_a_line(wrong, tmp_path):
    make_run(tmp_path / "runs" / "good", STEPS)
    bad = make_run(tmp_path / "runs" / "bad", STEPS, seed=2)
    edit(bad, **wrong)
    said = made(tmp_path / "runs", tmp_path / "out")
    assert f"{bad} is left out: " in said
    assert "\x1b" not in said


@pytest.mark.parametrize(
    "task",
    [{"env": 5}, {"env": ["a"]}, {"domain": "a" * 300}, {"domain": "a\0b"}, {"domain": 1}, {"action_repeat": 1e9}],
)
def test_a_baselines_run_with_wrong_settings_is_left_out_with_a_line(task, tmp_path):
    make_run(tmp_path / "runs" / "good", STEPS)
    baseline(tmp_path / "runs" / "bad", **task)
    assert "bad is left out: " in made(tmp_path / "runs", tmp_path / "out")


@pytest.mark.parametrize(
    "name",
    ["$\\frac$", "$x^2$", "a" * 300, "x[/b]y", "\x1b[2Jgone", "=cmd|' /C calc'!A0", "@SUM(1)", "<script>", "_", "%s",
     "ä\u202eö", "é" * 120],
)  # fmt: skip
def test_names_are_only_names(name, tmp_path):
    baseline(tmp_path / "runs" / "odd", agent=name)
    if len(name.encode()) <= 200 and name.isprintable():
        baseline(tmp_path / "runs" / "task", domain=name.replace("/", "_"), task="run")
    make_run(tmp_path / "runs" / "good", STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fonts lack some characters
        said = made(tmp_path / "runs", tmp_path / "out")
    assert "left out" not in said
    assert "\x1b" not in said
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "\x1b" not in page
    assert "<script>" not in page
    for path in (tmp_path / "out" / "data").glob("*.csv"):
        with open(path, newline="") as file:
            for cell in (cell for row in csv.reader(file) for cell in row):
                assert not cell.startswith(("=", "@", "+"))
                assert not cell.startswith("-") or float(cell) < 0


@pytest.mark.parametrize("value", ["=1+1", "+1", "-x", "@x"])
def test_text_that_a_spreadsheet_would_compute_gets_a_quote(value):
    assert tables._cell(value) == f"'{value}"


@pytest.mark.parametrize("value", [-1.5, -2, "text", "a=b"])
def test_numbers_and_other_text_are_written_as_they_are(value):
    assert tables._cell(value) == value


def png(width, height):
    """A small file that claims a large picture."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "content", [png(30_000, 30_000), png(12_000, 12_000), png(64, 64), b"", b"\x89PNG\r\n\x1a\n\0\0"]
)
def test_a_picture_that_is_too_large_or_damaged_is_left_out_with_a_line(content, tmp_path):
    folder = make_run(tmp_path / "runs" / "good", STEPS)
    (folder / "reconstruction").mkdir()
    (folder / "reconstruction" / "1000.png").write_bytes(content)
    (folder / "video").mkdir()
    (folder / "video" / "1000.mp4").write_bytes(content)
    assert f"the reconstructions of {folder} are left out: " in made(tmp_path / "runs", tmp_path / "out")


def test_a_link_that_leads_back_is_not_followed(tmp_path):
    make_run(tmp_path / "runs" / "good", STEPS)
    (tmp_path / "runs" / "again").symlink_to(tmp_path / "runs")
    assert len(list(runs.run_folders(tmp_path / "runs"))) == 1


def test_two_long_names_have_files_of_their_own():
    slugs = {reports._slug("a" * 300), reports._slug("a" * 299), reports._slug("é" * 300)}
    assert len(slugs) == 3
    assert max(len(slug.encode()) for slug in slugs) <= 100


@pytest.fixture(scope="module")
def run_of_hypothesis(tmp_path_factory):
    """A run whose CSV files are replaced again and again."""
    return make_run(tmp_path_factory.mktemp("fuzz") / "run", STEPS)


def assert_one_short_line(broken):
    """The reason for which a run is left out fits on the page."""
    assert len(str(broken)) < 1000


CELLS = st.one_of(
    st.sampled_from(["", "0", "1000", "1e308", "-1e999", "nan", "inf", "1_0", "٣", "0x10", '"', "\0", "9" * 5000]),
    st.text(max_size=10),
    st.floats().map(repr),
    st.integers().map(str),
)
HEADERS = st.lists(st.sampled_from(["env_step", "hours", "episode_return", "updates_per_second", "", "x"]), max_size=6)
TABLES = st.one_of(
    st.binary(max_size=300),
    st.tuples(HEADERS, st.lists(st.lists(CELLS, max_size=7), max_size=6)).map(
        lambda table: "\n".join(",".join(row) for row in [table[0], *table[1], []]).encode(errors="replace")
    ),
    st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=6).map(
        lambda rows: "\n".join(",".join(row) for row in [["env_step", "hours", "episode_return"], *rows, []]).encode()
    ),
)


@given(content=TABLES)
@settings(max_examples=300)
def test_whatever_a_csv_file_holds_it_is_read_or_left_out(content, run_of_hypothesis):
    (run_of_hypothesis / "eval.csv").write_bytes(content)
    (run_of_hypothesis / "train.csv").write_bytes(content)
    try:
        run = runs.read(run_of_hypothesis)
    except runs.BrokenRun as broken:
        assert_one_short_line(broken)
        return
    assert all(abs(e.episode_return) <= runs.LARGEST for e in run.evaluations)
    runs.throughput(run)
    tables.make(runs.by_task_and_arm([run]), [])


def test_no_usable_run_at_all_is_an_error(tmp_path):
    bad = make_run(tmp_path / "runs" / "bad", STEPS)
    (bad / "eval.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="no usable run in"):
        made(tmp_path / "runs", tmp_path / "out")


@pytest.mark.parametrize("content", ["{}", '{"files": null}', '{"files": [1]}', '{"files": ["data.csv"]}', "[]", "{"])
def test_another_programs_report_json_is_neither_a_report_nor_replaced(content, tmp_path):
    make_run(tmp_path / "runs" / "a", STEPS)
    other = tmp_path / "other"
    other.mkdir()
    (other / "report.json").write_text(content)
    (other / "data.csv").write_text("mine")
    with pytest.raises(UserError, match="holds something other than a report"):
        made(tmp_path / "runs", other)
    assert (other / "report.json").read_text() == content
    assert (other / "data.csv").read_text() == "mine"
    (tmp_path / "runs" / "a" / "report.json").write_text(content)
    assert [*runs.run_folders(tmp_path / "runs")] == [tmp_path / "runs" / "a"]


def replaced(out, texts):
    """Puts a report of these files into a folder, as the command does."""
    with tempfile.TemporaryDirectory(dir=out.parent) as new:
        for name, text in texts.items():
            (Path(new) / name).parent.mkdir(exist_ok=True)
            (Path(new) / name).write_text(text)
        reports.folder.refuse_if_foreign(out)
        reports.folder.replace(out, Path(new))


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("done", range(5))
def test_a_report_that_was_interrupted_anywhere_is_replaced_by_the_next(done, earlier, tmp_path, monkeypatch):
    out, steps = tmp_path / "out", itertools.count()
    if earlier:
        replaced(out, {"index.html": "0", "data/curves.csv": "0", "plots/old.png": "0"})
        (out / "plots" / "mine.txt").write_text("mine")

    def until_interrupted(step):
        def wrapped(*arguments):
            if next(steps) == done:
                raise KeyboardInterrupt
            return step(*arguments)

        return wrapped

    with monkeypatch.context() as context:
        for module, name in ((shutil, "move"), (reports.folder, "_mark")):
            context.setattr(module, name, until_interrupted(getattr(module, name)))
        with pytest.raises(KeyboardInterrupt):
            replaced(out, {"index.html": "1", "data/curves.csv": "1", "plots/new.png": "1"})
    replaced(out, {"index.html": "2", "data/curves.csv": "2"})
    (out / "report.json").unlink()
    left = {path.relative_to(out).as_posix(): path.read_text() for path in out.rglob("*") if path.is_file()}
    assert left == {"index.html": "2", "data/curves.csv": "2"} | ({"plots/mine.txt": "mine"} if earlier else {})


def test_what_a_killed_report_leaves_is_in_no_ones_way(tmp_path):
    make_run(tmp_path / "runs" / "a", STEPS)
    (tmp_path / "runs" / ".tmp-report-x" / "media").mkdir(parents=True)
    assert [*runs.run_folders(tmp_path / "runs")] == [tmp_path / "runs" / "a"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".tmp-report.json").write_text("{")
    replaced(tmp_path / "out", {"index.html": "1"})
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["index.html", "report.json"]


def test_a_folder_that_may_not_be_entered_is_left_out(tmp_path, monkeypatch):
    make_run(tmp_path / "runs" / "a", STEPS)
    (tmp_path / "runs" / "shut" / "below").mkdir(parents=True)
    is_dir = type(tmp_path).is_dir

    def refuses(path):
        if path.parent.name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return is_dir(path)

    monkeypatch.setattr(type(tmp_path), "is_dir", refuses)
    assert [path.name for path in runs.run_folders(tmp_path / "runs")] == ["a", "shut"]


def test_a_csv_file_with_a_cell_beyond_every_limit_is_no_finished_run(tmp_path):
    folder = make_run(tmp_path / "a", STEPS) or tmp_path / "a"
    (folder / "eval.csv").write_text("env_step,episode_return\n" + "1" * 200_000 + ",1\n")
    assert not plan.is_finished(folder, 1000, 1)
