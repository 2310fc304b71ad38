"""Measures at every checkpoint how much the policy's actions jump: python examples/custom_metric.py."""

import csv
from pathlib import Path

import numpy as np

import sacae


class Jerkiness:
    """Writes jerkiness.csv into the run folder: the mean change from one action to the next, in one episode."""

    def on_checkpoint(self, folder: Path) -> None:
        """Plays an episode with the agent of the checkpoint, and adds a row."""
        agent = sacae.load_agent(folder)
        env = agent.make_env()
        obs, _ = env.reset(seed=0)
        actions, ended = [], False
        while not ended:
            actions.append(agent.predict(obs))
            obs, _, terminated, truncated, _ = env.step(actions[-1])
            ended = terminated or truncated
        env.close()
        change = np.abs(np.diff(actions, axis=0)).mean()
        with open(folder / "jerkiness.csv", "a", newline="") as file:
            csv.writer(file).writerow([agent.env_step, f"{change:.4f}"])


def main(**settings: object) -> None:
    """Trains with the laptop's sizes, unless the settings say otherwise."""
    config = sacae.make_config(**{"domain": "cheetah", "task": "run", "preset": "laptop"} | settings)
    sacae.train(config, callbacks=[Jerkiness()])


if __name__ == "__main__":
    main()
