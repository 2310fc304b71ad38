"""The tables of results are those of the committed files."""

import importlib.util
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[1] / "results"


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("results_tables", RESULTS / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_table_is_that_of_the_committed_files(tables):
    for name, experiment in tables.EXPERIMENTS.items():
        text = experiment.readme.read_text()
        assert tables.with_table(text, name) == text, f"run python results/tables.py: the table {name} has changed"


def write_run(folder, seed, steps):
    folder.mkdir(parents=True)
    rows = [f"sac,reacher_easy,{seed},{step},{episode},{seed + episode}\r\n" for step in steps for episode in range(2)]
    (folder / "eval.csv").write_text("agent,task,seed,env_step,episode,episode_return\r\n" + "".join(rows), newline="")


def test_complete_runs_are_collected_and_others_left_out(tables, tmp_path, capsys):
    experiment = tables.EXPERIMENTS["decoder"]._replace(folder=tmp_path / "results")
    for seed in (1, 2, 10):
        write_run(tmp_path / "root" / "reacher_easy" / "rae" / str(seed), seed, [*experiment.steps])
    write_run(tmp_path / "root" / "reacher_easy" / "rae" / "3", 3, [*experiment.steps][:-1])
    tables.collect(experiment, tmp_path / "root")
    assert capsys.readouterr().out == "reacher_easy rae: 3 of 4 runs complete\n"
    assert b"\r" not in (tmp_path / "results" / "reacher_easy" / "rae.csv").read_bytes()
    *_, line = tables.table(experiment).splitlines()
    assert line == "| reacher_easy | on | 3 |" + " 5 |" * len(experiment.steps)  # the mean of 1.5, 2.5 and 10.5
