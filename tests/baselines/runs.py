"""Small runs of an algorithm, and the same run with and without an interruption."""

import io

from rich.console import Console

from baselines.settings import make as make_settings
from sacae import config as configs
from sacae.settings import check
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
    """Trainers of an uninterrupted run and of one that stopped in the middle, in which both wrote down the same."""
    whole = make("whole", **settings)
    assert whole.train()
    first = make("parts", **settings)
    receive = first.stepper.receive

    def stopping():
        first.run.stopping |= first.run.agent_step >= stop_at
        return receive()

    first.stepper.receive = stopping
    assert not first.train()
    assert 0 < first.run.agent_step < whole.run.agent_step
    resumed = make("parts", resume=True)
    assert resumed.train()
    assert_same_rows(resumed, whole)
    return whole, resumed
