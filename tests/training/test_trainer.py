"""The loop: order, counts, what is written, and that a stopped run goes on as if it had not stopped."""

import copy
import csv
import io
import os
import signal

import numpy as np
import pytest
import torch
from rich.console import Console

from sacae import config as configs
from sacae.errors import UserError
from sacae.training import checkpoint
from sacae.training.evaluation import evaluate
from sacae.training.playback import play_back
from tests.training.conftest import EPISODE_STEPS


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


TIMING = ("hours", "env_steps_per_second", "updates_per_second", "share_")


def rows_without_timing(path):
    return [{k: v for k, v in row.items() if not k.startswith(TIMING)} for row in rows(path)]


def stop_when(trainer, condition):
    """Requests a stop, as Ctrl-C would, at the first update or environment step where the condition holds."""
    for owner, name in ((trainer.learner.agent, "update"), (trainer.stepper, "receive")):
        original = getattr(owner, name)

        def wrapped(*args, _original=original):
            result = _original(*args)
            trainer.run.stopping |= condition(trainer)
            return result

        object.__setattr__(owner, name, wrapped)


def everything(trainer):
    """What must not depend on whether a run was interrupted."""
    replay = trainer.learner.replay.sample(64, np.random.default_rng(0))._asdict().items()
    return {**trainer.learner.agent.state_dict(), **{f"replay.{k}": v for k, v in replay if v is not None}}


def assert_same_run(ours, theirs):
    left, right = everything(ours), everything(theirs)
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name
    for file in ("train.csv", "eval.csv"):
        assert rows_without_timing(ours.run.folder / file) == rows_without_timing(theirs.run.folder / file)


@pytest.mark.parametrize(
    ("obs", "settings"),
    [
        ("state", {}),
        ("state", {"num_envs": 2, "n_step": 3}),
        ("state", {"replay_capacity": 12}),
        ("state", {"updates_per_step": 2}),
        ("state", {"updates_per_step": 0.3, "num_envs": 2, "update_every": 4, "gates": "agent_steps"}),
        ("pixels", {"num_train_steps": 100, "eval_every": 1000, "num_eval_episodes": 1, "pretrain_updates": 4}),
        (
            "pixels",
            {"num_train_steps": 100, "eval_every": 1000, "num_eval_episodes": 1, "decoder": "state", "dynamics": True},
        ),
    ],
)
@pytest.mark.parametrize(
    "condition",
    [
        pytest.param(lambda trainer: trainer.learner.updates_done == 2, id="inside the initial burst"),
        pytest.param(lambda trainer: trainer.run.agent_step >= 2 * EPISODE_STEPS + 3, id="mid-episode"),
        pytest.param(lambda trainer: trainer.run.agent_step == 2 * EPISODE_STEPS, id="at an episode's start"),
    ],
)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(obs, settings, condition, make_trainer):
    whole = make_trainer(obs, folder="whole", **settings)
    assert whole.train()
    first = make_trainer(obs, folder="parts", **settings)
    stop_when(first, condition)
    assert not first.train()
    assert 0 < first.run.agent_step < whole.run.agent_step
    second = make_trainer(obs, folder="parts", resume=True, **settings)
    assert second.train()
    assert_same_run(second, whole)


def test_rows_written_after_the_checkpoint_are_not_doubled_by_a_crash(make_trainer):
    whole = make_trainer("state", folder="whole")
    whole.train()
    crashed = make_trainer("state", folder="crashed", checkpoint_every=22)
    receive = crashed.stepper.receive

    def fail():
        if crashed.run.agent_step == 35:
            raise OSError("power cut")
        return receive()

    crashed.stepper.receive = fail
    with pytest.raises(OSError, match="power cut"):
        crashed.train()
    resumed = make_trainer("state", folder="crashed", resume=True, checkpoint_every=22)
    assert 0 < resumed.run.agent_step < 35
    resumed.train()
    assert_same_run(resumed, whole)


def test_ctrl_c_leaves_a_checkpoint_and_the_handlers_of_before(make_trainer):
    trainer = make_trainer("state")
    handler = signal.getsignal(signal.SIGINT)
    update = trainer.learner.agent.update

    def interrupted(*args):
        if trainer.learner.updates_done == 9:
            os.kill(os.getpid(), signal.SIGINT)
        return update(*args)

    object.__setattr__(trainer.learner.agent, "update", interrupted)
    assert not trainer.train()
    assert signal.getsignal(signal.SIGINT) is handler
    state, _ = checkpoint.load(trainer.run.folder)
    assert int(state["learning"]["networks"]["num_updates"]) == trainer.learner.updates_done == 10


def test_updates_follow_the_reference_none_then_a_burst_then_one_per_agent_step(make_trainer):
    trainer = make_trainer("state", num_train_steps=80, seed_steps=5, initial_updates=3)
    seen = []
    send = trainer.stepper.send

    def note(actions):
        seen.append(trainer.learner.updates_done)
        send(actions)

    trainer.stepper.send = note
    trainer.train()
    # At agent step 5 the burst of 3 is made before the environment answers; afterwards one each.
    assert seen == [0] * 6 + list(range(3, 3 + 34))
    assert trainer.learner.updates_done == 37


def updates_at_each_step(trainer):
    """The agent step of each update."""
    seen = []
    update = trainer.learner.update

    def note(batch, step):
        seen.append(trainer.run.agent_step)
        return update(batch, step=step)

    trainer.learner.update = note
    return seen


def test_learning_starts_when_told_and_never_before_the_replay_holds_a_batch(make_trainer):
    for settings, first in (
        ({"seed_steps": 5, "learning_starts": 9}, 9),
        ({"seed_steps": 20, "learning_starts": 9}, 9),
        ({"seed_steps": 0, "batch_size": 12}, 12),
        ({"seed_steps": 5, "batch_size": 12, "n_step": 3}, 12 + 2),
    ):
        trainer = make_trainer("state", folder=str(settings), **settings)
        seen = updates_at_each_step(trainer)
        trainer.train()
        assert seen[:4] == [first] * 3 + [first + 1], settings


def test_a_run_resumed_without_its_replay_acts_until_a_batch_is_there_and_repeats_no_burst(make_trainer):
    first = make_trainer("state", save_replay=False, batch_size=6)
    stop_when(first, lambda trainer: trainer.run.agent_step == 17)
    first.train()
    second = make_trainer("state", resume=True)
    acted, act = [], second.learner.agent.act
    object.__setattr__(second.learner.agent, "act", lambda *args: acted.append(second.run.agent_step) or act(*args))
    seen = updates_at_each_step(second)
    assert second.train()
    assert set(range(18, 40)) <= {*acted}  # evaluations ask as well
    assert seen == list(range(18 + 6 + 1, 40))


def test_a_checkpoint_of_version_0_1_0_goes_on_with_the_updates_that_it_owes(make_trainer):
    whole = make_trainer("state", folder="whole")
    whole.train()
    in_burst, midway = (lambda t: t.learner.updates_done == 2), (lambda t: t.run.agent_step == 17)
    for condition in (in_burst, midway, lambda t: t.run.agent_step == 3):
        first = make_trainer("state", folder=f"parts-{id(condition)}")
        stop_when(first, condition)
        first.train()
        path = first.run.folder / "checkpoint" / "state.pt"
        content = torch.load(path, weights_only=True)
        began = content["state"].pop("updates")["began"]
        content["state"]["loop"] |= content["state"].pop("learner")
        content["state"]["loop"]["learning"] = began is not None
        torch.save(content, path)
        second = make_trainer("state", folder=first.run.folder.name, resume=True)
        second.train()
        assert_same_run(second, whole)


@pytest.mark.parametrize(
    ("gates", "in_burst", "afterwards"),
    [("updates", [False, True, False], [True, False, True]), ("agent_steps", [True] * 3, [False, True, False])],
)
def test_gates_count_updates_or_agent_steps_which_stand_still_in_the_burst(gates, in_burst, afterwards, make_trainer):
    trainer = make_trainer("state", actor_update_freq=2, gates=gates)
    seen = []
    run_update = trainer.learner.agent.run_update

    def note(batch, noise, due):
        seen.append(due.policy)
        return run_update(batch, noise, due)

    object.__setattr__(trainer.learner.agent, "run_update", note)
    trainer.train()
    assert seen[:6] == in_burst + afterwards


def test_updates_see_only_what_the_replay_held_before_the_action(make_trainer):
    trainer = make_trainer("state")
    sizes = []
    sample = trainer.learner.replay.sample

    def note(*args):
        sizes.append((trainer.run.agent_step, len(trainer.learner.replay)))
        return sample(*args)

    trainer.learner.replay.sample = note
    trainer.train()
    assert sizes
    assert all(size == step for step, size in sizes)


def test_csv_rows_count_both_kinds_of_steps_and_name_the_run(make_trainer):
    trainer = make_trainer("state")
    trainer.train()
    train = rows(trainer.run.folder / "train.csv")
    assert [int(row["agent_step"]) for row in train] == [7, 14, 21, 28, 35]
    assert all(int(row["env_step"]) == 2 * int(row["agent_step"]) for row in train)
    assert all(
        row["agent"] == "sac-state" and row["task"] == "cartpole_swingup" and row["seed"] == "1" for row in train
    )
    assert train[0]["critic_loss"] != ""
    assert float(train[-1]["updates_per_second"]) > 0
    shares = [float(row[f"share_{name}"]) for row in train for name in ("env", "wait", "sample", "update", "log")]
    assert all(0 <= share <= 1 for share in shares)
    evaluations = rows(trainer.run.folder / "eval.csv")
    assert [(int(row["env_step"]), int(row["episode"])) for row in evaluations] == [
        (step, episode) for step in (0, 40, 80) for episode in (0, 1)
    ]
    assert all(int(row["episode_length"]) == EPISODE_STEPS for row in evaluations)


def test_evaluation_happens_between_episodes_ends_too_and_after_the_last_step(make_trainer):
    trainer = make_trainer("state", eval_every=26, num_train_steps=70)
    trainer.train()
    assert sorted({int(row["env_step"]) for row in rows(trainer.run.folder / "eval.csv")}) == [0, 26, 52, 70]


def test_evaluation_leaves_the_training_untouched(make_trainer):
    often = make_trainer("state", folder="often", eval_every=6, num_eval_episodes=3)
    seldom = make_trainer("state", folder="seldom", eval_every=80, num_eval_episodes=1)
    often.train()
    seldom.train()
    left, right = everything(often), everything(seldom)
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_evaluation_depends_on_how_many_environments_run_it_by_rounding_alone(make_trainer):
    trainer = make_trainer("state", num_eval_episodes=5)
    trainer.train()
    from sacae import envs

    class RowByRow:
        """Acts without batches, whose size rounding depends on."""

        spec = trainer.learner.agent.spec

        def act(self, obs):
            return torch.cat([trainer.learner.agent.act(row[None]) for row in obs])

    def returns(player, count):
        pool = [envs.from_config(trainer.run.config.task, seed=count) for _ in range(count)]
        return [episode.episode_return for episode in evaluate(player, pool, [11, 12, 13, 14, 15])]

    assert returns(RowByRow(), 1) == returns(RowByRow(), 3) == returns(trainer.learner.agent, 1)
    np.testing.assert_allclose(returns(trainer.learner.agent, 3), returns(trainer.learner.agent, 1), rtol=1e-5)
    assert len(set(returns(trainer.learner.agent, 1))) == 5


def test_a_pixel_run_leaves_every_file_a_person_looks_for(make_trainer):
    trainer = make_trainer("pixels", num_train_steps=40, eval_every=40, save_video=True, num_eval_episodes=1)
    trainer.train()
    folder = trainer.run.folder
    assert {p.name for p in folder.iterdir()} == {
        "config.yaml", "train.csv", "eval.csv", "tb", "video", "reconstruction", "checkpoint", "curve.png",
    }  # fmt: skip
    assert {p.name for p in (folder / "video").iterdir()} == {"0.mp4", "40.mp4"}
    assert {p.name for p in (folder / "reconstruction").iterdir()} == {"0.png", "40.png"}
    assert not list(folder.rglob(".tmp*"))
    import imageio.v2 as imageio

    video = imageio.get_reader(folder / "video" / "40.mp4")
    assert video.get_meta_data()["size"] == (256, 256)
    frames = [frame for frame in video]  # noqa: C416 - list() would ask for the length, which is infinite
    assert len(frames) == EPISODE_STEPS + 1
    assert np.std(frames[0]) > 10


def test_the_run_folder_records_what_was_chosen(make_trainer):
    trainer = make_trainer("state", device="auto", replay_capacity=None)
    config = configs.load(trainer.run.folder / "config.yaml")
    trainer.close()
    assert config.train.device in ("cpu", "cuda:0")
    assert config.replay.replay_capacity == 40
    assert config == trainer.run.config


def test_a_run_folder_in_use_is_refused_and_left_alone(make_trainer, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="already holds a run; continue it with --resume"):
        make_trainer("state")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_a_folder_without_a_checkpoint_cannot_be_resumed(make_trainer):
    with pytest.raises(UserError, match="has no checkpoint"):
        make_trainer("state", resume=True)


def test_a_replay_that_does_not_fit_is_refused_before_anything_is_written(make_trainer, tmp_path):
    with pytest.raises(UserError, match=r"replay_capacity is 1,000,000,000, which needs .* GB"):
        make_trainer("pixels", replay_capacity=10**9)
    assert not (tmp_path / "run").exists()


def test_a_non_finite_loss_stops_the_run_and_keeps_the_last_good_checkpoint(make_trainer):
    trainer = make_trainer("state", checkpoint_every=20)
    sample = trainer.learner.replay.sample

    def poisoned(*args):
        batch = sample(*args)
        return batch._replace(reward=batch.reward * float("inf")) if trainer.run.agent_step >= 24 else batch

    trainer.learner.replay.sample = poisoned
    with pytest.raises(UserError, match="critic loss or its gradient was not finite at update 22"):
        trainer.train()
    state, _ = checkpoint.load(trainer.run.folder)
    assert state["loop"]["agent_step"] == 20
    assert all(torch.isfinite(value).all() for value in state["learning"]["networks"].values())


def test_without_a_saved_replay_a_resumed_run_starts_a_new_one(make_trainer):
    first = make_trainer("state", save_replay=False)
    stop_when(first, lambda trainer: trainer.run.agent_step == 17)
    first.train()
    assert not list((first.run.folder / "checkpoint").glob("replay/*"))
    second = make_trainer("state", save_replay=False, resume=True)
    assert len(second.learner.replay) == 0
    assert second.run.agent_step == first.run.agent_step
    assert second.train()


def test_a_finished_run_can_be_given_more_steps(make_trainer):
    first = make_trainer("state", num_train_steps=40)
    first.train()
    longer = make_trainer("state", num_train_steps=80, resume=True)
    note = "of the run's 40 transitions it keeps the latest"
    assert tuple(note in run.run.console.file.getvalue() for run in (first, longer)) == (False, True)
    assert longer.train()
    assert sorted({int(row["env_step"]) for row in rows(longer.run.folder / "eval.csv")}) == [0, 40, 80]


def test_a_finished_run_resumed_changes_nothing(make_trainer):
    trainer = make_trainer("state")
    trainer.train()
    before = rows(trainer.run.folder / "train.csv"), rows(trainer.run.folder / "eval.csv")
    assert make_trainer("state", resume=True).train()
    assert (rows(trainer.run.folder / "train.csv"), rows(trainer.run.folder / "eval.csv")) == before


def test_two_runs_of_one_seed_are_equal_and_of_two_seeds_are_not(make_trainer):
    first, second, other = (
        make_trainer("state", folder=name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    for trainer in (first, second, other):
        trainer.train()
    assert_same_run(first, second)
    assert not torch.equal(everything(first)["replay.obs"], everything(other)["replay.obs"])


def test_a_saved_replay_can_be_left_behind(make_trainer):
    first = make_trainer("state")
    stop_when(first, lambda trainer: trainer.run.agent_step == 17)
    first.train()
    second = make_trainer("state", save_replay=False, resume=True)
    assert len(second.learner.replay) == 0
    assert second.train()
    assert not (second.run.folder / "checkpoint" / "replay").exists()


def test_random_numbers_of_another_kind_of_device_start_anew(make_trainer):
    first = make_trainer("state")
    stop_when(first, lambda trainer: trainer.run.agent_step == 17)
    first.train()
    path = first.run.folder / "checkpoint" / "state.pt"
    content = torch.load(path, weights_only=True)
    content["state"]["random"]["updates"] = torch.zeros(16, dtype=torch.uint8)  # the size of a CUDA generator's state
    torch.save(content, path)
    second = make_trainer("state", resume=True)
    assert "another kind of device" in second.run.console.file.getvalue()
    assert second.train()


@pytest.mark.parametrize(("obs", "more"), [("state", {}), ("pixels", {}), ("pixels", {"decoder": "state"})])
def test_stepping_beside_the_updates_changes_not_a_bit(obs, more, make_trainer):
    settings = {"num_envs": 2, "num_train_steps": 60, "eval_every": 1000, "num_eval_episodes": 1} | more
    runs = [make_trainer(obs, folder=str(overlap), overlap=overlap, **settings) for overlap in (False, True)]
    for trainer in runs:
        assert trainer.train()
    assert_same_run(*runs)
    assert runs[0].learner.updates_done == runs[1].learner.updates_done > 0


@pytest.mark.parametrize("overlap", [False, True])
def test_an_overlapped_run_resumes_inside_a_burst_like_a_serial_one(overlap, make_trainer):
    whole = make_trainer("state", folder="whole")
    whole.train()
    first = make_trainer("state", folder="parts", overlap=overlap)
    stop_when(first, lambda trainer: trainer.learner.updates_done == 2)
    first.train()
    second = make_trainer("state", folder="parts", resume=True, overlap=not overlap)
    second.train()
    assert_same_run(second, whole)


def test_the_best_evaluations_networks_are_kept_and_can_be_played(make_trainer, monkeypatch):
    trainer = make_trainer("state", num_train_steps=160)
    scripted = iter([1.0, 5.0, 3.0, 5.0, 2.0])  # the later 5 only equals the best
    seen = []

    def keep(_mean_return, learner, original=trainer.run._keep_if_best):
        seen.append(copy.deepcopy(trainer.learner.agent.state_dict()))
        original(next(scripted), learner)

    monkeypatch.setattr(trainer.run, "_keep_if_best", keep)
    trainer.train()
    assert len(seen) == 5
    state, _ = checkpoint.load(trainer.run.folder, name=checkpoint.BEST)
    assert state["loop"]["agent_step"] == 20
    trainer.learner.agent.load_networks(state["learning"])
    assert all(torch.equal(value, seen[1][name]) for name, value in trainer.learner.agent.state_dict().items())
    result = play_back(trainer.run.folder, 1, 1, False, 7, "cpu", Console(file=io.StringIO()), best=True)
    assert (result["best"], result["env_step"]) == (True, 40)


def test_the_best_return_survives_a_resume(make_trainer):
    trainer = make_trainer("state", num_train_steps=80)
    trainer.train()
    best = trainer.run.best_return
    resumed = make_trainer("state", resume=True, num_train_steps=160)
    assert resumed.run.best_return == best
    resumed.close()


def test_the_replay_ratio_is_exact_after_the_burst(make_trainer):
    trainer = make_trainer("state", num_train_steps=80, seed_steps=5, initial_updates=3, updates_per_step=4)
    trainer.train()
    assert trainer.learner.updates_done == 3 + 4 * (trainer.run.agent_step - 5 - 1)


def test_each_frame_is_remembered_with_its_own_state_across_episodes(make_trainer):
    settings = {"num_envs": 2, "num_train_steps": 60, "eval_every": 1000, "num_eval_episodes": 1}
    trainer = make_trainer("pixels", decoder="state", seed_steps=1000, **settings)
    assert trainer.train()
    assert trainer.learner.spec.state_dim == 17
    batch = trainer.learner.replay.sample(400, np.random.default_rng(0))
    # Where all actions are random, a run from state sees what this one kept.
    cheetah = {"domain": "cheetah", "task": "run", "action_repeat": 4}
    told = make_trainer("state", folder="told", seed_steps=1000, **cheetah, **settings)
    assert told.train()
    seen = told.learner.replay.sample(400, np.random.default_rng(0))
    torch.testing.assert_close(batch.state, seen.obs, rtol=0, atol=0)
    torch.testing.assert_close(batch.reward, seen.reward, rtol=0, atol=0)


def test_a_state_decoder_has_a_column_and_a_folder_name_but_no_picture_of_its_own(make_trainer):
    trainer = make_trainer("pixels", decoder="state", num_train_steps=60, eval_every=60, num_eval_episodes=1)
    assert trainer.run.config.variant == "sac-state_decoder"
    assert trainer.train()
    assert float(rows(trainer.run.folder / "train.csv")[-1]["reconstruction_loss"]) > 0
    assert not (trainer.run.folder / "reconstruction").exists()
    quiet = Console(file=io.StringIO())
    played = play_back(trainer.run.folder, 1, 1, False, 1, "cpu", quiet)
    assert played["agent"] == "sac-state_decoder"


def test_an_encoder_from_another_run_is_where_training_starts(make_trainer):
    source = make_trainer("pixels", num_train_steps=40, eval_every=1000)
    source.train()
    trainer = make_trainer("pixels", folder="second", encoder_from=source.run.folder, freeze_encoder=True)
    trainer.close()
    encoders = (run.learner.agent.encoder.parameters() for run in (trainer, source))
    for ours, theirs in zip(*encoders, strict=True):
        assert torch.equal(ours, theirs)


def test_an_encoder_from_a_folder_without_a_run_is_refused_before_anything_is_written(make_trainer, tmp_path):
    with pytest.raises(UserError, match="not a run folder with a checkpoint"):
        make_trainer("pixels", encoder_from=tmp_path / "nothing")
    assert not (tmp_path / "run").exists()
