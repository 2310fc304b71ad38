"""Replay that stores every frame once, and builds stacks, n-step returns and batches from row indices."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray

from sacae.errors import UserError
from sacae.files import cannot_be_written
from sacae.replay import chunks
from sacae.replay.frames import FrameStore, to_device
from sacae.replay.memory import MemoryPlan, column_layout
from sacae.replay.table import RowTable
from sacae.types import PIXELS, STATE, Actions, Batch, EnvSpec, Frames


class FrameReplay:
    """The most recent transitions of one or more streams of episodes. Each environment is a stream.

    A row holds a frame, the action taken at it, and the reward and termination that followed; an episode's last frame
    is a row without an action. The rows of a stream form a ring. A transition can be sampled when its n-step return is
    complete (n steps have followed, or its episode has ended) and every frame of its stack is still stored.

    spec: shape and dtype of a frame and of an action, frame stack.
    capacity: transitions over all streams, split evenly, rounded up. If episodes have at least episode_length agent
        steps, that many most recent transitions of each stream can be sampled. With shorter episodes there are fewer,
        because each episode needs one row more than it has transitions; with longer episodes there are a few more.
    num_streams: environments.
    n_step: rewards summed in a transition.
    discount: gamma per agent step.
    device: device of the batches.
    storage: device of the frames, the same or the host ("cpu"). Everything else is on the host.
    episode_length: agent steps of the shortest episode planned for; None is memory.SHORTEST_EPISODE.

    Raises UserError if a number is out of range or there is not enough memory. The constructor allocates all memory.
    """

    def __init__(
        self,
        spec: EnvSpec,
        capacity: int,
        num_streams: int = 1,
        n_step: int = 1,
        discount: float = 0.99,
        device: torch.device | str = "cpu",
        storage: torch.device | str = "cpu",
        episode_length: int | None = None,
    ):
        self.spec, self.num_streams, self.n_step, self.discount = spec, num_streams, n_step, discount
        self.plan = MemoryPlan(spec, capacity, num_streams, n_step, episode_length)
        self._rows_per_stream = self.plan.rows_per_stream
        self._frames = FrameStore(spec, self.plan.rows, device, storage)
        self._columns: dict[str, NDArray[Any]] = {
            name: np.empty((self.plan.rows, *shape), dtype) for name, (dtype, shape) in column_layout(spec).items()
        }
        for column in self._columns.values():
            column.fill(0)  # Touches the pages.
        self._table = RowTable(num_streams, self._rows_per_stream)
        self._count = [0] * num_streams  # Rows ever stored, which is the number of the next row.
        self._running = [False] * num_streams  # Whether the latest frame may be given an action.
        self._examined = [0] * num_streams  # Rows below are in the table, have left it, or never belong there.
        self._chunks: list[dict[str, Any]]  # what is saved, as in the manifest
        self._folder: Path | None  # where
        self._forget_saves()

    def __len__(self) -> int:
        """Number of transitions that can be sampled."""
        return len(self._table)

    def begin(self, stream: int, frame: Frames, state: NDArray[np.float32] | None = None) -> None:
        """Starts an episode with its first frame, (C, H, W) of the specification's dtype.

        state: the physical state that the frame shows, float32 (state_dim,); None if it is not stored.

        An episode that was running is truncated: its transitions stay, and none crosses into the new episode.
        Raises ValueError for a frame or state of another shape or dtype.
        """
        self._check(frame, state)
        self._append(stream, frame, step=0, state=state)
        self._running[stream] = True
        self._update_table(stream)

    def add(
        self,
        stream: int,
        action: Actions,
        reward: float,
        terminated: bool,
        truncated: bool,
        frame: Frames,
        state: NDArray[np.float32] | None = None,
    ) -> None:
        """Stores the action (A,) taken at the stream's newest frame, its reward, and the frame that followed.

        terminated: the episode ended, so the target does not bootstrap. truncated: it stopped at a time limit.
        state: the physical state of that frame, as in `begin`.
        Raises RuntimeError if no episode is running, ValueError for a frame or state of another shape or dtype.
        """
        if not self._running[stream]:
            raise RuntimeError(f"stream {stream} has no running episode: begin one before adding to it")
        self._check(frame, state)
        row = self._row(stream, self._count[stream] - 1)
        for name, value in (("action", action), ("reward", reward), ("terminated", terminated), ("has_action", True)):
            self._columns[name][row] = value
        self._append(stream, frame, step=self._columns["step"][row] + 1, state=state)
        self._running[stream] = not (terminated or truncated)
        self._update_table(stream)

    def observations(self) -> torch.Tensor | dict[str, torch.Tensor]:
        """The stacks of all streams' newest frames, (num_streams, K * C, H, W), on the device, in one transfer.

        Where the agent sees the state, they are under "pixels", and under "state" is float32 (num_streams, state_dim).
        """
        streams = np.arange(self.num_streams)
        frames = self._latest_stacks(streams)
        if not self.spec.sees_state:
            return frames
        newest = self._row(streams, np.array(self._count) - 1)
        (state,) = to_device((self._columns["state"][newest],), self._frames.device)
        return {PIXELS: frames, STATE: state}

    def sample(self, batch_size: int, rng: np.random.Generator) -> Batch:
        """Transitions drawn uniformly with replacement; makes one call of `rng`.

        Returns and discounts are summed in float64 in order of time, and then rounded to float32. obs and next_obs are
        contiguous. Raises RuntimeError if there is nothing to sample.
        """
        if not len(self):
            raise RuntimeError("the replay holds no complete transition to sample yet: add steps first")
        stream, number = self._table.look_up(rng.integers(len(self), size=batch_size))
        steps, reward, discount = self._returns(stream, number)
        rows = np.stack([self._stack(stream, number), self._stack(stream, number + steps)])
        row = self._row(stream, number)
        rows_of_state = [row] * bool(self.spec.state_dim)
        rows_of_state += [self._row(stream, number + steps)] * self.spec.sees_state
        state = [self._columns["state"][at] for at in rows_of_state]
        small = self._columns["action"][row], reward, discount, *state
        frames, actions, rewards, discounts, *states = self._frames.fetch(rows.ravel(), *small)
        obs, next_obs = frames.view(2, batch_size, *self.spec.obs_shape)
        return Batch(obs, actions, rewards, discounts, next_obs, *states)

    def latest(self, count: int, part: int) -> Iterator[tuple[torch.Tensor, Actions, NDArray[np.float64]]]:
        """The newest transitions that may be sampled, in the order of time within each stream, evenly of all streams.

        Yields parts of at most `part` transitions: observations (n, *obs_shape) on the device, actions (n, A), rewards
        float64 (n,) of a single step. In total there are `count`, rounded down to a multiple of the number of streams,
        or fewer if the replay holds fewer.
        """
        entries = self._table.newest(count // self.num_streams)
        for start in range(0, len(entries), part):
            stream, number = self._table.look_up(entries[start : start + part])
            (frames,) = self._frames.fetch(self._stack(stream, number).ravel())
            row = self._row(stream, number)
            obs = frames.view(len(row), *self.spec.obs_shape)
            yield obs, self._columns["action"][row], self._columns["reward"][row]

    def save(self, folder: Path) -> dict[str, Any]:
        """Writes what changed since the last save to `folder` as new chunk files, and returns the manifest.

        The manifest (plain numbers, strings, lists) belongs in the caller's checkpoint. Once that is in place, `prune`
        deletes the files that it no longer needs; until then the previous checkpoint stays complete.
        Raises UserError if the folder cannot be written.
        """
        try:
            folder.parent.mkdir(exist_ok=True)
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_be_written(folder, error) from None
        if not self._saves_are_in(folder):
            self._forget_saves()
        written = [self._saved_chunk(folder, segments) for segments in chunks.split(self._unsaved_segments())]
        self._chunks = [chunk for chunk in self._chunks + written if self._is_stored(chunk)]
        self._saved_count, self._folder = list(self._count), folder.resolve()
        return {
            "settings": self._settings(),
            "count": list(self._count),
            "running": list(self._running),
            "chunks": list(self._chunks),
        }

    def saved(self) -> dict[str, Any]:
        """What of a manifest `prune` needs: the files of the last save, or of the load that came after it."""
        return {"chunks": list(self._chunks)}

    prune = staticmethod(chunks.prune)

    def load(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        """Restores the replay from the files of `save`; it then continues as if it had never stopped.

        Raises UserError if the saved replay had other settings than this one, or if a file is missing or damaged.
        """
        self._check_settings(manifest["settings"])
        for chunk in manifest["chunks"]:
            self._write(chunk["segments"], folder / chunk["file"], chunk.get("digest"))
        self._count, self._running = list(manifest["count"]), list(manifest["running"])
        self._table.clear()
        for stream in range(self.num_streams):
            self._examined[stream] = self._oldest_stored(stream)
            self._update_table(stream)
        self._chunks, self._saved_count, self._folder = list(manifest["chunks"]), list(self._count), folder.resolve()

    # Rows, and the table of those that can be sampled.

    @overload
    def _row(self, stream: int, number: int) -> int: ...

    @overload
    def _row(self, stream: int | NDArray[np.int64], number: NDArray[np.int64]) -> NDArray[np.int64]: ...

    def _row(self, stream: int | NDArray[np.int64], number: int | NDArray[np.int64]) -> int | NDArray[np.int64]:
        """Where the stream's row of this number lies; integers or arrays."""
        return stream * self._rows_per_stream + number % self._rows_per_stream

    def _check(self, frame: Frames, state: NDArray[np.float32] | None) -> None:
        self._frames.check(frame)
        given = None if state is None else (state.dtype.name, state.shape)
        wanted = ("float32", (self.spec.state_dim,)) if self.spec.state_dim else None
        if given != wanted:
            raise ValueError(f"a frame's state is {given}, but the environment's specification says {wanted}")

    def _append(self, stream: int, frame: Frames, step: int, state: NDArray[np.float32] | None) -> None:
        row = self._row(stream, self._count[stream])
        self._frames.write(row, frame)
        known = {"step": step, "state": state}
        for name, column in self._columns.items():
            column[row] = known.get(name, 0)
        self._count[stream] += 1

    def _update_table(self, stream: int) -> None:
        """Adds rows whose transitions have become complete, and removes those whose stack has been overwritten."""
        complete = self._complete_below(stream)
        for number in range(self._examined[stream], complete):
            if self._columns["has_action"][self._row(stream, number)]:
                self._table.append(stream, number)
        self._examined[stream] = complete
        while (oldest := self._table.oldest(stream)) is not None and not self._has_stack(stream, oldest):
            self._table.drop_oldest(stream)

    def _complete_below(self, stream: int) -> int:
        """The number below which every n-step return is complete: n steps have followed, or the episode has ended."""
        count = self._count[stream]
        if not self._running[stream]:
            return count
        episode_start = count - 1 - int(self._columns["step"][self._row(stream, count - 1)])
        return max(episode_start, count - self.n_step)

    def _oldest_stored(self, stream: int) -> int:
        return max(0, self._count[stream] - self._rows_per_stream)

    def _has_stack(self, stream: int, number: int) -> bool:
        step = self._columns["step"][self._row(stream, number)]
        return number - min(self.spec.frame_stack - 1, int(step)) >= self._oldest_stored(stream)

    # Batches.

    def _stack(self, stream: NDArray[np.int64], number: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows (B, K) of the stacks that end at the given rows (B,), oldest first; the first frame is repeated."""
        step = self._columns["step"][self._row(stream, number)]
        back = np.minimum(np.arange(self.spec.frame_stack - 1, -1, -1), step[:, None])
        return self._row(stream[:, None], number[:, None] - back)

    def _latest_stacks(self, stream: NDArray[np.int64]) -> torch.Tensor:
        number = np.array(self._count)[stream] - 1
        if (number < 0).any():
            raise RuntimeError(f"stream {stream[number < 0][0]} has no frame yet: begin an episode first")
        (frames,) = self._frames.fetch(self._stack(stream, number).ravel())
        return frames.view(len(stream), *self.spec.obs_shape)

    def _returns(
        self, stream: NDArray[np.int64], number: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """Of the transitions from the given rows (B,): steps k int64 (B,), reward and discount float32 (B, 1)."""
        steps = np.zeros(len(number), np.int64)
        reward = np.zeros(len(number))
        discount: NDArray[np.float64] = np.ones(len(number))
        for step in range(self.n_step):
            # An episode's last frame has no action: from there on, `steps` and `reward` stay the same.
            row = self._row(stream, number + steps)
            goes_on = self._columns["has_action"][row]
            reward += np.where(goes_on, self.discount**step * self._columns["reward"][row], 0.0)
            discount = np.where(goes_on, self.discount ** (step + 1), discount)
            steps += goes_on
        terminal = self._columns["terminated"][self._row(stream, number + steps - 1)]
        discount = np.where(terminal, 0.0, discount)
        return steps, reward.astype(np.float32)[:, None], discount.astype(np.float32)[:, None]

    # Saving.

    def _settings(self) -> dict[str, Any]:
        """Settings by name that a saved replay must share with the one that loads it."""
        return {
            "frame_shape": list(self.spec.frame_shape),
            "frame_dtype": self.spec.frame_dtype,
            "frame_stack": self.spec.frame_stack,
            "action_dim": self.spec.action_dim,
            "num_actions": self.spec.num_actions,
            "state_dim": self.spec.state_dim or None,  # replays saved before it existed lack it
            "replay_capacity": self.plan.capacity,
            "num_envs": self.num_streams,
            "n_step": self.n_step,
            "discount": self.discount,
            "episode_length": self.plan.shortest_episode,
        }

    def _check_settings(self, saved: Mapping[str, Any]) -> None:
        for name, value in self._settings().items():
            if saved.get(name) != value:
                raise UserError(
                    f"{name} is {value}, but the saved replay has {saved.get(name)}; "
                    f"resume with the saved value, or start a new run"
                )

    def _forget_saves(self) -> None:
        self._chunks = []
        self._saved_count = [0] * self.num_streams
        self._folder = None

    def _saves_are_in(self, folder: Path) -> bool:
        return self._folder == folder.resolve() and all((folder / chunk["file"]).exists() for chunk in self._chunks)

    def _unsaved_segments(self) -> Iterator[chunks.Segment]:
        for stream, (count, saved) in enumerate(zip(self._count, self._saved_count, strict=True)):
            if count > saved:
                # The last row of the previous save is written again: its action was unknown then.
                yield stream, max(saved - 1, self._oldest_stored(stream)), count

    def _is_stored(self, chunk: Mapping[str, Any]) -> bool:
        return any(stop > self._oldest_stored(stream) for stream, _, stop in chunk["segments"])

    def _segment_rows(self, segments: list[list[int]]) -> NDArray[np.int64]:
        return np.concatenate([self._row(stream, np.arange(start, stop)) for stream, start, stop in segments])

    def _read(self, segments: list[list[int]]) -> dict[str, NDArray[np.generic]]:
        rows = self._segment_rows(segments)
        return {"frame": self._frames.read(rows), **{name: column[rows] for name, column in self._columns.items()}}

    def _saved_chunk(self, folder: Path, segments: list[list[int]]) -> dict[str, Any]:
        """Writes a chunk; returns its entry in the manifest."""
        columns = self._read(segments)
        return {"file": chunks.write(folder, columns), "segments": segments, "digest": chunks.digest(columns)}

    def _write(self, segments: list[list[int]], path: Path, digest: str | None) -> None:
        """Takes over the rows of a chunk. digest: of its columns; chunks of earlier versions have none."""
        rows, saved = self._segment_rows(segments), chunks.read(path, digest)
        own = {"frame": (self._frames.dtype, self._frames.frame_shape)}
        own |= {name: (column.dtype, column.shape[1:]) for name, column in self._columns.items()}
        wanted = {name: (dtype, (len(rows), *shape)) for name, (dtype, shape) in own.items()}
        if {name: (column.dtype, column.shape) for name, column in saved.items()} != wanted:
            raise UserError(f"{path} does not hold the rows that the checkpoint says; restore it from the same run")
        self._frames.write(rows, saved["frame"])
        for name, column in self._columns.items():
            column[rows] = saved[name]
