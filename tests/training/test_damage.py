"""A run folder in which one file is damaged: a line says so, or nothing of the file matters to what goes on.

Each file is cut short, emptied, flipped, replaced, deleted. A run that goes on afterwards ends in one of three ways:
refused with one line; warned with one line, after which it goes on; or untouched, and then it is the run that an
undamaged folder gives, to the bit. Anything else, such as an exception that is no UserError, fails the test.
"""

import io
import os
import shutil
from collections import Counter

import pytest
import torch
import yaml
from rich.console import Console

from sacae import config as configs
from sacae.errors import UserError
from sacae.training import pictures, playback, run_folder
from sacae.training.checkpoint import STATE
from tests.training import runs

RUN = {"env": "tests.training.counting:Counting-v0", "num_train_steps": 40, "checkpoint_every": 20, "eval_every": 20}
LONGER = 60


@pytest.fixture(autouse=True, scope="module")
def _quick():
    """No curves, and no questions about the machine: they take longer than a tiny run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "write_learning_curve", lambda *_: None)
        patch.setattr(run_folder, "_circumstances", dict)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run folder with two checkpoints, and a file of every kind."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert runs.start(folder, obs="state", **RUN).train()
    (folder / "video").mkdir()
    (folder / "video" / "20.mp4").write_bytes(b"a video")
    return folder


def resume(folder, **settings):
    return runs.start(folder, resume=True, work_dir=folder, **settings)


def go_on(folder):
    """Resumes a run and lets it end. Returns it and what it printed."""
    training = resume(folder, num_train_steps=LONGER)
    assert training.train()
    return training, runs.said(training)


def test_replay_files_of_a_save_that_failed_go_when_the_run_goes_on(whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    replay = folder / "checkpoint" / "replay"
    listed = {path.name for path in replay.iterdir()}
    for name in ("rows_00000090.npz", "rows_00000091.npz.tmp"):
        (replay / name).write_bytes(b"of no checkpoint")
    resume(folder).close()
    assert {path.name for path in replay.iterdir()} == listed
    (replay / "rows_00000090.npz").write_bytes(b"of a checkpoint that somebody may restore")
    (folder / "checkpoint" / "state.previous.pt").write_bytes(b"damaged")
    resume(folder).close()
    assert (replay / "rows_00000090.npz").exists()


@pytest.fixture(scope="module")
def undamaged(whole, tmp_path_factory):
    """The run that the whole folder gives."""
    folder = tmp_path_factory.mktemp("undamaged") / "run"
    shutil.copytree(whole, folder)
    training, said = go_on(folder)
    assert "warning" not in said
    return training


def flipped(content, at, bit=0):
    at = min(int(at * len(content)), len(content) - 1)
    return content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :]


def rewrite(change):
    return lambda path: path.write_bytes(change(path.read_bytes()))


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


SHORT = {
    "half": rewrite(lambda content: content[: len(content) // 2]),
    "without its last byte": rewrite(lambda content: content[:-1]),
    "empty": rewrite(lambda content: b""),
    "zeros": rewrite(lambda content: bytes(len(content))),
    "flipped in the middle": rewrite(lambda content: flipped(content, 0.5)),
    "text": rewrite(lambda content: b"hello\n"),
    "deleted": os.unlink,
}
FULL = SHORT | {
    "longer": rewrite(lambda content: content + b"x"),
    "doubled": rewrite(lambda content: content + content),
    "random": rewrite(lambda content: bytes((i * 167 + i // 7) % 256 for i in range(len(content)))),
    "a folder": replace_by_folder,
    **{f"flipped at {i}/24": rewrite(lambda content, i=i: flipped(content, i / 24, i % 8)) for i in range(25)},
}


def files_of(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def outcome(folder, undamaged):
    """How a damaged folder goes on: refused, warned or untouched."""
    try:
        training, said = go_on(folder)
    except UserError as error:
        return "refused" if str(folder) in str(error) and "\n" not in str(error) else f"badly said: {error}"
    if "warning: " in said:
        return "warned"
    runs.assert_same_run(training, undamaged)
    return "untouched"


def outcomes(whole, undamaged, tmp_path, damages):
    """The outcome of each damage to each file, with a count of them."""
    found = {}
    for file in files_of(whole):
        for name, damage in damages.items():
            folder = tmp_path / "run"
            shutil.copytree(whole, folder)
            before = (folder / file).read_bytes()
            damage(folder / file)
            same = (folder / file).is_file() and (folder / file).read_bytes() == before
            try:
                found[str(file), name] = "untouched" if same else outcome(folder, undamaged)
            except Exception as error:
                raise AssertionError(f"{file}, {name}: {error!r}") from error
            shutil.rmtree(folder)
    return found


def check(found):
    """A digest covers every byte of the state. Line ends of CSV files and the packing of replay files are free."""
    assert {result for (file, _), result in found.items() if file == "checkpoint/state.pt"} <= {"refused", "warned"}
    assert {*found.values()} == {"refused", "warned", "untouched"}


def test_every_file_damaged_in_a_few_ways_is_refused_told_or_without_effect(whole, undamaged, tmp_path):
    damages = {name: SHORT[name] for name in ("half", "flipped in the middle")}
    found = outcomes(whole, undamaged, tmp_path, damages)
    check(found)


@pytest.mark.faults
def test_every_file_damaged_in_every_way_is_refused_told_or_without_effect(whole, undamaged, tmp_path):
    found = outcomes(whole, undamaged, tmp_path, FULL)
    check(found)
    print(len(found), Counter(found.values()))
    assert len(found) == len(files_of(whole)) * len(FULL)


# The checkpoint before the last one.


@pytest.mark.parametrize("damage", ["half", "flipped in the middle", "deleted", "text"])
def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(damage, whole, undamaged, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    SHORT[damage](folder / "checkpoint" / STATE)
    training, said = go_on(folder)
    (line,) = (line for line in said.splitlines() if "warning" in line)
    assert "state.pt" in line
    assert "state.previous.pt takes its place, and what came after its 20 agent steps is lost" in line
    runs.assert_same_run(training, undamaged)
    assert go_on(folder)[0].run.finished


def test_a_damaged_newest_replay_file_gives_way_to_the_checkpoint_before(whole, undamaged, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    newest = max((folder / "checkpoint" / "replay").iterdir())
    SHORT["half"](newest)
    training, said = go_on(folder)
    assert f"warning: {newest} is missing or damaged" in said
    assert "what came after 20 agent steps is lost" in said
    runs.assert_same_run(training, undamaged)


def test_checkpoints_are_read_into_host_memory_whatever_the_device(whole, tmp_path, monkeypatch):
    """A GPU's generator takes its state from there alone."""
    folder, load, places = tmp_path / "run", torch.load, []

    def load_and_note(*args, map_location, **kwargs):
        places.append(str(map_location))
        return load(*args, map_location=map_location, **kwargs)

    shutil.copytree(whole, folder)
    SHORT["half"](max((folder / "checkpoint" / "replay").iterdir()))
    monkeypatch.setattr(torch, "load", load_and_note)
    monkeypatch.setattr("sacae.training.start.choose_device", lambda name: torch.device("cpu:0"))
    go_on(folder)
    assert len(places) >= 2  # the last one, and the one before
    assert {*places} == {"cpu"}


def test_where_both_checkpoints_are_damaged_the_line_says_so_and_nothing_is_changed(whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    for name in ("state.pt", "state.previous.pt"):
        SHORT["flipped in the middle"](folder / "checkpoint" / name)
    before = {path: (folder / path).read_bytes() for path in files_of(folder)}
    with pytest.raises(
        UserError, match=r"state\.pt cannot be read: it is damaged.*state\.previous\.pt .* damaged, too"
    ):
        go_on(folder)
    assert {path: (folder / path).read_bytes() for path in files_of(folder)} == before


def test_the_checkpoint_before_shares_the_replay_files_of_the_last_one(whole):
    replay = whole / "checkpoint" / "replay"
    assert len([*replay.iterdir()]) == 3  # at 0, 20 and 40 steps; the second keeps the first, the third both


# config.yaml beside the checkpoint.


def edit(folder, change):
    path = folder / "config.yaml"
    content = yaml.safe_load(path.read_text())
    change(content["settings"])
    path.write_text(yaml.safe_dump(content))


EDITS = {
    "another learning rate": (
        lambda settings: settings["agent"].update(critic_lr=0.5),
        r"critic_lr is 0\.5 in .*config\.yaml, but 0\.0003 in the checkpoint; a resumed run may change only .*; put it",
    ),
    "another size": (lambda settings: settings["agent"].update(hidden_dim=32), "hidden_dim is 32 in"),
    "half a group": (lambda settings: settings["train"].pop("seed"), r"config\.yaml lacks seed, which is 1 in the"),
    "no group": (lambda settings: settings.pop("replay"), r"config\.yaml lacks "),
    "no task": (lambda settings: settings.pop("task"), r"config\.yaml has no settings of task"),
    "a word for a number": (
        lambda settings: settings["agent"].update(critic_lr="fast"),
        r"config\.yaml: critic_lr is fast, but it must be a number",
    ),
    "a list": (lambda settings: settings["agent"].update(agent=["sac"]), r"config\.yaml: agent is \['sac'\]"),
    "nothing": (lambda settings: settings["train"].update(seed=None), r"config\.yaml: seed is None, but .* a whole"),
    "an unknown name": (lambda settings: settings["train"].update(sed=1), r"config\.yaml: there is no setting 'sed'"),
}


@pytest.mark.parametrize(("change", "words"), EDITS.values(), ids=EDITS)
def test_a_config_file_that_is_not_of_the_checkpoint_is_refused_and_left_alone(change, words, whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    edit(folder, change)
    before = {path: (folder / path).read_bytes() for path in files_of(folder)}
    with pytest.raises(UserError, match=words):
        resume(folder)
    assert {path: (folder / path).read_bytes() for path in files_of(folder)} == before


def test_a_setting_that_no_longer_applies_may_be_missing(whole):
    """Earlier versions wrote image_size from state, and a resumed run writes config.yaml anew."""
    config = configs.load(whole / "config.yaml", configs.Config())
    assert "image_size" in config.idle()
    saved = configs.to_yaml(config)
    saved["task"]["image_size"] = 84
    run_folder.refuse_other_settings(whole, config, {"settings": saved})


def test_an_evaluation_refuses_a_config_file_that_is_not_of_the_checkpoint(whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    edit(folder, lambda settings: settings["task"].update(action_repeat=2))
    with pytest.raises(UserError, match=r"action_repeat is 2 in .*config\.yaml, but 1 in the checkpoint"):
        playback.play_back(folder, 1, 1, False, 1000, "cpu", Console(file=io.StringIO()))


def test_what_a_resumed_run_may_change_may_be_edited(whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    edit(folder, lambda settings: settings["train"].update(num_train_steps=45))
    training = resume(folder)
    assert training.train()
    assert training.run.env_step == 45


# Other people's files.


def test_leftovers_of_a_crash_go_and_foreign_names_are_ignored(whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    leftovers = [
        folder / "video" / ".tmp-100.mp4",
        folder / ".tmp-config.yaml",
        folder / "checkpoint" / ".tmp-state.pt",
    ]
    foreign = [folder / "video" / name for name in (".DS_Store", "best.mp4", "².mp4")]
    for path in (*leftovers, *foreign):
        path.write_bytes(b"x")
    _, said = go_on(folder)
    assert f"video: {folder / 'video' / '20.mp4'}" in said
    assert not any(path.exists() for path in leftovers)
    assert all(path.exists() for path in foreign)
