"""`ProcessStepper`: environments in processes of their own, which work while the caller does something else.

Processes are spawned, never forked: a fork after a first frame hangs. Frames travel through shared memory, and short
messages, such as "step", through a pipe. A closed pipe tells each side that the other has ended.
"""

import atexit
import contextlib
import functools
import logging
import os
import signal
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import current_process, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from numpy.typing import NDArray

from sacae.envs import rendering
from sacae.envs.contract import Action, Env, EnvInfo, Failure, Frame, Recipe, Snapshot, State, StepResult
from sacae.envs.faults import Fault
from sacae.envs.stepping import EpisodeHistory, common_info, no_reset, repeat_failures
from sacae.envs.worker import TIMED, Block, Crash, Ended, Reply, memory_problem, serve
from sacae.errors import EnvironmentFailed, UserError
from sacae.signals import may_be_abandoned, signals_held

T = TypeVar("T")

NAME = "environment"
"""Of each process, before its number."""

SPAWN = get_context("spawn")

LOGGER = logging.getLogger(__name__)

UNGUARDED = 96
"""Exit status of a process that would have started a training while it imported the script that started it."""

END_SECONDS = 3.0
"""Time that a process has to finish its current step and end by itself before it is killed."""

SILENT_SECONDS, AGAIN_SECONDS = 30.0, 60.0
"""Time without an answer after which a line says so, and after which it says so again."""


def leave_unguarded() -> None:
    """Ends a process of a `ProcessStepper` that is still importing the script that started it; does nothing elsewhere.

    Called before a training starts. A script does so while it is imported unless `if __name__ == "__main__"` guards it.
    """
    process = current_process()
    if process.name.startswith(NAME) and getattr(process, "_inheriting", False):
        sys.exit(UNGUARDED)


def obstacle() -> str:
    """Why no process can be started from here, as half a sentence; "" where one can."""
    if current_process().daemon:
        return "this process may start no others"
    main = sys.modules["__main__"]
    script = getattr(main, "__file__", None)
    if getattr(main, "__spec__", None) is None and script is not None and not os.path.exists(script):
        return f"others could not import the running script {script}"
    return memory_problem()


class ProcessStepper:
    """Steps each environment in a process of its own, while the caller continues. See `Stepper`.

    A process that ends is replaced by another one, whose episodes continue the random stream of the one before. If a
    call raises an error, the stepper is closed; only `snapshot` still works then. Beside the errors that every stepper
    raises, these are UserError if a process ends while it builds its environment, and RuntimeError for every other
    error outside an episode, with the traceback from the process.

    Each process imports the running script, as all spawned processes do: put the script's own work under
    `if __name__ == "__main__":`.
    """

    envs: Sequence[Env] = ()

    def __init__(self, recipes: Sequence[Recipe], keep_state: bool = False, max_errors: int = 0) -> None:
        """Starts all processes, then waits until each has built its environment.

        recipes: picklable, one for each environment. The process imports their modules.
        keep_state: whether each frame comes with its physical state.
        max_errors: how many resets of an environment may fail in a row, and how often its process may end then.

        Raises errors as above, and ValueError if the environments differ in their `EnvInfo`.
        """
        rendering.configure(required=False)  # Once, here: the processes inherit the choice.
        self.seconds = dict.fromkeys((*TIMED, "wait"), 0.0)
        self.failures: list[Failure] = []
        self._max_errors = max_errors
        self._children = _Children()
        self._finalizer = weakref.finalize(self, self._children.end)
        # At exit, multiprocessing waits for all children, so these must end first. weakref's own exit handler may run
        # too late for that.
        self._finalizer.atexit = False
        atexit.register(self._finalizer)
        try:
            self.env_info = self._children.start(recipes, keep_state, max_errors)
        except BaseException:
            self._children.kill()
            self.close()
            raise
        self._history = EpisodeHistory(self.env_info.action_dtype)

    def reset(self) -> tuple[list[Frame], list[State | None]]:
        """See `Stepper`."""
        self._drop_result()
        self._children.send([("begin", None)] * len(self._children.pipes))
        starts = [reply.start for reply in self._results(in_step=False)]
        self._history.begin([start for start in starts if start is not None])
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
        replies = self._results(in_step=True)
        self.seconds["wait"] += time.perf_counter() - started
        starts = [reply.start for reply in replies]
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
            lost=frozenset(i for i, reply in enumerate(replies) if reply.lost),
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

    def restore(self, snapshots: Sequence[Snapshot]) -> list[float | None]:
        """See `Stepper`. All environments repeat their episodes at the same time."""
        self._drop_result()
        self._history.restore(snapshots)
        self._children.send(("restore", snapshot) for snapshot in snapshots)
        results = self._closing(self._children.receive)
        for number, reply in enumerate(results):
            if isinstance(reply, Ended):
                results[number] = Fault(reply.what)
                start = {**snapshots[number], "actions": []}  # From here on, `reset` continues the random stream.
                self._closing(functools.partial(self._children.replace, number))
                self._closing(functools.partial(self._children.ask, number, ("restore", start)))
        self.failures += repeat_failures(results)
        return [result if isinstance(result, float) else None for result in results]

    def close(self) -> None:
        """Ends the processes after their current step and frees the shared memory; may be called again."""
        self._finalizer()
        atexit.unregister(self._finalizer)

    def _drop_result(self) -> None:
        if self._history.waiting:
            self._closing(self._children.receive)

    def _results(self, in_step: bool) -> list[Reply]:
        """Each process's reply, and that of another process in place of one that has ended."""
        replies = self._closing(self._children.receive)
        for number, reply in enumerate(replies):
            if isinstance(reply, Ended):
                replies[number] = self._closing(functools.partial(self._replace, number, reply, in_step))
        self.failures += self._history.failures([(reply.lost, reply.faults) for reply in replies])
        return replies

    def _replace(self, number: int, ended: Ended, in_step: bool) -> Reply:
        """Starts another process, which begins an episode; as the reply of the one that ended in a step or a reset."""
        start, faults = self._history.start(number), [Fault(ended.what)]
        while True:
            try:
                self._children.replace(number)
            except (UserError, RuntimeError) as error:
                reason = str(error).strip().splitlines()[-1]
                raise EnvironmentFailed(
                    f"environment {number} {faults[-1].what}, and no other could be started: {reason}"
                ) from error
            reply = self._children.ask(number, ("begin", start))
            if not isinstance(reply, Ended):
                break
            faults.append(Fault(reply.what))
            resets = len(faults) - in_step
            if resets > self._max_errors:
                raise no_reset(number, faults[-resets:])
        row = self._children.rows[number]
        row["reward"], row["terminated"], row["truncated"], row["success"], row["seconds"] = 0, False, True, -1, 0
        row["frame"] = row["first_frame"]
        if "state" in (row.dtype.names or ()):
            row["state"] = row["first_state"]
        return Reply(reply.start, (*faults, *reply.faults), lost=in_step)

    def _closing(self, call: Callable[[], T]) -> T:
        """What `call` returns; closes the stepper if it raises an error."""
        try:
            return call()
        except Exception:
            self.close()  # Other results are still in their pipes; a later command would take them for its own.
            raise


# The parent's side.


class _Children:
    """The processes, the pipes to them, and the memory shared with them."""

    def __init__(self) -> None:
        self.processes: list[BaseProcess] = []
        self.pipes: list[Connection] = []
        self._recipes: Sequence[Recipe] = ()
        self._settings: tuple[bool, int] = (False, 0)
        self._info: EnvInfo
        self._block: Block | None = None
        self._closed = False

    @property
    def rows(self) -> NDArray[Any]:
        """The shared memory as an array with one `_row` for each environment."""
        self._check_open()
        assert self._block is not None  # `start` makes it.
        return self._block.rows

    def start(self, recipes: Sequence[Recipe], keep_state: bool, max_errors: int) -> EnvInfo:
        """Starts a process for each recipe. Returns what their environments have in common."""
        self._recipes, self._settings = recipes, (keep_state, max_errors)
        for number in range(len(recipes)):
            process, pipe = self._start_process(number)
            self.processes.append(process)
            self.pipes.append(pipe)
        self.send((recipe, *self._settings) for recipe in recipes)
        self._info = common_info([_built(number, reply) for number, reply in enumerate(self.receive())])
        self._share()
        return self._info

    def replace(self, number: int) -> None:
        """Starts another process in place of one that has ended."""
        self.pipes[number].close()
        self.processes[number], self.pipes[number] = self._start_process(number)
        _built(number, self.ask(number, (self._recipes[number], *self._settings)))
        self._share()

    def ask(self, number: int, message: Any) -> Any:
        """Sends one process a message. Returns its reply, as `receive` does."""
        with contextlib.suppress(ConnectionError):
            self.pipes[number].send(message)
        return self._receive(number, self.pipes[number])

    def _share(self) -> None:
        """Makes memory that all processes open, with the content of the memory before."""
        old, self._block = self._block, Block(self._info, len(self.pipes))
        if old is not None:
            self._block.rows[:] = old.rows
            old.close()
        self.send([("share", (self._info, len(self.pipes), self._block.name))] * len(self.pipes))
        self.receive()
        # All processes have opened it. Without its name, the memory cannot outlive them.
        self._block.unlink()

    def _start_process(self, number: int) -> tuple[BaseProcess, Connection]:
        ours, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=serve, args=(theirs, number), name=f"{NAME} {number}", daemon=True)
        with signals_held():
            process.start()
        theirs.close()  # Otherwise this pipe would stay open when the process ends.
        return process, ours

    def send(self, messages: Iterable[Any]) -> None:
        """Sends each process its message."""
        self._check_open()
        for pipe, message in zip(self.pipes, messages, strict=True):
            with contextlib.suppress(ConnectionError):  # The process has ended; `receive` says why.
                pipe.send(message)

    def receive(self) -> list[Any]:
        """Waits for each process's reply, an `Ended` where there is none. Raises the error of a `Crash`."""
        self._check_open()
        return [self._receive(number, pipe) for number, pipe in enumerate(self.pipes)]

    def _receive(self, number: int, pipe: Connection) -> Any:
        try:
            self._wait(number, pipe)
            reply = pipe.recv()
        except (EOFError, ConnectionError):
            return self._ended(number)
        if not isinstance(reply, Crash):
            return reply
        if reply.kind is not None:
            raise reply.kind(reply.text)
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

    def _ended(self, number: int) -> Ended:
        process = self.processes[number]
        process.join(END_SECONDS)
        status = process.exitcode
        if status == UNGUARDED:
            raise UserError(
                'the script trains outside `if __name__ == "__main__":`, and each environment\'s process imports the '
                "script; put the script's own work under that line, or set overlap=False"
            ) from None
        if status is None or status >= 0:
            return Ended(f"ended its process with status {status}")
        name = signal.Signals(-status).name
        hint = " (if memory ran out, lower --num-envs)" if name == "SIGKILL" else ""
        return Ended(f"lost its process to {name}{hint}")

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


def _built(number: int, reply: EnvInfo | Ended) -> EnvInfo:
    """What a process says of its environment. Raises UserError if it has ended."""
    if isinstance(reply, Ended):
        raise UserError(f"environment {number} {reply.what} while it was built; repair the environment")
    return reply
