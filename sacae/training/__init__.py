"""The training loop, evaluation, logging, checkpoints."""
