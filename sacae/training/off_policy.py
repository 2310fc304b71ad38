"""Learning from a replay: an agent, what it remembers, and when it is updated."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from sacae import config as configs
from sacae import envs
from sacae.agents import HEADS, make_agent, make_update
from sacae.agents.self_test import disagreement
from sacae.causality import require_lingam
from sacae.declaration import in_words
from sacae.envs.contract import EnvInfo, StepResult
from sacae.errors import UserError, flag_of
from sacae.groups import TaskConfig
from sacae.networks import seeded
from sacae.replay import FrameReplay, MemoryPlan, choose_storage
from sacae.training import checkpoint
from sacae.training.causal import CausalEntropy, check_samples
from sacae.training.device import choose_capture, choose_precision, describe
from sacae.training.learner import Learner
from sacae.training.memory import check_update, out_of_memory, update_memory
from sacae.training.resets import SoftResets
from sacae.training.run import Run
from sacae.training.run_folder import CONFIG
from sacae.training.schedule import UpdateSchedule
from sacae.training.start import Opening, Training, make_stepper, open_run
from sacae.training.streams import ACTIONS, REPLAY, RESETS, STRIP, UPDATES, restore, seed_for
from sacae.training.views import View, look
from sacae.types import Actions, EnvSpec, Frames

LONG_BLOCK = 10
"""Updates in one step from which on progress is shown within it."""

SHORTEST_EPISODE = {"state": 10, "pixels": 125}
"""Agent steps of the shortest episode that the replay is planned for, by what is observed, in environments whose
episodes may end at any time. With shorter ones it holds a few transitions less than its capacity."""


def start(config: configs.Config, console: Console, resume: bool = False) -> Training:
    """Prepares a training of an agent. Raises UserError for whatever the user can put right, before writing anything.

    The run's config.yaml names every choice that was left open: device, precision, replay, discretisation.
    """
    if config.causal_entropy != "off":
        require_lingam()
    opening = open_run(config, console, resume)
    with opening.undone_on_error() as undo:
        config = opening.with_rendering(_with_actions(config, opening))
        stepper = make_stepper(config, opening.in_processes(config, config.train.overlap))
        undo.callback(stepper.close)
        spec = envs.spec_of(stepper.env_info, config.task.frame_stack, config.task.sees_state)
        plan = _memory_plan(config, spec, stepper.env_info)
        need = update_memory(spec, config)
        check_update(need, config, opening.device)
        storage = choose_storage(plan, opening.device, config.replay.replay_device, need.bytes)
        config = _with_choices(config, spec, plan, storage, opening)
        _tell_of_presets(config, opening)
        _tell_of_what_comes_too_late(config, opening)
        learner = OffPolicyLearner(config, spec, plan, storage, opening)
        config = learner.config
        check_samples(config, learner.agent)
        if opening.found is None:
            take_over_encoder(learner, config)
        return opening.begin(config, learner, stepper)


class OffPolicyLearner(Learner):
    """An agent and its replay. See Learner.

    config: the settings with the choice of `capture`, which the agent itself does not read.
    """

    def __init__(
        self, config: configs.Config, spec: EnvSpec, plan: MemoryPlan, storage: torch.device, opening: Opening
    ) -> None:
        self.spec, self.device, self._say = spec, opening.device, opening.say
        train, seed = config.train, config.train.seed
        self.replay = self.saved_replay = FrameReplay(
            spec,
            plan.capacity,
            plan.num_streams,
            plan.n_step,
            config.agent.discount,
            self.device,
            storage,
            plan.episode_length,
        )
        self.saves_replay = train.save_replay
        with seeded(seed):
            self.player = self.agent = make_agent(spec, config, self.device)
        self.metric_names = self.agent.metric_names
        self.action_rng = np.random.default_rng(seed_for(seed, ACTIONS))
        self.replay_rng = np.random.default_rng(seed_for(seed, REPLAY))
        self.noise_generator = torch.Generator(self.device).manual_seed(seed_for(seed, UPDATES))
        capture, why_not = choose_capture(config, self.device, lambda: disagreement(self.agent))
        if why_not:
            self._say(f"updates are not captured as CUDA graphs: {why_not}")
        self.config = config = config.replace(capture=capture)
        self.update = make_update(self.agent, self.noise_generator, capture)
        self._room = update_memory(spec, config), config, self.device, storage
        self.burst = config.autoencoder.pretrain_updates + train.initial_updates
        self.schedule = UpdateSchedule(train.updates_per_step, train.update_every, self.burst)
        self.updates_owed = 0
        self.pending_actions: Actions | None = None
        self.causal: CausalEntropy | None = None
        self.resets: SoftResets | None = None

    @property
    def updates_done(self) -> int:
        """Updates so far."""
        return self.agent.updates_done

    def begin(self, frames: Sequence[Frames], states: Sequence[NDArray[np.float32] | None]) -> None:
        """See Learner. Learning starts once the replay holds a batch, with what is left of the burst."""
        self.pending_actions, self.updates_owed = None, 0
        self.schedule.wait(max(self.burst - self.updates_done, 0))
        for i, (frame, state) in enumerate(zip(frames, states)):
            self.replay.begin(i, frame, state)

    def open(self, run: Run, state: Mapping[str, Any] | None) -> None:
        """See Learner."""
        config, restored = self.config, state or {}
        if config.causal_entropy != "off":
            self.causal = CausalEntropy(config, self.agent, run.folder, run.logger, restored.get("causal"))
        if self.causal or config.causal.soft_reset != "off":
            seed = seed_for(config.train.seed, RESETS)
            self.resets = SoftResets(config, self.agent, run.folder, run.logger, seed, restored.get("resets"))

    # A step.

    def act(self, run: Run) -> Actions:
        """(N, A), float32 or int64: uniform during the seed steps, afterwards as the algorithm explores."""
        if self.pending_actions is None:
            self.pending_actions = self._explore(run)
            self.updates_owed = self._updates_due(run.agent_step)
        return self.pending_actions

    def _explore(self, run: Run) -> Actions:
        num_envs = self.config.train.num_envs
        if run.agent_step < self.config.train.seed_steps:
            return _random_actions(self.spec, num_envs, self.action_rng)
        noise = self.agent.head.exploration_noise(self.action_rng, num_envs, run.env_step)
        observations = self.replay.observations()
        actions = self.agent.act(observations, torch.from_numpy(noise).to(self.device)).cpu().numpy()
        if not np.isfinite(actions).all():
            self.agent.check_finite()  # says which loss went wrong, before the simulator stumbles over it
        return actions

    def _updates_due(self, agent_step: int) -> int:
        """Updates due at this step: none until learning starts, then the initial burst, then as the ratio asks."""
        train = self.config.train
        starts = train.seed_steps if train.learning_starts is None else train.learning_starts
        if agent_step < starts or len(self.replay) < self.config.replay.batch_size:
            return 0
        return self.schedule.due(agent_step)

    def learn(self, run: Run) -> bool:
        """Makes the updates that are due. See Learner."""
        block = self.updates_owed
        if not block:
            return True
        assert self.schedule.began is not None  # nothing is owed before learning starts
        steps = (run.agent_step - self.schedule.began) // self.config.train.num_envs
        name = "updates" if steps else "initial updates"
        self.agent.follow_schedule(run.env_step)
        while self.updates_owed and not run.stopping:
            with out_of_memory(*self._room):
                with run.stopwatch.section("sample"):
                    batch = self.replay.sample(self.config.replay.batch_size, self.replay_rng)
                with run.stopwatch.section("update"):
                    metrics = self.update(batch, step=steps)
            run.means.add(metrics)
            if self.resets:
                self.resets.after_update(run.env_step)
            self.updates_owed -= 1
            if block >= LONG_BLOCK:
                run.progress.update(run.env_step, f"{name} {block - self.updates_owed}/{block}")
        return not self.updates_owed

    def observe(self, run: Run, actions: Actions, result: StepResult) -> None:
        """Adds the step to the replay. See Learner."""
        self.pending_actions = None
        rewards = _learned_from(result.reward, self.config.task)
        for i, action in enumerate(actions):
            if i not in result.lost:
                terminated, truncated = bool(result.terminated[i]), bool(result.truncated[i])
                frame, state = result.frame[i], result.state[i]
                self.replay.add(i, action, float(rewards[i]), terminated, truncated, frame, state)
            first_frame = result.first_frame[i]
            if first_frame is not None:
                self.replay.begin(i, first_frame, result.first_state[i])

    def after_step(self, run: Run) -> None:
        """Fits the causal weights where that is due."""
        if self.causal:
            self.causal.step(run.env_step, run.agent_step, self.replay)

    # What evaluations and checkpoints ask for.

    def check_finite(self) -> None:
        """See Learner."""
        self.agent.check_finite()

    def view(self, observations: Sequence[Frames], env_step: int) -> View | None:
        """See Learner."""
        if not self.spec.from_pixels:
            return None
        return look(self.agent, observations, seed_for(self.config.train.seed, STRIP, env_step))

    def playable(self) -> dict[str, Any]:
        """See Learner."""
        learning = self.agent.learning_state()
        return {"agent": learning["agent"], "networks": learning["networks"]}

    def state(self) -> dict[str, Any]:
        """See Learner."""
        return {
            "learning": self.agent.learning_state(),
            "learner": {"updates_owed": self.updates_owed, "pending_actions": self.pending_actions},
            "random": {
                "actions": self.action_rng.bit_generator.state,
                "replay": self.replay_rng.bit_generator.state,
                "updates": self.noise_generator.get_state(),
            },
            "updates": self.schedule.state(),
            "causal": self.causal and self.causal.state(),
            "resets": self.resets and self.resets.state(),
        }

    def load(self, state: Mapping[str, Any]) -> bool:
        """See Learner. Without its frames a running episode cannot go on."""
        self.agent.load_learning_state(state["learning"])
        self.action_rng.bit_generator.state = state["random"]["actions"]
        self.replay_rng.bit_generator.state = state["random"]["replay"]
        self._load_noise(state["random"]["updates"])
        learner = state["learner"]
        self.updates_owed, self.pending_actions = learner["updates_owed"], learner["pending_actions"]
        self.schedule.load(state["updates"] if "updates" in state else self._schedule_before(state["loop"]))
        return state["replay"] is not None

    def _schedule_before(self, loop: Mapping[str, Any]) -> dict[str, Any]:
        """The schedule's state in a checkpoint of version 0.1.0, which said only whether learning had started."""
        if not loop["learning"]:
            return self.schedule.state()
        last = loop["agent_step"] - (0 if loop["pending_actions"] is not None else self.config.train.num_envs)
        return {"began": last, "counted": 0, "burst": 0}

    def _load_noise(self, state: torch.Tensor) -> None:
        """Restores the updates' random stream; one of another kind of device cannot go on, and starts anew."""
        if not restore(self.noise_generator, state, seed_for(self.config.train.seed, UPDATES, self.updates_done)):
            self._say("the run was saved on another kind of device: the update's random numbers start anew")

    def close(self) -> None:
        """See Learner."""
        for part in (self.causal, self.resets):
            if part:
                part.close()


def take_over_encoder(learner: OffPolicyLearner, config: configs.Config) -> None:
    """Starts encoder and decoder from another run's, where `encoder_from` names one. Raises UserError if it cannot."""
    folder = config.encoder.encoder_from
    if folder is None:
        return
    if not (folder / checkpoint.FOLDER / checkpoint.STATE).exists():
        raise UserError(f"encoder_from is {folder}, but it is not a run folder with a checkpoint; name one")
    theirs = configs.load(folder / CONFIG, configs.Config()).encoder
    for name, says in (("centre_pixels", "would see other values"), ("latent_tanh", "would give another latent")):
        wanted, there = getattr(config.encoder, name), getattr(theirs, name)
        if wanted != there:
            flag = f"--{'' if there else 'no-'}{name.replace('_', '-')}"
            raise UserError(
                f"encoder_from is {folder}, whose {name} is {in_words(there)}, but here it is {in_words(wanted)}: the "
                f"encoder {says} than it learned with; give {flag}"
            )
    source, _ = checkpoint.load(folder, learner.device)
    with checkpoint.fitting(folder / checkpoint.FOLDER / checkpoint.STATE):
        learner.agent.load_encoder(source["learning"])


# Choices that the settings leave open.


def _tell_of_presets(config: configs.Config, opening: Opening) -> None:
    """Prints which settings of a preset others are given for, and which put others out of use."""
    for name, (value, of_preset) in configs.overridden(config).items():
        said = f"{name} is {in_words(value)} as given, not {in_words(of_preset)}"
        opening.say(f"preset {config.train.preset}: {said}")
    for name, why in configs.put_out_of_use(config).items():
        opening.say(f"preset {config.train.preset}: {name} does not apply, because {why}")


def _tell_of_what_comes_too_late(config: configs.Config, opening: Opening) -> None:
    """Prints which parts of the algorithm the run is too short for. It may be continued, so that they come later."""
    for line in _what_comes_too_late(config):
        opening.say(line)


def _what_comes_too_late(config: configs.Config) -> Iterator[str]:
    steps, train, causal = config.num_agent_steps, config.train, config.causal
    run = f"but the run has {steps:,} agent steps"
    starts, batch_size = "seed_steps" if train.learning_starts is None else "learning_starts", config.replay.batch_size
    if getattr(train, starts) > (steps - 1) // train.num_envs * train.num_envs:  # the steps before the last actions
        yield f"{starts} is {getattr(train, starts):,}, {run}: in it nothing is learned; lower {flag_of(starts)}"
    elif batch_size > steps:
        yield f"batch_size is {batch_size:,}, {run}: in it nothing is learned; lower --batch-size"
    if config.causal_entropy != "off":
        first_fit = max(causal.causal_samples, -(-causal.causal_every // config.task.action_repeat))
        if causal.causal_samples > steps:
            yield (
                f"causal_samples is {causal.causal_samples:,}, {run}: in it the causal weights are never fitted; lower "
                "--causal-samples"
            )
        elif first_fit > steps:
            yield (
                f"causal_every is {causal.causal_every:,}, but the run has {train.num_train_steps:,} environment "
                "steps: in it the causal weights are never fitted; lower --causal-every"
            )
        elif first_fit + causal.causal_delay >= steps:
            yield (
                f"causal_delay is {causal.causal_delay:,}, {run}, with the first fit after {first_fit:,}: in it the "
                "causal weights are never used; lower --causal-delay or --causal-every"
            )
    updates = config.autoencoder.pretrain_updates + train.initial_updates + int(train.updates_per_step * steps)
    if causal.soft_reset != "off" and causal.reset_every > updates:
        yield (
            f"reset_every is {causal.reset_every:,}, but the run has at most {updates:,} updates: in it nothing is "
            "reset; lower --reset-every"
        )


def _with_actions(config: configs.Config, opening: Opening) -> configs.Config:
    """Settles how the algorithm's actions become the task's, and prints it."""
    agent, bins = config.agent.agent, config.task.bins
    task, note = envs.resolve_actions(config.task, HEADS[agent].settings.DISCRETE_ACTIONS, agent)
    if note:
        opening.say(note)
    if task.discretisation == "none" != config.task.discretisation and bins != TaskConfig.bins:
        raise UserError(f"bins is {bins}, but {config.task_name} has discrete actions of its own; leave --bins out")
    return config.replace(discretisation=task.discretisation)


def _memory_plan(config: configs.Config, spec: EnvSpec, info: EnvInfo) -> MemoryPlan:
    episode_length = info.max_episode_steps  # DeepMind Control's episodes all run to their time limit
    if config.task.env:
        shortest = SHORTEST_EPISODE["pixels" if config.task.from_pixels else "state"]
        episode_length = min(episode_length or shortest, shortest)
    return MemoryPlan(spec, config.planned_capacity, config.train.num_envs, config.replay.n_step, episode_length)


def _with_choices(
    config: configs.Config, spec: EnvSpec, plan: MemoryPlan, storage: torch.device, opening: Opening
) -> configs.Config:
    """The settings with what was left open; config.yaml holds them, and a resumed run keeps them."""
    device = opening.device
    opening.say(plan.describe(storage))
    if plan.capacity < config.num_agent_steps:
        opening.say(f"replay: of the run's {config.num_agent_steps:,} transitions it keeps the latest")
    precision = choose_precision(config.train.precision, device, spec.from_pixels)
    where = f"{describe(device)} in {precision}"
    opening.say(f"training: {config.task_name} {config.variant} on {where}, into {config.work_dir}")
    return config.replace(
        device=str(device),
        precision=precision,
        replay_capacity=plan.capacity,
        replay_device="host" if storage.type == "cpu" else "device",
        work_dir=config.work_dir,
    )


def _learned_from(rewards: NDArray[np.float64], task: TaskConfig) -> NDArray[np.float64]:
    """What is remembered of an agent step's rewards, (N,)."""
    if task.sparse_reward is not None:
        return (rewards >= task.sparse_reward).astype(np.float64)
    return np.sign(rewards) if task.clip_reward else rewards


def _random_actions(spec: EnvSpec, count: int, rng: np.random.Generator) -> Actions:
    """Actions (count, A), drawn uniformly: float32 in [-1, 1], or int64 choices."""
    shape = count, spec.action_dim
    if spec.num_actions is not None:
        return rng.integers(spec.num_actions, size=shape)
    return rng.uniform(-1, 1, shape).astype(np.float32)
