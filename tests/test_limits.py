"""What no setting and no option may be: infinite, too large to count, too long to name; each is refused in one line."""

import pytest

from sacae import cli
from sacae import config as configs
from sacae.declaration import AtLeast, Declared
from sacae.errors import UserError
from sacae.experiments import plan, sweep
from sacae.limits import FilePath, Text

HUGE = str(10**22)
LONG = "a" * 300


def refused(capsys, *argv):
    """The one line with which a command refuses its words."""
    assert cli.main(list(argv)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--actor-lr", "inf"], "actor_lr is inf, but it must be a finite number"),
        (["--critic-lr", "nan"], "critic_lr is nan, but it must be above 0"),
        (["--log-std-min=-inf"], "log_std_min is -inf, but it must be a finite number"),
        (["--critic-beta1", "1.0"], "critic_beta1 is 1.0, but it must be at least 0 and below 1"),
        (["--num-threads", HUGE], f"num_threads is {HUGE}, but it must be from 0 to 1024"),
        (["--agent", "sac_v", "--reward-scale", "inf"], "reward_scale is inf, but it must be a finite number"),
        (["--sparse-reward", "nan"], "sparse_reward is nan, but it must be a finite number"),
        (["--seed", HUGE], f"seed is {HUGE}, but it must be from 0 to 4294967295"),
        (["--camera-id", HUGE], f"camera_id is {HUGE}, but it must be a whole number"),
        (["--num-envs", "1000000"], "num_envs is 1000000, but it must be from 1 to 1024"),
        (["--num-eval-envs", "1000000"], "num_eval_envs is 1000000, but it must be from 1 to 1024"),
        (["--num-eval-episodes", HUGE], "but it must be from 1 to 100000"),
        (["--domain", LONG], "but it must be a name of 1 to 240 bytes"),
        (["--domain", LONG[:150], "--task", LONG[:150]], "but it must be shorter"),
        (["--env", ""], "env is '', but it must be a name"),
        (["--env", LONG], "but it must be a name of 1 to 240 bytes"),
        (["--domain", "\x1b[31mred"], "without control characters"),
        (["--work-dir", ""], "work_dir is '', but it must be a path"),
        (["--work-dir="], "work_dir is '', but it must be a path"),
        (["--work-dir", LONG], "but it must be a path"),
        (["--work-dir", "a/" * 2500], "but it must be a path"),
        (["--work-dir", "a\0b"], "but it must be a path"),
        (["--resume", "--work-dir", ""], "work_dir is '', but it must be a path"),
        (["--encoder-from", ""], "encoder_from is '', but it must be a path"),
        (["--num-train-steps", "x" * 5000], "is not a number"),
    ],
)
def test_a_setting_beyond_every_limit_is_refused_before_anything_is_written(argv, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = refused(capsys, "train", *argv)
    assert words in error
    assert len(error) < 1000
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["eval", ""], "run_dir is '', but it must be a path"),
        (["eval", LONG], "but it must be a path"),
        (["eval", "a\0b"], "but it must be a path"),
        (["eval", ".", "--seed", "-1"], "seed is -1, but it must be from 0 to 4294967295"),
        (["eval", ".", "--episodes", str(10**12)], "episodes is 1000000000000, but it must be from 1 to 100000"),
        (["show", ".", "--seed", HUGE], "but it must be from 0 to 4294967295"),
        (["probe", ""], "run_dirs is '', but it must be a path"),
        (["probe", ".", "--max-steps", HUGE], "but it must be from 1 to 100000"),
        (["report", ".", "--out", ""], "out is '', but it must be a path"),
        (["demo", "--seed", "-1"], "seed is -1, but it must be from 0 to 4294967295"),
        (["train", "--seed", "5000000000"], "seed is 5000000000, but it must be from 0 to 4294967295"),
        (["demo", "--work-dir", ""], "work_dir is '', but it must be a path"),
        (["sweep", "--grid", "discount=0.9", "--work-dir", ""], "work_dir is '', but it must be a path"),
        (["sweep", "--file", ""], "file is '', but it must be a path"),
        (["ablate", "decoder", "--parallel", "99999999999"], "parallel is 99999999999, but it must be from 1 to 1024"),
        (["ablate", "decoder", "--seeds", "99999999999"], "seeds is 99999999999, but it must be from 1 to 10000"),
        (["ablate", "decoder", "--cpus-per-run", "inf"], "cpus_per_run is inf, but it must be a finite number"),
        (["ablate", "decoder", "--retries", "5"], "retries is 5, but launcher is local; leave --retries out, or give"),
        (["ablate", "decoder", "--launcher", "ray", "--parallel", "2"], "parallel is 2, but launcher is ray; leave"),
    ],
)
def test_an_option_beyond_every_limit_is_refused_before_anything_is_written(argv, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in refused(capsys, *argv)
    assert not list(tmp_path.iterdir())


def test_a_grid_of_more_runs_than_an_experiment_may_have_is_refused_before_they_are_made():
    grid = {name: list(range(1, 101)) for name in ("batch_size", "n_step", "reset_every")}
    with pytest.raises(UserError, match="grid has 1,000,000 combinations, but an experiment has at most 10,000"):
        sweep.arms_of(grid)


def test_an_experiment_of_too_many_runs_is_refused_before_they_are_made():
    arms = {str(i): {"batch_size": i + 1} for i in range(101)}
    with pytest.raises(UserError, match="101 arms, 1 tasks and 100 seeds make 10,100 runs, but"):
        plan.plan(arms, ["Pendulum-v1"], range(100), {}, plan.Path("root"))


def test_an_arm_whose_name_is_too_long_for_a_folder_is_refused():
    with pytest.raises(UserError, match="its folder must be a path"):
        plan.plan({LONG: {}}, ["Pendulum-v1"], [1], {}, plan.Path("root"))


def test_a_setting_has_the_limit_of_its_type_beside_its_bounds():
    one = Declared("count", int | None, None, "", (AtLeast(1),))
    assert one.broken_by(None) is None
    assert one.broken_by(5) is None
    assert one.broken_by(0).allowed == "at least 1"
    assert one.broken_by(2**63).allowed.startswith("a whole number")
    several = Declared("goals", tuple[float, ...], (), "", ())
    assert several.broken_by((1.0, 2.0)) is None
    assert several.broken_by((1.0, float("nan"))).allowed == "a finite number"


@pytest.mark.parametrize("name", ["runs/ä", "x[/b]y", "$\\frac$", "\udcff", "a b", "é" * 127])
def test_unusual_paths_are_allowed(name):
    assert FilePath().holds(plan.Path(name))


@pytest.mark.parametrize("text", ["", "\0", "\n", "\x1b[1m", "é" * 121, "\u202e"])
def test_text_that_cannot_name_a_file_or_changes_the_terminal_is_no_name(text):
    assert not Text().holds(text)


@pytest.mark.parametrize("agent", configs.HEADS)
def test_the_defaults_of_every_setting_keep_within_its_limits(agent):
    settings = configs.make(agent=agent)
    values = settings.flat()
    assert not [name for name, one in settings.declared().items() if one.broken_by(values[name])]
