"""Environments that draw with OpenGL in one process leave each other's frames alone."""

import gc
import os
import sys

import gymnasium
import numpy as np
import pytest

from sacae.envs import GymEnv, contexts, make
from sacae.errors import UserError

pytestmark = pytest.mark.usefixtures("gl")


def hopper():
    return GymEnv("tests.envs.tiny:TinyHopper-v0", seed=1, from_pixels=True)


def cheetah():
    return make("cheetah", "run", seed=1)


def frame(env):
    observed, _ = env.reset(seed=1)
    return observed


@pytest.mark.parametrize("closes", [True, False])
@pytest.mark.parametrize("make_env", [hopper, cheetah])
def test_frames_stay_the_same_when_another_environment_goes_away(make_env, closes):
    gone, stays = hopper(), make_env()
    frame(gone)
    before = frame(stays)
    assert before.std() > 0
    if closes:
        gone.close()
        np.testing.assert_array_equal(frame(stays), before)
    del gone
    gc.collect()
    np.testing.assert_array_equal(frame(stays), before)
    stays.close()


def test_environments_of_both_simulators_take_turns_to_draw():
    alone = cheetah()
    expected = frame(alone)
    alone.close()
    alone = hopper()
    expected_hopper = frame(alone)
    alone.close()
    both = cheetah(), hopper()
    for _ in range(2):
        np.testing.assert_array_equal(frame(both[0]), expected)
        np.testing.assert_array_equal(frame(both[1]), expected_hopper)
    for env in both:
        env.close()


@pytest.mark.parametrize("make_env", [hopper, cheetah])
def test_a_forked_process_refuses_to_draw_after_its_parent_has(make_env, monkeypatch):
    env = make_env()
    env.reset()
    monkeypatch.setattr(contexts, "_drawn_by", os.getpid() + 1)
    with pytest.raises(UserError, match='forked.*context="spawn"'):
        env.reset()
    monkeypatch.undo()
    env.close()


def terminate(displays, monkeypatch):
    for module in displays:
        if module.EGL_DISPLAY is not None:
            module.EGL.eglTerminate(module.EGL_DISPLAY)


def close_a_window(displays, monkeypatch):
    """What gymnasium.utils.env_checker.check_env does where there is no display: pygame then draws with EGL."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "offscreen")
    window = gymnasium.make("CartPole-v1", render_mode="human")
    window.reset()
    window.close()


@pytest.mark.parametrize("end", [terminate, close_a_window])
@pytest.mark.parametrize("make_env", [hopper, cheetah])
def test_a_display_that_another_library_has_ended_is_woken(end, make_env, monkeypatch):
    env = make_env()
    expected = frame(env)
    env.close()
    del env
    gc.collect()
    displays = [sys.modules[name] for name in contexts.EGL_USERS if name in sys.modules]
    if not displays:
        pytest.skip("frames are not rendered with EGL")
    end(displays, monkeypatch)
    env = make_env()
    np.testing.assert_array_equal(frame(env), expected)
    env.close()


@pytest.mark.parametrize("closes", [False, True])
def test_frames_go_on_when_a_window_of_pygame_opens_and_closes(closes, monkeypatch):
    """Both take the context away; closing ends the display, and with it all contexts."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "offscreen")
    env = cheetah()
    expected = [frame(env), env.step(env.action_space.sample() * 0 + 1)[0]]
    window = gymnasium.make("CartPole-v1", render_mode="human")
    window.reset()
    if closes:
        window.close()
    for _ in range(2):
        drawn = [frame(env), env.step(env.action_space.sample() * 0 + 1)[0]]
        np.testing.assert_array_equal(drawn, expected)
    assert not np.array_equal(*expected)
    window.close()
    env.close()


@pytest.mark.parametrize("count", [1, 3])
def test_environments_draw_on_after_the_display_was_ended(count, monkeypatch):
    """Without a window of pygame, too: none may draw into another one's context."""
    monkeypatch.delitem(sys.modules, contexts.WINDOWS, raising=False)
    monkeypatch.delitem(sys.modules, contexts.GYMNASIUM, raising=False)
    envs = [make(*task, seed=1) for task in (("cheetah", "run"), ("reacher", "easy"), ("finger", "spin"))[:count]]
    expected = [frame(env) for env in envs]
    displays = [sys.modules[name] for name in contexts.EGL_USERS if name in sys.modules]
    if not displays:
        pytest.skip("frames are not rendered with EGL")
    terminate(displays, monkeypatch)
    for _ in range(2):
        for env, before in zip(envs, expected):
            np.testing.assert_array_equal(frame(env), before)
    for env in envs:
        env.close()


def test_a_task_that_renders_at_each_reset_begins_anew_after_a_window_was_closed(monkeypatch):
    env = make("quadruped", "escape", from_pixels=False, seed=1)
    expected = frame(env)
    close_a_window([], monkeypatch)
    for _ in range(2):
        np.testing.assert_array_equal(frame(env), expected)
    env.close()
