"""Earlier policies that a run keeps beside its last checkpoints."""

import pytest

import sacae
from sacae import cli
from sacae.errors import UserError
from sacae.training import kept
from tests.training.runs import SHORT, SMALL_STATE


@pytest.mark.parametrize(
    ("newest", "every", "expected"),
    [
        (0, None, set()),
        (2, None, {50, 60}),
        (9, None, {10, 20, 30, 40, 50, 60}),
        (0, 25, {30, 50}),  # the first at or after 25 and 50
        (1, 20, {20, 40, 60}),
        (0, 100, set()),
    ],
)
def test_the_newest_stay_and_the_first_after_each_multiple(newest, every, expected):
    assert kept.to_keep(range(10, 70, 10), newest, every) == expected


def test_what_stays_for_good_does_not_depend_on_what_was_removed_before():
    there = set()
    for step in range(10, 210, 10):
        there = kept.to_keep(there | {step}, 2, 50)
    assert there == {50, 100, 150, 190, 200}


def files(training):
    return kept.steps(training.run.folder)


def test_a_run_keeps_what_is_asked_for(make_counting):
    training = make_counting(num_train_steps=60, checkpoint_every=10, keep_checkpoints=2, keep_every=25)
    assert training.train()
    assert files(training) == [30, 50, 60]


def test_a_run_keeps_nothing_unless_asked(make_counting):
    training = make_counting(num_train_steps=60, checkpoint_every=10)
    assert training.train()
    assert files(training) == []


def test_a_resumed_run_removes_what_lies_beyond_its_checkpoint(make_counting):
    settings = {"num_train_steps": 40, "checkpoint_every": 10, "keep_checkpoints": 9}
    training = make_counting(**settings)
    assert training.train()
    (training.run.folder / "checkpoint" / kept.name_at(9000)).write_text("of a run that was killed")
    (training.run.folder / "checkpoint" / "step_mine.pt").write_text("of somebody")
    assert make_counting(resume=True, num_train_steps=50).train()
    assert files(training) == [10, 20, 30, 40, 50]
    assert (training.run.folder / "checkpoint" / "step_mine.pt").exists()


def test_a_kept_policy_is_loaded_played_and_exported(tmp_path, capsys):
    settings = (
        SMALL_STATE | SHORT | {"action_repeat": 100, "num_train_steps": 2000, "eval_every": 4000, "device": "cpu"}
    )
    settings |= {"checkpoint_every": 400, "keep_checkpoints": 9, "work_dir": tmp_path / "run"}
    folder = sacae.train(sacae.make_config(**settings)).folder
    agent = sacae.load_agent(folder, step=800)
    assert agent.env_step == 800
    assert agent.network.updates_done < sacae.load_agent(folder).network.updates_done
    assert cli.main(["eval", str(folder), "--step", "800", "--episodes", "1", "--no-video", "--device", "cpu"]) == 0
    assert (folder / "evaluation" / "step800-seed1000.json").exists()
    assert cli.main(["export", str(folder), "--step", "800", "--out", str(tmp_path / "frozen")]) == 0
    assert cli.main(["eval", str(folder), "--step", "7"]) == 2
    assert "step is 7, but" in (error := capsys.readouterr().err)
    assert "these environment steps: 0, 400, 800, 1200, 1600, 2000" in error
    assert cli.main(["eval", str(folder), "--step", "800", "--best"]) == 2
    with pytest.raises(UserError, match="step is '800', but it must be a whole number"):
        sacae.load_agent(folder, step="800")
    (folder / "checkpoint" / "best.pt").write_bytes(b"")  # whose damage matters only where its step may be asked for
    assert sacae.load_agent(folder, step=2000).env_step == 2000
    with pytest.raises(UserError, match="best.pt cannot be read: it is empty"):
        sacae.load_agent(folder, step=7)
