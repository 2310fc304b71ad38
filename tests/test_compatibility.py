"""Other libraries train and step on this package's environments: Gymnasium, Stable-Baselines3, TorchRL."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.utils.env_checker import check_env

import sacae
from sacae import envs, gymnasium_ids
from sacae.errors import UserError

pytestmark = [pytest.mark.compatibility, pytest.mark.filterwarnings("ignore::UserWarning")]

ID = "sacae/cartpole-swingup-v0"
SIZES = {"height": 48, "width": 48, "frame_skip": 8}


def made(from_pixels, **arguments):
    return envs.make("cartpole", "swingup", seed=1, from_pixels=from_pixels, **(SIZES | arguments))


def registered(from_pixels, **arguments):
    return gymnasium.make(ID, seed=1, from_pixels=from_pixels, render_mode="rgb_array", **(SIZES | arguments))


both_ways = pytest.mark.parametrize("make", [made, registered])
both_observations = pytest.mark.parametrize("from_pixels", [False, True])


def play(env, steps=3):
    """The last observation of a few random steps."""
    obs, _ = env.reset(seed=1)
    env.action_space.seed(1)
    for _ in range(steps):
        obs, *_ = env.step(env.action_space.sample())
    return obs


# The ids.


def test_every_task_of_the_suite_has_an_id():
    envs.rendering.configure(required=False)  # dm_control's import fixes the library that later tests draw with.
    from dm_control import suite

    assert {domain: tuple(tasks) for domain, tasks in suite.TASKS_BY_DOMAIN.items()} == gymnasium_ids.SUITE
    for domain, tasks in gymnasium_ids.SUITE.items():
        for task in tasks:
            assert f"sacae/{domain}-{task}-v0" in gymnasium.registry


@pytest.mark.parametrize("imports", ["import gymnasium, sacae", "import sacae.envs, gymnasium"])
def test_an_import_registers_the_ids(imports):
    code = f"{imports}; assert 'sacae/ball_in_cup-catch-v0' in gymnasium.registry; gymnasium.spec('{ID}')"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_gymnasium_imports_the_package_that_an_id_names():
    code = f"import gymnasium; gymnasium.make('sacae:{ID}', from_pixels=False).reset()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_import_of_the_package_alone_imports_nothing_heavy():
    code = "import sys, sacae; assert not {'gymnasium', 'numpy', 'torch', 'dm_control'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_id_makes_the_same_environment(gl):
    assert sacae.__version__
    for from_pixels in (False, True):
        np.testing.assert_array_equal(play(made(from_pixels)), play(registered(from_pixels)))


def test_the_mode_of_rendering_is_an_argument(gl):
    assert registered(True).render_mode == "rgb_array"
    env = made(False, render_mode=None)
    assert env.render_mode is None
    env.reset()
    assert env.render().shape == (48, 48, 3)
    with pytest.raises(UserError, match="render_mode is human, but the tasks of the suite render rgb_array"):
        made(False, render_mode="human")


def test_training_takes_a_task_by_domain_and_task():
    with pytest.raises(UserError, match="a task of the DeepMind Control suite; use --domain and --task"):
        envs.GymEnv(ID)


# Gymnasium.


@both_observations
@both_ways
def test_gymnasiums_checker_finds_no_fault(make, from_pixels, gl):
    check_env(make(from_pixels).unwrapped)


@both_ways
def test_gymnasiums_wrappers_take_it(make, gl):
    env = wrappers.GrayscaleObservation(make(True, channels_first=False))
    env = wrappers.RecordEpisodeStatistics(wrappers.TimeLimit(wrappers.FrameStackObservation(env, 3), 5))
    assert play(env).shape == (3, 48, 48)
    *_, truncated, info = [env.step(env.action_space.sample()) for _ in range(2)][-1]
    assert truncated
    assert info["episode"]["l"] == 5
    env = wrappers.NormalizeReward(wrappers.NormalizeObservation(wrappers.RescaleAction(make(False), -2.0, 2.0)))
    assert play(env).shape == (5,)
    assert play(wrappers.AddRenderObservation(make(False))).shape == (48, 48, 3)
    env = wrappers.RenderCollection(make(False))
    play(env)
    assert len(env.render()) == 4


@both_observations
@both_ways
def test_vector_environments_step_it(make, from_pixels, gl):
    shape = (2, 3, 48, 48) if from_pixels else (2, 5)

    def one():
        return make(from_pixels)

    for vector in (
        gymnasium.vector.SyncVectorEnv([one] * 2),
        gymnasium.vector.AsyncVectorEnv([one] * 2, context="spawn"),
    ):
        assert play(vector).shape == shape
        vector.close()


FORKED = """
import gymnasium, sacae.envs
env = gymnasium.make("sacae/cartpole-swingup-v0")
env.reset(); env.render()
vector = gymnasium.make_vec(
    "sacae/cartpole-swingup-v0", 2, vectorization_mode="async", from_pixels=True, vector_kwargs={"context": "fork"}
)
try:
    vector.reset()
except sacae.errors.UserError as error:
    print(error)
vector.close(terminate=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems spawn")
def test_a_fork_after_a_frame_names_the_way_out_instead_of_hanging(gl):
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True, timeout=120)
    (line,) = done.stdout.splitlines()
    assert line.startswith("a frame was rendered before this process was forked")
    assert 'context="spawn"' in line


# Other libraries.


@both_observations
@both_ways
def test_stable_baselines3_trains_on_it(make, from_pixels, gl):
    sb3 = pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.env_checker import check_env as sb3_check

    env = make(from_pixels)
    sb3_check(env)
    small = {"net_arch": [8]} | ({"features_extractor_kwargs": {"features_dim": 8}} if from_pixels else {})
    model = sb3.SAC(
        *("CnnPolicy" if from_pixels else "MlpPolicy", env),
        **{"policy_kwargs": small, "learning_starts": 4, "batch_size": 4, "buffer_size": 40, "device": "cpu"},
    )
    before = [one.clone() for one in model.actor.parameters()]
    model.learn(10)
    assert any((one != other).any() for one, other in zip(before, model.actor.parameters()))
    action, _ = model.predict(env.reset()[0])
    assert action in env.action_space


@both_observations
@both_ways
def test_torchrl_steps_it(make, from_pixels, gl):
    torchrl_envs = pytest.importorskip("torchrl.envs")
    env = torchrl_envs.GymWrapper(make(from_pixels))
    rollout = env.rollout(3)
    assert rollout["observation"].shape == ((3, 3, 48, 48) if from_pixels else (3, 5))
    assert rollout["next", "reward"].shape == (3, 1)
    env.close()
