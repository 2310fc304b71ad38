"""What each action dimension does to the reward, and how much entropy it is to have for that.

Ji et al. 2024, "ACE: Off-policy actor-critic with causality-aware entropy regularization", arXiv:2402.14528.
"""

import time

import numpy as np
from numpy.typing import NDArray

from sacae.errors import UserError, how_to_install

CONSTANT = 1e-8
"""Standard deviation at which a column counts as constant."""


def require_lingam() -> None:
    """Raises UserError, naming the extra, where the package for causal discovery is missing."""
    try:
        import lingam  # noqa: F401
    except ImportError:
        message = f"causal_entropy needs the package lingam, which is not installed; {how_to_install('ace')}"
        raise UserError(message) from None


def effects_on_reward(
    states: NDArray[np.float32], actions: NDArray[np.float32 | np.int64], rewards: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The direct effect of each action dimension on the reward, in standard deviations of both.

    DirectLiNGAM (Shimizu et al. 2011) on columns [states, actions, reward], standardised, without constant ones, the
    reward known to cause nothing.

    states: (N, S). actions: (N, A). rewards: (N,). Returns float64 (A,); 0 for a constant action, and all 0 for a
    constant reward.
    """
    import lingam
    from lingam.utils import make_prior_knowledge

    num_actions = actions.shape[1]
    effects = np.zeros(num_actions)
    columns = np.column_stack([states, actions, rewards]).astype(np.float64)
    varies = columns.std(0) > CONSTANT
    if not varies[-1]:
        return effects
    columns = columns[:, varies]
    columns = (columns - columns.mean(0)) / columns.std(0)
    reward = columns.shape[1] - 1
    model = lingam.DirectLiNGAM(prior_knowledge=make_prior_knowledge(reward + 1, sink_variables=[reward]))
    adjacency = model.fit(columns).adjacency_matrix_
    varying_actions = varies[-1 - num_actions : -1]
    effects[varying_actions] = adjacency[-1, reward - varying_actions.sum() : reward]
    return effects


def timed_fit(
    states: NDArray[np.float32], actions: NDArray[np.float32 | np.int64], rewards: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """`effects_on_reward` on one thread, so that training has the others; and the seconds that it took."""
    from threadpoolctl import threadpool_limits

    require_lingam()  # imported before the clock starts
    started = time.perf_counter()
    with threadpool_limits(1):
        effects = effects_on_reward(states, actions, rewards)
    return effects, time.perf_counter() - started


def entropy_weights(effects: NDArray[np.float64], signed: bool) -> NDArray[np.float32]:
    """A weight for each action dimension's entropy: softmax of the effects, times their number. (A,) -> float32 (A,).

    signed: as the released code does, which gives the strongest negative cause the least weight; otherwise of their
    sizes, as the paper's words mean.
    """
    sizes = effects if signed else np.abs(effects)
    exponentials = np.exp(sizes - sizes.max())
    weights: NDArray[np.float64] = len(effects) * exponentials / exponentials.sum()
    return weights.astype(np.float32)
