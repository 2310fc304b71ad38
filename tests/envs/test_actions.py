"""Continuous tasks with discrete actions, and which agents go with which tasks."""

import itertools
import json

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sacae import config as configs
from sacae import envs
from sacae.envs import DiscretisedEnv, EnvInfo, GymEnv
from sacae.envs.contract import num_actions_of
from sacae.errors import UserError
from tests.envs.tiny import play, random_actions

CARTPOLE = {"domain": "cartpole", "task": "swingup", "obs": "state", "action_repeat": 8}
CHEETAH = {"domain": "cheetah", "task": "run", "obs": "state"}
PENDULUM = {"env": "Pendulum-v1"}
TWO_DIMENSIONS = {"env": "tests.envs.tiny:TinyContinuous-v0"}
CHOICES = {"env": "CartPole-v1"}


def make_env(seed=1, **settings):
    return envs.from_config(configs.make(**({"agent": "dqn"} | settings)).task, seed)


# The environment.


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("discretisation", ["factored", "joint"])
@pytest.mark.parametrize("task", [CARTPOLE, TWO_DIMENSIONS])
def test_gymnasiums_own_checker_finds_no_fault(task, discretisation):
    check_env(make_env(**task, discretisation=discretisation), skip_render_check="env" not in task)


def test_factored_chooses_a_level_in_each_dimension():
    env = make_env(**TWO_DIMENSIONS, discretisation="factored", bins=5)
    assert EnvInfo.of(env) == EnvInfo((7,), "float32", 2, 7, 5)
    levels = [-1, -0.5, 0, 0.5, 1]
    for action in itertools.product(range(5), repeat=2):
        expected = np.array([levels[number] for number in action], np.float32)
        np.testing.assert_array_equal(env.continuous(np.array(action)), expected, strict=True)


def test_joint_chooses_a_cell_of_the_grid():
    env = make_env(**TWO_DIMENSIONS, discretisation="joint", bins=3)
    assert EnvInfo.of(env) == EnvInfo((7,), "float32", 1, 7, 9)
    for number, cell in enumerate(itertools.product([-1, 0, 1], repeat=2)):
        np.testing.assert_array_equal(env.continuous(np.array([number])), np.array(cell, np.float32), strict=True)


def test_the_task_is_the_continuous_one():
    discrete, continuous = (
        make_env(**TWO_DIMENSIONS, discretisation="factored"), GymEnv(TWO_DIMENSIONS["env"], 1)
    )  # fmt: skip
    np.testing.assert_array_equal(discrete.reset()[0], continuous.reset()[0])
    choices = random_actions(discrete, 30)
    assert play(discrete, choices) == play(continuous, [(choice - 1).astype(np.float32) for choice in choices])
    assert discrete.observation_space == continuous.observation_space
    assert discrete.metadata == continuous.metadata
    assert discrete.render(8, 8).shape == (8, 8, 3)
    assert discrete.render_seconds > 0


@pytest.mark.parametrize("task", [CARTPOLE, PENDULUM])
def test_factored_and_joint_are_the_same_where_there_is_one_dimension(task):
    factored, joint = (make_env(**task, discretisation=kind, bins=7) for kind in ("factored", "joint"))
    assert EnvInfo.of(factored) == EnvInfo.of(joint)
    np.testing.assert_array_equal(factored.reset()[0], joint.reset()[0])
    actions = random_actions(factored, 30)
    assert play(factored, actions) == play(joint, actions)


@pytest.mark.parametrize("discretisation", ["factored", "joint"])
@pytest.mark.parametrize("task", [CARTPOLE, PENDULUM, TWO_DIMENSIONS])
def test_an_environment_goes_on_where_a_snapshot_was_made(task, discretisation):
    env, resumed = (make_env(seed, **task, discretisation=discretisation) for seed in (1, 2))
    env.reset()
    play(env, random_actions(env, 33))
    snapshot = json.loads(json.dumps(env.snapshot()))
    assert all(isinstance(number, int) for action in snapshot["actions"] for number in action)
    resumed.restore(snapshot)
    more = random_actions(env, 230, seed=1)
    assert play(resumed, more) == play(env, more)
    assert resumed.snapshot() == env.snapshot()


def test_a_choice_that_there_is_not_is_refused_and_changes_nothing():
    env = make_env(**TWO_DIMENSIONS, discretisation="factored")
    env.reset()
    before = env.snapshot()
    for action in ([3, 0], [-1, 0], [0.0, 1.0], [0]):
        with pytest.raises(gymnasium.error.InvalidAction):
            env.step(np.array(action))
    assert env.snapshot() == before


def test_physics_and_end_reach_the_environment():
    env = make_env(**CARTPOLE, discretisation="joint")
    env.reset()
    assert env.physics_state().shape == (4,)
    assert [*env.physics_coordinates().values()][:4] == env.physics_state().tolist()
    assert env.state() in env.state_space
    assert EnvInfo.of(env, keep_state=True).state_dim == 5
    env.close()
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.array([0]))


def test_from_pixels(gl):
    env = make_env(domain="cartpole", task="balance", image_size=48, discretisation="factored")
    assert EnvInfo.of(env) == EnvInfo((3, 48, 48), "uint8", 1, 500, 3)
    assert env.reset()[0].std() > 5
    assert env.render(64, 64, camera_id=1).shape == (64, 64, 3)


# Which agents go with which tasks.


def resolve(discrete_agent, **settings):
    task = configs.make(**({"agent": "dqn"} | settings)).task
    return task, *envs.resolve_actions(task, discrete_agent, "dqn" if discrete_agent else "sac")


@pytest.mark.parametrize("task", [PENDULUM, CHEETAH, TWO_DIMENSIONS])
@pytest.mark.parametrize("discretisation", ["auto", "none"])
def test_a_continuous_agent_takes_a_continuous_task_as_it_is(task, discretisation):
    before, after, note = resolve(False, **task, discretisation=discretisation)
    assert (after.discretisation, note) == ("none", None)
    assert num_actions_of(envs.from_config(after, 1).action_space) is None
    assert {**vars(before), "discretisation": "none"} == vars(after)


@pytest.mark.parametrize("discretisation", ["auto", "none"])
def test_a_discrete_agent_takes_a_discrete_task_as_it_is(discretisation):
    _, after, note = resolve(True, **CHOICES, discretisation=discretisation)
    assert (after.discretisation, note) == ("none", None)


@pytest.mark.parametrize(
    ("settings", "note"),
    [
        (
            CHEETAH,
            "dqn chooses among discrete actions and cheetah_run has continuous ones: factored, 3 bins in each of 6 dim",
        ),
        (PENDULUM | {"bins": 9}, "Pendulum-v1 has continuous ones: factored, 9 bins in the one dimension"),
    ],
)
def test_a_discrete_agent_has_a_continuous_task_factored(settings, note):
    _, after, said = resolve(True, **settings)
    assert after.discretisation == "factored"
    assert note in said


@pytest.mark.parametrize("discretisation", ["factored", "joint"])
def test_what_the_user_chose_is_kept_without_a_word(discretisation):
    _, after, note = resolve(True, **CHEETAH, discretisation=discretisation)
    assert (after.discretisation, note) == (discretisation, None)
    assert isinstance(envs.from_config(after, 1), DiscretisedEnv)


def test_what_was_chosen_stays_when_it_is_resolved_again():
    _, after, _ = resolve(True, **PENDULUM)
    assert envs.resolve_actions(after, True, "dqn") == (after, None)


@pytest.mark.parametrize(
    ("discrete_agent", "settings", "line"),
    [
        (False, CHOICES, "agent is sac, whose actions are continuous, but CartPole-v1 has 2 discrete ones; use"),
        (False, PENDULUM | {"discretisation": "joint"}, "discretisation is joint, but agent is sac, .*leave"),
        (False, CHEETAH | {"discretisation": "factored"}, "discretisation is factored, but agent is sac, .*leave"),
        (True, CHOICES | {"discretisation": "joint"}, "but CartPole-v1 has discrete actions already; leave"),
        (True, PENDULUM | {"discretisation": "none"}, "discretisation is none, but agent is dqn, .* Pendulum-v1 .*use"),
        (True, CHEETAH | {"discretisation": "none"}, "discretisation is none, but agent is dqn, .* cheetah_run .*use"),
        (
            True, CHEETAH | {"discretisation": "joint", "bins": 5},
            "discretisation is joint, which with 5 bins in each of 6 dimensions makes 15,625 actions, more than 4,096; "
            "use --discretisation factored or fewer --bins",
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_in_one_line(discrete_agent, settings, line):
    with pytest.raises(UserError, match=line) as caught:
        resolve(discrete_agent, **settings)
    assert "\n" not in str(caught.value)


def test_as_many_joint_actions_as_there_may_be():
    assert EnvInfo.of(make_env(**CHEETAH, discretisation="joint", bins=4)).num_actions == 4096
