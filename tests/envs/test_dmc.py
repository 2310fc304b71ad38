"""The DeepMind Control suite as a Gymnasium environment."""

import dataclasses
import functools
import math
import multiprocessing
import pickle
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sacae import config as configs
from sacae import envs
from sacae.errors import UserError

# The suite's list of these tasks cannot be read here: importing dm_control would settle its rendering too early.
BENCHMARKING = {
    "acrobot": "swingup swingup_sparse",
    "ball_in_cup": "catch",
    "cartpole": "balance balance_sparse swingup swingup_sparse",
    "cheetah": "run",
    "finger": "spin turn_easy turn_hard",
    "fish": "swim upright",
    "hopper": "hop stand",
    "humanoid": "run stand walk",
    "manipulator": "bring_ball",
    "pendulum": "swingup",
    "point_mass": "easy",
    "reacher": "easy hard",
    "swimmer": "swimmer15 swimmer6",
    "walker": "run stand walk",
}
BENCHMARKING_TASKS = [(domain, task) for domain, tasks in BENCHMARKING.items() for task in tasks.split()]

HARMLESS_WARNINGS = ("not having a spec", "minimum value is -infinity", "maximum value is infinity")
"""What check_env says of every environment with states without bounds that is made without gymnasium.make."""


def from_state(name, **arguments):
    return envs.make(*name.split("-"), from_pixels=False, **arguments)


def random_actions(env, count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, *env.action_space.shape)).astype(np.float32)


def raw(name, seed):
    """dm_control's own environment, with the library chosen before."""
    envs.rendering.configure(required=False)
    from dm_control import suite

    return suite.load(*name.split("-"), task_kwargs={"random": seed})


def flat(observation):
    return np.concatenate([np.ravel(entry) for entry in observation.values()]).astype(np.float32)


def check_without_warnings(env, skip_render_check=False):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env, skip_render_check=skip_render_check)
    said = [str(w.message) for w in caught]
    assert [text for text in said if not any(known in text for known in HARMLESS_WARNINGS)] == []


# The Gymnasium contract.


def test_state_observations_keep_the_gymnasium_contract():
    check_without_warnings(from_state("finger-spin", seed=1, frame_skip=2), skip_render_check=True)


def test_pixel_observations_keep_the_gymnasium_contract(gl):
    check_without_warnings(envs.make("cartpole", "swingup", seed=1, frame_skip=8))


@pytest.mark.parametrize("name", ["-".join(names) for names in BENCHMARKING_TASKS])
def test_every_benchmark_task_steps_and_resumes(name):
    env = from_state(name, seed=1)
    assert env.reset()[0] in env.observation_space
    actions = random_actions(env, 8)
    for action in actions[:4]:
        assert env.step(action)[0] in env.observation_space
    assert env.max_episode_steps == 1000
    twin = from_state(name, seed=2)
    twin.restore(env.snapshot())
    for action in actions[4:]:
        assert_same(env.step(action), twin.step(action))


@pytest.mark.parametrize("domain", BENCHMARKING)
def test_every_benchmark_domain_renders_through_its_preset_camera(gl, domain):
    env = from_state(f"{domain}-{BENCHMARKING[domain].split()[0]}", seed=1)
    env.reset()
    assert env.render().std() > 10
    env.close()


def test_the_benchmark_is_the_suites():
    envs.rendering.configure(required=False)
    from dm_control import suite

    assert set(suite.BENCHMARKING) == set(BENCHMARKING_TASKS)


def test_the_state_has_every_entry_of_the_observation_in_order_scalars_included():
    env, theirs = from_state("finger-turn_easy", seed=3), raw("finger-turn_easy", 3)
    np.testing.assert_array_equal(env.reset()[0], flat(theirs.reset().observation))
    for action in random_actions(env, 20):
        np.testing.assert_array_equal(env.step(action)[0], flat(theirs.step(action).observation))
    assert env.observation_space.shape == (12,)


def test_pixels_are_those_of_dm_control_and_contiguous(gl):
    env, theirs = envs.make("cheetah", "run", seed=3), raw("cheetah-run", 3)
    frame, _ = env.reset()
    theirs.reset()
    assert frame.shape == (3, 84, 84)
    assert frame.dtype == np.uint8
    assert frame.flags.c_contiguous
    np.testing.assert_array_equal(frame.transpose(1, 2, 0), theirs.physics.render(84, 84, camera_id=0))


def test_a_frame_stays_as_it_was_when_later_ones_are_rendered(gl):
    env = envs.make("cartpole", "swingup", seed=1, channels_first=False)
    first, _ = env.reset()
    copy = first.copy()
    for action in random_actions(env, 3):
        second = env.step(action)[0]
    assert (second != copy).any()
    np.testing.assert_array_equal(first, copy)


# Actions and rewards.


def test_action_repeat_sums_the_rewards_of_dm_control():
    env, theirs = from_state("reacher-easy", seed=5, frame_skip=4), raw("reacher-easy", 5)
    env.reset()
    theirs.reset()
    total = 0.0
    for action in random_actions(env, 125):
        obs, reward, *_ = env.step(action)
        steps = [theirs.step(action) for _ in range(4)]
        assert reward == sum(step.reward for step in steps)
        np.testing.assert_array_equal(obs, flat(steps[-1].observation))
        total += reward
    assert total > 0


def test_only_the_last_control_step_is_rendered(gl, monkeypatch):
    env = envs.make("cartpole", "swingup", seed=1, frame_skip=8)
    env.reset()
    rendered = []
    render = env.render
    monkeypatch.setattr(env, "render", lambda *size: rendered.append(env._env._step_count) or render(*size))
    env.step(random_actions(env, 1)[0])
    assert rendered == [8]


def test_actions_are_scaled_to_the_tasks_bounds():
    env, theirs = from_state("quadruped-walk", seed=1), raw("quadruped-walk", 1)
    spec = theirs.action_spec()
    assert (spec.maximum != 1).any()
    env.reset()
    for action, expected in ((-1, spec.minimum), (1, spec.maximum), (0, (spec.minimum + spec.maximum) / 2)):
        env.step(np.full(env.action_space.shape, action, np.float32))
        np.testing.assert_allclose(env._env.physics.data.ctrl, expected, atol=1e-15)
    assert env.action_space == gymnasium.spaces.Box(-1, 1, spec.shape, np.float32)


def test_actions_without_bounds_are_passed_on():
    env = from_state("lqr-lqr_2_1", seed=1)
    env.reset()
    env.step(np.array([0.25], np.float32))
    assert env._env.physics.data.ctrl == 0.25


def test_an_action_of_another_shape_is_refused():
    env = from_state("cheetah-run", seed=1)
    env.reset()
    with pytest.raises(gymnasium.error.InvalidAction, match=r"\(6,\).*\(1,\)"):
        env.step(np.zeros(1))


# The end of an episode.


@pytest.mark.parametrize(("frame_skip", "length"), [(4, 250), (3, 334)])
def test_a_time_limit_truncates_after_1000_control_steps(frame_skip, length):
    env = from_state("cheetah-run", seed=1, frame_skip=frame_skip)
    env.reset()
    ends = [env.step(action)[2:4] for action in random_actions(env, length)]
    assert ends == [(False, False)] * (length - 1) + [(False, True)]
    assert env._env._step_count == 1000
    assert env.max_episode_steps == length


def test_the_tasks_own_end_terminates():
    env = from_state("lqr-lqr_2_1", seed=1)
    env.reset()
    assert env.max_episode_steps is None
    assert env.step(np.zeros(1))[2:4] == (False, False)
    # LQR ends at rest in the origin, where no cost can follow.
    with env._env.physics.reset_context():
        env._env.physics.data.qpos[:] = 0
    *_, terminated, truncated, info = env.step(np.zeros(1))
    assert (terminated, truncated, info["discount"]) == (True, False, 0.0)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(1))


def test_a_step_needs_a_running_episode():
    env = from_state("cartpole-swingup", seed=1, frame_skip=8, task_kwargs={"time_limit": 0.1})
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(1))
    env.reset()
    assert env.max_episode_steps == 2
    env.step(np.zeros(1))
    assert env.step(np.zeros(1))[3]
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(1))


# Random numbers.


def test_a_reset_with_a_seed_does_not_depend_on_what_was_before():
    env, other = from_state("reacher-easy", seed=1), from_state("reacher-easy", seed=2)
    for _ in range(3):
        env.reset()
    np.testing.assert_array_equal(env.reset(seed=7)[0], other.reset(seed=7)[0])
    np.testing.assert_array_equal(env.reset()[0], other.reset()[0])
    assert (env.reset(seed=7)[0] != other.reset(seed=8)[0]).any()


def test_a_seed_may_be_a_number_of_numpy():
    of_python, of_numpy = from_state("reacher-easy", seed=1), from_state("reacher-easy", seed=np.int64(1))
    np.testing.assert_array_equal(of_python.reset()[0], of_numpy.reset()[0])
    np.testing.assert_array_equal(of_python.reset(seed=5)[0], of_numpy.reset(seed=np.uint32(5))[0])


def test_a_reset_without_a_seed_continues_the_random_stream():
    env, same, theirs = from_state("reacher-easy", seed=1), from_state("reacher-easy", seed=1), raw("reacher-easy", 1)
    episodes = [env.reset()[0] for _ in range(3)]
    np.testing.assert_array_equal(episodes, [same.reset()[0] for _ in range(3)])
    np.testing.assert_array_equal(episodes, [flat(theirs.reset().observation) for _ in range(3)])
    assert (episodes[0] != episodes[1]).any()


def test_environments_without_a_seed_differ():
    assert (from_state("reacher-easy").reset()[0] != from_state("reacher-easy").reset()[0]).any()


# Going on later.


def assert_same(ours, theirs):
    np.testing.assert_array_equal(ours[0], theirs[0])
    assert ours[1:4] == theirs[1:4]


CONTROL_TIMESTEP = {
    "reacher-easy": 0.02,
    "finger-turn_hard": 0.02,
    "ball_in_cup-catch": 0.02,
    "cartpole-swingup": 0.01,
    "lqr-lqr_6_2": 0.03,
    "quadruped-fetch": 0.02,
}


@pytest.mark.parametrize("name", CONTROL_TIMESTEP)
@pytest.mark.parametrize("steps_before", [0, 7, 20])
def test_a_restored_environment_goes_on_bit_identically(name, steps_before):
    arguments = {"frame_skip": 2, "task_kwargs": {"time_limit": 40 * CONTROL_TIMESTEP[name]}}
    env, restored = from_state(name, seed=1, **arguments), from_state(name, seed=2, **arguments)
    assert env.max_episode_steps == 20
    restored.reset(seed=3)
    restored.step(random_actions(restored, 1)[0])
    env.reset()
    env.reset()  # An episode in the middle of the random stream.
    actions = random_actions(env, 60)
    for action in actions[:steps_before]:
        env.step(action)
    assert env._running == (steps_before < 20)
    restored.restore(env.snapshot())
    for action in actions[steps_before:]:
        if not env._running:
            np.testing.assert_array_equal(env.reset()[0], restored.reset()[0])
        assert_same(env.step(action), restored.step(action))
        np.testing.assert_array_equal(env.physics_state(), restored.physics_state())
    assert env.snapshot() == restored.snapshot()


def test_an_environment_restored_before_its_first_episode_starts_the_same_one():
    env, restored = from_state("reacher-easy", seed=1), from_state("reacher-easy", seed=1)
    snapshot = env.snapshot()
    restored.reset()
    restored.restore(snapshot)
    with pytest.raises(gymnasium.error.ResetNeeded):
        restored.step(np.zeros(2))
    np.testing.assert_array_equal(env.reset()[0], restored.reset()[0])


def test_restoring_renders_nothing_and_later_frames_are_the_same(gl):
    env, restored = (envs.make("ball_in_cup", "catch", seed=seed, visualize_reward=True) for seed in (1, 2))
    env.reset()
    actions = random_actions(env, 4)
    for action in actions[:3]:
        env.step(action)
    restored.restore(env.snapshot())
    assert restored.render_seconds == 0
    assert_same(env.step(actions[3]), restored.step(actions[3]))
    assert restored.render_seconds > 0


def test_a_snapshot_is_kept_by_the_safe_loader(tmp_path):
    import torch  # Here, so that spawned processes start sooner.

    env = from_state("reacher-easy", seed=1)
    env.reset()
    env.step(random_actions(env, 1)[0])
    snapshot = env.snapshot()
    torch.save(snapshot, tmp_path / "snapshot.pt")
    assert torch.load(tmp_path / "snapshot.pt", weights_only=True) == snapshot


def test_a_snapshot_does_not_change_as_its_episode_goes_on():
    env = from_state("reacher-easy", seed=1)
    env.reset()
    snapshot = env.snapshot()
    copy = pickle.loads(pickle.dumps(snapshot))
    env.step(random_actions(env, 1)[0])
    env.reset()
    assert snapshot == copy


def test_coordinates_are_the_physical_state_by_name_and_the_turning_of_hinges_without_limits():
    env = from_state("cartpole-swingup", seed=1)
    env.reset()
    coordinates = env.physics_coordinates()
    assert [*coordinates] == [
        *("qpos slider", "qpos hinge_1", "qvel slider", "qvel hinge_1", "sin hinge_1", "cos hinge_1")
    ]
    angle = env.physics_state()[1]
    np.testing.assert_array_equal([*coordinates.values()][:4], env.physics_state())
    np.testing.assert_allclose([*coordinates.values()][4:], [np.sin(angle), np.cos(angle)])


def test_joints_of_several_entries_are_numbered_and_activations_named():
    env = from_state("quadruped-walk", seed=1)
    env.reset()
    names = [*env.physics_coordinates()]
    assert len(names) == len(env.physics_state()) == 57
    assert [name for name in names if "root" in name] == [
        *(f"qpos root[{i}]" for i in range(7)),
        *(f"qvel root[{i}]" for i in range(6)),
    ]
    assert names[-12] == "act yaw_front_left"


def test_the_physical_state_is_float64_positions_and_velocities():
    env = from_state("cheetah-run", seed=1)
    env.reset()
    data = env._env.physics.data
    state = env.physics_state()
    assert state.dtype == np.float64
    np.testing.assert_array_equal(state, np.concatenate([data.qpos, data.qvel]))
    before = state.copy()
    env.step(np.ones(6))
    np.testing.assert_array_equal(state, before)


# Rendering.


@pytest.mark.parametrize(("height", "width"), [(84, 84), (48, 100), (480, 640), (1024, 1024), (100, 700)])
def test_render_gives_any_size(gl, height, width):
    env = from_state("cartpole-swingup", seed=1)
    env.reset()
    image = env.render(height, width)
    assert image.shape == (height, width, 3)
    assert image.dtype == np.uint8
    assert image[: height // 2].std() > 5
    assert image[height // 2 :].std() > 5


def test_a_large_render_does_not_change_the_observed_frames(gl):
    env = envs.make("cartpole", "swingup", seed=1)
    frame, _ = env.reset()
    env.render(1024, 1024)
    np.testing.assert_array_equal(env.render().transpose(2, 0, 1), frame)


def test_the_camera_is_the_domains_preset_unless_given(gl):
    env = from_state("quadruped-walk", seed=1)
    env.reset()
    np.testing.assert_array_equal(env.render(), env.render(camera_id=2))
    assert (env.render() != env.render(camera_id=0)).any()
    chosen = from_state("quadruped-walk", seed=1, camera_id=0)
    chosen.reset()
    np.testing.assert_array_equal(chosen.render(), env.render(camera_id=0))


def test_render_fps_is_real_time():
    assert from_state("cheetah-run", frame_skip=4).metadata["render_fps"] == pytest.approx(25)
    assert from_state("cartpole-swingup", frame_skip=8).metadata["render_fps"] == pytest.approx(12.5)


@pytest.mark.parametrize("name", ["walker-walk", "reacher-easy"])
def test_fast_rendering_hardly_changes_the_pixels(gl, name):
    frames = {}
    for quality in ("exact", "fast"):
        env = envs.make(*name.split("-"), seed=1, frame_skip=4, render_quality=quality)
        first, _ = env.reset()
        frames[quality] = np.stack([first, *(env.step(action)[0] for action in random_actions(env, 2))]).astype(float)
        env.close()
    change = np.abs(frames["fast"] - frames["exact"]).mean()
    assert 0 < change < 0.05


def test_fast_rendering_outlives_a_reloaded_model(gl):
    env = envs.make("cartpole", "swingup", seed=1, render_quality="fast")
    env.reset()
    physics = env._env.physics
    frame = env.render()
    state = physics.get_state()
    physics._reload_from_model(type(physics.model)(raw("cartpole-swingup", 1).physics.model.ptr))
    with physics.reset_context():
        physics.set_state(state)
    assert physics.model.vis.quality.shadowsize == 2048
    np.testing.assert_array_equal(env.render(), frame)
    assert physics.model.vis.quality.shadowsize == 512


def test_several_environments_render_side_by_side(gl):
    alone = envs.make("reacher", "easy", seed=1)
    expected, _ = alone.reset()
    alone.close()
    both = [envs.make("cheetah", "run", seed=1), envs.make("reacher", "easy", seed=1)]
    np.testing.assert_array_equal([env.reset()[0] for env in both][1], expected)
    both[0].close()
    np.testing.assert_array_equal(both[1].render().transpose(2, 0, 1), expected)


def _first_frame(recipe):
    return recipe().reset()[0]


def test_a_spawned_process_builds_the_environment_from_its_recipe(gl):
    recipe = functools.partial(envs.make, "cheetah", "run", seed=1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(_first_frame, (recipe,)), recipe().reset()[0])


# What a user may get wrong.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"domain_name": "cheeta"}, "domain is cheeta.*did you mean cheetah"),
        ({"domain_name": "xyzq"}, "domain is xyzq.*it has acrobot, .*walker"),
        ({"domain_name": "walker", "task_name": "wolk"}, "task is wolk, but walker has stand, walk, run.*mean walk"),
        ({"frame_skip": 0}, "frame_skip is 0, but it must be a whole number, at least 1"),
        ({"height": 0}, "height is 0"),
        ({"width": "84"}, "width is '84'"),
        ({"seed": 1.5}, "seed is 1.5, but it must be a whole number"),
        ({"camera_id": "side"}, "camera_id is 'side', but cheetah has the cameras"),
        ({"domain_name": None}, "domain is None, which is not in the DeepMind Control suite"),
        ({"render_quality": ["fast"]}, "render_quality is .'fast'., but it must be one of exact, fast"),
        ({"task_kwargs": ["time_limit=5"]}, "task_kwargs is .*, but it must be a dictionary .*; change --task-kwargs"),
        ({"task_kwargs": {1: 5}}, "task_kwargs is {1: 5}, but it must be a dictionary of arguments by name"),
        ({"task_kwargs": {"time_limit": True}}, "task_kwargs has time_limit=True, but it must be a number of seconds"),
        ({"seed": 5, "task_kwargs": {"random": 1}}, "task_kwargs has random, but the seed of a task is set by --seed"),
        ({"task_kwargs": {"n_sub_steps": 2}}, "n_sub_steps, which is one of the environment_kwargs; give it there"),
        ({"environment_kwargs": {"time_limit": 2}}, "time_limit, which is one of the task_kwargs; give it there"),
        ({"environment_kwargs": {"random": 2}}, "environment_kwargs has random, but the seed of a task is set by"),
        (
            {"environment_kwargs": {"foo": 1}},
            "environment_kwargs has foo, but cheetah_run takes no such argument; it takes control_timestep, flat_obs",
        ),
        ({"environment_kwargs": {"physics": 1}}, "environment_kwargs has physics, but cheetah_run takes no such"),
        ({"environment_kwargs": {"n_sub_steps": 0}}, "but cheetah_run cannot be made with them: ZeroDivisionError"),
        (
            {"domain_name": "walker", "task_name": "walk", "environment_kwargs": {"control_timestep": 0.05}},
            "walker_walk cannot be made with them: TypeError: .* multiple values .*'control_timestep'.*; change them",
        ),
        ({"seed": -1}, "seed is -1, but it must be a whole number from 0 to 4294967295"),
        ({"camera_id": 9}, "camera_id is 9, but cheetah has the cameras 0 to 1"),
        ({"render_quality": "best"}, "render_quality is best, but it must be one of exact, fast"),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(arguments, message):
    with pytest.raises(UserError, match=message) as error:
        envs.make(**({"domain_name": "cheetah", "task_name": "run", "from_pixels": False} | arguments))
    assert "\n" not in str(error.value)


def test_numbers_of_numpy_are_numbers():
    env = from_state(
        "cartpole-swingup",
        seed=np.int64(1),
        frame_skip=np.int32(2),
        task_kwargs={"time_limit": np.float32(2)},
        visualize_reward=np.True_,
    )
    assert env.max_episode_steps == 100


def test_a_camera_that_is_not_there_is_refused_at_render(gl):
    env = from_state("cheetah-run", seed=1)
    env.reset()
    with pytest.raises(UserError, match="camera_id is 5"):
        env.render(camera_id=5)


def test_the_state_beside_the_pixels_is_what_is_observed_from_state(gl):
    seen = envs.make("walker", "walk", seed=4, height=24, width=24, frame_skip=2, task_kwargs={"time_limit": 0.2})
    told = from_state("walker-walk", seed=4, frame_skip=2, task_kwargs={"time_limit": 0.2})
    assert seen.state_space == told.state_space == told.observation_space
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        seen.state()
    resumed = envs.make("walker", "walk", seed=9, height=24, width=24, frame_skip=2, task_kwargs={"time_limit": 0.2})
    seen.reset()
    states = [told.reset()[0]]
    np.testing.assert_array_equal(seen.state(), states[0], strict=True)
    for action in random_actions(seen, seen.max_episode_steps):
        seen.step(action)
        states.append(told.step(action)[0])
        np.testing.assert_array_equal(seen.state(), states[-1], strict=True)
    assert len({state.tobytes() for state in states}) == len(states)
    resumed.restore(seen.snapshot())
    np.testing.assert_array_equal(resumed.state(), states[-1], strict=True)


# From a run's settings.


def test_settings_from_state_give_the_environment_and_its_spec():
    config = configs.make(domain="walker", task="walk", obs="state")
    spec = envs.spec_of(envs.EnvInfo.of(envs.from_config(config.task, seed=1)), config.task.frame_stack)
    assert (spec.frame_shape, spec.frame_dtype, spec.obs_shape, spec.action_dim) == ((24,), "float32", (24,), 6)


def test_settings_from_pixels_give_the_environment_and_its_spec(gl):
    config = configs.make(domain="cartpole", task="swingup", image_size=64)
    env = envs.from_config(config.task, seed=1)
    spec = envs.spec_of(envs.EnvInfo.of(env), config.task.frame_stack)
    assert (spec.frame_shape, spec.frame_dtype, spec.obs_shape) == ((3, 64, 64), "uint8", (9, 64, 64))
    assert spec.state_dim == 0
    assert envs.spec_of(envs.EnvInfo.of(env, keep_state=True), 3) == dataclasses.replace(spec, state_dim=5)
    assert env.frame_skip == 8


# Arguments of a task.


def test_arguments_of_a_task_reach_it():
    task = configs.make(domain="cartpole", task="swingup", obs="state", task_kwargs=["time_limit=0.2"]).task
    assert envs.from_config(task, 1).max_episode_steps == 20


@pytest.mark.parametrize(
    ("word", "line"),
    [
        (
            "tim_limit=1",
            "task_kwargs has tim_limit, but cartpole_swingup takes .*; did you mean time_limit",
        ),
        ("time_limit=0", "task_kwargs has time_limit=0, but it must be a number of seconds above 0"),
        ("random=1", "task_kwargs has random, but the seed of a task is set by --seed"),
    ],
)
def test_an_argument_that_a_task_does_not_take_is_refused_in_one_line(word, line):
    with pytest.raises(UserError, match=line):
        envs.from_config(configs.make(domain="cartpole", task="swingup", obs="state", task_kwargs=[word]).task, 1)


def test_a_task_without_a_time_limit_gets_one_where_an_agent_trains():
    own = envs.make("lqr", "lqr_2_1", from_pixels=False, seed=1)
    assert own.max_episode_steps is None
    settings = {"domain": "lqr", "task": "lqr_2_1", "obs": "state", "action_repeat": 3}
    env = envs.from_config(configs.make(**settings).task, 1)
    assert env.max_episode_steps == math.ceil(10_000 / 3)
    short = envs.from_config(configs.make(**settings, task_kwargs=["time_limit=0.9"]).task, 1)
    assert short.max_episode_steps == math.ceil(0.9 / own.control_timestep / 3)
