"""Makes environments of Gymnasium's registry, and lets them draw themselves."""

import contextlib
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.wrappers import OrderEnforcing, TimeLimit
from numpy.typing import NDArray

from sacae.config import ATARI
from sacae.envs import atari, contexts, rendering
from sacae.envs.arguments import unknown_argument
from sacae.envs.faults import RAISED, BadResult, check_frame, describe
from sacae.envs.names import advice_for_id
from sacae.errors import UserError, did_you_mean, how_to_install
from sacae.gymnasium_ids import NAMESPACE

LONGEST_EPISODE = 10_000
"""Time limit in environment steps where the environment itself has none."""

FOLLOWING = "track"
"""Name of the camera in Gymnasium's MuJoCo models that follows the body."""

ROBOTICS = "Fetch"
"""Prefix of the names of gymnasium-robotics' environments for the Fetch arm."""


def rendering_problem(env_id: str, env_kwargs: Mapping[str, Any] | None = None) -> str:
    """Why no video of an environment can be made, in one line; "" where one can.

    env_kwargs: as in `GymEnv`. Raises UserError if the environment cannot be made.
    """
    env = (make_atari if env_id.startswith(ATARI) else make)(env_id, env_kwargs or {})
    try:
        if env.render_mode is None:
            return f"{env_id} cannot render"
        env.reset(seed=0)
        draw(env_id, env)
    except UserError as error:
        return str(error)
    except RAISED as error:
        return f"{env_id} cannot be reset: it raised {describe(error)}"
    finally:
        close(env)
    return ""


def close(env: gymnasium.Env) -> None:
    """Closes an environment that is no longer needed; what goes wrong then does not matter."""
    contexts.free(env)
    with contextlib.suppress(*RAISED):
        env.close()


def draw(env_id: str, env: gymnasium.Env) -> NDArray[np.uint8]:
    """The RGB image (H, W, 3) that `render` returns.

    Raises UserError if the environment cannot be drawn on this machine, or draws something else.
    """
    if "mujoco" in sys.modules:
        rendering.configure()
    try:
        return check_frame(render(env))
    except BadResult as error:
        raise UserError(f"{env_id} renders {error}") from None
    except Exception as error:  # A missing library, driver or display raises errors of any type.
        raise UserError(f"{env_id} cannot be rendered here: {_one_line(error)}") from error


def render(env: gymnasium.Env) -> Any:
    """What the environment's `render` returns; several MuJoCo environments may take turns in a process."""
    contexts.use_own(env)
    return env.render()


# Making an environment.


def make(env_id: str, given: Mapping[str, Any], **preset: Any) -> gymnasium.Env:
    """Makes a registered environment, with a time limit.

    given: arguments of the user. preset: arguments that the user may not give. Raises UserError if it cannot be made.
    """
    spec = find(env_id)
    _check_given(env_id, given, (*RESERVED, *preset))
    limits = {name: int(given[name]) for name in LIMITS if name in given}  # Gymnasium refuses NumPy's numbers.
    arguments = {**given, **limits, **preset}
    if not spec.max_episode_steps and not env_id.startswith(ATARI):
        arguments.setdefault("max_episode_steps", LONGEST_EPISODE)
    create: Callable[..., Any] = gymnasium.make
    try:
        create = spec.entry_point if callable(spec.entry_point) else load_env_creator(str(spec.entry_point))
        metadata = getattr(create, "metadata", None)
        if isinstance(metadata, Mapping) and "rgb_array" in metadata.get("render_modes", ()):
            arguments["render_mode"] = "rgb_array"
        env = _asked_to_draw(spec, gymnasium.make(spec, disable_env_checker=True, **arguments), arguments)
        contexts.free_when_collected(env)
        _ = env.observation_space, env.action_space  # What defines none is of no use.
    except (gymnasium.error.Error, ImportError, TypeError) as error:
        unknown = unknown_argument("env_kwargs", given, error, env_id, create)
        raise unknown or UserError(f"env is {env_id}, but it cannot be made here: {_one_line(error)}") from error
    except RAISED as error:  # Of the environment's own code, where the line says more than the message.
        raise UserError(f"env is {env_id}, but it cannot be made here: {describe(error)}") from error
    try:
        _choose_camera(env_id, env, given)
    except UserError:
        close(env)
        raise
    return env


def _asked_to_draw(spec: EnvSpec, env: gymnasium.Env, arguments: Mapping[str, Any]) -> gymnasium.Env:
    """The environment, made anew to render where a function made it: only the environment says whether it can."""
    if "render_mode" in arguments or "rgb_array" not in env.metadata.get("render_modes", ()):
        return env
    with contextlib.suppress(TypeError):  # of a function that takes no render_mode
        drawing = gymnasium.make(spec, disable_env_checker=True, **arguments, render_mode="rgb_array")
        close(env)
        return drawing
    return env


CAMERA = ("camera_id", "camera_name")
"""Arguments with which the user chooses the camera of a MuJoCo environment."""

RESERVED = ("render_mode", "disable_env_checker", "id")
"""Arguments of `gymnasium.make` that this package gives itself."""


ATARI_LIMIT = "max_num_frames_per_episode"
LIMITS = ("max_episode_steps", ATARI_LIMIT)
"""Arguments that limit an episode's length."""


def _check_given(env_id: str, given: Mapping[str, Any], reserved: Sequence[str]) -> None:
    """Raises UserError for arguments that the user may not give, and a time limit that is none."""
    for name in reserved:
        if name in given:
            raise UserError(f"env_kwargs has {name}, but sacae gives {env_id} this argument; leave it out")
    for name in LIMITS:
        limit = given.get(name, 1)
        if isinstance(limit, bool) or not (isinstance(limit, Integral) and int(limit) >= 1):
            raise UserError(
                f"env_kwargs has {name}={limit}, but it must be a whole number, at least 1; change --env-kwargs"
            )


def make_atari(env_id: str, given: Mapping[str, Any], image_size: int = 84, frame_skip: int = 4) -> gymnasium.Env:
    """Makes a game with its preprocessing. given: as in `make`. Raises UserError if it cannot be made."""
    atari.register_games(env_id)
    return atari.preprocessed(make(env_id, given, frameskip=1, obs_type="grayscale"), image_size, frame_skip)


def _choose_camera(env_id: str, env: gymnasium.Env, given: Mapping[str, Any]) -> None:
    """Renders a MuJoCo environment through its model's camera that follows the body, if there is one.

    Gymnasium 1.4 uses a fixed camera, which loses sight of the body. Raises UserError if the user chooses one that is
    not there: MuJoCo would end the process at the first frame, or take the free one.
    """
    renderer = contexts.of_gymnasium(env)
    if renderer is None:
        return
    import mujoco

    model, kind = renderer.model, mujoco.mjtObj.mjOBJ_CAMERA
    names = [mujoco.mj_id2name(model, kind, number) for number in range(model.ncam)]
    there = {"camera_id": range(-1, model.ncam), "camera_name": [name for name in names if name]}
    for name in [name for name in CAMERA if given.get(name) is not None]:
        if given[name] not in there[name]:
            listed = ", ".join(map(str, there[name])) or "none with a name"
            raise UserError(
                f"env_kwargs has {name}={given[name]}, but {env_id} has the cameras {listed}; change --env-kwargs"
            )
    if not given.keys() & CAMERA and renderer.camera_id == -1:
        renderer.camera_id = mujoco.mj_name2id(model, kind, FOLLOWING)


def find(env_id: str) -> EnvSpec:
    """The registry's entry, after the import of the module that registers it. Raises UserError if there is none."""
    module, _, name = env_id.rpartition(":")
    if name.startswith(f"{NAMESPACE}/"):
        raise UserError(f"env is {env_id}, a task of the DeepMind Control suite; use --domain and --task instead")
    if module.startswith("."):
        raise UserError(f"env is {env_id}, but a module's name does not begin with a dot; write package.module:Id")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            absent = error.name is not None and f"{module}.".startswith(f"{error.name}.")
            advice = "; install it, or put its folder on PYTHONPATH (the present one: PYTHONPATH=.)" if absent else ""
            raise UserError(f"env is {env_id}, but {module} cannot be imported: {_one_line(error)}{advice}") from error
        except RAISED as error:  # of the module's own code
            raise UserError(f"env is {env_id}, but {module} cannot be imported: {describe(error)}") from error
    if name.startswith(ROBOTICS) and name not in gymnasium.registry:
        _register_robotics(env_id)
    if name not in gymnasium.registry:
        advice = (
            advice_for_id(name)
            or did_you_mean(name, gymnasium.registry)
            or ("; gymnasium.pprint_registry() lists all names; write module:Id for one that another module registers")
        )
        raise UserError(f"env is {env_id}, but no environment {name} is registered{advice}")
    return gymnasium.registry[name]


def _register_robotics(env_id: str) -> None:
    """Adds the environments of gymnasium-robotics to the registry. Raises UserError if it is not installed."""
    try:
        import gymnasium_robotics
    except ImportError as error:
        missing = f"Fetch environments need {error.name}, which is not installed"
        raise UserError(f"env is {env_id}, but {missing}; {how_to_install('robotics')}") from None
    gymnasium.register_envs(gymnasium_robotics)


def as_registered(env: gymnasium.Env) -> gymnasium.Env:
    """The environment with the wrappers of its own, but without those that `gymnasium.make` adds."""
    while isinstance(env, TimeLimit | OrderEnforcing):
        env = env.env
    return env


def time_limit(env: gymnasium.Env) -> int:
    """Environment steps until the time limit."""
    spec = env.spec
    assert spec is not None  # gymnasium.make sets it.
    limits = spec.max_episode_steps, spec.kwargs.get(ATARI_LIMIT)
    return min(limit for limit in limits if limit)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
