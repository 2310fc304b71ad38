"""What `sacae.envs.contract` declares, every environment and every stepper offers."""

import contextlib
import functools

import numpy as np
import pytest

from sacae import config as configs
from sacae import envs
from sacae.envs.contract import Env, EnvInfo, Stepper

SETTINGS = (
    {"domain": "cartpole", "task": "swingup", "obs": "state"},
    {"domain": "cartpole", "task": "swingup", "obs": "state", "agent": "dqn", "discretisation": "factored"},
    {"env": "Pendulum-v1", "obs": "state"},
    {"env": "Pendulum-v1", "obs": "state", "agent": "dqn", "discretisation": "joint"},
)


def make(settings):
    return envs.from_config(configs.make(**settings).task, seed=1)


def members(protocol):
    """Names that a protocol declares."""
    return {name for name in {*vars(protocol), *protocol.__annotations__} if not name.startswith("_")}


@pytest.mark.parametrize("settings", SETTINGS)
def test_an_environment_offers_what_the_contract_declares(settings):
    env = make(settings)
    assert [name for name in members(Env) if not hasattr(env, name)] == []


@pytest.mark.parametrize("in_processes", [False, True])
def test_a_stepper_offers_what_the_contract_declares(in_processes):
    with contextlib.closing(envs.make_stepper([functools.partial(make, SETTINGS[2])], in_processes)) as stepper:
        assert [name for name in members(Stepper) if not hasattr(stepper, name)] == []
        # Environments in processes of their own are out of reach.
        assert len(stepper.envs) == (0 if in_processes else 1)


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_last_info_is_that_of_the_latest_step(settings):
    env = make(settings)
    assert env.last_info == {}
    env.reset()
    *_, info = env.step(np.zeros(env.action_space.shape, env.action_space.dtype))
    assert env.last_info == info


def test_only_deepmind_control_reports_a_physical_state():
    for settings in SETTINGS[:2]:
        env = make(settings)
        env.reset()
        assert env.state() in env.state_space
        assert env.original is None
        assert EnvInfo.of(env, keep_state=True).state_dim == 5
    for settings in SETTINGS[2:]:
        env = make(settings)
        assert env.state_space is None
        for ask in (env.state, env.physics_state, env.physics_coordinates):
            with pytest.raises(NotImplementedError, match="Pendulum-v1 does not report its physical state"):
                ask()
        with pytest.raises(ValueError, match="keep_state is True"):
            EnvInfo.of(env, keep_state=True)
