"""The process of an environment of `ProcessStepper`: its memory, its messages and what it does on a command."""

import contextlib
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sacae.envs.contract import Env, EnvInfo, Snapshot
from sacae.envs.faults import Fault
from sacae.envs.stepping import begin_episode, repeat, take_step
from sacae.errors import UserError
from sacae.output import outlast
from sacae.signals import follow_parent

TIMED = ("env", "render")
"""What each environment's process times, in this order in the shared memory."""

# What both sides use.


class Crash(NamedTuple):
    """A reply that says what ended a process: a UserError of that kind with its line, or another error's traceback."""

    kind: type[UserError] | None
    text: str


class Reply(NamedTuple):
    """A process's answer to "begin" and "step".

    start: the snapshot of an episode that has begun, or None. faults, lost: as in `Answer`. All else is in the memory.
    """

    start: dict[str, Any] | None
    faults: tuple[Fault, ...] = ()
    lost: bool = False


class Ended(NamedTuple):
    """In place of a reply: the process has ended. what: as in `Fault`."""

    what: str


class Block:
    """Shared memory with a row for each environment.

    The two sides take turns: the parent between a reply and its next message, a process between a message and its
    reply.
    """

    def __init__(self, info: EnvInfo, count: int, name: str | None = None) -> None:
        """Makes a block, or opens the one of that name."""
        row = _row(info)
        self._memory = SharedMemory(name, create=name is None, size=count * row.itemsize)
        self._named = name is None
        self.info = info
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


def memory_problem() -> str:
    """Why no block can be made here, as half a sentence; "" where one can."""
    try:
        memory = SharedMemory(create=True, size=1)
    except OSError as error:  # such as /dev/shm without write permission, or none
        return f"the system gives no shared memory ({error.strerror})"
    memory.unlink()
    memory.close()
    return ""


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


def serve(pipe: Connection, number: int) -> None:
    """Builds an environment and carries out the parent's commands until the pipe closes or something fails."""
    follow_parent()
    outlast()
    env = block = None
    try:
        recipe, keep_state, max_errors = pipe.recv()
        env = recipe()
        pipe.send(EnvInfo.of(env, keep_state))
        while True:
            command, argument = pipe.recv()
            if command == "share":
                if block is not None:
                    block.close()
                block = Block(*argument)
                pipe.send(None)
            else:
                assert block is not None  # The parent shares it first.
                pipe.send(_COMMANDS[command](_Served(env, number, max_errors), block, argument))
    except BaseException as error:  # Includes EOFError and ConnectionError, which the environment may raise too.
        crash = Crash(type(error), str(error)) if isinstance(error, UserError) else Crash(None, traceback.format_exc())
        with contextlib.suppress(OSError):  # The parent has closed the pipe or ended.
            pipe.send(crash)
    finally:
        if env is not None:
            env.close()
        if block is not None:
            block.close()


class _Served(NamedTuple):
    """The environment of a process, its number, and how many of its resets may fail in a row."""

    env: Env
    number: int
    max_errors: int


# The commands take the block, not its rows: memory cannot be closed while an array in a traceback's frame uses it.


def _begin(served: _Served, block: Block, previous: Snapshot | None) -> Reply:
    """Starts an episode; that which follows the one of snapshot `previous`, if there is one, in the random stream."""
    env, number, max_errors = served
    if previous is not None:
        repeat(env, {**previous, "actions": []})  # If it fails, so will the reset, which says why.
    begun = begin_episode(env, block.info, max_errors, number)
    block.rows["first_frame"][number] = begun.frame
    if begun.state is not None:
        block.rows["first_state"][number] = begun.state
    return Reply(begun.snapshot, begun.faults)


def _step(served: _Served, block: Block, _argument: None) -> Reply:
    """Takes a step, and starts the next episode where that is due."""
    env, number, max_errors = served
    answer = take_step(env, block.rows["action"][number].copy(), block.info, max_errors, number)
    for name in ("frame", "reward", "terminated", "truncated", "first_frame", "state", "first_state"):
        value = getattr(answer, name)
        if value is not None:
            block.rows[name][number] = value
    block.rows["success"][number] = -1 if answer.success is None else answer.success
    block.rows["seconds"][number] = [answer.seconds[name] for name in TIMED]
    return Reply(answer.start, answer.faults, answer.lost)


def _restore(served: _Served, _block: Block, snapshot: Snapshot) -> float | Fault:
    return repeat(served.env, snapshot)


_COMMANDS: dict[str, Callable[[_Served, Block, Any], Reply | float | Fault]] = {
    "begin": _begin,
    "step": _step,
    "restore": _restore,
}
