"""Discrete actions: what is one, and how an algorithm that chooses among them acts on a continuous task."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces

from sacae.config import TaskConfig
from sacae.errors import UserError

if TYPE_CHECKING:
    from sacae.envs.stepping import Env

LARGEST_JOINT = 4096
"""Joint actions that an environment may have: a network gives a value to each."""


def num_actions_of(space: spaces.Space) -> int | None:
    """Choices in each action dimension; None where the dimensions are continuous."""
    return int(space.nvec[0]) if isinstance(space, spaces.MultiDiscrete) else None


def as_action(space: spaces.Space, action: Any) -> np.ndarray:
    """A copy of an action, in the dtype of a Box or MultiDiscrete space.

    Raises gymnasium.error.InvalidAction where its shape is another, or there is no such choice.
    """
    given = np.asarray(action)
    if given.shape != space.shape:
        raise gymnasium.error.InvalidAction(f"an action has shape {space.shape}, but this one has {given.shape}")
    if isinstance(space, spaces.MultiDiscrete) and not (given.dtype.kind in "iu" and space.contains(given)):
        raise gymnasium.error.InvalidAction(
            f"an action is whole numbers from 0 to {num_actions_of(space) - 1}, but this one is {given.tolist()}"
        )
    return given.astype(space.dtype)


class DiscretisedEnv(gymnasium.Env):
    """An environment of continuous actions as one of discrete ones; everything else is that environment's own.

    Each dimension has `bins` levels, evenly spaced from -1 to 1. Factored: an action is int64 (A,), the number of a
    level in each of the A dimensions. Joint: it is int64 (1,), the number of a cell in the grid of all bins^A, in which
    the last dimension runs fastest.
    """

    def __init__(self, env: "Env", bins: int, joint: bool = False) -> None:
        """Takes over an environment whose actions are float32 (A,) in [-1, 1].

        Raises UserError for more than LARGEST_JOINT joint actions.
        """
        self.env = env
        (dims,) = env.action_space.shape
        if joint:
            _check_joint(dims, bins)
        self._levels = np.linspace(-1, 1, bins, dtype=np.float32)
        self._grid = (bins,) * dims if joint else None
        self.action_space = spaces.MultiDiscrete([bins**dims] if joint else [bins] * dims)
        self.observation_space = env.observation_space
        self.metadata, self.render_mode = env.metadata, env.render_mode
        self.max_episode_steps = env.max_episode_steps
        self._actions: list[np.ndarray] = []

    @property
    def render_seconds(self) -> float:
        """See `Env`."""
        return self.env.render_seconds

    def continuous(self, action: np.ndarray) -> np.ndarray:
        """The float32 (A,) action that a choice stands for."""
        numbers = action if self._grid is None else np.array(np.unravel_index(action[0], self._grid))
        return self._levels[numbers]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """As the environment's."""
        super().reset(seed=seed)
        self._actions = []
        return self.env.reset(seed=seed, options=options)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """As the environment's, with the action that the choice stands for.

        Raises gymnasium.error.InvalidAction where there is no such choice.
        """
        action = as_action(self.action_space, action)
        answer = self.env.step(self.continuous(action))
        self._actions.append(action)
        return answer

    def render(self, *size: int, **arguments: Any) -> np.ndarray:
        """As the environment's."""
        return self.env.render(*size, **arguments)

    @property
    def state_space(self) -> spaces.Box:
        """As the environment's, where it has one."""
        return self.env.state_space

    def state(self) -> np.ndarray:
        """As the environment's, where it has one."""
        return self.env.state()

    def physics_state(self) -> np.ndarray:
        """As the environment's, where it has one."""
        return self.env.physics_state()

    def physics_coordinates(self) -> dict[str, float]:
        """As the environment's, where it has them."""
        return self.env.physics_coordinates()

    def snapshot(self) -> dict[str, Any]:
        """As the environment's, except that "actions" are the choices."""
        return self.env.snapshot() | {"actions": [action.tolist() for action in self._actions]}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """As the environment's."""
        self._actions = [as_action(self.action_space, action) for action in snapshot["actions"]]
        self.env.restore({**snapshot, "actions": [self.continuous(action) for action in self._actions]})

    def close(self) -> None:
        """As the environment's."""
        self.env.close()


def discretised(env: "Env", task: TaskConfig) -> "Env":
    """The environment with the actions that the settings say. Raises UserError for too many joint actions."""
    if task.discretisation in ("factored", "joint"):
        return DiscretisedEnv(env, task.bins, task.discretisation == "joint")
    return env


def choose_discretisation(
    task: TaskConfig, discrete_agent: bool, agent: str, name: str, look: Callable[[], spaces.Space]
) -> tuple[str, str | None]:
    """What `discretisation` comes to, "none", "factored" or "joint", and a line to print where it was chosen here.

    discrete_agent: whether the agent of that name chooses among discrete actions.
    name: the task's, for people.
    look: gives the action space of the task as it is; asked only where it matters.

    Raises UserError where task, agent and setting do not go together.
    """
    wanted = task.discretisation
    if not discrete_agent and wanted in ("factored", "joint"):
        raise UserError(
            f"discretisation is {wanted}, but agent is {agent}, whose actions are continuous; leave --discretisation "
            "out, or use --agent dqn or discrete_sac"
        )
    if not discrete_agent and task.env is None:
        return "none", None  # DeepMind Control has continuous tasks only.
    space = look()
    num_actions = num_actions_of(space)
    if num_actions is not None:
        return _of_discrete_task(wanted, discrete_agent, agent, name, num_actions), None
    return _of_continuous_task(task, agent, name, space.shape[0]) if discrete_agent else ("none", None)


def _of_discrete_task(wanted: str, discrete_agent: bool, agent: str, name: str, num_actions: int) -> str:
    if not discrete_agent:
        raise UserError(
            f"agent is {agent}, whose actions are continuous, but {name} has {num_actions} discrete ones; "
            "use --agent dqn or discrete_sac"
        )
    if wanted in ("factored", "joint"):
        raise UserError(
            f"discretisation is {wanted}, but {name} has discrete actions already; leave --discretisation out"
        )
    return "none"


def _of_continuous_task(task: TaskConfig, agent: str, name: str, dims: int) -> tuple[str, str | None]:
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
