"""Saving in chunks: what is written, what survives a crash, and that a loaded replay goes on as the saved one."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_oracle import (
    EPISODE,
    PIXELS,
    NaiveReplay,
    Player,
    assert_equal,
    assert_same_batches,
    layouts,
    pair,
)

from sacae.errors import UserError
from sacae.replay import FrameReplay, chunks
from sacae.types import EnvSpec


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 8)


def through_json(manifest):
    """The manifest as a checkpoint in a text file would give it back."""
    return json.loads(json.dumps(manifest))


ACTION = st.one_of(
    EPISODE,
    EPISODE,
    EPISODE,
    st.just("save"),
    st.just("save and prune"),
    st.just("save, then crash"),
    st.just("resume"),
)


@settings(max_examples=100)
@given(layouts(), st.lists(ACTION, min_size=5, max_size=40))
def test_a_resumed_replay_goes_on_as_the_one_that_was_saved(layout, actions):
    with tempfile.TemporaryDirectory() as name:
        _play(layout, actions, Path(name))


def _play(layout, actions, folder):
    """Plays episodes into a replay and the oracle. A checkpoint is (manifest, oracle's history) at a save."""
    replay, oracle = pair(layout)
    player = Player(layout["spec"], replay, oracle)
    checkpoint = None
    history: list = []
    for action in actions:
        if isinstance(action, tuple):
            stream, length, end = action
            player.episode(stream % layout["num_streams"], length, end)
            history.append(action)
        elif action == "save":
            checkpoint = through_json(replay.save(folder)), list(history)
        elif action == "save and prune":
            checkpoint = through_json(replay.save(folder)), list(history)
            replay.prune(folder, checkpoint[0])
        elif action == "save, then crash":
            replay.save(folder)
            replay, oracle, player, history = _resume(layout, folder, checkpoint)
        else:
            replay, oracle, player, history = _resume(layout, folder, checkpoint)
        assert_equal(replay, oracle)


def _resume(layout, folder, checkpoint):
    replay, oracle = pair(layout)
    player = Player(layout["spec"], oracle)
    manifest, history = checkpoint or (None, [])
    if manifest is not None:
        replay.load(folder, manifest)
    for stream, length, end in history:
        player.episode(stream % layout["num_streams"], length, end)
    player.replays = (replay, oracle)
    return replay, oracle, player, list(history)


def wrapped(n_step=1, num_streams=2, capacity=20):
    """A replay that has gone round, in the middle of an episode, and its player."""
    replay = FrameReplay(PIXELS, capacity, num_streams, n_step)
    player = Player(PIXELS, replay)
    for length in (3, 8, 1, 20, 5, 6):
        for stream in range(num_streams):
            player.episode(stream, length, "truncated" if length % 2 else "cut off")
    return replay, player


@pytest.mark.parametrize("rows_later", [1, 7, 30, 200])
def test_equal_generators_draw_equal_batches_before_and_after(tmp_path, rows_later):
    replay, player = wrapped(n_step=3)
    replay.save(tmp_path)
    for _ in range(rows_later):
        player.step(0)
    copy = FrameReplay(PIXELS, 20, 2, 3)
    copy.load(tmp_path, replay.save(tmp_path))
    assert_same_batches(replay, copy)
    player.replays = (replay, copy)
    for _ in range(15):
        player.step(0)
        player.step(1)
        assert_same_batches(replay, copy)
        np.testing.assert_array_equal(replay.observations().numpy(), copy.observations().numpy())


def rows_in(folder, names):
    return sum(len(chunks.read(folder / name)["step"]) for name in names)


def files(folder):
    return {path.name for path in folder.iterdir()}


def test_a_save_writes_only_what_is_new(tmp_path):
    replay, player = wrapped(num_streams=1)
    replay.save(tmp_path)
    before = files(tmp_path)
    for _ in range(5):
        player.step(0)
    replay.save(tmp_path)
    # Five new frames, and the frame that was the latest, whose action was not known.
    assert rows_in(tmp_path, files(tmp_path) - before) == 6
    after = files(tmp_path)
    replay.save(tmp_path)
    assert files(tmp_path) == after


def test_a_save_after_a_load_writes_only_what_is_new(tmp_path):
    replay, player = wrapped(num_streams=1)
    copy = FrameReplay(PIXELS, 20)
    copy.load(tmp_path, replay.save(tmp_path))
    before = files(tmp_path)
    player.replays = (copy,)
    player.step(0)
    copy.save(tmp_path)
    assert rows_in(tmp_path, files(tmp_path) - before) == 2


def test_a_save_after_many_rounds_writes_no_row_that_has_been_overwritten(tmp_path):
    replay, player = wrapped(num_streams=1)
    replay.save(tmp_path)
    before = files(tmp_path)
    for _ in range(5 * replay.plan.rows):
        player.step(0)
    replay.save(tmp_path)
    assert rows_in(tmp_path, files(tmp_path) - before) == replay.plan.rows


def test_a_chunk_is_kept_while_any_of_its_streams_needs_it(tmp_path):
    replay = FrameReplay(PIXELS, 20, 2)
    player = Player(PIXELS, replay)
    for stream in (0, 1):
        player.episode(stream, 2, "cut off")
    assert len(replay.save(tmp_path)["chunks"]) == 1
    for _ in range(100):
        player.step(0)
    manifest = replay.save(tmp_path)
    replay.prune(tmp_path, manifest)
    copy = FrameReplay(PIXELS, 20, 2)
    copy.load(tmp_path, manifest)
    assert_same_batches(replay, copy)


def test_a_chunk_is_never_changed(tmp_path):
    replay, player = wrapped()
    replay.save(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for _ in range(10):
        player.step(1)
        replay.save(tmp_path)
    assert all(path.read_bytes() == content for path, content in before.items())


def test_chunks_are_bounded_and_hold_rows_of_all_streams(tmp_path):
    replay = FrameReplay(PIXELS, 48, 16)
    player = Player(PIXELS, replay)
    for stream in range(16):
        player.begin(stream)
    replay.save(tmp_path)
    # One row in each of 16 streams makes two chunks of 8 rows, and not 16 files.
    assert [rows_in(tmp_path, [name]) for name in sorted(files(tmp_path))] == [8, 8]


def test_pruning_keeps_what_the_checkpoint_needs_and_deletes_the_rest(tmp_path):
    replay, player = wrapped()
    old = replay.save(tmp_path)
    for _ in range(40):
        player.step(0)
        player.step(1)
    manifest = replay.save(tmp_path)
    (tmp_path / "rows_00000099.npz.tmp").write_bytes(b"unfinished")
    (tmp_path / "notes.txt").write_text("not a chunk")
    copy = FrameReplay(PIXELS, 20, 2)
    copy.load(tmp_path, old)  # The checkpoint before stays complete until it is pruned.
    replay.prune(tmp_path, manifest)
    assert files(tmp_path) == {chunk["file"] for chunk in manifest["chunks"]} | {"notes.txt"}
    assert not {chunk["file"] for chunk in old["chunks"]} & files(tmp_path)
    copy.load(tmp_path, manifest)
    assert_same_batches(replay, copy)


def test_disk_space_does_not_grow_for_ever(tmp_path):
    replay, player = wrapped()
    for _ in range(100):
        player.step(0)
        player.step(1)
        replay.prune(tmp_path, replay.save(tmp_path))
    assert len(files(tmp_path)) <= replay.plan.rows_per_stream + 1


def test_after_a_crash_the_checkpoint_before_it_is_whole_and_later_saves_do_not_touch_it(tmp_path):
    replay, player = wrapped()
    manifest = replay.save(tmp_path)
    player.step(0)
    replay.save(tmp_path)  # Its checkpoint never came to be.
    resumed = FrameReplay(PIXELS, 20, 2)
    resumed.load(tmp_path, manifest)
    again = Player(PIXELS, resumed)
    again.counter = 500
    again.step(1)
    newer = resumed.save(tmp_path)
    for saved in (manifest, newer):
        copy = FrameReplay(PIXELS, 20, 2)
        copy.load(tmp_path, saved)
    assert_same_batches(resumed, copy)


def test_a_replay_that_did_not_load_the_checkpoint_does_not_damage_it(tmp_path):
    replay, _ = wrapped()
    manifest = replay.save(tmp_path)
    fresh = FrameReplay(PIXELS, 20, 2)
    Player(PIXELS, fresh).episode(0, 4, "truncated")
    fresh.save(tmp_path)
    copy = FrameReplay(PIXELS, 20, 2)
    copy.load(tmp_path, manifest)
    assert_same_batches(replay, copy)


def test_saving_to_another_folder_writes_everything(tmp_path):
    replay, _ = wrapped()
    replay.save(tmp_path / "one")
    copy = FrameReplay(PIXELS, 20, 2)
    copy.load(tmp_path / "two", replay.save(tmp_path / "two"))
    assert_same_batches(replay, copy)


def test_an_empty_replay_is_saved_and_loaded(tmp_path):
    replay, copy = FrameReplay(PIXELS, 20), FrameReplay(PIXELS, 20)
    copy.load(tmp_path, replay.save(tmp_path))
    Player(PIXELS, copy, replay).episode(0, 3, "truncated")
    assert_same_batches(replay, copy)


@pytest.mark.parametrize(
    ("setting", "change"),
    [
        ("frame_shape", {"spec": EnvSpec((3, 5, 5), "uint8", 3, 2)}),
        ("frame_stack", {"spec": EnvSpec((3, 4, 4), "uint8", 4, 2)}),
        ("action_dim", {"spec": EnvSpec((3, 4, 4), "uint8", 3, 1)}),
        ("num_actions", {"spec": EnvSpec((3, 4, 4), "uint8", 3, 2, 5)}),
        ("state_dim", {"spec": EnvSpec((3, 4, 4), "uint8", 3, 2, None, 5)}),
        ("replay_capacity", {"capacity": 21}),
        ("num_envs", {"num_streams": 1}),
        ("n_step", {"n_step": 2}),
        ("discount", {"discount": 0.9}),
        ("episode_length", {"episode_length": 10}),
    ],
)
def test_a_replay_of_other_settings_is_refused_by_name(tmp_path, setting, change):
    replay, _ = wrapped()
    manifest = replay.save(tmp_path)
    other = FrameReplay(**{"spec": PIXELS, "capacity": 20, "num_streams": 2} | change)
    with pytest.raises(UserError, match=f"{setting} is .*, but the saved replay has .*; resume with"):
        other.load(tmp_path, through_json(manifest))


@pytest.mark.parametrize("damage", ["missing", "cut short", "flipped", "of other rows"])
def test_a_damaged_chunk_is_refused_by_name(tmp_path, damage):
    replay, _ = wrapped()
    manifest = replay.save(tmp_path)
    path, last = (tmp_path / manifest["chunks"][i]["file"] for i in (0, -1))
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "cut short":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        path.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    else:
        path.write_bytes(last.read_bytes())
    with pytest.raises(UserError, match=path.name):
        FrameReplay(PIXELS, 20, 2).load(tmp_path, manifest)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda columns: columns | {"reward": columns["reward"].astype(np.float32)}, id="another dtype"),
        pytest.param(lambda columns: columns | {"action": columns["action"][:, :1]}, id="another shape"),
        pytest.param(lambda columns: {name: column[1:] for name, column in columns.items()}, id="a row less"),
        pytest.param(lambda columns: {"frame": columns["frame"]}, id="columns missing"),
        pytest.param(lambda columns: {n: c for n, c in columns.items() if n != "step"} | {"x": 1}, id="another column"),
    ],
)
def test_a_chunk_of_an_older_version_that_does_not_fit_is_refused_by_name(tmp_path, change):
    replay, _ = wrapped()
    manifest = replay.save(tmp_path)
    path = tmp_path / manifest["chunks"][0]["file"]
    for chunk in manifest["chunks"]:
        del chunk["digest"]  # as versions before it wrote them
    columns = chunks.read(path)
    np.savez(path, **change(columns))
    with pytest.raises(UserError, match=rf"{path.name} does not hold the rows that the checkpoint says"):
        FrameReplay(PIXELS, 20, 2).load(tmp_path, manifest)


def test_a_chunk_in_anothers_place_is_refused_by_name(tmp_path):
    replay, _ = wrapped()
    manifest = replay.save(tmp_path)
    first, second = (tmp_path / chunk["file"] for chunk in manifest["chunks"][:2])
    first.write_bytes(second.read_bytes())  # as many rows, and whole
    with pytest.raises(UserError, match=f"{first.name} is missing or damaged .its digest is another"):
        FrameReplay(PIXELS, 20, 2).load(tmp_path, manifest)


def test_pruning_keeps_what_the_checkpoint_before_needs_too(tmp_path):
    replay, player = wrapped()
    old = replay.save(tmp_path)
    for _ in range(40):
        player.step(0)
        player.step(1)
    before = replay.saved()
    replay.prune(tmp_path, replay.save(tmp_path), before)
    FrameReplay(PIXELS, 20, 2).load(tmp_path, old)


def test_choices_come_back_as_whole_numbers(tmp_path):
    spec = EnvSpec((4,), "float32", 2, 3, 4096)
    replay, copy = FrameReplay(spec, 20), FrameReplay(spec, 20)
    replay.begin(0, np.zeros(4, np.float32))
    for last in range(3):
        replay.add(0, np.array([4095, 0, last]), 1.0, False, False, np.zeros(4, np.float32))
    copy.load(tmp_path, through_json(replay.save(tmp_path)))
    for each in (replay, copy):
        batch = each.sample(64, np.random.default_rng(0))
        assert (batch.action.shape, batch.action.dtype) == ((64, 3), torch.int64)
        assert {tuple(action) for action in batch.action.tolist()} == {(4095, 0, last) for last in range(3)}


def test_a_replay_saved_before_there_were_choices_or_states_is_loaded(tmp_path):
    replay, _ = wrapped()
    manifest = through_json(replay.save(tmp_path))
    for name in ("num_actions", "state_dim"):
        del manifest["settings"][name]
    copy = FrameReplay(PIXELS, 20, 2)
    copy.load(tmp_path, manifest)
    assert_same_batches(replay, copy)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"the replay cannot be saved: .* no space left on device for its .* bytes"):
        wrapped()[0].save(tmp_path)


def test_a_failed_save_loses_nothing(tmp_path, monkeypatch):
    replay, _ = wrapped()
    with monkeypatch.context() as patch:
        patch.setattr(chunks, "sync", lambda folder: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(UserError):
            replay.save(tmp_path)
    copy = FrameReplay(PIXELS, 20, 2)
    manifest = replay.save(tmp_path)
    replay.prune(tmp_path, manifest)
    copy.load(tmp_path, manifest)
    assert_same_batches(replay, copy)


def test_the_oracle_itself_by_hand():
    spec = EnvSpec((1, 1, 1), "uint8", 2, 1)
    oracle = NaiveReplay(spec, 1, 2, 0.5, 100)
    frame = lambda value: np.full((1, 1, 1), value, np.uint8)  # noqa: E731
    oracle.begin(0, frame(1))
    oracle.add(0, 0, 1.0, False, False, frame(2))
    oracle.add(0, 0, 2.0, False, False, frame(3))
    oracle.add(0, 0, 4.0, True, False, frame(4))
    seen = [(t[0].ravel().tolist(), t[2].item(), t[3].item(), t[4].ravel().tolist()) for t in oracle.transitions()]
    assert seen == [([1, 1], 2.0, 0.25, [2, 3]), ([1, 2], 4.0, 0.0, [3, 4]), ([2, 3], 4.0, 0.0, [3, 4])]
