"""`--config FILE`: a new run that starts from the settings in a file."""

from types import SimpleNamespace

import pytest
import yaml

from baselines import train as baselines_train
from sacae import cli
from sacae import config as configs
from sacae.errors import UserError


def written(folder, content):
    path = folder / "settings.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_flags_override_a_file_that_overrides_presets(parsed, tmp_path):
    path = written(tmp_path, "obs: state\nhidden_dim: 32\nbatch_size: 1e2\ntrain: {seed: 5}\n")
    config = parsed("--config", path, "--hidden-dim", "64", f"--config={path}")
    assert config == configs.make(obs="state", hidden_dim=64, batch_size=100, seed=5)
    path = written(tmp_path, "obs: state\nagent: td3\n")
    assert parsed("--config", path, "--agent", "dqn") == configs.make(obs="state", agent="dqn")  # and its presets


def test_a_runs_config_yaml_gives_its_settings_but_for_its_folder(parsed, tmp_path):
    config = configs.make(domain="walker", task="walk", hidden_dim=32, seed=7, work_dir=tmp_path / "run")
    path = written(tmp_path, {"agent": config.variant, "settings": configs.to_yaml(config)})
    assert parsed("--config", path) == config.replace(work_dir=None)


def test_a_tilde_behind_an_equals_sign_is_the_home_folder(parsed, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    written(tmp_path, "work_dir: ~/of_file\n")
    assert parsed("--config=~/settings.yaml").work_dir == tmp_path / "of_file"
    assert parsed("--config=~/settings.yaml", "--work-dir=~/of_flag").work_dir == tmp_path / "of_flag"


def test_what_a_run_chose_for_its_machine_and_its_length_is_chosen_anew(parsed, tmp_path):
    config = configs.make(num_train_steps=40_000, batch_size=64)
    chosen = {"device": "cuda:0", "replay_device": "device", "capture": True, "precision": "bf16"}
    path = written(tmp_path, {"settings": configs.to_yaml(config.replace(**chosen, replay_capacity=10_000))})
    assert parsed("--config", path) == config.replace(precision="bf16")  # which changes results
    path = written(tmp_path, {"settings": configs.to_yaml(config.replace(**chosen, replay_capacity=9_000))})
    assert parsed("--config", path) == config.replace(precision="bf16", replay_capacity=9_000)


def test_settings_of_a_run_that_do_not_apply_beside_the_flags_are_left_out_and_named(parsed, tmp_path, capsys):
    config = configs.make(hidden_dim=32, target_bits=3)
    path = written(tmp_path, {"settings": configs.to_yaml(config)})
    assert parsed("--config", path, "--decoder", "none") == configs.make(hidden_dim=32, decoder="none")
    (line,) = capsys.readouterr().out.splitlines()
    assert "left out, because they do not apply here: " in line
    assert "target_bits" in line
    assert "hidden_dim" not in line


@pytest.mark.parametrize(
    ("of_run", "flags"),
    [
        ({}, {"preset": "drq"}),
        ({}, {"preset": "laptop"}),
        ({}, {"preset": "drqv2"}),
        ({}, {"domain": "walker", "task": "walk"}),
        ({}, {"agent": "td3"}),
        ({}, {"env": "Pendulum-v1"}),
        ({}, {"obs": "state"}),
        ({"env": "Pendulum-v1"}, {"domain": "walker", "task": "walk"}),
        ({"domain": "quadruped", "task": "walk"}, {"domain": "walker", "task": "run"}),
        ({"preset": "drqv2"}, {"agent": "sac"}),
        ({"agent": "dqn", "discretisation": "factored"}, {"agent": "sac"}),
        ({"env": "CartPole-v1", "agent": "dqn", "discretisation": "none"}, {"env": "Pendulum-v1", "agent": "dqn"}),
        ({"decoder": "vae"}, {"obs": "state"}),
        ({"preset": "drqv2"}, {"preset": "sac_ae"}),
        ({"preset": "drqv2"}, {"preset": "laptop"}),
        ({"obs": "state"}, {"obs": "state", "std": "rescaled"}),
        ({"causal_entropy": "absolute"}, {"causal_entropy": "off"}),
        ({}, {"std": "clamped"}),
        ({}, {"augment": "window"}),
        ({"augment": "window"}, {"augment": "none"}),
    ],
)
def test_what_a_runs_task_observation_preset_or_head_brought_gives_way_to_what_the_flags_bring(
    of_run, flags, parsed, tmp_path
):
    config = configs.make(**of_run | {"discount": 0.9})  # which the user chose
    path = written(tmp_path, {"settings": configs.to_yaml(config)})
    words = [word for name, value in flags.items() for word in (f"--{name}", value)]
    assert parsed("--config", path, *words).applying() == configs.make(**flags, discount=0.9).applying()


def test_a_run_of_an_earlier_version_leaves_the_size_of_its_replay_out_too(parsed, tmp_path):
    groups = configs.to_yaml(configs.make(num_train_steps=8_000))
    groups["replay"]["replay_capacity"] = 2_000
    groups["agent"]["exploration_noise"] = 0.1  # which version 0.1.0 wrote for every head
    path = written(tmp_path, {"settings": groups})
    assert parsed("--config", path, "--num-train-steps", "1000000").replay.replay_capacity is None


def test_a_preset_that_both_name_keeps_its_exceptions_by_task(parsed, tmp_path):
    path = written(tmp_path, {"settings": configs.to_yaml(configs.make(preset="drqv2"))})
    config = parsed("--config", path, "--domain", "walker", "--task", "walk")
    assert config.applying() == configs.make(preset="drqv2", domain="walker", task="walk").applying()


def test_what_an_older_run_recorded_for_all_heads_is_left_out_without_a_word(parsed, tmp_path, capsys):
    path = written(tmp_path, {"settings": {"task": {}, "agent": {"agent": "td3", "log_std_min": -10.0}, "train": {}}})
    assert parsed("--config", path) == configs.make(agent="td3")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("batchsize: 3", "has batchsize, but there is no such setting; did you mean batch_size"),
        ("batch_size: 1.5", "settings.yaml: batch_size is 1.5, but it must be a whole number"),
        ("- a", "settings.yaml cannot be read as settings: it must hold names and values"),
        ("a: [", "settings.yaml cannot be read as settings: line 1: .*; correct it"),
        ("decoder: none\ntarget_bits: 3", "target_bits is 3, but decoder is none"),
        ("seed: {a: 1}", "has a, but there is no such setting"),
        ("batch_size: 64\nbatch_size: 32", "line 2: batch_size is given twice; correct it"),
        ("batch_size: 64\nreplay: {batch_size: 32}", "settings.yaml: batch_size is given twice; leave one out"),
        ("settings: {seed: 1}\ngrid: {critic_lr: 1}", "has grid beside its settings, as a sweep's file: give it to"),
    ],
)
def test_what_somebody_wrote_is_honoured_or_refused(content, message, tmp_path):
    with pytest.raises(UserError, match=message):
        cli.load("train")[1](["--config", str(written(tmp_path, content))], "sacae train")


def test_a_file_that_is_not_there_and_one_for_a_resumed_run_are_refused(tmp_path, capsys):
    assert cli.main(["train", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "config is" in (error := capsys.readouterr().err)
    assert "but there is no such file" in error
    assert cli.main(["train", "--resume", "--config", str(written(tmp_path, "seed: 1"))]) == 2
    assert "a resumed run has its settings in its folder; give that in its place: --work-dir" in capsys.readouterr().err


def test_baselines_take_a_file_too(tmp_path, monkeypatch):
    seen = []
    fake = SimpleNamespace(start=lambda config, *_: seen.append(config) or SimpleNamespace(train=lambda: True))
    monkeypatch.setitem(baselines_train.ALGORITHMS, "vpg", fake)
    path = written(tmp_path, "env: Pendulum-v1\nalgorithm: {steps_per_update: 64}\n")
    assert baselines_train.train(["--algo", "vpg", "--config", str(path)]) == 0
    assert (seen[0].task.env, seen[0].algorithm.steps_per_update) == ("Pendulum-v1", 64)


def test_a_baselines_run_gives_its_settings_to_one_on_another_kind_of_task(tmp_path, monkeypatch):
    seen = []
    fake = SimpleNamespace(start=lambda config, *_: seen.append(config) or SimpleNamespace(train=lambda: True))
    monkeypatch.setitem(baselines_train.ALGORITHMS, "vpg", fake)
    for of_run, flags in (
        ("--env Pendulum-v1", "--domain walker --task run"),
        ("--domain walker --task run", "--env Pendulum-v1"),
    ):
        assert baselines_train.train(["--algo", "vpg", "--steps-per-update", "64", *of_run.split()]) == 0
        path = written(tmp_path, {"settings": configs.to_yaml(seen[-1])})
        assert baselines_train.train(["--algo", "vpg", "--config", str(path), *flags.split()]) == 0
        assert seen[-1].algorithm.steps_per_update == 64
    assert [config.task.env for config in seen] == ["Pendulum-v1", None, None, "Pendulum-v1"]
