"""A trained agent: read from a run folder, acts, and shows what its networks compute."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sacae import config as configs
from sacae import envs
from sacae.agents import Agent, make_agent
from sacae.errors import UserError
from sacae.settings import Settings
from sacae.training import checkpoint, run_folder
from sacae.training.device import choose_device, choose_precision
from sacae.training.stacking import StackedEnv
from sacae.types import Actions, EnvSpec, Frames


class TrainedAgent:
    """An agent that acts and does not learn. `load` reads one from a run folder.

    config: the run's settings. spec: what the agent sees and does. env_step: environment steps that it has trained.
    rng: draws its exploration; assign another one to choose the seed. network: the `Agent` itself, a torch module.
    """

    def __init__(
        self, config: configs.Config, spec: EnvSpec, device: torch.device, learning: dict[str, Any], env_step: int = 0
    ) -> None:
        """learning: of a checkpoint. env_step: its step, on which exploration may depend."""
        self.config, self.spec, self.env_step = config, spec, env_step
        with torch.random.fork_rng(devices=[]):  # The caller's random numbers do not depend on it.
            self.network = make_player(config, spec, device)
        self.network.load_networks(learning)
        self.rng = np.random.default_rng(config.train.seed)

    def act(self, obs: Frames) -> torch.Tensor:
        """Deterministic actions (N, A) for stacked observations (N, *obs_shape). See Player."""
        return self.network.act(obs)

    def predict(self, obs: Frames, deterministic: bool = True) -> Actions:
        """Actions (A,) for an observation (*obs_shape), or (N, A) for N of them: float32 in [-1, 1], or int64 choices.

        obs: uint8 images or float32 vectors, stacked as `make_env` shows them. deterministic: without exploration;
            otherwise the agent explores as in training. Raises UserError for another shape or dtype.
        """
        batch, single = self._batch(obs)
        noise = None
        if not deterministic:
            drawn = self.network.head.exploration_noise(self.rng, len(batch), self.env_step)
            noise = torch.from_numpy(drawn).to(self.network.device)
        return _as_given(self.network.act(batch, noise), single)

    def make_env(self, seed: int | None = None) -> StackedEnv:
        """The environment that the agent was trained in, as it saw it: frames stacked, actions repeated and scaled.

        seed: of its episodes; None draws one. Rewards are the environment's, summed over a repeated action. Raises
        UserError if it cannot be made.
        """
        return StackedEnv(_make_env(self.config, seed), self.spec.frame_stack)

    def latent(self, obs: Frames) -> NDArray[np.float32]:
        """The critic's latent, float32 (feature_dim,) or (N, feature_dim); the vectors themselves with `obs` state.

        obs: as in `predict`.
        """
        batch, single = self._batch(obs)
        return _as_given(self.network.latent(torch.from_numpy(batch)), single)

    @torch.no_grad()
    def reconstruct(self, obs: Frames) -> NDArray[np.uint8]:
        """What the decoder makes of images: uint8 of the shape of `obs`, or of the middle window that `augment` cuts.

        obs: as in `predict`. Raises UserError for an agent without a decoder of images.
        """
        reconstruction = self.network.reconstruction
        if reconstruction is None or not reconstruction.of_pixels:
            raise UserError(
                f"decoder is {self.config.autoencoder.decoder}: this agent reconstructs no images; load one that was "
                "trained with decoder rae or vae"
            )
        batch, single = self._batch(obs)
        seen = self.network.seen(torch.from_numpy(batch).to(self.network.device))
        _, image = reconstruction.reconstruct(seen, torch.zeros_like(seen))
        return _as_given(((image.float() + 0.5) * 256).round().clamp(0, 255).to(torch.uint8), single)

    def _batch(self, obs: Frames) -> tuple[Frames, bool]:
        """Observations as a batch, and whether there was a single one. Raises UserError for another shape or dtype."""
        shape, dtype = self.spec.obs_shape, self.spec.frame_dtype
        obs = np.asarray(obs)
        if obs.shape[-len(shape) :] != shape or obs.ndim - len(shape) not in (0, 1):
            raise UserError(
                f"obs has shape {obs.shape}, but this agent sees {shape}, or (N, {str(shape)[1:-1].rstrip(',')}) for N "
                "observations; make_env() shows it such ones"
            )
        if obs.dtype != dtype and not (dtype == "float32" and obs.dtype.kind == "f"):
            raise UserError(f"obs has dtype {obs.dtype}, but this agent sees {dtype}; make_env() shows it such ones")
        single = obs.ndim == len(shape)
        return np.ascontiguousarray(obs[None] if single else obs, dtype), single


def _as_given(result: torch.Tensor, single: bool) -> NDArray[Any]:
    array: NDArray[Any] = result.cpu().numpy()
    return array[0] if single else array


def load(run_dir: Path, best: bool = False, step: int | None = None, device: str = "auto") -> TrainedAgent:
    """The agent of a run folder. See `sacae.load_agent`."""
    if best and step is not None:
        raise UserError(f"best and step {step} are both given, but each names a checkpoint; leave one out")
    config = load_config(run_dir)
    state = load_state(run_dir, best, config, step)
    if not config.task.env:
        envs.rendering.configure()
    with contextlib.closing(_make_env(config, seed=0)) as env:
        spec = envs.spec_of(envs.EnvInfo.of(env, config.keeps_state), config.task.frame_stack)
    with checkpoint.fitting(run_dir / checkpoint.FOLDER):
        return TrainedAgent(config, spec, choose_device(device), state["learning"], env_step_of(state, config))


def _make_env(config: configs.Config, seed: int | None) -> envs.Env:
    return envs.from_config(config.task, seed)


def load_config(run_dir: Path) -> configs.Config:
    """The settings of a run folder. Raises UserError if there is no such folder, or it has no run."""
    if not run_dir.is_dir():
        raise UserError(f"run_dir is {run_dir}, but there is no such folder; `train.py` prints where a run lies")
    return configs.load(run_dir / run_folder.CONFIG, configs.Config())


def load_state(run_dir: Path, best: bool, config: Settings, step: int | None = None) -> dict[str, Any]:
    """The state in a run folder's last checkpoint, or in that of its best evaluation, on the CPU.

    Its "learning" is for `Agent.load_networks`. config: the run folder's settings. step: the environment step of the
    checkpoint, whichever it is. Raises UserError if there is no such checkpoint, or it is of other settings.
    """
    if step is not None:
        state = _state_at(run_dir, step, config)
    else:
        state = checkpoint.load(run_dir, name=checkpoint.BEST if best else checkpoint.STATE)[0]
    run_folder.refuse_other_settings(run_dir, config, state)
    return state


def _state_at(run_dir: Path, step: int, config: Settings) -> dict[str, Any]:
    there: dict[int, dict[str, Any]] = {}
    for name in (checkpoint.BEST, checkpoint.PREVIOUS, checkpoint.STATE):
        if (run_dir / checkpoint.FOLDER / name).is_file():
            state = checkpoint.read(run_dir, name).state
            there[env_step_of(state, config)] = state
    if step not in there:
        steps = ", ".join(map(str, sorted(there))) or "none"
        raise UserError(f"step is {step}, but {run_dir} has checkpoints of these environment steps: {steps}")
    return there[step]


def env_step_of(state: dict[str, Any], config: Settings) -> int:
    """The environment step of a checkpoint's state."""
    return int(state["loop"]["agent_step"]) * config.task.action_repeat


def make_player(config: configs.Config, spec: EnvSpec, device: torch.device) -> Agent:
    """An agent of a run's settings that is to act and not to learn; its networks are random."""
    # The arithmetic of the training where this device has it; the policy is the same to within rounding elsewhere.
    precision = "fp32" if device.type == "cpu" else config.train.precision
    choose_precision(precision, device, spec.from_pixels)
    return make_agent(spec, config.replace(precision=precision, compile=False), device)
