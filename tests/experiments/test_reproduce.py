"""`sacae reproduce`: the commands of results, their folders, what is continued, and stops."""

import csv
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from sacae import cli
from sacae import config as configs
from sacae.errors import UserError
from sacae.experiments import recipes
from sacae.training import pruned

RESULTS = Path(__file__).parents[2] / "results"
TINY = "--env Pendulum-v1 --num-train-steps 120 --seed-steps 60 --eval-every 60 --num-eval-episodes 1 --no-save-video"
SHORT = "--num-train-steps 40 --num-eval-episodes 1 --no-save-video"
PAGE = f"""# Title

    python train.py {TINY}
    python eval.py RUN_DIR --episodes 1 --no-video

## Second, with more

    sacae ablate heads --arms sac --tasks Pendulum-v1 --seeds 1 {SHORT}  # last: at least 1
    some other line
"""


@pytest.fixture
def results(tmp_path):
    page = tmp_path / "results" / "tiny" / "README.md"
    page.parent.mkdir(parents=True)
    page.write_text(PAGE)
    return page.parents[1]


def test_a_name_is_a_folder_or_one_of_its_sections(results):
    found = recipes.found(results)
    assert {name: len(commands) for name, commands in found.items()} == {"tiny": 3, "tiny/second-with-more": 1}
    assert found["tiny/second-with-more"][0].endswith("--no-save-video")


def test_every_command_of_the_results_can_be_planned(tmp_path):
    found = recipes.found()
    folders = {path.parent.name for path in RESULTS.glob("*/README.md")} - {"agents"}  # which only says how to play
    assert folders == {name for name in found if "/" not in name}
    for commands in found.values():
        for words in recipes.planned(commands, None, tmp_path):
            assert words[0] in ("sacae", "baselines.train", "baselines.four_rooms")
            assert recipes.RUN_DIR not in words


def test_runs_with_different_settings_have_different_folders(tmp_path):
    plans = [*recipes.planned(recipes.found()["state"], None, tmp_path)]
    folders = [words[words.index("--work-dir") + 1] for words in plans if "--work-dir" in words]
    assert len({*folders}) == len(folders) > 30
    assert plans != [*recipes.planned(recipes.found()["state"], 2, tmp_path)]


def test_another_seed_has_folders_of_its_own_and_replaces_the_commands(tmp_path):
    commands = [
        "python train.py --env Pendulum-v1 --seed 11",
        "python train.py --env Pendulum-v1 --work-dir runs/it --agent td3",
        "python train.py --env Pendulum-v1 --work-dir runs/it --resume",
    ]
    own, other = ([*recipes.planned(commands, seed, tmp_path)] for seed in (None, 2))
    assert own[0][4:6] == ["--seed", "11"]
    assert [words.count("--seed") for words in other] == [1, 1, 0]
    assert all(words[words.index("--seed") + 1] == "2" for words in other[:2])
    assert [words[-1] for words in own[1:]] == ["runs/it", "runs/it"]
    assert [words[-1] for words in other[1:]] == ["runs/it/seed-2", "runs/it/seed-2"]
    assert own[0][-1] != other[0][-1]


def test_a_run_that_is_there_is_continued_as_what_it_is(tmp_path):
    commands = ["python -m baselines.train --algo hdqn --env sacae:SixStateChain-v0", "python train.py --agent td3"]
    for words in recipes.planned(commands, None, tmp_path):
        (tmp_path / words[-1]).mkdir(parents=True)
        (tmp_path / words[-1] / "eval.csv").write_text("of a run")
    hdqn, td3 = recipes.planned(commands, None, tmp_path)
    assert hdqn[:4] == ["baselines.train", "--algo", "hdqn", "--work-dir"]
    assert hdqn[-1] == td3[-1] == "--resume"
    assert td3[:3] == ["sacae", "train", "--work-dir"]


def test_a_run_whose_folder_is_still_empty_is_made_anew(tmp_path):
    (words,) = recipes.planned(["python train.py --agent td3"], None, tmp_path)
    (tmp_path / words[-1]).mkdir(parents=True)  # as a full disk leaves it
    assert [*recipes.planned(["python train.py --agent td3"], None, tmp_path)] == [words]


def test_a_run_that_was_pruned_is_not_made_again(tmp_path):
    commands = ["python train.py --env Pendulum-v1", "python eval.py RUN_DIR"]
    training, playing = recipes.planned(commands, None, tmp_path)
    checkpoint = tmp_path / training[-1] / "checkpoint"
    (checkpoint / "replay").mkdir(parents=True)
    (checkpoint.parent / "eval.csv").write_text("of a run")
    pruned.drop_replay(checkpoint.parent)
    assert [*recipes.planned(commands, None, tmp_path)] == [playing]


def test_a_pruned_run_that_a_command_continues_is_finished_if_it_is_as_long(tmp_path):
    commands = [f"python train.py --work-dir run --num-train-steps {words}" for words in ("4", "9 --resume")]
    (tmp_path / "run/checkpoint/replay").mkdir(parents=True)
    pruned.drop_replay(tmp_path / "run")
    for length, left in ((9, 0), (4, 1)):
        config = configs.make(env="Pendulum-v1", num_train_steps=length)  # no evaluation: a failed episode left it out
        (tmp_path / "run/config.yaml").write_text(yaml.safe_dump({"settings": configs.to_yaml(config)}))
        assert len([*recipes.planned(commands, None, tmp_path)]) == left


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="work_dir is .*file, but that is no folder and cannot be made one"):
        recipes.run(["sacae", "--version"], tmp_path / "file", print)


def test_after_a_stop_no_further_command_begins_though_this_one_ends_well(tmp_path):
    ready = tmp_path / "ready"
    (tmp_path / "calm.py").write_text(
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(0))\n"
        "pathlib.Path('ready').touch()\n"
        "time.sleep(60)\n"
    )

    def stop():
        while not ready.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    assert recipes.run(["calm"], tmp_path, print) == 130
    thread.join()


def test_words_with_a_star_are_what_they_match(tmp_path):
    (tmp_path / "told.py").write_text("import pathlib, sys; pathlib.Path('told').write_text(' '.join(sys.argv[1:]))\n")
    for name in ("b", "a"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert recipes.run(["told", "runs/*", "other/*"], tmp_path, print) == 0
    assert (tmp_path / "told").read_text() == "runs/a runs/b other/*"


def test_an_unknown_name_is_refused_and_the_nearest_is_told():
    with pytest.raises(UserError, match=r"no results 'haeds', only .*heads.*; did you mean heads\?"):
        recipes.find("haeds", recipes.found())


def test_without_a_clone_there_is_nothing_to_run(tmp_path):
    with pytest.raises(UserError, match="run this in a clone"):
        recipes.found(tmp_path)


def test_a_dry_run_prints_commands_and_makes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["reproduce", "heads/from-state", "--seed", "3", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert all(re.search(r"--seed 3 --work-dir runs/\S+$", line) for line in lines[:-1])
    assert not any(tmp_path.iterdir())


def test_commands_run_once_and_a_second_time_continue(results, tmp_path, monkeypatch):
    known = recipes.found(results)
    monkeypatch.setattr(recipes, "found", lambda: known)
    root = tmp_path / "root"
    command = ["reproduce", "tiny", "--work-dir", str(root)]
    assert cli.main(command) == 0
    (run,) = (path.parent for path in root.glob("runs/Pendulum*/config.yaml"))
    before = (run / "train.csv").read_bytes()
    assert len([*(run / "evaluation").glob("*.json")]) == 1
    assert len([*root.glob("runs/ablations/heads/Pendulum-v1/sac/*/config.yaml")]) == 1
    assert cli.main(command) == 0
    assert (run / "train.csv").read_bytes() == before


def test_a_command_that_fails_ends_it_with_the_command_named(results, tmp_path, monkeypatch, capfd):
    (results / "tiny" / "README.md").write_text("    python train.py --env Nothing-v9\n")
    known = recipes.found(results)
    monkeypatch.setattr(recipes, "found", lambda: known)
    assert cli.main(["reproduce", "tiny", "--work-dir", str(tmp_path / "root")]) == 2
    assert re.search(r"sacae reproduce: error: .*Nothing-v9.* ended with status 2", capfd.readouterr().err)


def test_a_stop_is_passed_on_and_the_same_command_continues(tmp_path):
    page = tmp_path / "results" / "tiny" / "README.md"
    page.parent.mkdir(parents=True)
    page.write_text(
        "    python train.py --env Pendulum-v1 --num-train-steps 90000 --seed-steps 90000 --eval-every 90000\n"
    )
    code = (
        f"import pathlib, sys; from sacae import cli; from sacae.experiments import recipes; "
        f"known = recipes.found(pathlib.Path({str(page.parents[1])!r})); recipes.found = lambda: known; "
        f"sys.exit(cli.main(['reproduce', 'tiny', '--work-dir', {str(tmp_path / 'root')!r}]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        pattern = "root/runs/*/train.csv"
        while not any(path.read_text().count("\n") > 2 for path in tmp_path.glob(pattern)):
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, output
    assert "the same command continues it" in output
    (run,) = (path.parent for path in tmp_path.glob(pattern))
    assert (run / "checkpoint").is_dir()
    (words,) = recipes.planned(recipes.found(page.parents[1])["tiny"], None, tmp_path / "root")
    assert words == shlex.split(f"sacae train --work-dir {run.relative_to(tmp_path / 'root')} --resume")
    with open(run / "train.csv", newline="") as file:
        assert int([*csv.DictReader(file)][-1]["env_step"]) < 90000
