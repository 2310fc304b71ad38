"""Environments stepped together, in this process and in processes of their own."""

import functools
import gc
import multiprocessing
import os
import select
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from sacae import envs
from sacae.envs import make_stepper, process
from sacae.envs.contract import EnvInfo
from sacae.envs.process import ProcessStepper
from sacae.envs.stepping import SerialStepper, success_of
from sacae.errors import UserError
from tests.processes import in_own_group

PATIENCE = 30.0
"""Seconds after which something that should happen counts as not happening."""

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc and /dev/shm")


class Toy:
    """An environment that counts: a frame holds its seed, episode and step. `trouble` is called with each step."""

    observation_space = spaces.Box(0, 255, (3, 4, 4), np.uint8)
    action_space = spaces.Box(-1, 1, (2,), np.float32)
    max_episode_steps = 5
    render_seconds = 0.0

    def __init__(self, seed=0, trouble=None):
        self.seed, self.trouble = seed, trouble
        self.episode, self.actions = 0, []

    def reset(self):
        self.episode, self.actions = self.episode + 1, []
        return self._frame(), {}

    def step(self, action):
        self.actions.append(action.tolist())
        if self.trouble is not None:
            self.trouble(len(self.actions))
        truncated = len(self.actions) == self.max_episode_steps
        return self._frame(), float(np.sum(action, dtype=np.float64)), False, truncated, {}

    def snapshot(self):
        return {"episode": self.episode, "actions": list(self.actions)}

    def restore(self, snapshot):
        self.episode, self.actions = snapshot["episode"], [list(action) for action in snapshot["actions"]]
        return float(np.sum(self.actions))

    def close(self):
        pass

    def _frame(self):
        return np.full((3, 4, 4), [[[self.seed]], [[self.episode]], [[len(self.actions)]]], np.uint8)


class LongerToy(Toy):
    max_episode_steps = 6


class ToyWithState(Toy):
    """Whose state is what its frame holds."""

    state_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)

    def state(self):
        return self._frame()[:, 0, 0].astype(np.float32)


# Troubles, which run in the environment's process.


def refuse(step):
    raise UserError("camera_id is 9, but there are two")


def refuse_second(step):
    if step == 2:
        refuse(step)


def wait_for(path, step):
    """Waits until somebody makes the file."""
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} was never made"
        time.sleep(0.001)


def meet(folder, mine, others, step):
    (folder / mine).touch()
    wait_for(folder / others, step)


def dawdle(seconds, step):
    time.sleep(seconds)


# Recipes.


def refused():
    raise UserError("domain is cheeta, did you mean cheetah?")


def broken():
    raise LookupError("no such model")


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def without_torch(**arguments):
    env = envs.make(**arguments)
    env.reset()
    assert "torch" not in sys.modules
    return env


def toys(*troubles):
    return [functools.partial(Toy, seed, trouble) for seed, trouble in enumerate(troubles)]


@pytest.fixture
def stepper_of():
    """Makes steppers that are closed after the test; afterwards no process may be left of them."""
    made = []

    def make(recipes, in_processes=True, keep_state=False):
        made.append(make_stepper(recipes, in_processes, keep_state))
        return made[-1]

    yield make
    for stepper in made:
        stepper.close()
    assert multiprocessing.active_children() == []


def random_actions(num_envs, action_dim, count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, num_envs, action_dim)).astype(np.float32)


def step(stepper, actions):
    stepper.send(actions)
    return stepper.receive()


def assert_same(left, right):
    for mine, other in zip(left[:4], right[:4]):
        assert mine.dtype == other.dtype
        np.testing.assert_array_equal(mine, other)
    for name in ("first_frame", "state", "first_state"):
        for mine, other in zip(getattr(left, name), getattr(right, name), strict=True):
            assert (mine is None) == (other is None)
            np.testing.assert_array_equal(mine, other, strict=mine is not None)


def plain(snapshots):
    return [snapshot | {"actions": np.array(snapshot["actions"]).tolist()} for snapshot in snapshots]


# The same results, wherever the environments are.

CHEETAH = {
    "pixels": {
        "frame_skip": 4,
        "height": 24,
        "width": 24,
        "render_quality": "fast",
        "task_kwargs": {"time_limit": 0.12},
    },
    "state": {"from_pixels": False, "task_kwargs": {"time_limit": 0.2}},
}


def cheetahs(kind, count, seed):
    return [functools.partial(envs.make, "cheetah", "run", seed=seed + i, **CHEETAH[kind]) for i in range(count)]


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize(("kind", "keep_state"), [("pixels", False), ("pixels", True), ("state", False)])
def test_both_steppers_give_the_same_results_to_the_last_bit(stepper_of, request, kind, keep_state, num_envs):
    if kind == "pixels":
        request.getfixturevalue("gl")
    here, there = (stepper_of(cheetahs(kind, num_envs, 1), in_processes, keep_state) for in_processes in (False, True))
    assert here.env_info == there.env_info
    assert here.env_info.state_dim == (17 if keep_state else 0)
    limit = here.env_info.max_episode_steps
    frames, states = zip(*(stepper.reset() for stepper in (here, there)))
    np.testing.assert_array_equal(*frames)
    np.testing.assert_array_equal(*states)
    assert [frame.dtype for frame in frames[1]] == [here.env_info.frame_dtype] * num_envs
    ends = 0
    for actions in random_actions(num_envs, 6, 2 * limit + 2):
        results = [step(stepper, actions) for stepper in (here, there)]
        assert_same(*results)
        ends += results[0].truncated.sum()
        assert plain(here.snapshot()) == plain(there.snapshot())
    assert ends == 2 * num_envs

    # From there on, each kind continues what the other did.
    resumed = {
        in_processes: stepper_of(cheetahs(kind, num_envs, 9), in_processes, keep_state)
        for in_processes in (False, True)
    }
    resumed[True].restore(here.snapshot())
    resumed[False].restore(there.snapshot())
    for actions in random_actions(num_envs, 6, limit, seed=1):
        expected = step(here, actions)
        for stepper in (there, *resumed.values()):
            assert_same(expected, step(stepper, actions))
    assert plain(here.snapshot()) == plain(resumed[True].snapshot()) == plain(resumed[False].snapshot())


@pytest.mark.parametrize("in_processes", [False, True])
def test_a_snapshot_while_an_action_is_unanswered_is_from_before_it(stepper_of, in_processes):
    stepper, resumed = (stepper_of(cheetahs("state", 2, seed), in_processes) for seed in (1, 7))
    stepper.reset()
    first, second = random_actions(2, 6, 2)
    step(stepper, first)
    before = stepper.snapshot()
    stepper.send(second)
    assert plain(stepper.snapshot()) == plain(before)
    resumed.restore(stepper.snapshot())
    assert_same(stepper.receive(), step(resumed, second))
    assert plain(before) != plain(stepper.snapshot())


@pytest.mark.parametrize("in_processes", [False, True])
def test_an_episodes_end_comes_with_the_first_frame_of_the_next(stepper_of, in_processes):
    stepper = stepper_of(toys(None, None), in_processes)
    frames, states = stepper.reset()
    assert [frame[:, 0, 0].tolist() for frame in frames] == [[0, 1, 0], [1, 1, 0]]
    results = [step(stepper, actions) for actions in random_actions(2, 2, 5)]
    assert [result.first_frame for result in results[:4]] == [[None, None]] * 4
    assert [states, *(r.state for r in results), *(r.first_state for r in results)] == [[None, None]] * 11
    result = results[4]
    assert result.truncated.tolist() == [True, True]
    assert result.terminated.tolist() == [False, False]
    assert result.frame[:, :, 0, 0].tolist() == [[0, 1, 5], [1, 1, 5]]
    assert [frame[:, 0, 0].tolist() for frame in result.first_frame] == [[0, 2, 0], [1, 2, 0]]
    assert stepper.snapshot() == [{"episode": 2, "actions": []}] * 2


@pytest.mark.parametrize("in_processes", [False, True])
def test_each_state_is_that_of_the_frame_it_comes_with(stepper_of, in_processes):
    stepper = stepper_of([ToyWithState, ToyWithState], in_processes, keep_state=True)
    frames, states = stepper.reset()
    results = [step(stepper, actions) for actions in random_actions(2, 2, 5)]
    pairs = [*zip(frames, states), *((f, s) for r in results for f, s in zip(r.frame, r.state))]
    pairs += zip(results[4].first_frame, results[4].first_state)
    assert len(pairs) == 14
    for frame, state in pairs:
        np.testing.assert_array_equal(state, frame[:, 0, 0].astype(np.float32), strict=True)
    assert [result.first_state for result in results[:4]] == [[None, None]] * 4


@pytest.mark.parametrize("in_processes", [False, True])
def test_results_stay_as_they_are_and_actions_may_be_overwritten(stepper_of, in_processes):
    stepper = stepper_of([ToyWithState], in_processes, keep_state=True)
    first_frames, first_states = stepper.reset()
    actions = np.ones((1, 2), np.float32)
    stepper.send(actions)
    actions[:] = 9
    result = stepper.receive()
    assert result.reward.tolist() == [2.0]
    arrays = [*first_frames, *first_states, *result[:4], *result.state]
    kept = [array.copy() for array in arrays]
    for _ in range(7):
        step(stepper, actions)
    np.testing.assert_equal(arrays, kept)


@pytest.mark.parametrize("in_processes", [False, True])
@pytest.mark.parametrize("then", ["reset", "restore"])
def test_an_unanswered_action_is_dropped_by_a_new_start(stepper_of, in_processes, then):
    stepper = stepper_of(toys(None), in_processes)
    stepper.reset()
    actions = np.zeros((1, 2), np.float32)
    start = stepper.snapshot()
    stepper.send(actions)
    if then == "reset":
        stepper.reset()
    else:
        stepper.restore(start)
    results = [step(stepper, actions) for _ in range(5)]
    assert [result.frame[0, 2, 0, 0] for result in results] == [1, 2, 3, 4, 5]
    assert [result.first_frame[0] is None for result in results] == [True, True, True, True, False]


@pytest.mark.parametrize("in_processes", [False, True])
def test_calls_in_the_wrong_order_are_refused(stepper_of, in_processes):
    stepper = stepper_of(toys(None), in_processes)
    stepper.reset()
    with pytest.raises(RuntimeError, match="call send"):
        stepper.receive()
    stepper.send(np.zeros((1, 2), np.float32))
    with pytest.raises(RuntimeError, match="call receive"):
        stepper.send(np.zeros((1, 2), np.float32))


@pytest.mark.parametrize("in_processes", [False, True])
def test_what_the_environments_have_in_common_is_told_and_must_be_in_common(stepper_of, in_processes):
    assert stepper_of(toys(None), in_processes).env_info == EnvInfo((3, 4, 4), "uint8", 2, 5)
    with pytest.raises(ValueError, match="must be alike"):
        stepper_of([Toy, LongerToy], in_processes)
    assert len(multiprocessing.active_children()) == in_processes


def test_the_kind_of_stepper_is_chosen(stepper_of):
    assert isinstance(stepper_of(toys(None), False), SerialStepper)
    assert isinstance(stepper_of(toys(None), True), ProcessStepper)


# At the same time.


def test_send_returns_before_the_step_is_done(stepper_of, tmp_path):
    stepper = stepper_of(toys(functools.partial(wait_for, tmp_path / "go")))
    stepper.reset()
    stepper.send(np.zeros((1, 2), np.float32))
    (tmp_path / "go").touch()  # Had send waited for the step, this would never be reached.
    assert stepper.receive().frame[0, 2, 0, 0] == 1


def test_environments_step_at_the_same_time(stepper_of, tmp_path):
    stepper = stepper_of(toys(*(functools.partial(meet, tmp_path, *names) for names in ("ab", "ba"))))
    stepper.reset()
    step(stepper, np.zeros((2, 2), np.float32))


def test_the_slowest_environments_seconds_are_counted_and_what_the_caller_waited(stepper_of):
    stepper = stepper_of(toys(functools.partial(dawdle, 0.02), functools.partial(dawdle, 0.2)))
    stepper.reset()
    stepper.send(np.zeros((2, 2), np.float32))
    time.sleep(0.1)
    stepper.receive()
    assert stepper.seconds["env"] >= 0.2
    assert stepper.seconds["render"] == 0
    assert 0 < stepper.seconds["wait"] < stepper.seconds["env"]


def test_in_one_process_all_seconds_add_up_and_are_waited():
    stepper = SerialStepper([Toy(trouble=functools.partial(dawdle, seconds)) for seconds in (0.02, 0.03)])
    stepper.reset()
    step(stepper, np.zeros((2, 2), np.float32))
    assert 0.05 <= stepper.seconds["env"] < 0.2
    assert stepper.seconds["wait"] == stepper.seconds["env"] + stepper.seconds["render"]


def test_rendering_is_told_apart_from_simulating(gl, stepper_of):
    stepper = stepper_of(cheetahs("pixels", 1, 1))
    stepper.reset()
    step(stepper, np.zeros((1, 6), np.float32))
    assert all(stepper.seconds[name] > 0 for name in ("env", "render", "wait"))


# What goes wrong.


@pytest.mark.parametrize(
    ("said", "success"),
    [
        ({}, None),
        ({"is_success": np.float32(1)}, True),
        ({"success": True}, True),
        ({"success": np.bool_(False)}, False),
        ({"success": 0.0}, False),
        ({"success": "door opened"}, None),
        ({"success": np.ones(2)}, None),
        ({"is_success": False, "success": True}, False),
    ],
)
def test_success_has_one_of_two_names(said, success):
    assert success_of(said) is success


def test_a_users_mistake_arrives_as_its_one_line(stepper_of):
    with pytest.raises(UserError, match="^domain is cheeta, did you mean cheetah\\?$"):
        stepper_of([Toy, refused])
    assert multiprocessing.active_children() == []


def test_a_users_mistake_in_a_step_arrives_as_its_one_line(stepper_of):
    stepper = stepper_of(toys(None, refuse))
    stepper.reset()
    with pytest.raises(UserError, match="^camera_id is 9, but there are two$"):
        step(stepper, np.zeros((2, 2), np.float32))


def test_an_error_while_building_arrives_with_its_traceback(stepper_of):
    with pytest.raises(RuntimeError, match="(?s)environment 1 failed.*in broken.*LookupError: no such model"):
        stepper_of([Toy, broken])
    assert multiprocessing.active_children() == []


def test_a_recipe_that_cannot_travel_is_refused(stepper_of):
    with pytest.raises(Exception, match="(?i)pickle"):
        stepper_of([Toy, lambda: Toy()])
    assert multiprocessing.active_children() == []


def test_a_process_that_dies_while_building_is_reported(stepper_of):
    with pytest.raises(UserError, match="environment 1 lost its process to SIGKILL .* while it was built"):
        stepper_of([Toy, killed])
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("in_processes", [False, True])
def test_a_users_mistake_in_a_step_ends_all_and_the_episodes_can_still_be_kept(stepper_of, in_processes):
    stepper, resumed = (stepper_of(toys(None, trouble), in_processes) for trouble in (refuse_second, None))
    stepper.reset()
    actions = np.ones((2, 2), np.float32)
    step(stepper, actions)
    with pytest.raises(UserError, match="^camera_id is 9, but there are two$"):
        step(stepper, actions)
    if in_processes:
        with pytest.raises(RuntimeError, match="closed"):
            stepper.reset()
    resumed.restore(stepper.snapshot())
    assert step(resumed, actions).frame[:, 2, 0, 0].tolist() == [2, 2]


def test_a_process_that_was_killed_between_steps_is_replaced(stepper_of):
    stepper = stepper_of(toys(None, None))
    stepper.reset()
    (victim,) = (child for child in multiprocessing.active_children() if child.name == "environment 1")
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    result = step(stepper, np.zeros((2, 2), np.float32))
    assert result.lost == {1}
    assert result.frame[:, 2, 0, 0].tolist() == [1, 0]


# What is left behind: nothing.


@linux_only
def test_memory_has_no_name_that_could_be_left_behind(stepper_of):
    stepper_of(toys(None, None)).reset()
    (mine,) = [line for line in Path("/proc/self/maps").read_text().splitlines() if "/psm_" in line]
    assert mine.endswith("(deleted)")


@linux_only
def test_memory_is_freed_where_the_start_is_interrupted_after_it_was_made(monkeypatch):
    named = []

    def receive(children):
        if children._block is None:
            return original(children)
        named.append(Path("/dev/shm") / children._block.name)
        assert named[0].exists()
        raise KeyboardInterrupt

    original = process._Children.receive
    monkeypatch.setattr(process._Children, "receive", receive)
    with pytest.raises(KeyboardInterrupt):
        ProcessStepper(toys(None, None))
    assert multiprocessing.active_children() == []
    assert not named[0].exists()


@pytest.mark.parametrize("ending", ["close", "forget"])
def test_no_process_outlives_a_stepper(ending):
    stepper = ProcessStepper(toys(None, None))
    stepper.reset()
    children = multiprocessing.active_children()
    assert len(children) == 2
    if ending == "close":
        stepper.close()
        stepper.close()
    else:
        del stepper
        gc.collect()
    assert multiprocessing.active_children() == []
    assert [child.exitcode for child in children] == [0, 0]


def test_a_process_in_a_step_is_waited_for_when_it_is_closed_and_then_killed(monkeypatch, tmp_path):
    monkeypatch.setattr("sacae.envs.process.END_SECONDS", 0.2)
    stepper = ProcessStepper(toys(functools.partial(wait_for, tmp_path / "go")))
    stepper.reset()
    stepper.send(np.zeros((1, 2), np.float32))
    (child,) = multiprocessing.active_children()
    stepper.close()
    assert child.exitcode == -signal.SIGKILL


def test_the_environments_processes_do_without_torch(stepper_of):
    arguments = {"domain_name": "cheetah", "task_name": "run", **CHEETAH["state"]}
    stepper_of([functools.partial(without_torch, **arguments)])


@pytest.fixture
def script():
    """Runs code with the definitions of this file in a Python process, in a group of its own."""
    started = []

    def run(code):
        started.append(in_own_group(sys.executable, "-c", f"from tests.envs.test_stepping import *\n{code}"))
        return started[-1]

    yield run
    for parent in started:
        parent.kill()
        parent.communicate()


START = """
stepper = ProcessStepper(toys(None, None))
stepper.reset()
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
"""
STEP = "step(stepper, np.zeros((2, 2), np.float32))"


@pytest.mark.parametrize("end", ["stepper.close()", "", "raise SystemExit(0)", "stepper.send(np.ones((2, 2)))"])
def test_the_interpreter_ends_without_noise_whether_or_not_it_is_closed(script, end):
    parent = script(f"{START}{STEP}\n{end}")
    _, errors = parent.communicate(timeout=PATIENCE)
    assert (parent.returncode, errors) == (0, "")


def test_the_interpreter_ends_without_noise_after_a_failure(script):
    parent = script("try: ProcessStepper([Toy, broken])\nexcept RuntimeError: pass")
    _, errors = parent.communicate(timeout=PATIENCE)
    assert (parent.returncode, errors) == (0, "")


@linux_only
def test_nothing_outlives_a_parent_that_is_killed(script):
    parent = script(f"{START}\ntime.sleep({PATIENCE})")
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.kill()
    _, errors = parent.communicate(timeout=PATIENCE)  # The children hold the other ends too: all have ended.
    assert errors == ""
    deadline = time.monotonic() + PATIENCE
    while any(runs(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(runs(pid) for pid in pids)


def runs(pid):
    """Whether there is such a process, and it is not only waiting to be noticed by its parent."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_the_whole_group_are_left_to_the_parent(script, number):
    parent = script(
        f"caught = []\nsignal.signal({int(number)}, lambda *_: caught.append(1))\n{START}"
        f"while not caught: time.sleep(0.01)\n{STEP}\nprint(len(multiprocessing.active_children()))\nstepper.close()"
    )
    assert len(parent.stdout.readline().split()) == 2
    os.killpg(parent.pid, number)
    assert parent.communicate(timeout=PATIENCE) == ("2\n", "")
    assert parent.returncode == 0


def test_signals_while_the_processes_start_are_left_to_the_parent(script):
    parent = script(
        f"caught = []\nsignal.signal(signal.SIGINT, lambda *_: caught.append(1))\nprint(flush=True)\n{START}"
        f"{STEP}\nprint(len(caught) > 10)\nstepper.close()"
    )
    parent.stdout.readline()
    while not select.select([parent.stdout], [], [], 0.01)[0]:
        os.killpg(parent.pid, signal.SIGINT)
    said, errors = parent.communicate(timeout=PATIENCE)
    assert (said.splitlines()[-1], errors, parent.returncode) == ("True", "", 0)


def test_ctrl_c_while_environments_are_built_ends_all_at_once(script, tmp_path):
    building = f"functools.partial(meet, Path({str(tmp_path)!r}), 'building', 'never', 0)"
    parent = script(
        f"process.END_SECONDS = {10 * PATIENCE}\n"  # So that it is not this which ends them.
        f"try: ProcessStepper([Toy, {building}])\nexcept KeyboardInterrupt: print(multiprocessing.active_children())"
    )
    wait_for(tmp_path / "building", 0)
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.communicate(timeout=PATIENCE) == ("[]\n", "")
