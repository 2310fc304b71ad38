"""A trained agent: read from a run folder, acts, and shows what its networks compute."""

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from numbers import Integral
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
from sacae.training import checkpoint, exported, kept, run_folder
from sacae.training.device import choose_device, computing_in
from sacae.training.stacking import StackedEnv, beside_state
from sacae.types import PIXELS, STATE, Actions, EnvSpec, Frames, Observation


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

    def act(self, obs: Observation) -> torch.Tensor:
        """Deterministic actions (N, A) for stacked observations (N, *obs_shape). See Player."""
        with arithmetic_of(self.network):
            return self.network.act(obs)

    def predict(self, obs: Observation, deterministic: bool = True) -> Actions:
        """Actions (A,) for an observation (*obs_shape), or (N, A) for N of them: float32 in [-1, 1], or int64 choices.

        obs: uint8 images, float32 vectors, or a dictionary of "pixels" and "state", stacked as `make_env` shows them.
        deterministic: without exploration; otherwise the agent explores as in training.

        Raises UserError for another shape or dtype.
        """
        batch, single = self._batch(obs)
        noise = None
        if not deterministic:
            count = len(batch[STATE]) if isinstance(batch, Mapping) else len(batch)
            drawn = self.network.head.exploration_noise(self.rng, count, self.env_step)
            noise = torch.from_numpy(drawn).to(self.network.device)
        with arithmetic_of(self.network):
            return _as_given(self.network.act(batch, noise), single)

    def make_env(self, seed: int | None = None) -> StackedEnv:
        """The environment that the agent was trained in, as it saw it: frames stacked, actions repeated and scaled.

        seed: of its episodes; None draws one. Rewards are the environment's, summed over a repeated action. Raises
        UserError if it cannot be made.
        """
        return StackedEnv(_make_env(self.config, seed), self.spec.frame_stack, self.spec.sees_state)

    def latent(self, obs: Observation) -> NDArray[np.float32]:
        """The critic's latent of images, float32 (feature_dim,) or (N, feature_dim); of vectors, these themselves.

        obs: as in `predict`; a state beside the images is not in their latent, and may be left out.
        """
        batch, single = self._frames(obs)
        with arithmetic_of(self.network):
            return _as_given(self.network.latent(torch.from_numpy(batch)), single)

    @torch.no_grad()
    def reconstruct(self, obs: Observation) -> NDArray[np.uint8]:
        """What the decoder makes of images: uint8 of their shape, or of that of the middle window that `augment` cuts.

        obs: as in `predict`. Raises UserError for an agent without a decoder of images.
        """
        reconstruction = self.network.reconstruction
        if reconstruction is None or not reconstruction.of_pixels:
            raise UserError(
                f"decoder is {self.config.autoencoder.decoder}: this agent reconstructs no images; load one that was "
                "trained with decoder rae or vae"
            )
        batch, single = self._frames(obs)
        with arithmetic_of(self.network):
            seen = self.network.seen(torch.from_numpy(batch).to(self.network.device))
            _, image = reconstruction.reconstruct(seen, torch.zeros_like(seen))
        return _as_given(((image.float() + 0.5) * 256).round().clamp(0, 255).to(torch.uint8), single)

    def _batch(self, obs: Observation) -> tuple[Observation, bool]:
        """Observations as a batch, and whether there was a single one. Raises UserError for another shape or dtype."""
        if not self.spec.sees_state:
            return self._frames(obs)
        if not isinstance(obs, Mapping) or {*obs} != {PIXELS, STATE}:
            raise UserError(
                f"obs is {_in_words(obs)}, but this agent sees a dictionary of pixels and state; make_env() shows it "
                "such ones"
            )
        frames, single = self._frames(obs)
        state, single_state = _batch_of("obs['state']", obs[STATE], (self.spec.state_dim,), "float32")
        if single != single_state or len(frames) != len(state):
            raise UserError("obs has another number of states than of images; make_env() shows one of each")
        return beside_state(frames, state), single

    def _frames(self, obs: Observation) -> tuple[Frames, bool]:
        """As `_batch`, but the frames alone, also of what has a state beside them."""
        frames = obs[PIXELS] if isinstance(obs, Mapping) and PIXELS in obs else obs
        return _batch_of("obs", frames, self.spec.obs_shape, self.spec.frame_dtype)


def _batch_of(name: str, array: Any, shape: tuple[int, ...], dtype: str) -> tuple[NDArray[Any], bool]:
    """An array as a batch (N, *shape), and whether it was a single one (*shape). Raises UserError as `_batch`."""
    try:
        array = np.asarray(array)
    except ValueError:  # such as what reset() returns: an observation and a dictionary
        kind = type(array).__name__
        raise UserError(f"{name} is a {kind} of unequal parts, but it must be one NumPy array {shape}") from None
    except (TypeError, RuntimeError) as error:  # of a tensor on a GPU, with a gradient or of bfloat16
        kind, reason = type(array).__name__, " ".join(str(error).split())
        raise UserError(f"{name} is a {kind}, but it must be one NumPy array {shape}: {reason}") from None
    if array.shape[-len(shape) :] != shape or array.ndim - len(shape) not in (0, 1):
        raise UserError(
            f"{name} has shape {array.shape}, but this agent sees {shape}, or (N, {str(shape)[1:-1].rstrip(',')}) for "
            "N observations; make_env() shows it such ones"
        )
    if array.dtype != dtype and not (dtype == "float32" and array.dtype.kind == "f"):
        raise UserError(f"{name} has dtype {array.dtype}, but this agent sees {dtype}; make_env() shows it such ones")
    single = array.ndim == len(shape)
    return np.ascontiguousarray(array[None] if single else array, dtype), single


def _in_words(obs: Any) -> str:
    if isinstance(obs, Mapping):
        return f"a dictionary of {', '.join(map(str, obs)) or 'nothing'}"
    return f"a {type(obs).__name__}"


def _as_given(result: torch.Tensor, single: bool) -> NDArray[Any]:
    array: NDArray[Any] = result.cpu().numpy()
    return array[0] if single else array


def load(run_dir: Path, best: bool = False, step: int | None = None, device: str = "auto") -> TrainedAgent:
    """The agent of a run folder. See `sacae.load_agent`."""
    config = load_config(run_dir)
    state = load_state(run_dir, best, config, step)
    spec = state["spec"] if "spec" in state else _spec_of(config)
    chosen = choose_device(device)
    with fitting(run_dir, state):
        return TrainedAgent(config, spec, chosen, state["learning"], env_step_of(state, config))


def fitting(run_dir: Path, state: Mapping[str, Any]) -> AbstractContextManager[None]:
    """As `checkpoint.fitting`, for what `load_state` has read from a folder."""
    if "spec" in state:
        return checkpoint.fitting(exported.weights(run_dir), "export the run anew")
    return checkpoint.fitting(run_dir / checkpoint.FOLDER)


def _spec_of(config: configs.Config) -> EnvSpec:
    """What the agent of a run sees and does, as its environment says."""
    if not config.task.env:
        envs.rendering.configure(required=config.task.from_pixels)
    with contextlib.closing(_make_env(config, seed=0)) as env:
        info, task = envs.EnvInfo.of(env, config.keeps_state), config.task
        return envs.spec_of(info, task.frame_stack, task.sees_state)


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

    An exported agent's folder has one state, without what only learning needs, and also the "spec".
    """
    if best and step is not None:
        raise UserError(f"best and step {step} are both given, but each names a checkpoint; leave one out")
    if step is not None and not isinstance(step, Integral):
        raise UserError(f"step is {step!r}, but it must be a whole number, the environment step of a checkpoint")
    if exported.is_in(run_dir):
        return exported.read(run_dir, best, step)
    if step is not None:
        state = _state_at(run_dir, step, config)
    else:
        state = checkpoint.load(run_dir, name=checkpoint.BEST if best else checkpoint.STATE)[0]
    run_folder.refuse_other_settings(run_dir, config, state)
    return state


def _state_at(run_dir: Path, step: int, config: Settings) -> dict[str, Any]:
    there: dict[int, dict[str, Any]] = {}
    damaged: UserError | None = None
    if step in (of_kept := kept.steps(run_dir)):
        return checkpoint.read(run_dir, kept.name_at(step)).state
    for name in (checkpoint.BEST, checkpoint.PREVIOUS, checkpoint.STATE):
        if (run_dir / checkpoint.FOLDER / name).is_file():
            try:
                state = checkpoint.read(run_dir, name).state
            except UserError as error:  # another file may have the step
                damaged = damaged or error
            else:
                there[env_step_of(state, config)] = state
    if step not in there:
        if damaged:
            raise damaged
        steps = ", ".join(map(str, sorted({*there, *of_kept}))) or "none"
        raise UserError(f"step is {step}, but {run_dir} has checkpoints of these environment steps: {steps}")
    return there[step]


def env_step_of(state: dict[str, Any], config: Settings) -> int:
    """The environment step of a checkpoint's state."""
    return int(state["loop"]["agent_step"]) * config.task.action_repeat


def make_player(config: configs.Config, spec: EnvSpec, device: torch.device) -> Agent:
    """An agent of a run's settings that is to act and not to learn, in its `arithmetic_of`; its networks are random."""
    # The arithmetic of the training on a GPU of CUDA; the policy is the same to within rounding elsewhere.
    precision = config.train.precision if device.type == "cuda" else "fp32"
    return make_agent(spec, config.replace(precision=precision, compile=False), device)


def arithmetic_of(player: Agent) -> AbstractContextManager[None]:
    """Computes within the block as the training of what `make_player` made did."""
    return computing_in(player.config.train.precision, player.device)
