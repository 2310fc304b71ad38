"""Callbacks: what they are told and when, and how they end a run."""

import numpy as np
import pytest

from sacae.errors import UserError
from sacae.training.callbacks import Callbacks
from tests.training import counting
from tests.training.runs import assert_same_rows, rows, said


class Told:
    """Keeps what it is told; answers or raises at the n-th call of a method."""

    def __init__(self, at=None, answer=None):
        self.at, self.answer, self.calls = at, answer, []

    def _note(self, method, what):
        self.calls.append((method, what))
        if self.at == (method, sum(name == method for name, _ in self.calls)):
            if isinstance(self.answer, BaseException):
                raise self.answer
            return self.answer
        return None

    def on_episode(self, row):
        return self._note("episode", row)

    def on_evaluation(self, row):
        return self._note("evaluation", row)

    def on_checkpoint(self, folder):
        return self._note("checkpoint", folder)

    def of(self, method):
        return [what for name, what in self.calls if name == method]


def test_callbacks_are_told_what_the_files_hold_in_the_order_of_the_run(tmp_path):
    told = Told()
    assert counting.start(tmp_path).train(Callbacks([told]))
    episodes, evaluations = rows(tmp_path / "train.csv"), rows(tmp_path / "eval.csv")
    assert [str(row["env_step"]) for row in told.of("episode")] == [row["env_step"] for row in episodes]
    assert [str(row["episode_return"]) for row in told.of("episode")] == [row["episode_return"] for row in episodes]
    written = [row["episode_return"] for row in evaluations]
    assert [str(one) for row in told.of("evaluation") for one in row["episode_returns"]] == written
    assert [row["env_step"] for row in told.of("evaluation")] == [0, 8, 16, 20]
    assert told.of("evaluation")[0]["episode_return"] == sum(told.of("evaluation")[0]["episode_returns"]) / 2
    assert told.of("checkpoint") == [tmp_path] * 4
    assert [name for name, _ in told.calls][:4] == ["checkpoint", "evaluation", "episode", "evaluation"]


@pytest.mark.parametrize("at", [("episode", 1), ("evaluation", 2), ("checkpoint", 2)])
def test_a_callback_ends_a_run_that_then_resumes_to_the_same_rows(at, tmp_path):
    whole = counting.start(tmp_path / "whole")
    assert whole.train()
    stopped = counting.start(tmp_path / "parts")
    assert not stopped.train(Callbacks([Told(at, False)]))
    assert stopped.run.env_step < 20
    resumed = counting.start(tmp_path / "parts", resume=True)
    assert resumed.run.agent_step == stopped.run.agent_step
    assert resumed.train()
    assert_same_rows(whole, resumed)


def test_the_false_of_a_numpy_comparison_ends_a_run(tmp_path):
    assert not counting.start(tmp_path).train(Callbacks([Told(("evaluation", 1), np.mean([1.0]) < 0)]))


@pytest.mark.parametrize("answer", [None, True, 0, np.True_])
def test_no_other_answer_than_false_ends_a_run(answer, tmp_path):
    assert counting.start(tmp_path).train(Callbacks([Told(("evaluation", 1), answer)]))


def test_what_a_callback_does_with_its_row_is_nobody_elses(tmp_path):
    class Changes(Told):
        def on_evaluation(self, row):
            row["episode_returns"].clear()

    told = Told()
    assert counting.start(tmp_path).train(Callbacks([Changes(), told]))
    assert [len(row["episode_returns"]) for row in told.of("evaluation")] == [2] * 4


@pytest.mark.parametrize("error", [ZeroDivisionError("my mistake"), SystemExit("my mistake")])
@pytest.mark.parametrize("at", [("episode", 1), ("evaluation", 2), ("checkpoint", 2)])
def test_what_a_callback_raises_comes_out_after_a_checkpoint(at, error, tmp_path):
    whole = counting.start(tmp_path / "whole")
    assert whole.train()
    told = Told(at, error)
    failing = counting.start(tmp_path / "parts")
    with pytest.raises(type(error), match="my mistake"):
        failing.train(Callbacks([told]))
    assert told.calls[-1][0] == at[0]  # It hears of nothing more.
    resumed = counting.start(tmp_path / "parts", resume=True)
    assert resumed.run.agent_step == failing.run.agent_step
    assert resumed.train()
    assert_same_rows(whole, resumed)
    assert "run complete" in said(resumed)


def test_a_mistyped_method_a_class_and_an_object_without_any_are_refused():
    class Typo(Told):
        def on_evaluate(self, row): ...

    with pytest.raises(UserError, match=r"Typo has on_evaluate, but .*did you mean on_evaluation"):
        Callbacks([Typo()])
    with pytest.raises(UserError, match=r"callback Told is a class; .* such as Told\(\)"):
        Callbacks([Told])
    with pytest.raises(UserError, match="object has none of the methods on_episode"):
        Callbacks([object()])
