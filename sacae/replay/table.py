"""A dense table of the rows that can be sampled, so that drawing one uniformly takes one random number."""

import numpy as np
from numpy.typing import NDArray

from sacae.replay.memory import ROW_NUMBER


class RowTable:
    """A queue of row numbers for each stream: a row enters when its transition is complete; the oldest leaves first.

    A row number counts all rows that its stream has stored, so it stays valid when the ring wraps around.
    """

    def __init__(self, num_streams: int, rows_per_stream: int):
        self._numbers = np.empty((num_streams, rows_per_stream), ROW_NUMBER)
        self._numbers.fill(0)  # Touches the pages.
        self._rows_per_stream = rows_per_stream
        self._head = np.zeros(num_streams, np.int64)
        self._length = np.zeros(num_streams, np.int64)

    def __len__(self) -> int:
        return int(self._length.sum())

    def clear(self) -> None:
        """Empties every queue."""
        self._length.fill(0)

    def append(self, stream: int, number: int) -> None:
        """Adds a row, newer than all others of its stream."""
        tail = self._head[stream] + self._length[stream]
        self._numbers[stream, tail % self._rows_per_stream] = number
        self._length[stream] += 1

    def oldest(self, stream: int) -> int | None:
        """The stream's oldest row, None if it has none."""
        return int(self._numbers[stream, self._head[stream]]) if self._length[stream] else None

    def drop_oldest(self, stream: int) -> None:
        """Removes the stream's oldest row."""
        self._head[stream] = (self._head[stream] + 1) % self._rows_per_stream
        self._length[stream] -= 1

    def newest(self, each: int) -> NDArray[np.int64]:
        """Entries, as `look_up` takes them, of the newest rows of every stream, so many or all; oldest first."""
        ends = np.cumsum(self._length)
        return np.concatenate([np.arange(end - min(each, n), end) for end, n in zip(ends, self._length)])

    def look_up(self, index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Stream and row number, int64 (B,), of entries 0 <= index < len: stream after stream, oldest first."""
        ends = np.cumsum(self._length)
        stream = np.searchsorted(ends, index, side="right")
        offset = index - (ends - self._length)[stream]
        return stream, self._numbers[stream, (self._head[stream] + offset) % self._rows_per_stream]
