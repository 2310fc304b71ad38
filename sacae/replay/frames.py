"""Storage of a replay's frames, and their transfer to the training device with the small arrays of a batch."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from sacae.errors import UserError
from sacae.types import EnvSpec, Frames


class FrameStore:
    """A preallocated array of frames, one per row, on the host or on a GPU.

    On a GPU every copy is queued on the current stream, from pinned memory that is not reused before the copy is done;
    the host never waits for the GPU.

    Raises UserError if there is not enough memory. The constructor writes every page, so that a lack of memory shows
    at the start of a run and not hours later.
    """

    def __init__(self, spec: EnvSpec, rows: int, device: torch.device | str, storage: torch.device | str):
        self.device, self.storage = _with_index(device), _with_index(storage)
        if self.storage.type != "cpu" and self.storage != self.device:
            raise UserError(f"the replay's frames cannot lie on {storage} while batches go to {device}")
        self.frame_shape, self.dtype = spec.frame_shape, np.dtype(spec.frame_dtype)
        try:
            empty = torch.empty((rows, *spec.frame_shape), dtype=getattr(torch, spec.frame_dtype), device=self.storage)
            self.frames = empty.zero_()
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"replay_capacity needs {rows:,} frames on {storage}, more than its memory holds ({reason}); "
                f"lower --replay-capacity or free memory"
            ) from error

    def check(self, frame: Frames) -> None:
        """Raises ValueError unless `frame` has the shape and dtype of the environment's specification."""
        if frame.shape != self.frame_shape or frame.dtype != self.dtype:
            raise ValueError(
                f"a frame is {frame.dtype} {frame.shape}, but the environment's specification says "
                f"{self.dtype} {self.frame_shape}"
            )

    def write(self, rows: int | NDArray[np.int64], frames: Frames) -> None:
        """Stores one frame at a row, or frames (R, C, H, W) at rows (R,); frames may have any strides."""
        if self.storage.type == "cpu":
            self.frames.numpy()[rows] = frames
            return
        staged = _staging(frames.shape, self.frames.dtype, self.storage)
        staged.numpy()[...] = frames
        index = torch.from_numpy(rows).to(self.storage) if isinstance(rows, np.ndarray) else rows
        self.frames[index] = staged.to(self.storage, non_blocking=True)

    def read(self, rows: NDArray[np.int64]) -> Frames:
        """A copy, on the host, of the frames at `rows` (R,)."""
        return self.frames.index_select(0, torch.from_numpy(rows).to(self.storage)).cpu().numpy()

    def fetch(self, rows: NDArray[np.int64], *arrays: NDArray[np.generic]) -> list[torch.Tensor]:
        """The frames at `rows` (R,) int64, shape (R, C, H, W), and copies of the small `arrays`, all on the device.

        If the frames are on the device, one transfer takes the row numbers and the arrays there.
        """
        if self.storage == self.device:
            index, *moved = to_device((rows, *arrays), self.device)
            return [self.frames.index_select(0, index), *moved]
        staged = _staging((len(rows), *self.frame_shape), self.frames.dtype, self.device)
        torch.index_select(self.frames, 0, torch.from_numpy(rows), out=staged)
        return [staged.to(self.device, non_blocking=True), *to_device(arrays, self.device)]


def to_device(arrays: Sequence[NDArray[np.generic]], device: torch.device) -> list[torch.Tensor]:
    """Copies of arrays on a device, of the same shapes and dtypes, in one transfer that the host does not wait for."""
    # Every array starts at a multiple of 8 bytes, which a view of any dtype requires.
    starts = np.cumsum([0] + [-(-array.nbytes // 8) * 8 for array in arrays])
    staging = _staging((int(starts[-1]),), torch.uint8, device)
    packed = staging.numpy()
    for array, start in zip(arrays, starts[:-1], strict=True):
        packed[start : start + array.nbytes].view(array.dtype)[:] = array.ravel()
    moved = staging.to(device, non_blocking=True)
    return [
        moved[start : start + array.nbytes].view(getattr(torch, array.dtype.name)).view(array.shape)
        for array, start in zip(arrays, starts[:-1].tolist(), strict=True)
    ]


def _staging(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    # PyTorch's allocator of pinned memory reuses a block only after the copies that read it are done.
    return torch.empty(shape, dtype=dtype, pin_memory=device.type == "cuda")


def _with_index(device: torch.device | str) -> torch.device:
    """The device; a CUDA device without a number gets the current one, so that devices can be compared."""
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
