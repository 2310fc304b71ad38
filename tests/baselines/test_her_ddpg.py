"""DDPG with hindsight: goals and rewards in hindsight, normaliser, losses, and whole runs."""

import csv
import dataclasses
import re
import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from baselines.algorithms import ALGORITHMS
from baselines.eval import PROG as EVAL
from baselines.eval import evaluate
from baselines.her_ddpg import load_player
from baselines.her_ddpg_networks import CLIP, LEAST_STD, RAW_CLIP, GoalDDPG, Normaliser, target_value
from baselines.her_ddpg_replay import EpisodeReplay, GoalSpace, goals_of, hindsight
from baselines.point_mass import PointMassGoalEnv
from baselines.settings import make
from baselines.settings.her_ddpg import HERSettings
from baselines.tasks import look_at
from baselines.train import PROG as TRAIN
from baselines.train import train
from sacae import cli
from sacae.envs import GymEnv
from sacae.envs.contract import EnvInfo, StepResult
from sacae.errors import UserError, how_to_install
from sacae.training import checkpoint, evaluation, loop
from sacae.types import Batch, EnvSpec
from tests.baselines.runs import small_runs, whole_and_resumed

POINT_MASS = "PointMassGoal-v0"
CPU = torch.device("cpu")

# Goals in observations.


class WithClock(gymnasium.ObservationWrapper):
    """Shows one more entry, which comes before those of the environment."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = spaces.Dict({"a_clock": spaces.Box(0, 9, (1,))} | env.observation_space.spaces)

    def observation(self, observation):
        return {"a_clock": np.full(1, 9, np.float32)} | observation


gymnasium.register("WithClock-v0", lambda **keywords: WithClock(PointMassGoalEnv(**keywords)), max_episode_steps=50)


@pytest.mark.parametrize(("env", "length"), [(POINT_MASS, 8), ("WithClock-v0", 9)])
def test_the_parts_lie_where_gymnasium_flattens_them_to(env, length):
    space, original = look_at(make(HERSettings, env=env))
    goals, _ = goals_of(space, original, env)
    parts = space.sample()
    flat = spaces.flatten(space, parts)
    for name in ("observation", "achieved_goal", "desired_goal"):
        np.testing.assert_array_equal(flat[getattr(goals, name)], parts[name])
    assert (goals.observation_dim, goals.goal_dim, len(flat)) == (4, 2, length)


def test_goals_are_those_that_the_registered_environments_wrappers_show(make_trainer):
    trainer = make_trainer(env="WithClock-v0")
    assert trainer.train()
    goals, obs = trainer.learner.ddpg._goals, trainer.learner.replay._columns["obs"][0]
    assert (obs[:, 0] == 9).all()
    assert not (obs[:, goals.desired_goal] == 9).any()
    assert (obs[:, goals.desired_goal] == obs[0, goals.desired_goal]).all()


# Hindsight.


def test_goals_come_from_every_later_step_of_the_episode_and_from_no_earlier_one():
    rng = np.random.default_rng(0)
    t, length = np.repeat([0, 3, 9], 20_000), np.repeat([10, 5, 10], 20_000)
    future, relabelled = hindsight(t, length, 0.8, rng)
    for i, (first, last) in enumerate(((1, 10), (4, 5), (10, 10))):
        moments, counts = np.unique(future[20_000 * i : 20_000 * (i + 1)], return_counts=True)
        assert moments.tolist() == [*range(first, last + 1)]
        np.testing.assert_allclose(counts / 20_000, 1 / len(moments), atol=0.02)
    assert relabelled.mean() == pytest.approx(0.8, abs=0.01)


GOALS = GoalSpace(observation=slice(4, 5), achieved_goal=slice(0, 2), desired_goal=slice(2, 4))
"""Of observations that a test makes: achieved goal (episode, step), desired goal (-1, -1), observation (step)."""

INFO = EnvInfo(frame_shape=(5,), frame_dtype="float32", action_dim=1, max_episode_steps=6)


def told_reward(achieved, desired):
    """A reward that tells what it was asked for."""
    return achieved[:, 1] - 100 * desired[:, 1]


def frame(episode, step):
    return np.array([episode, step, -1, -1, step], np.float32)


def fill(replay, lengths, terminal=()):
    """Plays episodes of these lengths one after another; action and reward are the episode's number."""
    replay.begin(frame(0, 0)[None])
    ended = []
    for episode, length in enumerate(lengths):
        for step in range(1, length + 1):
            last = step == length
            result = StepResult(
                frame(episode, step)[None], np.array([float(episode)]), np.array([last and episode in terminal]),
                np.array([last]), [frame(episode + 1, 0) if last else None], [None], [None], [None],
            )  # fmt: skip
            ended += replay.add(np.array([[episode]], np.float32), result)
    return ended


@pytest.fixture
def replay():
    return EpisodeReplay(INFO, 1, 60, GOALS, told_reward)


@pytest.mark.parametrize("her_k", [0, 1, 4])
def test_a_batch_has_its_share_of_goals_in_hindsight_with_the_rewards_due_for_them(her_k, replay):
    fill(replay, [6, 2, 6, 4])
    share = HERSettings(her_k=her_k).hindsight_share
    batch = replay.sample(20_000, share, 0.9, np.random.default_rng(0), CPU)
    obs, next_obs = batch.obs.numpy(), batch.next_obs.numpy()
    (episode, t), (goal_episode, goal_step) = obs[:, :2].T, obs[:, 2:4].T
    relabelled = goal_step >= 0
    assert relabelled.mean() == pytest.approx(her_k / (1 + her_k), abs=0.01)
    assert (goal_episode == episode)[relabelled].all()
    assert (goal_step > t)[relabelled].all()
    assert (goal_step <= np.array([6, 2, 6, 4])[episode.astype(int)])[relabelled].all()
    np.testing.assert_array_equal(next_obs[:, 2:4], obs[:, 2:4])
    np.testing.assert_array_equal(next_obs[:, 0], episode)
    np.testing.assert_array_equal(next_obs[:, 1], t + 1)
    reward = batch.reward.numpy()[:, 0]
    np.testing.assert_array_equal(reward[relabelled], told_reward(next_obs, obs[:, 2:4])[relabelled])
    np.testing.assert_array_equal(reward[~relabelled], episode[~relabelled])
    np.testing.assert_array_equal(batch.action.numpy()[:, 0], episode)


def test_every_transition_is_as_likely_whatever_the_length_of_its_episode(replay):
    fill(replay, [6, 2, 4])
    batch = replay.sample(60_000, 0.0, 0.9, np.random.default_rng(0), CPU)
    kinds, counts = np.unique(batch.obs.numpy()[:, :2], axis=0, return_counts=True)
    assert len(kinds) == replay._columns["length"].sum() == 12
    np.testing.assert_allclose(counts / 60_000, 1 / 12, atol=0.006)


def test_only_a_true_end_has_no_value_after_it(replay):
    fill(replay, [3, 3], terminal=[1])
    batch = replay.sample(1000, 0.5, 0.9, np.random.default_rng(0), CPU)
    episode, t = batch.obs[:, 0], batch.obs[:, 1]
    over = (episode == 1) & (t == 2)
    assert over.any()
    assert torch.equal(batch.discount[:, 0], torch.where(over, 0.0, torch.tensor(0.9)))


def test_a_running_episode_is_not_sampled_and_an_ended_one_is_handed_over(replay):
    (ended,) = fill(replay, [5])
    assert ended[:, 1].tolist() == [0, 1, 2, 3, 4, 5]
    replay.add(np.zeros((1, 1)), StepResult(frame(1, 1)[None], np.zeros(1), [False], [False], *[[None]] * 4))
    assert replay.obs.tolist() == [frame(1, 1).tolist()]
    assert set(replay.sample(200, 0.5, 0.9, np.random.default_rng(0), CPU).obs[:, 0].tolist()) == {0}


def test_the_oldest_episodes_make_room_and_running_ones_are_left_alone():
    replay = EpisodeReplay(INFO, 2, 24, GOALS, told_reward)  # 4 slots, one environment that never ends an episode
    replay.begin(np.stack([frame(0, 0), frame(99, 0)]))
    for episode in range(1, 8):
        result = StepResult(
            np.stack([frame(episode - 1, 1), frame(99, 1)]), np.zeros(2), [False] * 2, [True, False],
            [frame(episode, 0), None], *[[None] * 2] * 3,
        )  # fmt: skip
        replay._step[1] = 0
        replay.add(np.zeros((2, 1)), result)
    assert replay.obs[:, 0].tolist() == [7, 99]
    assert set(replay.sample(200, 0.5, 0.9, np.random.default_rng(0), CPU).obs[:, 0].tolist()) == {5, 6}


def test_rewards_in_hindsight_are_the_environments_own(make_trainer):
    trainer = make_trainer()
    for _ in range(200):
        loop.step(*trainer)
    trainer.close()
    batch = trainer.learner.replay.sample(2000, 0.8, 0.98, np.random.default_rng(0), CPU)
    goals, env = trainer.learner.ddpg._goals, PointMassGoalEnv()
    achieved, desired = (batch.next_obs.numpy()[:, part] for part in (goals.achieved_goal, goals.desired_goal))
    reward = batch.reward.numpy()[:, 0]
    np.testing.assert_array_equal(reward, env.compute_reward(achieved, desired, {}))
    assert 0.05 < (reward == 0).mean() < 0.95


# Networks.


def test_the_normaliser_equals_the_direct_mean_and_standard_deviation():
    rng = np.random.default_rng(0)
    values = rng.normal([0, 5, 100], [1, 0.1, 30], (5000, 3)).astype(np.float32)
    values = np.concatenate([values, np.full((5000, 1), 7, np.float32)], axis=1)  # a coordinate that never changes
    normaliser = Normaliser(4)
    for part in np.split(values, [1, 10, 3000]):
        normaliser.update(part)
    shown = values.clip(-RAW_CLIP, RAW_CLIP).astype(np.float64)
    std = np.maximum(shown.std(0), LEAST_STD)
    expected = ((shown - shown.mean(0)) / std).clip(-CLIP, CLIP)
    np.testing.assert_allclose(normaliser(torch.from_numpy(values)).numpy(), expected, atol=1e-4)
    far = normaliser(torch.tensor([[-999.0, 5, 999, 7.005]]))[0].tolist()
    assert far[0] == -CLIP
    assert far[2] == pytest.approx((RAW_CLIP - shown.mean(0)[2]) / std[2], abs=1e-4)
    assert far[3] == pytest.approx(0.5, abs=1e-3)


def test_a_normaliser_that_was_shown_nothing_only_clips():
    assert Normaliser(2)(torch.tensor([[3.0, -300.0]])).tolist() == [[3, -CLIP]]


@pytest.mark.parametrize(
    ("reward", "discount", "next_q", "clipped", "free"),
    [
        (-1.0, 0.9, -5.0, -5.5, -5.5),  # within [-10, 0]
        (-1.0, 0.9, -20.0, -10.0, -19.0),
        (0.0, 0.9, 3.0, 0.0, 2.7),
        (-1.0, 0.0, -20.0, -1.0, -1.0),  # over
    ],
)
def test_targets_are_clipped_to_what_returns_can_be(reward, discount, next_q, clipped, free):
    lowest = HERSettings(discount=0.9).lowest_target
    told = (torch.tensor([[x]]) for x in (reward, discount, next_q))
    reward, discount, next_q = told
    assert target_value(reward, discount, next_q, lowest).item() == pytest.approx(clipped, abs=1e-5)
    assert target_value(reward, discount, next_q, None).item() == pytest.approx(free, abs=1e-5)
    assert HERSettings(clip_targets=False).lowest_target is None


SPEC = EnvSpec((5,), "float32", 1, 2)


@pytest.fixture
def ddpg():
    """A critic that is 3 a_1 + s, targets that are -30 whatever they see."""
    torch.manual_seed(0)
    ddpg = GoalDDPG(SPEC, GOALS, 4, action_l2=0.5, lowest_target=-10.0)
    ddpg.critic = Linear([1, 0, 0, 3, 0])
    ddpg.critic_target = Linear([0, 0, 0, 0, 0], -30)
    return ddpg


class Linear(torch.nn.Linear):
    def __init__(self, weights, bias=0.0):
        super().__init__(len(weights), 1)
        self.weight.data[:], self.bias.data[:] = torch.tensor(weights, dtype=torch.float32), bias


class Fixed(torch.nn.Module):
    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, _inputs):
        return self.output


def make_batch(size=7):
    generator = torch.Generator().manual_seed(0)
    obs, next_obs = torch.randn(2, size, 5, generator=generator)
    action = torch.rand(size, 2, generator=generator) * 2 - 1
    return Batch(obs, action, -torch.ones(size, 1), torch.full((size, 1), 0.9), next_obs)


def test_the_critic_descends_its_distance_to_the_clipped_target(ddpg):
    batch = make_batch()
    loss, metrics = ddpg.critic_loss(batch)
    q = batch.obs[:, 4] + 3 * batch.action[:, 0]  # the observation is the last entry
    assert loss.item() == pytest.approx((q + 10).square().mean().item(), rel=1e-5)
    assert metrics["q"].item() == pytest.approx(q.mean().item(), rel=1e-5)
    assert metrics["batch_reward"] == -1


def test_the_actors_gradient_is_that_of_value_and_penalty(ddpg):
    """d/da of -mean(3 a_1) + 0.5 mean(a^2), the second mean over batch and action dimensions."""
    actions = torch.tensor([[0.2, -0.4], [0.6, 0.8], [-1.0, 0.0]], requires_grad=True)
    ddpg.actor = Fixed(actions)
    loss, _ = ddpg.actor_loss(make_batch(3))
    (gradient,) = torch.autograd.grad(loss, actions)
    expected = torch.tensor([-1.0, 0.0]) + 0.5 * 2 * actions / 6
    assert torch.allclose(gradient, expected, atol=1e-6)


def test_actor_and_critic_see_the_observation_and_the_desired_goal_alone(ddpg):
    obs = torch.randn(3, 5)
    changed = obs.clone()
    changed[:, GOALS.achieved_goal] += 1
    assert torch.equal(ddpg.act(obs), ddpg.act(changed))
    for part in (GOALS.observation, GOALS.desired_goal):
        changed = obs.clone()
        changed[:, part] += 1
        assert not torch.equal(ddpg.act(obs), ddpg.act(changed))


def test_the_goals_normaliser_knows_desired_and_achieved_goals(ddpg):
    obs = np.stack([frame(4, step) for step in range(4)])
    ddpg.update_normalisers(obs)
    assert ddpg.observation_normaliser.mean.tolist() == [1.5]
    assert ddpg.goal_normaliser.mean.tolist() == [(4 - 1) / 2, (1.5 - 1) / 2]


def test_targets_move_a_part_of_the_way(ddpg):
    old, new = ddpg.actor_target[0][0].weight.clone(), torch.randn_like(ddpg.actor[0][0].weight)
    ddpg.actor[0][0].weight.data[:] = new
    ddpg.move_targets(0.95)
    assert torch.allclose(ddpg.actor_target[0][0].weight, 0.95 * old + 0.05 * new, atol=1e-6)
    assert torch.allclose(ddpg.critic_target.bias, torch.tensor([0.95 * -30]))


# Whole runs.


@pytest.fixture
def make_trainer(tmp_path):
    return small_runs(
        ALGORITHMS["her_ddpg"],
        tmp_path,
        env=POINT_MASS,
        num_train_steps=400,
        eval_every=200,
        num_eval_episodes=2,
        hidden_dim=8,
        batch_size=16,
        updates_per_cycle=3,
    )


@pytest.mark.parametrize(
    ("stop_at", "settings", "updates"),
    [
        (130, {}, 12),  # in an episode, between two cycles
        (149, {"num_envs": 3, "episodes_per_cycle": 1, "num_train_steps": 450, "replay_capacity": 250}, 27),
    ],
)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(stop_at, settings, updates, make_trainer):
    whole, second = whole_and_resumed(make_trainer, stop_at, **settings)
    assert whole.learner.updates_done == updates
    ours, theirs = second.learner.ddpg.state_dict(), whole.learner.ddpg.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    np.testing.assert_equal(second.learner.replay.state(), whole.learner.replay.state())


def test_a_cycle_comes_after_every_few_episodes_and_ends_with_the_targets(make_trainer, monkeypatch):
    trainer = make_trainer(num_train_steps=250, episodes_per_cycle=2)
    done = []
    monkeypatch.setattr(trainer.learner, "_update", lambda _run: done.append(trainer.run.agent_step))
    monkeypatch.setattr(trainer.learner.ddpg, "move_targets", lambda polyak: done.append(polyak))
    assert trainer.train()
    assert done == [100, 100, 100, 0.95, 200, 200, 200, 0.95]


@pytest.mark.parametrize(("random_eps", "exploration_noise"), [(0.3, 0.0), (0.0, 0.1)])
def test_exploration_is_partly_random_and_partly_noise(random_eps, exploration_noise, make_trainer):
    trainer = make_trainer(random_eps=random_eps, exploration_noise=exploration_noise)
    trainer.learner.ddpg.act = lambda obs: torch.full((len(obs), 2), 0.9)
    actions = trainer.learner._explore(np.repeat(trainer.learner.replay.obs, 20_000, axis=0))
    trainer.close()
    if random_eps:
        is_random = (actions != np.float32(0.9)).any(1)
        assert is_random.mean() == pytest.approx(0.3, abs=0.01)
        assert np.abs(actions[is_random].mean(0)).max() < 0.03
        assert actions[is_random].std() == pytest.approx(3**-0.5, abs=0.01)
    else:
        assert actions.max() == 1
        below = (0.9 - actions)[actions < 0.9]
        assert len(below) == pytest.approx(actions.size / 2, rel=0.03)
        assert np.sqrt(np.square(below).mean()) == pytest.approx(0.1, abs=0.003)


def test_success_is_in_both_csv_files_and_in_evaluations(make_trainer, capsys):
    """The second of three evaluated episodes ends at its goal: the policy stands still, and only that goal is near."""
    trainer = make_trainer(num_train_steps=100, num_eval_episodes=3, exploration_noise=0.0, random_eps=0.0)
    trainer.learner.ddpg.actor = torch.nn.Sequential(torch.nn.Linear(6, 2), torch.nn.Tanh())
    trainer.learner.ddpg.act = lambda obs: torch.zeros(len(obs), 2)
    reset, goals = PointMassGoalEnv.reset, iter([*[(1.0, 1.0), (0.05, 0.0), (0.5, 0.0)] * 9])

    def with_goal(env, **arguments):
        reset(env, **arguments)
        env.goal = np.array(next(goals), np.float32)
        return env._observation(), {}

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(PointMassGoalEnv, "reset", with_goal)
        patched.setattr(trainer.learner, "_cycle", lambda run: None)
        assert trainer.train()
    with open(trainer.run.folder / "eval.csv", newline="") as file:
        evaluations = [row["success"] for row in csv.DictReader(file)]
    assert evaluations[:3] == ["0", "1", "0"]
    with open(trainer.run.folder / "train.csv", newline="") as file:
        for row in csv.DictReader(file):
            assert float(row["success"]) == (float(row["episode_return"]) == 0)
    assert "success 0.33" in trainer.run.console.file.getvalue()


def test_a_run_is_played_back_with_its_success_rate(make_trainer, capsys):
    trainer = make_trainer(num_train_steps=100)
    assert trainer.train()
    assert cli.guarded(evaluate, [str(trainer.run.folder), "--episodes", "2", "--no-video"], EVAL) == 0
    assert "success rate 0." in capsys.readouterr().out
    saved = checkpoint.load(trainer.run.folder)[0]["learning"]
    player = load_player(trainer.run.config, trainer.learner.player.spec, CPU, saved)
    obs = np.random.default_rng(0).uniform(-1, 1, (20, 8)).astype(np.float32)
    assert torch.equal(player.act(obs), trainer.learner.ddpg.act(obs))
    assert player.observation_normaliser.count == 2 * 51


def test_a_run_that_reports_no_success_has_no_such_column(tmp_path):
    argv = ["train", "--agent", "ddpg", "--env", POINT_MASS, "--num-train-steps", "60", "--eval-every", "60",
            "--num-eval-episodes", "1", "--no-save-video", "--hidden-dim", "8", "--batch-size", "4", "--seed-steps",
            "10", "--initial-updates", "1", "--precision", "fp32", "--work-dir", str(tmp_path / "run")]  # fmt: skip
    assert cli.main(argv) == 0
    with open(tmp_path / "run" / "eval.csv", newline="") as file:
        assert "success" not in next(csv.reader(file))


def test_a_loss_that_is_not_finite_ends_the_run_in_one_line(make_trainer):
    trainer = make_trainer()
    sample = trainer.learner.replay.sample

    def poisoned(*args):
        batch = sample(*args)
        return batch._replace(reward=batch.reward * np.nan)

    trainer.learner.replay.sample = poisoned
    with pytest.raises(UserError, match="critic_loss is not finite after update 3"):
        trainer.train()


# Mistakes.


class NoBatches(PointMassGoalEnv):
    def compute_reward(self, achieved_goal, desired_goal, info):
        return super().compute_reward(achieved_goal, desired_goal, info) if achieved_goal.ndim == 1 else -1.0


class NeedsInfo(PointMassGoalEnv):
    def compute_reward(self, achieved_goal, desired_goal, info):
        return info["reward"]


class Choices(PointMassGoalEnv):
    def __init__(self, render_mode=None):
        super().__init__(render_mode)
        self.action_space = spaces.Discrete(3)


class PaysOne(PointMassGoalEnv):
    """As gymnasium-robotics' mazes: it pays 1 at the goal and 0 elsewhere, and calls success by another name."""

    def compute_reward(self, achieved_goal, desired_goal, info):
        return super().compute_reward(achieved_goal, desired_goal, info) + 1

    def step(self, action):
        *results, info = super().step(action)
        return *results, {"success": bool(info["is_success"])}


class TellsEarly(PointMassGoalEnv):
    """It tells of success at its first step alone."""

    steps = 0

    def step(self, action):
        *results, _ = super().step(action)
        self.steps += 1
        return *results, {"is_success": True} if self.steps == 1 else {}


for kind in (NoBatches, NeedsInfo, Choices, PaysOne, TellsEarly):
    gymnasium.register(f"{kind.__name__}-v0", kind, max_episode_steps=5)


@pytest.mark.parametrize(
    ("env", "settings", "words"),
    [
        ("Pendulum-v1", {}, "Pendulum-v1 has none: its observations must be"),
        (None, {}, "cheetah_run has none"),
        ("NoBatches-v0", {}, r"that of NoBatches-v0 gave \(\) in place of"),
        ("NeedsInfo-v0", {}, "gave 'reward' in place of"),
        ("Choices-v0", {}, "Choices-v0 has 3 discrete"),
        ("PaysOne-v0", {}, "clip_targets is on.* PaysOne-v0 rewards a reached goal with 1; give --no-clip-targets"),
        (POINT_MASS, {"replay_capacity": 99}, "at least --replay-capacity 100"),
    ],
)
def test_what_cannot_be_learned_is_refused_before_anything_is_written(env, settings, words, make_trainer, tmp_path):
    with pytest.raises(UserError, match=words) as caught:
        make_trainer(env=env, **settings)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


gymnasium.register("EndlessPointMass-v0", PointMassGoalEnv)


def test_episodes_without_a_time_limit_get_one(make_trainer):
    trainer = make_trainer(env="EndlessPointMass-v0", replay_capacity=30_000)
    assert trainer.learner.replay._columns["obs"].shape == (3, 10_001, 8)
    assert trainer.train()


def test_an_older_run_whose_targets_are_clipped_wrongly_goes_on_and_is_played(tmp_path, capsys):
    older = dataclasses.replace(ALGORITHMS["her_ddpg"], check_new=lambda _config: None)
    make = small_runs(older, tmp_path, env="PaysOne-v0", hidden_dim=8, num_eval_episodes=1, eval_every=20)
    assert make(num_train_steps=20).train()
    folder = str(tmp_path / "run")
    words = ["--algo", "her_ddpg", "--resume", "--num-train-steps", "40", "--work-dir", folder]
    assert cli.guarded(train, words, TRAIN) == 0
    assert cli.guarded(evaluate, [folder, "--episodes", "1", "--no-video"], EVAL) == 0


def test_an_evaluation_goes_by_what_is_said_of_success_at_the_last_step_as_a_training_does(make_trainer):
    player = make_trainer().learner.player
    (episode,) = evaluation.evaluate(player, [GymEnv("TellsEarly-v0", 1)], [1])
    assert episode.success is None


def test_success_may_have_its_other_name(make_trainer):
    trainer = make_trainer(env="PaysOne-v0", num_train_steps=20, eval_every=20, clip_targets=False)
    assert trainer.train()
    for name in ("train.csv", "eval.csv"):
        with open(trainer.run.folder / name, newline="") as file:
            told = [float(row["success"]) for row in csv.DictReader(file)]
        assert told
        assert {*told} <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("her_k", -1),
        ("episodes_per_cycle", 0),
        ("updates_per_cycle", 0),
        ("polyak", 1.5),
        ("action_l2", -1.0),
        ("random_eps", 2.0),
        ("exploration_noise", -0.1),
        ("discount", 1.0),
        ("action_repeat", 2),
        ("actor_lr", 0.0),
    ],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(UserError, match=f"{name} is {value}"):
        make(HERSettings, **{name: value})


def test_the_fetch_arm_learns_and_tells_of_success(make_trainer):
    pytest.importorskip("gymnasium_robotics", reason=how_to_install("robotics"))
    trainer = make_trainer(env="FetchReach-v4", num_train_steps=200, eval_every=100)
    assert trainer.train()
    with open(trainer.run.folder / "eval.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["success"] for row in rows} <= {"0", "1"}
    assert {float(row["episode_return"]) for row in rows} <= {float(-steps) for steps in range(51)}


def test_fetch_without_its_package_names_the_extra(make_trainer, monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    monkeypatch.delitem(gymnasium.registry, "FetchReach-v4", raising=False)
    extra = re.escape(how_to_install("robotics"))
    with pytest.raises(UserError, match=f"Fetch environments need gymnasium_robotics, .*{extra}"):
        make_trainer(env="FetchReach-v4")
