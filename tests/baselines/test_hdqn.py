"""h-DQN: its two learners, its goals, the chain, and whole runs."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces, wrappers
from gymnasium.envs.classic_control import MountainCarEnv

from baselines.algorithms import ALGORITHMS
from baselines.hdqn import (
    NO_GOAL,
    DoubleDQN,
    GoalNetwork,
    HDQNPlayer,
    IdReplay,
    double_q_target,
    load_player,
)
from baselines.settings import make
from baselines.settings.hdqn import HDQNSettings
from sacae.envs import GymEnv, SixStateChainEnv
from sacae.envs.contract import StepResult
from sacae.errors import UserError
from sacae.training.evaluation import evaluate
from sacae.types import EnvSpec
from tests.baselines.runs import small_runs, whole_and_resumed

CHAIN = "SixStateChain-v0"
SPEC = EnvSpec((6,), "float32", 1, 1, num_actions=2)


# The equations.


def test_the_target_values_the_online_networks_choice_by_the_target_network():
    online, target = torch.tensor([[2.0, 1.0], [3.0, 0.0]]), torch.tensor([[10.0, 20.0], [30.0, 40.0]])
    found = double_q_target(torch.tensor([1.0, 1.0]), torch.tensor([0.5, 0.0]), online, target)
    assert found.tolist() == [1 + 0.5 * 10, 1]


def make_learner(takes_goal=True, **changes):
    torch.manual_seed(0)
    config = HDQNSettings(**{"hidden_dim": 8, "replay_capacity": 10, "batch_size": 4} | changes)
    return DoubleDQN(GoalNetwork(6, 2, 8, takes_goal), config, torch.device("cpu"))


def test_the_loss_is_that_of_the_choice_made_for_the_goal_set():
    learner = make_learner(discount=0.9)
    with torch.no_grad():
        for parameter in learner.target.parameters():
            parameter += 0.1
    batch = {
        "state": torch.tensor([1, 2]),
        "goal": torch.tensor([5, 3]),
        "choice": torch.tensor([0, 1]),
        "reward": torch.tensor([0.5, 1.0]),
        "next_state": torch.tensor([2, 3]),
        "terminal": torch.tensor([0.0, 1.0]),
    }
    with torch.no_grad():
        loss = 0.0
        for s, g, a, r, after, over in zip(*(column.tolist() for column in batch.values())):
            goal = torch.tensor([g])
            best = learner.network(torch.tensor([after]), goal).argmax()
            next_q = learner.target(torch.tensor([after]), goal)[0, best].item()
            error = abs(learner.network(torch.tensor([s]), goal)[0, int(a)].item() - (r + 0.9 * (1 - over) * next_q))
            loss += 0.5 * error**2 if error < 1 else error - 0.5
    assert learner.loss(batch).item() == pytest.approx(loss / 2, rel=1e-5)


def test_only_a_controller_sees_the_goal():
    for takes_goal in (True, False):
        network = make_learner(takes_goal).network
        state = torch.tensor([2, 2])
        with torch.no_grad():
            first, second = network(state, torch.tensor([0, 5]))
        assert torch.allclose(first, second) != takes_goal


def test_the_target_network_follows_slowly():
    learner = make_learner(critic_tau=0.25)
    for _ in range(4):
        learner.replay.add(1, 5, 1, 1.0, 2, False)
    before = [parameter.clone() for parameter in learner.target.parameters()]
    learner.update(np.random.default_rng(0))
    for old, slow, fast in zip(before, learner.target.parameters(), learner.network.parameters()):
        assert torch.allclose(slow, old + 0.25 * (fast - old), atol=1e-6)


def test_the_replay_holds_the_latest_transitions():
    replay = IdReplay(3)
    for i in range(5):
        replay.add(i, i, i, float(i), i, i == 4)
    assert len(replay) == 3
    batch = replay.sample(200, np.random.default_rng(0), torch.device("cpu"))
    assert set(batch["state"].tolist()) == {2, 3, 4}
    for column in batch.values():
        assert torch.equal(column.float() if column is not batch["terminal"] else batch["state"].float(),
                           batch["state"].float())  # fmt: skip
    assert torch.equal(batch["terminal"] == 1, batch["state"] == 4)
    copy = IdReplay(3)
    copy.load(replay.state())
    replay.add(9, 9, 9, 9.0, 9, False)
    copy.add(9, 9, 9, 9.0, 9, False)
    assert all(np.array_equal(replay.columns[name], copy.columns[name]) for name in copy.columns)


# Goals.


def test_playing_keeps_a_goal_until_it_is_reached():
    torch.manual_seed(0)
    player = HDQNPlayer(SPEC, HDQNSettings(goals=(5, 0, 3), hidden_dim=8))
    obs = np.eye(6, dtype=np.float32)[[1, 1, 3, 3]]
    with torch.no_grad():
        player.meta.q[-1].bias[0] = 100.0  # the best goal is 5 everywhere
    actions, goals = player.act_on(obs, [None, 3, 3, 5])
    assert goals == [5, 3, 5, 5]
    assert actions[:, 0].tolist() == player.best_actions(np.array([1, 1, 3, 3]), np.array(goals)).tolist()


@pytest.fixture
def make_trainer(tmp_path):
    return small_runs(
        ALGORITHMS["hdqn"],
        tmp_path,
        env=CHAIN,
        num_train_steps=120,
        eval_every=50,
        num_eval_episodes=2,
        num_eval_envs=2,
        hidden_dim=8,
        batch_size=4,
        replay_capacity=50,
        epsilon_decay=0.9,
    )


def answer(state, reward=0.0, terminated=False, truncated=False):
    frame = np.eye(6, dtype=np.float32)[[state]]
    first = [np.eye(6, dtype=np.float32)[1] if terminated or truncated else None]
    return StepResult(
        frame, np.array([reward]), np.array([terminated]), np.array([truncated]), first, [None], [None], [None]
    )  # fmt: skip


def rows_of(replay):
    return [*zip(*(column[: len(replay)].tolist() for column in replay.columns.values()))]


@pytest.mark.parametrize(
    ("last", "over_for_controller", "over_for_meta"),
    [
        (answer(3, 4.0), True, False),  # reaches the goal, 3
        (answer(0, 4.0, terminated=True), True, True),
        (answer(1, 4.0, truncated=True), False, False),
        (answer(3, 4.0, truncated=True), True, False),
    ],
)
def test_the_controller_learns_from_the_intrinsic_reward_and_the_meta_controller_from_the_tasks(
    last, over_for_controller, over_for_meta, make_trainer
):
    """E1.25: from s2 towards s4, with rewards 1, 2 and 4 of the task on the way."""
    trainer = make_trainer(goals=(5, 3))
    trainer.learner.states, trainer.learner.goals = np.array([1]), np.array([3])
    trainer.learner.goal_choices, trainer.learner.goal_starts = np.array([1]), np.array([1])
    for action, result in ((1, answer(2, 1.0)), (0, answer(1, 2.0)), (1, last)):
        next_state = int(result.frame.argmax())
        trainer.learner._remember(trainer.run, 0, action, next_state, result)
        trainer.learner.states = np.array([next_state])
    end = int(last.frame.argmax())
    assert rows_of(trainer.learner.controller.replay) == [
        (1, 3, 1, 0.0, 2, 0.0),
        (2, 3, 0, 0.0, 1, 0.0),
        (1, 3, 1, float(end == 3), end, float(over_for_controller)),
    ]
    assert rows_of(trainer.learner.meta.replay) == [(1, 3, 1, 7.0, end, float(over_for_meta))]
    assert trainer.learner.goals[0] == NO_GOAL
    assert trainer.learner.success.tolist() == pytest.approx([0, 0.05 if end == 3 else 0])


def test_a_new_goal_starts_where_it_is_set_with_no_reward(make_trainer):
    trainer = make_trainer(num_envs=2, goals=(4, 2), epsilon_start=0.0, epsilon=0.0)
    trainer.learner.states, trainer.learner.goals = np.array([1, 3]), np.array([NO_GOAL, 2])
    trainer.learner.goal_choices, trainer.learner.goal_starts = np.array([0, 1]), np.array([5, 5])
    trainer.learner.goal_rewards = np.array([8.0, 9.0])
    trainer.learner._set_goals()
    best = trainer.learner.player.best_goals(np.array([1]))[0]
    assert trainer.learner.goals.tolist() == [(4, 2)[best], 2]
    assert trainer.learner.goal_choices.tolist() == [best, 1]
    assert trainer.learner.goal_starts.tolist() == [1, 5]
    assert trainer.learner.goal_rewards.tolist() == [0, 9]


def test_exploration_falls_for_a_goal_as_it_is_reached_and_among_goals_with_episodes(make_trainer):
    trainer = make_trainer(num_envs=2, epsilon_start=0.8, epsilon=0.1)
    trainer.learner.success[:], trainer.learner.goal_choices = (0, 0.5, 1, 0, 0, 0), np.array([1, 2])
    assert trainer.learner.goal_epsilon().tolist() == pytest.approx([0.45, 0.1])
    assert trainer.learner.epsilon == 0.8
    trainer.learner.episodes_done = 3
    assert trainer.learner.epsilon == pytest.approx(0.8 * 0.9**3)
    trainer.learner.episodes_done = 1000
    assert trainer.learner.epsilon == 0.1


# Whole runs.


@pytest.mark.parametrize(
    ("stop_at", "settings"), [(41, {}), (63, {"num_envs": 3, "goals": (5, 0)}), (30, {"env": "Taxi-v4"})]
)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(stop_at, settings, make_trainer):
    whole, second = whole_and_resumed(make_trainer, stop_at, **settings)
    assert whole.learner.updates_done == whole.run.agent_step
    ours, theirs = second.learner.player.state_dict(), whole.learner.player.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert rows_of(second.learner.meta.replay) == rows_of(whole.learner.meta.replay)


def test_no_transition_and_no_goal_leads_across_a_reset(make_trainer):
    """In the chain each step leads to a neighbour, an episode ends at s1 alone and begins at s2."""
    trainer = make_trainer(num_envs=2, num_train_steps=400, replay_capacity=1000)
    assert trainer.train()
    steps = rows_of(trainer.learner.controller.replay)
    assert len(steps) == 400
    assert all(state != 0 for state, *_ in steps)
    assert all(abs(after - state) == 1 or state == after == 5 for state, _, _, _, after, _ in steps)
    assert all(reward == float(after == goal) for _, goal, _, reward, after, _ in steps)
    assert all(over == float(after in (goal, 0)) for _, goal, _, _, after, over in steps)
    goals = rows_of(trainer.learner.meta.replay)
    assert {total for *_, total, _, over in goals if not over} == {0.0}
    assert {round(total, 2) for *_, total, _, over in goals if over} <= {0.01, 1.0}
    assert sum(over for *_, over in goals) == sum(after == 0 for *_, after, _ in steps) > 10


def test_the_best_networks_are_kept_and_played(make_trainer):
    trainer = make_trainer()
    assert trainer.train()
    player = load_player(trainer.run.config, SPEC, torch.device("cpu"), trainer.learner.playable())
    obs = np.eye(6, dtype=np.float32)
    ours, theirs = player.act_on(obs, [None] * 6), trainer.learner.player.act_on(obs, [None] * 6)
    assert torch.equal(ours[0], theirs[0])
    assert ours[1] == theirs[1]
    assert len(evaluate(player, [GymEnv(CHAIN, 1)], [1, 2, 3])) == 3


@pytest.mark.parametrize(
    ("env", "settings", "words"),
    [
        ("Pendulum-v1", {}, "algo is hdqn, which chooses one of several actions"),
        ("CartPole-v1", {}, "algo is hdqn, whose goals are states with a number"),
        (CHAIN, {"goals": (1, 6)}, r"goals is \(1, 6\)"),
        ("ChainFromOne-v0", {"goals": (0, 1)}, r"goals is \(0, 1\), but they must be states of \S+, 1 to 6"),
        (CHAIN, {"goals": (1, 1)}, r"goals is \(1, 1\)"),
    ],
)
def test_a_task_without_numbered_states_is_refused_before_anything_is_written(
    env, settings, words, make_trainer, tmp_path
):
    with pytest.raises(UserError, match=words):
        make_trainer(env=env, **settings)
    assert not (tmp_path / "run").exists()


gymnasium.register(
    "NumberedMountainCar-v0",
    lambda **keywords: wrappers.DiscretizeObservation(MountainCarEnv(**keywords), bins=4),
    max_episode_steps=20,
)


def test_states_are_numbered_as_the_registered_environments_wrappers_show_them(make_trainer):
    trainer = make_trainer(env="NumberedMountainCar-v0", goals=(3, 15))
    assert trainer.train()
    assert trainer.learner.controller.network.embedding.num_embeddings == 16


class CountsFromOne(gymnasium.ObservationWrapper):
    """The chain as the paper counts its states."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = spaces.Discrete(6, start=1)

    def observation(self, observation):
        return observation + 1


gymnasium.register("ChainFromOne-v0", lambda: CountsFromOne(SixStateChainEnv()), max_episode_steps=20)


def test_goals_are_numbers_as_the_task_counts_its_states(make_trainer):
    trainer = make_trainer(env="ChainFromOne-v0", goals=(1, 6))
    assert trainer.train()
    learner = trainer.learner
    reached = {after for _, goal, _, reward, after, _ in rows_of(learner.controller.replay) if reward and goal == 0}
    assert {goal for _, goal, *_ in rows_of(learner.controller.replay)} == {0, 5}
    assert reached == {0}  # s1, where episodes end
    player = load_player(trainer.run.config, SPEC, torch.device("cpu"), learner.playable())
    assert player.goals == learner.player.goals == (0, 5)


@pytest.mark.parametrize(
    ("name", "value"), [("learning_rate", 0.0), ("epsilon_decay", 0.0), ("epsilon_decay", 1.1), ("critic_tau", 2.0)]
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(UserError, match=f"{name} is {value}"):
        make(HDQNSettings, **{name: value})


def test_a_loss_that_is_not_finite_ends_the_run_in_one_line(make_trainer):
    trainer = make_trainer()
    receive = trainer.stepper.receive
    trainer.stepper.receive = lambda: (lambda r: r._replace(reward=r.reward * np.nan))(receive())
    with pytest.raises(UserError, match="meta_loss was not finite at update"):
        trainer.train()


# Learning.


@pytest.mark.learning
def test_it_learns_the_detour_of_the_chain(make_trainer):
    """Left at once pays 0.01; going for s6 pays 1 where it is reached, one time in five: 0.208 on average."""
    trainer = make_trainer(num_train_steps=8000, eval_every=8000, num_eval_episodes=50, hidden_dim=32, batch_size=64,
                           replay_capacity=10_000, epsilon_decay=0.99, learning_rate=1e-3)  # fmt: skip
    assert trainer.train()
    episodes = evaluate(trainer.learner.player, [GymEnv(CHAIN, 1) for _ in range(10)], [*range(500)])
    assert np.mean([episode.episode_return for episode in episodes]) > 0.15
