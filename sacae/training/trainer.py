"""The training loop, from top to bottom."""

import functools
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import imageio.v2 as imageio
import numpy as np
import torch
from rich.console import Console

from sacae import config as configs
from sacae import envs
from sacae.agents import HEADS, check_agent, make_agent, make_update
from sacae.envs.stepping import StepResult
from sacae.errors import UserError
from sacae.replay import FrameReplay, MemoryPlan, choose_storage
from sacae.training import checkpoint, pictures, run_folder
from sacae.training.device import choose_device, choose_precision, describe, keep_freed_memory
from sacae.training.evaluation import Interrupted, evaluate
from sacae.training.logger import Logger, Means, Stopwatch
from sacae.training.progress import ProgressReport
from sacae.training.views import look
from sacae.types import EnvSpec

# Names of the random streams; each draws from its own generator, so that none depends on how often another is used.
ENVIRONMENT, ACTIONS, REPLAY, UPDATES, EVALUATION, STRIP = range(6)


def seed_for(seed: int, *stream: int) -> int:
    """A seed that differs for every stream of a run, and is the same in every run of that seed."""
    return int(np.random.SeedSequence([seed, *stream]).generate_state(1)[0])


class Trainer:
    """One run: its environments, replay, agent and files, and the state of the loop between two agent steps.

    agent_step counts decisions over all environments; env_step, which budgets and files use, is that times the
    action repeat.
    """

    def __init__(self, config: configs.Config, console: Console, resume: bool = False) -> None:
        """Prepares a new run, or the continuation of the one in config's run folder.

        Raises UserError for whatever the user can put right, before anything is written.
        """
        self.console = console
        check_agent(config.agent.agent)
        if not resume:
            run_folder.refuse_if_used(config.work_dir)
        self.device = choose_device(config.train.device)
        keep_freed_memory()
        if config.train.num_threads:
            torch.set_num_threads(config.train.num_threads)
        # Read before anything is made: a run folder without a checkpoint is to be refused at once.
        state, manifest = checkpoint.load(config.work_dir) if resume else (None, None)
        self.folder = config.work_dir
        self.config = self._make_environments_and_replay(self._with_rendering(self._with_actions(config)))
        self._make_agent_and_random_streams()
        if not resume:
            self._take_over_encoder()
            run_folder.create(self.config)
        self._start_counting()
        self._open_log(state)
        if state:
            self._restore(state, manifest)
            run_folder.record_resume(self.config, self.env_step)
        else:
            self._begin_episodes()
        self.progress = ProgressReport(console, config.train.num_train_steps, self.env_step)
        self._lap = (self.env_step, self.num_updates)

    def _with_rendering(self, config: configs.Config) -> configs.Config:
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

    def _with_actions(self, config: configs.Config) -> configs.Config:
        """Says how the algorithm's actions become the task's, where that was to be chosen."""
        agent = config.agent.agent
        task, note = envs.resolve_actions(config.task, HEADS[agent].discrete_actions, agent)
        if note:
            self._say(note)
        return config.replace(discretisation=task.discretisation)

    def _make_environments_and_replay(self, config: configs.Config) -> configs.Config:
        """Returns the settings with what was chosen by itself; they are written down, and a resumed run keeps them."""
        seed, num_envs = config.train.seed, config.train.num_envs
        recipes = [
            functools.partial(envs.from_config, config.task, seed_for(seed, ENVIRONMENT, i)) for i in range(num_envs)
        ]
        self.stepper = envs.make_stepper(recipes, config.train.overlap)
        self.spec = envs.spec_of(self.stepper.env_info, config.task.frame_stack)
        capacity = config.replay.replay_capacity or config.num_agent_steps
        episode_length = _shortest_episode(config.task, self.stepper.env_info.max_episode_steps)
        plan = MemoryPlan(self.spec, capacity, num_envs, config.replay.n_step, episode_length)
        storage = choose_storage(plan, self.device, config.replay.replay_device)
        self._say(plan.describe(storage))
        precision = choose_precision(config.train.precision, self.device, self.spec, config.encoder)
        where = f"{describe(self.device)} in {precision}"
        self._say(f"training: {config.task_name} {config.variant} on {where}, into {config.work_dir}")
        self.replay = FrameReplay(
            self.spec,
            capacity,
            num_envs,
            config.replay.n_step,
            config.agent.discount,
            self.device,
            storage,
            episode_length,
        )
        return config.replace(
            device=str(self.device),
            precision=precision,
            replay_capacity=capacity,
            replay_device="host" if storage.type == "cpu" else "device",
            work_dir=config.work_dir,
        )

    def _make_agent_and_random_streams(self) -> None:
        seed = self.config.train.seed
        torch.manual_seed(seed)
        self.agent = make_agent(self.spec, self.config, self.device)
        self.action_rng = np.random.default_rng(seed_for(seed, ACTIONS))
        self.replay_rng = np.random.default_rng(seed_for(seed, REPLAY))
        self.noise_generator = torch.Generator(self.device).manual_seed(seed_for(seed, UPDATES))
        self.update = make_update(self.agent, self.noise_generator)

    def _take_over_encoder(self) -> None:
        folder = self.config.encoder.encoder_from
        if folder is None:
            return
        if not (folder / checkpoint.FOLDER / checkpoint.STATE).exists():
            raise UserError(f"encoder_from is {folder}, but it is not a run folder with a checkpoint; name one")
        source, _ = checkpoint.load(folder, self.device)
        self.agent.load_encoder(source["learning"])

    def _start_counting(self) -> None:
        num_envs = self.config.train.num_envs
        self.agent_step = 0
        self.next_eval = 0
        self.next_checkpoint = 0
        self.learning = False
        self.best_return: float | None = None  # mean of the best evaluation
        self.updates_owed = 0
        self.pending_actions: np.ndarray | None = None
        self.episode_return = np.zeros(num_envs)
        self.episode_length = np.zeros(num_envs, np.int64)
        self.stop_requested = False
        self.eval_envs: list[envs.Env] = []
        self.means = Means()
        self._last_speed: float | None = None  # environment steps per second

    def _open_log(self, state: dict | None) -> None:
        self.stopwatch = Stopwatch(state["hours"] if state else 0.0)
        run = {"agent": self.config.variant, "task": self.config.task_name, "seed": self.config.train.seed}
        self.logger = Logger(self.folder, run, self.agent.metric_names, state["logger"] if state else None)

    # The loop.

    @property
    def env_step(self) -> int:
        """Simulator control steps so far, over all environments."""
        return self.agent_step * self.config.task.action_repeat

    @property
    def num_updates(self) -> int:
        """Updates so far."""
        return self.agent.updates_done

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

    def _step(self) -> None:
        """One agent step of each environment, in the reference's order: act, update, receive, remember."""
        if self.pending_actions is None:
            self.pending_actions = self._choose_actions()
            self.updates_owed = self._count_updates()
        self.stepper.send(self.pending_actions)
        self._learn()
        if self.updates_owed:
            return  # stopped inside a burst of updates: the actions stay pending, and the checkpoint keeps them
        self._remember(self.pending_actions, self.stepper.receive())
        self.pending_actions = None
        self.agent_step += self.config.train.num_envs
        self.progress.update(self.env_step, "training")

    def _choose_actions(self) -> np.ndarray:
        """(N, A), float32 or int64: uniform during the seed steps, afterwards as the algorithm explores."""
        num_envs = self.config.train.num_envs
        if self.agent_step < self.config.train.seed_steps:
            return _random_actions(self.spec, num_envs, self.action_rng)
        noise = self.agent.head.exploration_noise(self.action_rng, num_envs, self.env_step)
        observations = self.replay.observations()
        actions = self.agent.act(observations, torch.from_numpy(noise).to(self.device)).cpu().numpy()
        if not np.isfinite(actions).all():
            self.agent.check_finite()  # says which loss went wrong, before the simulator stumbles over it
        return actions

    def _count_updates(self) -> int:
        """Updates due at this step: none during the seed steps, then the initial burst, then those of each step."""
        if self.agent_step < self.config.train.seed_steps or len(self.replay) == 0:
            return 0
        if self.learning:
            return self._updates_per_step
        self.learning = True
        return self.config.autoencoder.pretrain_updates + self.config.train.initial_updates

    @property
    def _updates_per_step(self) -> int:
        return self.config.train.num_envs * self.config.train.updates_per_step

    def _learn(self) -> None:
        burst = self.updates_owed
        while self.updates_owed and not self.stop_requested:
            with self.stopwatch.section("sample"):
                batch = self.replay.sample(self.config.replay.batch_size, self.replay_rng)
            with self.stopwatch.section("update"):
                metrics = self.update(batch)
            self.means.add(metrics)
            self.updates_owed -= 1
            if burst > self._updates_per_step:
                self.progress.update(self.env_step, f"initial updates {burst - self.updates_owed}/{burst}")

    def _remember(self, actions: np.ndarray, result: StepResult) -> None:
        self.episode_return += result.reward
        self.episode_length += 1
        rewards = np.sign(result.reward) if self.config.task.clip_reward else result.reward
        for i, action in enumerate(actions):
            terminated, truncated = bool(result.terminated[i]), bool(result.truncated[i])
            self.replay.add(i, action, float(rewards[i]), terminated, truncated, result.frame[i])
            if terminated or truncated:
                self._log_episode(i)
                self.replay.begin(i, result.first_frame[i])

    def _begin_episodes(self) -> None:
        for i, frame in enumerate(self.stepper.reset()):
            self.replay.begin(i, frame)
        self.episode_return[:] = 0
        self.episode_length[:] = 0

    # What is written down.

    def _log_episode(self, i: int) -> None:
        with self.stopwatch.section("log"):
            self.agent.check_finite()
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

    def _speeds(self, env_step: int) -> dict[str, float]:
        """Speed and shares of time since the last row."""
        for name, seconds in self.stepper.seconds.items():
            self.stopwatch.seconds[name] += seconds
            self.stepper.seconds[name] = 0.0
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
        self.stepper.seconds = dict.fromkeys(self.stepper.seconds, 0.0)
        self._lap = (self.env_step, self.num_updates)

    def _evaluate(self) -> None:
        config, env_step = self.config.train, self.env_step
        if not self.eval_envs:
            count = min(config.num_eval_envs, config.num_eval_episodes)
            self.eval_envs = [envs.from_config(self.config.task, config.seed) for _ in range(count)]
        seeds = [seed_for(config.seed, EVALUATION, env_step, i) for i in range(config.num_eval_episodes)]
        try:
            episodes = evaluate(
                self.agent,
                self.eval_envs,
                seeds,
                config.save_video,
                self.spec.from_pixels,
                lambda: self.stop_requested,
                lambda: self.progress.update(env_step, "evaluating"),
            )
        except Interrupted:
            return
        returns = [episode.episode_return for episode in episodes]
        row = {"env_step": env_step, "agent_step": self.agent_step, "hours": self.stopwatch.hours}
        self.logger.evaluation(row, returns, [episode.length for episode in episodes])
        self._keep_if_best(float(np.mean(returns)))
        self.progress.note(eval=f"{np.mean(returns):.1f}")
        self.progress.line(f"evaluation at {env_step:,} steps: {np.mean(returns):.1f} ± {np.std(returns):.1f}")
        if config.save_video:
            path = self.folder / "video" / f"{env_step}.mp4"
            pictures.write_video(path, episodes[0].frames, self.eval_envs[0].metadata["render_fps"])
        if self.spec.from_pixels:
            self._show(episodes[0].observations)
        pictures.write_learning_curve(self.folder, f"{self.config.task_name} {self.config.variant}")
        last = env_step >= config.num_train_steps
        self.next_eval = env_step + 1 if last else _next_multiple(env_step, config.eval_every, config.num_train_steps)
        self._skip_lap()

    def _keep_if_best(self, mean_return: float) -> None:
        if self.best_return is None or mean_return > self.best_return:
            self.best_return = mean_return
            learning = self.agent.learning_state()
            played = {"agent": learning["agent"], "networks": learning["networks"]}
            checkpoint.save_best(self.folder, {"learning": played, "loop": {"agent_step": self.agent_step}})

    def _show(self, observations: list[np.ndarray]) -> None:
        """Draws what goes on inside the agent; the reconstruction strip, where there is one, is a file as well."""
        view = look(self.agent, observations, seed_for(self.config.train.seed, STRIP, self.env_step))
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
        self._say(f"  play it back: python eval.py {self.folder}")
        self._say_what_a_full_run_takes()

    def _say_what_a_full_run_takes(self) -> None:
        """For a run shorter than the default: how long the default would take at the speed measured last."""
        given = self.config
        task = {"env": given.task.env} if given.task.env else {"domain": given.task.domain, "task": given.task.task}
        default = configs.make(**task, obs=given.task.obs)
        full = default.train.num_train_steps
        if given.train.num_train_steps >= full or self._last_speed is None:
            return
        text = (
            f"a full run is {full:,} environment steps: about {full / self._last_speed / 3600:.1f} hours at this speed"
        )
        if given.replay.batch_size < default.replay.batch_size:
            text += (
                f", longer with the default batch size of {default.replay.batch_size} (here {given.replay.batch_size})"
            )
        self._say(text)

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    # Going on later.

    def _checkpoint(self) -> None:
        self.agent.check_finite()
        if self.env_step >= self.next_checkpoint:
            config = self.config.train
            self.next_checkpoint = _next_multiple(self.env_step, config.checkpoint_every, config.num_train_steps)
        state = {
            "learning": self.agent.learning_state(),
            "random": {
                "actions": self.action_rng.bit_generator.state,
                "replay": self.replay_rng.bit_generator.state,
                "updates": self.noise_generator.get_state(),
            },
            "loop": {name: getattr(self, name) for name in LOOP_STATE},
            "envs": self.stepper.snapshot(),
            "means": self.means.state(),
            "logger": self.logger.state(self.env_step),
            "hours": self.stopwatch.hours,
        }
        checkpoint.save(self.folder, state, self.replay if self.config.train.save_replay else None)

    def _restore(self, state: dict, manifest: dict | None) -> None:
        self.agent.load_learning_state(state["learning"])
        self.action_rng.bit_generator.state = state["random"]["actions"]
        self.replay_rng.bit_generator.state = state["random"]["replay"]
        self._restore_noise(state["random"]["updates"])
        self.means.load(state["means"], self.device)
        for name, value in state["loop"].items():
            setattr(self, name, value)
        self.stepper.restore(state["envs"])
        if manifest is None or not self.config.train.save_replay:
            # Without its frames the running episode cannot go on: new ones begin, and learning waits for them.
            self.pending_actions, self.updates_owed = None, 0
            self._begin_episodes()
        else:
            checkpoint.load_replay(self.folder, manifest, self.replay)
        # A longer budget than before: what was the last evaluation no longer is.
        if self.env_step < self.config.train.num_train_steps and self.next_eval == self.env_step + 1:
            self.next_eval = _next_multiple(
                self.env_step, self.config.train.eval_every, self.config.train.num_train_steps
            )

    def _restore_noise(self, state: torch.Tensor) -> None:
        """Puts the update's random stream back; one of another kind of device cannot go on, and starts anew."""
        if state.numel() == self.noise_generator.get_state().numel():
            self.noise_generator.set_state(state)
        else:
            self.noise_generator.manual_seed(seed_for(self.config.train.seed, UPDATES, self.num_updates))
            self._say("the run was saved on another kind of device: the update's random numbers start anew")

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


SHORTEST_EPISODE = {"state": 10, "pixels": 125}
"""Agent steps of the shortest episode that the replay is planned for, by what is observed, in environments whose
episodes may end at any time. With shorter ones it holds a few transitions less than its capacity."""


def _shortest_episode(task: configs.TaskConfig, longest: int | None) -> int | None:
    """Agent steps of the shortest episode to plan for; DeepMind Control's all run to their time limit."""
    return min(longest, SHORTEST_EPISODE[task.obs]) if task.env else longest


def _random_actions(spec: EnvSpec, count: int, rng: np.random.Generator) -> np.ndarray:
    """Actions (count, A), drawn uniformly: float32 in [-1, 1], or int64 choices."""
    shape = count, spec.action_dim
    if spec.num_actions is not None:
        return rng.integers(spec.num_actions, size=shape)
    return rng.uniform(-1, 1, shape).astype(np.float32)


LOOP_STATE = (
    "agent_step",
    "next_eval",
    "next_checkpoint",
    "best_return",
    "learning",
    "updates_owed",
    "pending_actions",
    "episode_return",
    "episode_length",
)
"""The attributes of a Trainer that a checkpoint keeps as they are."""


def _next_multiple(step: int, every: int, last: int) -> int:
    """The next multiple of `every` after `step`, but not beyond `last`."""
    return min((step // every + 1) * every, last)
