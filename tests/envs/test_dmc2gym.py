"""The stand-in for dmc2gym in docs/environments.md, called as RAD, CURL and DrQ call dmc2gym."""

import re
from collections import deque
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "environments.md"
CARTPOLE = {"domain_name": "cartpole", "task_name": "swingup", "visualize_reward": False, "frame_skip": 8}


class Wrapper:
    """As gym.Wrapper before 0.26: private attributes of the inner environment are refused."""

    def __init__(self, env):
        self.env = env
        self.action_space, self.observation_space = env.action_space, env.observation_space
        self.reward_range, self.metadata = env.reward_range, env.metadata

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(f"attempted to get missing private attribute {name!r}")
        return getattr(self.env, name)

    def step(self, action):
        return self.env.step(action)

    def render(self, mode="human", **kwargs):
        return self.env.render(mode, **kwargs)

    def seed(self, seed=None):
        return self.env.seed(seed)


class FrameStack(Wrapper):
    """As utils.FrameStack of these repositories."""

    def __init__(self, env, k):
        super().__init__(env)
        self._frames = deque([], maxlen=k)
        self.shape = (env.observation_space.shape[0] * k, *env.observation_space.shape[1:])
        self._max_episode_steps = env._max_episode_steps

    def reset(self):
        obs = self.env.reset()
        self._frames.extend([obs] * self._frames.maxlen)
        return np.concatenate(self._frames, axis=0)

    def step(self, action):
        obs, reward, done, info = self.env.step(action)
        self._frames.append(obs)
        return np.concatenate(self._frames, axis=0), reward, done, info


@pytest.fixture(scope="module")
def make():
    (code,) = re.findall(
        r"^```python\n(from sacae import envs\n\n\nclass DMC2Gym.*?)^```", PAGE.read_text(), re.M | re.S
    )
    names = {}
    exec(code, names)
    return names["make"]


def test_a_training_from_pixels_runs_an_episode_and_films_it(make, gl):
    env = make(**CARTPOLE, seed=1, from_pixels=True, height=100, width=100)
    env.seed(1)
    assert env.observation_space.shape == (3, 100, 100)
    env = FrameStack(env, k=3)
    env.seed(1)
    assert env._max_episode_steps == 125
    assert env.action_space.low.min() >= -1
    assert env.action_space.high.max() <= 1
    obs, done, episode_step = env.reset(), False, 0
    assert obs.shape == env.shape
    while not done:
        obs, reward, done, info = env.step(env.action_space.sample())
        done_bool = 0 if episode_step + 1 == env._max_episode_steps else float(done)
        episode_step += 1
        assert 0 <= reward <= 8
    assert episode_step == 125
    assert done_bool == 0
    assert info["discount"] == 1
    frame = env.render(mode="rgb_array", height=64, width=48, camera_id=0)
    assert (frame.shape, frame.dtype) == ((64, 48, 3), np.uint8)
    assert env.env.physics.named.data.qpos["slider"].shape == (1,)


def test_a_training_from_state_draws_the_same_episodes_from_the_same_seed(make):
    first, second = (make(**CARTPOLE, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.reset(), second.reset())
    for env in (first, second):
        env.seed(5)
    action = first.action_space.sample()
    np.testing.assert_array_equal(action, second.action_space.sample())
    for one, other in zip(first.step(action), second.step(action)):
        np.testing.assert_array_equal(one, other)
