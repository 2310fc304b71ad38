"""Experiments: many trainings, started and compared by their run folders; nothing here reaches inside an agent."""
