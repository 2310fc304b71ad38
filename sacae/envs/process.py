"""Environments in processes of their own, which simulate and render while the caller does something else.

Processes are spawned, never forked: a fork after a first frame hangs. Frames travel through shared memory, and short
messages, such as "step", through a pipe, whose closing also tells each side that the other has ended.
"""

import atexit
import contextlib
import signal
import time
import traceback
import weakref
from collections.abc import Iterable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.shared_memory import SharedMemory
from typing import Any, NamedTuple

import numpy as np

from sacae.envs import rendering
from sacae.envs.stepping import Env, EnvInfo, EpisodeHistory, Recipe, StepResult, common_info, take_step
from sacae.errors import UserError
from sacae.signals import leave_signals_to_parent, signals_held

SPAWN = get_context("spawn")

END_SECONDS = 10.0
"""How long a process may take to end by itself, which it does after the step that it is in, before it is killed."""

TIMED = ("env", "render")


class ProcessStepper:
    """Steps each environment in a process of its own, while the caller goes on. See `sacae.envs.stepping.Stepper`.

    An error in an environment is raised by the call that waits for its answer, and closes the stepper, of which only
    `snapshot` can be used then:
    - UserError as the environment raised it, and where its process was killed (such as for lack of memory);
    - RuntimeError for every other error, with the traceback from the process.

    Each process imports the script that is running, as all spawned processes do: what the script does by itself must
    stand under `if __name__ == "__main__":`.
    """

    def __init__(self, recipes: Sequence[Recipe], keep_state: bool = False) -> None:
        """Starts the processes side by side, and waits until each has built its environment.

        recipes: picklable, one for each environment. Their modules are imported in the process.
        keep_state: whether the environments' physical states come with the frames.

        Raises errors as above, and ValueError where the environments differ in their `EnvInfo`.
        """
        rendering.configure(required=False)  # Once, here: the processes inherit what is found.
        self.seconds = dict.fromkeys((*TIMED, "wait"), 0.0)
        self._children = _Children()
        self._finalizer = weakref.finalize(self, self._children.end)
        # multiprocessing waits for all children at exit, so these must be told before, in time that weakref's own
        # exit handler does not promise.
        self._finalizer.atexit = False
        atexit.register(self._finalizer)
        try:
            self.env_info = self._children.start(recipes, keep_state)
        except BaseException:
            self._children.kill()
            self.close()
            raise
        self._history = EpisodeHistory(self.env_info.action_dtype)

    def reset(self) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
        """See `Stepper`."""
        self._drop_answer()
        starts = self._ask("reset")
        self._history.begin(starts)
        return self._copies("first_frame", starts), self._copies("first_state", starts)

    def send(self, actions: np.ndarray) -> None:
        """See `Stepper`. Returns at once."""
        self._history.send(actions)
        self._children.rows["action"] = self._history.unanswered()
        self._children.tell([("step", None)] * len(actions))

    def receive(self) -> StepResult:
        """See `Stepper`. Waits until the slowest environment has answered."""
        self._history.unanswered()
        started = time.perf_counter()
        starts = self._hear()
        self.seconds["wait"] += time.perf_counter() - started
        self._history.receive(starts)
        rows = self._children.rows
        slowest = rows["seconds"][rows["seconds"].sum(axis=1).argmax()]
        for name, seconds in zip(TIMED, slowest.tolist()):
            self.seconds[name] += seconds
        return StepResult(
            *(rows[name].copy() for name in ("frame", "reward", "terminated", "truncated")),
            self._copies("first_frame", starts),
            self._copies("state", [True] * len(rows)),
            self._copies("first_state", starts),
            [None if success < 0 else bool(success) for success in rows["success"].tolist()],
        )

    def _copies(self, name: str, present: Sequence[Any]) -> list[np.ndarray | None]:
        """The environments' entries of that name, None where there is none, or `present` has None.

        Copies, which take microseconds, so that no later step can change what the caller holds.
        """
        rows = self._children.rows
        if name not in rows.dtype.names:
            return [None] * len(rows)
        return [None if here is None else entry.copy() for here, entry in zip(present, rows[name])]

    def snapshot(self) -> list[dict[str, Any]]:
        """See `Stepper`."""
        return self._history.snapshot()

    def restore(self, snapshots: Sequence[dict[str, Any]]) -> None:
        """See `Stepper`. The environments simulate their episodes again side by side."""
        self._drop_answer()
        self._ask("restore", snapshots)
        self._history.restore(snapshots)

    def close(self) -> None:
        """Ends the processes, after the step that they are in, and frees the shared memory; may be called again."""
        self._finalizer()
        atexit.unregister(self._finalizer)

    def _drop_answer(self) -> None:
        if self._history.waiting:
            self._hear()

    def _ask(self, command: str, arguments: Sequence[Any] | None = None) -> list[Any]:
        """Has each environment carry out a command, with its own argument, and waits for the answers."""
        count = len(self._children.pipes)
        self._children.tell((command, argument) for argument in arguments or [None] * count)
        return self._hear()

    def _hear(self) -> list[Any]:
        try:
            return self._children.hear()
        except Exception:
            self.close()  # Other answers are still in their pipes, and would be taken for those to later questions.
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
    def rows(self) -> np.ndarray:
        """The memory, as an array of one `_row` for each environment."""
        self._check_open()
        return self._block.rows

    def start(self, recipes: Sequence[Recipe], keep_state: bool) -> EnvInfo:
        """Starts a process for each recipe; returns what their environments have in common."""
        for number in range(len(recipes)):
            self._start_process(number)
        self.tell((recipe, keep_state) for recipe in recipes)
        info = common_info(self.hear())
        self._block = _Block(info, len(recipes))
        self.tell([(info, len(recipes), self._block.name)] * len(recipes))
        self.hear()
        # All have it now, so the name can go: whatever happens from here on, nothing is left behind.
        self._block.unlink()
        return info

    def _start_process(self, number: int) -> None:
        ours, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=_serve, args=(theirs, number), name=f"environment {number}", daemon=True)
        with signals_held():
            process.start()
        theirs.close()  # Otherwise this pipe would not be closed when the process ends.
        self.processes.append(process)
        self.pipes.append(ours)

    def tell(self, messages: Iterable[Any]) -> None:
        """Sends each process its message."""
        self._check_open()
        for pipe, message in zip(self.pipes, messages, strict=True):
            with contextlib.suppress(ConnectionError):  # It has ended; `hear` says why.
                pipe.send(message)

    def hear(self) -> list[Any]:
        """Waits for an answer of each process. Raises UserError or RuntimeError where one has failed or ended."""
        self._check_open()
        return [self._hear(number, pipe) for number, pipe in enumerate(self.pipes)]

    def _hear(self, number: int, pipe: Connection) -> Any:
        try:
            answer = pipe.recv()
        except (EOFError, ConnectionError):
            raise self._ended(number) from None
        if not isinstance(answer, _Failure):
            return answer
        if answer.by_user:
            raise UserError(answer.text)
        raise RuntimeError(f"environment {number} failed in its process:\n\n{answer.text}")

    def _ended(self, number: int) -> Exception:
        """The error that says how a process has ended without a word."""
        process = self.processes[number]
        process.join(END_SECONDS)
        status = process.exitcode
        if status is None or status >= 0:
            return RuntimeError(f"the process of environment {number} ended with status {status}; see what it printed")
        name = signal.Signals(-status).name
        hint = "; if memory ran out, lower num_envs" if name == "SIGKILL" else ""
        return UserError(f"the process of environment {number} was ended by {name}{hint}; --resume continues the run")

    def kill(self) -> None:
        """Ends the processes without waiting for what they do."""
        for process in self.processes:
            process.kill()

    def end(self) -> None:
        """Lets the processes end, kills those that do not, and frees the memory."""
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
    """An answer that says how an environment failed: a UserError's line, or the traceback of another error."""

    by_user: bool
    text: str


class _Block:
    """Shared memory with a row for each environment.

    The two sides never use it at once: the parent between an answer and its next message, a process between a message
    and its answer.
    """

    def __init__(self, info: EnvInfo, count: int, name: str | None = None) -> None:
        """Makes a block, or opens the one of that name."""
        row = _row(info)
        self._memory = SharedMemory(name, create=name is None, size=count * row.itemsize)
        self._named = name is None
        self.keeps_state = info.state_dim > 0
        self.name = self._memory.name
        self.rows: np.ndarray | None = np.ndarray(count, row, self._memory.buf)

    def unlink(self) -> None:
        """Takes the name away from a block made here; who has it keeps it."""
        if self._named:
            self._memory.unlink()
            self._named = False

    def close(self) -> None:
        """Gives the memory back."""
        self.rows = None  # Memory that an array still uses cannot be closed.
        self._memory.close()


def _row(info: EnvInfo) -> np.dtype:
    """What the parent (action) and an environment's process (the rest) write for each other."""
    fields = [
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
    """Builds an environment and carries out the parent's commands, until the pipe is closed or something fails."""
    leave_signals_to_parent()
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
    except BaseException as error:  # EOFError and ConnectionError too: they may be the environment's own.
        by_user = isinstance(error, UserError)
        with contextlib.suppress(OSError):  # The parent has closed the pipe, or has ended.
            pipe.send(_Failure(by_user, str(error) if by_user else traceback.format_exc()))
    finally:
        if env is not None:
            env.close()
        if block is not None:
            block.close()


# These take the block and not its rows: arrays in the frames of a traceback would keep the memory from being closed.


def _reset(env: Env, block: _Block, number: int, _argument: None) -> dict[str, Any]:
    """Returns the episode's start."""
    block.rows["first_frame"][number] = env.reset()[0]
    if block.keeps_state:
        block.rows["first_state"][number] = env.state()
    return env.snapshot()


def _step(env: Env, block: _Block, number: int, _argument: None) -> dict[str, Any] | None:
    """Returns the start of the next episode, if it has begun."""
    answer = take_step(env, block.rows["action"][number].copy(), block.keeps_state)
    for name in ("frame", "reward", "terminated", "truncated", "first_frame", "state", "first_state"):
        value = getattr(answer, name)
        if value is not None:
            block.rows[name][number] = value
    block.rows["success"][number] = -1 if answer.success is None else answer.success
    block.rows["seconds"][number] = [answer.seconds[name] for name in TIMED]
    return answer.start


def _restore(env: Env, _block: _Block, _number: int, snapshot: dict[str, Any]) -> None:
    env.restore(snapshot)


_COMMANDS = {"reset": _reset, "step": _step, "restore": _restore}
