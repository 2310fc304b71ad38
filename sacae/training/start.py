"""From settings to a training that can run: a new one, or the continuation of the one in the run folder."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from rich.console import Console

from sacae import envs
from sacae.envs.contract import Stepper
from sacae.replay.memory import check_processes
from sacae.settings import Settings
from sacae.text import say
from sacae.training import checkpoint, loop, run_folder
from sacae.training.device import choose_device, keep_freed_memory
from sacae.training.learner import Learner
from sacae.training.run import Run
from sacae.training.streams import ENVIRONMENT, seed_for
from sacae.training.task import full_task

S = TypeVar("S", bound=Settings)

ENVIRONMENT_BYTES, PROCESS_BYTES = 5_000_000, 100_000_000
"""Bytes that an environment takes at least, in this process or in one of its own."""


class Training(NamedTuple):
    """A training that is ready to begin or to go on."""

    run: Run
    learner: Learner
    stepper: Stepper

    def train(self) -> bool:
        """Trains, prints what came of it, and closes everything; True if the run is complete. See `loop.train`."""
        try:
            complete = loop.train(*self)
        finally:
            self.close()
        print_results(self.run, self.learner)
        return complete

    def close(self) -> None:
        """Closes files, environments and processes."""
        self.learner.close()
        self.run.close()
        self.stepper.close()


Start = Callable[[Settings, Console, bool], Training]
"""Prepares a training of these settings; the bool says whether it continues the one in the run folder."""


@dataclass(frozen=True)
class Opening:
    """What is known of a run before its networks are made: the machine, and the checkpoint it continues from.

    state: the checkpoint's, with the replay's manifest as "replay"; None in a new run.
    """

    console: Console
    device: torch.device
    state: dict[str, Any] | None

    def say(self, text: str) -> None:
        """Prints a line."""
        say(self.console, text)

    def with_rendering(self, config: S) -> S:
        """Chooses the OpenGL library and prints which; without one, a run from state goes on without videos.

        Gymnasium environments render themselves; whether they can is asked only where there is to be a video.
        """
        if config.task.env:
            problem = envs.rendering_problem(config.task.env) if config.train.save_video else ""
            if problem:
                self.say(f"there will be no videos: {problem}")
            return config.replace(save_video=config.train.save_video and not problem)
        rendering = envs.rendering.configure(required=full_task(config).obs == "pixels")
        for line in (rendering.describe(), rendering.warning, rendering.problem):
            if line:
                self.say(line)
        return config.replace(save_video=config.train.save_video and not rendering.problem)

    def begin(self, config: Settings, learner: Learner, stepper: Stepper) -> Training:
        """Creates the run folder and starts the first episodes, or restores the checkpoint."""
        state, episodes_go_on = self.state, False
        if state:
            stepper.restore(state["envs"])
            # Checkpoints of 0.1.0 keep the learner's counters among the loop's.
            episodes_go_on = learner.load({"learner": state["loop"]} | state)
            if learner.saved_replay is not None and state["replay"] is not None:
                checkpoint.load_replay(config.work_dir, state["replay"], learner.saved_replay)
        run = Run(config, learner, stepper, self.device, self.console, state)
        if not episodes_go_on:
            learner.begin(*stepper.reset())
            run.begin_episodes()
        learner.open(run, state)
        return Training(run, learner, stepper)


def open_run(config: Settings, console: Console, resume: bool) -> Opening:
    """Prepares the machine, and reads the checkpoint that a resumed run continues from.

    Raises UserError, before anything is written, where the run folder is in use or has no checkpoint.
    """
    if not resume:
        run_folder.refuse_if_used(config.work_dir)
    device = choose_device(config.train.device)
    keep_freed_memory()
    if config.train.num_threads:
        torch.set_num_threads(config.train.num_threads)
    if not resume:
        return Opening(console, device, None)
    state, manifest = checkpoint.load(config.work_dir)
    return Opening(console, device, state | {"replay": manifest})


def make_stepper(config: Settings, in_processes: bool = False) -> Stepper:
    """The training environments, each with a random stream of its own.

    Raises UserError, before any process starts, if so many do not fit into memory.
    """
    task, count = full_task(config), config.train.num_envs
    check_processes("num_envs", count, PROCESS_BYTES if in_processes else ENVIRONMENT_BYTES, "each environment")
    recipes = [
        functools.partial(envs.from_config, task, seed_for(config.train.seed, ENVIRONMENT, i)) for i in range(count)
    ]
    return envs.make_stepper(recipes, in_processes, config.keeps_state)


def print_results(run: Run, learner: Learner) -> None:
    """Prints how far the run is, where its pictures lie, how to play it back, and how long a full run takes."""
    hours = run.stopwatch.hours
    state = "complete" if run.finished else "stopped; continue it with the same command and --resume"
    steps = f"{run.env_step:,} environment steps, {learner.updates_done:,} updates"
    say(run.console, f"run {state}: {steps}, {hours:.2f} hours")
    for name, path in _newest_pictures(run).items():
        say(run.console, f"  {name}: {path}")
    say(run.console, f"  play it back: {run.config.PLAY_COMMAND} {run.folder}")
    full = run.config.full_run()
    if run.config.train.num_train_steps < full.train.num_train_steps and run.last_speed is not None:
        total = full.train.num_train_steps
        text = f"a full run is {total:,} environment steps: about {total / run.last_speed / 3600:.1f} hours"
        say(run.console, f"{text} at this speed{run.config.cheaper_than(full)}")


def _newest_pictures(run: Run) -> Mapping[str, Path]:
    curve = run.folder / "curve.png"
    newest = {
        kind: max((run.folder / kind).glob("*.*"), key=lambda path: int(path.stem), default=None)
        for kind in ("video", "reconstruction")
    }
    pictures = {"learning curve": curve if curve.exists() else None, **newest}
    return {name: path for name, path in pictures.items() if path is not None}
