"""Whole runs whose agents see images and, beside them, a vector: resume, playback, the agent from Python."""

import io

import numpy as np
import pytest
from rich.console import Console

from sacae import load_agent
from sacae.errors import UserError
from sacae.experiments.show import show
from sacae.training.evaluation import evaluate
from sacae.training.playback import play_back
from tests.training import runs
from tests.training.runs import assert_same_run, in_burst, in_parts

SMALL = {"seed_steps": 12, "num_train_steps": 60, "eval_every": 60, "checkpoint_every": 30}
PAIR = {"env": "tests.envs.tiny:TinyPair-v0"}
CARTPOLE = {"domain": "cartpole", "task": "swingup", "action_repeat": 4, "task_kwargs": ("time_limit=0.4",)}


@pytest.fixture
def make_training(no_curves, tmp_path):
    def make(folder, resume=False, **settings):
        if resume:
            return runs.start(tmp_path / folder, True, **settings)
        return runs.start(tmp_path / folder, False, "pixels+state", **(SMALL | settings))

    return make


@pytest.mark.parametrize(
    ("task", "settings", "of_parts"),
    [
        (PAIR, {}, {"overlap": True}),
        (PAIR, {"num_envs": 2, "n_step": 3, "augment": "shift", "replay_capacity": 30}, {}),
        (CARTPOLE, {"num_train_steps": 120}, {}),
    ],
)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(task, settings, of_parts, make_training, gl):
    whole = make_training("whole", **task, **settings)
    assert whole.train()
    batch = whole.learner.replay.sample(64, np.random.default_rng(0))
    assert batch.state.shape == batch.next_state.shape
    assert batch.state.std(0).min() > 0

    def parts(resume=False):
        return make_training("parts", resume, **task, **(settings | of_parts))

    assert_same_run(in_parts(parts, [in_burst, lambda training: training.run.agent_step >= 21]), whole)


@pytest.mark.parametrize(("task", "length"), [(PAIR, 6), (CARTPOLE, 5)])
def test_a_run_is_played_back_shown_and_loaded(task, length, make_training, gl):
    training = make_training("run", **task)
    assert training.run.config.variant == "sac-rae+state"
    assert training.train()
    folder, console = training.run.folder, Console(file=io.StringIO(), width=200)
    results = [play_back(folder, 3, count, task is CARTPOLE, 7, "cpu", console) for count in (1, 2)]
    np.testing.assert_allclose(results[0]["episode_returns"], results[1]["episode_returns"], rtol=1e-4)
    assert show(folder, False, None, 1, "cpu", console).exists()

    agent = load_agent(folder, device="cpu")
    env = agent.make_env(seed=1)
    obs, _ = env.reset(seed=1)
    assert obs in env.observation_space
    assert obs["pixels"].shape == (9, 48, 48)
    assert obs["state"].shape == (length,)
    action = agent.predict(obs)
    assert env.step(action)[0] in env.observation_space
    np.testing.assert_allclose(agent.predict({name: part[None] for name, part in obs.items()}), [action], rtol=1e-4)
    assert not np.array_equal(agent.predict(obs | {"state": obs["state"] + 5}), action)
    assert agent.reconstruct(obs).shape == obs["pixels"].shape
    assert agent.latent(obs).shape == (8,)
    with pytest.raises(UserError, match="this agent sees a dictionary of pixels and state"):
        agent.predict(obs["pixels"])
    with pytest.raises(UserError, match=r"obs\['state'\] has shape"):
        agent.predict(obs | {"state": obs["state"][:-1]})
    env.close()


def test_an_evaluation_shows_the_agent_what_its_environment_shows(make_training):
    training = make_training("run", **PAIR)
    assert training.train()
    agent = load_agent(training.run.folder, device="cpu")
    env = agent.make_env(seed=1)
    (episode,) = evaluate(agent, [env.inner], [5])
    obs, _ = env.reset(seed=5)
    episode_return, ended = 0.0, False
    while not ended:
        obs, reward, terminated, truncated, _ = env.step(agent.predict(obs))
        episode_return, ended = episode_return + reward, terminated or truncated
    assert episode.length > 2
    assert episode.episode_return == episode_return


def test_causal_entropy_is_refused(make_training):
    with pytest.raises(UserError, match="causal_entropy is absolute, but it must be off if obs is pixels"):
        make_training("run", **PAIR, causal_entropy="absolute")
