"""What every training has around its steps: run folder, log, evaluations, checkpoints, a clean stop."""

import functools
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import imageio.v2 as imageio
import numpy as np
import torch
from rich.console import Console

from sacae import config as configs
from sacae import envs
from sacae.errors import UserError
from sacae.training import checkpoint, pictures, run_folder
from sacae.training.device import choose_device, keep_freed_memory
from sacae.training.evaluation import Interrupted, Player, RememberingPlayer, evaluate, success_rate
from sacae.training.logger import Logger, Means, Stopwatch
from sacae.training.progress import ProgressReport
from sacae.training.views import View

# Names of the random streams; each draws from its own generator, so that none depends on how often another is used.
ENVIRONMENT, ACTIONS, REPLAY, UPDATES, EVALUATION, STRIP, RESETS = range(7)


def seed_for(seed: int, *stream: int) -> int:
    """A seed that differs for every stream of a run, and is the same in every run of that seed."""
    return int(np.random.SeedSequence([seed, *stream]).generate_state(1)[0])


class TrainingLoop(ABC):
    """One run: its folder and files, and when it steps, evaluates and writes checkpoints. Subclasses say what learns.

    agent_step counts decisions over all environments; env_step, which budgets and files use, is that times the
    action repeat. A subclass's constructor calls `_open`, then `_make` whatever learns, then `_begin`.
    """

    LOOP_STATE: tuple[str, ...] = (
        "agent_step",
        "next_eval",
        "next_checkpoint",
        "best_return",
        "episode_return",
        "episode_length",
    )
    """The attributes that a checkpoint keeps as they are; subclasses add theirs."""

    REPORTS_SUCCESS: bool = False
    """Whether eval.csv says which episodes ended in success, as far as the environment does."""

    config: configs.Settings
    player: Player | RememberingPlayer
    """What evaluations watch: it acts without exploration."""

    # What a subclass supplies.

    @property
    @abstractmethod
    def num_updates(self) -> int:
        """Updates so far."""

    @abstractmethod
    def _step(self) -> None:
        """One agent step of each environment, and what is learned meanwhile; counts agent_step."""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it beside the loop's own: for `_restore_state`."""

    @abstractmethod
    def _restore_state(self, state: dict[str, Any]) -> None:
        """Takes over what `_state` returned."""

    @abstractmethod
    def _playable(self) -> dict[str, Any]:
        """What it takes to play the policy as it is now, for the checkpoint of the best evaluation."""

    @abstractmethod
    def _default_settings(self) -> configs.Settings:
        """The settings of a full run of this task."""

    def _save(self, state: dict[str, Any]) -> None:
        checkpoint.save(self.folder, state, None)

    def _check_finite(self) -> None:
        """Raises UserError where something that was learned is not finite."""
        return

    def _view(self, _observations: list[np.ndarray]) -> View | None:
        """What goes on inside at moments of an evaluation episode, where there is something to see."""
        return None

    # Setting up.

    def _open(self, config: configs.Settings, console: Console, resume: bool) -> dict | None:
        """Prepares the machine; returns the state that a resumed run goes on from, with the replay's manifest in it.

        Raises UserError for whatever the user can put right, before anything is written.
        """
        self.console = console
        self.folder = config.work_dir
        if not resume:
            run_folder.refuse_if_used(self.folder)
        self.device = choose_device(config.train.device)
        keep_freed_memory()
        if config.train.num_threads:
            torch.set_num_threads(config.train.num_threads)
        # Read before anything is made: a run folder without a checkpoint is to be refused at once.
        if not resume:
            return None
        state, manifest = checkpoint.load(self.folder)
        return state | {"replay": manifest}

    def _with_rendering(self, config: configs.Settings) -> configs.Settings:
        """Chooses the OpenGL library and says which; without one, a run from state goes on without videos.

        Gymnasium environments draw themselves, and whether they can is only asked where there is to be a video.
        """
        if config.task.env:
            problem = envs.rendering_problem(config.task.env) if config.train.save_video else ""
            if problem:
                self._say(f"there will be no videos: {problem}")
            return config.replace(save_video=config.train.save_video and not problem)
        rendering = envs.rendering.configure(required=config.task.obs == "pixels")
        for line in (rendering.describe(), rendering.warning, rendering.problem):
            if line:
                self._say(line)
        return config.replace(save_video=config.train.save_video and not rendering.problem)

    def _make_envs(self, config: configs.Settings, in_processes: bool = False) -> None:
        """Makes the training environments, and describes what is seen and done in them."""
        seed = config.train.seed
        recipes = [
            functools.partial(envs.from_config, config.task, seed_for(seed, ENVIRONMENT, i))
            for i in range(config.train.num_envs)
        ]
        self.stepper = envs.make_stepper(recipes, in_processes, config.keeps_state)
        self.spec = envs.spec_of(self.stepper.env_info, config.task.frame_stack)

    def _prepare(self, config: configs.Settings, console: Console, resume: bool) -> dict | None:
        """What a run of an algorithm without choices of its own begins with: all of the above, and its seed.

        Raises UserError for whatever the user can put right, before anything is written.
        """
        state = self._open(config, console, resume)
        self.config = self._with_rendering(config).replace(work_dir=config.work_dir, device=str(self.device))
        self._make_envs(self.config)
        torch.manual_seed(config.train.seed)
        return state

    def _begin(self, state: dict | None, metric_names: tuple[str, ...]) -> None:
        """Opens the run folder and starts counting, or goes on from a state."""
        if state is None:
            run_folder.create(self.config)
        num_envs = self.config.train.num_envs
        self.agent_step = 0
        self.next_eval = 0
        self.next_checkpoint = 0
        self.best_return: float | None = None  # mean of the best evaluation
        self.episode_return = np.zeros(num_envs)
        self.episode_length = np.zeros(num_envs, np.int64)
        self.stop_requested = False
        self.eval_envs: list[envs.Env] = []
        self.means = Means()
        self._last_speed: float | None = None  # environment steps per second
        self.stopwatch = Stopwatch(state["hours"] if state else 0.0)
        run = {"agent": self.config.variant, "task": self.config.task_name, "seed": self.config.train.seed}
        sizes = state["logger"] if state else None
        self.logger = Logger(self.folder, run, metric_names, sizes, self.REPORTS_SUCCESS)
        if state:
            self._restore(state)
            run_folder.record_resume(self.config, self.env_step)
        self.progress = ProgressReport(self.console, self.config.train.num_train_steps, self.env_step)
        self._lap = (self.env_step, self.num_updates)

    # The loop.

    @property
    def env_step(self) -> int:
        """Simulator control steps so far, over all environments."""
        return self.agent_step * self.config.task.action_repeat

    @property
    def finished(self) -> bool:
        """Whether the budget of environment steps is used up and its last evaluation made."""
        return self.env_step >= self.config.train.num_train_steps and self.next_eval > self.env_step

    def run(self) -> bool:
        """Trains until the budget is used up or a stop is requested (Ctrl-C); returns whether the run is complete.

        Either way a checkpoint is there at the end. Raises UserError when a loss is not finite.
        """
        with self._stop_on_signals():
            try:
                while not self.finished and not self.stop_requested:
                    if self.env_step >= self.next_eval:
                        self._evaluate()
                    elif self.env_step >= self.next_checkpoint:
                        self._checkpoint()
                    else:
                        self._step()
                self._checkpoint()
            finally:
                self.close()
        self._say_results()
        return self.finished

    # What is written down.

    def _note(self, metrics: dict[str, torch.Tensor]) -> None:
        """Counts an update's metrics in, tensors () on the training device, and waits for their values.

        Raises UserError where one is not finite. An agent's metrics are looked at less often; see `_check_finite`.
        """
        for name, value in metrics.items():
            if not torch.isfinite(value):
                raise UserError(
                    f"{name} was not finite at update {self.num_updates}: training stopped; the last checkpoint is "
                    "from before; try a smaller learning rate"
                )
        self.means.add(metrics)

    def _log_episode(self, i: int) -> None:
        """Writes down the episode that has ended in environment i, at the step that is being taken."""
        with self.stopwatch.section("log"):
            self._check_finite()
            env_step = self.env_step + self.config.train.num_envs * self.config.task.action_repeat
            row = {
                "env_step": env_step,
                "agent_step": self.agent_step + self.config.train.num_envs,
                "episode_return": float(self.episode_return[i]),
                "episode_length": int(self.episode_length[i]),
                "hours": self.stopwatch.hours,
                **self.means.take(),
                **self._speeds(env_step),
            }
            self.logger.episode(row)
        self.progress.note(**{"return": f"{self.episode_return[i]:.1f}"})
        self.episode_return[i], self.episode_length[i] = 0, 0

    def _seconds_in_envs(self) -> dict[str, float]:
        """Seconds since the last call that environments took, as Stepper.seconds."""
        taken = dict(self.stepper.seconds)
        self.stepper.seconds = dict.fromkeys(taken, 0.0)
        return taken

    def _speeds(self, env_step: int) -> dict[str, float]:
        """Speed and shares of time since the last row."""
        for name, seconds in self._seconds_in_envs().items():
            self.stopwatch.seconds[name] += seconds
        seconds, shares = self.stopwatch.lap()
        steps, updates = env_step - self._lap[0], self.num_updates - self._lap[1]
        self._lap = (env_step, self.num_updates)
        if steps:  # 0 where several environments end an episode at one step
            self._last_speed = steps / seconds
        parts = " ".join(f"{name.removeprefix('share_')} {share:.0%}" for name, share in shares.items())
        self.progress.note(speed=f"{steps / seconds:.1f} steps/s {updates / seconds:.1f} updates/s ({parts})")
        return {"env_steps_per_second": steps / seconds, "updates_per_second": updates / seconds} | shares

    def _skip_lap(self) -> None:
        """Forgets the time since the last row, an evaluation's among it, so that the next row is training's alone."""
        self.stopwatch.lap()
        self._seconds_in_envs()
        self._lap = (self.env_step, self.num_updates)

    def _evaluate(self) -> None:
        config, env_step = self.config.train, self.env_step
        if not self.eval_envs:
            count = min(config.num_eval_envs, config.num_eval_episodes)
            self.eval_envs = [envs.from_config(self.config.task, config.seed) for _ in range(count)]
        seeds = [seed_for(config.seed, EVALUATION, env_step, i) for i in range(config.num_eval_episodes)]
        try:
            episodes = evaluate(
                self.player,
                self.eval_envs,
                seeds,
                config.save_video,
                self.player.spec.from_pixels,
                lambda: self.stop_requested,
                lambda: self.progress.update(env_step, "evaluating"),
            )
        except Interrupted:
            return
        returns = [episode.episode_return for episode in episodes]
        row = {"env_step": env_step, "agent_step": self.agent_step, "hours": self.stopwatch.hours}
        rate = success_rate(episodes)
        successes = [episode.success for episode in episodes] if self.REPORTS_SUCCESS and rate is not None else None
        self.logger.evaluation(row, returns, [episode.length for episode in episodes], successes)
        self._keep_if_best(float(np.mean(returns)))
        self.progress.note(eval=f"{np.mean(returns):.1f}")
        success = "" if rate is None else f", success {rate:.2f}"
        self.progress.line(f"evaluation at {env_step:,} steps: {np.mean(returns):.1f} ± {np.std(returns):.1f}{success}")
        if config.save_video:
            path = self.folder / "video" / f"{env_step}.mp4"
            pictures.write_video(path, episodes[0].frames, self.eval_envs[0].metadata["render_fps"])
        self._show(self._view(episodes[0].observations))
        pictures.write_learning_curve(self.folder, f"{self.config.task_name} {self.config.variant}")
        last = env_step >= config.num_train_steps
        self.next_eval = env_step + 1 if last else next_multiple(env_step, config.eval_every, config.num_train_steps)
        self._skip_lap()

    def _keep_if_best(self, mean_return: float) -> None:
        if self.best_return is None or mean_return > self.best_return:
            self.best_return = mean_return
            loop = {"agent_step": self.agent_step}
            checkpoint.save_best(self.folder, {"learning": self._playable(), "loop": loop})

    def _show(self, view: View | None) -> None:
        """Draws what goes on inside the agent; the reconstruction strip, where there is one, is a file as well."""
        if view is None:
            return
        if view.target is not None:
            path = self.folder / "reconstruction" / f"{self.env_step}.png"
            pictures.write_reconstruction_strip(path, view.obs, view.target, view.reconstruction, view.channels)
            self.logger.image("reconstruction", imageio.imread(path)[..., :3], self.env_step)
        self.logger.image("inside", pictures.as_image(pictures.draw_view(view)), self.env_step)

    def _say_results(self) -> None:
        hours = self.stopwatch.hours
        state = "complete" if self.finished else "stopped; continue it with the same command and --resume"
        self._say(f"run {state}: {self.env_step:,} environment steps, {self.num_updates:,} updates, {hours:.2f} hours")
        newest = {kind: max((self.folder / kind).glob("*.*"), key=lambda p: int(p.stem), default=None)
                  for kind in ("video", "reconstruction")}  # fmt: skip
        curve = self.folder / "curve.png"
        for name, path in {"learning curve": curve if curve.exists() else None, **newest}.items():
            if path is not None:
                self._say(f"  {name}: {path}")
        self._say(f"  play it back: {self.PLAY_BACK} {self.folder}")
        self._say_what_a_full_run_takes()

    PLAY_BACK = "python eval.py"
    """The command that plays a run folder back."""

    def _say_what_a_full_run_takes(self) -> None:
        """For a run shorter than the default: how long the default would take at the speed measured last."""
        full = self._default_settings()
        steps = full.train.num_train_steps
        if self.config.train.num_train_steps >= steps or self._last_speed is None:
            return
        text = f"a full run is {steps:,} environment steps: about {steps / self._last_speed / 3600:.1f} hours"
        self._say(f"{text} at this speed{self._costlier(full)}")

    def _costlier(self, _full: configs.Settings) -> str:
        """What makes a full run slower than this one was."""
        return ""

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    # Going on later.

    def _checkpoint(self) -> None:
        self._check_finite()
        if self.env_step >= self.next_checkpoint:
            config = self.config.train
            self.next_checkpoint = next_multiple(self.env_step, config.checkpoint_every, config.num_train_steps)
        state = {
            "loop": {name: getattr(self, name) for name in self.LOOP_STATE},
            "envs": self.stepper.snapshot(),
            "means": self.means.state(),
            "logger": self.logger.state(self.env_step),
            "hours": self.stopwatch.hours,
        }
        self._save(state | self._state())

    def _restore(self, state: dict) -> None:
        self.means.load(state["means"], self.device)
        for name, value in state["loop"].items():
            setattr(self, name, value)
        self.stepper.restore(state["envs"])
        self._restore_state(state)
        # A longer budget than before: what was the last evaluation no longer is.
        config = self.config.train
        if self.env_step < config.num_train_steps and self.next_eval == self.env_step + 1:
            self.next_eval = next_multiple(self.env_step, config.eval_every, config.num_train_steps)

    @contextmanager
    def _stop_on_signals(self) -> Iterator[None]:
        """The first Ctrl-C (or SIGTERM) asks for a stop at the next whole step; the second interrupts at once."""

        def request(number: int, _frame: object) -> None:
            self.stop_requested = True
            self.progress.line("stopping after this step; the checkpoint follows (again: stop at once)")
            signal.signal(number, previous[number])

        in_main_thread = threading.current_thread() is threading.main_thread()
        signals = (signal.SIGINT, signal.SIGTERM) if in_main_thread else ()  # Python refuses handlers elsewhere
        previous = {number: signal.signal(number, request) for number in signals}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def close(self) -> None:
        """Closes files and environments."""
        self.progress.close()
        self.logger.close()
        self.stepper.close()
        for env in self.eval_envs:
            env.close()


def next_multiple(step: int, every: int, last: int) -> int:
    """The next multiple of `every` after `step`, but not beyond `last`."""
    return min((step // every + 1) * every, last)
