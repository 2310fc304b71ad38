"""Checkpoints: a state file that is replaced in one step, beside replay chunks that are never rewritten."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sacae.errors import UserError
from sacae.replay import FrameReplay
from sacae.training.run_folder import write_atomically

FOLDER = "checkpoint"
STATE = "state.pt"
BEST = "best.pt"
REPLAY = "replay"
FORMAT = 2


def save(run_folder: Path, state: dict[str, Any], replay: FrameReplay | None) -> None:
    """Writes the state, and the replay unless it is None, so that a crash at any moment leaves a whole checkpoint.

    Where the replay is None, one saved before is removed: it no longer fits the state.

    state: nested dicts and lists of tensors, NumPy arrays and plain values.
    """
    folder = run_folder / FOLDER
    manifest = None if replay is None else replay.save(folder / REPLAY)
    content = {"format": FORMAT, "state": _to_plain(state), "replay": manifest}
    write_atomically(folder / STATE, lambda path: torch.save(content, path))
    if replay is None or manifest is None:
        shutil.rmtree(folder / REPLAY, ignore_errors=True)
    else:
        replay.prune(folder / REPLAY, manifest)


def save_best(run_folder: Path, state: dict[str, Any]) -> None:
    """Writes, beside the last checkpoint, what it takes to play the best policy so far. state as of `save`."""
    content = {"format": FORMAT, "state": _to_plain(state), "replay": None}
    write_atomically(run_folder / FOLDER / BEST, lambda path: torch.save(content, path))


def load(
    run_folder: Path, device: torch.device | str = "cpu", name: str = STATE
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The state that `save` wrote, and the replay's manifest for `load_replay`. Raises UserError if there is none.

    name: BEST for what `save_best` wrote.
    """
    path = run_folder / FOLDER / name
    if not path.exists():
        raise UserError(f"{run_folder} has no checkpoint; start the run anew in another --work-dir")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise UserError(f"checkpoint {path} cannot be read: {str(error).splitlines()[0]}") from None
    if content.get("format") != FORMAT:
        raise UserError(f"checkpoint {path} has format {content.get('format')}; this version reads format {FORMAT}")
    return _from_plain(content["state"]), content["replay"]


def load_replay(run_folder: Path, manifest: dict[str, Any], replay: FrameReplay) -> None:
    """Fills the replay with what was saved."""
    replay.load(run_folder / FOLDER / REPLAY, manifest)


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
