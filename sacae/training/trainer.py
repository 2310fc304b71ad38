"""Training of an agent from a replay, from top to bottom."""

from typing import Any

import numpy as np
import torch
from rich.console import Console

from sacae import config as configs
from sacae import envs
from sacae.agents import HEADS, Agent, check_agent, make_agent, make_update
from sacae.causality import require_lingam
from sacae.envs.contract import StepResult
from sacae.errors import UserError
from sacae.replay import FrameReplay, MemoryPlan, choose_storage
from sacae.training import checkpoint
from sacae.training.causal import CausalEntropy, check_samples
from sacae.training.device import choose_precision, describe
from sacae.training.loop import ACTIONS, REPLAY, RESETS, STRIP, UPDATES, TrainingLoop, seed_for
from sacae.training.resets import SoftResets
from sacae.training.schedule import UpdateSchedule
from sacae.training.views import View, look
from sacae.types import EnvSpec

LONG_BLOCK = 10
"""Updates in one step from which on progress is shown within it."""


class Trainer(TrainingLoop):
    """One run of an agent: its environments, replay and networks, and the state of the loop between two agent steps."""

    LOOP_STATE = (*TrainingLoop.LOOP_STATE, "updates_owed", "pending_actions")

    config: configs.Config

    def __init__(self, config: configs.Config, console: Console, resume: bool = False) -> None:
        """Prepares a new run, or the continuation of the one in config's run folder.

        Raises UserError for whatever the user can put right, before anything is written.
        """
        check_agent(config.agent.agent)
        if config.agent.causal_entropy != "off":
            require_lingam()
        state = self._open(config, console, resume)
        self.config = self._make_environments_and_replay(self._with_rendering(self._with_actions(config)))
        self._make_agent_and_random_streams()
        check_samples(self.config, self.agent)
        train = self.config.train
        burst = self.config.autoencoder.pretrain_updates + train.initial_updates
        self.schedule = UpdateSchedule(train.updates_per_step, train.update_every, burst)
        self.updates_owed = 0
        self.pending_actions: np.ndarray | None = None
        if not resume:
            self._take_over_encoder()
        self._begin(state, self.agent.metric_names)
        if not resume:
            self._begin_episodes()
        self._make_causal(state)

    @property
    def player(self) -> Agent:
        """The agent."""
        return self.agent

    @property
    def num_updates(self) -> int:
        """Updates so far."""
        return self.agent.updates_done

    # Setting up.

    def _with_actions(self, config: configs.Config) -> configs.Config:
        """Says how the algorithm's actions become the task's, where that was to be chosen."""
        agent = config.agent.agent
        task, note = envs.resolve_actions(config.task, HEADS[agent].discrete_actions, agent)
        if note:
            self._say(note)
        return config.replace(discretisation=task.discretisation)

    def _make_environments_and_replay(self, config: configs.Config) -> configs.Config:
        """Returns the settings with what was chosen by itself; they are written down, and a resumed run keeps them."""
        self._make_envs(config, config.train.overlap)
        num_envs = config.train.num_envs
        capacity = config.planned_capacity
        episode_length = _shortest_episode(config.task, self.stepper.env_info.max_episode_steps)
        plan = MemoryPlan(self.spec, capacity, num_envs, config.replay.n_step, episode_length)
        storage = choose_storage(plan, self.device, config.replay.replay_device)
        self._say(plan.describe(storage))
        if capacity < config.num_agent_steps:
            self._say(f"replay: of the run's {config.num_agent_steps:,} transitions it keeps the latest")
        precision = choose_precision(config.train.precision, self.device, self.spec.from_pixels)
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

    def _make_causal(self, state: dict | None) -> None:
        """What weighs entropy by causes, and what resets networks, where they are asked for."""
        config, told = self.config, state or {}
        weighs, resets = config.agent.causal_entropy != "off", config.causal.soft_reset != "off"
        self.causal = self.resets = None
        if weighs:
            self.causal = CausalEntropy(config, self.agent, self.folder, self.logger, told.get("causal"))
        if weighs or resets:
            seed = seed_for(config.train.seed, RESETS)
            self.resets = SoftResets(config, self.agent, self.folder, self.logger, seed, told.get("resets"))

    # A step.

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
        if self.causal:
            self.causal.step(self.env_step, self.agent_step, self.replay)
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
        """Updates due at this step: none until learning starts, then the initial burst, then as the ratio asks."""
        config = self.config
        starts = config.train.seed_steps if config.train.learning_starts is None else config.train.learning_starts
        if self.agent_step < starts or len(self.replay) < config.replay.batch_size:
            return 0
        return self.schedule.due(self.agent_step)

    def _learn(self) -> None:
        block = self.updates_owed
        if not block:
            return
        steps = (self.agent_step - self.schedule.began) // self.config.train.num_envs
        name = "updates" if steps else "initial updates"
        while self.updates_owed and not self.stop_requested:
            with self.stopwatch.section("sample"):
                batch = self.replay.sample(self.config.replay.batch_size, self.replay_rng)
            with self.stopwatch.section("update"):
                metrics = self.update(batch, step=steps)
            self.means.add(metrics)
            if self.resets:
                self.resets.after_update(self.env_step)
            self.updates_owed -= 1
            if block >= LONG_BLOCK:
                self.progress.update(self.env_step, f"{name} {block - self.updates_owed}/{block}")

    def _remember(self, actions: np.ndarray, result: StepResult) -> None:
        self.episode_return += result.reward
        self.episode_length += 1
        rewards = _learned_from(result.reward, self.config.task)
        for i, action in enumerate(actions):
            terminated, truncated = bool(result.terminated[i]), bool(result.truncated[i])
            frame, state = result.frame[i], result.state[i]
            self.replay.add(i, action, float(rewards[i]), terminated, truncated, frame, state)
            if terminated or truncated:
                self._log_episode(i)
                self.replay.begin(i, result.first_frame[i], result.first_state[i])

    def _begin_episodes(self) -> None:
        for i, (frame, state) in enumerate(zip(*self.stepper.reset())):
            self.replay.begin(i, frame, state)
        self.episode_return[:] = 0
        self.episode_length[:] = 0

    # What the loop around it asks.

    def _check_finite(self) -> None:
        self.agent.check_finite()

    def _playable(self) -> dict[str, Any]:
        learning = self.agent.learning_state()
        return {"agent": learning["agent"], "networks": learning["networks"]}

    def _view(self, observations: list[np.ndarray]) -> View | None:
        if not self.spec.from_pixels:
            return None
        return look(self.agent, observations, seed_for(self.config.train.seed, STRIP, self.env_step))

    def _default_settings(self) -> configs.Config:
        task = self.config.task
        named = {"env": task.env} if task.env else {"domain": task.domain, "task": task.task}
        return configs.make(**named, obs=task.obs, preset=self.config.train.preset)

    def _costlier(self, full: configs.Config) -> str:
        batch_size, usual = self.config.replay.batch_size, full.replay.batch_size
        return f", longer with the default batch size of {usual} (here {batch_size})" if batch_size < usual else ""

    # Going on later.

    def _save(self, state: dict[str, Any]) -> None:
        checkpoint.save(self.folder, state, self.replay if self.config.train.save_replay else None)

    def _state(self) -> dict[str, Any]:
        return {
            "learning": self.agent.learning_state(),
            "random": {
                "actions": self.action_rng.bit_generator.state,
                "replay": self.replay_rng.bit_generator.state,
                "updates": self.noise_generator.get_state(),
            },
            "updates": self.schedule.state(),
            "causal": self.causal and self.causal.state(),
            "resets": self.resets and self.resets.state(),
        }

    def close(self) -> None:
        """Closes files, environments, and what runs beside."""
        for part in (self.causal, self.resets):
            if part:
                part.close()
        super().close()

    def _restore_state(self, state: dict[str, Any]) -> None:
        self.agent.load_learning_state(state["learning"])
        self.action_rng.bit_generator.state = state["random"]["actions"]
        self.replay_rng.bit_generator.state = state["random"]["replay"]
        self._restore_noise(state["random"]["updates"])
        self.schedule.load(state["updates"] if "updates" in state else self._schedule_before(state["loop"]))
        if state["replay"] is None or not self.config.train.save_replay:
            # Without its frames the running episode cannot go on: new ones begin, and learning waits for them.
            self.pending_actions, self.updates_owed = None, 0
            self.schedule.wait()
            self._begin_episodes()
        else:
            checkpoint.load_replay(self.folder, state["replay"], self.replay)

    def _schedule_before(self, loop: dict) -> dict[str, Any]:
        """The schedule's state in a checkpoint of version 0.1.0, which said only whether learning had started."""
        if not loop["learning"]:
            return self.schedule.state()
        last = self.agent_step - (0 if loop["pending_actions"] is not None else self.config.train.num_envs)
        return {"began": last, "counted": 0, "burst": 0}

    def _restore_noise(self, state: torch.Tensor) -> None:
        """Puts the update's random stream back; one of another kind of device cannot go on, and starts anew."""
        if state.numel() == self.noise_generator.get_state().numel():
            self.noise_generator.set_state(state)
        else:
            self.noise_generator.manual_seed(seed_for(self.config.train.seed, UPDATES, self.num_updates))
            self._say("the run was saved on another kind of device: the update's random numbers start anew")


SHORTEST_EPISODE = {"state": 10, "pixels": 125}
"""Agent steps of the shortest episode that the replay is planned for, by what is observed, in environments whose
episodes may end at any time. With shorter ones it holds a few transitions less than its capacity."""


def _shortest_episode(task: configs.TaskConfig, longest: int | None) -> int | None:
    """Agent steps of the shortest episode to plan for; DeepMind Control's all run to their time limit."""
    return min(longest, SHORTEST_EPISODE[task.obs]) if task.env else longest


def _learned_from(rewards: np.ndarray, task: configs.TaskConfig) -> np.ndarray:
    """What is remembered of an agent step's rewards, (N,)."""
    if task.sparse_reward is not None:
        return (rewards >= task.sparse_reward).astype(np.float64)
    return np.sign(rewards) if task.clip_reward else rewards


def _random_actions(spec: EnvSpec, count: int, rng: np.random.Generator) -> np.ndarray:
    """Actions (count, A), drawn uniformly: float32 in [-1, 1], or int64 choices."""
    shape = count, spec.action_dim
    if spec.num_actions is not None:
        return rng.integers(spec.num_actions, size=shape)
    return rng.uniform(-1, 1, shape).astype(np.float32)
