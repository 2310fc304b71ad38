"""Environments that misbehave, registered by the import of this module: `--env tests.envs.misbehaving:Name-v0`.

`Misbehaving` does what KINDS says, in one episode after the other; `Flaky` raises at random in another environment.
"""

import os
import signal
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from baselines import point_mass  # noqa: F401 - registers PointMassGoal-v0

LIMIT = 5
"""Steps of an episode that ends by itself."""

FLAKY = ("CartPole-v1", "Pendulum-v1", "SixStateChain-v0", "PointMassGoal-v0")
"""Environments of which there is a flaky form."""

BAD_STEP = 3
"""Step of an episode that goes wrong."""


def raises(error):
    def act(*_result):
        raise error

    return act


KINDS = {
    "raises": raises(RuntimeError("the ball\nis [/gone]")),
    "stop iteration": raises(StopIteration("done")),
    "memory error": raises(MemoryError()),
    "system exit": raises(SystemExit(3)),
    "assertion": raises(AssertionError("x" * 1000)),
    "nothing": lambda *_: None,
    "no observation": lambda x, r: (None, r, False, False, {}),
    "wrong shape": lambda x, r: (np.zeros(4, np.float32), r, False, False, {}),
    "wrong dtype": lambda x, r: (np.array(["a", "b", "c"]), r, False, False, {}),
    "no reward": lambda x, r: (x, None, False, False, {}),
    "rewards": lambda x, r: (x, np.array([r, r]), False, False, {}),
    "nan observation": lambda x, r: (x * np.array([1, np.nan, 1], np.float32), r, False, False, {}),
    "infinite observation": lambda x, r: (np.array([1e300, 0, 0]), r, False, False, {}),
    "nan reward": lambda x, r: (x, np.nan, False, False, {}),
    "infinite reward": lambda x, r: (x, -np.inf, False, False, {}),
    "large reward": lambda x, r: (x, 1e30, False, False, {}),
    "leaves": lambda *_: os._exit(7),
    "killed": lambda *_: os.kill(os.getpid(), signal.SIGKILL),
}

SURVIVED = [kind for kind in KINDS if kind not in ("leaves", "killed")]
"""Those that leave the process alive."""


class Walk(gymnasium.Env):
    """Three numbers that follow the action, from a random start. The reward is minus the action's size."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.x = self.np_random.normal(size=3).astype(np.float32)
        return self.x.copy(), {}

    def step(self, action: np.ndarray) -> Any:
        self.x = 0.9 * self.x + 0.1 * action
        return self.x.copy(), -abs(float(action[0])), False, False, {}


class Misbehaving(Walk):
    """At BAD_STEP of its n-th episode it does the n-th of `kinds`; afterwards it is well.

    resets: the numbers of the resets that raise an error, counted from 1.
    """

    def __init__(self, kinds: tuple[str, ...] = (), resets: tuple[int, ...] = (), **settings: Any) -> None:
        super().__init__(**settings)
        self.kinds, self.resets = kinds, resets
        self.tries = self.episode = 0

    def reset(self, **arguments: Any) -> Any:
        self.tries += 1
        start = super().reset(**arguments)
        if self.tries in self.resets:
            raise RuntimeError("no floor")
        self.episode, self.steps = self.episode + 1, 0
        return start

    def step(self, action: np.ndarray) -> Any:
        self.steps += 1
        observation, reward, *rest = super().step(action)
        if self.steps == BAD_STEP and self.episode <= len(self.kinds):
            return KINDS[self.kinds[self.episode - 1]](observation, reward)
        return (observation, reward, *rest)


class ByAction(Walk):
    """What it does hangs on the action: `kind` at those whose size is in `where`."""

    def __init__(self, kind: str, where: tuple[float, float] = (0.9, 1.0), **settings: Any) -> None:
        super().__init__(**settings)
        self.kind, self.where = kind, where

    def step(self, action: np.ndarray) -> Any:
        observation, reward, *rest = super().step(action)
        if self.where[0] <= abs(float(action[0])) <= self.where[1]:
            return KINDS[self.kind](observation, reward)
        return (observation, reward, *rest)


class Shifty(Walk):
    """Behaves otherwise once `trouble` is set, as an environment does that hangs on more than its seed."""

    trouble: Any = None

    def step(self, action: np.ndarray) -> Any:
        observation, reward, *rest = super().step(action)
        return (observation, reward, *rest) if Shifty.trouble is None else Shifty.trouble(observation, reward)


class Unclosed(Walk):
    def close(self) -> None:
        raise RuntimeError("stuck")


class Unmade(Walk):
    def __init__(self, **settings: Any) -> None:
        raise RuntimeError("no licence")


class Flaky(gymnasium.Wrapper):
    """Raises at random, in one step of five; how often it has and did not is the same for the same seeds."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.rng = np.random.default_rng(seed)
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        if self.rng.random() < 0.2:
            raise RuntimeError("flaky")
        return self.env.step(action)


def register(name: str, creator: Any, limit: int = LIMIT, **settings: Any) -> None:
    gymnasium.register(f"{name}-v0", creator, max_episode_steps=limit, kwargs=settings)


register("EveryKind", Misbehaving, kinds=tuple(SURVIVED))
register("FailingResets", Misbehaving, resets=(1, 2, 4))
register("NoReset", Misbehaving, resets=tuple(range(100)))
register("ResetsOnce", Misbehaving, resets=tuple(range(2, 100)))
for kind in KINDS:
    name = "".join(word.capitalize() for word in kind.split())
    register(name, Misbehaving, kinds=(kind,))
    register(f"Always{name}", ByAction, kind=kind, where=(0.0, 1.0))
    register(f"Large{name}", ByAction, kind=kind)
    register(f"Zero{name}", ByAction, kind=kind, where=(0.0, 0.0))
register("Shifty", Shifty)
register("Unclosed", Unclosed)
register("Unmade", Unmade)
for base in FLAKY:

    def make(base: str = base, **settings: Any) -> gymnasium.Env:
        return Flaky(gymnasium.make(base, disable_env_checker=True, **settings))

    register(f"Flaky{base.partition('-')[0]}", make, limit=20)
