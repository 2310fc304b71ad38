"""Environments that misbehave, in both steppers: what is said, what is kept, and that all others go on."""

import functools
import multiprocessing

import numpy as np
import pytest

from sacae import envs
from sacae.envs import GymEnv
from sacae.envs.faults import all_finite, describe
from sacae.errors import EnvironmentFailed, UserError
from tests.envs.misbehaving import BAD_STEP, LIMIT, SURVIVED
from tests.envs.test_stepping import assert_same, plain, step

MODULE = "tests.envs.misbehaving"

SAID = {
    "raises": "raised RuntimeError: the ball is [/gone] (misbehaving.py:",
    "stop iteration": "raised StopIteration: done (misbehaving.py:",
    "memory error": "raised MemoryError (misbehaving.py:",
    "system exit": "raised SystemExit: 3 (misbehaving.py:",
    "assertion": f"raised AssertionError: {'x' * 200}... (misbehaving.py:",
    "nothing": "raised TypeError: cannot unpack non-iterable NoneType object (",
    "no observation": "returned an observation of float32 (1,), but its space says float32 (3,)",
    "wrong shape": "returned an observation of float32 (4,), but its space says float32 (3,)",
    "wrong dtype": "raised ValueError: could not convert string to float: ",
    "no reward": "returned a reward that is no number, but a NoneType",
    "rewards": "returned a reward that is no number, but a ndarray",
    "nan observation": "returned observation nan in entry 1",
    "infinite observation": "returned observation inf in entry 0",
    "nan reward": "returned reward nan",
    "infinite reward": "returned reward -inf",
    "large reward": "returned reward 1e+30, beyond 1e+20",
}
NOT_FINITE = {"nan observation", "infinite observation", "nan reward", "infinite reward", "large reward"}


def recipe(name, seed):
    return functools.partial(GymEnv, f"{MODULE}:{name}-v0", seed)


@pytest.fixture
def stepper_of():
    made = []

    def make(names, in_processes, max_errors=3):
        recipes = [recipe(name, seed) for seed, name in enumerate(names)]
        made.append(envs.make_stepper(recipes, in_processes, max_errors=max_errors))
        return made[-1]

    yield make
    for stepper in made:
        stepper.close()
    assert multiprocessing.active_children() == []


def actions_of(count, num_envs=2):
    return np.random.default_rng(0).uniform(-0.8, 0.8, (count, num_envs, 1)).astype(np.float32)


@pytest.mark.filterwarnings("ignore:.*")  # NumPy's own, of numbers too large for float32
def test_every_kind_cuts_its_episode_off_in_both_steppers_alike_and_leaves_the_others_alone(stepper_of):
    here, there = steppers = [stepper_of(["Shifty", "EveryKind"], in_processes) for in_processes in (False, True)]
    alone = stepper_of(["Shifty"], False)
    np.testing.assert_array_equal(*(stepper.reset()[0] for stepper in steppers))
    alone.reset()
    failures = []
    for actions in actions_of(BAD_STEP * len(SURVIVED) + LIMIT):
        results = [step(stepper, actions) for stepper in steppers]
        assert_same(*results)
        assert results[0].lost == results[1].lost
        assert here.failures == there.failures
        np.testing.assert_array_equal(results[0].frame[:1], step(alone, actions[:1]).frame)
        assert plain(here.snapshot()) == plain(there.snapshot())
        if results[0].lost:
            result, (failure,) = results[0], here.failures
            assert result.lost == {1}
            np.testing.assert_array_equal(result.first_frame[1], result.frame[1])
            assert (result.reward[1], result.terminated[1], result.truncated[1]) == (0, False, True)
            assert here.snapshot()[1]["actions"] == []
            failures.append(failure)
        here.failures, there.failures = [], []
    for kind, failure in zip(SURVIVED, failures, strict=True):
        assert failure.text.startswith(f"environment 1 {SAID[kind]}"), kind
        assert failure.text.endswith(f" at step {BAD_STEP} of its episode")
        assert failure.consequence == "the episode is cut off"
        assert failure.ends_run == (kind in NOT_FINITE)
        assert "\n" not in failure.text


def test_a_process_that_ends_is_replaced_by_one_that_continues_its_random_stream(stepper_of):
    stepper = stepper_of(["Killed", "Shifty", "Leaves"], True)
    healthy = stepper_of(["Shifty"] * 3, False)
    first, _ = stepper.reset()
    np.testing.assert_array_equal(first, healthy.reset()[0])
    steps = actions_of(BAD_STEP + LIMIT + 1, 3)
    for actions in steps[: BAD_STEP - 1]:
        assert_same(step(stepper, actions), step(healthy, actions))
    result = step(stepper, steps[BAD_STEP - 1])
    assert result.lost == {0, 2}
    assert [failure.text for failure in stepper.failures] == [
        "environment 0 lost its process to SIGKILL (if memory ran out, lower --num-envs) at step 3 of its episode",
        "environment 2 ended its process with status 7 at step 3 of its episode",
    ]
    assert len(multiprocessing.active_children()) == 3
    # The next episodes are those that a reset would have begun.
    step(healthy, steps[BAD_STEP - 1])
    second, _ = healthy.reset()
    for number in (0, 2):
        np.testing.assert_array_equal(result.first_frame[number], second[number])
        np.testing.assert_array_equal(result.frame[number], second[number])
    assert (result.reward[[0, 2]].tolist(), result.truncated.tolist()) == ([0, 0], [True, False, True])
    for actions in steps[BAD_STEP : BAD_STEP + LIMIT]:
        ours, theirs = step(stepper, actions), step(healthy, actions)
        np.testing.assert_array_equal(ours.frame[[0, 2]], theirs.frame[[0, 2]])
    assert ours.truncated.tolist() == [True, False, True]
    assert ours.lost == frozenset()


@pytest.mark.parametrize("in_processes", [False, True])
def test_a_reset_that_fails_is_tried_again(stepper_of, in_processes):
    stepper = stepper_of(["FailingResets"], in_processes)
    stepper.reset()
    said = [(failure.text.partition(" (")[0], failure.consequence) for failure in stepper.failures]
    assert said == [("environment 0 raised RuntimeError: no floor", "it is reset again")] * 2
    assert [failure.when for failure in stepper.failures] == ["when it was reset"] * 2
    results = [step(stepper, actions) for actions in actions_of(LIMIT, 1)]
    assert len(stepper.failures) == 3
    assert results[-1].lost == frozenset()
    assert results[-1].first_frame[0] is not None


@pytest.mark.parametrize("in_processes", [False, True])
def test_an_environment_that_cannot_be_reset_is_reported_in_one_line(stepper_of, in_processes):
    never, once = stepper_of(["NoReset"], in_processes), stepper_of(["ResetsOnce"], in_processes)
    message = r"^environment 0 raised RuntimeError: no floor \(.*\) when it was reset, 4 times in a row: [^\n]*$"
    with pytest.raises(EnvironmentFailed, match=message):
        never.reset()
    once.reset()
    steps = actions_of(LIMIT, 1)
    for actions in steps[:-1]:
        step(once, actions)
    before = plain(once.snapshot())
    with pytest.raises(EnvironmentFailed, match=message):
        step(once, steps[-1])
    assert plain(once.snapshot()) == before


@pytest.mark.parametrize("in_processes", [False, True])
@pytest.mark.parametrize("max_errors", [0, 2])
def test_the_number_of_failing_resets_is_that_of_the_setting(stepper_of, in_processes, max_errors):
    stepper = stepper_of(["NoReset"], in_processes, max_errors)
    times = ", 3 times" if max_errors else ":"
    with pytest.raises(EnvironmentFailed, match=f"when it was reset{times}"):
        stepper.reset()


@pytest.mark.parametrize("in_processes", [False, True])
def test_an_episode_that_cannot_be_repeated_is_told_and_a_reset_begins_another(stepper_of, in_processes):
    stepper = stepper_of(["Shifty", "AlwaysRaises"], in_processes)
    stepper.reset()
    start = stepper.snapshot()
    start[0]["actions"] = [[0.5], [-0.25]]
    start[1]["actions"] = [[0.5]]
    returns = stepper.restore(start)
    assert returns == [-0.75, None]
    (failure,) = stepper.failures
    assert failure.text.startswith("environment 1 raised RuntimeError: the ball is [/gone]")
    assert failure.text.endswith("when its episode was repeated")
    stepper.reset()
    assert [snapshot["actions"] for snapshot in stepper.snapshot()] == [[], []]


def test_a_process_that_dies_in_a_repeated_episode_is_replaced(stepper_of):
    stepper, other = stepper_of(["AlwaysKilled"], True), stepper_of(["AlwaysKilled"], True)
    first, _ = stepper.reset()
    start = stepper.snapshot()
    start[0]["actions"] = [[0.5]]
    assert other.restore(start) == [None]
    assert [failure.when for failure in other.failures] == ["when its episode was repeated"]
    following, _ = other.reset()
    assert not np.array_equal(following[0], first[0])
    np.testing.assert_array_equal(following, stepper.reset()[0])


def test_an_environment_that_raises_in_its_constructor_is_one_line():
    with pytest.raises(
        UserError, match=r"^env is .*Unmade-v0, but .*: RuntimeError: no licence \(misbehaving.py:\d+\)$"
    ):
        GymEnv(f"{MODULE}:Unmade-v0")


def test_an_environment_that_raises_when_it_is_closed_is_closed():
    GymEnv(f"{MODULE}:Unclosed-v0").close()


def test_an_errors_line_has_no_control_characters():
    assert describe(ValueError("a\x1b[31m\nb\x07")) == "ValueError: a [31m b"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_are_finite_also_where_the_sum_of_their_squares_is_not(dtype):
    assert all_finite(np.full((2, 3), np.finfo(dtype).max))
    assert all_finite(np.zeros(0, dtype))
    for bad in (np.nan, np.inf, -np.inf):
        assert not all_finite(np.array([1, bad, np.finfo(dtype).max], dtype))
