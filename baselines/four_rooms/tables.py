"""Tabular agents: option-critic (Bacon, Harb and Precup 2017, arXiv:1609.05140), an actor-critic, SARSA.

An agent holds the tables of S seeds and updates N of them in one NumPy operation. Symbols: N = seeds in a call, W =
options, A = actions; Q_Omega(s, w) = value of option w in state s; Q_U(s, w, a) = value of its action a; T =
temperature.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from baselines.settings.option_critic import MOST_OPTIONS
from sacae.declaration import Above, AtLeast, Within
from sacae.envs.four_rooms import NUM_ACTIONS, NUM_CELLS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class TableConfig:
    """Hyperparameters of the agents."""

    num_options: Annotated[int, Within(1, MOST_OPTIONS)] = 4
    """Number of options of the option-critic agent."""
    discount: Annotated[float, Within(0, 1)] = 0.99
    """Discount factor gamma per step, from 0 to 1."""
    critic_lr: Annotated[float, Within(0, 1, above=True)] = 0.5
    """Learning rate of all value tables, above 0 and at most 1."""
    policy_lr: Annotated[float, Above(0)] = 0.25
    """Learning rate of the options' policies."""
    termination_lr: Annotated[float, Above(0)] = 0.25
    """Learning rate of the options' terminations."""
    temperature: Annotated[float, Above(0)] = 0.01
    """Temperature of every softmax: in options' policies, the choice of an option, and SARSA's choice of an action."""
    termination_reg: Annotated[float, AtLeast(0)] = 0.0
    """Termination regulariser: a bonus for continuing an option, so that options last longer."""


# Probabilities and their gradients.


def softmax(preferences: Floats) -> Floats:
    """Softmax of each row. float64 (N, n) -> (N, n)."""
    shifted: Floats = np.exp(preferences - preferences.max(-1, keepdims=True))
    probabilities: Floats = shifted / shifted.sum(-1, keepdims=True)
    return probabilities


def sigmoid(x: Floats) -> Floats:
    """Logistic function of each entry. (...) -> (...)."""
    return 1 / (1 + np.exp(-x))


def draw(probabilities: Floats, uniform: Floats) -> Ints:
    """Draws a choice for each row from its uniform number in [0, 1). (N, n), (N,) -> int64 (N,)."""
    # The last choice also gets what rounding leaves of the total probability 1.
    choice: Ints = (np.cumsum(probabilities, -1)[:, :-1] <= uniform[:, None]).sum(-1)
    return choice


def log_policy_gradient(preferences: Floats, action: Ints, temperature: float) -> Floats:
    """d log pi(a) / d preferences, for pi = softmax(preferences / T). (N, A), (N,) -> (N, A)."""
    return (np.eye(preferences.shape[-1])[action] - softmax(preferences / temperature)) / temperature


def termination_gradient(beta: Floats) -> Floats:
    """d beta / dx of each entry, for beta = sigmoid(x). (...) -> (...)."""
    return beta * (1 - beta)


# The agents.


class Uniform(NamedTuple):
    """Uniform random numbers in [0, 1) for one step of N seeds, float64 (N,) each.

    fails: whether the move fails. where: the cell to which a failed move leads. start: the cell in which an episode
    starts. first: what the agent chooses there. action, option: its choices in the step. ends: whether the option ends.
    """

    fails: Floats
    where: Floats
    start: Floats
    first: Floats
    action: Floats
    ends: Floats
    option: Floats


class Agent(Protocol):
    """An agent with separate tables for each of S seeds.

    rows: in every method, the indices of the N seeds that the call is about; the other arrays are theirs, (N,) each.
    option: each seed's running option, int64 (S,).
    """

    option: Ints

    def begin(self, rows: Ints, cell: Ints, number: Floats) -> None:
        """Starts an episode. number: uniform in [0, 1), for what is chosen."""

    def act(self, rows: Ints, cell: Ints, uniform: Uniform) -> Ints:
        """Chooses actions, int64 (N,)."""

    def learn(
        self,
        rows: Ints,
        cell: Ints,
        action: Ints,
        reward: Floats,
        next_cell: Ints,
        alive: Floats,
        uniform: Uniform,
    ) -> None:
        """Learns from a step and makes the choices before the next one. alive: 0.0 at the goal, otherwise 1.0."""


class OptionCriticTables:
    """Option-critic (algorithm 1 of the paper). With one option it is an actor-critic."""

    def __init__(self, num_seeds: int, num_options: int, config: TableConfig) -> None:
        self.config = config
        self.q = np.zeros((num_seeds, NUM_CELLS, num_options))  # Q_Omega
        self.action_q = np.zeros((num_seeds, NUM_CELLS, num_options, NUM_ACTIONS))  # Q_U
        self.preferences = np.zeros_like(self.action_q)
        self.terminations = np.zeros_like(self.q)
        self.option: Ints = np.zeros(num_seeds, np.int64)

    def begin(self, rows: Ints, cell: Ints, number: Floats) -> None:
        """See Agent."""
        self.option[rows] = self._choose(rows, cell, number)

    def act(self, rows: Ints, cell: Ints, uniform: Uniform) -> Ints:
        """See Agent."""
        preferences = self.preferences[rows, cell, self.option[rows]]
        return draw(softmax(preferences / self.config.temperature), uniform.action)

    def learn(
        self,
        rows: Ints,
        cell: Ints,
        action: Ints,
        reward: Floats,
        next_cell: Ints,
        alive: Floats,
        uniform: Uniform,
    ) -> None:
        """See Agent."""
        option = self.option[rows]
        beta = sigmoid(self.terminations[rows, next_cell, option])
        self._evaluate(rows, cell, option, action, self._target(rows, option, reward, next_cell, beta, alive))
        self._improve_policy(rows, cell, option, action)
        self._improve_termination(rows, next_cell, option, beta, alive)
        ended = uniform.ends < beta
        self.option[rows] = np.where(ended, self._choose(rows, next_cell, uniform.option), option)

    def _choose(self, rows: Ints, cell: Ints, number: Floats) -> Ints:
        return draw(softmax(self.q[rows, cell] / self.config.temperature), number)

    def _target(
        self,
        rows: Ints,
        option: Ints,
        reward: Floats,
        next_cell: Ints,
        beta: Floats,
        alive: Floats,
    ) -> Floats:
        """r + gamma [(1 - beta_w(s')) Q_Omega(s', w) + beta_w(s') max_w' Q_Omega(s', w')]."""
        same, best = self.q[rows, next_cell, option], self.q[rows, next_cell].max(-1)
        target: Floats = reward + self.config.discount * alive * ((1 - beta) * same + beta * best)
        return target

    def _evaluate(self, rows: Ints, cell: Ints, option: Ints, action: Ints, target: Floats) -> None:
        """Intra-option Q-learning of Q_Omega and Q_U."""
        self.q[rows, cell, option] += self.config.critic_lr * (target - self.q[rows, cell, option])
        error = target - self.action_q[rows, cell, option, action]
        self.action_q[rows, cell, option, action] += self.config.critic_lr * error

    def _improve_policy(self, rows: Ints, cell: Ints, option: Ints, action: Ints) -> None:
        """Gradient ascent by theorem 1, with Q_Omega as baseline."""
        config = self.config
        advantage = self.action_q[rows, cell, option, action] - self.q[rows, cell, option]
        gradient = log_policy_gradient(self.preferences[rows, cell, option], action, config.temperature)
        # The authors' gradient lacks the factor 1/T, and their learning rate is tuned for that.
        self.preferences[rows, cell, option] += config.policy_lr * config.temperature * advantage[:, None] * gradient

    def _improve_termination(self, rows: Ints, next_cell: Ints, option: Ints, beta: Floats, alive: Floats) -> None:
        """Gradient ascent by theorem 2: an option ends more often where another one is better."""
        advantage = self.q[rows, next_cell, option] - self.q[rows, next_cell].max(-1) + self.config.termination_reg
        step = self.config.termination_lr * termination_gradient(beta) * advantage * alive
        self.terminations[rows, next_cell, option] -= step


class SarsaTables:
    """SARSA(0) with a softmax policy over its values. It has one option, which is always active."""

    def __init__(self, num_seeds: int, config: TableConfig) -> None:
        self.config = config
        self.q = np.zeros((num_seeds, NUM_CELLS, NUM_ACTIONS))
        self.option: Ints = np.zeros(num_seeds, np.int64)
        self.action = np.zeros(num_seeds, np.int64)

    def begin(self, rows: Ints, cell: Ints, number: Floats) -> None:
        """See Agent."""
        self.action[rows] = self._choose(rows, cell, number)

    def act(self, rows: Ints, cell: Ints, uniform: Uniform) -> Ints:
        """See Agent. Returns the action that the last update used."""
        return self.action[rows]

    def learn(
        self,
        rows: Ints,
        cell: Ints,
        action: Ints,
        reward: Floats,
        next_cell: Ints,
        alive: Floats,
        uniform: Uniform,
    ) -> None:
        """See Agent. Q(s, a) <- Q(s, a) + eta (r + gamma Q(s', a') - Q(s, a))."""
        config = self.config
        next_action = self._choose(rows, next_cell, uniform.action)
        target = reward + config.discount * alive * self.q[rows, next_cell, next_action]
        self.q[rows, cell, action] += config.critic_lr * (target - self.q[rows, cell, action])
        self.action[rows] = next_action

    def _choose(self, rows: Ints, cell: Ints, number: Floats) -> Ints:
        return draw(softmax(self.q[rows, cell] / self.config.temperature), number)


def make_agents(num_seeds: int, config: TableConfig) -> dict[str, Agent]:
    """The three agents; keys are their names in the files."""
    return {
        f"option-critic, {config.num_options} options": OptionCriticTables(num_seeds, config.num_options, config),
        "actor-critic": OptionCriticTables(num_seeds, 1, config),
        "sarsa": SarsaTables(num_seeds, config),
    }
