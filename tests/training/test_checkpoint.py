"""What checkpoints refuse, and what disks do to those who write them."""

import errno
import io
import os
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from rich.console import Console

from sacae import files
from sacae.errors import UserError
from sacae.training import checkpoint, pictures
from tests.training import counting
from tests.training.runs import rows

STATE = {"learning": {"weights": torch.arange(20_000.0)}, "loop": {"agent_step": 4}}


@pytest.fixture
def folder(tmp_path):
    """A run folder with a checkpoint, and one before it."""
    for step in (2, 4):
        checkpoint.save(tmp_path, STATE | {"loop": {"agent_step": step}}, None)
    return tmp_path


def save_as(content, path):
    torch.save(content, path)


class Malicious:
    def __reduce__(self):
        return os.system, ("echo ran",)


NOT_CHECKPOINTS = {
    "a list": ([1, 2], "holds a list and no checkpoint"),
    "an object": (Malicious(), r"it holds posix\.system, which no checkpoint does, and loading that could run code"),
    "no format": ({"state": {}}, "has format None"),
    "another format": ({"format": 1, "state": {}}, "has format 1; this version reads format 2"),
    "no state": ({"format": 2}, "does not fit this run: it lacks 'state'"),
    "a state without its parts": ({"format": 2, "state": {}, "replay": None}, "it lacks 'learning'"),
    "a state that is a number": ({"format": 2, "state": 3, "replay": None}, "does not fit this run"),
    "a broken array": (
        {"format": 2, "state": {"__numpy__": torch.zeros(3), "dtype": "no"}, "replay": None},
        "does not fit this run",
    ),
    "a cut one": ({"format": 2, "digest": "blake2b", "state": STATE, "replay": None}, "its end is missing or damaged"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "words"), NOT_CHECKPOINTS.values(), ids=NOT_CHECKPOINTS)
def test_a_file_that_loads_but_is_something_else_is_refused_by_name(content, words, folder, capfd):
    (folder / "checkpoint" / "state.previous.pt").unlink()
    path = folder / "checkpoint" / "state.pt"
    torch.save(content, path)
    with pytest.raises(UserError, match=words) as caught:
        checkpoint.load(folder)
    assert str(path) in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [b"", b"hello", bytes(3000), b"\x80\x02K\x01."])
def test_a_file_that_does_not_load_is_refused_by_name(content, folder):
    (folder / "checkpoint" / "state.previous.pt").unlink()
    (folder / "checkpoint" / "state.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"state\.pt (cannot be read: it is|holds a int)"):
        checkpoint.load(folder)


@pytest.mark.parametrize("at", range(0, 82_000, 4001))
def test_no_flipped_byte_is_accepted(at, folder):
    path = folder / "checkpoint" / "state.pt"
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 4
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged|cannot be read"):
        checkpoint.read(folder, "state.pt")
    said = []
    state, _ = checkpoint.load(folder, say=said.append)
    assert state["loop"]["agent_step"] == 2
    assert len(said) == 1


def test_a_flipped_byte_at_the_end_is_not_taken_for_an_older_version(folder):
    path = folder / "checkpoint" / "state.pt"
    content = bytearray(path.read_bytes())
    for back in range(1, len(checkpoint.TRAILER) + checkpoint.DIGEST_BYTES + 1):
        damaged = content.copy()
        damaged[-back] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged"):
            checkpoint.read(folder, "state.pt")


def test_a_checkpoint_of_an_older_version_has_no_digest_and_loads(folder):
    save_as({"format": 2, "state": STATE, "replay": None}, folder / "checkpoint" / "state.pt")
    state, replay = checkpoint.load(folder)
    assert torch.equal(state["learning"]["weights"], STATE["learning"]["weights"])
    assert replay is None


def test_pytorch_reads_a_checkpoint_as_before(folder):
    assert torch.load(folder / "checkpoint" / "state.pt", weights_only=True)["state"]["loop"] == {"agent_step": 4}


def test_the_last_two_checkpoints_are_kept(folder):
    assert checkpoint.read(folder, "state.pt").state["loop"]["agent_step"] == 4
    assert checkpoint.read(folder, "state.previous.pt").state["loop"]["agent_step"] == 2


def test_no_second_link_is_left_of_a_crash_between_the_two_files(folder):
    state, previous = (folder / "checkpoint" / name for name in ("state.pt", "state.previous.pt"))
    previous.unlink()
    os.link(state, previous)  # as a crash before the new state's rename leaves them
    checkpoint.save(folder, STATE | {"loop": {"agent_step": 6}}, None)
    assert {path.name for path in state.parent.iterdir()} == {"state.pt", "state.previous.pt"}


def test_a_file_system_without_hard_links_keeps_two_as_well(folder, monkeypatch):
    def unable(*_):
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", unable)
    checkpoint.save(folder, STATE | {"loop": {"agent_step": 6}}, None)
    assert checkpoint.read(folder, "state.pt").state["loop"]["agent_step"] == 6
    assert checkpoint.read(folder, "state.previous.pt").state["loop"]["agent_step"] == 4


def test_what_is_missing_names_what_is_there(folder):
    with pytest.raises(UserError, match=r"has no checkpoint/best\.pt; leave --best out"):
        checkpoint.load(folder, name="best.pt")
    checkpoint.save_best(folder, STATE)
    for name in ("state.pt", "state.previous.pt"):
        (folder / "checkpoint" / name).unlink()
    with pytest.raises(UserError, match=r"best\.pt is there, and `eval --best` plays it"):
        checkpoint.load(folder)


def test_a_state_of_other_shapes_or_parts_is_refused_by_name(make_counting):
    first = make_counting()
    first.train()
    path = first.run.folder / "checkpoint" / "state.pt"
    content = torch.load(path, weights_only=True)
    del content["digest"], content["state"]["random"]
    torch.save(content, path)
    with pytest.raises(UserError, match=r"state\.pt does not fit this run: it lacks 'random'"):
        make_counting(resume=True)


# Disks.


@contextmanager
def files_of_at_most(size):
    """No file can be made longer than that many bytes, as by `ulimit -f`."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def assert_untouched(folder, step=4):
    assert not [*folder.rglob(".tmp*")]
    assert checkpoint.read(folder, "state.pt").state["loop"]["agent_step"] == step


def test_a_file_above_the_limit_is_one_line_and_leaves_the_checkpoint(folder):
    with (
        files_of_at_most(50_000),
        pytest.raises(UserError, match=r"state\.pt cannot be written: file too large for its .* kB; raise"),
    ):
        checkpoint.save(folder, STATE, None)
    assert_untouched(folder)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, r"no space left on device for its 8.* kB \(.* free\); free space there"),
        (errno.EDQUOT, "disk quota exceeded for its"),
        (errno.EIO, "input/output error for its .*; check the disk"),
        (errno.EFBIG, "file too large for its"),
        (errno.EROFS, "read-only file system"),
    ],
)  # fmt: skip
def test_a_disk_that_refuses_is_one_line_and_leaves_the_checkpoint(code, words, folder, monkeypatch):
    def refuse(_descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(UserError, match=rf"state\.pt cannot be written: {words}"):
        checkpoint.save(folder, STATE, None)
    assert_untouched(folder)


def test_a_folder_that_cannot_be_synced_is_no_fault(folder, monkeypatch):
    def unable(_descriptor):
        raise OSError(errno.EINVAL, "invalid")

    monkeypatch.setattr(os, "fsync", unable)
    checkpoint.save(folder, STATE | {"loop": {"agent_step": 9}}, None)
    assert_untouched(folder, 9)


def test_a_run_folder_that_is_deleted_does_not_come_back_with_one_file(make_counting):
    training = make_counting()

    def watch(name):
        if name == "act" and training.run.agent_step == 9:
            shutil.rmtree(training.run.folder)

    training.learner.journal.watch = watch
    with pytest.raises(UserError, match=r"train\.csv cannot be written: no such file or directory; its folder was"):
        training.train()
    assert not training.run.folder.exists()


def test_patient_files_count_on_after_an_error():
    class Full(io.BytesIO):
        def write(self, data):
            if self.tell() + len(data) > 10:
                raise OSError(errno.ENOSPC, "full")
            return super().write(data)

    patient = files.PatientFile(Full())
    np.savez(patient, a=np.arange(100))
    assert patient.size > 800
    with pytest.raises(OSError, match="full"):
        patient.finish()


def test_a_file_that_takes_less_than_all_is_given_the_rest_and_says_why_it_takes_no_more():
    class Small(io.BytesIO):
        def write(self, data):
            if self.tell() == 10:
                raise OSError(errno.EFBIG, "large")
            return super().write(data[: min(3, 10 - self.tell())])

    whole = Small()
    patient = files.PatientFile(whole)
    assert patient.write(b"0123456789") == 10
    patient.finish()
    assert whole.getvalue() == b"0123456789"
    patient.write(b"more")
    with pytest.raises(OSError, match="large"):
        patient.finish()


def test_tensorboard_that_cannot_write_is_a_line_and_not_the_end(make_counting, capfd):
    training = make_counting()
    events = next((training.run.folder / "tb").iterdir())

    def watch(name):
        if name == "act" and training.run.agent_step == 3:
            training.run.logger.events.sizes()
            events.unlink()
            events.mkdir()

    training.learner.journal.watch = watch
    assert training.train()
    said = training.run.console.file.getvalue()
    assert said.count("TensorBoard shows nothing from here on") == 1
    assert capfd.readouterr().err == ""
    assert len(rows(training.run.folder / "train.csv")) == 4


def test_a_video_that_cannot_be_written_is_one_line(tmp_path, capfd):
    frames = [np.zeros((64, 64, 3), np.uint8)] * 5
    (tmp_path / "video").write_text("a file")
    with pytest.raises(UserError, match="cannot be written"):
        pictures.write_video(tmp_path / "video" / "1.mp4", frames, 30)
    with files_of_at_most(500), pytest.raises(UserError, match=r"2\.mp4 cannot be written"):
        pictures.write_video(tmp_path / "2.mp4", frames, 30)
    assert [path.name for path in tmp_path.iterdir()] == ["video"]
    assert capfd.readouterr().err == ""


def test_an_evaluation_prints_before_it_writes(make_counting, capfd, monkeypatch):
    from sacae.training import playback

    training = make_counting()
    training.train()
    console = Console(file=io.StringIO(), width=200)
    make = lambda spec, *_: counting.CountingPlayer(spec, training.learner)  # noqa: E731
    (training.run.folder / "evaluation").write_text("a file")
    with pytest.raises(UserError, match=r"evaluation/step20-seed1000\.json cannot be written"):
        playback.play_back(
            training.run.folder, 2, 1, False, 1000, "cpu", console, load=lambda _: (training.run.config, make)
        )
    assert "mean " in console.file.getvalue()


SMALL_RUN = (
    "--domain cartpole --task balance --obs state --num-train-steps 1500 --seed-steps 100 --initial-updates 1 "
    "--batch-size 8 --hidden-dim 16 --eval-every 500 --num-eval-episodes 1 --no-save-video --device cpu "
    "--precision fp32 --checkpoint-every 250"
)


@pytest.mark.faults
@pytest.mark.parametrize("kilobytes", [16, 40, 80, 120, 160, 200, 240, 320])
def test_a_full_disk_is_one_line_at_every_size(kilobytes, tmp_path):
    mount = tmp_path / "disk"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", mount], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("mounting needs root")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "sacae", "train", *SMALL_RUN.split(), "--work-dir", str(mount / "run")],
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert "no space left on device" in done.stderr
        assert str(mount) in done.stderr
        assert not [*mount.rglob(".tmp*")]
        assert not [*mount.rglob("*.tmp")]
        if (mount / "run" / "checkpoint" / "state.pt").exists():
            checkpoint.read(mount / "run", "state.pt")
    finally:
        subprocess.run(["umount", mount], check=True)
