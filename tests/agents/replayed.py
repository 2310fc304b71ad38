"""Stands in for CUDA graphs on any device: what is recorded is run anew, into tensors that stay where they are."""

import copy

import torch

from sacae.agents.capture import WARM_UP_UPDATES, CapturedUpdate


class ReplayedEagerly:
    """As `sacae.agents.capture.CudaGraphs`: recording gives tensors, but leaves the agent as it is."""

    def __init__(self, agent):
        self.agent, self.recorded = agent, 0

    def begin_anew(self):
        pass

    def warm_up(self, update):
        for _ in range(WARM_UP_UPDATES):
            update()

    def record(self, update, generator):
        self.recorded += 1
        agent = self.agent
        before = {tensor: tensor.clone() for tensor in CapturedUpdate._learning_tensors(self)}
        drawn = None if generator is None else generator.get_state()
        metrics, gradients = update(), agent.policy_gradients
        with torch.no_grad():
            for tensor, value in before.items():
                tensor.copy_(value)
        if generator is not None:
            generator.set_state(drawn)

        def replay():
            kept = agent.policy_gradients
            found = update()
            for name, value in found.items():
                metrics[name].copy_(value)
            for parameter, gradient in (agent.policy_gradients or {}).items():
                gradients[parameter].copy_(gradient)
            agent.policy_gradients = kept  # a graph runs no Python

        return replay, metrics


def captured(agent, generator=None):
    """An update that is captured, but for the graphs."""
    return CapturedUpdate(agent, generator, ReplayedEagerly(agent))


def state_of(agent):
    """Everything that an update can change, to compare it later."""
    return copy.deepcopy((agent.learning_state(), agent.updates_done, torch.get_rng_state()))


def same(one, other):
    """Whether two nests of tensors and plain values are equal to the last bit."""
    if torch.is_tensor(one):
        return torch.is_tensor(other) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other
