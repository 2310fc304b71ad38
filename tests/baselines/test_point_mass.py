"""PointMassGoal-v0: its motion, its rewards, and Gymnasium's own checker."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from baselines.point_mass import KEPT, PUSH, RADIUS, STEPS, PointMassGoalEnv

ID = "PointMassGoal-v0"


@pytest.fixture
def env():
    return PointMassGoalEnv("rgb_array")


def push(*action):
    return np.array(action, np.float32)


@pytest.mark.filterwarnings("error")
def test_gymnasiums_own_checker_finds_no_fault(env):
    env.spec = gymnasium.spec(ID)
    check_env(env)


def test_a_push_moves_the_point_and_friction_stops_it(env):
    env.reset(seed=0)
    observation = env.step(push(1, -0.5))[0]
    np.testing.assert_allclose(observation["observation"], [PUSH, -PUSH / 2, PUSH, -PUSH / 2], atol=1e-7)
    observation = env.step(push(0, 0))[0]
    np.testing.assert_allclose(observation["observation"][2:], [KEPT * PUSH, -KEPT * PUSH / 2], atol=1e-7)
    np.testing.assert_array_equal(observation["achieved_goal"], observation["observation"][:2])


def test_the_point_stops_at_the_edge_and_leaves_it_at_once(env):
    env.reset(seed=0)
    for _ in range(STEPS):
        position_and_velocity = env.step(push(9, 0))[0]["observation"]
    assert position_and_velocity.tolist() == [1, 0, 0, 0]
    assert env.step(push(-1, 0))[0]["observation"][0] == pytest.approx(1 - PUSH)


def test_the_reward_is_0_within_the_radius_of_the_goal_alone(env):
    env.reset(seed=0)
    for distance, reward in ((0.5 * RADIUS, 0), (1.5 * RADIUS, -1)):
        env.goal = env.position + push(distance, 0)
        answer = env.step(push(0, 0))
        assert (answer[1], answer[4]["is_success"]) == (reward, reward + 1)
    assert env.compute_reward(np.zeros((3, 2)), np.array([[0, 0], [0, 1], [0.05, 0]]), {}).tolist() == [0, -1, 0]


def test_an_episode_ends_by_its_limit_alone_with_a_goal_that_stays():
    env = gymnasium.make(ID)
    goal = env.reset(seed=1)[0]["desired_goal"]
    answers = [env.step(push(0, 0)) for _ in range(STEPS)]
    assert [answer[2:4] for answer in answers] == [(False, False)] * (STEPS - 1) + [(False, True)]
    assert all((answer[0]["desired_goal"] == goal).all() for answer in answers)
    assert (env.reset()[0]["desired_goal"] != goal).any()


def test_the_picture_shows_the_goal_and_the_point(env):
    env.reset(seed=0)
    env.goal = push(0.5, 0.5)
    picture = env.render()
    middle, right, up = (len(picture) * i // 8 for i in (4, 6, 2))
    colours = [tuple(picture[row, column]) for row, column in ((middle, middle), (up, right), (right, up))]
    assert len({*colours}) == 3
