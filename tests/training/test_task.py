"""The task that environments are made from, in runs of any kind."""

from baselines.settings import make
from baselines.settings.q_learning import QLearningSettings
from sacae import config as configs
from sacae.groups import TaskConfig
from sacae.training.task import full_task


def test_a_task_of_an_agent_stays_as_it_is():
    config = configs.make(domain="walker", task="walk", image_size=48)
    assert full_task(config) is config.task


def test_a_baselines_task_brings_what_it_does_not_let_its_user_choose():
    task = full_task(make(QLearningSettings, env="CartPole-v1", action_repeat=2))
    assert task == TaskConfig(env="CartPole-v1", action_repeat=2, obs="state", frame_stack=1, discretisation="none")
