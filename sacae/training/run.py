"""A run: its folder, clock and counts, and everything that is written down while it lasts."""

import copy
import gc
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import imageio.v2 as imageio
import numpy as np
import torch
from rich.console import Console

from sacae import config as configs
from sacae import envs
from sacae.envs.contract import Failure, Stepper, StepResult
from sacae.errors import EnvironmentFailed
from sacae.settings import Settings
from sacae.signals import Abandoned, StopRequest, may_be_abandoned
from sacae.text import say
from sacae.training import checkpoint, kept, pictures, run_folder
from sacae.training.callbacks import Callbacks
from sacae.training.evaluation import Episode, EpisodeFailed, Interrupted, evaluate, success_rate
from sacae.training.learner import Learner
from sacae.training.lock import Lock
from sacae.training.logger import SUCCESS, Logger, Means, Stopwatch
from sacae.training.progress import ProgressReport
from sacae.training.schedule import Every
from sacae.training.streams import EVALUATION, seed_for
from sacae.training.task import full_task
from sacae.training.trackers import Tracking
from sacae.training.views import View


class Run:
    """When a training evaluates and writes checkpoints, and what it writes down.

    agent_step counts decisions over all environments; env_step, which budgets and files use, is that times the action
    repeat. means: of the metrics since the last row of train.csv. env_errors: how often an environment failed, in
    training and in evaluations. callbacks: whom it tells what happened.
    """

    def __init__(
        self,
        config: Settings,
        learner: Learner,
        stepper: Stepper,
        device: torch.device,
        console: Console,
        state: Mapping[str, Any] | None,
        lock: Lock,
        stop: StopRequest,
    ) -> None:
        """Begins a run in a folder without files, or continues the one in which `state` is the checkpoint's.

        lock: the folder's, which the run releases when it closes. stop: requests to stop.
        """
        if state is None:
            run_folder.create(config)
        self._lock, self._stop = lock, stop
        self.config, self.folder, self.device, self.console = config, config.work_dir, device, console
        train, num_envs = config.train, config.train.num_envs
        self.agent_step = 0
        self.evaluations = Every(train.eval_every, train.num_train_steps)
        self.checkpoints = Every(train.checkpoint_every, train.num_train_steps)
        self.best_return: float | None = None  # mean of the best evaluation
        self._best: dict[str, Any] | None = None  # what plays the policy of that evaluation
        self.episode_return, self.episode_length = np.zeros(num_envs), np.zeros(num_envs, np.int64)
        self.env_errors = 0
        self.callbacks = Callbacks()
        self._errors_in_a_row = np.zeros(num_envs, np.int64)  # of each training environment
        self.means = Means()
        self.stopwatch = Stopwatch(state["hours"] if state else 0.0, stepper.seconds)
        self.last_speed: float | None = None  # environment steps per second
        self._reports_success = SUCCESS in learner.metric_names
        self._eval_envs: list[envs.Env] = []
        columns = {"agent": config.variant, "task": config.task_name, "seed": train.seed}
        sizes = state["logger"] if state else None
        tracking = None
        if train.logger != "none":
            tracking = Tracking(train.logger, config, sizes.get("tracker") if sizes else None, self.warn)
        self.logger = Logger(
            self.folder, columns, learner.metric_names, sizes, self._reports_success, self.warn, tracking
        )
        if state:
            self._load(state)
            run_folder.record_resume(config, self.env_step)
            run_folder.remove_unfinished(self.folder)
        self.progress = ProgressReport(console, train.num_train_steps, self.env_step)
        self._lap = (self.env_step, learner.updates_done)

    def warn(self, text: str) -> None:
        """Prints a line, above the progress bar where there is one."""
        say(self.console, text)

    # Where it stands.

    @property
    def env_step(self) -> int:
        """Simulator control steps so far, over all environments."""
        return self.agent_step * self.config.task.action_repeat

    @property
    def finished(self) -> bool:
        """Whether the budget of environment steps is spent and its last evaluation made."""
        return self.env_step >= self.config.train.num_train_steps and not self.evaluation_due

    @property
    def evaluation_due(self) -> bool:
        """Whether to evaluate before the next step. The first checkpoint comes before that: a crash can be resumed."""
        return self.evaluations.due(self.env_step) and self.checkpoints.next > 0

    @property
    def checkpoint_due(self) -> bool:
        """Whether to write a checkpoint before the next step."""
        return self.checkpoints.due(self.env_step)

    @property
    def stopping(self) -> bool:
        """Whether a stop was requested."""
        return self._stop.requested

    @stopping.setter
    def stopping(self, requested: bool) -> None:
        self._stop.requested = requested

    def stop_on_signals(self) -> AbstractContextManager[None]:
        """The first Ctrl-C, SIGTERM or SIGHUP requests a stop at the next whole step; the second interrupts at once."""
        return self._stop.on_signals(self.progress.line)

    def tell_callbacks(self) -> None:
        """Tells callbacks what happened; requests a stop where one asks for it, or raised an error."""
        if not self.callbacks.tell():
            self.stopping = True

    # Steps and episodes.

    def count(self, result: StepResult, learner: Learner) -> None:
        """Counts a step of every environment, and writes a row for each episode that it ended.

        A step that failed does not count; it ended its episode before, unless that had only begun.
        """
        self.agent_step += len(result.reward) - len(result.lost)
        self.episode_return += result.reward
        self.episode_length += 1
        for i, first_frame in enumerate(result.first_frame):
            if i in result.lost:
                self.episode_length[i] -= 1
            else:
                self.means.add(learner.step_metrics(i))
            if first_frame is not None and self.episode_length[i]:
                self._log_episode(i, learner)
            if first_frame is not None and i not in result.lost:
                self._errors_in_a_row[i] = 0
        self.progress.update(self.env_step, "training")

    def note_failures(self, stepper: Stepper) -> None:
        """Says and counts what went wrong with environments since the last call.

        Raises EnvironmentFailed if training must not go on: there was a number that is not finite, or there were too
        many errors in a row.
        """
        failures, stepper.failures = stepper.failures, []
        for failure in failures:
            self.env_errors += 1
            self._errors_in_a_row[failure.environment] += 1
            if failure.ends_run or self._errors_in_a_row[failure.environment] > self.config.train.max_env_errors:
                raise self._too_much(failure)
            self.progress.line(f"{failure.text}; {failure.consequence}")

    def _too_much(self, failure: Failure) -> EnvironmentFailed:
        if failure.ends_run:
            return EnvironmentFailed(
                f"{failure.text}: training stopped; nothing of it is learned from; the checkpoint holds all steps "
                "before, and --resume begins a new episode"
            )
        limit = self.config.train.max_env_errors
        return EnvironmentFailed(
            f"{failure.text}, after {limit} other errors in a row, and max_env_errors is {limit}: training stopped; "
            "repair the environment or raise --max-env-errors, and continue with --resume"
        )

    def goes_on_from(self, returns: Sequence[float | None]) -> bool:
        """Whether repeated episodes are those that were running. returns: their returns; None for what failed.

        Another machine may round differently, so the returns need not be equal to the last bit.
        """
        same = np.allclose(np.array(returns, float), self.episode_return, rtol=1e-4, atol=1e-6)
        if not same and None not in returns:
            self.progress.line("environments return other rewards when their episodes are repeated; new episodes begin")
        return bool(same)

    def begin_episodes(self) -> None:
        """Drops what was counted of episodes that cannot go on."""
        self.episode_return[:] = 0
        self.episode_length[:] = 0

    def _log_episode(self, i: int, learner: Learner) -> None:
        with self.stopwatch.section("log"):
            learner.check_finite()
            row = {
                "env_step": self.env_step,
                "agent_step": self.agent_step,
                "episode_return": float(self.episode_return[i]),
                "episode_length": int(self.episode_length[i]),
                "hours": self.stopwatch.hours,
                **self.means.take(),
                **self._speeds(learner.updates_done),
            }
            self.logger.episode(row)
        self.callbacks.note("on_episode", row)
        self.progress.note(**{"return": f"{self.episode_return[i]:.1f}"})
        self.episode_return[i], self.episode_length[i] = 0, 0

    def _speeds(self, updates_done: int) -> dict[str, float]:
        """Speed and shares of time since the last row; none where several environments end an episode at one step."""
        steps, updates = self.env_step - self._lap[0], updates_done - self._lap[1]
        if not steps:
            return {}
        seconds, shares = self.stopwatch.lap()
        self._lap, self.last_speed = (self.env_step, updates_done), steps / seconds
        parts = " ".join(f"{name.removeprefix('share_')} {share:.0%}" for name, share in shares.items())
        self.progress.note(speed=f"{steps / seconds:.1f} steps/s {updates / seconds:.1f} updates/s ({parts})")
        return {"env_steps_per_second": steps / seconds, "updates_per_second": updates / seconds} | shares

    # Evaluations.

    def evaluate(self, learner: Learner) -> None:
        """Plays episodes without exploration, and writes down how they went; nothing where a stop interrupts them.

        Raises UserError where something that was learned is not finite: such a policy is never kept as the best.
        """
        learner.check_finite()
        try:
            with may_be_abandoned():
                episodes = self._play(learner)
        except (Interrupted, Abandoned):
            return
        except EpisodeFailed as error:
            self._leave_evaluation_out(error)
            self._begin_lap(learner)
            return
        returns = [episode.episode_return for episode in episodes]
        self._log_evaluation(episodes, returns)
        self._keep_if_best(float(np.mean(returns)), learner)
        if self.config.train.save_video:
            path = self.folder / "video" / f"{self.env_step}.mp4"
            with pictures.only_warned(self.warn, path):
                pictures.write_video(path, episodes[0].filmed(), self._eval_envs[0].metadata["render_fps"])
        self._show(learner.view(episodes[0].observations, self.env_step))
        with pictures.only_warned(self.warn, self.folder / "curve.png"):
            title = f"{self.config.task_name} {self.config.variant}, seed {self.config.train.seed}"
            pictures.write_learning_curve(self.folder, title, self.config.variant)
        gc.collect()  # A figure is a cycle of references: left to Python's own collections, they add up to 40 MB.
        self.evaluations.done(self.env_step)
        self._begin_lap(learner)

    def _begin_lap(self, learner: Learner) -> None:
        """The next row's speed and shares are training's alone, without an evaluation before it."""
        self.stopwatch.lap()
        self._lap = (self.env_step, learner.updates_done)

    def _play(self, learner: Learner) -> list[Episode]:
        config, env_step = self.config.train, self.env_step
        if not self._eval_envs:
            count = min(config.num_eval_envs, config.num_eval_episodes)
            task = full_task(self.config)
            self._eval_envs = [envs.from_config(task, config.seed) for _ in range(count)]
        return evaluate(
            learner.player,
            self._eval_envs,
            [seed_for(config.seed, EVALUATION, env_step, i) for i in range(config.num_eval_episodes)],
            config.save_video,
            learner.player.spec.from_pixels,
            lambda: self.stopping,
            lambda: self.progress.update(env_step, "evaluating"),
        )

    def _leave_evaluation_out(self, error: EpisodeFailed) -> None:
        """A mean without the episode that failed, or with half of it, would be another quantity than all others are."""
        self.env_errors += 1
        self.progress.line(f"evaluation at {self.env_step:,} steps is left out: {error}")
        self._close_eval_envs()
        self.evaluations.done(self.env_step)

    def _close_eval_envs(self) -> None:
        for env in self._eval_envs:
            env.close()
        self._eval_envs = []

    def _log_evaluation(self, episodes: list[Episode], returns: list[float]) -> None:
        row: dict[str, Any] = {"env_step": self.env_step, "agent_step": self.agent_step}
        row["hours"] = self.stopwatch.hours
        rate = success_rate(episodes)
        successes = None
        if self._reports_success and rate is not None:
            successes = [bool(episode.success) for episode in episodes]
        self.logger.evaluation(row, returns, [episode.length for episode in episodes], successes)
        mean, std = float(np.mean(returns)), float(np.std(returns))
        lengths = [episode.length for episode in episodes]
        row |= {"episode_return": mean, "episode_return_std": std}
        row |= {"episode_returns": returns, "episode_lengths": lengths}
        row |= {} if rate is None else {"success_rate": rate}
        self.callbacks.note("on_evaluation", row)
        success = "" if rate is None else f", success {rate:.2f}"
        self.progress.note(eval=f"{mean:.1f}")
        self.progress.line(f"evaluation at {self.env_step:,} steps: {mean:.1f} ± {std:.1f}{success}")

    def _keep_if_best(self, mean_return: float, learner: Learner) -> None:
        if self.best_return is None or mean_return > self.best_return:
            self.best_return = mean_return
            self._best = copy.deepcopy(self._playable(learner))  # whose networks learn on
            checkpoint.save_best(self.folder, self._best)

    def _playable(self, learner: Learner) -> dict[str, Any]:
        """What a file that plays the present policy holds."""
        loop = {"agent_step": self.agent_step}
        return {"learning": learner.playable(), "loop": loop, "settings": configs.to_yaml(self.config)}

    def _show(self, view: View | None) -> None:
        """Writes the reconstruction strip, and shows it and the networks' insides in TensorBoard."""
        if view is None:
            return
        if view.target is not None and view.reconstruction is not None:
            path = self.folder / "reconstruction" / f"{self.env_step}.png"
            with pictures.only_warned(self.warn, path):
                pictures.write_reconstruction_strip(path, view)
                self.logger.image("reconstruction", imageio.imread(path)[..., :3], self.env_step)
        with pictures.only_warned(self.warn, self.folder / "tb"):
            self.logger.image("inside", pictures.as_image(pictures.draw_view(view)), self.env_step)

    # Checkpoints.

    def checkpoint(self, learner: Learner, stepper: Stepper) -> None:
        """Writes all that is needed to continue. Raises UserError where something that was learned is not finite."""
        learner.check_finite()
        if self.checkpoint_due:
            self.checkpoints.done(self.env_step)
        loop = {
            "agent_step": self.agent_step,
            "next_eval": self.evaluations.next,
            "next_checkpoint": self.checkpoints.next,
            "best_return": self.best_return,
            "episode_return": self.episode_return,
            "episode_length": self.episode_length,
        }
        if self.env_errors:
            loop["env_errors"] = self.env_errors
        state = {
            "settings": configs.to_yaml(self.config),
            "loop": loop,
            "best": self._best,
            "envs": stepper.snapshot(),
            "means": self.means.state(),
            "logger": self.logger.state(self.env_step),
            "hours": self.stopwatch.hours,
        }
        replay = learner.saved_replay if learner.saves_replay else None
        checkpoint.save(self.folder, state | learner.state(), replay)
        train = self.config.train
        if train.keep_checkpoints or train.keep_every:
            playable = self._playable(learner)
            kept.keep(self.folder, self.env_step, train.keep_checkpoints, train.keep_every, playable)
        self.callbacks.note("on_checkpoint", self.folder)

    def _load(self, state: Mapping[str, Any]) -> None:
        loop = state["loop"]
        self.means.load(state["means"], self.device)
        self.agent_step, self.best_return = loop["agent_step"], loop["best_return"]
        self.episode_return, self.episode_length = loop["episode_return"], loop["episode_length"]
        self.env_errors = loop.get("env_errors", 0)
        self._restore_best(state)
        self.evaluations.go_on(loop["next_eval"], self.env_step)
        self.checkpoints.go_on(loop["next_checkpoint"], self.env_step)

    def _restore_best(self, state: Mapping[str, Any]) -> None:
        """Puts back the best policy up to the checkpoint: the file may be of an evaluation that is made again."""
        if "best" in state:
            self._best = state["best"]
        elif self.best_return is not None:  # a checkpoint of an earlier version
            self._best = checkpoint.best_up_to(self.folder, self.agent_step)
            if self._best is None:
                self.warn(f"warning: {checkpoint.BEST} is damaged or newer than the checkpoint: it is dropped")
        if self._best is None:
            checkpoint.drop_best(self.folder)
        else:
            checkpoint.save_best(self.folder, self._best)

    def close(self) -> None:
        """Closes files and the environments of evaluations, and releases the folder."""
        try:
            self.progress.close()
            self.logger.close()
            self._close_eval_envs()
        finally:
            self._lock.release()
