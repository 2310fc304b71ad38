"""`ProcessStepper`: environments in processes of their own, which work while the caller does something else.

Processes are spawned, never forked: a fork after a first frame hangs. Frames travel through shared memory, and short
messages, such as "step", through a pipe. A closed pipe tells each side that the other has ended.
"""

import atexit
import contextlib
import logging
import signal
import time
import traceback
import weakref
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.shared_memory import SharedMemory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sacae.envs import rendering
from sacae.envs.contract import Action, Env, EnvInfo, Frame, Recipe, Snapshot, State, StepResult
from sacae.envs.stepping import EpisodeHistory, common_info, take_step
from sacae.errors import UserError
from sacae.output import outlast
from sacae.signals import follow_parent, may_be_abandoned, signals_held

SPAWN = get_context("spawn")

LOGGER = logging.getLogger(__name__)

END_SECONDS = 3.0
"""Time that a process has to finish its current step and end by itself before it is killed."""

SILENT_SECONDS, AGAIN_SECONDS = 30.0, 60.0
"""Time without an answer after which a line says so, and after which it says so again."""

TIMED = ("env", "render")
"""What each environment's process times, in this order in the shared memory."""


class ProcessStepper:
    """Steps each environment in a process of its own, while the caller continues. See `Stepper`.

    If an environment fails, the call that waits for its result raises the error and closes the stepper; only
    `snapshot` still works then:
    - UserError if the environment raised it, or its process was killed (for example for lack of memory);
    - RuntimeError for every other error, with the traceback from the process.

    Each process imports the running script, as all spawned processes do: put the script's own work under
    `if __name__ == "__main__":`.
    """

    envs: Sequence[Env] = ()

    def __init__(self, recipes: Sequence[Recipe], keep_state: bool = False) -> None:
        """Starts all processes, then waits until each has built its environment.

        recipes: picklable, one for each environment. The process imports their modules.
        keep_state: whether each frame comes with its physical state.

        Raises errors as above, and ValueError if the environments differ in their `EnvInfo`.
        """
        rendering.configure(required=False)  # Once, here: the processes inherit the choice.
        self.seconds = dict.fromkeys((*TIMED, "wait"), 0.0)
        self._children = _Children()
        self._finalizer = weakref.finalize(self, self._children.end)
        # At exit, multiprocessing waits for all children, so these must end first. weakref's own exit handler may run
        # too late for that.
        self._finalizer.atexit = False
        atexit.register(self._finalizer)
        try:
            self.env_info = self._children.start(recipes, keep_state)
        except BaseException:
            self._children.kill()
            self.close()
            raise
        self._history = EpisodeHistory(self.env_info.action_dtype)

    def reset(self) -> tuple[list[Frame], list[State | None]]:
        """See `Stepper`."""
        self._drop_result()
        starts = self._command("reset")
        self._history.begin(starts)
        return [frame.copy() for frame in self._children.rows["first_frame"]], self._copies("first_state", starts)

    def send(self, actions: Action) -> None:
        """See `Stepper`. Returns at once."""
        self._history.send(actions)
        self._children.rows["action"] = self._history.unanswered()
        self._children.send([("step", None)] * len(actions))

    def receive(self) -> StepResult:
        """See `Stepper`. Waits for the slowest environment."""
        self._history.unanswered()
        started = time.perf_counter()
        starts = self._results()
        self.seconds["wait"] += time.perf_counter() - started
        self._history.receive(starts)
        rows = self._children.rows
        slowest = rows["seconds"][rows["seconds"].sum(axis=1).argmax()]
        for name, seconds in zip(TIMED, slowest.tolist()):
            self.seconds[name] += seconds
        return StepResult(
            frame=rows["frame"].copy(),
            reward=rows["reward"].copy(),
            terminated=rows["terminated"].copy(),
            truncated=rows["truncated"].copy(),
            first_frame=self._copies("first_frame", starts),
            state=self._copies("state", [True] * len(rows)),
            first_state=self._copies("first_state", starts),
            success=[None if success < 0 else bool(success) for success in rows["success"].tolist()],
        )

    def _copies(self, name: str, present: Sequence[Any]) -> list[NDArray[Any] | None]:
        """Copies of each environment's field of that name; None if the memory has no such field or `present` has None.

        Copies, which take microseconds: a later step must not change the caller's arrays.
        """
        rows = self._children.rows
        if name not in (rows.dtype.names or ()):
            return [None] * len(rows)
        return [None if here is None else entry.copy() for here, entry in zip(present, rows[name])]

    def snapshot(self) -> list[dict[str, Any]]:
        """See `Stepper`."""
        return self._history.snapshot()

    def restore(self, snapshots: Sequence[Snapshot]) -> None:
        """See `Stepper`. All environments repeat their episodes at the same time."""
        self._drop_result()
        self._command("restore", snapshots)
        self._history.restore(snapshots)

    def close(self) -> None:
        """Ends the processes after their current step and frees the shared memory; may be called again."""
        self._finalizer()
        atexit.unregister(self._finalizer)

    def _drop_result(self) -> None:
        if self._history.waiting:
            self._results()

    def _command(self, name: str, arguments: Sequence[Any] | None = None) -> list[Any]:
        """Has each environment carry out a command, with its own argument, and waits for the results."""
        count = len(self._children.pipes)
        self._children.send((name, argument) for argument in arguments or [None] * count)
        return self._results()

    def _results(self) -> list[Any]:
        try:
            return self._children.receive()
        except Exception:
            self.close()  # Other results are still in their pipes; a later command would take them for its own.
            raise


# The parent's side.


class _Children:
    """The processes, the pipes to them, and the memory shared with them."""

    def __init__(self) -> None:
        self.processes: list[BaseProcess] = []
        self.pipes: list[Connection] = []
        self._block: _Block | None = None
        self._closed = False

    @property
    def rows(self) -> NDArray[Any]:
        """The shared memory as an array with one `_row` for each environment."""
        self._check_open()
        assert self._block is not None  # `start` makes it.
        return self._block.rows

    def start(self, recipes: Sequence[Recipe], keep_state: bool) -> EnvInfo:
        """Starts a process for each recipe. Returns what their environments have in common."""
        for number in range(len(recipes)):
            self._start_process(number)
        self.send((recipe, keep_state) for recipe in recipes)
        info = common_info(self.receive())
        self._block = _Block(info, len(recipes))
        self.send([(info, len(recipes), self._block.name)] * len(recipes))
        self.receive()
        # All processes have opened it. Without its name, the memory cannot outlive them.
        self._block.unlink()
        return info

    def _start_process(self, number: int) -> None:
        ours, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=_serve, args=(theirs, number), name=f"environment {number}", daemon=True)
        with signals_held():
            process.start()
        theirs.close()  # Otherwise this pipe would stay open when the process ends.
        self.processes.append(process)
        self.pipes.append(ours)

    def send(self, messages: Iterable[Any]) -> None:
        """Sends each process its message."""
        self._check_open()
        for pipe, message in zip(self.pipes, messages, strict=True):
            with contextlib.suppress(ConnectionError):  # The process has ended; `receive` says why.
                pipe.send(message)

    def receive(self) -> list[Any]:
        """Waits for each process's reply. Raises UserError or RuntimeError if one has failed or ended."""
        self._check_open()
        return [self._receive(number, pipe) for number, pipe in enumerate(self.pipes)]

    def _receive(self, number: int, pipe: Connection) -> Any:
        try:
            self._wait(number, pipe)
            reply = pipe.recv()
        except (EOFError, ConnectionError):
            raise self._ended(number) from None
        if not isinstance(reply, _Failure):
            return reply
        if reply.by_user:
            raise UserError(reply.text)
        raise RuntimeError(f"environment {number} failed in its process:\n\n{reply.text}")

    def _wait(self, number: int, pipe: Connection) -> None:
        """Waits for an environment, and says now and then that it does. Ctrl-C in between ends all processes."""
        asked = time.monotonic()
        warn_at = asked + SILENT_SECONDS
        try:
            with may_be_abandoned():
                while not pipe.poll(max(warn_at - time.monotonic(), 0)):
                    LOGGER.warning("environment %d has not answered for %.0f s", number, time.monotonic() - asked)
                    warn_at = time.monotonic() + AGAIN_SECONDS
        except KeyboardInterrupt:  # Includes Abandoned.
            self.kill()
            self._closed = True
            raise

    def _ended(self, number: int) -> Exception:
        """The error for a process that ended without a reply."""
        process = self.processes[number]
        process.join(END_SECONDS)
        status = process.exitcode
        if status is None or status >= 0:
            return RuntimeError(f"the process of environment {number} ended with status {status}; see its output")
        name = signal.Signals(-status).name
        hint = "; if memory ran out, lower --num-envs" if name == "SIGKILL" else ""
        return UserError(f"the process of environment {number} was ended by {name}{hint}; --resume continues the run")

    def kill(self) -> None:
        """Ends the processes at once, within a step too."""
        for process in self.processes:
            process.kill()

    def end(self) -> None:
        """Lets the processes end, kills those that do not end in time, and frees the memory."""
        self._closed = True
        for pipe in self.pipes:
            pipe.close()
        deadline = time.monotonic() + END_SECONDS
        for process in self.processes:
            process.join(max(deadline - time.monotonic(), 0))
            if process.exitcode is None:
                process.kill()
                process.join()
        if self._block is not None:
            self._block.unlink()
            self._block.close()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the environments are closed")


# Both sides.


class _Failure(NamedTuple):
    """A reply that says how an environment failed: a UserError's line, or the traceback of another error."""

    by_user: bool
    text: str


class _Block:
    """Shared memory with a row for each environment.

    The two sides take turns: the parent between a reply and its next message, a process between a message and its
    reply.
    """

    def __init__(self, info: EnvInfo, count: int, name: str | None = None) -> None:
        """Makes a block, or opens the one of that name."""
        row = _row(info)
        self._memory = SharedMemory(name, create=name is None, size=count * row.itemsize)
        self._named = name is None
        self.keeps_state = info.state_dim > 0
        self.name = self._memory.name
        self.rows: NDArray[Any] = np.ndarray(count, row, self._memory.buf)

    def unlink(self) -> None:
        """Removes the name of a block made here; processes that have opened it keep it."""
        if self._named:
            self._memory.unlink()
            self._named = False

    def close(self) -> None:
        """Frees the memory."""
        del self.rows  # Memory that an array still uses cannot be closed.
        self._memory.close()


def _row(info: EnvInfo) -> np.dtype[np.void]:
    """The fields of a row: the parent writes "action", the environment's process all others."""
    fields: list[tuple[Any, ...]] = [
        ("action", info.action_dtype, (info.action_dim,)),
        ("frame", info.frame_dtype, info.frame_shape),
        ("first_frame", info.frame_dtype, info.frame_shape),
        ("reward", np.float64),
        ("terminated", np.bool_),
        ("truncated", np.bool_),
        ("success", np.int8),  # -1 where the environment does not report it
        ("seconds", np.float64, (len(TIMED),)),
    ]
    if info.state_dim:
        fields += [(name, np.float32, (info.state_dim,)) for name in ("state", "first_state")]
    return np.dtype(fields, align=True)


# The child's side.


def _serve(pipe: Connection, number: int) -> None:
    """Builds an environment and carries out the parent's commands until the pipe closes or something fails."""
    follow_parent()
    outlast()
    env = block = None
    try:
        recipe, keep_state = pipe.recv()
        env = recipe()
        pipe.send(EnvInfo.of(env, keep_state))
        block = _Block(*pipe.recv())
        pipe.send(None)
        while True:
            command, argument = pipe.recv()
            pipe.send(_COMMANDS[command](env, block, number, argument))
    except BaseException as error:  # Includes EOFError and ConnectionError, which the environment may raise too.
        by_user = isinstance(error, UserError)
        with contextlib.suppress(OSError):  # The parent has closed the pipe or ended.
            pipe.send(_Failure(by_user, str(error) if by_user else traceback.format_exc()))
    finally:
        if env is not None:
            env.close()
        if block is not None:
            block.close()


# The commands take the block, not its rows: memory cannot be closed while an array in a traceback's frame uses it.


def _reset(env: Env, block: _Block, number: int, _argument: None) -> dict[str, Any]:
    """Starts an episode. Returns its snapshot."""
    block.rows["first_frame"][number] = env.reset()[0]
    if block.keeps_state:
        block.rows["first_state"][number] = env.state()
    return env.snapshot()


def _step(env: Env, block: _Block, number: int, _argument: None) -> dict[str, Any] | None:
    """Takes a step. Returns the next episode's snapshot if that has started."""
    answer = take_step(env, block.rows["action"][number].copy(), block.keeps_state)
    for name in ("frame", "reward", "terminated", "truncated", "first_frame", "state", "first_state"):
        value = getattr(answer, name)
        if value is not None:
            block.rows[name][number] = value
    block.rows["success"][number] = -1 if answer.success is None else answer.success
    block.rows["seconds"][number] = [answer.seconds[name] for name in TIMED]
    return answer.start


def _restore(env: Env, _block: _Block, _number: int, snapshot: Snapshot) -> None:
    env.restore(snapshot)


_COMMANDS: dict[str, Callable[[Env, _Block, int, Any], dict[str, Any] | None]] = {
    "reset": _reset,
    "step": _step,
    "restore": _restore,
}
