"""Checks a Gymnasium environment as an agent meets it: faults, spaces, speed, and a picture."""

import contextlib
import re
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import env_checker
from PIL import Image
from rich.console import Console

from sacae import config as configs
from sacae.envs import EnvInfo, GymEnv
from sacae.envs.faults import RAISED, Fault, check_observation, check_state, describe
from sacae.envs.stepping import checked_step
from sacae.errors import UserError
from sacae.files import write_atomically
from sacae.keywords import keyword_arguments
from sacae.text import say
from sacae.training import run_folder

MEASURED_SECONDS = 1.0
"""How long steps, and then frames, are counted."""

SEED = 0
STEPS_BEFORE_PICTURE = 10
"""Agent steps with random actions before the picture, since much only moves after some."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def check_env(
    env: str,
    obs: str | None,
    image_size: int | None,
    action_repeat: int | None,
    env_kwargs: Sequence[str],
    out: Path,
    console: Console,
) -> int:
    """Prints what is known of an environment, and writes a picture where it shows images or renders.

    obs, image_size, action_repeat: None is what a training has.

    Returns 0, or 1 if Gymnasium's checker finds a fault. Raises UserError if no agent can learn in it.
    """
    arguments = keyword_arguments(env_kwargs)
    given = {"obs": obs, "image_size": image_size, "action_repeat": action_repeat}
    task = configs.make(env=env, **{name: value for name, value in given.items() if value is not None}).task
    made = GymEnv(env, SEED, task.from_pixels, task.image_size, task.action_repeat, arguments, task.sees_state)
    with contextlib.closing(made) as seen:
        original = seen.registered
        spaces = [space for space in (seen.observation_space, seen.state_space) if space is not None]
        sees = " and ".join(map(_described, spaces))
        say(console, f"observations: {original.observation_space}; an agent sees {sees}")
        say(console, f"actions: {original.action_space}; an agent takes {seen.action_space}")
        say(console, f"time limit: {seen.max_episode_steps:,} agent steps")
        path = out / f"{env.replace('/', '_').replace(':', '_')}.png"
        works = _try_out(seen, task.obs, path, console)
        return 1 if _check(seen, console) or not works else 0  # The checker closes the environment: it comes last.


def _try_out(env: GymEnv, obs: str, path: Path, console: Console) -> bool:
    """Measures and draws an environment; prints what would be an error in training, and returns whether nothing was."""
    env.action_space.seed(SEED)
    try:
        step = _Step(env, obs == "pixels+state")
        say(console, f"speed: {_per_second(step):,.0f} agent steps/s with what the agent sees")
        renders = env.render_mode is not None and _measure_rendering(env, console)
        _draw(env, obs, renders, path, console)
    except UserError:
        raise
    except RAISED as error:
        say(console, f"fault: the environment {Fault.of(error).what}")
        return False
    return True


def _described(space: Any) -> str:
    return f"{space.dtype} {space.shape}"


def _check(env: GymEnv, console: Console) -> bool:
    """Prints what Gymnasium's checker says, a line each; returns whether it found a fault."""
    problem = ""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            made = env.registered
            bare = made.unwrapped is made
            env_checker.check_env(made if bare else _AsOne(made), skip_render_check=True)
        except RAISED as error:
            problem = describe(error)
    messages = (_COLOUR.sub("", str(one.message)) for one in said if issubclass(one.category, UserWarning))
    for line in dict.fromkeys(" ".join(message.removeprefix("WARN: ").split()) for message in messages):
        say(console, f"warning: {line}")
    say(console, f"fault: {problem}" if problem else "gymnasium's checker: no fault")
    return bool(problem)


def _measure_rendering(env: GymEnv, console: Console) -> bool:
    """Prints how fast frames are rendered, or why they cannot be; returns whether they can."""
    try:
        say(console, f"rendering: {_per_second(env.render):,.0f} frames/s")
    except UserError as error:
        say(console, f"rendering: {error}")
        return False
    return True


def _draw(env: GymEnv, obs: str, renders: bool, path: Path, console: Console) -> None:
    """Writes what an agent sees after a few steps; from state, what the environment renders, if it does."""
    frame, _ = env.reset(seed=SEED)
    for _ in range(STEPS_BEFORE_PICTURE):
        frame, _, terminated, truncated, _ = env.step(_random_action(env))
        if terminated or truncated:
            break
    if obs != "state":
        image = frame.transpose(1, 2, 0).astype(np.uint8)
    elif renders:
        image = env.render()
    else:
        return
    run_folder.make_results_folder(path.parent)
    path = run_folder.unused_path(path)
    write_atomically(path, Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save)
    say(console, f"{'what an agent sees' if obs != 'state' else 'the environment'}: {path}")


def _random_action(env: GymEnv) -> Any:
    return env.action_space.sample()


class _AsOne(gymnasium.Env):
    """An environment with the wrappers that it is registered with, as one: Gymnasium's checker accepts no wrappers."""

    def __init__(self, made: gymnasium.Env) -> None:
        self._made, self.spec = made, made.unwrapped.spec
        self.observation_space, self.action_space = made.observation_space, made.action_space
        self.metadata, self.render_mode = made.metadata, made.render_mode

    @property
    def _np_random(self) -> Any:  # type: ignore[override]  # the checker only reads it
        return self._made.unwrapped._np_random

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return self._made.reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        return self._made.step(action)

    def render(self) -> Any:
        return self._made.render()

    def close(self) -> None:
        self._made.close()


class _Step:
    """Takes a random action, and begins the next episode if this one ends. Raises BadResult as a training would."""

    def __init__(self, env: GymEnv, keeps_state: bool) -> None:
        self._env, self._info = env, EnvInfo.of(env, keeps_state)
        self._begin(SEED)

    def __call__(self) -> None:
        _, _, terminated, truncated, *_ = checked_step(self._env, _random_action(self._env), self._info)
        if terminated or truncated:
            self._begin()

    def _begin(self, seed: int | None = None) -> None:
        frame, _ = self._env.reset(seed=seed)
        check_observation(frame, self._info)
        check_state(self._env.state() if self._info.state_dim else None)


def _per_second(act: Callable[[], object]) -> float:
    """How often it can be called in a second."""
    act()  # The first call loads what the others need.
    started, count = time.perf_counter(), 0
    while (seconds := time.perf_counter() - started) < MEASURED_SECONDS:
        act()
        count += 1
    return count / seconds
