"""Updates replayed as CUDA graphs: one launch for an update instead of several hundred."""

from collections.abc import Callable

import torch

from sacae.agents.agent import Agent
from sacae.agents.gates import Gates
from sacae.agents.head import Metrics
from sacae.types import Batch, Noise

WARM_UP_UPDATES = 3


def make_update(agent: Agent, generator: torch.Generator) -> Callable[..., Metrics]:
    """A function that makes one update, called as update(batch, step=0) with the arguments of `Agent.update`.

    It replays CUDA graphs on a GPU if `capture` is on. generator: draws the noise, on the agent's device.
    """
    if agent.device.type == "cuda" and agent.config.train.capture:
        return CapturedUpdate(agent, generator)
    return lambda batch, step=0: agent.update(batch, agent.draw_noise(generator), step)


class CapturedUpdate:
    """Replays `agent.run_update` as a CUDA graph, one for each combination of gates that occurs.

    It copies each batch into buffers whose addresses the graphs keep. The graph draws the noise from the generator; if
    that is None, the caller passes it with the batch. The next call overwrites the returned metrics.
    """

    def __init__(self, agent: Agent, generator: torch.Generator | None) -> None:
        self.agent = agent
        self.generator = generator
        self._graphs: dict[Gates, tuple[torch.cuda.CUDAGraph, Metrics]] = {}
        self._pool = torch.cuda.graph_pool_handle()
        self._batch: Batch | None = None
        self._given_noise = Noise()

    def __call__(self, batch: Batch, noise: Noise | None = None, step: int = 0) -> Metrics:
        """One update, like `Agent.update`."""
        self._copy_in(batch, noise or Noise())
        gates = self.agent.next_gates(step)
        if gates not in self._graphs:
            self._graphs[gates] = self._capture(gates)
        graph, metrics = self._graphs[gates]
        graph.replay()
        return metrics

    def _copy_in(self, batch: Batch, noise: Noise) -> None:
        if self._batch is None:
            self._batch = Batch._make(tensor if tensor is None else tensor.clone() for tensor in batch)
            self._given_noise = Noise._make(tensor if tensor is None else tensor.clone() for tensor in noise)
            return
        for buffer, tensor in zip((*self._batch, *self._given_noise), (*batch, *noise)):
            if buffer is not None and tensor is not None:
                buffer.copy_(tensor)

    def _apply(self, gates: Gates) -> Metrics:
        assert self._batch is not None
        noise = self._given_noise if self.generator is None else self.agent.draw_noise(self.generator)
        return self.agent.run_update(self._batch, noise, gates)

    def _capture(self, gates: Gates) -> tuple[torch.cuda.CUDAGraph, Metrics]:
        self._warm_up(gates)
        graph = torch.cuda.CUDAGraph()
        if self.generator is not None:
            graph.register_generator_state(self.generator)
        with torch.cuda.graph(graph, pool=self._pool):
            metrics = self._apply(gates)
        return graph, metrics

    def _warm_up(self, gates: Gates) -> None:
        """Runs the update a few times, so that libraries choose their algorithms, and undoes what it learned."""
        saved = {tensor: tensor.clone() for tensor in self._learning_tensors()}
        random_state = None if self.generator is None else self.generator.get_state()
        stream = torch.cuda.Stream(self.agent.device)
        stream.wait_stream(torch.cuda.current_stream(self.agent.device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_UPDATES):
                self._apply(gates)
        torch.cuda.current_stream(self.agent.device).wait_stream(stream)
        with torch.no_grad():
            for tensor in self._learning_tensors():
                # Adam makes its moments and step count, all zero, at its first step.
                tensor.copy_(saved[tensor]) if tensor in saved else tensor.zero_()
        if self.generator is not None and random_state is not None:
            self.generator.set_state(random_state)

    def _learning_tensors(self) -> list[torch.Tensor]:
        """Every tensor that an update changes: parameters, buffers, optimiser states."""
        networks = dict.fromkeys([*self.agent.parameters(), *self.agent.buffers()])
        states = [state for optimizer in self.agent.optimizers.values() for state in optimizer.state.values()]
        return [*networks, *(value for state in states for value in state.values() if torch.is_tensor(value))]
