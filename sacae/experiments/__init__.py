"""Experiments: many trainings, started and compared through their run folders."""
