"""`sacae export`: a frozen agent from a run folder, with all that it takes to load it elsewhere."""

import csv
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console

from sacae import config as configs
from sacae.errors import UserError
from sacae.files import in_units, write_atomically
from sacae.text import say
from sacae.training import exported, onnx_policy, run_folder
from sacae.training.trained import TrainedAgent, load
from sacae.types import EnvSpec

CARD = "README.md"

Format = Literal["safetensors", "onnx"]


def export(
    run_dir: Path, out: Path, best: bool = False, step: int | None = None, format: Format = "safetensors",
    dtype: exported.Dtype = "float32", console: Console | None = None,
) -> Path:  # fmt: skip
    """Writes the agent of a run folder's checkpoint into a folder of its own, which `sacae.load_agent` reads.

    best, step: which checkpoint, as of `sacae.load_agent`. format: onnx adds the policy as policy.onnx, compared with
    the agent by onnxruntime. dtype: of the stored weights; float16 halves the folder, and moves actions a little.
    console: is told what was written.

    Raises UserError if there is no such run or checkpoint, if `out` holds anything, or if the formats' packages are
    missing.
    """
    console = console or Console()
    _refuse_used(out)
    if format == "onnx":
        onnx_policy.require_packages()
    agent = load(run_dir, best, step, device="cpu")
    policy = onnx_policy.convert(agent) if format == "onnx" else None
    content = _config(run_dir)
    run_folder.make_results_folder(out)
    agent_step = agent.env_step // agent.config.task.action_repeat
    exported.write(out, agent.network.acting_state(), agent.spec, agent_step, content, dtype)
    if policy is not None:
        path = out / onnx_policy.FILE
        write_atomically(path, lambda temporary: temporary.write_bytes(policy), lambda: len(policy))
    card = _card(agent, run_dir, content, dtype, policy is not None)
    write_atomically(out / CARD, lambda temporary: temporary.write_text(card), lambda: len(card))
    size = in_units(sum(path.stat().st_size for path in out.iterdir()))
    say(console, f"{agent.config.variant} of {agent.config.task_name} after {agent.env_step:,} environment steps")
    say(console, f"written to {out}: {', '.join(sorted(path.name for path in out.iterdir()))}; {size}")
    return out


def _refuse_used(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"out is {out}, but there is something in it; choose another --out")


def _config(run_dir: Path) -> dict[str, Any]:
    """What config.yaml of an export holds: the run's, without what is of the machine."""
    content = configs.read(run_dir / run_folder.CONFIG)
    settings = {group: dict(values) for group, values in content["settings"].items()}
    settings["train"].pop("work_dir", None)
    kept = {name: content[name] for name in ("agent", "versions", "git_commit") if name in content}
    return kept | {"settings": settings}


# The model card.


def _card(agent: TrainedAgent, run_dir: Path, content: dict[str, Any], dtype: exported.Dtype, with_onnx: bool) -> str:
    config, spec = agent.config, agent.spec
    seen = {"pixels+state": "pixels with state vectors", "pixels": "pixels"}.get(config.task.obs, "state vectors")
    kind, values = ("float32", "in [-1, 1]") if spec.num_actions is None else ("int64", f"below {spec.num_actions}")
    facts = {
        "task": f"{config.task_name}, from {seen}, action repeat {config.task.action_repeat}",
        "algorithm": f"{config.variant}, preset {config.train.preset}, seed {config.train.seed}",
        "trained for": f"{agent.env_step:,} environment steps",
        "returns": _returns(run_dir / run_folder.EVAL_CSV, agent.env_step),
        "observation": _observation(spec),
        "action": f"{kind} ({spec.action_dim},), {values}",
        "weights": dtype,
    }
    return CARD_TEXT.format(
        tag=config.variant,
        title=f"{config.variant} on {config.task_name}",
        facts="\n".join(f"| {name} | {value} |" for name, value in facts.items()),
        onnx=onnx_policy.HOW_TO if with_onnx else "",
        weights=exported.WEIGHTS,
        version=run_folder.version("sacae"),
        versions=_versions(content.get("versions", {})),
        commit=content.get("git_commit", "unknown"),
    )


def _observation(spec: EnvSpec) -> str:
    frames = f"{spec.frame_dtype} {spec.obs_shape}"
    if spec.frame_stack > 1:
        frames += f": the last {spec.frame_stack} frames, oldest first"
    return f"`pixels`, {frames}; `state`, float32 ({spec.state_dim},)" if spec.sees_state else frames


CARD_TEXT = """---
library_name: sacae
tags: [reinforcement-learning, {tag}]
---

# {title}

| | |
|---|---|
{facts}

## Use

```python
import sacae

agent = sacae.load_agent("this folder")
env = agent.make_env()
obs, _ = env.reset(seed=0)
action = agent.predict(obs)
```

`{weights}` holds the policy, its encoder, the critic's encoder and the decoder where there is one: what `predict`,
`latent` and `reconstruct` need. Value functions and optimisers are not in it, so training cannot go on from it.
`config.yaml` holds the settings of the run.
{onnx}
## Versions

Exported by sacae {version}. Trained with {versions}; commit {commit}.
"""


def _versions(versions: dict[str, str]) -> str:
    """The packages that were there, and their versions."""
    return ", ".join(f"{n} {version}" for n, version in versions.items() if version[:1].isdigit()) or "unknown versions"


def _returns(path: Path, env_step: int) -> str:
    """Mean and deviation of the last evaluation up to a step."""
    try:
        with open(path, newline="") as file:
            rows = [(int(row["env_step"]), float(row["episode_return"])) for row in csv.DictReader(file)]
    except (OSError, KeyError, TypeError, ValueError, csv.Error):
        return "unknown"
    at = max((step for step, _ in rows if step <= env_step), default=None)
    if at is None:
        return "not evaluated"
    returns = [value for step, value in rows if step == at]
    episodes = "1 episode" if len(returns) == 1 else f"{len(returns)} episodes"
    return f"{np.mean(returns):.1f} ± {np.std(returns):.1f} over {episodes} at {at:,} environment steps"
