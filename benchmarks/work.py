"""What is timed: this package's update, the reference's, and a whole training."""

import contextlib
import importlib
import itertools
import sys
import tempfile
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console

from sacae import config as configs
from sacae.agents import HEADS, make_agent, make_update
from sacae.experiments.ablations import ABLATIONS
from sacae.replay import FrameReplay, MemoryPlan, choose_storage
from sacae.training import off_policy
from sacae.training.device import choose_precision, keep_freed_memory
from sacae.training.loop import step
from sacae.training.start import Training
from sacae.types import EnvSpec

Precision = Literal["fp32", "tf32", "bf16"]
Mode = Literal["eager", "compiled", "captured"]

MODES = {
    "eager": {"compile": False, "capture": False},
    "compiled": {"compile": True, "capture": False},
    "captured": {"compile": False, "capture": True},
}
"""The settings that each mode stands for."""

REFERENCE_DECODERS = {"rae": "pixel", "none": "identity"}
"""What the reference calls a decoder; it has no other, and no head but SAC."""

EPISODE_LENGTH = 250
"""Agent steps in an episode of cheetah run at action repeat 4."""

ACTION_DIM = 6
STATE_DIM = 17
"""Both of cheetah; the state is kept for `--decoder state` alone."""
NUM_BINS = 3
ROUND_SECONDS = 2.5
WARM_UP_UPDATES = 4
"""Updates before any is timed: an even number meets every combination of the gates twice."""

SEED_STEPS = 100
INITIAL_UPDATES = 10
POOL = 256
"""Different random frames, or stacks, that a replay is filled with."""


@dataclass(frozen=True)
class Setup:
    """What is timed: one configuration on one device."""

    head: str
    decoder: str
    layers: int
    precision: str
    mode: str
    device: str
    batch_size: int = 128
    hidden_dim: int = 1024
    image_size: int = 84
    replay_size: int = 10_000
    search: bool = False
    """Whether cuDNN tries its algorithms for each size of a convolution, and keeps the fastest."""

    def config(self, **settings: Any) -> configs.Config:
        """The settings of a run of this configuration, with others on top. Raises UserError as `configs.make`."""
        return configs.make(
            agent=self.head,
            decoder=self.decoder,
            num_layers=self.layers,
            precision=self.precision,
            device=self.device,
            batch_size=self.batch_size,
            hidden_dim=self.hidden_dim,
            image_size=self.image_size,
            **MODES[self.mode],
            **settings,
        )

    @property
    def spec(self) -> EnvSpec:
        """Colour images stacked by three, as the paper's; for discrete actions three bins in each dimension."""
        num_actions = NUM_BINS if HEADS[self.head].settings.DISCRETE_ACTIONS else None
        state_dim = STATE_DIM if self.decoder == "state" else 0
        return EnvSpec((3, self.image_size, self.image_size), "uint8", 3, ACTION_DIM, num_actions, state_dim)

    def __str__(self) -> str:
        return f"{self.head} {self.decoder} {self.layers} layers {self.precision} {self.mode}"


@dataclass(frozen=True)
class OfFamily:
    """An arm of `sacae ablate family` on one device, with its authors' images, views and batch size.

    sizes: settings that it has instead of its own, as pairs of name and value.
    """

    arm: str
    precision: str
    mode: str
    device: str
    replay_size: int
    sizes: tuple[tuple[str, int], ...] = ()

    def config(self) -> configs.Config:
        """The settings of a run of it on cheetah run. Raises UserError as `configs.make`."""
        of_machine = {"precision": self.precision, "device": self.device, **MODES[self.mode]}
        arm = ABLATIONS["family"].arms[self.arm]
        return configs.make(**{"domain": "cheetah", "task": "run"} | dict(arm) | of_machine | dict(self.sizes))

    @property
    def batch_size(self) -> int:
        """Transitions in each update."""
        return self.config().replay.batch_size

    @property
    def spec(self) -> EnvSpec:
        """Colour images stacked by three, as large as they are rendered for it."""
        task = self.config().task
        return EnvSpec((3, task.image_size, task.image_size), "uint8", task.frame_stack, ACTION_DIM)


class Work:
    """Something that samples and learns, and what is timed of it. A subclass has `sample` and `step`."""

    device: torch.device
    sample: Callable[[], Any]
    """Draws a batch."""
    step: Callable[[], Any]
    """Draws a batch and learns from it."""

    def warm_up(self) -> None:
        """Updates until everything is compiled, captured and allocated."""
        self.seconds(WARM_UP_UPDATES)

    def seconds(self, updates: int) -> float:
        """Seconds that so many updates take, with the device idle before and after."""
        return self._timed(self.step, updates)

    def updates_in(self, seconds: float) -> int:
        """An even number of updates that take about so long."""
        updates = 2
        while (elapsed := self.seconds(updates)) < seconds / 8:
            updates *= 2
        return max(2, 2 * round(updates * seconds / elapsed / 2))

    def sample_seconds(self, batches: int) -> float:
        """Seconds that so many batches take, with the device idle before and after."""
        return self._timed(self.sample, batches)

    def sample_share(self, updates: int) -> float:
        """Share of an update that sampling takes where the device waits for one before it begins the other."""
        sampling = total = 0.0
        for _ in range(updates):
            sampling += self.sample_seconds(1)
            total += self.seconds(1)
        return sampling / total

    def _timed(self, action: Callable[[], Any], times: int) -> float:
        self._synchronize()
        start = time.perf_counter()
        for _ in range(times):
            action()
        self._synchronize()
        return time.perf_counter() - start

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class OurWork(Work):
    """sacae: its replay, filled with random frames, and its update, prepared as the trainer prepares them."""

    def __init__(self, setup: Setup | OfFamily) -> None:
        keep_freed_memory()
        self.device = torch.device(setup.device)
        config, spec = setup.config(), setup.spec
        choose_precision(setup.precision, self.device, spec.from_pixels)
        torch.backends.cudnn.benchmark = isinstance(setup, Setup) and setup.search
        torch.manual_seed(0)
        self.batch_size = setup.batch_size
        self.replay = filled_replay(spec, setup.replay_size, self.device, config.replay.n_step)
        self.rng = np.random.default_rng(0)
        self.agent = make_agent(spec, config, self.device)
        self.update = make_update(self.agent, torch.Generator(self.device).manual_seed(0))
        self.warm_up()

    def sample(self) -> Any:
        """See Work."""
        return self.replay.sample(self.batch_size, self.rng)

    def step(self) -> None:
        """See Work."""
        self.update(self.sample())


def filled_replay(spec: EnvSpec, capacity: int, device: torch.device, n_step: int = 1) -> FrameReplay:
    """A replay in which every transition that fits is stored, where the trainer would put it."""
    storage = choose_storage(MemoryPlan(spec, capacity, n_step=n_step, episode_length=EPISODE_LENGTH), device)
    replay = FrameReplay(spec, capacity, n_step=n_step, device=device, storage=storage, episode_length=EPISODE_LENGTH)
    rng = np.random.default_rng(0)
    frames = itertools.cycle(rng.integers(0, 256, (POOL, *spec.frame_shape), dtype=np.uint8))
    shape = capacity + EPISODE_LENGTH, spec.action_dim
    continuous = spec.num_actions is None
    state = np.zeros(spec.state_dim, np.float32) if spec.state_dim else None
    actions = rng.uniform(-1, 1, shape).astype(np.float32) if continuous else rng.integers(spec.num_actions, size=shape)
    for i, action in enumerate(actions):
        step = i % EPISODE_LENGTH
        if step == 0:
            replay.begin(0, next(frames), state)
        replay.add(0, action, float(action[0]), False, step == EPISODE_LENGTH - 1, next(frames), state)
    return replay


class ReferenceWork(Work):
    """The reference implementation, unmodified: its agent and its replay, filled with random stacks.

    Its logger is one that drops everything, and it gets the same sizes and update frequencies as ours.
    """

    def __init__(self, path: Path, setup: Setup) -> None:
        self.device = torch.device(setup.device)
        if setup.precision == "fp32":
            torch.backends.cudnn.allow_tf32 = False  # PyTorch's default is to allow it in convolutions.
        modules = import_reference(path)
        self.buffer = self._filled_buffer(modules["utils"].ReplayBuffer, setup)
        self.agent = self._make_agent(modules["sac_ae"].SacAeAgent, setup)
        self.logger = Silence()
        self.updates = 0
        self.warm_up()

    def sample(self) -> Any:
        """See Work."""
        return self.buffer.sample()

    def step(self) -> None:
        """See Work."""
        self.updates += 1
        self.agent.update(self.buffer, self.logger, self.updates)

    def _make_agent(self, kind: type, setup: Setup) -> Any:
        config = setup.config()
        return kind(
            setup.spec.obs_shape,
            (ACTION_DIM,),
            self.device,
            hidden_dim=config.agent.hidden_dim,
            actor_update_freq=config.flat()["actor_update_freq"],
            critic_target_update_freq=config.agent.critic_target_update_freq,
            encoder_feature_dim=config.encoder.feature_dim,
            num_layers=config.encoder.num_layers,
            num_filters=config.encoder.num_filters,
            decoder_type=REFERENCE_DECODERS[setup.decoder],
            decoder_update_freq=config.autoencoder.decoder_update_freq,
            decoder_latent_lambda=config.autoencoder.latent_penalty,
            decoder_weight_lambda=config.autoencoder.decoder_weight_decay,
        )

    def _filled_buffer(self, kind: type, setup: Setup) -> Any:
        shape = setup.spec.obs_shape
        buffer = kind(shape, (ACTION_DIM,), setup.replay_size, setup.batch_size, self.device)
        rng = np.random.default_rng(0)
        for array in (buffer.obses, buffer.next_obses):
            pool = rng.integers(0, 256, (POOL, *shape), dtype=np.uint8)
            for start in range(0, len(array), POOL):
                array[start : start + POOL] = pool[: len(array) - start]
        buffer.actions[:] = rng.uniform(-1, 1, buffer.actions.shape)
        buffer.rewards[:] = buffer.actions[:, :1]
        buffer.not_dones[:] = 1
        buffer.idx, buffer.full = 0, True
        return buffer


def import_reference(path: Path) -> dict[str, Any]:
    """The reference's modules, from its folder. `gym`, which it names but an update never calls, is a stand-in."""
    gym = types.ModuleType("gym")
    gym.spaces = types.ModuleType("gym.spaces")
    gym.Env = gym.Wrapper = gym.ObservationWrapper = gym.ActionWrapper = gym.spaces.Box = type("Stub", (), {})
    sys.modules |= {"gym": gym, "gym.spaces": gym.spaces}
    sys.path.insert(0, str(path))
    return {name: importlib.import_module(name) for name in ("utils", "sac_ae")}


class Silence:
    """A logger whose every method does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


class EndToEnd:
    """A real training of cheetah run from pixels, timed after its random steps and its initial updates."""

    def __init__(self, setup: Setup, env_steps: int, render_quality: str, num_envs: int = 1) -> None:
        self.setup, self.env_steps, self.render_quality, self.num_envs = setup, env_steps, render_quality, num_envs

    def steps_per_second(self) -> float:
        """Environment steps per second: acting, simulating, rendering, storing, sampling and learning."""
        with tempfile.TemporaryDirectory() as folder:
            training = off_policy.start(self._config(Path(folder, "run")), Console(quiet=True))
            with contextlib.closing(training):
                first = (SEED_STEPS + INITIAL_UPDATES) * training.run.config.task.action_repeat * self.num_envs
                run_until(training, first)
                started = time.perf_counter()  # Acting reads the action back: the device is a step behind at most.
                run_until(training, first + self.env_steps)
                return self.env_steps / (time.perf_counter() - started)

    def _config(self, folder: Path) -> configs.Config:
        steps = self.env_steps + 4 * (SEED_STEPS + INITIAL_UPDATES + EPISODE_LENGTH) * self.num_envs
        return self.setup.config(
            domain="cheetah",
            task="run",
            render_quality=self.render_quality,
            num_envs=self.num_envs,
            num_train_steps=steps,
            seed_steps=SEED_STEPS,
            initial_updates=INITIAL_UPDATES,
            save_replay=False,
            save_video=False,
            work_dir=folder,
        )


def run_until(training: Training, env_step: int) -> None:
    """Trains up to that environment step, without evaluations and checkpoints."""
    while training.run.env_step < env_step:
        step(*training)
