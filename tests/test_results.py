"""The tables of results are those of the committed files."""

import csv
import importlib.util
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import sacae

RESULTS = Path(__file__).parents[1] / "results"
WITHOUT_MEASUREMENTS = (
    "| run | command | commit | progress |",
    "| weights and the time of a fit | dormant neurons and what a reset retains |",
)
"""Heads of the tables that may be typed: what is under way, and pictures side by side."""

HEADER = "agent,task,seed,env_step,agent_step,episode,episode_return,episode_length,hours\r\n"


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("results_tables", RESULTS / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def recorded(tables):
    return importlib.import_module("columns").recorded


def test_every_table_is_that_of_the_committed_files(tables):
    for page in tables.pages():
        assert tables.written(page) == page.read_text(), f"run python results/tables.py: tables of {page} have changed"


def test_every_declared_table_stands_on_its_page(tables):
    texts = {page: page.read_text() for page in tables.pages()}
    found = [(name, page) for page, text in texts.items() for _, name, _ in tables.MARKED.findall(text)]
    assert sorted(found) == sorted((name, RESULTS / table.page / "README.md") for name, table in tables.TABLES.items())


def test_no_table_of_measurements_is_typed(tables):
    for page in tables.pages():
        typed = tables.MARKED.sub("", page.read_text())
        heads = re.findall(r"^(\|.*\|)\n\|[-:|]+\|$", typed, re.M)
        assert {*heads} <= {*WITHOUT_MEASUREMENTS}, f"{page}: declare the table in results/declared.py"
        assert len(re.findall(r"^\|[-:|]+\|$", typed, re.M)) == len(heads)


def test_every_evaluation_file_and_every_recorded_cell_is_in_a_table(tables, recorded):
    declared = [table for table in tables.TABLES.values() if hasattr(table, "rows")]
    shown = {RESULTS / row.file for table in declared for row in table.rows if row.file}
    assert {path for path in RESULTS.rglob("*.csv") if ",episode,episode_return," in path.open().readline()} <= shown
    for path in RESULTS.rglob("recorded.csv"):
        cells = {
            (", ".join(row.labels), column)
            for table in declared
            if RESULTS / table.page == path.parent
            for row in table.rows
            for column in table.columns
        }
        assert {*recorded(path)} <= cells


def test_the_means_recorded_beside_a_report_are_those_of_the_report(recorded):
    with open(RESULTS / "decoder/report/data/seeds.csv", newline="") as file:
        means = {
            f"{int(row['env_step']):,}": f"{float(row['episode_return']):.1f}"
            for row in csv.DictReader(file)
            if row["arm"] == "sac-none"
        }
    cells = recorded(RESULTS / "decoder/recorded.csv")
    assert cells
    assert all(value.partition(" ")[0] == means[step] for (_, step), value in cells.items())


def test_cells_are_means_over_episodes_then_over_seeds(tables, tmp_path):
    columns = importlib.import_module("columns")
    found = {(1, 0): (10, 20), (1, 1000): (20, 30), (2, 0): (40, 50), (2, 1000): (30, 40)}  # by seed and step
    path = tmp_path / "runs.csv"
    path.write_text(
        HEADER
        + "".join(
            f"sac,x,{seed},{step},{step},{episode},{value},9,{seed}\r\n"
            for (seed, step), values in found.items()
            for episode, value in enumerate(values)
        ),
        newline="",
    )
    runs = columns.read(path)
    assert (columns.steps(runs), columns.count(runs), columns.seeds(runs)) == ("1,000", "2", "1, 2")
    assert columns.last(0)(runs) == "30 ± 7 (25, 35)"
    assert columns.best(1)(runs) == "25.0 (1,000), 45.0 (0)"
    assert columns.last_episodes(runs) == "25.0 ± 5.0, 35.0 ± 5.0"
    assert (columns.mean_at(0)(runs), columns.mean_at(500)(runs)) == ("30", None)
    assert (columns.hours(runs), columns.minutes(runs)) == ("1.50", "90")


def test_a_run_that_was_cut_short_ends_the_mean_over_seeds_and_has_a_row_of_its_own(tables, tmp_path):
    columns = importlib.import_module("columns")
    rows = [
        f"sac,x,{seed},{step},{step},0,{seed + step},9,1\r\n" for seed, end in ((1, 30), (2, 20)) for step in (10, end)
    ]
    (tmp_path / "x.csv").write_text(HEADER + "".join(rows) + "sac,x,1,20,20,0,21,9,1\r\n", newline="")
    runs = columns.read(tmp_path / "x.csv")
    assert (columns.steps(runs), columns.count(runs), columns.over_seeds(runs, 1)) == ("20", "2", "21.5 ± 0.7")
    named = {"seed": columns.seeds} | {str(step): columns.mean_at(step) for step in (10, 20, 30)}
    table = columns.Table("", ("task",), named, (columns.Row(("x",), "x.csv"),), by_seed=True)
    assert table.text(tmp_path).splitlines()[2:] == ["| x | 1 | 11 | 21 | 31 |", "| x | 2 | 12 | 22 | |"]


def test_a_table_that_is_not_declared_for_a_page_is_refused(tables, tmp_path):
    page = tmp_path / "README.md"
    page.write_text("<!-- table: decoder -->\n\n\n<!-- end -->\n")
    with pytest.raises(ValueError, match="no table decoder for this page"):
        tables.written(page)


def write_run(folder, seed, steps):
    folder.mkdir(parents=True)
    rows = [
        f"sac,reacher_easy,{seed},{step},{step},{episode},{seed + episode},9,{seed}\r\n"
        for step in steps
        for episode in range(2)
    ]
    (folder / "eval.csv").write_text(HEADER + "".join(rows), newline="")


def test_complete_runs_are_collected_and_others_left_out(tables, tmp_path, capsys):
    experiment, results = tables.EXPERIMENTS["decoder"], tmp_path / "results"
    steps = [*range(0, experiment.tasks["reacher_easy"] + 1, 10_000)]
    for seed in (1, 2, 10):
        write_run(tmp_path / "root" / "reacher_easy" / "rae" / str(seed), seed, steps)
    write_run(tmp_path / "root" / "reacher_easy" / "rae" / "3", 3, steps[:-1])
    tables.collect(experiment, tmp_path / "root", results)
    assert capsys.readouterr().out == "reacher_easy rae: 3 of 4 runs complete, 3 seeds now\n"
    assert b"\r" not in (results / "laptop/decoder/reacher_easy/rae.csv").read_bytes()
    *_, line = tables.TABLES["decoder"].text(results).splitlines()
    assert line == "| reacher_easy | SAC-AE | 3 |" + " 5 |" * len(steps)  # the mean of 1.5, 2.5 and 10.5


def test_collected_runs_join_the_seeds_that_are_there(tables, tmp_path):
    experiment, results = tables.EXPERIMENTS["decoder"], tmp_path / "results"
    for root, seeds in (("first", (1, 2)), ("later", (3, 2))):
        for seed in seeds:
            write_run(tmp_path / root / "reacher_easy" / "rae" / str(seed), seed, [0, experiment.tasks["reacher_easy"]])
        tables.collect(experiment, tmp_path / root, results)
    lines = (results / "laptop/decoder/reacher_easy/rae.csv").read_text().splitlines()
    assert [line.split(",")[2:4] for line in lines[1::2]] == [
        [str(seed), str(step)] for seed in (1, 2, 3) for step in (0, experiment.tasks["reacher_easy"])
    ]


def test_an_experiment_is_one_picture_with_a_panel_for_each_task_that_has_runs(tables, tmp_path, monkeypatch):
    plot, drawn = importlib.import_module("plot"), []
    monkeypatch.setattr(plot.Figure, "savefig", lambda figure, path, **_: drawn.append((figure, path)))
    experiment = tables.EXPERIMENTS["decoder"]
    folder = tmp_path / experiment.folder
    with pytest.raises(ValueError, match="no runs to draw"):
        plot.draw_together(folder, experiment.tasks, experiment.arms, experiment.compared)
    for task, seeds in (("reacher_easy", (1, 2)), ("cheetah_run", (1,))):
        for seed in seeds:
            write_run(tmp_path / "root" / task / "rae" / str(seed), seed, [0, experiment.tasks[task]])
    tables.collect(experiment, tmp_path / "root", tmp_path)
    plot.draw_together(folder, experiment.tasks, experiment.arms, experiment.compared)
    ((figure, path),) = drawn
    assert path == folder.with_suffix(".png")
    assert [panel.get_title() for panel in figure.axes] == ["reacher_easy (2 seeds)", "cheetah_run (1 seed)"]
    assert "SAC-AE" in figure.axes[1].get_legend_handles_labels()[1]


@pytest.mark.parametrize("first", [0, 20])
def test_a_run_that_has_been_evaluated_once_is_drawn(tables, tmp_path, first):
    plot = importlib.import_module("plot")
    for name, steps in (("short", [first]), ("long", [first, 100, 200])):
        write_run(tmp_path / "runs" / name, 1, steps)
        (tmp_path / "task").mkdir(exist_ok=True)
        shutil.copy(tmp_path / "runs" / name / "eval.csv", tmp_path / "task" / f"{name}.csv")
        assert plot.draw(tmp_path / "task").exists()


# Trained agents.


def test_trained_agents_are_small_and_act():
    folders = [path.parent for path in (RESULTS / "agents").glob("*/agent.safetensors")]
    assert sum((folder / "agent.safetensors").stat().st_size for folder in folders) < 8_000_000
    assert len(folders) >= 4
    for folder in folders:
        agent = sacae.load_agent(folder, device="cpu")
        assert agent.config.task_name == folder.name
        action = agent.predict(np.zeros(agent.spec.obs_shape, np.uint8))
        assert action.shape == (agent.spec.action_dim,)
        assert np.abs(action).max() <= 1
