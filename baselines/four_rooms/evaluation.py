"""What the episodes' lengths say: moving averages, recovery after the goal moves, intervals, a summary."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.four_rooms.walk import Walk
from sacae.envs.four_rooms import AROUND, NEXT, NUM_ACTIONS, NUM_AROUND, NUM_CELLS, SLIP

WINDOW = 50
"""Episodes over which steps are averaged in pictures, tables and for recovery."""

RECOVERED = 2.0
"""A seed has recovered when its episodes take at most this many times the steps of the best policy."""


def fewest_steps(goal: int) -> float:
    """Expected steps of the best policy from a random start to a goal, by value iteration until changes are 1e-9."""
    is_neighbour = np.arange(NUM_ACTIONS) < NUM_AROUND[:, None]
    neighbours, weight = np.where(is_neighbour, AROUND, 0), is_neighbour / NUM_AROUND[:, None]
    steps, change = np.zeros(NUM_CELLS), np.inf
    while change > 1e-9:
        after_slip = (weight * steps[neighbours]).sum(1)
        better = 1 + SLIP * after_slip + (1 - SLIP) * steps[NEXT].min(1)
        better[goal] = 0.0
        steps, change = better, np.abs(better - steps).max()
    return float(steps.sum() / (NUM_CELLS - 1))


def recovery(steps: NDArray[Any], goals: NDArray[Any], switch: int) -> NDArray[Any]:
    """How many episodes after its move the goal is reached fast again: the next WINDOW episodes then take, on average,
    at most RECOVERED times the steps of the best policy.

    int64 (S, E), int64 (S,) -> float64 (S,), NaN for a seed that never recovers. switch: episodes before the move.
    """
    fewest = {goal: fewest_steps(goal) for goal in set(goals.tolist())}
    result = np.full(len(goals), np.nan)
    for i, goal in enumerate(goals.tolist()):
        means = moving_average(steps[i, switch:])
        good = np.flatnonzero(means <= RECOVERED * fewest[goal])
        if len(good):
            result[i] = good[0]
    return result


def moving_average(steps: NDArray[Any]) -> NDArray[np.float64]:
    """Means over WINDOW episodes, or over all if there are fewer. (..., E) -> float64 (..., E - WINDOW + 1)."""
    window = min(WINDOW, steps.shape[-1])
    sums = np.cumsum(steps, -1, dtype=float)
    sums = np.concatenate([np.zeros((*steps.shape[:-1], 1)), sums], -1)
    means: NDArray[np.float64] = (sums[..., window:] - sums[..., :-window]) / window
    return means


def interval(values: NDArray[Any], resamples: int = 2000) -> tuple[float, float]:
    """95% bootstrap interval of the mean. (S,) -> low, high."""
    picks = np.random.default_rng(0).integers(len(values), size=(resamples, len(values)))
    low, high = np.quantile(values[picks].mean(1), (0.025, 0.975))
    return float(low), float(high)


def summary(walks: Mapping[str, Walk], switch: int) -> list[dict[str, object]]:
    """A row for each agent and phase: mean steps over seeds and WINDOW episodes, their 95% interval, and recovery."""
    rows = []
    for agent, result in walks.items():
        phases = {
            "before the goal moves": result.steps[:, max(0, switch - WINDOW) : switch],
            "after it has moved": result.steps[:, switch : switch + WINDOW],
            "at the end": result.steps[:, switch:][:, -WINDOW:],
        }
        episodes = recovery(result.steps, result.goal, switch)
        known = episodes[~np.isnan(episodes)]
        for phase, steps in phases.items():
            low, high = interval(steps.mean(1))
            rows.append(
                {
                    "agent": agent,
                    "phase": phase,
                    "seeds": len(steps),
                    "mean_steps": round(float(steps.mean()), 2),
                    "low": round(low, 2),
                    "high": round(high, 2),
                    "seeds_recovered": len(known),
                    "median_recovery_episodes": float(np.median(known)) if len(known) else "",
                }
            )
    return rows
