"""The comparison of two commits: what counts as a difference, and that no algorithm is forgotten."""

import subprocess

import pytest

from baselines.algorithms import ALGORITHMS
from baselines.train import ACE
from sacae import cli
from sacae.agents import HEADS
from sacae.errors import UserError
from tests import compare_commits
from tests.compare_commits import CASES, Difference, cases_of, compare_csv, compare_folders

COLUMNS = "env_step,q,hours,env_steps_per_second,share_env"


@pytest.fixture
def compare(tmp_path):
    """A function that compares two texts as CSV files."""

    def compare(old, new):
        (tmp_path / "old.csv").write_text(old)
        (tmp_path / "new.csv").write_text(new)
        return compare_csv(tmp_path / "old.csv", tmp_path / "new.csv", "train.csv")

    return compare


def test_files_that_differ_in_times_alone_are_equal(compare):
    old = f"{COLUMNS}\n100,1.5,0.1,20.0,0.3\n200,,0.2,21.0,0.4\n"
    new = f"{COLUMNS}\n100,1.5,0.7,90.0,0.8\n200,,0.9,91.0,0.9\n"
    assert compare(old, new) == (2, None)


def test_the_first_cell_that_differs_is_named(compare):
    old = f"{COLUMNS}\n100,1.5,0.1,20.0,0.3\n200,2.5,0.2,21.0,0.4\n300,3.5,0.2,21.0,0.4\n"
    new = f"{COLUMNS}\n100,1.5,0.1,20.0,0.3\n200,2.6,0.2,21.0,0.4\n300,3.6,0.2,21.0,0.4\n"
    rows, difference = compare(old, new)
    assert (rows, difference) == (2, Difference("train.csv", 2, "q", "2.5", "2.6"))
    assert str(difference) == "train.csv, row 2, q: 2.5 became 2.6"


def test_numbers_are_compared_as_text(compare):
    assert compare("q\n1\n", "q\n1.0\n")[1] == Difference("train.csv", 1, "q", "1", "1.0")


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        ("q\n1\n", "q\n1\n2\n", Difference("train.csv", 2, "whole row", "missing", "written")),
        ("q\n1\n", "q\n", Difference("train.csv", 1, "whole row", "written", "missing")),
        ("q,r\n1,2\n", "q\n1\n", Difference("train.csv", None, "name of column 2", "r", "missing")),
        ("hours,q\n1,2\n", "q,hours\n2,1\n", Difference("train.csv", None, "name of column 1", "hours", "q")),
        ("q\n", "", Difference("train.csv", None, "name of column 1", "q", "missing")),
    ],
)
def test_a_row_or_column_too_many_is_a_difference(compare, old, new, difference):
    assert compare(old, new)[1] == difference


def test_every_csv_file_of_a_run_is_compared(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        (folder / "more").mkdir(parents=True)
        (folder / "eval.csv").write_text("q\n1\n2\n")
        (folder / "more" / "causal.csv").write_text("fit_seconds\n1\n")
        (folder / "curve.png").write_text(str(folder))
    assert compare_folders(old, new) == ({"eval.csv": 2, "more/causal.csv": 1}, None)
    (new / "more" / "causal.csv").unlink()
    assert compare_folders(old, new)[1] == Difference("more/causal.csv", None, "file", "written", "missing")


def test_runs_that_wrote_nothing_are_not_equal(tmp_path):
    assert compare_folders(tmp_path / "old", tmp_path / "new")[1] is not None


def test_every_algorithm_is_compared():
    assert {*CASES} == {*HEADS, *ACE, *ALGORITHMS}


def test_every_head_is_compared_from_state_and_from_pixels():
    for name in HEADS:
        assert {case.partition(",")[0] for case in CASES[name]} == {"state", "pixels"}


def test_no_two_trainings_share_a_folder():
    folders = [case.folder for case in cases_of([*CASES], None)]
    assert len({*folders}) == len(folders)


def test_an_algorithm_without_trainings_is_an_error_that_names_it():
    with pytest.raises(UserError, match="no trainings of drq"):
        cases_of(["sac", "drq"], "sac")


def test_only_takes_names_of_algorithms():
    assert {case.algorithm for case in cases_of(["sac", "td3", "dqn"], "td3, dqn")} == {"td3", "dqn"}
    with pytest.raises(UserError, match="NEW has no td4.*did you mean td3"):
        cases_of(["sac", "td3"], "td4")


@pytest.fixture
def repo(tmp_path):
    """A repository of one commit."""
    folder = tmp_path / "repo"
    folder.mkdir()
    identity = ["-c", "user.name=A", "-c", "user.email=a@b"]
    for words in (["init", "--quiet"], [*identity, "commit", "--quiet", "--allow-empty", "--message", "Begin"]):
        subprocess.run(["git", "-C", folder, *words], check=True)
    return folder


def test_an_unknown_commit_is_refused_in_one_line(repo, monkeypatch, capsys):
    monkeypatch.setattr(compare_commits, "REPO", repo)
    assert cli.guarded(compare_commits.main, ["HEAD", "nowhere"], "compare_commits.py") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "there is no commit 'nowhere'" in line


def test_worktrees_are_removed_after_a_failure(repo, tmp_path):
    commit, folders = compare_commits.commit_of(repo, "HEAD"), []

    def fail():
        with compare_commits.worktrees(repo, {"old": commit, "new": commit}, tmp_path) as trees:
            folders.extend(tree.folder for tree in trees.values() if (tree.folder / ".git").exists())
            raise RuntimeError("a training failed")

    with pytest.raises(RuntimeError, match="a training failed"):
        fail()
    assert len(folders) == 2
    assert not any(folder.exists() for folder in folders)
    assert len(compare_commits.git(repo, "worktree", "list").stdout.splitlines()) == 1
