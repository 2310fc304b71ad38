"""Checkpoints: a state file that is replaced in one step, the one before it, and replay chunks that both share.

A state file ends with a digest of all that comes before it, which is checked before anything of it is used. Files of
earlier versions have none and are read without.
"""

import contextlib
import hashlib
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sacae.errors import UserError
from sacae.files import PatientFile, write_atomically
from sacae.replay import FrameReplay, chunks

FOLDER = "checkpoint"
STATE = "state.pt"
PREVIOUS = "state.previous.pt"
DAMAGED = "state.damaged.pt"
BEST = "best.pt"
REPLAY = "replay"
FORMAT = 2

DIGEST = "blake2b"
TRAILER = b"\nsacae " + DIGEST.encode() + b" "
"""What comes between PyTorch's part of a file and the digest. PyTorch ignores what follows its own part."""
DIGEST_BYTES = hashlib.new(DIGEST).digest_size

Say = Callable[[str], None]
"""Prints a line."""


class Checkpoint(NamedTuple):
    """What a file of a checkpoint holds. replay: the manifest for `load_replay`, None without one. name: the file's."""

    state: dict[str, Any]
    replay: dict[str, Any] | None
    name: str


# Writing.


def save(run_folder: Path, state: dict[str, Any], replay: FrameReplay | None) -> None:
    """Writes the state, and the replay unless it is None, so that a crash at any moment leaves a whole checkpoint.

    The checkpoint before is kept as PREVIOUS, with the replay files that it needs.

    state: nested dicts and lists of tensors, NumPy arrays and plain values. Raises UserError if it cannot be written;
    the checkpoints that are there stay.
    """
    folder = run_folder / FOLDER
    before: Mapping[str, Any] | None = None
    manifest = None
    if replay is not None:
        before, manifest = replay.saved(), replay.save(folder / REPLAY)
    _write(folder / STATE, state, manifest, keep=folder / PREVIOUS)
    if replay is not None and manifest is not None and before is not None:
        replay.prune(folder / REPLAY, manifest, before)
    elif (folder / REPLAY).exists() and not _has_replay(run_folder, PREVIOUS):
        shutil.rmtree(folder / REPLAY, ignore_errors=True)


def save_best(run_folder: Path, state: dict[str, Any]) -> None:
    """Writes, beside the last checkpoint, what it takes to play the best policy so far. state as of `save`."""
    save_playable(run_folder, BEST, state)


def drop_best(run_folder: Path) -> None:
    """Removes what `save_best` wrote, if anything."""
    (run_folder / FOLDER / BEST).unlink(missing_ok=True)


def save_playable(run_folder: Path, name: str, state: dict[str, Any]) -> None:
    """Writes a file, beside the last checkpoint, with what it takes to play a policy. state as of `save`."""
    _write(run_folder / FOLDER / name, state, None)


def _write(path: Path, state: dict[str, Any], manifest: dict[str, Any] | None, keep: Path | None = None) -> None:
    """Writes a state file. keep: where the one that is there goes."""
    content = {"format": FORMAT, "digest": DIGEST, "state": _to_plain(state), "replay": manifest}
    needed = 0

    def write(temporary: Path) -> None:
        nonlocal needed
        digest = hashlib.new(DIGEST)
        with open(temporary, "wb", buffering=0) as file:
            patient = PatientFile(file, digest.update)
            torch.save(content, patient)  # type: ignore[arg-type]  # it asks for no more than `write` and `flush`
            patient.write(TRAILER + digest.digest())
            needed = patient.size
            patient.finish()
        if keep is not None:
            _keep(path, keep)

    write_atomically(path, write, size=lambda: needed)


def _keep(path: Path, previous: Path) -> None:
    """Gives a file a second name, so that it is there under one of them at every moment."""
    if not path.exists():
        return
    link = previous.with_name(f".tmp-{previous.name}")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:  # a file system without hard links
        os.replace(path, previous)
    else:
        os.replace(link, previous)
        link.unlink(missing_ok=True)  # it stays where both are names of one file already


def _has_replay(run_folder: Path, name: str) -> bool:
    try:
        return read(run_folder, name).replay is not None
    except UserError:
        return False


# Reading.


def exists(run_folder: Path) -> bool:
    """Whether the folder has a checkpoint from which a run can go on, or had one."""
    return any((run_folder / FOLDER / name).exists() for name in (STATE, PREVIOUS))


def load(
    run_folder: Path, device: torch.device | str = "cpu", name: str = STATE, say: Say = print
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The state that `save` wrote, and the replay's manifest for `load_replay`. Raises UserError if there is none.

    name: BEST for what `save_best` wrote. say: is told where the checkpoint before the last one takes its place.
    """
    found = read(run_folder, name, device) if name == BEST else newest(run_folder, device, say)
    return found.state, found.replay


def newest(run_folder: Path, device: torch.device | str = "cpu", say: Say = print) -> Checkpoint:
    """The last checkpoint, or the one before where that is damaged, which is said. Raises UserError if neither is."""
    try:
        return read(run_folder, STATE, device)
    except UserError as damage:
        if not (run_folder / FOLDER / PREVIOUS).exists():
            raise
        return _instead(run_folder, device, damage, say)


def _instead(run_folder: Path, device: torch.device | str, damage: UserError, say: Say) -> Checkpoint:
    """The checkpoint before the last one. Raises what is wrong with the last one where that is damaged, too."""
    try:
        found = read(run_folder, PREVIOUS, device)
    except UserError:
        raise UserError(f"{damage}; {PREVIOUS} beside it is damaged, too") from None
    say(f"warning: {damage}; {PREVIOUS} takes its place, and what came after its {_steps(found)} is lost")
    return found


def _steps(found: Checkpoint) -> str:
    return f"{found.state['loop']['agent_step']:,} agent steps"


def read(run_folder: Path, name: str, device: torch.device | str = "cpu") -> Checkpoint:
    """What one file of a checkpoint holds. Raises UserError if it is missing, damaged, or something else."""
    path = run_folder / FOLDER / name
    if not path.is_file():
        raise UserError(_missing(run_folder, name))
    try:
        has_digest = _check_digest(path)
        content = torch.load(path, map_location=device, weights_only=True)
    except (UserError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # PyTorch has many for a file that is damaged or none of its own
        raise UserError(f"checkpoint {path} cannot be read: {_reason(error)}") from None
    return Checkpoint(*_checked(path, content, has_digest), name)


def best_up_to(run_folder: Path, agent_step: int) -> dict[str, Any] | None:
    """What `save_best` wrote; None where it cannot be read, or is from after this agent step."""
    try:
        state = read(run_folder, BEST).state
    except UserError:
        return None
    return state if state["loop"]["agent_step"] <= agent_step else None


def _missing(run_folder: Path, name: str) -> str:
    if name == BEST and exists(run_folder):
        return f"{run_folder} has no {FOLDER}/{BEST}; leave --best out: the last checkpoint is there"
    if name == STATE and (run_folder / FOLDER / BEST).exists():
        return (
            f"{run_folder} has no checkpoint to go on from ({FOLDER}/{STATE}); {BEST} is there, and `eval --best` "
            "plays it; to train, start the run anew in another --work-dir"
        )
    return f"{run_folder} has no checkpoint; start the run anew in another --work-dir"


def _check_digest(path: Path) -> bool:
    """Whether a file has a digest. Raises UserError where that is not the digest of its content."""
    if path.stat().st_size == 0:
        raise UserError(f"checkpoint {path} cannot be read: it is empty")
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END) - len(TRAILER) - DIGEST_BYTES
        file.seek(max(end, 0))
        if file.read(len(TRAILER)) != TRAILER:
            return False
        wanted = file.read()
        file.seek(0)
        digest = hashlib.new(DIGEST)
        while piece := file.read(min(1 << 20, end - file.tell())):
            digest.update(piece)
    if digest.digest() != wanted:
        raise UserError(f"checkpoint {path} cannot be read: it is damaged, as its digest says")
    return True


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, pickle.UnpicklingError) and "nsupported" in text and "GLOBAL" in text:
        name = text.partition("GLOBAL ")[2].split(" ")[0]
        return f"it holds {name}, which no checkpoint does, and loading that could run code; do not trust its source"
    if isinstance(error, OSError):
        return (error.strerror or text).lower()
    return "it is no file of a checkpoint, or a part of one"


def _checked(path: Path, content: Any, has_digest: bool) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """State and manifest. Raises UserError for what no version of this package wrote."""
    if not isinstance(content, dict):
        raise UserError(f"checkpoint {path} holds a {type(content).__name__} and no checkpoint")
    if content.get("format") != FORMAT:
        raise UserError(f"checkpoint {path} has format {content.get('format')}; this version reads format {FORMAT}")
    if content.get("digest") and not has_digest:
        raise UserError(f"checkpoint {path} cannot be read: its end is missing or damaged")
    with fitting(path):
        state, manifest = _from_plain(content["state"]), content["replay"]
        state["learning"], state["loop"]["agent_step"]  # raises where they are missing
        if manifest is not None:
            manifest["settings"], manifest["chunks"]
    return state, manifest


@contextlib.contextmanager
def fitting(path: Path, otherwise: str = "start anew in another --work-dir") -> Iterator[None]:
    """Turns what Python and PyTorch raise where a state is taken over that has other parts or shapes into UserError.

    otherwise: what to do where the file cannot be restored.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        lines = str(error).splitlines() or [""]
        what = f"it lacks {lines[0]}" if isinstance(error, KeyError) else lines[-1].strip()
        raise UserError(f"checkpoint {path} does not fit this run: {what}; restore the file, or {otherwise}") from error


# The replay.


def load_replay(run_folder: Path, manifest: dict[str, Any], replay: FrameReplay) -> None:
    """Fills the replay with what was saved. Raises UserError where that is damaged or of other settings."""
    replay.load(run_folder / FOLDER / REPLAY, manifest)


def newest_with_replay(
    run_folder: Path, found: Checkpoint, replay: FrameReplay | None, needed: bool, say: Say
) -> Checkpoint:
    """Fills the replay from a checkpoint, and returns the checkpoint from which the run goes on.

    Where its replay is damaged and needed, that is the one before. As the last one it is read into host memory, where
    the state of a GPU's random numbers belongs. Otherwise it is the same without a replay. Both are said.

    Raises UserError, naming the damaged file, if the one before cannot be used either.
    """
    if replay is None or found.replay is None:
        return found
    try:
        load_replay(run_folder, found.replay, replay)
        return found
    except UserError as damage:
        if needed:
            return _before_with_replay(run_folder, found, replay, damage, say)
        problem = str(damage).rpartition("; ")[0]
        say(f"warning: {problem}; save_replay is off, so the run goes on with an empty replay")
        return found._replace(replay=None)


def _before_with_replay(
    run_folder: Path, found: Checkpoint, replay: FrameReplay, damage: UserError, say: Say
) -> Checkpoint:
    """The checkpoint before, which has filled the replay. Raises the damage of the last one's replay if it cannot."""
    if found.name == PREVIOUS or not (run_folder / FOLDER / PREVIOUS).exists():
        raise damage
    try:
        before = read(run_folder, PREVIOUS)
        if before.replay is None:
            raise damage
        load_replay(run_folder, before.replay, replay)
    except UserError:
        raise damage from None
    say(f"warning: {damage}; {PREVIOUS} needs it not and is used: what came after {_steps(before)} is lost")
    return before


def make_newest(run_folder: Path, found: Checkpoint) -> None:
    """Puts the checkpoint from which a run goes on in the last one's place, which is kept under another name."""
    if found.name != PREVIOUS:
        return
    folder = run_folder / FOLDER
    if (folder / STATE).exists():
        os.replace(folder / STATE, folder / DAMAGED)
    os.replace(folder / PREVIOUS, folder / STATE)


def remove_stray_chunks(run_folder: Path, found: Checkpoint) -> None:
    """Deletes the replay files that a save left which failed later: those that no checkpoint of the run lists."""
    manifests = [found.replay] if found.replay else []
    if not chunks.unlisted(run_folder / FOLDER / REPLAY, *manifests):
        return
    if (run_folder / FOLDER / PREVIOUS).exists():
        try:
            before = read(run_folder, PREVIOUS).replay
        except UserError:  # somebody may restore it, and would need its files
            return
        manifests += [before] if before else []
    chunks.prune(run_folder / FOLDER / REPLAY, *manifests)


_ARRAY = "__numpy__"


def _to_plain(value: Any) -> Any:
    """Wraps NumPy arrays, which loading without pickle does not take, as tensors."""
    if isinstance(value, np.ndarray):
        unsigned = value.dtype.kind == "u" and value.dtype.itemsize > 1
        signed = value.view(value.dtype.str.replace("u", "i")) if unsigned else value
        return {_ARRAY: torch.from_numpy(np.ascontiguousarray(signed)), "dtype": value.dtype.str}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    return value


def _from_plain(value: Any) -> Any:
    if isinstance(value, dict):
        if _ARRAY in value:
            return value[_ARRAY].cpu().numpy().view(value["dtype"])
        return {key: _from_plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_plain(item) for item in value]
    return value
