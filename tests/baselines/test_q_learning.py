"""Tabular Q-learning: its equation, its table, and whole runs."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import wrappers
from gymnasium.envs.classic_control import MountainCarEnv

from baselines.algorithms import ALGORITHMS
from baselines.q_learning import (
    Bins,
    Table,
    load_player,
    make_player,
    shaped,
    update,
)
from baselines.settings import make
from baselines.settings.q_learning import QLearningSettings
from sacae.errors import UserError
from sacae.types import EnvSpec
from tests.baselines.runs import small_runs, whole_and_resumed

HERE, THERE = b"here.", b"there"


@pytest.fixture
def table():
    """Q(here) = (1, 2), Q(there) = (3, 5)."""
    table = Table(2, 0.0, np.random.default_rng(0))
    table[HERE][:], table[THERE][:] = (1, 2), (3, 5)
    return table


@pytest.mark.parametrize(
    ("terminal", "difference"),
    [
        (False, 1 + 0.9 * 5 - 2),  # r + gamma max Q(s', .) - Q(s, a)
        (True, 1 - 2),  # nothing after the end
    ],
)
def test_an_update_goes_a_part_of_the_way_to_its_target(table, terminal, difference):
    config = QLearningSettings(learning_rate=0.25, discount=0.9)
    assert update(table, HERE, 1, 1.0, THERE, terminal, config) == pytest.approx(difference)
    assert table[HERE].tolist() == pytest.approx([1, 2 + 0.25 * difference])
    assert table[THERE].tolist() == [3, 5]


def test_a_terminal_state_gets_no_value():
    table = Table(2, 1.0, np.random.default_rng(0))
    update(table, HERE, 0, 1.0, THERE, True, QLearningSettings())
    assert len(table) == 1


def test_bins_are_of_equal_width_and_what_lies_beyond_belongs_to_the_outermost():
    bins = Bins(np.array([-3.0, 0.0]), np.array([3.0, 1.0]), 6)
    cells = [np.frombuffer(bins(np.array(state)), np.int16).tolist() for state in
             ([-9, -9], [-3, 0], [-2.1, 0.1], [-1.9, 0.2], [0.1, 0.6], [2.9, 0.9], [9, 9])]  # fmt: skip
    assert cells == [[0, 0], [0, 0], [0, 0], [1, 1], [3, 3], [5, 5], [5, 5]]


def test_unseen_cells_are_random_in_training_and_leave_no_trace_in_playing():
    table = Table(3, 2.0, np.random.default_rng(0))
    assert table.greedy(HERE) == 0
    assert len(table) == 0
    assert ((table[HERE] >= 0) & (table[HERE] < 2)).all()
    assert table.greedy(HERE) == table[HERE].argmax()


def test_a_table_is_loaded_as_it_was_saved(table):
    copy = Table(2, 0.0, np.random.default_rng(1))
    copy.load(table.state())
    assert len(copy) == 2
    assert (copy[HERE].tolist(), copy[THERE].tolist()) == ([1, 2], [3, 5])
    copy[HERE][:] = 0
    assert table[HERE].tolist() == [1, 2]


@pytest.mark.parametrize(("ended", "length", "reward"), [(False, 500, 0), (True, 194, -1), (True, 195, 1)])
def test_the_shaped_reward_comes_at_the_end(ended, length, reward):
    assert shaped(ended, length, 195) == reward


@pytest.fixture
def make_trainer(tmp_path):
    return small_runs(
        ALGORITHMS["q_learning"], tmp_path, env="CartPole-v1", num_train_steps=300, eval_every=100, num_eval_episodes=2
    )


@pytest.mark.parametrize("settings", [{}, {"num_envs": 3, "shaping": True, "epsilon": 0.9}])
@pytest.mark.parametrize("stop_at", [7, 123])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(settings, stop_at, make_trainer):
    whole, second = whole_and_resumed(make_trainer, stop_at, **settings)
    assert second.learner.table.state()["values"].tolist() == whole.learner.table.state()["values"].tolist()
    assert second.learner.table.state()["cells"].tolist() == whole.learner.table.state()["cells"].tolist()


def test_actions_that_are_taken_back_are_chosen_again_where_nothing_was_known(make_trainer):
    trainer = make_trainer(num_envs=3, epsilon=0.5)
    learner = trainer.learner
    learner.begin([np.full(4, value) for value in (-0.9, 0.1, 0.9)], [None] * 3)
    for _ in range(20):
        cells, actions, state = len(learner.table), learner.act(trainer.run), learner.rng.bit_generator.state
        learner.take_back()
        assert len(learner.table) == cells
        assert learner.act(trainer.run).tolist() == actions.tolist()
        assert learner.rng.bit_generator.state == state
        learner.table.forget(0)


def test_no_update_crosses_from_one_episode_into_the_next(make_trainer, monkeypatch):
    """Each update ends at the frame that followed its action, also where the environment has begun anew since."""
    import baselines.q_learning as module

    trainer = make_trainer(num_train_steps=120, num_envs=2)
    seen = []
    monkeypatch.setattr(
        module, "update", lambda _t, cell, _a, _r, after, terminal, _c: seen.append((cell, after)) or 0.0
    )
    answers = []
    receive = trainer.stepper.receive
    trainer.stepper.receive = lambda: answers.append(receive()) or answers[-1]
    assert trainer.train()
    frames = [frame for answer in answers for frame in answer.frame]
    assert [after for _, after in seen] == [trainer.learner.bins(frame) for frame in frames]
    ends = sum(first is not None for answer in answers for first in answer.first_frame)
    assert ends > 2
    starts = [cell for cell, _ in seen]
    befores = [after for _, after in seen]
    assert sum(start != before for start, before in zip(starts[2:], befores)) <= ends


def test_the_best_table_is_kept_and_played(make_trainer):
    trainer = make_trainer()
    assert trainer.train()
    spec = EnvSpec((4,), "float32", 1, 1, 2)
    player = load_player(trainer.run.config, spec, torch.device("cpu"), trainer.learner.playable())
    states = np.random.default_rng(0).uniform(-1, 1, (50, 4))
    assert player.act(states).shape == (50, 1)
    assert torch.equal(player.act(states), trainer.learner.player.act(states))


@pytest.mark.parametrize(
    ("env", "settings", "words"),
    [
        ("Pendulum-v1", {}, "algo is q_learning, which chooses one of several actions"),
        ("tests.envs.tiny:TinySeveral-v0", {}, "are several at once; choose another --env, or an --algo such as dqn"),
        ("CartPole-v1", {"observation_clip": (1.0, 2.0)}, "observation_clip is"),
    ],
)
def test_what_no_table_can_hold_is_refused_before_anything_is_written(env, settings, words, make_trainer, tmp_path):
    with pytest.raises(UserError, match=words):
        make_trainer(env=env, **settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("state_bins", 1), ("state_bins", 10**12), ("learning_rate", 0.0), ("shaping_steps", 0), ("discount", 1.1)],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(UserError, match=f"{name} is {value}"):
        make(QLearningSettings, **{name: value})


def test_bounded_states_need_no_clip():
    spec = EnvSpec((2,), "float32", 1, 1, 3)
    settings = make(QLearningSettings, env="MountainCar-v0")
    assert make_player(settings, spec, np.random.default_rng(0)).act(np.zeros((1, 2))).tolist() == [[0]]


gymnasium.register(
    "RescaledMountainCar-v0",
    lambda **keywords: wrappers.RescaleObservation(MountainCarEnv(**keywords), np.float32(0), np.float32(1)),
    max_episode_steps=200,
)


def test_bins_lie_between_the_bounds_that_the_registered_environments_wrappers_show():
    spec = EnvSpec((2,), "float32", 1, 1, 3)
    settings = make(QLearningSettings, env="RescaledMountainCar-v0", state_bins=4)
    bins = make_player(settings, spec, np.random.default_rng(0)).bins
    cells = [np.frombuffer(bins(np.full(2, value)), np.int16).tolist() for value in (0.1, 0.4, 0.6, 0.9)]
    assert cells == [[0, 0], [1, 1], [2, 2], [3, 3]]
