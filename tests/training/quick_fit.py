"""A fit that takes no time, in a module that a process of its own imports in no time."""

import numpy as np


def quick_fit(states, actions, rewards):
    """Stands for a fit where it is not the point: correlations, in no time."""
    columns = np.column_stack([actions, rewards]).astype(np.float64) + 1e-3 * states[:, :1]
    return np.nan_to_num(np.corrcoef(columns.T)[-1, :-1]), 0.0
