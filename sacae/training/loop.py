"""The training loop. A Run owns files and counts, a Learner what is learned, a Stepper the simulators."""

import numpy as np

from sacae.envs.contract import Stepper
from sacae.envs.faults import all_finite
from sacae.errors import EnvironmentFailed, UserError
from sacae.signals import Abandoned
from sacae.training.learner import Learner
from sacae.training.run import Run
from sacae.types import Actions


def train(run: Run, learner: Learner, stepper: Stepper) -> bool:
    """Trains until the budget is spent or a stop is requested (Ctrl-C); True if the run is complete.

    Either way it ends with a checkpoint, and also if it raises EnvironmentFailed or what a callback raised. Raises
    UserError where a loss or an action is not finite.
    The order is the reference's: act, update on what the replay held before, receive, add.
    """
    with run.stop_on_signals():
        try:
            while not (run.finished or run.stopping):
                if run.evaluation_due:
                    run.evaluate(learner)
                elif run.checkpoint_due:
                    run.checkpoint(learner, stepper)
                elif not step(run, learner, stepper):
                    break
                run.tell_callbacks()
        except EnvironmentFailed:
            run.checkpoint(learner, stepper)
            raise
        run.checkpoint(learner, stepper)
        run.tell_callbacks()
    run.callbacks.raise_error()
    return run.finished


def step(run: Run, learner: Learner, stepper: Stepper) -> bool:
    """One step of every environment, and what is learned beside and after it; see `train` for the order.

    False where a stop was requested within a burst of updates, or the environments did not answer in time after such a
    request: the actions are then sent again on resume.
    """
    actions = learner.act(run)
    _check_finite(actions, run, learner)
    stepper.send(actions)
    if not learner.learn(run):
        return False
    try:
        result = stepper.receive()
    except EnvironmentFailed:
        learner.take_back()
        raise
    except Abandoned:
        learner.take_back()
        run.progress.line("the environments did not answer; a resumed run takes this step again")
        return False
    learner.observe(run, actions, result)
    run.count(result, learner)
    learner.after_step(run)
    run.note_failures(stepper)
    return True


def _check_finite(actions: Actions, run: Run, learner: Learner) -> None:
    """Raises UserError for an action that is not finite, before an environment stumbles over it."""
    if actions.dtype.kind != "f" or all_finite(actions):
        return
    learner.check_finite()  # It knows better what went wrong.
    i = int(np.flatnonzero(~np.isfinite(actions).all(axis=1))[0])
    raise UserError(
        f"the action for environment {i} is not finite at step {run.episode_length[i] + 1} of its episode: training "
        "stopped; the last checkpoint is from before; try a smaller learning rate"
    )
