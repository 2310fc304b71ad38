"""Replay: one row per frame; stacks, n-step returns and batches from row indices; memory planned before allocation."""

from sacae.replay.memory import MemoryPlan, choose_storage
from sacae.replay.replay import FrameReplay

__all__ = ["FrameReplay", "MemoryPlan", "choose_storage"]
