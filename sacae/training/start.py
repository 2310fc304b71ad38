"""From settings to a training that can run: a new one, or the continuation of the one in the run folder."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from rich.console import Console

from sacae import config as configs
from sacae import envs
from sacae.envs.contract import Stepper
from sacae.envs.egl_devices import use_gpu
from sacae.envs.process import obstacle
from sacae.errors import UserError
from sacae.invocation import how_to_continue
from sacae.keywords import keyword_arguments
from sacae.replay.memory import check_processes
from sacae.settings import Settings
from sacae.signals import StopRequest
from sacae.text import in_time, say
from sacae.training import checkpoint, exported, loop, pruned, run_folder, trackers, unstarted
from sacae.training.callbacks import Callbacks
from sacae.training.device import choose_device, compute_deterministically, keep_freed_memory, use_threads
from sacae.training.learner import Learner
from sacae.training.lock import Lock, refuse_if_held, take
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

    def train(self, callbacks: Callbacks | None = None) -> bool:
        """Trains, prints what came of it, and closes everything; True if the run is complete. See `loop.train`."""
        self.run.callbacks = callbacks or self.run.callbacks
        try:
            complete = loop.train(*self)
        finally:
            self.close()
        print_results(self.run, self.learner)
        return complete

    def close(self) -> None:
        """Closes files, environments and processes."""
        # An error in one leaves none of the others open. The last part that is added closes first.
        with contextlib.ExitStack() as closing:
            for part in (self.stepper, self.run, self.learner):
                closing.callback(part.close)


Start = Callable[[Settings, Console, bool], Training]
"""Prepares a training of these settings; the bool says whether it continues the one in the run folder."""


@dataclass(frozen=True)
class Opening:
    """What is known of a run before its networks are made: the machine, and the checkpoint it continues from.

    found: the checkpoint; None in a new run, and in one that ended before its first checkpoint. lock: the run folder's;
    None in a new run, whose folder is not made yet.
    """

    console: Console
    device: torch.device
    found: checkpoint.Checkpoint | None
    lock: Lock | None = None

    def say(self, text: str) -> None:
        """Prints a line."""
        say(self.console, text)

    def with_rendering(self, config: S) -> S:
        """Chooses the OpenGL library and prints which; without one, a run from state goes on without videos.

        Gymnasium environments render themselves; whether they can is asked only where there is to be a video.
        """
        if config.task.env:
            arguments = keyword_arguments(full_task(config).env_kwargs)
            problem = envs.rendering_problem(config.task.env, arguments) if config.train.save_video else ""
            if problem:
                self.say(f"there will be no videos: {problem}")
            return config.replace(save_video=config.train.save_video and not problem)
        rendering = envs.rendering.configure(required=full_task(config).from_pixels)
        for line in (rendering.describe(), rendering.warning, rendering.problem):
            if line:
                self.say(line)
        return config.replace(save_video=config.train.save_video and not rendering.problem)

    def in_processes(self, config: Settings, wanted: bool) -> bool:
        """Whether environments step in processes of their own, as wanted; says why where they cannot.

        What is only defined in a notebook or at a prompt, such as a Gymnasium environment, is not in a new process.
        """
        problem = obstacle() if wanted else ""
        if wanted and config.task.env and hasattr(sys, "ps1"):  # IPython sets it too
            problem = "what a notebook or prompt defines is not in other processes"
        if problem:
            self.say(f"environments step in this process, without --overlap: {problem}")
        return wanted and not problem

    @contextlib.contextmanager
    def undone_on_error(self) -> Iterator[contextlib.ExitStack]:
        """Releases the folder, and closes what is given to the stack, where the block raises.

        An exception that is kept, as a notebook keeps the last one, would hold them otherwise.
        """
        with contextlib.ExitStack() as undo:
            if self.lock:
                undo.callback(self.lock.release)
            yield undo
            undo.pop_all()

    def begin(self, config: Settings, learner: Learner, stepper: Stepper) -> Training:
        """Creates the run folder and starts the first episodes, or restores the checkpoint.

        Raises UserError if the folder is in use, or the checkpoint does not fit.
        """
        stop = StopRequest()
        with contextlib.ExitStack() as undo:
            state, returns = self._restore(config, learner, stepper)
            with stop.on_signals(self.say):  # Before anything is written.
                held = self.lock or self._lock_new(config.work_dir)
                undo.callback(held.release)
                if state is None:
                    self._begin_anew(config.work_dir)
                run = Run(config, learner, stepper, self.device, self.console, state, held, stop)
                undo.callback(run.close)
                if returns is None or not run.goes_on_from(returns):
                    learner.begin(*stepper.reset())
                    run.begin_episodes()
                run.note_failures(stepper)
                learner.open(run, state)
            undo.pop_all()
        return Training(run, learner, stepper)

    def _restore(
        self, config: Settings, learner: Learner, stepper: Stepper
    ) -> tuple[dict[str, Any] | None, Sequence[float | None] | None]:
        """Restores the checkpoint, if there is one. Returns its state, and what `Stepper.restore` does.

        The latter is None if running episodes cannot go on.
        """
        if self.found is None:
            return None, None
        folder = config.work_dir
        replay, needed = learner.saved_replay, learner.saves_replay
        found = checkpoint.newest_with_replay(folder, self.found, replay, needed, self.say)
        with checkpoint.fitting(folder / checkpoint.FOLDER / found.name):
            returns = stepper.restore(found.state["envs"])
            # Checkpoints of 0.1.0 keep the learner's counters among the loop's.
            state = {"learner": found.state["loop"]} | found.state | {"replay": found.replay}
            episodes_go_on = learner.load(state)
        checkpoint.make_newest(folder, found)
        if found is self.found and found.name != checkpoint.PREVIOUS:  # what was damaged may be restored
            checkpoint.remove_stray_chunks(folder, found)
        return found.state, returns if episodes_go_on else None

    def _lock_new(self, folder: Path) -> Lock:
        run_folder.make(folder)
        return take_lock(folder, self.console)

    def _begin_anew(self, folder: Path) -> None:
        if unstarted.is_unstarted(folder):
            self.say(f"{folder} holds a run that ended before its first checkpoint; it begins anew")
            unstarted.clear(folder)


def open_run(config: Settings, console: Console, resume: bool) -> Opening:
    """Prepares the machine, and reads the checkpoint that a resumed run continues from.

    A run that ended before its first checkpoint is a new one, resumed or not.

    Raises UserError, before anything is written, if the run folder is in use, or has no checkpoint of its settings.
    """
    folder = config.work_dir
    if config.train.logger != "none":
        trackers.require_package(config.train.logger)
    refuse_if_held(folder)
    anew = unstarted.is_unstarted(folder)
    if not (resume or anew):
        run_folder.refuse_if_used(folder)
    device = choose_device(config.train.device)
    if device.type == "cuda" and (line := use_gpu(device.index)):
        say(console, line)
    keep_freed_memory()
    use_threads(config.train.num_threads)
    compute_deterministically(config.train.deterministic)
    if anew or not resume:
        return Opening(console, device, None)
    if not folder.is_dir():
        raise UserError(f"{folder} has no checkpoint; start the run anew in another --work-dir")
    pruned.refuse(folder)
    exported.refuse(folder)
    held = take_lock(folder, console)
    try:
        found = checkpoint.newest(folder, say=lambda text: say(console, text))
        run_folder.refuse_other_settings(folder, config, found.state)
        _refuse_fewer_steps(folder, config, found.state)
    except BaseException:
        held.release()
        raise
    return Opening(console, device, found, held)


def _refuse_fewer_steps(folder: Path, config: Settings, state: Mapping[str, Any]) -> None:
    """Raises UserError for a budget that is lowered below the steps of the checkpoint: what was made is made."""
    budget, made = config.train.num_train_steps, state["loop"]["agent_step"] * config.task.action_repeat
    if budget < made and budget < configs.read(folder / run_folder.CONFIG)["settings"]["train"]["num_train_steps"]:
        raise UserError(
            f"num_train_steps is {budget}, but the run in {folder} has made {made:,} environment steps already; give "
            "more, or leave it out"
        )


def take_lock(folder: Path, console: Console) -> Lock:
    """Takes a run folder's lock, and prints if there are no locks. Raises UserError as `take`."""
    held = take(folder)
    if held.warning:
        say(console, held.warning)
    return held


def make_stepper(config: Settings, in_processes: bool = False) -> Stepper:
    """The training environments, each with a random stream of its own.

    Raises UserError, before any process starts, if so many do not fit into memory.
    """
    task, count = full_task(config), config.train.num_envs
    check_processes("num_envs", count, PROCESS_BYTES if in_processes else ENVIRONMENT_BYTES, "each environment")
    recipes = [
        functools.partial(envs.from_config, task, seed_for(config.train.seed, ENVIRONMENT, i)) for i in range(count)
    ]
    return envs.make_stepper(recipes, in_processes, config.keeps_state, config.train.max_env_errors)


def print_results(run: Run, learner: Learner) -> None:
    """Prints how far the run is, where its pictures lie, how to play it back, and how long a full run takes."""
    state = "complete" if run.finished else f"stopped; continue it with {how_to_continue(run.folder)}"
    steps = f"{run.env_step:,} environment steps, {learner.updates_done:,} updates"
    say(run.console, f"run {state}: {steps}, {in_time(run.stopwatch.hours)}")
    if run.env_errors:
        say(run.console, f"  errors of environments: {run.env_errors}")
    for name, path in _newest_pictures(run).items():
        say(run.console, f"  {name}: {path}")
    say(run.console, f"  play it back: {run.config.how_to_play(run.folder)}")
    full = run.config.full_run()
    if run.config.train.num_train_steps < full.train.num_train_steps and run.last_speed is not None:
        total = full.train.num_train_steps
        text = f"a full run is {total:,} environment steps: about {in_time(total / run.last_speed / 3600)}"
        say(run.console, f"{text} at this speed{run.config.cheaper_than(full)}")


def _newest_pictures(run: Run) -> Mapping[str, Path]:
    curve = run.folder / "curve.png"
    newest = {kind: _newest(run.folder / kind) for kind in ("video", "reconstruction")}
    pictures = {"learning curve": curve if curve.exists() else None, **newest}
    return {name: path for name, path in pictures.items() if path is not None}


def _newest(folder: Path) -> Path | None:
    """The picture of the latest environment step, which is its name; other files are not the run's."""
    numbered = (path for path in folder.glob("*.*") if path.stem.isdecimal() and path.stem.isascii())
    return max(numbered, key=lambda path: int(path.stem), default=None)
