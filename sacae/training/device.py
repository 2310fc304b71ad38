"""Which device trains, and with which arithmetic."""

import torch

from sacae.errors import UserError


def choose_device(name: str) -> torch.device:
    """The device that a `device` setting names; auto is the first CUDA device where there is one, else the CPU.

    Raises UserError for a device that is not there. Turns TF32 off, so that float32 means float32 on every device.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()) or (kind == "cpu" and index):
        raise UserError(f"device is {name}, but it must be auto, cpu, cuda or cuda:N; change --device")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device is {name}, but PyTorch finds {torch.cuda.device_count()} CUDA devices here; "
            "use --device cpu, or install a PyTorch build for your driver (`sacae doctor` shows what it sees)"
        )
    return torch.device("cuda", int(index or 0)) if kind == "cuda" else torch.device("cpu")


def describe(device: torch.device) -> str:
    """One phrase for people: the GPU's name, or the number of CPU threads."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)"
