"""The commands: what a mistyped setting says, what resuming may change, what is written."""

import contextlib
import dataclasses
import errno
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tyro._docstrings import get_field_docstring

from sacae import cli
from sacae import config as configs
from sacae.commands.experiment import Experiment

ROOT = Path(__file__).parents[1]


def run(capsys, *argv):
    """Exit status, output and error output of the sacae command."""
    status = cli.main([str(word) for word in argv])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--num-layers", "3"], ["num_layers is 3", "one of 2, 4, 6"]),
        (["--image-size", "20"], ["image_size is 20", "from 48 to 128"]),
        (["--batch-size", "0"], ["batch_size is 0", "at least 1"]),
        (["--num-train-steps", "-1"], ["num_train_steps is -1", "at least 1"]),
        (["--discount", "1.5"], ["discount is 1.5", "from 0 to 1"]),
        (["--batch-size", "many"], ["--batch-size", "'many'"]),
        (["--batch-sise", "8"], ["--batch-sise", "did you mean --batch-size"]),
        (["--domain", "cheeta"], ["domain is cheeta", "cheetah"]),
        (["--task", "runn"], ["task is runn", "cheetah has run"]),
        (["--agent", "sca"], ["agent is sca", "sac"]),
        (["--obs", "state", "--num-layers", "4"], ["num_layers is 4, but obs is state"]),
        (["--std", "softplus", "--log-std-max", "1"], ["log_std_max is 1.0, but std is softplus"]),
        (["--agent", "sac_v", "--reward-scale", "0"], ["reward_scale is 0", "above 0"]),
        (["--obs", "state", "--decoder", "rae"], ["decoder is rae", "none if obs is state"]),
        (["--env", "ALE/Pong-v5", "--decoder", "state"], ["decoder is state", "if env is ALE/Pong-v5", "DeepMind"]),
        (["--decoder", "none", "--dynamics"], ["dynamics is on, but decoder is none", "leave --dynamics out"]),
        (["--obs", "sound"], ["obs is sound", "pixels, state"]),
        (["--preset", "dr-q"], ["preset is dr-q", "did you mean drq"]),
        (["--preset", "curl", "--contrastive", "no"], ["no value such as no: give --contrastive or --no-contrastive"]),
        (["--preset", "curl", "--contrastive=false"], ["no value such as false: give --contrastive or --no-contr"]),
        (["--preset", "drqv2", "--agent", "sac"], ["preset is drqv2, but agent is sac", "leave one of them out"]),
        (["--preset", "rad", "--augment", "translation"], ["did you mean translate"]),
        (["--device", "gpu"], ["device is gpu", "auto, cpu, cuda"]),
        (["--device", "cuda:77"], ["device is cuda:77", "CUDA devices"]),
        (["--replay-capacity", "1000000000"], ["replay_capacity is 1,000,000,000", "GB"]),
        (["--resume"], ["not a run folder"]),
    ],
)
def test_a_mistake_is_one_line_with_status_2_and_writes_nothing(argv, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = run(capsys, "train", *argv)
    assert status == 2
    assert err.count("\n") == 1
    assert err.startswith("sacae train: error: ")
    assert all(word in err for word in words), err
    assert not list(tmp_path.iterdir())


def test_help_shows_the_defaults_that_apply_to_the_task_and_observation(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--domain", "cartpole", "--task", "swingup", "--help"])
    assert stop.value.code in (None, 0)
    pixels = " ".join(capsys.readouterr().out.split())
    assert "--action-repeat INT Environment steps for which each action is repeated" in pixels.replace("│ ", "")
    with pytest.raises(SystemExit):
        cli.main(["train", "--obs", "state", "--help"])
    state = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Width of the two hidden layers of actor and critic. (default: 256)" in state


def test_every_setting_has_help():
    assert not [name for name, one in configs.every_setting().items() if not one.help]
    kinds = [Experiment, *(cli.load(name)[0] for name in cli.COMMANDS)]
    lacking = [
        f"{kind.__name__}.{f.name}"
        for kind in kinds
        for f in dataclasses.fields(kind)
        if f.name != "experiment" and not get_field_docstring(kind, f.name, ())
    ]
    assert not lacking


def test_commands_are_listed_and_an_unknown_one_names_the_closest(capsys):
    status, out, _ = run(capsys)
    assert status == 0
    assert all(name in out for name in cli.COMMANDS)
    status, _, err = run(capsys, "trian")
    assert status == 2
    assert "did you mean train" in err


SHORT = ["--obs", "state", "--num-train-steps", "1200", "--seed-steps", "100", "--initial-updates", "2",
         "--hidden-dim", "16", "--batch-size", "4", "--num-eval-episodes", "1", "--no-save-video",
         "--precision", "fp32"]  # fmt: skip


def test_train_resume_and_eval_from_the_command_line(capsys, tmp_path):
    folder = tmp_path / "run"
    status, out, err = run(capsys, "train", *SHORT, "--work-dir", folder)
    assert (status, err) == (0, "")
    assert "run complete: 1,200 environment steps" in out
    assert str(folder / "curve.png") in out
    assert "a full run is 500,000 environment steps: about" in out
    assert "longer with the default batch size of 256 (here 4)" in out

    status, _, err = run(capsys, "train", *SHORT, "--work-dir", folder)
    assert status == 2
    assert "already holds a run" in err

    status, _, err = run(capsys, "train", "--resume", "--work-dir", folder, "--batch-size", "8")
    assert status == 2
    assert "batch_size is 8, but the run in" in err

    status, out, err = run(capsys, "train", "--resume", "--work-dir", folder, "--num-train-steps", "1300")
    assert (status, err) == (0, "")
    assert "run complete: 1,300 environment steps" in out
    record = yaml.safe_load((folder / "config.yaml").read_text())
    assert record["settings"]["train"]["num_train_steps"] == 1300
    assert record["resumed"][0]["env_step"] == 1200
    assert record["resumed"][0]["changed"] == {"num_train_steps": 1300}

    for name in ("step1300-seed1000", "step1300-seed1000-2"):
        status, out, err = run(capsys, "eval", folder, "--episodes", "2", "--no-video")
        assert (status, err) == (0, "")
        result = json.loads((folder / "evaluation" / f"{name}.json").read_text())
        assert len(result["episode_returns"]) == 2
        assert f"mean {result['mean']:.1f}, standard deviation {result['std']:.1f}" in out
        assert all(f"{value:.1f}" in out for value in result["episode_returns"])
    video = folder / "evaluation" / "step1300-seed1000-3.mp4"
    video.write_bytes(b"mine")
    assert run(capsys, "eval", folder, "--episodes", "1", "--no-video")[0] == 0
    assert video.read_bytes() == b"mine"
    assert not video.with_suffix(".json").exists()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["/nowhere/at/all"], "no such folder"),
        ([ROOT / "sacae"], "not a run folder"),
        ([ROOT, "--episodes", "0"], "episodes is 0"),
        ([], "RUN_DIR"),
    ],
)
def test_eval_refuses_what_is_not_a_run(argv, words, capsys):
    status, _, err = run(capsys, "eval", *argv)
    assert status == 2
    assert err.count("\n") == 1
    assert words in err


@pytest.mark.parametrize("script", ["train.py", "eval.py"])
def test_the_scripts_at_the_top_level_are_the_commands(script):
    done = subprocess.run(
        [sys.executable, ROOT / script, "--nonsense"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"{script}: error: ")
    assert "Traceback" not in done.stderr


def test_help_breaks_lines_where_the_terminal_ends(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    texts = []
    for words in (["--help"], *([name, "--help"] for name in cli.COMMANDS)):
        with contextlib.suppress(SystemExit):
            cli.main(words)
        texts.append(capsys.readouterr().out)
    assert max(len(line) for text in texts for line in text.splitlines()) == 80
    assert not [text for text in texts if "\n\n\n" in text]
    assert not [line for text in texts for line in _broken_early(text)]


def _broken_early(text: str) -> Iterator[str]:
    """The lines of options' help that have room for the first word of their next line."""
    for line, following in itertools.pairwise(text.splitlines()):
        begins = re.match(r" {5,}(?=\S)", following)
        if begins and re.match(r"  \S", line[begins.end() - 2 :]):
            word = following.split()[0]
            if len(line.rstrip()) + 1 + len(word) <= 80:
                yield line


@pytest.mark.parametrize("command", ["ablate", "sweep"])
def test_help_of_an_experiment_leaves_out_what_it_refuses(command, capsys):
    with contextlib.suppress(SystemExit):
        cli.main([command, "--help"])
    said = capsys.readouterr().out
    assert " --tasks " in said
    assert not [flag for flag in ("--env", "--domain", "--task", "--seed") if f" {flag} " in said]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gamma", "0.9"], "--gamma is unknown; did you mean --discount?"),
        (["--lr=1"], "--lr is unknown; did you mean --critic-lr or --actor-lr?"),
        (["--agent", "dqn", "--learning-rate", "1"], "--learning-rate is unknown; did you mean --critic-lr?"),
        (["--agent", "SAC"], "did you mean sac"),
        (["--domain", "cheetah_run"], "did you mean --domain cheetah --task run?"),
        (["--task", "cheetah-run"], "did you mean --domain cheetah --task run?"),
        (["--env", "dm_control/ball_in_cup-catch-v0"], "did you mean --domain ball_in_cup --task catch?"),
    ],
)
def test_names_of_other_codebases_are_recognised(words, message, capsys, tmp_path):
    status, _, err = run(capsys, "train", *words, "--work-dir", tmp_path / "run")
    assert status == 2
    assert message in err


def test_a_whole_number_may_have_an_exponent(capsys, tmp_path):
    for value, allowed in (("2e3", "2000"), ("2.5e1", "25"), ("0.5e1", "5"), ("64.0", "64")):
        with pytest.raises(SystemExit):
            cli.main(["train", "--batch-size", value, "--help"])
        assert f"transitions in each update. (default: {allowed})" in " ".join(
            capsys.readouterr().out.replace("│", " ").split()
        )
    for value in ("1e-1", "1.5e0", "1e400", "1e999999999", "nan", "inf", "x"):
        status, _, err = run(capsys, "train", "--batch-size", value, "--work-dir", tmp_path / "run")
        assert status == 2
        assert f"Error parsing --batch-size: {value!r} is not a" in err


def test_what_may_not_be_read_is_one_line(capsys):
    def refused(_argv, _prog):
        raise PermissionError(errno.EACCES, "Permission denied", "/shut/run")

    assert cli.guarded(refused, [], "sacae train") == 2
    assert capsys.readouterr().err == (
        "sacae train: error: /shut/run cannot be read or written: check its permissions\n"
    )
