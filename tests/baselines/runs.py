"""Small runs of an algorithm, and the same run with and without an interruption."""

import io

from rich.console import Console

from baselines.settings import make as make_settings
from sacae import config as configs
from sacae.settings import check
from sacae.signals import Abandoned
from tests.training.runs import assert_same_rows


def small_runs(kind, tmp_path, **small):
    """A function that makes trainings of this kind in folders of tmp_path; `small` is what they have unless told.

    Its `resume` continues the run of a folder, with the settings that lie there.
    """

    def make(folder="run", resume=False, **settings):
        config = make_settings(
            kind.settings, **({"save_video": False, "work_dir": tmp_path / folder} | small | settings)
        )
        if resume:
            config = configs.load(tmp_path / folder / "config.yaml", make_settings(kind.settings))
            check(config)
        return kind.start(config, Console(file=io.StringIO(), width=200), resume)

    return make


def whole_and_resumed(make, stop_at, **settings):
    """Trainers of an uninterrupted run and of one that stopped in the middle, in which both wrote down the same.

    So did one whose environments did not answer the step at which it stopped.
    """
    whole = make("whole", **settings)
    assert whole.train()
    for folder, answers in (("unanswered", False), ("parts", True)):
        _stop(make(folder, **settings), stop_at, answers)
        resumed = make(folder, resume=True)
        assert 0 < resumed.run.agent_step < whole.run.agent_step
        assert resumed.train()
        assert_same_rows(resumed, whole)
    return whole, resumed


def _stop(training, stop_at, answers):
    receive = training.stepper.receive

    def stopping():
        training.run.stopping |= training.run.agent_step >= stop_at
        if training.run.stopping and not answers:
            raise Abandoned
        return receive()

    training.stepper.receive = stopping
    assert not training.train()
