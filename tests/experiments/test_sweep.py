"""Grids over settings: how they are written, what is refused, and one that runs."""

import pytest

from sacae import cli
from sacae import config as configs
from sacae.errors import UserError
from sacae.experiments import plan, process, sweep
from tests.experiments.conftest import TINY, rows, sacae


def test_a_grid_has_an_arm_for_each_combination_with_values_of_the_settings_types():
    arms = sweep.arms_of(sweep.grid_of(["critic_lr=1e-3,3e-4", "decoder=rae,none", "num-layers=2"]))
    assert arms["critic_lr=0.0003,decoder=none,num_layers=2"] == {
        "critic_lr": 3e-4,
        "decoder": "none",
        "num_layers": 2,
    }
    assert len(arms) == 4


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("compile", "true", True),
        ("replay_capacity", "none", None),
        ("replay_capacity", "10_000", 10_000),
        ("encoder_from", "none", None),
        ("agent", "td3", "td3"),
        ("num_layers", 6, 6),
        ("latent_tanh", False, False),
        ("soft_reset", False, "off"),  # as YAML reads off
    ],
)
def test_a_value_becomes_one_of_its_setting(name, text, value):
    assert sweep.typed(name, text) == value
    assert type(sweep.typed(name, text)) is type(value)


def test_a_name_that_yaml_reads_as_a_switch_and_one_that_the_grid_has_are_refused(tmp_path, capsys):
    file = tmp_path / "sweep.yaml"
    file.write_text("arms: {on: {decoder: rae}, off: {decoder: none}}")
    with pytest.raises(UserError, match="arms has a name that YAML reads as True; put it in quotes"):
        sweep.read(file)
    file.write_text("arms: {'batch_size=8': {decoder: none}}")
    assert cli.main(["sweep", "--file", str(file), "--grid", "batch_size=8,16", "--work-dir", str(tmp_path / "x")]) == 2
    assert "arms has batch_size=8, but so has the grid; give the arm another name" in capsys.readouterr().err


def test_an_arm_that_does_not_fit_the_task_is_to_be_left_out(tmp_path):
    with pytest.raises(UserError, match=r"arm rae: decoder is rae, but .*give --obs pixels; the arm sets it, so leave"):
        plan.plan({"rae": {"decoder": "rae"}}, ["Pendulum-v1"], [1], {}, tmp_path)


def test_a_file_reads_numbers_that_yaml_takes_for_words(tmp_path):
    file = tmp_path / "rates.yaml"
    file.write_text(
        "tasks: [Pendulum-v1]\nseeds: 2\nsettings: {batch_size: 8}\ngrid: {critic_lr: [1e-3, 3e-4]}\n"
        "arms: {slow: {critic_tau: 1e-3}}\n"
    )
    said = sweep.read(file)
    assert said == sweep.Sweep(
        {"critic_lr": [1e-3, 3e-4]}, {"slow": {"critic_tau": 1e-3}}, {"batch_size": 8}, ("Pendulum-v1",), 2
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a", "must be a mapping"),
        ("grip: {}", "'grip', but only .*; did you mean grid"),
        ("grid: {critic_lr: []}", "critic_lr has no values"),
        ("settings: {critic_lr: fast}", "critic_lr is fast, but it must be a number"),
        ("seeds: many", "seeds is 'many'"),
        ("seeds: 2000000000", "seeds is 2,000,000,000, but it must be from 1 to 10,000"),
        ("seeds: 0", "seeds is 0, but it must be from 1"),
        ("tasks: 3", "tasks is 3"),
        ("arms: {1: {n_step: 1}, '1': {n_step: 3}}", "arms has 1 twice"),
        ("{", "cannot be read as a sweep: line 1"),
    ],
)
def test_a_file_that_is_not_understood_is_refused(text, words, tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=words):
        sweep.read(file)


def test_a_file_without_any_task_is_refused_unless_a_flag_names_some(tmp_path, capsys):
    file = tmp_path / "sweep.yaml"
    file.write_text("tasks: []\ngrid: {critic_lr: 1e-3}\n")
    argv = ["sweep", "--file", str(file), "--work-dir", str(tmp_path / "runs")]
    assert cli.main(argv) == 2
    assert "tasks is empty" in capsys.readouterr().err
    assert cli.main([*argv, "--tasks", "Nothing-v9"]) == 2
    assert "Nothing-v9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ["grid is empty"]),
        (["--grid", "critic_lr"], ["'critic_lr'", "critic_lr=1e-3,3e-4"]),
        (["--grid", "critic_lrr=1"], ["there is no setting 'critic_lrr'", "did you mean critic_lr"]),
        (["--grid", "critic_lr=fast"], ["critic_lr is fast", "a number"]),
        (["--grid", "critic_lr=-1", "--tasks", "Pendulum-v1"], ["critic_lr is -1.0", "above 0"]),
        (["--grid", "tying=some"], ["tying is some", "convs, all, none"]),
        (["--grid", "seed=1,2"], ["seed", "--seeds"]),
        (["--grid", "n_step=1,1", "--tasks", "Pendulum-v1"], ["n_step", "each value once"]),
        (["--grid", "n_step=1", "--n-step", "3"], ["n_step is 3", "leave --n-step out"]),
        (["--grid", "num_train_steps=100,200"], ["differ only in num_train_steps", "one arm in a report"]),
        (["--grid", "capture=true,false"], ["arms capture=True and capture=False differ only in capture"]),
        (["--file", "none.yaml"], ["none.yaml", "cannot be read"]),
    ],
)
def test_a_mistake_is_one_line_with_status_2_and_writes_nothing(argv, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["sweep", *argv]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("sacae sweep: error: ")
    assert all(word in err for word in words), err
    assert not list(tmp_path.iterdir())


def test_a_sweep_makes_a_run_for_every_point(tmp_path):
    file = tmp_path / "rates.yaml"
    file.write_text("tasks: [Pendulum-v1]\nseeds: 1\ngrid: {critic_lr: [1e-3, 3e-4]}\n")
    status, out, err = sacae(
        "sweep", "--file", file, "--work-dir", tmp_path / "runs", "--parallel", 2, *TINY, "--num-train-steps", 40
    )
    assert status == 0, out + err
    for rate in (1e-3, 3e-4):
        folder = tmp_path / "runs" / "Pendulum-v1" / f"critic_lr={rate}" / "1"
        assert configs.load(folder / "config.yaml", configs.Config()).agent.critic_lr == rate
        assert rows(folder / "eval.csv") == 2


def test_arguments_of_an_environment_reach_a_run_as_words():
    assert process.flags({"env_kwargs": ("g=1", "max_episode_steps=5"), "seed": 2}) == [
        "--env-kwargs", "g=1", "max_episode_steps=5", "--seed", "2",
    ]  # fmt: skip


def test_arms_with_the_same_settings_are_refused_and_presets_are_told_apart(tmp_path):
    with pytest.raises(UserError, match="arms a and b have the same settings, .* in a report; leave one of them out$"):
        plan.plan({"a": {}, "b": {"decoder": "rae"}}, ["cheetah_run"], [1, 2], {}, tmp_path)
    presets = sweep.arms_of(sweep.grid_of(["preset=sac_ae,laptop,drq"]))
    assert len(plan.plan(presets, ["cheetah_run", "walker_walk"], [1, 2], {}, tmp_path)) == 12


@pytest.mark.parametrize("arm", ["", ".", "..", "a/b", "/etc"])
def test_an_arm_that_cannot_name_a_folder_is_refused(arm, tmp_path):
    with pytest.raises(UserError, match="cannot name a folder"):
        plan.plan({arm: {}}, ["cheetah_run"], [1], {}, tmp_path)


def test_a_file_where_runs_would_lie_is_one_line(tmp_path, capsys):
    file = tmp_path / "runs"
    file.write_text("mine")
    argv = ["sweep", "--grid", "critic_lr=1e-3", "--tasks", "Pendulum-v1", "--seeds", "1", "--work-dir", str(file)]
    assert cli.main(argv) in (1, 2)
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    assert "not a directory" in " ".join((said.out + said.err).split())
    assert file.read_text() == "mine"
