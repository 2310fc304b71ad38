"""Learning from a replay: when updates are made and from what, and that a run which was stopped anywhere goes on."""

import io
import re

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from rich.console import Console

from sacae import config as configs
from sacae import envs
from sacae.errors import UserError
from sacae.experiments.ablations import FAMILY
from sacae.training import checkpoint, off_policy
from sacae.training.evaluation import evaluate
from sacae.training.playback import play_back
from tests.training.runs import (
    assert_same_run,
    at_an_episodes_start,
    everything,
    in_burst,
    in_parts,
    mid_episode,
    rows,
    said,
    start,
    stop_when,
)
from tests.training.short_episodes import EPISODE_STEPS

STATE_DECODER = {"decoder": "state", "dynamics": True, "dynamics_contrastive": 0.1, "num_train_steps": 80}
TINY_PIXELS = {"env": "tests.envs.tiny:TinyPixelsContinuous-v0", "pretrain_updates": 4, "num_train_steps": 24}
PRESET = {"env": "tests.envs.tiny:TinyPixelsContinuous-v0", "num_envs": 2, "num_train_steps": 48}
TRANSLATED = PRESET | {"preset": "rad", "augment": "translate", "contrastive": True, "precision": "bf16"}
TWO_ENVS = {"num_envs": 2, "num_train_steps": 60, "eval_every": 60}


@pytest.mark.parametrize(
    ("obs", "settings"),
    [
        ("state", {}),
        ("state", {"num_envs": 2, "n_step": 3}),
        ("state", {"replay_capacity": 12}),
        ("state", {"updates_per_step": 2}),
        ("state", {"updates_per_step": 0.3, "num_envs": 2, "update_every": 4, "gates": "agent_steps"}),
        pytest.param("pixels", TINY_PIXELS, id="pixels, rae"),
        pytest.param("pixels", STATE_DECODER, id="pixels, state decoder and dynamics"),
        *(pytest.param("pixels", PRESET | {"preset": name}, id=f"pixels, {name}") for name in FAMILY),
        pytest.param("pixels", TRANSLATED, id="pixels, rad, translated, in bf16"),
    ],
)
def test_a_run_stopped_in_a_burst_between_and_within_episodes_equals_an_uninterrupted_one(obs, settings, make_training):
    whole = make_training(obs, folder="whole", **settings)
    assert whole.train()

    def parts(resume=False):
        return make_training(obs, folder="parts", resume=resume, **settings)

    assert_same_run(in_parts(parts, [in_burst, at_an_episodes_start, mid_episode]), whole)


def test_updates_follow_the_reference_none_then_a_burst_then_one_per_agent_step(make_training):
    training = make_training("state", num_train_steps=40, seed_steps=5, initial_updates=3)
    seen = []
    send = training.stepper.send

    def note(actions):
        seen.append(training.learner.updates_done)
        send(actions)

    training.stepper.send = note
    training.train()
    # At agent step 5 the burst of 3 is made before the environment answers; afterwards one each.
    assert seen == [0] * 6 + list(range(3, 3 + 14))
    assert training.learner.updates_done == 17


def updates_at_each_step(training):
    """The agent step of each update."""
    seen = []
    update = training.learner.update

    def note(batch, step):
        seen.append(training.run.agent_step)
        return update(batch, step=step)

    training.learner.update = note
    return seen


def test_learning_starts_when_told_and_never_before_the_replay_holds_a_batch(make_training):
    for settings, first in (
        ({"seed_steps": 5, "learning_starts": 9}, 9),
        ({"seed_steps": 20, "learning_starts": 9}, 9),
        ({"seed_steps": 0, "batch_size": 12}, 12),
        ({"seed_steps": 5, "batch_size": 12, "n_step": 3}, 12 + 2),
    ):
        training = make_training("state", folder=str(settings), num_train_steps=40, **settings)
        seen = updates_at_each_step(training)
        training.train()
        assert seen[:4] == [first] * 3 + [first + 1], settings


def test_a_run_resumed_without_its_replay_acts_until_a_batch_is_there_and_repeats_no_burst(make_training):
    first = make_training("state", save_replay=False, batch_size=6)
    stop_when(first, lambda training: training.run.agent_step == 17)
    first.train()
    assert not list((first.run.folder / "checkpoint").glob("replay/*"))
    second = make_training("state", resume=True)
    assert len(second.learner.replay) == 0
    acted, act = [], second.learner.agent.act
    object.__setattr__(second.learner.agent, "act", lambda *args: acted.append(second.run.agent_step) or act(*args))
    seen = updates_at_each_step(second)
    assert second.train()
    assert set(range(17, 40)) <= {*acted}  # evaluations ask as well
    assert seen == list(range(17 + 6 + 1, 40))


def test_a_run_stopped_in_its_burst_makes_the_rest_of_it_without_its_replay_too(make_training):
    settings = {"pretrain_updates": 4, "initial_updates": 3, "save_replay": False, "batch_size": 6}
    first = make_training("pixels", **settings)
    stop_when(first, in_burst)
    assert not first.train()
    stopped_at = first.run.agent_step
    second = make_training("pixels", resume=True)
    seen, critic = updates_at_each_step(second), []
    run_update = second.learner.agent.run_update
    noted = lambda batch, noise, gates: critic.append(gates.critic) or run_update(batch, noise, gates)  # noqa: E731
    object.__setattr__(second.learner.agent, "run_update", noted)
    assert second.train()
    assert seen[:7] == [stopped_at + 6] * 5 + [stopped_at + 7, stopped_at + 8]
    assert critic == [False] * 2 + [True] * (len(critic) - 2)


def as_version_0_1_0(folder):
    """Rewrites the checkpoint as that version wrote it."""
    path = folder / "checkpoint" / "state.pt"
    content = torch.load(path, weights_only=True)
    began = content["state"].pop("updates")["began"]
    content["state"]["loop"] |= content["state"].pop("learner")
    content["state"]["loop"]["learning"] = began is not None
    torch.save(content, path)


def test_a_checkpoint_of_version_0_1_0_goes_on_with_the_updates_that_it_owes(make_training):
    whole = make_training("state", folder="whole")
    whole.train()

    def parts(resume=False):
        if resume:
            as_version_0_1_0(whole.run.folder.with_name("parts"))
        return make_training("state", folder="parts", resume=resume)

    def before_learning(training):
        return training.run.agent_step == 3

    assert_same_run(in_parts(parts, [before_learning, in_burst, mid_episode]), whole)


@pytest.mark.parametrize(
    ("gates", "in_burst", "afterwards"),
    [("updates", [False, True, False], [True, False, True]), ("agent_steps", [True] * 3, [False, True, False])],
)
def test_gates_count_updates_or_agent_steps_which_stand_still_in_the_burst(gates, in_burst, afterwards, make_training):
    training = make_training("state", actor_update_freq=2, gates=gates, num_train_steps=20)
    seen = []
    run_update = training.learner.agent.run_update

    def note(batch, noise, due):
        seen.append(due.policy)
        return run_update(batch, noise, due)

    object.__setattr__(training.learner.agent, "run_update", note)
    training.train()
    assert seen[:6] == in_burst + afterwards


def test_updates_see_only_what_the_replay_held_before_the_action(make_training):
    training = make_training("state", num_train_steps=40)
    sizes = []
    sample = training.learner.replay.sample

    def note(*args):
        sizes.append((training.run.agent_step, len(training.learner.replay)))
        return sample(*args)

    training.learner.replay.sample = note
    training.train()
    assert sizes
    assert all(size == step for step, size in sizes)


def test_evaluation_leaves_the_training_untouched(make_training):
    often = make_training("state", folder="often", num_train_steps=40, eval_every=6, num_eval_episodes=2)
    seldom = make_training("state", folder="seldom", num_train_steps=40, eval_every=40, num_eval_episodes=1)
    often.train()
    seldom.train()
    left, right = everything(often), everything(seldom)
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_evaluation_depends_on_how_many_environments_run_it_by_rounding_alone(make_training):
    training = make_training("state", num_train_steps=40)
    training.train()

    class RowByRow:
        """Acts without batches, whose size rounding depends on."""

        spec = training.learner.agent.spec

        def act(self, obs):
            return torch.cat([training.learner.agent.act(row[None]) for row in obs])

    def returns(player, count):
        pool = [envs.from_config(training.run.config.task, seed=count) for _ in range(count)]
        return [episode.episode_return for episode in evaluate(player, pool, [11, 12, 13, 14, 15])]

    assert returns(RowByRow(), 1) == returns(RowByRow(), 3) == returns(training.learner.agent, 1)
    np.testing.assert_allclose(returns(training.learner.agent, 3), returns(training.learner.agent, 1), rtol=1e-5)
    assert len(set(returns(training.learner.agent, 1))) == 5


def test_a_pixel_run_leaves_every_file_a_person_looks_for(short_episodes, tmp_path):
    training = start(tmp_path / "run", num_train_steps=40, save_video=True)
    training.train()
    folder = training.run.folder
    assert {p.name for p in folder.iterdir()} == {
        "config.yaml", "train.csv", "eval.csv", "tb", "video", "reconstruction", "checkpoint", "curve.png",
    }  # fmt: skip
    assert {p.name for p in (folder / "video").iterdir()} == {"0.mp4", "40.mp4"}
    assert {p.name for p in (folder / "reconstruction").iterdir()} == {"0.png", "40.png"}
    assert not list(folder.rglob(".tmp*"))
    video = imageio.get_reader(folder / "video" / "40.mp4")
    assert video.get_meta_data()["size"] == (256, 256)
    frames = [frame for frame in video]  # noqa: C416 - list() would ask for the length, which is infinite
    assert len(frames) == EPISODE_STEPS + 1
    assert np.std(frames[0]) > 10


def test_the_run_folder_records_what_was_chosen(make_training):
    training = make_training("state", device="auto", replay_capacity=None)
    config = configs.load(training.run.folder / "config.yaml", configs.Config())
    training.close()
    assert config.train.device in ("cpu", "cuda:0")
    assert config.replay.replay_capacity == 40
    assert config.applying() == training.run.config.applying()


def test_a_folder_without_a_checkpoint_cannot_be_resumed(make_training):
    with pytest.raises(UserError, match="has no checkpoint"):
        make_training("state", resume=True)


def test_a_replay_that_does_not_fit_is_refused_before_anything_is_written(make_training, tmp_path):
    with pytest.raises(UserError, match=r"replay_capacity is 1,000,000,000, which needs .* GB"):
        make_training("pixels", replay_capacity=10**9)
    assert not (tmp_path / "run").exists()


def test_a_non_finite_loss_stops_the_run_and_keeps_the_last_good_checkpoint(make_training):
    training = make_training("state", checkpoint_every=20)
    sample = training.learner.replay.sample

    def poisoned(*args):
        batch = sample(*args)
        return batch._replace(reward=batch.reward * float("inf")) if training.run.agent_step >= 24 else batch

    training.learner.replay.sample = poisoned
    with pytest.raises(UserError, match="critic loss or its gradient was not finite at update 22"):
        training.train()
    state, _ = checkpoint.load(training.run.folder)
    assert state["loop"]["agent_step"] == 20
    assert all(torch.isfinite(value).all() for value in state["learning"]["networks"].values())


def test_a_run_with_more_steps_than_its_replay_was_planned_for_says_what_it_keeps(make_training):
    first = make_training("state", num_train_steps=40)
    first.train()
    longer = make_training("state", num_train_steps=80, resume=True)
    longer.close()
    note = "of the run's 40 transitions it keeps the latest"
    assert [note in said(training) for training in (first, longer)] == [False, True]


def test_two_runs_of_one_seed_are_equal_and_of_two_seeds_are_not(make_training):
    runs = [make_training("state", folder=str(i), seed=seed, num_train_steps=40) for i, seed in enumerate((1, 1, 2))]
    for training in runs:
        training.train()
    first, second, other = runs
    assert_same_run(first, second)
    assert not torch.equal(everything(first)["replay.obs"], everything(other)["replay.obs"])


def test_a_run_that_saves_its_replay_no_longer_goes_on_with_the_saved_one(make_training):
    whole = make_training("state", folder="whole", num_train_steps=40)
    whole.train()

    def parts(resume=False):
        settings = {} if resume else {"num_train_steps": 40}
        return make_training("state", resume=resume, save_replay=not resume, **settings)

    second = in_parts(parts, [lambda training: training.run.agent_step >= 20])
    assert_same_run(second, whole)
    # The checkpoint before the last one needs it until the next one.
    assert (second.run.folder / "checkpoint" / "replay").exists()
    make_training("state", num_train_steps=60, resume=True).train()
    assert not (second.run.folder / "checkpoint" / "replay").exists()


def test_a_run_that_saves_no_replay_goes_on_without_a_damaged_one(make_training):
    first = make_training("state", num_train_steps=20)
    first.train()
    replay = first.run.folder / "checkpoint" / "replay"
    damaged, *others = sorted(replay.glob("*.npz"))
    damaged.write_bytes(b"damaged")
    second = make_training("state", save_replay=False, num_train_steps=40, resume=True)
    assert len(second.learner.replay) == 0
    assert "save_replay is off, so the run goes on with an empty replay" in said(second)
    assert "--no-save-replay" not in said(second)
    assert sorted(replay.glob("*.npz")) == [damaged, *others]  # which somebody may restore
    assert second.train()


def test_random_numbers_of_another_kind_of_device_start_anew(make_training):
    first = make_training("state", num_train_steps=20)
    first.train()
    path = first.run.folder / "checkpoint" / "state.pt"
    content = torch.load(path, weights_only=True)
    content["state"]["random"]["updates"] = torch.zeros(16, dtype=torch.uint8)  # the size of a CUDA generator's state
    del content["digest"]  # of what it was
    torch.save(content, path)
    second = make_training("state", num_train_steps=40, resume=True)
    assert "another kind of device" in said(second)
    assert second.train()


def test_stepping_beside_the_updates_changes_not_a_bit(make_training):
    settings = TWO_ENVS | {"decoder": "state"}
    runs = [make_training(folder=str(overlap), overlap=overlap, **settings) for overlap in (False, True)]
    for training in runs:
        assert training.train()
    assert_same_run(*runs)
    assert runs[0].learner.updates_done == runs[1].learner.updates_done > 0


def test_a_run_may_be_resumed_with_overlap_or_without_and_changes_not_a_bit(make_training):
    whole = make_training("state", folder="whole")
    whole.train()
    overlap = iter([False, True, False])

    def parts(resume=False):
        return make_training("state", folder="parts", resume=resume, overlap=next(overlap))

    assert_same_run(in_parts(parts, [in_burst, mid_episode]), whole)


def test_the_best_evaluations_networks_are_kept_and_can_be_played(make_training):
    training = make_training("state", eval_every=20)
    kept, playable = [], training.learner.playable

    def note():
        kept.append((training.run.env_step, {name: value.clone() for name, value in networks(training).items()}))
        return playable()

    training.learner.playable = note
    training.train()
    env_step, best = kept[-1]
    state, _ = checkpoint.load(training.run.folder, name=checkpoint.BEST)
    training.learner.agent.load_networks(state["learning"])
    assert all(torch.equal(value, best[name]) for name, value in networks(training).items())
    result = play_back(training.run.folder, 1, 1, False, 7, "cpu", Console(file=io.StringIO()), best=True)
    assert (result["best"], result["env_step"]) == (True, env_step)


def networks(training):
    return training.learner.agent.state_dict()


def test_the_replay_ratio_is_exact_after_the_burst(make_training):
    training = make_training("state", num_train_steps=40, seed_steps=5, initial_updates=3, updates_per_step=4)
    training.train()
    assert training.learner.updates_done == 3 + 4 * (training.run.agent_step - 5 - 1)


def test_each_frame_is_remembered_with_its_own_state_across_episodes(make_training):
    training = make_training("pixels", decoder="state", seed_steps=1000, **TWO_ENVS)
    assert training.train()
    assert training.learner.spec.state_dim == 17
    batch = training.learner.replay.sample(400, np.random.default_rng(0))
    # Where all actions are random, a run from state sees what this one kept.
    cheetah = {"domain": "cheetah", "task": "run", "action_repeat": 4}
    told = make_training("state", folder="told", seed_steps=1000, **cheetah, **TWO_ENVS)
    assert told.train()
    seen = told.learner.replay.sample(400, np.random.default_rng(0))
    torch.testing.assert_close(batch.state, seen.obs, rtol=0, atol=0)
    torch.testing.assert_close(batch.reward, seen.reward, rtol=0, atol=0)


def test_a_state_decoder_has_a_column_and_a_folder_name_but_no_picture_of_its_own(make_training):
    training = make_training("pixels", decoder="state", num_train_steps=40)
    assert training.run.config.variant == "sac-state_decoder"
    assert training.train()
    assert float(rows(training.run.folder / "train.csv")[-1]["reconstruction_loss"]) > 0
    assert not (training.run.folder / "reconstruction").exists()
    quiet = Console(file=io.StringIO())
    played = play_back(training.run.folder, 1, 1, False, 1, "cpu", quiet)
    assert played["agent"] == "sac-state_decoder"


def test_an_encoder_from_another_run_is_where_training_starts(make_training):
    source = make_training("pixels", num_train_steps=24)
    source.train()
    training = make_training("pixels", folder="second", encoder_from=source.run.folder, freeze_encoder=True)
    training.close()
    encoders = (run.learner.agent.encoder.parameters() for run in (training, source))
    for ours, theirs in zip(*encoders, strict=True):
        assert torch.equal(ours, theirs)


def test_an_encoder_from_a_folder_without_a_run_is_refused_before_anything_is_written(make_training, tmp_path):
    with pytest.raises(UserError, match="not a run folder with a checkpoint"):
        make_training("pixels", encoder_from=tmp_path / "nothing")
    assert not (tmp_path / "run").exists()


def test_an_encoder_that_would_see_other_values_than_it_learned_from_is_refused(make_training, tmp_path):
    source = make_training("pixels", folder="source", num_train_steps=24, centre_pixels=True)
    source.train()
    with pytest.raises(UserError, match=r"source, whose centre_pixels is on, but here it is off: .*; give --centre"):
        make_training("pixels", folder="second", encoder_from=source.run.folder)
    assert not (tmp_path / "second").exists()
    training = make_training("pixels", folder="second", encoder_from=source.run.folder, centre_pixels=True)
    training.close()


def test_an_encoder_of_another_latent_is_refused(make_training, tmp_path):
    source = make_training("pixels", folder="source", num_train_steps=24)
    source.train()
    with pytest.raises(UserError, match=r"whose latent_tanh is on, but here it is off: .*; give --latent-tanh"):
        make_training("pixels", folder="second", encoder_from=source.run.folder, latent_tanh=False)


def test_a_run_says_what_it_is_too_short_for(make_training):
    causal = {"causal_entropy": "absolute", "causal_samples": 21, "soft_reset": "reset", "reset_every": 100}
    training = make_training("state", **causal, num_train_steps=40)
    training.close()
    assert "causal_samples is 21, but the run has 20 agent steps: in it the causal weights are never" in said(training)
    assert "reset_every is 100, but the run has at most 23 updates: in it nothing is reset" in said(training)
    fits_in_time = {"causal_samples": 10, "causal_every": 20, "causal_delay": 9}
    enough = make_training("state", folder="2", **causal | fits_in_time | {"reset_every": 23}, num_train_steps=40)
    enough.close()
    assert "the run has" not in said(enough)


@pytest.mark.parametrize(
    ("settings", "said_of_it"),
    [
        ({"seed_steps": 20}, "seed_steps is 20, but the run has 20 agent steps: in it nothing is learned; lower"),
        ({"learning_starts": 30}, "learning_starts is 30, but the run has 20 agent steps: in it nothing is learned"),
        ({"learning_starts": 19}, None),
        ({"num_envs": 8, "seed_steps": 17}, "seed_steps is 17, but the run has 20 agent steps"),
        ({"num_envs": 8, "seed_steps": 16}, None),
        ({"batch_size": 21}, "batch_size is 21, but the run has 20 agent steps: in it nothing is learned"),
    ],
)
def test_a_run_says_that_it_ends_before_learning_starts(settings, said_of_it, make_training):
    training = make_training("state", num_train_steps=40, **{"seed_steps": 10} | settings)
    training.close()
    found = [line for line in said(training).splitlines() if "nothing is learned" in line]
    assert (said_of_it is None and not found) or said_of_it in found[0]


@pytest.mark.parametrize(
    ("schedule", "said_of_it"),
    [
        ({"causal_every": 41}, "causal_every is 41, but the run has 40 environment steps: .* are never fitted; lower"),
        ({"causal_delay": 10}, "causal_delay is 10, but the run has 20 agent steps, with the first fit after 10: .*"),
        ({"causal_every": 39, "causal_delay": 0}, "causal_delay is 0, .* with the first fit after 20: .* never used"),
    ],
)
def test_a_run_says_that_its_causal_weights_come_too_late(schedule, said_of_it, make_training):
    fits_in_time = {"causal_samples": 10, "causal_every": 20, "causal_delay": 9}
    training = make_training("state", causal_entropy="absolute", num_train_steps=40, **fits_in_time | schedule)
    training.close()
    assert re.search(said_of_it, said(training))


def test_a_run_says_what_flags_replaced_of_its_preset_and_what_they_put_out_of_use(make_training):
    training = make_training(**PRESET | {"preset": "curl", "augment": "none"})
    lines = [line for line in said(training).splitlines() if line.startswith("preset curl: ")]
    training.close()
    assert "preset curl: augment is none as given, not window" in lines
    assert "preset curl: contrastive does not apply, because augment is none" in lines
    assert not [line for line in lines if "latent_tanh" in line]  # which the preset has its way with


@pytest.mark.parametrize("resume", [False, True])
def test_a_start_that_fails_holds_neither_folder_nor_environments(resume, tmp_path, monkeypatch):
    if resume:
        first = start(tmp_path / "run", obs="state")
        stop_when(first, mid_episode)
        assert not first.train()
    closed = []

    def refuse(*_):
        raise UserError("there is too little memory")

    with monkeypatch.context() as changed:
        changed.setattr(off_policy, "choose_storage", refuse)
        changed.setattr(envs.stepping.SerialStepper, "close", lambda stepper: closed.append(stepper))
        with pytest.raises(UserError, match="too little memory") as kept:
            start(tmp_path / "run", resume=resume, obs="state")
    assert kept.value.__traceback__ is not None  # as a notebook keeps it, and with it the frames
    assert len(closed) == 1
    assert start(tmp_path / "run", resume=resume, obs="state").train()
