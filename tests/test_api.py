"""The package from Python."""

import errno
import io
import os
import runpy
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from rich.console import Console

import sacae
import sacae.api
from sacae import cli
from sacae import config as configs
from sacae.envs.process import obstacle
from sacae.errors import UserError
from sacae.training import playback
from sacae.training.start import Opening
from tests.training.runs import SHORT, SMALL_PIXELS, SMALL_STATE, rows

ROOT = Path(__file__).parents[1]
# Episodes of 20 steps.
TINY = {"domain": "cartpole", "task": "swingup", "action_repeat": 50, **SMALL_PIXELS, **SHORT, "device": "cpu"}
TINY |= {"num_train_steps": 400, "eval_every": 200, "checkpoint_every": 200}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A run from pixels."""
    return sacae.train(sacae.make_config(**TINY, work_dir=tmp_path_factory.mktemp("run") / "run"))


@pytest.fixture(scope="module")
def agent(result):
    return sacae.load_agent(result.folder, device="cpu")


def python(*words, stdin=None):
    """Runs Python at the root; returns the finished process."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *words]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)


# Settings.


def test_importing_the_package_and_making_settings_import_nothing_heavy():
    program = """
import sys, sacae
assert not {"numpy", "torch", "sacae.api"} & sys.modules.keys()
assert set(dir(sacae)) >= {"make_config", "train", "resume", "load_agent", "__version__"}
sacae.make_config(preset="laptop")
assert not {"torch", "mujoco", "gymnasium"} & sys.modules.keys()
"""
    done = python("-c", program)
    assert done.returncode == 0, done.stderr


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="sacae.*nothing"):
        _ = sacae.nothing


def test_settings_are_those_of_the_command_line():
    assert sacae.make_config(preset="laptop", seed=np.int64(3)) == configs.make(preset="laptop", seed=3)
    assert sacae.make_config(obs="state", critic_lr=1, work_dir="here").train.work_dir == Path("here")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batchsize": 3}, "no setting 'batchsize'; did you mean batch_size"),
        ({"batch_size": 1.5}, "batch_size is 1.5, but it must be a whole number"),
        ({"work_dir": b"runs"}, "work_dir is b'runs', but it must be a"),
        ({"batch_size": 0}, "batch_size is 0, but it must be at least 1"),
        ({"gamma": 0.9}, "no setting 'gamma'; did you mean discount"),
        ({"preset": "lap"}, "preset is lap, but it must be one of sac_ae, laptop"),
        ({"obs": "state", "num_filters": 3}, "this setting applies only if obs is pixels"),
        ({"agent": "td3", "init_temperature": 1.0}, "agent td3 does not have this setting"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        sacae.make_config(**settings)


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = {"work_dir": "~/run", "encoder_from": Path("~/other")}
    config = sacae.make_config(**settings)
    assert (config.work_dir, config.encoder.encoder_from) == (tmp_path / "run", tmp_path / "other")
    assert configs.make(**settings) == config
    with pytest.raises(UserError, match=f"run_dir is {tmp_path}/run, but there is no such folder"):
        sacae.load_agent("~/run")
    with pytest.raises(UserError, match=f"^{tmp_path}/run is not a run folder: it does not exist"):
        sacae.resume(Path("~/run"))


def test_a_run_is_given_by_its_folder(tmp_path):
    for call in (sacae.load_agent, sacae.resume):
        with pytest.raises(UserError, match="run is a Result, but it must be a path; a Result has it as folder"):
            call(sacae.api.Result(tmp_path, [], True))
        for path in ("", "a" * 5000):
            with pytest.raises(UserError, match="^run is (''|a+…a+), but it must be a path, not empty and without NUL"):
                call(path)


def test_the_version_is_the_packages(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"sacae {sacae.__version__}\n"
    assert sacae.__version__[0].isdigit()


# Training.


def test_a_training_returns_its_folder_and_its_evaluations(result):
    assert result.complete
    written = rows(result.folder / "eval.csv")
    assert [str(row["env_step"]) for row in result.evaluations] == [row["env_step"] for row in written]
    assert [str(row["episode_return"]) for row in result.evaluations] == [row["episode_return"] for row in written]


def test_a_training_without_made_settings_or_a_list_of_callbacks_is_refused():
    with pytest.raises(UserError, match="config is a dict, but it must be what sacae.make_config returns"):
        sacae.train({"domain": "cheetah"})
    with pytest.raises(UserError, match="callbacks is a Early, but it must be a list of objects"):
        sacae.train(sacae.make_config(**TINY), callbacks=Early())


class Early:
    """A callback that ends a run at once."""

    def on_checkpoint(self, folder):
        return False


def test_a_stopped_run_says_how_python_continues_it(tmp_path, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "sacae.cli")
    settings = SMALL_STATE | SHORT | {"device": "cpu", "num_train_steps": 20}
    sacae.train(sacae.make_config(**settings, work_dir=tmp_path / "run"), callbacks=[Early()])
    said = capsys.readouterr().out.replace("\n", "")
    assert f'run stopped; continue it with sacae.resume("{tmp_path / "run"}")' in said


def test_a_training_from_python_writes_what_the_command_line_does(tmp_path):
    settings = SMALL_STATE | SHORT | {"device": "cpu", "num_train_steps": 20}
    sacae.train(sacae.make_config(**settings, work_dir=tmp_path / "python"))
    words = [word for name, value in settings.items() for word in _flag(name, value)]
    assert cli.main(["train", *words, "--work-dir", str(tmp_path / "line")]) == 0
    ours, theirs = (configs.read(tmp_path / name / "config.yaml")["settings"] for name in ("python", "line"))
    ours["train"]["work_dir"] = theirs["train"]["work_dir"] = None
    assert ours == theirs
    returns = [[row["episode_return"] for row in rows(tmp_path / name / "eval.csv")] for name in ("python", "line")]
    assert returns[0] == returns[1]


def _flag(name, value):
    flag = name.replace("_", "-")
    return [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]


def test_a_callback_ends_a_run_that_resume_continues(tmp_path):
    class Stop:
        def on_evaluation(self, row):
            return row["env_step"] < 8

    settings = SMALL_STATE | SHORT | {"device": "cpu", "num_train_steps": 20, "eval_every": 8}
    stopped = sacae.train(sacae.make_config(**settings, work_dir=tmp_path / "run"), callbacks=[Stop()])
    assert not stopped.complete
    assert [row["env_step"] for row in stopped.evaluations] == [0, 8]
    with pytest.raises(UserError, match="a resumed run may change only"):
        sacae.resume(stopped.folder, batch_size=8)
    resumed = sacae.resume(stopped.folder, num_train_steps=24)
    assert resumed.complete
    assert [row["env_step"] for row in resumed.evaluations] == [16, 24]


def test_a_mistake_in_a_callback_is_found_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="on_epoch"):
        sacae.train(sacae.make_config(**TINY, work_dir=tmp_path / "run"), [type("Mine", (), {"on_epoch": print})()])
    assert not (tmp_path / "run").exists()


def script(folder, **settings):
    return f"import sacae\nsacae.train(sacae.make_config(**{TINY | {'work_dir': str(folder)} | settings}))\n"


def test_a_training_leaves_the_random_numbers_as_they_are(tmp_path):
    before = torch.get_rng_state()
    folder = tmp_path / "run"
    config = sacae.make_config(**SHORT | {"num_train_steps": 8}, env="Pendulum-v1", device="cpu", work_dir=folder)
    sacae.train(config)
    sacae.resume(folder, num_train_steps=16)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_script_without_a_guard_is_told_of_it(tmp_path):
    path = tmp_path / "unguarded.py"
    path.write_text(script(tmp_path / "run", overlap=True))
    done = python(str(path))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("sacae.errors.UserError: the script trains outside `if __name__ ==")
    assert done.stderr.count("Traceback") == 1
    assert not (tmp_path / "run").exists()


def test_a_script_from_standard_input_steps_its_environments_itself(tmp_path):
    done = python("-", stdin=script(tmp_path / "run", overlap=True))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("environments step in this process") == 1


def test_environments_step_in_a_process_that_may_start_no_others(monkeypatch):
    assert obstacle() == ""
    monkeypatch.setattr("sacae.envs.process.current_process", lambda: SimpleNamespace(daemon=True))
    assert obstacle() == "this process may start no others"


def test_environments_step_in_this_process_where_no_memory_can_be_shared(monkeypatch):
    def refuse(**_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/psm_1")

    monkeypatch.setattr("sacae.envs.worker.SharedMemory", refuse)
    assert obstacle() == "the system gives no shared memory (Permission denied)"


@pytest.mark.parametrize(("settings", "apart"), [({"env": "Pendulum-v1"}, False), ({"obs": "state"}, True)])
def test_what_a_notebook_may_have_defined_is_not_looked_for_in_other_processes(settings, apart, monkeypatch):
    monkeypatch.setattr(sys, "ps1", "In [1]: ", raising=False)
    console = Console(file=io.StringIO(), width=200)
    opening = Opening(console, torch.device("cpu"), None)
    assert opening.in_processes(sacae.make_config(**settings), wanted=True) is apart
    assert console.file.getvalue().count("environments step in this process") == (not apart)
    assert not opening.in_processes(sacae.make_config(**settings), wanted=False)


# The agent.


def test_an_agent_acts_on_one_observation_or_a_batch(agent):
    env = agent.make_env(seed=1)
    obs, _ = env.reset(seed=0)
    action = agent.predict(obs)
    assert (action.shape, action.dtype) == ((1,), np.float32)
    assert env.action_space.contains(action)
    batch = agent.predict(np.stack([obs, obs, obs]))
    assert batch.shape == (3, 1)
    np.testing.assert_allclose(batch, np.stack([action] * 3), rtol=1e-5)
    assert agent.predict(obs).tolist() == action.tolist()
    env.close()


def test_an_agent_explores_where_it_is_not_deterministic(agent):
    obs = np.zeros(agent.spec.obs_shape, np.uint8)
    agent.rng = np.random.default_rng(0)
    explored = [agent.predict(obs, deterministic=False).item() for _ in range(3)]
    agent.rng = np.random.default_rng(0)
    assert [agent.predict(obs, deterministic=False).item() for _ in range(3)] == explored
    assert len({*explored, agent.predict(obs).item()}) == 4


def test_its_environment_shows_what_it_was_trained_on(agent):
    env = agent.make_env()
    assert isinstance(env, gymnasium.Env)
    check_env(env, skip_render_check=True)
    first, _ = env.reset(seed=0)
    np.testing.assert_array_equal(first[:3], first[6:])
    assert first.shape == agent.spec.obs_shape
    second, *_ = env.step(np.ones(1, np.float32))
    np.testing.assert_array_equal(second[:6], first[3:])
    assert env.inner.max_episode_steps == 1000 // agent.config.task.action_repeat
    env.close()


def test_acting_in_its_environment_returns_what_eval_says(agent, result):
    console = Console(quiet=True)
    told = playback.play_back(result.folder, 1, 1, video=False, seed=5, device="cpu", console=console)
    env = agent.make_env()
    obs, _ = env.reset(seed=int(np.random.SeedSequence(5).generate_state(1)[0]))
    total, ended = 0.0, False
    while not ended:
        obs, reward, terminated, truncated, _ = env.step(agent.predict(obs))
        total, ended = total + reward, terminated or truncated
    env.close()
    assert total == told["episode_returns"][0]


def test_latent_and_reconstruction_have_the_shapes_of_one_or_many(agent):
    obs = np.random.default_rng(0).integers(0, 256, (2, *agent.spec.obs_shape), np.uint8)
    assert agent.latent(obs).shape == (2, 8)
    assert agent.latent(obs[0]).shape == (8,)
    assert agent.reconstruct(obs).dtype == np.uint8
    assert agent.reconstruct(obs).shape == obs.shape
    assert agent.reconstruct(obs[0]).shape == obs[0].shape


def test_what_reset_returns_is_no_observation(agent):
    with agent.make_env(seed=0) as env, pytest.raises(UserError, match="obs is a tuple of unequal parts"):
        agent.predict(env.reset())


@pytest.mark.parametrize("call", ["predict", "latent", "reconstruct"])
def test_observations_of_another_shape_or_dtype_are_refused(agent, call):
    with pytest.raises(UserError, match=r"shape \(3, 48, 48\), but this agent sees \(9, 48, 48\), or \(N, 9, 48, 48\)"):
        getattr(agent, call)(np.zeros((3, 48, 48), np.uint8))
    with pytest.raises(UserError, match="obs has dtype float64, but this agent sees uint8"):
        getattr(agent, call)(np.zeros((9, 48, 48)))


def test_an_agent_sets_its_arithmetic_around_its_own_calls_alone(agent, result, monkeypatch):
    set_to = []

    def computing_in(*what):
        set_to.append(what)
        return nullcontext()

    monkeypatch.setattr("sacae.training.trained.computing_in", computing_in)
    sacae.load_agent(result.folder, device="cpu")
    assert not set_to
    obs = np.zeros(agent.spec.obs_shape, np.uint8)
    for call in (agent.predict, agent.latent, agent.reconstruct, lambda obs: agent.act(obs[None])):
        call(obs)
        assert set_to.pop() == ("fp32", torch.device("cpu"))


@pytest.mark.parametrize("settings", [{"requires_grad": True}, {"dtype": torch.bfloat16}])
def test_a_tensor_that_is_no_array_is_refused(agent, settings):
    with pytest.raises(UserError, match=r"obs is a Tensor, but it must be one NumPy array \(9, 48, 48\): ") as error:
        agent.predict(torch.zeros(agent.spec.obs_shape, **settings))
    assert "\n" not in str(error.value)


def test_loading_an_agent_leaves_the_random_numbers_as_they_are(result):
    before = torch.get_rng_state()
    sacae.load_agent(result.folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_best_agent_and_those_of_a_step_load(result):
    assert sacae.load_agent(result.folder, best=True).env_step in (0, 200, 400)
    assert sacae.load_agent(str(result.folder), step=200).env_step == 200
    with pytest.raises(UserError, match="step is 7, but .* these environment steps: .*400"):
        sacae.load_agent(result.folder, step=7)
    with pytest.raises(UserError, match="best and step"):
        sacae.load_agent(result.folder, best=True, step=200)


def test_an_agent_from_state_reconstructs_nothing(tmp_path):
    config = sacae.make_config(**SMALL_STATE | SHORT | {"num_train_steps": 8}, device="cpu", work_dir=tmp_path / "run")
    agent = sacae.load_agent(sacae.train(config).folder)
    obs = np.zeros(agent.spec.obs_shape)
    assert agent.predict(obs).shape == (1,)
    np.testing.assert_array_equal(agent.latent(obs), obs)
    with pytest.raises(UserError, match="decoder is none: this agent reconstructs no images"):
        agent.reconstruct(obs)


# The examples.


def example(name):
    return runpy.run_path(str(ROOT / "examples" / name))


def test_the_example_of_an_early_stop_ends_a_run_that_does_not_improve(tmp_path, capsys):
    names = example("early_stop.py")
    stop = names["EarlyStop"](patience=2)
    assert [stop.on_evaluation({"episode_return": value}) for value in (1, 2, 2, 3, 1, 0)] == [True] * 5 + [False]
    names["main"](patience=0, **TINY | {"work_dir": tmp_path / "run", "preset": "sac_ae"})
    assert "stopped early, after 0 steps" in capsys.readouterr().out


def test_the_example_of_a_custom_metric_adds_a_row_at_each_checkpoint(tmp_path):
    example("custom_metric.py")["main"](**TINY | {"work_dir": tmp_path / "run", "preset": "sac_ae"})
    lines = (tmp_path / "run" / "jerkiness.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["0", "200", "400"]


def test_the_example_of_optuna_ends_the_runs_that_fall_behind(tmp_path):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names = example("optuna_pruning.py")
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.ThresholdPruner(lower=-1e9))

    def objective(trial, **more):
        settings = TINY | {"work_dir": tmp_path / str(trial.number), "preset": "sac_ae"}
        return names["objective"](trial, **settings | more)

    study.optimize(objective, n_trials=1)
    study.pruner = optuna.pruners.ThresholdPruner(lower=1e9, n_warmup_steps=200)
    study.optimize(objective, n_trials=1)
    complete, pruned = study.trials
    assert complete.state is optuna.trial.TrialState.COMPLETE
    assert [*complete.intermediate_values] == [0, 200, 400]
    assert complete.value == complete.intermediate_values[400]
    assert pruned.state is optuna.trial.TrialState.PRUNED
    assert [*pruned.intermediate_values] == [0, 200]
    written = configs.read(tmp_path / "0" / "config.yaml")["settings"]["agent"]
    assert written["critic_lr"] == complete.params["critic_lr"]


def test_the_example_of_wandb_logs_a_video_of_each_evaluation(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    wandb.teardown()  # The session of an earlier test keeps that test's settings.
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    settings = TINY | {"num_train_steps": 100, "save_video": True, "preset": "sac_ae", "work_dir": tmp_path / "run"}
    example("wandb_videos.py")["main"](**settings)
    assert len([*tmp_path.glob("wandb/offline-run-*/files/media/videos/video_*.mp4")]) == 2
