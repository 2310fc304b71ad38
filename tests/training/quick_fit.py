"""What stands for a fit, in a module that a process of its own imports in no time."""

import os
import signal
import time

import numpy as np

LONG = 10.0
"""Seconds of a long fit."""


def quick_fit(states, actions, rewards):
    """Stands for a fit where it is not the point: correlations, in no time."""
    columns = np.column_stack([actions, rewards]).astype(np.float64) + 1e-3 * states[:, :1]
    return np.nan_to_num(np.corrcoef(columns.T)[-1, :-1]), 0.0


def describing_fit(states, actions, _rewards):
    """Says what it was given: samples, causes, the largest of them, actions; then zeros."""
    effects = np.zeros(actions.shape[1])
    effects[:4] = *states.shape, np.abs(states).max(), actions.shape[1]
    return effects, 0.0


def dying_fit(*_data):
    """Ends its process as the system does where memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def long_fit(*_data):
    """Is still under way when a tiny run ends."""
    time.sleep(LONG)
