"""A run that ended before its first checkpoint begins anew, by either command; nothing else is ever removed."""

import shutil

import pytest

from sacae.errors import UserError
from sacae.training import run_folder, unstarted
from tests.training import runs
from tests.training.runs import assert_same_rows, said

ANEW = "holds a run that ended before its first checkpoint; it begins anew"


@pytest.fixture
def ended(make_counting, no_curves):
    """A training that was killed before its first checkpoint; only its files are left."""
    training = make_counting()
    training.close()
    assert {path.name for path in training.run.folder.iterdir()} == {"config.yaml", "train.csv", "eval.csv", "tb"}
    return training.run.folder


@pytest.mark.parametrize("resume", [False, True])
def test_it_begins_anew_and_equals_a_run_that_was_not_ended(resume, ended, make_counting):
    (ended / "checkpoint" / "replay").mkdir(parents=True)
    for name in ("checkpoint/.tmp-state.pt", "checkpoint/replay/rows_00000000.npz", "checkpoint/replay/rows_1.npz.tmp"):
        (ended / name).write_bytes(b"half")
    whole = make_counting("whole")
    whole.train()
    training = make_counting(resume=resume)
    assert said(training).count(ANEW) == 1
    assert training.train()
    assert_same_rows(training, whole)
    assert "resumed" not in (ended / "config.yaml").read_text()
    assert not (ended / "checkpoint" / "replay").exists()


@pytest.mark.parametrize(
    "content", ["domain: walker  # as I like it\n", "settings: {train: {work_dir: /elsewhere}}\n", "{"]
)
@pytest.mark.parametrize("resume", [False, True])
def test_a_settings_file_of_the_users_own_is_left_alone(content, resume, tmp_path, make_counting):
    own = tmp_path / "run" / "config.yaml"
    own.parent.mkdir()
    own.write_text(content)
    with pytest.raises(UserError, match=None if resume else "already holds a run"):
        make_counting(resume=resume)
    assert own.read_text() == content
    assert [*own.parent.iterdir()] == [own]


def test_a_run_that_wrote_only_its_settings_begins_anew(ended, make_counting):
    for path in ended.iterdir():
        if path.name != "config.yaml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert make_counting().train()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("thesis.txt", "x"),
        ("tb/notes.txt", "x"),
        ("video/100.mp4", "x"),
        ("checkpoint/best.pt", "x"),
        ("checkpoint/replay/notes.txt", "x"),
        ("config.yaml.bak", "x"),
        ("evaluation/step0-seed1000.json", "{}"),
        ("train.csv", "header\nrow\n"),
        ("eval.csv", "header\nrow\n"),
        ("causal.csv", "header\nrow\n"),
    ],
)
@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_anything_else_is_refused_and_left_alone(name, content, resume, ended, make_counting):
    (ended / name).parent.mkdir(exist_ok=True, parents=True)
    (ended / name).write_text(content)
    before = {path: path.read_bytes() for path in ended.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="has no checkpoint" if resume else "already holds a run"):
        make_counting(resume=resume)
    assert {path: path.read_bytes() for path in ended.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("resume", [False, True])
def test_somebody_elses_tracker_and_settings_are_left_alone(resume, tmp_path, make_counting):
    folder = tmp_path / "run"
    (folder / "wandb" / "offline-run-1").mkdir(parents=True)
    (folder / "wandb" / "offline-run-1" / "run.wandb").write_text("a week of work")
    (folder / "config.yaml").write_text("env: Pendulum-v1\n")
    with pytest.raises(UserError, match=None if resume else "already holds a run"):
        make_counting(resume=resume)
    assert (folder / "wandb" / "offline-run-1" / "run.wandb").read_text() == "a week of work"
    assert (folder / "config.yaml").read_text() == "env: Pendulum-v1\n"


def test_what_a_tracker_left_that_could_not_start_is_the_runs_own(ended, make_counting):
    (ended / "wandb" / "run-1" / "logs").mkdir(parents=True)
    (ended / "wandb" / "run-1" / "logs" / "debug.log").write_text("no connection")
    (ended / "wandb" / "latest-run").symlink_to("run-1")
    assert make_counting().train()
    assert not (ended / "wandb").exists()


def test_a_link_to_another_folder_is_something_else(ended, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (ended / "tb2").symlink_to(tmp_path / "elsewhere")
    assert not unstarted.is_unstarted(ended)


def test_a_run_killed_while_it_is_cleared_is_still_known(ended, monkeypatch):
    monkeypatch.setattr("pathlib.Path.unlink", lambda path: path.name == "train.csv" and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        unstarted.clear(ended)
    monkeypatch.undo()
    assert unstarted.is_unstarted(ended)
    unstarted.clear(ended)
    assert unstarted.is_empty(ended)


def test_a_run_killed_within_its_first_write_begins_anew(make_counting, monkeypatch):
    monkeypatch.setattr("sacae.training.run_folder.os.replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make_counting()
    monkeypatch.undo()
    assert make_counting().train()


def test_an_agent_begins_anew_by_resume_with_the_settings_of_its_folder(make_training):
    make_training(obs="state", batch_size=7).close()
    training = make_training(obs="state", resume=True)
    assert ANEW in said(training)
    assert training.run.config.replay.batch_size == 7
    assert training.train()
    assert runs.rows(training.run.folder / "eval.csv")


def test_a_folder_without_a_run_is_not_said_to_hold_one(make_counting, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "slurm-1.out").write_text("a log")
    with pytest.raises(UserError, match=r"run is no run folder and holds slurm-1.out; choose another --work-dir"):
        make_counting()
    (folder / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"holds notes.txt and 1 more; choose"):
        make_counting()


def test_a_run_in_use_is_still_refused(make_counting):
    make_counting().train()
    with pytest.raises(UserError, match="already holds a run"):
        make_counting()


def test_an_empty_folder_is_nothing_to_speak_of(make_counting, tmp_path):
    (tmp_path / "run").mkdir()
    assert said(make_counting()) == ""
    assert run_folder.is_empty(tmp_path / "nowhere")
