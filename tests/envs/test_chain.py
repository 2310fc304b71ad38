"""SixStateChain-v0."""

import functools

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sacae import config as configs
from sacae import envs
from sacae.envs.chain import LEFT, RIGHT

ID = "SixStateChain-v0"


@pytest.fixture
def env():
    return gymnasium.make(ID).unwrapped


def play(env, seed, choose):
    """States and rewards of an episode from s2."""
    states, rewards = [env.reset(seed=seed)[0]], []
    while True:
        state, reward, terminated, truncated, _ = env.step(choose(states))
        states.append(state)
        rewards.append(reward)
        assert not truncated
        if terminated:
            return states, rewards


def test_left_ends_at_once_with_the_small_reward(env):
    assert play(env, 0, lambda _: LEFT) == ([1, 0], [0.01])


def test_the_end_pays_in_full_where_the_far_state_was_visited_and_nothing_else_pays(env):
    ends = []
    for seed in range(300):
        states, rewards = play(env, seed, lambda seen: LEFT if 5 in seen else RIGHT)
        assert states[0] == 1
        assert states[-1] == 0
        assert 0 not in states[:-1]
        assert set(rewards[:-1]) <= {0}
        assert rewards[-1] == (1.0 if 5 in states else 0.01)
        assert all(abs(b - a) == 1 or a == b == 5 for a, b in zip(states, states[1:]))
        ends.append(rewards[-1])
    # A symmetric walk from 1 comes to 5 before it comes to 0 with probability 1/5.
    assert np.mean(np.array(ends) == 1) == pytest.approx(0.2, abs=0.07)


def test_right_succeeds_half_the_time(env):
    env.reset(seed=0)
    successes = 0
    for _ in range(4000):
        env._state = 2
        successes += env.step(RIGHT)[0] == 3
    assert successes / 4000 == pytest.approx(0.5, abs=0.03)


def test_a_visit_counts_in_its_own_episode_alone(env):
    env.reset(seed=0)
    env._state = 4
    while env.step(RIGHT)[0] != 5:
        env._state = 4
    env.reset()
    assert env.step(LEFT)[1] == 0.01


@pytest.mark.parametrize("action", [2, -1, 0.5, None])
def test_an_action_that_there_is_not_is_refused(action, env):
    env.reset(seed=0)
    with pytest.raises(gymnasium.error.InvalidAction, match="an action is 0"):
        env.step(action)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("id", [ID, "FourRooms-v0"])
def test_gymnasiums_own_checker_finds_no_fault(id):
    check_env(gymnasium.make(id).unwrapped, skip_render_check=True)


@pytest.mark.parametrize("id", [ID, "FourRooms-v0"])
def test_it_is_seen_as_one_hot_vectors_and_comes_back_to_where_it_was(id):
    recipe = functools.partial(envs.from_config, configs.make(env=id, agent="dqn").task, 1)
    env, other = recipe(), recipe()
    rng = np.random.default_rng(0)
    env.reset()
    for _ in range(40):
        obs, _, terminated, truncated, _ = env.step(np.array([rng.integers(2)]))
        assert obs.sum() == obs.max() == 1
        if terminated or truncated:
            env.reset()
    other.restore(env.snapshot())
    for _ in range(3):
        np.testing.assert_array_equal(env.reset()[0], other.reset()[0])
        np.testing.assert_array_equal(env.step(np.array([1]))[0], other.step(np.array([1]))[0])
