"""The folder of an exported agent: its weights as safetensors, beside config.yaml. Nothing in it can run code."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import yaml

from sacae.errors import UserError
from sacae.files import write_atomically
from sacae.training.unstarted import CONFIG
from sacae.types import EnvSpec

WEIGHTS = "agent.safetensors"
FORMAT = "1"

Dtype = Literal["float32", "float16"]
"""How floating-point weights are stored; an agent always computes with float32."""


def weights(folder: Path) -> Path:
    """Where the weights of an exported agent lie."""
    return folder / WEIGHTS


def is_in(folder: Path) -> bool:
    """Whether the folder holds an exported agent."""
    return weights(folder).is_file()


def refuse(folder: Path) -> None:
    """Raises UserError for an exported agent where a training is to go on."""
    if is_in(folder):
        raise UserError(
            f"{folder} holds an exported agent, which cannot be trained further; resume the run that it is of, or "
            "start one in another --work-dir"
        )


def write(
    folder: Path, state: dict[str, Any], spec: EnvSpec, agent_step: int, config: dict[str, Any], dtype: Dtype
) -> None:
    """Writes an agent into a folder that is there.

    state: of `Agent.acting_state`. agent_step: how far it was trained. config: the content of config.yaml.
    Raises UserError if a file cannot be written, and for a weight that the dtype does not hold.
    """
    from safetensors.torch import save

    about = {
        "sacae": FORMAT,
        "agent": state["agent"],
        "agent_step": str(agent_step),
        "spec": json.dumps(dataclasses.asdict(spec)),
    }
    content = save({name: _stored(name, value, dtype) for name, value in state["acting"].items()}, about)
    write_atomically(weights(folder), lambda path: path.write_bytes(content), lambda: len(content))
    text = yaml.safe_dump(config, sort_keys=False)
    write_atomically(folder / CONFIG, lambda path: path.write_text(text), lambda: len(text))


def _stored(name: str, value: Any, dtype: Dtype) -> Any:
    """A tensor as it is stored."""
    import torch

    if not value.is_floating_point():
        return value.contiguous()
    stored = value.to(getattr(torch, dtype)).contiguous()
    if not stored.isfinite().all() and value.isfinite().all():
        raise UserError(f"dtype is {dtype}, but {name} is too large for it; use --dtype float32")
    return stored


def read(folder: Path, best: bool = False, step: int | None = None) -> dict[str, Any]:
    """What `write` wrote, as the parts of a checkpoint that playing needs: "learning", "loop" and "spec".

    Raises UserError if it cannot be read, or another checkpoint than the one in it is asked for.
    """
    asked = "best is on" if best else f"step is {step}" if step is not None else ""
    if asked:
        raise UserError(f"{asked}, but {folder} holds an exported agent and no other checkpoints; leave it out")
    from safetensors import SafetensorError, safe_open

    path = weights(folder)
    try:
        with safe_open(path, framework="pt") as file:
            about, names = file.metadata() or {}, file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
        spec = _spec(json.loads(about["spec"]))
        agent, agent_step = about["agent"], int(about["agent_step"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read as an exported agent ({reason}); export the run anew") from None
    return {"learning": {"agent": agent, "acting": tensors}, "loop": {"agent_step": agent_step}, "spec": spec}


def _spec(values: dict[str, Any]) -> EnvSpec:
    return EnvSpec(**values | {"frame_shape": tuple(values["frame_shape"])})
