"""Ends a training once its evaluations no longer improve: python examples/early_stop.py."""

import sacae


class EarlyStop:
    """Ends the run after `patience` evaluations in a row without a new best mean return."""

    def __init__(self, patience: int = 5) -> None:
        self.patience, self.best, self.waited = patience, float("-inf"), 0
        self.stopped = False

    def on_evaluation(self, row: dict) -> bool:
        """False ends the run, with a checkpoint from which `sacae.resume` continues it."""
        improved = row["episode_return"] > self.best
        self.best = max(self.best, row["episode_return"])
        self.waited = 0 if improved else self.waited + 1
        self.stopped = self.waited >= self.patience
        return not self.stopped


def main(patience: int = 5, **settings: object) -> None:
    """Trains with the laptop's sizes, unless the settings say otherwise."""
    config = sacae.make_config(**{"domain": "cheetah", "task": "run", "preset": "laptop"} | settings)
    early_stop = EarlyStop(patience)
    run = sacae.train(config, callbacks=[early_stop])
    if early_stop.stopped:
        print(f"stopped early, after {run.evaluations[-1]['env_step']:,} steps")
    else:
        print("the run is complete" if run.complete else "the run was stopped")


if __name__ == "__main__":
    main()
