"""The one transfer that carries a batch's small arrays."""

import numpy as np
import torch

from sacae.replay.frames import to_device


def test_arrays_of_any_sizes_and_dtypes_arrive_unchanged_in_one_transfer():
    arrays = [
        np.array([True, False, True]),
        np.arange(5),
        np.linspace(0, 1, 3, dtype=np.float32)[:, None],
        np.arange(6.0).reshape(2, 3).T,
        np.zeros((0, 2), np.float32),
        np.arange(2),
    ]
    moved = to_device(arrays, torch.device("cpu"))
    for tensor, array in zip(moved, arrays, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array, strict=True)
    assert len({tensor.untyped_storage().data_ptr() for tensor in moved}) == 1
