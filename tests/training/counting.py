"""A learner that counts its updates and an environment of two numbers: whole runs that take milliseconds.

What they do hangs on every random stream and every count that a run keeps, so that two runs write the same files only
where they went the same way.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from rich.console import Console

from sacae import config as configs
from sacae import envs
from sacae.envs.stepping import SerialStepper, StepResult
from sacae.errors import UserError
from sacae.groups import RunConfig, TaskConfig
from sacae.settings import Settings
from sacae.training.learner import Learner
from sacae.training.run import Run
from sacae.training.start import Training, make_stepper, open_run
from sacae.training.views import View
from sacae.types import EnvSpec, Metrics

EPISODE_STEPS = 5
"""Agent steps of every episode where each action is held for one environment step."""

BURST_STEP, BURST = 6, 4
"""Agent step at which so many updates are owed at once; at every other step it is one."""


class CountingEnv(gymnasium.Env):
    """Shows a random number, a multiple of 1/8, and how many steps the episode has.

    The reward is the action plus the number that was shown before it: a player can know what it will get.
    """

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.steps, self.shown = 0, 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """See gymnasium."""
        super().reset(seed=seed)
        self.steps = 0
        return self._look(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """See gymnasium."""
        self.steps += 1
        reward = self.shown + float(action[0])
        return self._look(), reward, False, False, {}

    def _look(self) -> np.ndarray:
        self.shown = self.np_random.integers(-4, 5) / 8
        return np.array([self.shown, self.steps], np.float32)


gymnasium.register("Counting-v0", CountingEnv, max_episode_steps=EPISODE_STEPS)


@dataclass(frozen=True)
class CountingTask(TaskConfig):
    """The environment above."""

    env: str | None = f"{__name__}:Counting-v0"
    obs: Literal["pixels", "state"] = "state"
    action_repeat: int = 1
    frame_stack: int = 1


@dataclass(frozen=True)
class CountingRun(RunConfig):
    """A run of four episodes."""

    num_train_steps: int = 20
    eval_every: int = 8
    checkpoint_every: int = 8
    num_eval_episodes: int = 2
    save_video: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class CountingSettings(Settings):
    """A run that counts."""

    task: CountingTask = field(default_factory=CountingTask)
    train: CountingRun = field(default_factory=CountingRun)

    @property
    def variant(self) -> str:
        """See Settings."""
        return "counting"


@dataclass
class Journal:
    """What was called, in order.

    watch: is told each name when the call begins; it may request a stop there, or raise what a crash would.
    """

    calls: list[str] = field(default_factory=list)
    watch: Callable[[str], None] = lambda _name: None

    def note(self, name: str) -> None:
        """Notes a call."""
        self.calls.append(name)
        self.watch(name)


class CountingStepper(SerialStepper):
    """Notes what is asked of it. sent: the actions, one array for each call of `send`."""

    def __init__(self, environments: Sequence[envs.Env], journal: Journal, max_errors: int) -> None:
        super().__init__(environments, max_errors=max_errors)
        self.journal, self.sent = journal, []

    def send(self, actions: np.ndarray) -> None:
        """See Stepper."""
        self.journal.note("send")
        self.sent.append(actions.copy())
        super().send(actions)

    def receive(self) -> StepResult:
        """See Stepper."""
        self.journal.note("receive")
        return super().receive()


class CountingPlayer:
    """Plays what the learner's policy says."""

    def __init__(self, spec: EnvSpec, learner: "CountingLearner") -> None:
        self.spec, self.learner = spec, learner

    def act(self, obs: np.ndarray) -> torch.Tensor:
        """See Player."""
        self.learner.journal.note("play")
        return torch.from_numpy(self.learner.policy(obs).astype(np.float32))[:, None]


class CountingLearner(Learner):
    """Counts its updates. It owes one at each step, BURST at BURST_STEP.

    policy: actions (N,) for observations (N, 2) in evaluations; by the number of updates, so that returns tell it.
    keeps_episodes: whether a resumed run goes on within its episodes. begun: how often `begin` was called.
    broken: whether something that was learned is not finite.
    """

    metric_names = ("update", "reward", "waited")

    def __init__(self, config: CountingSettings, spec: EnvSpec, journal: Journal) -> None:
        self.journal, self.num_envs = journal, config.train.num_envs
        self.player = CountingPlayer(spec, self)
        self.policy: Callable[[np.ndarray], np.ndarray] = lambda obs: np.full(len(obs), self.updates / 128)
        self.rng = np.random.default_rng(config.train.seed)
        self.updates, self.waited, self.owed = 0, 0, 0
        self.pending: np.ndarray | None = None
        self.rewards = np.zeros(self.num_envs)
        self.begun = 0
        self.keeps_episodes, self.broken = True, False

    @property
    def updates_done(self) -> int:
        """See Learner."""
        return self.updates

    def begin(self, frames: Sequence[np.ndarray], states: Sequence[np.ndarray | None]) -> None:
        """See Learner."""
        self.begun += 1
        self.pending = None

    def act(self, run: Run) -> np.ndarray:
        """See Learner."""
        self.journal.note("act")
        if self.pending is None:
            self.pending = self.rng.uniform(-1, 1, (self.num_envs, 1)).astype(np.float32)
            self.owed = BURST if run.agent_step == BURST_STEP else 1
        return self.pending

    def learn(self, run: Run) -> bool:
        """See Learner."""
        self.journal.note("learn")
        while self.owed and not run.stopping:
            self.journal.note("update")
            self.owed -= 1
            self.updates += 1
            run.means.add({"update": torch.tensor(float(self.updates))})
        return not self.owed

    def observe(self, run: Run, actions: np.ndarray, result: StepResult) -> None:
        """See Learner."""
        self.journal.note("observe")
        self.pending, self.rewards = None, result.reward

    def step_metrics(self, i: int) -> Metrics:
        """See Learner."""
        self.journal.note("count")
        return {"reward": torch.tensor(self.rewards[i])}

    def after_step(self, run: Run) -> None:
        """See Learner."""
        self.journal.note("after_step")
        self.waited += 1
        run.means.add({"waited": torch.tensor(float(self.waited))})

    def check_finite(self) -> None:
        """See Learner."""
        if self.broken:
            raise UserError("a count was not finite")

    def view(self, observations: Sequence[np.ndarray], env_step: int) -> View | None:
        """See Learner. Called at the end of an evaluation."""
        self.journal.note("evaluate")
        return None

    def playable(self) -> dict[str, Any]:
        """See Learner."""
        return {"updates": self.updates}

    def state(self) -> dict[str, Any]:
        """See Learner."""
        self.journal.note("checkpoint")
        counters = {"updates": self.updates, "waited": self.waited, "owed": self.owed, "pending": self.pending}
        return {"learning": self.playable(), "learner": counters, "random": self.rng.bit_generator.state}

    def load(self, state: Mapping[str, Any]) -> bool:
        """See Learner."""
        for name in ("updates", "waited", "owed", "pending"):
            setattr(self, name, state["learner"][name])
        self.rng.bit_generator.state = state["random"]
        return self.keeps_episodes


def start(folder: Path, resume: bool = False, keeps_episodes: bool = True, **settings: Any) -> Training:
    """A counting training in that folder, new or resumed with the settings that lie there."""
    config = CountingSettings().replace(work_dir=folder)
    config = configs.load(folder / "config.yaml", config) if resume else config
    config = config.replace(**settings)
    opening = open_run(config, Console(file=io.StringIO(), width=200), resume)
    with opening.undone_on_error():
        journal = Journal()
        stepper = CountingStepper(make_stepper(config).envs, journal, config.train.max_env_errors)
        learner = CountingLearner(config, envs.spec_of(stepper.env_info, config.task.frame_stack), journal)
        learner.keeps_episodes = keeps_episodes
        return opening.begin(config, learner, stepper)
