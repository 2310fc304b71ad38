"""Random streams of a run. Each draws from its own generator, so that none depends on how often another is used."""

import numpy as np
import torch

ENVIRONMENT, ACTIONS, REPLAY, UPDATES, EVALUATION, STRIP, RESETS = range(7)


def seed_for(seed: int, *stream: int) -> int:
    """A seed that differs for every stream of a run, and is the same in every run of that seed."""
    return int(np.random.SeedSequence([seed, *stream]).generate_state(1)[0])


def restore(generator: torch.Generator, state: torch.Tensor, seed: int) -> bool:
    """Sets a generator's saved state. One of another kind of device cannot go on: it starts anew; then False."""
    if state.numel() == generator.get_state().numel():
        generator.set_state(state)
        return True
    generator.manual_seed(seed)
    return False
