"""The settings of each head, a dataclass beside the head of that name. Nothing here imports PyTorch."""
