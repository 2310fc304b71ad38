"""Updates replayed as CUDA graphs: one launch for an update instead of several hundred."""

import contextlib
import operator
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import torch

from sacae.agents.agent import Agent
from sacae.agents.gates import Gates
from sacae.types import Batch, Metrics, Noise

WARM_UP_UPDATES = 3


def make_update(agent: Agent, generator: torch.Generator, capture: bool | None = None) -> Callable[..., Metrics]:
    """A function that makes one update, called as update(batch, step=0) with the arguments of `Agent.update`.

    It replays CUDA graphs on a GPU if `capture` is on; None: as the agent's settings say. generator: draws the noise,
    on the agent's device.
    """
    capture = agent.config.train.capture if capture is None else capture
    if agent.device.type == "cuda" and capture:
        return CapturedUpdate(agent, generator)
    return lambda batch, step=0: agent.update(batch, agent.draw_noise(generator), step)


class Graphs(Protocol):
    """Where updates are recorded."""

    def begin_anew(self) -> None:
        """What was recorded before is not used again."""

    def warm_up(self, update: Callable[[], object]) -> None:
        """Runs an update as often as it takes until it can be recorded."""

    def record(
        self, update: Callable[[], Metrics], generator: torch.Generator | None
    ) -> tuple[Callable[[], object], Metrics]:
        """Records an update. Returns what makes it again, and where its metrics then lie.

        generator: what it draws from; each replay draws new numbers.
        """


@contextlib.contextmanager
def _without_streams_warning() -> Iterator[None]:
    """Keeps back PyTorch's warning that gradients are added on another stream than their parameters' nodes.

    On an H100 it came once in each run, whose self-test makes uncaptured updates before captured ones; these agreed.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The AccumulateGrad node's stream does not match")
        yield


class CudaGraphs:
    """CUDA graphs, which share one pool of memory. See Graphs."""

    def __init__(self, device: torch.device) -> None:
        # PyTorch's own stream for graphs lies on whichever GPU is the current one, and records nothing of another.
        self._stream = torch.cuda.Stream(device)
        self.begin_anew()

    def begin_anew(self) -> None:
        """See Graphs. PyTorch refuses a pool whose graphs are gone while somebody holds a tensor in it."""
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, update: Callable[[], object]) -> None:
        """See Graphs: libraries choose their algorithms, on the stream that the graph is recorded on."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream), _without_streams_warning():
            for _ in range(WARM_UP_UPDATES):
                update()
        current.wait_stream(self._stream)

    def record(
        self, update: Callable[[], Metrics], generator: torch.Generator | None
    ) -> tuple[Callable[[], object], Metrics]:
        """See Graphs."""
        graph = torch.cuda.CUDAGraph()
        if generator is not None:
            graph.register_generator_state(generator)
        # The outer one also ends where the recording fails: PyTorch would leave its stream the current one.
        with (
            torch.cuda.stream(self._stream),
            _without_streams_warning(),
            torch.cuda.graph(graph, pool=self._pool, stream=self._stream),
        ):
            metrics = update()
        return graph.replay, metrics


class Recorded(NamedTuple):
    """A recorded update, and where it leaves its results."""

    replay: Callable[[], object]
    metrics: Metrics
    policy_gradients: dict[torch.Tensor, torch.Tensor] | None


class CapturedUpdate:
    """Replays `agent.run_update` as a CUDA graph, one for each combination of gates that occurs.

    It copies each batch into buffers whose addresses the graphs keep. The graph draws the noise from the generator; if
    that is None, the caller passes it with the batch. The next call overwrites the returned metrics. After
    `agent.load_learning_state`, which gives the optimisers other tensors, graphs are recorded anew.
    """

    def __init__(self, agent: Agent, generator: torch.Generator | None, graphs: Graphs | None = None) -> None:
        """graphs: CUDA graphs on the agent's device, unless given."""
        self.agent = agent
        self.generator = generator
        self._graphs = graphs or CudaGraphs(agent.device)
        self._recorded: dict[Gates, Recorded] = {}
        self._moments: Sequence[object] = ()
        self._batch: Batch | None = None
        self._given_noise = Noise()

    def __call__(self, batch: Batch, noise: Noise | None = None, step: int = 0) -> Metrics:
        """One update, like `Agent.update`."""
        self._copy_in(batch, noise or Noise())
        gates = self.agent.next_gates(step)
        moments = [optimizer.state for optimizer in self.agent.optimizers.values()]
        if not all(map(operator.is_, moments, self._moments)):
            self._recorded.clear()
            self._graphs.begin_anew()
        self._moments = moments
        if gates not in self._recorded:
            self._recorded[gates] = self._capture(gates)
        recorded = self._recorded[gates]
        recorded.replay()
        self.agent.policy_gradients = recorded.policy_gradients
        return recorded.metrics

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

    def _capture(self, gates: Gates) -> Recorded:
        self._warm_up(gates)
        replay, metrics = self._graphs.record(lambda: self._apply(gates), self.generator)
        return Recorded(replay, metrics, self.agent.policy_gradients)

    def _warm_up(self, gates: Gates) -> None:
        """Runs the update a few times and undoes what it learned."""
        saved = {tensor: tensor.clone() for tensor in self._learning_tensors()}
        random_state = None if self.generator is None else self.generator.get_state()
        self._graphs.warm_up(lambda: self._apply(gates))
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
