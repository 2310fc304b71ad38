"""`sacae prune`: whose replay goes, what such a run still does, and what an experiment says of the disk beforehand."""

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

import sacae
from sacae import cli
from sacae import config as configs
from sacae.errors import UserError
from sacae.experiments import disk, plan
from sacae.experiments.prune import prune
from sacae.training import pruned
from tests.training.runs import SHORT, SMALL_STATE

SETTINGS = SMALL_STATE | SHORT | {"action_repeat": 100, "num_train_steps": 800, "eval_every": 800, "device": "cpu"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run with a replay."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return sacae.train(sacae.make_config(**SETTINGS, work_dir=folder)).folder


@pytest.fixture
def runs(finished, tmp_path):
    """A folder with a finished run, one that was stopped, one without a saved replay, and something else."""

    class Stop:
        def on_checkpoint(self, folder):
            return False

    root = tmp_path / "runs"
    shutil.copytree(finished, root / "a" / "finished")
    sacae.train(sacae.make_config(**SETTINGS | {"seed_steps": 2}, work_dir=root / "stopped"), [Stop()])
    sacae.train(sacae.make_config(**SETTINGS, save_replay=False, work_dir=root / "without"))
    (root / "notes").mkdir()
    (root / "notes" / "mine.txt").write_text("")
    return root


def files(root: Path) -> dict[Path, bytes]:
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_only_the_replay_of_finished_runs_goes(runs, capsys):
    before, size = files(runs), pruned.replay_bytes(runs / "a" / "finished")
    assert cli.main(["prune", str(runs), "--yes"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "in the replays of 1 run; 1 run not finished, 1 run without a saved replay" in out
    assert "freed" in out
    after = files(runs)
    gone, added = before.keys() - after.keys(), after.keys() - before.keys()
    assert {path.parent for path in gone} == {Path("a/finished/checkpoint/replay")}
    assert sum(len(before[path]) for path in gone) == size > 0
    assert added == {Path("a/finished/checkpoint/replay.pruned")}
    assert all(after[path] == before[path] for path in before.keys() & after.keys())
    assert cli.main(["prune", str(runs), "--yes"]) == 0
    assert "nothing to free" in capsys.readouterr().out


def test_without_a_terminal_it_says_what_it_would_free_and_removes_nothing(runs, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    before = files(runs)
    assert cli.main(["prune", str(runs)]) == 2
    captured = capsys.readouterr()
    assert str(runs / "a" / "finished") in captured.out.replace("\n", "")
    assert "give --yes" in captured.err
    assert files(runs) == before


@pytest.mark.parametrize(("answer", "goes"), [("y", True), ("", False), ("no", False)])
def test_at_a_terminal_it_asks(answer, goes, runs, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    assert cli.main(["prune", str(runs)]) == 0
    assert (pruned.replay_bytes(runs / "a" / "finished") == 0) is goes


def test_a_pruned_run_plays_shows_exports_and_reports_and_says_why_it_cannot_be_resumed(runs, tmp_path, capsys):
    folder = runs / "a" / "finished"
    pruned.drop_replay(folder)
    for words in (
        ["eval", folder, "--episodes", "1", "--no-video", "--device", "cpu"],
        ["export", folder, "--out", tmp_path / "frozen"],
        ["report", folder, "--out", tmp_path / "report"],
    ):
        assert cli.main([*map(str, words)]) == 0, words
    capsys.readouterr()
    assert cli.main(["train", "--resume", "--work-dir", str(folder), "--num-train-steps", "1600"]) == 2
    error = capsys.readouterr().err
    assert "cannot be resumed: sacae prune dropped its replay" in error
    assert error.count("\n") == 1


def test_a_pruned_run_of_an_experiment_is_finished(runs):
    folder = runs / "a" / "finished"
    pruned.drop_replay(folder)
    assert plan.is_finished(folder, 800, 100)


def test_a_run_that_went_on_while_the_question_waited_keeps_its_replay(runs, monkeypatch):
    folder, said = runs / "a" / "finished", io.StringIO()

    class Stop:
        def on_checkpoint(self, _folder):
            return False

    def agreed(_question):
        sacae.resume(folder, [Stop()], num_train_steps=1600, checkpoint_every=100)
        return True

    prune(runs, Console(file=said, width=200), agreed)
    assert f"left: {folder} is not finished any more" in said.getvalue()
    assert pruned.replay_bytes(folder)
    assert sacae.resume(folder).complete


def test_a_replay_behind_a_link_goes_with_the_link(runs, tmp_path):
    replay = runs / "a" / "finished" / "checkpoint" / "replay"
    shutil.move(replay, tmp_path / "elsewhere")
    replay.symlink_to(tmp_path / "elsewhere")
    assert cli.main(["prune", str(runs), "--yes"]) == 0
    assert not (tmp_path / "elsewhere").exists()
    assert not replay.is_symlink()


def test_a_file_that_a_training_removes_meanwhile_takes_no_room(tmp_path, monkeypatch):
    replay = tmp_path / "checkpoint" / "replay"
    replay.mkdir(parents=True)
    for name in ("chunk_0", "chunk_1"):
        (replay / name).write_bytes(b"12345")
    is_file = type(tmp_path).is_file

    def removed_after_that(path):
        found = is_file(path)
        if path.name == "chunk_0":
            path.unlink()
        return found

    monkeypatch.setattr(type(tmp_path), "is_file", removed_after_that)
    assert pruned.replay_bytes(tmp_path) == 5


def test_a_run_that_a_link_leads_to_counts_once(runs, capsys):
    (runs / "b").symlink_to(runs / "a")
    assert cli.main(["prune", str(runs), "--yes"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "in the replays of 1 run; 1 run not finished, 1 run without a saved replay" in out
    assert "left" not in out


def test_a_folder_without_runs_is_refused(tmp_path):
    for folder, words in ((tmp_path / "none", "there is no such folder"), (tmp_path, "it holds no run folder")):
        with pytest.raises(UserError, match=words):
            cli.load("prune")[1]([str(folder), "--yes"], "sacae prune")


# Before an experiment.


def test_the_forecast_of_a_replay_is_near_what_it_takes(finished):
    config = configs.load(finished / "config.yaml", configs.Config())
    assert disk.replay_bytes(config) < 10_000
    pixels = configs.make(domain="cheetah", task="run")
    assert disk.replay_bytes(pixels) == pytest.approx(125_000 * 21_300, rel=0.01)
    assert disk.replay_bytes(configs.make(replay_capacity=1000)) == pytest.approx(21_300_000, rel=0.01)
    assert disk.replay_bytes(configs.make(save_replay=False)) == 0
    from_state = configs.make(obs="state", num_train_steps=100_000)  # 17 numbers, of which a usual vector has more
    assert 100_000 * (4 * 17 + 20) < disk.replay_bytes(from_state) < 3 * 100_000 * (4 * 17 + 20)


def test_an_experiment_says_what_disk_it_needs_and_warns_where_it_is_not_there(tmp_path, monkeypatch):
    runs = plan.plan({"a": {}, "b": {"decoder": "none"}}, ["cheetah_run"], [1, 2], {}, tmp_path / "none" / "yet")
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 20 * 10**9))
    (line,) = disk.forecast(runs, tmp_path / "none" / "yet")
    assert line == "disk: about 10.6 GB for the replays of 4 runs; 20.0 GB are free"
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 10**9))
    _, warning = disk.forecast(runs, tmp_path)
    saved = runs[0].folder / "checkpoint" / "replay"
    saved.mkdir(parents=True)
    monkeypatch.setattr(disk.pruned, "replay_bytes", lambda folder: 10**9 if folder == runs[0].folder else 0)
    assert disk.forecast(runs, tmp_path)[0].startswith("disk: about 9.6 GB for the replays of 4 runs")
    assert warning.startswith("warning: that is more than is free; --no-save-replay")
