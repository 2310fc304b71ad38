"""Discrete actions: how to check one, and how an algorithm with discrete actions acts on a continuous task."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from sacae.envs.contract import Action, Env, Frame, Info, Snapshot, State, num_actions_of
from sacae.envs.seeds import as_seed
from sacae.errors import UserError
from sacae.groups import TaskConfig

LARGEST_JOINT = 4096
"""Most joint actions that an environment may have: a network computes a value for each."""

Discretisation: TypeAlias = Literal["none", "factored", "joint"]


def as_action(space: spaces.Box | spaces.MultiDiscrete, action: Any) -> NDArray[Any]:
    """A copy of an action, in the dtype of its space.

    Raises gymnasium.error.InvalidAction if its shape differs from the space's, or it is a choice outside the space.
    """
    given = np.asarray(action)
    if given.shape != space.shape:
        raise gymnasium.error.InvalidAction(f"an action has shape {space.shape}, but this one has {given.shape}")
    if isinstance(space, spaces.MultiDiscrete) and not (given.dtype.kind in "iu" and space.contains(given)):
        raise gymnasium.error.InvalidAction(
            f"an action is whole numbers from 0 to {space.nvec[0] - 1}, but this one is {given.tolist()}"
        )
    return given.astype(space.dtype)


class DiscretisedEnv(gymnasium.Env):
    """An environment with continuous actions that takes discrete ones instead. All else is the inner environment's.

    Each dimension has `bins` levels, evenly spaced from -1 to 1. Factored: an action is int64 (A,), the index of a
    level in each of the A dimensions. Joint: it is int64 (1,), the index of a cell in the grid of all bins^A, in which
    the last dimension varies fastest.
    """

    action_space: spaces.MultiDiscrete
    observation_space: spaces.Box

    def __init__(self, env: Env, bins: int, joint: bool = False) -> None:
        """env: its actions are float32 (A,) in [-1, 1]; this environment owns it from here on.

        Raises UserError for more than LARGEST_JOINT joint actions.
        """
        self.env = env
        (dims,) = env.action_space.shape
        if joint:
            _check_joint(dims, bins)
        self._levels: NDArray[np.float32] = np.linspace(-1, 1, bins, dtype=np.float32)
        self._grid = (bins,) * dims if joint else None
        self.action_space = spaces.MultiDiscrete([bins**dims] if joint else [bins] * dims)
        self.observation_space = env.observation_space
        self.metadata, self.render_mode = env.metadata, env.render_mode
        self.max_episode_steps = env.max_episode_steps
        self._actions: list[NDArray[np.int64]] = []

    @property
    def render_seconds(self) -> float:
        """See `Env`."""
        return self.env.render_seconds

    @property
    def last_info(self) -> Info:
        """See `Env`."""
        return self.env.last_info

    @property
    def original(self) -> gymnasium.Env | None:
        """See `Env`."""
        return self.env.original

    def continuous(self, action: NDArray[np.int64]) -> NDArray[np.float32]:
        """The continuous action, float32 (A,), that a discrete one stands for."""
        index = action if self._grid is None else np.array(np.unravel_index(action[0], self._grid))
        return self._levels.take(index)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Frame, Info]:
        """See `Env`."""
        super().reset(seed=as_seed(seed))
        self._actions = []
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Action) -> tuple[Frame, float, bool, bool, Info]:
        """See `Env`. Raises gymnasium.error.InvalidAction for a choice outside the action space."""
        choice = as_action(self.action_space, action)
        result = self.env.step(self.continuous(choice))
        self._actions.append(choice)
        return result

    def render(self, height: int | None = None, width: int | None = None, **arguments: int) -> NDArray[np.uint8]:
        """See `Env`. arguments: others of the inner environment's `render`."""
        return self.env.render(height, width, **arguments)

    @property
    def state_space(self) -> spaces.Box | None:
        """See `Env`."""
        return self.env.state_space

    def state(self) -> State:
        """See `Env`."""
        return self.env.state()

    def physics_state(self) -> NDArray[np.float64]:
        """See `Env`."""
        return self.env.physics_state()

    def physics_coordinates(self) -> dict[str, float]:
        """See `Env`."""
        return self.env.physics_coordinates()

    def snapshot(self) -> dict[str, Any]:
        """See `Env`. "actions" are the discrete ones."""
        return self.env.snapshot() | {"actions": [action.tolist() for action in self._actions]}

    def restore(self, snapshot: Snapshot) -> float:
        """See `Env`."""
        self._actions = [as_action(self.action_space, action) for action in snapshot["actions"]]
        return self.env.restore({**snapshot, "actions": [self.continuous(action) for action in self._actions]})

    def close(self) -> None:
        """See `Env`."""
        self.env.close()


def discretised(env: Env, task: TaskConfig) -> Env:
    """The environment with the actions that the settings ask for. Raises UserError for too many joint actions."""
    if task.discretisation in ("factored", "joint"):
        return DiscretisedEnv(env, task.bins, task.discretisation == "joint")
    return env


def choose_discretisation(
    task: TaskConfig,
    discrete_agent: bool,
    agent: str,
    name: str,
    action_space: Callable[[], spaces.Box | spaces.MultiDiscrete],
) -> tuple[Discretisation, str | None]:
    """Resolves the setting `discretisation`; also returns a line to print if it was "auto" and that changes the task.

    discrete_agent: whether the agent of that name has discrete actions.
    name: the task's, for messages.
    action_space: returns the task's own action space; called only if needed, since it builds the environment.

    Raises UserError where task, agent and setting do not fit together.
    """
    wanted = task.discretisation
    if not discrete_agent and wanted in ("factored", "joint"):
        raise UserError(
            f"discretisation is {wanted}, but agent is {agent}, whose actions are continuous; leave --discretisation "
            "out, or use --agent dqn or discrete_sac"
        )
    if not discrete_agent and task.env is None:
        return "none", None  # All tasks of DeepMind Control are continuous.
    space = action_space()
    num_actions = num_actions_of(space)
    if num_actions is not None:
        _check_discrete_task(wanted, discrete_agent, agent, name, num_actions)
        return "none", None
    return _of_continuous_task(task, agent, name, space.shape[0]) if discrete_agent else ("none", None)


def _check_discrete_task(wanted: str, discrete_agent: bool, agent: str, name: str, num_actions: int) -> None:
    if not discrete_agent:
        raise UserError(
            f"agent is {agent}, whose actions are continuous, but {name} has {num_actions} discrete ones; "
            "use --agent dqn or discrete_sac"
        )
    if wanted in ("factored", "joint"):
        raise UserError(
            f"discretisation is {wanted}, but {name} has discrete actions already; leave --discretisation out"
        )


def _of_continuous_task(task: TaskConfig, agent: str, name: str, dims: int) -> tuple[Discretisation, str | None]:
    if task.discretisation == "none":
        raise UserError(
            f"discretisation is none, but agent is {agent}, which chooses among discrete actions, and {name} has "
            "continuous ones; use --discretisation factored or joint"
        )
    if task.discretisation == "joint":
        _check_joint(dims, task.bins)
    if task.discretisation != "auto":
        return task.discretisation, None
    where = f"each of {dims} dimensions" if dims > 1 else "the one dimension"
    return "factored", (
        f"{agent} chooses among discrete actions and {name} has continuous ones: factored, {task.bins} bins in {where}"
    )


def _check_joint(dims: int, bins: int) -> None:
    if bins**dims > LARGEST_JOINT:
        raise UserError(
            f"discretisation is joint, which with {bins} bins in each of {dims} dimensions makes {bins**dims:,} "
            f"actions, more than {LARGEST_JOINT:,}; use --discretisation factored or fewer --bins"
        )
