"""Named ablations: valid arms, what is refused, and real runs that finish, fail, stop and go on."""

import errno
import itertools
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from sacae import cli
from sacae import config as configs
from sacae.commands.parsing import given_settings, parse_with_settings, shown
from sacae.commands.train import Train
from sacae.errors import UserError
from sacae.experiments import board as states
from sacae.experiments import local, plan, process, tasks
from sacae.experiments.ablations import ABLATIONS
from sacae.experiments.board import read_progress
from sacae.experiments.plan import Left, what_is_left
from sacae.training import run_folder
from tests.experiments.conftest import (
    CENTRING,
    CENTRING_FOLDER,
    ROOT,
    TINY,
    TINY_PIXELS,
    resumptions,
    rows,
    sacae,
    start,
    wait_for,
)

ARMS = [(name, arm) for name, ablation in ABLATIONS.items() for arm in ablation.arms]


@pytest.mark.parametrize(("name", "arm"), ARMS)
def test_every_arm_makes_a_valid_configuration(name, arm):
    settings = ABLATIONS[name].arms[arm]
    config = configs.make(**settings)
    assert {setting: config.flat()[setting] for setting in settings} == settings
    assert re.fullmatch(r"[\w=.,-]+", arm), "an arm is a folder's name"


@pytest.mark.parametrize("name", ABLATIONS)
def test_no_two_arms_of_an_ablation_are_the_same_run(name):
    made = {arm: configs.make(**settings) for arm, settings in ABLATIONS[name].arms.items()}
    assert len(made) > 1
    for a, b in itertools.combinations(made, 2):
        assert made[a] != made[b], (a, b)


def test_the_documentation_lists_every_ablation_and_its_arms():
    page = (ROOT / "docs" / "ablations.md").read_text()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:3] == "| `"]
    listed = {name.strip("`"): (question, arms) for name, question, arms in cells}
    expected = {
        name: (ablation.question, ", ".join(f"`{arm}`" for arm in ablation.arms))
        for name, ablation in ABLATIONS.items()
    }
    assert listed == expected


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ["there is no ablation ''", "decoder, autoencoder"]),
        (["decodr"], ["there is no ablation 'decodr'", "did you mean decoder"]),
        (["decoder", "--tasks", "cheeta_run"], ["'cheeta_run'", "did you mean cheetah_run"]),
        (["decoder", "--tasks", "Pendulm-v1"], ["env is Pendulm-v1", "did you mean Pendulum-v1"]),
        (["decoder", "--tasks", ","], ["tasks is empty"]),
        (["decoder", "--arms", ","], ["arms is empty", "rae, none"]),
        (["decoder", "--arms", "ray"], ["no arm 'ray'", "rae, none"]),
        (["decoder", "--seeds", "0"], ["seeds is 0", "from 1 to"]),
        (["decoder", "--seed", "2"], ["seed is 2", "--seeds"]),
        (["decoder", "--task=walk"], ["task is walk", "--tasks"]),
        (["decoder", "--decoder", "rae"], ["decoder is rae", "arm rae", "leave --decoder out"]),
        (["decoder", "--obs", "state"], ["arm rae", "decoder is rae", "none if obs is state"]),
        (["decoder", "--exploration-noise", "1"], ["arm rae", "exploration_noise is 1.0, but agent sac does", "td3"]),
        (["decoder", "--vae-beta", "1"], ["arm rae", "vae_beta is 1.0, but decoder is rae"]),
        (["decoder", "--agent", "sca"], ["agent is sca", "sac"]),
        (["decoder", "--batch-sise", "8"], ["--batch-sise", "did you mean --batch-size"]),
        (["decoder", "--batch-size", "0"], ["batch_size is 0", "at least 1"]),
        (["decoder", "--parallel", "0"], ["parallel is 0", "from 1 to"]),
        (["decoder", "--launcher", "mars"], ["mars", "local", "ray"]),
    ],
)
def test_a_mistake_is_one_line_with_status_2_and_writes_nothing(argv, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["ablate", *argv]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("sacae ablate: error: ")
    assert all(word in err for word in words), err
    assert not list(tmp_path.iterdir())


def test_a_task_of_the_suite_is_split_where_its_domain_ends():
    assert tasks.settings_of("ball_in_cup_catch") == {"domain": "ball_in_cup", "task": "catch"}
    assert tasks.settings_of("cartpole_swingup_sparse") == {"domain": "cartpole", "task": "swingup_sparse"}
    assert tasks.settings_of("Pendulum-v1") == {"env": "Pendulum-v1"}


def make_run(root: Path, **settings) -> plan.Run:
    given = {"obs": "state", "num_train_steps": 100} | settings
    (run,) = plan.plan({"a": {}}, ["Pendulum-v1"], [1], given, root)
    return run


def save(run: plan.Run, **settled) -> None:
    """Makes the folder of an interrupted run. settled: settings as the run chose them."""
    run_folder.create(run.config.replace(device="cpu", **settled))
    checkpoint_of(run)


def checkpoint_of(run: plan.Run) -> None:
    (run.folder / "checkpoint").mkdir()
    (run.folder / "checkpoint" / "state.pt").touch()


def test_settings_that_were_given_reach_the_run_as_they_are(tmp_path):
    given = {"critic_lr": 3e-05, "learn_temperature": False, "clip_reward": True, "replay_capacity": None}
    run = make_run(tmp_path, **given, num_threads=2)
    words = process.command(run, resume=False)[4:]
    made = configs.make(**given_settings(words, configs.every_setting()))
    assert made == run.config
    assert made.replace(**parse_with_settings(Train, shown(configs.make(obs="state")), words, "sacae")[1]) == made


@pytest.mark.parametrize(("flags", "default"), [("--preset laptop", "48"), ("--agent td3", "1e-4|0.0001")])
def test_help_shows_the_defaults_that_the_runs_have(flags, default, capsys):
    with pytest.raises(SystemExit):
        cli.main(["ablate", "depth", *flags.split(), "--help"])
    name = "--image-size" if "laptop" in flags else "--actor-lr"
    text = " ".join(capsys.readouterr().out.replace("│", "").split())
    assert re.search(rf"{name} .{{0,400}}?\(default: ({default})\)", text)


def test_a_setting_goes_to_the_arms_whose_head_has_it(tmp_path):
    given = {"exploration_noise": 0.2, "feature_dim": 8}
    runs = plan.plan(ABLATIONS["heads"].arms, ["cheetah_run"], [1], given, tmp_path)
    assert [run.arm for run in runs if "exploration_noise" in run.settings] == ["td3", "ddpg", "drqv2"]
    assert all(run.config.encoder.feature_dim == 8 for run in runs)
    runs = plan.plan(ABLATIONS["observation"].arms, ["cheetah_run"], [1], {"feature_dim": 8}, tmp_path)
    assert [run.arm for run in runs if "feature_dim" in run.settings] == ["pixels-rae", "pixels-none"]


@pytest.mark.parametrize("preset", ["laptop", "drq", "drqv2"])
def test_a_preset_for_pixels_gives_an_arm_from_state_what_applies_to_it(preset, tmp_path):
    runs = plan.plan(ABLATIONS["observation"].arms, ["cheetah_run"], [1], {"preset": preset}, tmp_path)
    pixels, _, state = (run.config for run in runs)
    assert pixels.train.preset == preset
    for name in ("batch_size", "num_train_steps", "initial_updates"):
        assert state.flat()[name] == pixels.flat()[name]
    with pytest.raises(UserError, match=f"preset is {preset}, but it must be sac_ae if obs is state"):
        plan.plan({"state": {"obs": "state"}}, ["cheetah_run"], [1], {"preset": preset}, tmp_path)


def test_runs_of_one_seed_come_before_those_of_the_next(tmp_path):
    arms = {"a": {"batch_size": 8}, "b": {"batch_size": 16}}
    runs = plan.plan(arms, ["Pendulum-v1", "CartPole-v1"], [1, 2], {"agent": "sac"}, tmp_path)
    assert [run.seed for run in runs] == [1] * 4 + [2] * 4
    assert runs[3].folder == tmp_path / "CartPole-v1" / "b" / "1"
    assert runs[3].config.replay.batch_size == 16


def test_a_folder_is_new_interrupted_or_refused_by_what_it_holds(tmp_path):
    run = make_run(tmp_path)
    assert what_is_left(run) is Left.ALL
    run_folder.create(run.config.replace(device="cpu", replay_capacity=100))
    assert what_is_left(run) is Left.ALL, "it ended before its first checkpoint"
    checkpoint_of(run)
    assert what_is_left(run) is Left.REST
    assert what_is_left(replace(run, config=run.config.replace(num_threads=3))) is Left.REST
    with pytest.raises(UserError, match="batch_size is 7, but the run in .* has 256"):
        what_is_left(replace(run, config=run.config.replace(batch_size=7)))


def test_what_a_run_settled_itself_does_not_count_as_another_setting(tmp_path):
    (dqn,) = plan.plan({"a": {}}, ["CartPole-v1"], [1], {"agent": "dqn", "num_train_steps": 100}, tmp_path)
    save(dqn, discretisation="none", replay_capacity=100)
    assert what_is_left(dqn) is Left.REST
    given = {"preset": "drq", "num_train_steps": 1_000_000}
    (drq,) = plan.plan({"a": {}}, ["cheetah_run"], [1], given, tmp_path)
    save(drq, replay_capacity=25_000)  # as a run of 100,000 steps that was extended
    assert what_is_left(drq) is Left.REST
    (other,) = plan.plan({"a": {}}, ["cheetah_run"], [1], given | {"replay_capacity": 9000}, tmp_path)
    with pytest.raises(UserError, match="replay_capacity is 9000, but the run in .* has 25000"):
        what_is_left(other)
    sparse = make_run(tmp_path)
    save(sparse, sparse_reward=0.5)
    with pytest.raises(UserError, match="sparse_reward is None, but the run in .* has 0.5"):
        what_is_left(sparse)


def test_an_interrupted_run_takes_what_a_continued_experiment_may_change(tmp_path):
    changed = {"checkpoint_every": 100, "save_replay": False, "device": "cpu"}
    words = process.command(make_run(tmp_path, batch_size=7, **changed), resume=True)[6:]
    assert words[0] == "--resume"
    assert given_settings(words[1:], configs.every_setting()) == changed


def test_a_folder_that_is_no_run_is_refused_and_left_alone(tmp_path):
    run = make_run(tmp_path)
    run.folder.mkdir(parents=True)
    (run.folder / "thesis.txt").write_text("")
    with pytest.raises(UserError, match="not a run folder"):
        what_is_left(run)
    assert (run.folder / "thesis.txt").exists()


def test_a_run_at_work_is_not_started_a_second_time(tmp_path):
    run = make_run(tmp_path)
    run.log.parent.mkdir(parents=True)
    with open(run.log, "ab") as log:
        process._lock(log, run)
        with pytest.raises(process.Busy, match="at work in another process"):
            process.RunProcess(run)


def test_a_log_on_a_file_system_without_locks_is_written_all_the_same(tmp_path, monkeypatch):
    run = make_run(tmp_path)
    run.log.parent.mkdir(parents=True)

    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(process.fcntl, "flock", flock)
    with open(run.log, "ab") as log:
        process._lock(log, run)


def test_progress_leaves_out_a_row_that_is_half_written(tmp_path):
    (tmp_path / "train.csv").write_text("env_step,env_steps_per_second\n10,2.5\n20,3.")
    (tmp_path / "eval.csv").write_text("env_step,episode_return\n0,1.0\n10,4.0\n10,6.0\n")
    assert read_progress(tmp_path) == states.Progress(10, 5.0, 2.5)
    assert read_progress(tmp_path / "nothing") == states.Progress()


def test_the_speed_of_several_environments_is_that_of_the_row_that_has_one(tmp_path):
    (tmp_path / "train.csv").write_text("env_step,env_steps_per_second\n40,82.5\n40,0.0\n40,0.0\n")
    assert read_progress(tmp_path) == states.Progress(40, None, 82.5)


DAMAGE = [
    b"", b"\n", b"\0" * 100, b"\xff\xfe", b"step,reward\n1,2\n", b"env_step\n1\n",
    b"env_step,episode_return,env_steps_per_second\n" + b"x" * 200_000 + b"\n",
    b"env_step,episode_return,env_steps_per_second\n10,inf,nan\n",
]  # fmt: skip


@pytest.mark.parametrize("name", ["train.csv", "eval.csv"])
@pytest.mark.parametrize("content", DAMAGE)
def test_the_progress_of_a_damaged_file_is_what_can_still_be_read(content, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    progress = read_progress(tmp_path)
    assert progress.env_step in (0, 1, 10)
    assert (progress.evaluation, progress.steps_per_second) == (None, None)


@pytest.mark.parametrize("damaged", [b'"', b"20,abc,1", b"nan,7,1", b"20,9", b"20,9,1,1", b"\xff,\0,", b"-inf,inf,1"])
def test_a_damaged_row_does_not_hide_the_others(damaged, tmp_path):
    rows = [b"env_step,episode_return,env_steps_per_second", damaged, b"10,4.0,2.5", b""]
    for name in ("train.csv", "eval.csv"):
        (tmp_path / name).write_bytes(b"\r\n".join(rows))
    assert read_progress(tmp_path) == states.Progress(10, 4.0, 2.5)


def test_gpus_are_shared_out_and_threads_divided(monkeypatch):
    monkeypatch.setattr(local, "_cores", lambda: 8)
    monkeypatch.setattr(local, "visible_gpus", lambda: ["0", "3"])
    assert local.places(None, "auto") == [local.Place("0", 4), local.Place("3", 4)]
    assert [place.gpu for place in local.places(4, "cuda")] == ["0", "3", "0", "3"]
    assert local.places(3, "cpu") == [local.Place(None, 2)] * 3
    monkeypatch.setattr(local, "visible_gpus", list)
    assert local.places(None, "auto") == [local.Place(None, 0)]


def test_an_ablation_runs_every_arm_and_the_next_time_none(tmp_path):
    words = ["ablate", "decoder", "--tasks", CENTRING, "--seeds", 1, "--parallel", 2, "--work-dir", tmp_path]
    words += [*TINY_PIXELS, "--num-train-steps", 40, "--eval-every", 20]
    status, out, err = sacae(*words)
    assert status == 0, out + err
    assert "2 finished" in out
    folders = [tmp_path / CENTRING_FOLDER / arm / "1" for arm in ("rae", "none")]
    for folder, arm in zip(folders, ("rae", "none")):
        config = configs.load(folder / "config.yaml", configs.Config())
        assert (config.autoencoder.decoder, config.train.seed, config.train.num_train_steps) == (arm, 1, 40)
        assert rows(folder / "eval.csv") == 3

    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    status, out, _ = sacae(*words)
    assert (status, "2 skipped" in out) == (0, True), out
    status, _, err = sacae(*words, "--batch-size", 5)
    assert status == 2
    assert err.count("\n") == 1
    assert f"batch_size is 5, but the run in {folders[0]} has 4" in err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == files


def test_a_failed_run_is_reported_with_its_last_error_and_the_others_go_on(tmp_path):
    status, out, err = sacae(
        "ablate", "heads", "--arms", "td3,dqn", "--tasks", "CartPole-v1", "--seeds", 1, "--work-dir", tmp_path,
        *TINY, "--num-train-steps", 40,
    )  # fmt: skip
    assert status == 1, out + err
    assert "1 finished, 1 failed" in out
    assert "CartPole-v1 td3 1: sacae train: error: " in out
    assert rows(tmp_path / "CartPole-v1" / "dqn" / "1" / "eval.csv") == 2


def test_ctrl_c_stops_every_run_with_a_checkpoint_and_the_same_command_goes_on(tmp_path):
    words = ["ablate", "heads", "--arms", "sac,td3", "--tasks", "Pendulum-v1", "--seeds", 1, "--parallel", 2]
    words += ["--work-dir", tmp_path, *TINY, "--num-train-steps", 1600, "--eval-every", 1600]
    words += ["--checkpoint-every", 100_000]
    folders = [tmp_path / "Pendulum-v1" / arm / "1" for arm in ("sac", "td3")]
    command = start(*words)
    wait_for(lambda: all(rows(folder / "train.csv") > 0 for folder in folders))
    command.send_signal(signal.SIGINT)
    out, err = command.communicate(timeout=60)
    assert command.returncode == 130, out + err
    assert "2 stopped" in out
    assert [resumptions(folder) for folder in folders] == [0, 0]

    status, out, err = sacae(*words)
    assert status == 0, out + err
    assert "2 interrupted" in out
    assert "2 finished" in out
    assert [resumptions(folder) for folder in folders] == [1, 1]
    assert [rows(folder / "train.csv") for folder in folders] == [1600 // 200] * 2
