"""Searches learning rates with Optuna, and ends the runs that fall behind: python examples/optuna_pruning.py."""

import optuna  # pip install -c constraints.txt -e '.[optuna]'

import sacae


class Pruning:
    """Reports each evaluation to a trial, and ends the run where the study's pruner asks for it."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial, self.pruned = trial, False

    def on_evaluation(self, row: dict) -> bool:
        """False ends the run."""
        self.trial.report(row["episode_return"], row["env_step"])
        self.pruned = self.trial.should_prune()
        return not self.pruned


def objective(trial: optuna.Trial, **settings: object) -> float:
    """Trains with the trial's learning rates, and returns the mean return of the last evaluation."""
    rates = {name: trial.suggest_float(name, 1e-4, 3e-3, log=True) for name in ("critic_lr", "actor_lr")}
    folder = f"runs/optuna/{trial.study.study_name}/{trial.number}"  # a study without a name has one of its own
    defaults = {"domain": "cheetah", "task": "run", "preset": "laptop", "work_dir": folder}
    pruning = Pruning(trial)
    run = sacae.train(sacae.make_config(**defaults | rates | settings), callbacks=[pruning])
    if not run.complete:
        if not pruning.pruned:  # Ctrl-C
            trial.study.stop()
        raise optuna.TrialPruned
    return run.evaluations[-1]["episode_return"]


def main(trials: int = 20) -> optuna.Study:
    """Makes the trials one after another. A run is ended if it is below the median of the others at its step."""
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(n_startup_trials=4))
    study.optimize(objective, n_trials=trials)
    print(f"best of {len(study.trials)}: {study.best_value:.1f} with {study.best_params}")
    return study


if __name__ == "__main__":
    main()
