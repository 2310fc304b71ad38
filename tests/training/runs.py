"""Tiny runs of agents, and what tests do with runs: read their files, stop them, compare them."""

import csv
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from sacae import config as configs
from sacae.training import off_policy
from sacae.training.start import Training

SMALL_PIXELS = {
    # The precision is named: what `auto` chooses differs between machines.
    "image_size": 48, "num_layers": 2, "num_filters": 4, "feature_dim": 8, "precision": "fp32",
}  # fmt: skip
SMALL_STATE = {"domain": "cartpole", "task": "swingup", "obs": "state", "action_repeat": 2}
SHORT = {
    "hidden_dim": 16, "batch_size": 4, "seed_steps": 5, "initial_updates": 3, "num_train_steps": 80, "eval_every": 40,
    "checkpoint_every": 40, "num_eval_episodes": 1, "save_video": False, "overlap": False, "precision": "fp32",
}  # fmt: skip


def start(folder: Path, resume: bool = False, obs: str = "pixels", **settings: Any) -> Training:
    """A training of an agent in that folder, new or resumed with the settings that lie there."""
    if resume and (folder / "config.yaml").exists():
        config = configs.load(folder / "config.yaml", configs.Config()).replace(**settings)
    else:
        small = SMALL_PIXELS if obs != "state" else {} if "env" in settings else SMALL_STATE
        config = configs.make(**(small | SHORT | {"obs": obs, "work_dir": folder} | settings))
    return off_policy.start(config, Console(file=io.StringIO(), width=200), resume)


# What it wrote.


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


TIMING = ("hours", "env_steps_per_second", "updates_per_second", "share_")


def rows_without_timing(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file without what differs between two equal runs."""
    return [{k: v for k, v in row.items() if not k.startswith(TIMING)} for row in rows(path)]


def said(training: Training) -> str:
    """What it printed."""
    return training.run.console.file.getvalue()


# Stop and resume.


def stop_when(training: Training, condition: Callable[[Training], bool]) -> None:
    """Requests a stop, as Ctrl-C would, after the first update or step at whose end the condition holds."""
    for name in ("update", "after_step"):
        original = getattr(training.learner, name)

        def wrapped(*args, _original=original, **kwargs):
            result = _original(*args, **kwargs)
            training.run.stopping |= condition(training)
            return result

        setattr(training.learner, name, wrapped)


def in_parts(make: Callable[..., Training], conditions: Iterable[Callable[[Training], bool]]) -> Training:
    """A run that was stopped and resumed at each condition in turn, and then ended. make: as `start`, of one folder."""
    training = make()
    for condition in conditions:
        stop_when(training, condition)
        assert not training.train()
        training = make(resume=True)
    assert training.train()
    return training


def in_burst(training: Training) -> bool:
    """Within the first burst of updates."""
    return training.learner.updates_done == 2


def at_an_episodes_start(training: Training) -> bool:
    """Between the first environment's episodes, once it learns."""
    return training.learner.updates_done > 2 and training.run.episode_length[0] == 0


def mid_episode(training: Training) -> bool:
    """In the middle of an episode of the first environment."""
    return training.run.episode_length[0] == 3


def everything(training: Training) -> dict[str, torch.Tensor]:
    """What must not depend on whether a run was interrupted."""
    replay = training.learner.replay.sample(64, np.random.default_rng(0))._asdict().items()
    return {**training.learner.agent.state_dict(), **{f"replay.{k}": v for k, v in replay if v is not None}}


def assert_same_run(ours: Training, theirs: Training) -> None:
    """The same networks, replay and rows."""
    left, right = everything(ours), everything(theirs)
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name
    assert_same_rows(ours, theirs)


def assert_same_rows(ours: Training, theirs: Training) -> None:
    """The same rows in train.csv and eval.csv, but for their times."""
    for file in ("train.csv", "eval.csv"):
        assert rows_without_timing(ours.run.folder / file) == rows_without_timing(theirs.run.folder / file)
