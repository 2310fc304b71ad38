"""Whole runs on Gymnasium environments: discrete actions, resume, what is said, drawn and learned from."""

import csv
import importlib.util
import io
import itertools

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from sacae import cli, envs
from sacae import config as configs
from sacae.agents import make_agent
from sacae.envs.gym import GymEnv
from sacae.errors import UserError
from sacae.training import evaluation
from sacae.training.playback import play_back
from tests.training import runs
from tests.training.runs import assert_same_run, in_burst, in_parts, rows, said, stop_when

TINY = "tests.envs.tiny:Tiny"
needs_pygame = pytest.mark.skipif(
    not importlib.util.find_spec("pygame"), reason='pygame is not installed: pip install "gymnasium[classic-control]"'
)
SMALL = {"seed_steps": 12, "num_train_steps": 60}


@pytest.fixture
def make_training(no_curves, tmp_path):
    def make(env, resume=False, folder="run", obs="state", **settings):
        if resume:
            return runs.start(tmp_path / folder, True, **settings)
        return runs.start(tmp_path / folder, False, obs, env=env, **(SMALL | settings))

    return make


@pytest.mark.parametrize(
    ("env", "settings", "of_parts"),
    [
        ("CartPole-v1", {"agent": "dqn"}, {}),
        ("CartPole-v1", {"agent": "discrete_sac", "num_envs": 2, "n_step": 3}, {"overlap": True}),
        (
            "Pendulum-v1",
            {"agent": "dqn", "discretisation": "joint", "bins": 5, "action_repeat": 2, "num_train_steps": 80},
            {},
        ),
        ("Pendulum-v1", {"agent": "sac", "num_train_steps": 40}, {}),
        ("CartPoleContinuous-v1", {"agent": "sac_v", "reward_scale": 2.0}, {}),
        (f"{TINY}Drawing-v0", {"obs": "pixels", "action_repeat": 2, "num_train_steps": 80}, {"overlap": True}),
        pytest.param("Pendulum-v1", {"obs": "pixels", "num_train_steps": 40}, {}, marks=needs_pygame),
        (f"{TINY}Pixels-v0", {"agent": "dqn", "obs": "pixels", "decoder": "none", "num_train_steps": 40}, {}),
    ],
)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(env, settings, of_parts, make_training):
    """of_parts: settings of the interrupted run that must make no difference."""
    whole = make_training(env, folder="whole", **settings)
    assert whole.train()

    def parts(resume=False):
        return make_training(env, folder="parts", resume=resume, **(settings | of_parts))

    assert_same_run(in_parts(parts, [in_burst, lambda training: training.run.agent_step >= 31]), whole)


def test_a_physics_environment_resumes_from_pixels_and_is_played_back(gl, make_training):
    hopper = f"{TINY}Hopper-v0"
    settings = {"obs": "pixels", "num_train_steps": 24, "eval_every": 24, "save_video": True}
    whole = make_training(hopper, folder="whole", **settings)
    assert whole.train()

    def parts(resume=False):
        return make_training(hopper, folder="parts", resume=resume, **settings)

    assert_same_run(in_parts(parts, [lambda training: training.run.agent_step >= 17]), whole)
    play_back(whole.run.folder, 1, 1, True, 7, "cpu", Console(file=io.StringIO(), width=200))
    assert list((whole.run.folder / "evaluation").glob("*.mp4"))


def test_arguments_of_the_environment_are_kept_and_compared_when_a_run_resumes(make_training, capsys):
    training = make_training("Pendulum-v1", env_kwargs=["max_episode_steps=15", "g=5"])
    assert training.train()
    lengths = {row["episode_length"] for row in rows(training.run.folder / "train.csv")}
    assert lengths == {"15"}
    record = yaml.safe_load((training.run.folder / "config.yaml").read_text())["settings"]
    assert record["task"]["env_kwargs"] == ["max_episode_steps=15", "g=5"]
    folder = ["--work-dir", str(training.run.folder)]
    assert cli.main(["train", "--resume", *folder, "--env-kwargs", "max_episode_steps=15", "g=5"]) == 0
    assert cli.main(["train", "--resume", *folder, "--env-kwargs", "g=6"]) == 2
    assert "env_kwargs is ('g=6',), but the run" in capsys.readouterr().err
    result = play_back(training.run.folder, 1, 1, False, 7, "cpu", Console(file=io.StringIO()))
    assert result["episode_lengths"] == [15]


def test_random_choices_are_all_of_them_and_whole_numbers(make_training):
    training = make_training("FrozenLake-v1", agent="dqn", seed_steps=60)
    training.train()
    actions = training.learner.replay.sample(500, np.random.default_rng(0)).action
    assert actions.dtype == torch.int64
    assert set(actions.flatten().tolist()) == {0, 1, 2, 3}


def test_what_was_chosen_is_said_once_and_kept(make_training):
    first = make_training("Pendulum-v1", agent="dqn")
    stop_when(first, lambda training: training.run.agent_step == 20)
    first.train()
    line = (
        "dqn chooses among discrete actions and Pendulum-v1 has continuous ones: factored, 3 bins in the one dimension"
    )
    assert said(first).count(line) == 1
    assert configs.load(first.run.folder / "config.yaml", configs.Config()).task.discretisation == "factored"
    second = make_training("Pendulum-v1", resume=True)
    second.close()
    assert "chooses among" not in said(second)


def test_an_agent_that_does_not_go_with_the_task_is_refused_before_anything_is_written(make_training, tmp_path):
    with pytest.raises(UserError, match="agent is sac, .* but CartPole-v1 has 2 discrete ones"):
        make_training("CartPole-v1")
    assert not (tmp_path / "run").exists()


def test_clipped_rewards_are_learned_from_and_the_scores_written_down(make_training):
    training = make_training("Pendulum-v1", clip_reward=True, num_train_steps=250)
    training.train()
    assert set(training.learner.replay.sample(300, np.random.default_rng(0)).reward.flatten().tolist()) == {-1.0}
    returns = [
        float(row["episode_return"]) for file in ("train.csv", "eval.csv") for row in rows(training.run.folder / file)
    ]
    assert len(returns) > 3
    assert all(value < -250 for value in returns)


def test_episodes_may_end_early_and_the_replay_still_holds_its_capacity(make_training):
    training = make_training("CartPole-v1", agent="dqn", num_train_steps=200, seed_steps=200, replay_capacity=60)
    training.train()
    assert len(training.learner.replay) >= 60
    lengths = [int(row["episode_length"]) for row in rows(training.run.folder / "train.csv")]
    assert min(lengths) < 20
    assert len(lengths) > 4


# Pictures.


def test_no_opengl_library_is_looked_for_and_none_mentioned(make_training, monkeypatch):
    monkeypatch.setattr(envs.rendering, "configure", lambda **_: pytest.fail("an OpenGL library was looked for"))
    training = make_training("Pendulum-v1")
    training.train()
    assert "rendering" not in said(training)


def test_a_run_that_cannot_be_drawn_says_so_once_and_goes_without_video(make_training):
    training = make_training(f"{TINY}WithoutCrayon-v0", obs="pixels", agent="dqn", save_video=True)
    assert training.train()
    assert said(training).count("there will be no videos: ") == said(training).count("no crayon") == 1
    assert not (training.run.folder / "video").exists()
    assert list((training.run.folder / "reconstruction").iterdir())
    assert configs.load(training.run.folder / "config.yaml", configs.Config()).train.save_video is False


def fail_to_draw(monkeypatch, at):
    """Drawing an environment raises an error at these calls, counted from 0."""
    calls, draw = itertools.count(), GymEnv.render

    def render(self, *size):
        if next(calls) in at:
            raise RuntimeError("the display is gone for a moment")
        return draw(self, *size)

    monkeypatch.setattr(GymEnv, "render", render)


def test_a_frame_that_cannot_be_drawn_costs_the_video_and_nothing_else(make_training, monkeypatch):
    training = make_training(f"{TINY}Pixels-v0", agent="dqn", obs="pixels", save_video=True)
    fail_to_draw(monkeypatch, {2})
    assert training.train()
    folder = training.run.folder
    assert {path.name for path in (folder / "video").iterdir()} == {"40.mp4", "60.mp4"}
    assert {row["env_step"] for row in rows(folder / "eval.csv")} == {"0", "40", "60"}
    assert (
        said(training).count("there is no video of this evaluation: ") == said(training).count("display is gone") == 1
    )
    console = Console(file=io.StringIO(), width=200)
    fail_to_draw(monkeypatch, {0})
    assert len(play_back(folder, 2, 1, True, 7, "cpu", console)["episode_returns"]) == 2
    assert "there is no video: drawing a frame raised RuntimeError: the display is gone" in console.file.getvalue()
    assert len([*(folder / "evaluation").glob("*.json")]) == 1
    assert not [*(folder / "evaluation").glob("*.mp4")]


def test_a_run_that_can_be_drawn_has_videos_and_can_be_played_back(make_training):
    training = make_training(f"{TINY}Pixels-v0", obs="pixels", agent="dqn", save_video=True)
    assert training.train()
    assert {path.name for path in (training.run.folder / "video").iterdir()} == {"0.mp4", "40.mp4", "60.mp4"}
    console = Console(file=io.StringIO(), width=200)
    result = play_back(training.run.folder, 3, 2, True, 7, "cpu", console)
    assert len(result["episode_returns"]) == 3
    assert list((training.run.folder / "evaluation").glob("*.mp4"))


def test_a_long_episode_is_recorded_from_its_start_only(monkeypatch):
    monkeypatch.setattr(evaluation, "LONGEST_RECORD", 3)
    config = configs.make(env="CartPole-v1", agent="dqn")
    env = envs.from_config(config.task, 1)
    monkeypatch.setattr(env, "render", lambda *size: np.zeros((*size, 3), np.uint8))
    agent = make_agent(envs.spec_of(envs.EnvInfo.of(env), 1), config)
    first, second = evaluation.evaluate(agent, [env], [5, 6], video=True, observations=True)
    assert first.length > 4
    assert len(first.frames) == len(first.observations) == 4
    assert not second.frames
    assert not second.observations


def test_a_run_that_cannot_be_drawn_is_played_back_without_video(make_training):
    training = make_training(f"{TINY}WithoutCrayon-v0", obs="pixels", agent="dqn", decoder="none")
    training.train()
    console = Console(file=io.StringIO(), width=200)
    play_back(training.run.folder, 1, 1, True, 7, "cpu", console)
    assert console.file.getvalue().count("there will be no video: ") == 1
    assert not list((training.run.folder / "evaluation").glob("*.mp4"))


def test_evaluation_is_the_same_however_many_run_side_by_side(make_training):
    training = make_training("CartPole-v1", agent="dqn")
    training.train()
    results = [
        play_back(training.run.folder, 4, count, False, 7, "cpu", Console(file=io.StringIO())) for count in (1, 3)
    ]  # fmt: skip
    assert results[0]["episode_returns"] == results[1]["episode_returns"]


def test_bins_are_refused_where_the_task_has_choices_of_its_own(make_training, tmp_path):
    with pytest.raises(UserError, match="bins is 5, but CartPole-v1 has discrete actions of its own; leave --bins"):
        make_training("CartPole-v1", agent="dqn", bins=5)
    assert not (tmp_path / "run").exists()


def test_the_commands_take_a_gymnasium_environment(tmp_path, capsys):
    folder = tmp_path / "run"
    small = {"hidden_dim": 16, "batch_size": 4, "initial_updates": 3, "eval_every": 40, "num_eval_episodes": 2} | SMALL
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in small.items()]
    command = ["train", "--env", "CartPole-v1", "--agent", "dqn", "--no-save-video", "--work-dir", str(folder), *flags]
    assert cli.main(command) == 0
    assert cli.main([*command, "--resume"]) == 0
    assert cli.main(["eval", str(folder), "--episodes", "2", "--no-video"]) == 0
    assert "CartPole-v1" in capsys.readouterr().out
    with open(folder / "train.csv", newline="") as file:
        assert {row["task"] for row in csv.DictReader(file)} == {"CartPole-v1"}
    undrawn = ["train", "--env", "tests.envs.tiny:UndrawnMatrix-v0", "--obs", "pixels"]
    assert cli.main([*undrawn, "--work-dir", str(tmp_path / "other")]) == 2
    assert "obs is pixels, but tests.envs.tiny:UndrawnMatrix-v0 shows" in capsys.readouterr().err
