"""When evaluations, checkpoints and updates are due."""

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sacae.training.schedule import Every, UpdateSchedule


def done_at(schedule, steps):
    """The steps at which it is due and done."""
    done = []
    for step in steps:
        if schedule.due(step):
            schedule.done(step)
            done.append(step)
            assert not schedule.due(step)
    return done


@pytest.mark.parametrize(
    ("every", "last", "steps", "expected"),
    [
        (4, 10, range(0, 11), [0, 4, 8, 10]),
        (5, 10, range(0, 11), [0, 5, 10]),
        (100, 10, range(0, 11), [0, 10]),
        (4, 10, range(0, 13, 3), [0, 6, 9, 12]),  # multiples that are passed, and the last too
        (2, 18, range(0, 19, 6), [0, 6, 12, 18]),  # several passed in one step
    ],
)
def test_it_is_due_at_0_at_multiples_and_at_the_last_step(every, last, steps, expected):
    assert done_at(Every(every, last), steps) == expected


def test_it_is_never_due_again_after_the_last_step():
    schedule = Every(4, 10)
    assert done_at(schedule, range(0, 11))[-1] == 10
    assert schedule.next == 11
    assert not schedule.due(10)


@pytest.mark.parametrize("stop", range(11))
def test_a_schedule_that_goes_on_is_due_where_an_uninterrupted_one_is(stop):
    first = Every(4, 10)
    done = done_at(first, range(0, stop + 1))
    second = Every(4, 10)
    second.go_on(first.next, stop)
    assert done + done_at(second, range(stop, 11)) == [0, 4, 8, 10]


@pytest.mark.parametrize(
    ("every", "last", "expected"), [(3, 100, [18, 21]), (50, 18, [18]), (1000, 21, [21]), (6, 100, [18])]
)
def test_a_schedule_that_goes_on_takes_another_interval_and_another_end_at_once(every, last, expected):
    first = Every(20, 100)
    done_at(first, range(0, 16))
    second = Every(every, last)
    second.go_on(first.next, 15)
    assert done_at(second, range(15, min(last, 21) + 1)) == expected


@pytest.mark.parametrize(("longer", "expected"), [(12, [12]), (17, [12, 16, 17]), (10, [])])
def test_a_schedule_that_was_over_goes_on_where_there_are_more_steps(longer, expected):
    first = Every(4, 10)
    done_at(first, range(0, 11))
    second = Every(4, longer)
    second.go_on(first.next, 10)
    assert done_at(second, range(10, longer + 1)) == expected


SEED_STEPS, BURST, STEPS = 5, 7, 60


def updates(ratio, num_envs, every=1, resumed=False):
    """(agent step, updates made at it) of a run; resumed: from a checkpoint, at every step."""
    schedule, made = UpdateSchedule(ratio, every, BURST), []
    for step in range(0, STEPS, num_envs):
        if step >= SEED_STEPS:
            made.append((step, schedule.due(step)))
        if resumed:
            state = schedule.state()
            schedule = UpdateSchedule(ratio, every, BURST)
            schedule.load(state)
    return made


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("ratio", [0.25, 0.3, 2.5])
def test_a_run_resumed_at_every_step_makes_the_same_updates_at_the_same_steps(ratio, num_envs, every):
    assert updates(ratio, num_envs, every) == updates(ratio, num_envs, every, resumed=True)


def test_updates_at_each_step_are_the_ratios():
    assert [n for _, n in updates(0.25, 1)][:10] == [BURST, 0, 0, 0, 1, 0, 0, 0, 1, 0]
    assert [n for _, n in updates(0.3, 1)][:11] == [BURST, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1]
    assert [n for _, n in updates(2.5, 1)][:5] == [BURST, 2, 3, 2, 3]
    assert updates(2.5, 3)[:4] == [(6, BURST), (9, 7), (12, 8), (15, 7)]


def test_owed_updates_are_made_in_blocks():
    assert [n for _, n in updates(1.0, 1, every=4)][:10] == [BURST, 0, 0, 0, 4, 0, 0, 0, 4, 0]
    assert [n for _, n in updates(0.3, 1, every=5)][:11] == [BURST, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2]
    # Three environments pass a multiple of 4 without standing on it.
    assert updates(1.0, 3, every=4)[:5] == [(6, BURST), (9, 0), (12, 4), (15, 4), (18, 4)]


@given(
    st.decimals("0.01", "8", places=2).map(float),
    st.integers(1, 7),
    st.integers(1, 9),
)
def test_beside_the_burst_exactly_the_ratio_is_made_by_each_block(ratio, num_envs, every):
    made = updates(ratio, num_envs, every)
    began = made[0][0]
    for (step, _), total in zip(made, itertools.accumulate(n for _, n in made)):
        steps = (step - began) // every * every
        assert total == BURST + math.floor(Fraction(str(ratio)) * steps)


@pytest.mark.parametrize("rest", [0, 4])
def test_after_waiting_nothing_is_owed_but_the_rest_of_the_burst(rest):
    schedule = UpdateSchedule(1.0, 1, BURST)
    assert [schedule.due(step) for step in (10, 11, 12)] == [BURST, 1, 1]
    schedule.wait(rest)
    assert [schedule.due(step) for step in (90, 91, 92)] == [rest, 1, 1]
