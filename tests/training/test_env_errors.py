"""Runs whose environments misbehave: what is written down, when they stop, and that a resumed run gets past it."""

import math

import numpy as np
import pytest
import torch

from sacae import cli
from sacae.envs import GymEnv
from sacae.errors import EnvironmentFailed, UserError
from sacae.experiments import plan
from sacae.training import checkpoint
from sacae.training.evaluation import EpisodeFailed, evaluate
from tests.envs import misbehaving
from tests.envs.misbehaving import KINDS, SURVIVED, Shifty
from tests.training.runs import rows, said, start
from tests.training.test_loop import stop_at

MODULE = "tests.envs.misbehaving"
NOT_FINITE = [kind for kind in SURVIVED if any(word in kind for word in ("nan", "infinite", "large"))]
RAISES = [kind for kind in SURVIVED if kind not in NOT_FINITE]

pytestmark = pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")  # NumPy's, of numbers too large for float32


def env(name):
    return f"{MODULE}:{''.join(word.capitalize() for word in name.split())}-v0"


def saved(training):
    return checkpoint.load(training.run.folder)[0]


def in_training_alone(training):
    """Its evaluations go well."""
    training.run._eval_envs = [GymEnv(f"{MODULE}:Shifty-v0", 1)]
    return training


def lines(training):
    return [line for line in said(training).splitlines() if "environment" in line]


# Errors.


@pytest.mark.parametrize("kind", RAISES)
def test_an_error_cuts_the_episode_off_and_training_goes_on(kind, make_counting):
    training = in_training_alone(make_counting(env=env(kind)))
    assert training.train()
    cut, *others = rows(training.run.folder / "train.csv")
    assert (cut["env_step"], cut["episode_length"]) == ("2", "2")
    assert [(row["env_step"], row["episode_length"]) for row in others] == [("7", "5"), ("12", "5"), ("17", "5")]
    rewards = [float(row["reward"]) * int(row["episode_length"]) for row in (cut, *others)]
    np.testing.assert_allclose(rewards, [float(row["episode_return"]) for row in (cut, *others)], rtol=1e-5)
    (line,) = lines(training)[:1]
    assert line.startswith("environment 0 r")
    assert line.endswith("at step 3 of its episode; the episode is cut off")
    assert "errors of environments: 1" in said(training)
    assert saved(training)["loop"]["env_errors"] == 1
    assert training.run.agent_step == 20


def test_a_healthy_run_says_nothing_of_errors_and_its_checkpoint_holds_no_count(make_counting):
    training = make_counting()
    training.train()
    assert "errors of environments" not in said(training)
    assert "env_errors" not in saved(training)["loop"]


def test_an_error_in_one_environment_keeps_the_steps_of_the_others(make_counting):
    training = in_training_alone(make_counting(num_envs=2, env=env("raises")))
    stepper, failing = training.stepper, training.stepper.envs[1]
    stepper.envs[0]._env.unwrapped.kinds = ()
    assert training.train()
    assert failing._env.unwrapped.episode > 1
    assert training.run.env_errors == 1
    written = [(int(row["env_step"]), int(row["episode_length"])) for row in rows(training.run.folder / "train.csv")]
    assert written == [(5, 2), (9, 5), (15, 5), (19, 5)]
    assert training.run.agent_step == 21


def test_the_count_goes_on_in_a_resumed_run(make_counting):
    first = in_training_alone(make_counting(env=env("raises")))
    stop_at(first, "after_step", 4)
    assert not first.train()
    second = in_training_alone(make_counting(resume=True))  # a fresh environment, whose first episode goes wrong too
    assert second.train()
    assert second.run.env_errors == 2


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_too_many_errors_in_a_row_end_the_run_with_one_line_and_a_checkpoint(limit, make_counting):
    training = make_counting(env=env("always raises"), max_env_errors=limit, num_eval_episodes=1)
    message = f"^environment 0 raised RuntimeError: .* at step 1 of its episode, after {limit} other errors in a row, "
    with pytest.raises(EnvironmentFailed, match=message) as raised:
        training.train()
    assert "\n" not in str(raised.value)
    assert [line for line in lines(training) if "cut off" in line] == lines(training)[1:]
    assert len(lines(training)) == limit + 1  # with that of the evaluation
    assert saved(training)["loop"]["agent_step"] == 0
    assert rows(training.run.folder / "train.csv") == []
    resumed = make_counting(resume=True)
    with pytest.raises(EnvironmentFailed, match=f"after {limit} other errors in a row"):
        resumed.train()


def test_an_episode_that_ends_by_itself_starts_the_count_anew(make_counting):
    training = make_counting(env=env("large raises"), num_train_steps=400, eval_every=400, max_env_errors=4)
    assert training.train()
    assert training.run.env_errors > 10


def test_resets_that_fail_are_counted_and_too_many_end_the_run_with_a_checkpoint(make_counting):
    training = make_counting(env=f"{MODULE}:FailingResets-v0")
    assert training.train()
    assert training.run.env_errors > 2
    stuck = make_counting("stuck", env=f"{MODULE}:ResetsOnce-v0", max_env_errors=2, eval_every=100)
    with pytest.raises(EnvironmentFailed, match="no floor .* when it was reset, 3 times in a row"):
        stuck.train()
    assert saved(stuck)["loop"]["agent_step"] == 4  # the fifth step, which ends the episode, is taken again
    with pytest.raises(EnvironmentFailed, match="no floor"):
        make_counting("never", env=f"{MODULE}:NoReset-v0")


# What is not finite.


@pytest.mark.parametrize("kind", NOT_FINITE)
def test_a_number_that_is_not_finite_ends_the_run_and_nothing_of_its_step_is_kept(kind, make_counting):
    training = in_training_alone(make_counting(env=env(kind)))
    message = r"^environment 0 returned (observation|reward) \S+ .*at step 3 of its episode: training stopped;"
    with pytest.raises(EnvironmentFailed, match=message.replace(r" .*at", r".* at")):
        training.train()
    state = saved(training)
    assert state["loop"]["agent_step"] == 2
    assert [snapshot["actions"] for snapshot in state["envs"]] == [[]]
    (row,) = rows(training.run.folder / "train.csv")
    assert (row["env_step"], row["episode_length"]) == ("2", "2")
    assert math.isfinite(float(row["episode_return"]))


def test_a_resumed_run_begins_a_new_episode_in_place_of_one_that_was_not_finite(make_counting):
    training, reached = make_counting(env=env("large nan observation")), [0]
    for _ in range(20):
        try:
            complete = training.train()
        except EnvironmentFailed:
            assert training.run.agent_step > reached[-1] or training.run.agent_step == 0
            reached.append(training.run.agent_step)
            training = make_counting(resume=True)
            assert training.run.episode_length.tolist() == [0]
        else:
            break
    assert complete
    assert len(reached) > 2


def test_an_action_that_is_not_finite_ends_the_run_before_an_environment_sees_it(make_counting):
    training = make_counting()
    act = training.learner.act

    def nan_at_the_end(run):
        actions = act(run)
        return actions * np.nan if run.agent_step == 17 else actions

    training.learner.act = nan_at_the_end
    with pytest.raises(UserError, match="^the action for environment 0 is not finite at step 3 of its episode: "):
        training.train()
    assert len(training.stepper.sent) == 17
    assert saved(training)["loop"]["agent_step"] == 16


# Resume.


@pytest.mark.parametrize(
    ("trouble", "line"),
    [
        (KINDS["raises"], "environment 0 raised RuntimeError: the ball is [/gone]"),
        (KINDS["nan reward"], "environment 0 returned reward nan when its episode was repeated; new episodes begin"),
        (lambda x, r: (x, r + 1, False, False, {}), "environments return other rewards when their episodes are"),
        (lambda x, r: (x, r, True, False, {}), "environment 0 raised RuntimeError: the episode is shorter than it was"),
    ],
)
@pytest.mark.parametrize("num_envs", [1, 2])
def test_an_episode_that_does_not_repeat_is_followed_by_a_new_one(trouble, line, num_envs, make_counting, monkeypatch):
    first = make_counting(env=env("shifty"), num_envs=num_envs)
    stop_at(first, "after_step", 8 * num_envs)
    assert not first.train()
    monkeypatch.setattr(Shifty, "trouble", trouble)
    second = make_counting(resume=True)
    monkeypatch.setattr(Shifty, "trouble", None)
    found = [written for written in lines(second) if written.startswith(line)]
    assert len(found) == 1
    assert second.learner.begun == 1
    assert second.run.episode_length.tolist() == [0] * num_envs
    assert second.train()


def test_rounding_of_another_machine_does_not_end_the_episodes(make_counting, monkeypatch):
    first = make_counting(env=env("shifty"))
    stop_at(first, "after_step", 8)
    first.train()
    monkeypatch.setattr(Shifty, "trouble", lambda x, r: (x, r * (1 + 1e-12), False, False, {}))
    assert make_counting(resume=True).run.episode_length.tolist() == [3]


# Evaluations.


@pytest.mark.parametrize("kind", SURVIVED)
def test_an_evaluation_with_an_episode_that_fails_is_left_out_with_a_line(kind, make_counting):
    training = make_counting(env=env(f"zero {kind}"))  # the policy's action is 0 before the first update
    assert training.train()
    assert {row["env_step"] for row in rows(training.run.folder / "eval.csv")} == {"8", "16", "20"}
    (line,) = lines(training)[:1]
    assert line.startswith("evaluation at 0 steps is left out: the environment of episode 0 r")
    assert line.endswith("at step 1")
    assert training.run.env_errors == 1
    assert checkpoint.load(training.run.folder, name=checkpoint.BEST)[0]["loop"]["agent_step"] >= 8


def test_the_speed_after_an_evaluation_that_is_left_out_is_trainings_alone(make_counting):
    training = make_counting()
    run, laps = training.run, []
    run._play = fails
    run.agent_step, run.stopwatch.lap = 8, lambda: laps.append(run.env_step)
    run.evaluate(training.learner)
    assert laps == [8]
    assert run._lap == (8, training.learner.updates_done)


@pytest.mark.parametrize("left_out", [False, True])
def test_a_run_is_finished_also_where_no_file_has_a_row_of_its_last_step(left_out, make_counting, capsys):
    training = make_counting(num_train_steps=18)  # no episode ends there
    play = training.run._play
    training.run._play = lambda learner: fails(learner) if left_out and training.run.env_step == 18 else play(learner)
    assert training.train()
    folder = training.run.folder
    assert [row["env_step"] for row in rows(folder / "eval.csv")][-1] == ("16" if left_out else "18")
    assert plan.is_finished(folder, 18, 1)
    assert not plan.is_finished(folder, 19, 1)
    for name in ("state.pt", "state.previous.pt"):
        plan.is_finished(folder, 18, 1)
        (folder / "checkpoint" / name).write_bytes(b"damaged")
    assert not plan.is_finished(folder, 18, 1)
    assert capsys.readouterr().out == "", "what resumes it says why"


def fails(_learner):
    raise EpisodeFailed("the environment of episode 0 rests")


class Still:
    def __init__(self, spec):
        self.spec = spec

    def act(self, obs):
        return torch.zeros((len(obs), 1))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ZeroRaises", r"environment of episode 0 raised RuntimeError: .* at step 1$"),
        ("NoReset", r"environment of episode 0 raised RuntimeError: no floor .* when it was reset$"),
    ],
)
def test_an_episode_that_fails_is_one_line_where_nothing_can_be_left_out(name, message, make_counting):
    training = make_counting()
    environment = GymEnv(f"{MODULE}:{name}-v0", 1)
    spec = type(training.learner.player.spec)((3,), "float32", 1, 1)
    with pytest.raises(EpisodeFailed, match=message):
        evaluate(Still(spec), [environment], [1])


# Agents, and the command.


def test_a_replay_holds_the_steps_that_were_taken_and_no_other(make_training, tmp_path):
    settings = {"num_envs": 2, "n_step": 3, "num_train_steps": 120, "action_repeat": 1, "learning_starts": 10}
    settings |= {"replay_capacity": 400, "max_env_errors": 100}  # so many episodes need more rows than steps
    training = start(tmp_path / "run", obs="state", env=f"{MODULE}:FlakyPendulum-v0", **settings)
    assert training.train()
    assert training.run.env_errors > 10
    replay = training.learner.replay
    written = rows(training.run.folder / "train.csv")
    ended = sum(int(row["episode_length"]) for row in written)
    running = training.run.episode_length
    assert ended + running.sum() == training.run.agent_step
    assert len(replay) == ended + sum(max(0, length - 2) for length in running)
    # The first update is due at step 10, the last one before the last step of two environments.
    assert 3 + training.run.agent_step - 10 - training.learner.updates_done in (1, 2)


@pytest.fixture
def no_evaluations(monkeypatch):
    """Evaluations are played in the training's own process, which these environments would end."""
    monkeypatch.setattr("sacae.training.run.Run.evaluation_due", False)


OVERLAP = {"obs": "state", "overlap": True, "action_repeat": 1, "num_train_steps": 12, "learning_starts": 4}


def test_training_goes_on_where_the_processes_of_environments_end(no_evaluations, tmp_path):
    training = start(tmp_path / "run", env=env("killed"), num_envs=2, **OVERLAP)
    assert training.train()
    ends = [line for line in lines(training) if line.endswith("at step 3 of its episode; the episode is cut off")]
    assert ends == lines(training)[:2]
    assert training.run.env_errors == 2
    assert [row["episode_length"] for row in rows(training.run.folder / "train.csv")] == ["2", "2"]


def test_processes_that_end_too_often_end_the_run_with_one_line_and_a_checkpoint(no_evaluations, tmp_path):
    training = start(tmp_path / "run", env=env("always leaves"), max_env_errors=1, **OVERLAP)
    message = "^environment 0 ended its process with status 7 at step 1 of its episode, after 1 other errors in a row,"
    with pytest.raises(EnvironmentFailed, match=message):
        training.train()
    assert saved(training)["loop"]["agent_step"] == 0


def test_the_command_ends_with_one_line_and_status_2_and_its_resume_goes_on(tmp_path, capsys):
    words = (
        f"--env {MODULE}:NanReward-v0 --num-train-steps 40 --seed-steps 10 --initial-updates 1 --batch-size 4 "
        f"--hidden-dim 8 --eval-every 40 --num-eval-episodes 1 --no-save-video --device cpu --precision fp32 "
        f"--work-dir {tmp_path / 'run'}"
    ).split()
    assert cli.run("train", words, "train.py") == 2
    assert capsys.readouterr().err == (
        "train.py: error: environment 0 returned reward nan at step 3 of its episode: training stopped; nothing of it "
        "is learned from; the checkpoint holds all steps before, and --resume begins a new episode\n"
    )
    assert checkpoint.load(tmp_path / "run")[0]["loop"]["agent_step"] == 2


def test_the_module_lists_as_many_kinds_as_are_tested():
    assert len(misbehaving.KINDS) == 18
