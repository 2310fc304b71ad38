"""CartPoleContinuous-v1 beside CartPole-v1."""

import functools

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sacae import config as configs
from sacae import envs

ID = "CartPoleContinuous-v1"


def push(strength):
    return np.array([strength], np.float32)


@pytest.fixture
def both():
    """Both environments, and what a rule of actions makes of an episode in each from the same seed."""
    ours, theirs = gymnasium.make(ID), gymnasium.make("CartPole-v1")

    def play(seed, choose):
        answers = [(ours.reset(seed=seed), theirs.reset(seed=seed))]
        while not any(answers[-1][1][2:4]):
            choice = choose(theirs.unwrapped.state)
            answers.append((ours.step(push(2 * choice - 1)), theirs.step(choice)))
        return answers

    yield play
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    ("choose", "lengths"),
    [
        (lambda _: 0, range(5, 15)),
        (lambda _: 1, range(5, 15)),
        (lambda state: int(0.1 * state[0] + 0.2 * state[1] + state[2] + state[3] > 0), [500]),  # Balances.
    ],
)
def test_full_force_gives_cartpoles_trajectory_to_the_bit(choose, lengths, both):
    for seed in range(3):
        answers = both(seed, choose)
        assert len(answers) - 1 in lengths
        for ours, theirs in answers:
            np.testing.assert_array_equal(ours[0], theirs[0], strict=True)
            assert ours[1:] == theirs[1:]


def test_the_push_grows_with_the_action_between_left_and_right():
    def pushed(action):
        env = gymnasium.make(ID)
        env.reset(seed=3)
        env.step(push(action))
        return env.unwrapped.state

    left, right = pushed(-1), pushed(1)
    for action in (-0.5, 0.0, 0.25):
        expected = left + (action + 1) / 2 * (right - left)  # One step's motion is linear in the force.
        np.testing.assert_allclose(pushed(action), expected, rtol=0, atol=1e-12)


def test_a_push_does_not_outlast_its_step():
    env, fresh = gymnasium.make(ID), gymnasium.make(ID)
    env.reset(seed=1)
    for action in (0.3, 0.0, -0.7):
        env.step(push(action))
    env.reset(seed=2)
    fresh.reset(seed=2)
    np.testing.assert_array_equal(env.step(push(1))[0], fresh.step(push(1))[0])


@pytest.mark.parametrize("action", [push(1.01), push(np.nan), np.array([0.0, 0.0], np.float32), 1])
def test_an_action_that_there_is_not_is_refused(action):
    env = gymnasium.make(ID).unwrapped
    env.reset(seed=0)
    with pytest.raises(gymnasium.error.InvalidAction, match="an action is float32"):
        env.step(action)


@pytest.mark.filterwarnings("ignore")
def test_gymnasiums_own_checker_finds_no_fault():
    check_env(gymnasium.make(ID).unwrapped, skip_render_check=bool(envs.rendering_problem(ID)))


def test_time_limit_and_reward_threshold_are_cartpoles():
    ours, theirs = gymnasium.spec(ID), gymnasium.spec("CartPole-v1")
    assert ours.max_episode_steps == theirs.max_episode_steps == 500
    assert ours.reward_threshold == theirs.reward_threshold


def test_it_steps_in_processes_of_its_own():
    recipes = [functools.partial(envs.from_config, configs.make(env=ID).task, seed) for seed in (1, 2)]
    here, there = (envs.make_stepper(recipes, in_processes) for in_processes in (False, True))
    try:
        np.testing.assert_equal(there.reset(), here.reset())
        rng = np.random.default_rng(0)
        for _ in range(30):
            actions = rng.uniform(-1, 1, (2, 1)).astype(np.float32)
            for stepper in (here, there):
                stepper.send(actions)
            np.testing.assert_equal(there.receive(), here.receive())
    finally:
        here.close()
        there.close()
