"""The training loop. A Run owns files and counts, a Learner what is learned, a Stepper the simulators."""

from sacae.envs.contract import Stepper
from sacae.signals import Abandoned
from sacae.training.learner import Learner
from sacae.training.run import Run


def train(run: Run, learner: Learner, stepper: Stepper) -> bool:
    """Trains until the budget is spent or a stop is requested (Ctrl-C); True if the run is complete.

    Either way it ends with a checkpoint. Raises UserError where a loss is not finite.
    The order is the reference's: act, update on what the replay held before, receive, add.
    """
    with run.stop_on_signals():
        while not (run.finished or run.stopping):
            if run.evaluation_due:
                run.evaluate(learner)
            elif run.checkpoint_due:
                run.checkpoint(learner, stepper)
            elif not step(run, learner, stepper):
                break
        run.checkpoint(learner, stepper)
    return run.finished


def step(run: Run, learner: Learner, stepper: Stepper) -> bool:
    """One step of every environment, and what is learned beside and after it; see `train` for the order.

    False where a stop was requested within a burst of updates, or the environments did not answer in time after such a
    request: the actions are then sent again on resume.
    """
    actions = learner.act(run)
    stepper.send(actions)
    if not learner.learn(run):
        return False
    try:
        result = stepper.receive()
    except Abandoned:
        run.progress.line("the environments did not answer; a resumed run takes this step again")
        return False
    learner.observe(run, actions, result)
    run.count(result, learner)
    learner.after_step(run)
    return True
