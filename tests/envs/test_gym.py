"""Gymnasium's environments behind the contract of the suite's, from state and from pixels, and Atari games."""

import functools
import importlib.util
import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from PIL import Image

from sacae import config as configs
from sacae import envs
from sacae.envs import DiscretisedEnv, EnvInfo, GymEnv, atari, make_stepper, rendering
from sacae.envs.faults import BadResult
from sacae.errors import UserError, how_to_install
from sacae.training.stacking import StackedEnv
from tests.envs import tiny
from tests.envs.tiny import play, random_actions

TINY = "tests.envs.tiny:Tiny"
UNDRAWN = "tests.envs.tiny:Undrawn"
PONG = "ALE/Pong-v5"


needs_atari = pytest.mark.skipif(
    not all(importlib.util.find_spec(package) for package in ("ale_py", "cv2")),
    reason=how_to_install("atari"),
)
EVERY_KIND = [
    pytest.param("CartPole-v1", {}, id="choices"),
    pytest.param("Pendulum-v1", {"action_repeat": 3}, id="continuous"),
    pytest.param("CartPoleContinuous-v1", {}, id="the package's own"),
    pytest.param("FrozenLake-v1", {}, id="discrete observations"),
    pytest.param(f"{TINY}Dictionary-v0", {}, id="dictionary"),
    pytest.param(f"{TINY}Several-v0", {"action_repeat": 2}, id="several choices"),
    pytest.param(f"{TINY}Pixels-v0", {"from_pixels": True, "image_size": 48}, id="pixels"),
    pytest.param(f"{TINY}Drawing-v0", {"from_pixels": True, "image_size": 48}, id="rendered"),
    pytest.param(PONG, {"from_pixels": True, "action_repeat": 4}, id="pong", marks=needs_atari),
]


def through_json(snapshot):
    return json.loads(json.dumps(snapshot))


def registered(creator, limit=None):
    """The id of an environment that `creator` makes."""
    name = f"Registered{len(gymnasium.registry)}-v0"
    gymnasium.register(name, creator, max_episode_steps=limit)
    return name


# The contract.


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("env_id", "arguments"), EVERY_KIND)
def test_gymnasiums_own_checker_finds_no_fault(env_id, arguments):
    env = GymEnv(env_id, 1, **arguments)
    can_draw = not envs.rendering_problem(env_id)
    check_env(env, skip_render_check=not can_draw)


@pytest.mark.parametrize(
    ("env_id", "arguments", "info"),
    [
        ("CartPole-v1", {}, EnvInfo((4,), "float32", 1, 500, 2)),
        ("Pendulum-v1", {"action_repeat": 3}, EnvInfo((3,), "float32", 1, 67, None)),
        ("CartPoleContinuous-v1", {}, EnvInfo((4,), "float32", 1, 500, None)),
        (f"{TINY}Dictionary-v0", {}, EnvInfo((7,), "float32", 2, 7, None)),
        (f"{TINY}Several-v0", {}, EnvInfo((7,), "float32", 4, 7, 3)),
        (f"{TINY}Pixels-v0", {"from_pixels": True}, EnvInfo((3, 84, 84), "uint8", 1, 7, 3)),
        (f"{TINY}Endless-v0", {"action_repeat": 3}, EnvInfo((7,), "float32", 1, 3334, 3)),
        pytest.param(
            PONG, {"from_pixels": True, "action_repeat": 4}, EnvInfo((1, 84, 84), "uint8", 1, 27_000, 6),
            marks=needs_atari,
        ),
    ],
)  # fmt: skip
def test_what_the_stepper_is_told(env_id, arguments, info):
    assert EnvInfo.of(GymEnv(env_id, 1, **arguments)) == info


def test_what_the_agent_is_told():
    spec = envs.spec_of(EnvInfo.of(GymEnv("CartPole-v1", 1)), 2)
    assert (spec.obs_shape, spec.action_dim, spec.num_actions, spec.action_dtype) == ((8,), 1, 2, "int64")


def test_an_episode_is_gymnasiums_own_with_scaled_actions():
    env, raw = GymEnv("Pendulum-v1", 1), gymnasium.make("Pendulum-v1")
    obs, _ = env.reset(seed=5)
    expected, _ = raw.reset(seed=int(np.random.default_rng(5).integers(2**31 - 1)))
    np.testing.assert_array_equal(obs, expected)
    for action in (1.0, -1.0, 0.25):
        obs, reward, *_ = env.step(np.array([action], np.float32))
        expected, expected_reward, *_ = raw.step(np.array([2 * action], np.float32))
        np.testing.assert_array_equal(obs, expected)
        assert reward == expected_reward


@pytest.mark.parametrize(
    ("kind", "action", "given"),
    [
        ("Discrete", [2], 2),
        ("Shifted", [0], -1),
        ("Several", [0, 1, 2, 0], [[0, 1], [7, 5]]),
        ("Continuous", [-1.0, 0.5], [[0, 3]]),
    ],
)
def test_an_action_reaches_the_environment_in_its_own_terms(kind, action, given):
    env = GymEnv(f"{TINY}{kind}-v0", 1)
    env.reset()
    env.step(np.array(action))
    np.testing.assert_array_equal(env._env.unwrapped.log[0], given)


def test_every_scaled_action_lies_within_the_bounds():
    rng = np.random.default_rng(0)
    low, high = rng.uniform(-3, 0, 1000).astype(np.float32), rng.uniform(0.1, 3, 1000).astype(np.float32)

    class Picky(tiny.Tiny):
        def __init__(self, render_mode=None):
            super().__init__("dictionary", ends=False)
            self.action_space = spaces.Box(low, high)

    env = GymEnv(registered(Picky), 1)
    env.reset()
    for bound in (-1, 1):
        env.step(np.full(1000, bound, np.float32))  # The environment asserts that its space contains it.


def test_a_dictionary_becomes_one_vector():
    env = GymEnv(f"{TINY}Dictionary-v0", 1)
    obs, _ = env.reset()
    raw = gymnasium.make("TinyDictionary-v0")
    entries, _ = raw.reset(seed=env._env.unwrapped.episode_seed)
    expected = [*entries["at"].ravel(), *np.eye(3)[entries["door"]]]
    np.testing.assert_array_equal(obs, np.array(expected, np.float32), strict=True)


@pytest.mark.parametrize("layout", ["Pixels", "ChannelsFirst"])
def test_an_image_comes_with_channels_first(layout):
    env = GymEnv(f"{TINY}{layout}-v0", 1, from_pixels=True, image_size=48)
    obs, _ = env.reset()
    raw = tiny.Tiny("channels first")
    np.testing.assert_array_equal(obs, raw.reset(seed=env._env.unwrapped.episode_seed)[0], strict=True)
    assert obs.flags.c_contiguous


def test_an_image_of_another_size_is_scaled():
    large, small = (GymEnv(f"{TINY}{name}-v0", 1, True, 48) for name in ("Large", "Pixels"))
    np.testing.assert_array_equal(large.reset()[0], small.reset()[0], strict=True)
    assert GymEnv(f"{TINY}Pixels-v0", 1, True, 60).reset()[0].shape == (3, 60, 60)


def test_what_shows_no_image_is_observed_as_it_renders_with_its_proportions():
    env = GymEnv(f"{TINY}Drawing-v0", 1, from_pixels=True, image_size=48)
    obs, _ = env.reset()
    assert (obs[:, 12:24] == np.array([50, 0, 200])[:, None, None]).all()
    assert not obs[:, :12].any()
    assert not obs[:, 24:].any()
    assert obs.flags.c_contiguous
    obs, *_ = env.step(np.array([1.0, 1.0], np.float32))
    assert (obs[:, 12:24] == np.array([70, 255, 200])[:, None, None]).all()
    assert env.render_seconds > 0


def test_only_the_last_frame_of_a_held_action_is_rendered_and_none_when_an_episode_is_repeated():
    env, resumed = (GymEnv(f"{TINY}Drawing-v0", 1, from_pixels=True, action_repeat=3) for _ in range(2))
    drawn = env.original.drawn
    env.reset()
    env.step(np.array([0.0, 0.0], np.float32))
    assert env.original.drawn == drawn + 2
    resumed.restore(env.snapshot())
    assert resumed.original.drawn == drawn


def test_a_frame_that_fails_in_an_episode_is_a_fault_of_the_environment():
    env = GymEnv(f"{TINY}Drawing-v0", 1, from_pixels=True)
    env.reset()
    env.original.render = lambda: None
    with pytest.raises(BadResult, match="a frame that is no array"):
        env.step(np.array([0.0, 0.0], np.float32))


def test_a_matrix_of_floating_point_numbers_is_a_state():
    assert GymEnv(f"{UNDRAWN}Matrix-v0", 1).observation_space.shape == (48 * 48,)


def test_physics_environments_that_take_turns_draw_the_same_frames_as_one_alone(gl):
    def frames(env, between):
        env.reset(seed=5)
        seen = []
        for action in np.linspace(-1, 1, 4, dtype=np.float32):
            between()
            seen.append(env.step(np.full(6, action))[0].tolist())
        return seen

    alone = GymEnv("HalfCheetah-v5", 1, from_pixels=True, image_size=48)
    expected = frames(alone, lambda: None)
    other = GymEnv("Swimmer-v5", 1, from_pixels=True, image_size=48)
    other.reset(seed=1)
    assert frames(alone, lambda: other.step(np.zeros(2, np.float32))) == expected
    other.close()
    alone.close()


def test_an_observation_is_not_overwritten_by_the_next():
    class Reusing(tiny.Tiny):
        canvas = np.zeros((48, 48, 3), np.uint8)

        def _look(self):
            self.canvas[:] = super()._look()
            return self.canvas

    env = GymEnv(registered(Reusing), 1, from_pixels=True, image_size=48)
    first, _ = env.reset()
    kept = first.copy()
    env.step(np.array([0]))
    np.testing.assert_array_equal(first, kept)


def test_rewards_of_a_held_action_are_summed_until_the_episode_ends():
    one, three = GymEnv("Pendulum-v1", 1), GymEnv("Pendulum-v1", 1, action_repeat=3)
    np.testing.assert_array_equal(one.reset()[0], three.reset()[0])
    action = np.array([0.5], np.float32)
    for _ in range(66):
        obs, reward, terminated, truncated, _ = three.step(action)
        answers = [one.step(action) for _ in range(3)]
        assert reward == sum(answer[1] for answer in answers)
        np.testing.assert_array_equal(obs, answers[-1][0])
    assert not truncated
    obs, reward, terminated, truncated, _ = three.step(action)  # 2 of the 200 steps are left.
    assert reward == one.step(action)[1] + one.step(action)[1]
    assert (terminated, truncated) == (False, True)


def test_a_fall_terminates_and_a_time_limit_truncates():
    env = GymEnv("CartPole-v1", 1)
    env.reset()
    for _ in range(20):
        _, _, terminated, truncated, _ = env.step(np.array([0]))
        if terminated:
            break
    assert (terminated, truncated) == (True, False)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.array([0]))
    endless = GymEnv(f"{TINY}Endless-v0", 1, action_repeat=5_000)
    endless.reset()
    assert [endless.step(np.array([0]))[2:4] for _ in range(2)] == [(False, False), (False, True)]


@pytest.mark.parametrize("action", [[2], [-1], [0.0], 0, [0, 0]])
def test_a_choice_that_there_is_not_is_refused(action):
    env = GymEnv("CartPole-v1", 1)
    env.reset()
    with pytest.raises(gymnasium.error.InvalidAction):
        env.step(np.array(action))


# Seeds and going on later.


def test_the_seed_decides_the_episodes():
    first, same, other = (GymEnv("CartPole-v1", seed) for seed in (1, 1, 2))
    episodes = [[env.reset()[0].tolist() for _ in range(3)] for env in (first, same, other)]
    assert episodes[0] == episodes[1] != episodes[2]
    assert episodes[0][0] != episodes[0][1] != episodes[0][2]


def test_a_seed_may_be_a_number_of_numpy():
    number = np.int64(3)
    of_python, of_numpy = (DiscretisedEnv(GymEnv("Pendulum-v1", seed), 3) for seed in (3, number))
    for seeds in ((None, None), (3, number)):
        frames = [env.reset(seed=seed)[0] for env, seed in zip((of_python, of_numpy), seeds)]
        np.testing.assert_array_equal(*frames)
    first, same = (StackedEnv(env, 2).reset(seed=seed)[0] for env, seed in ((of_python, 5), (of_numpy, np.uint32(5))))
    np.testing.assert_array_equal(first, same)


@pytest.mark.parametrize("seed", [-1, 1.5, "3"])
def test_what_is_no_seed_is_refused_in_one_line(seed):
    env = GymEnv("CartPole-v1", 1)
    for take in (functools.partial(GymEnv, "CartPole-v1"), lambda seed: env.reset(seed=seed)):
        with pytest.raises(UserError, match=f"seed is {seed!r}, but it must be 0 or more, and a whole number"):
            take(seed)


@pytest.mark.parametrize(("env_id", "arguments"), EVERY_KIND)
def test_a_seeded_episode_depends_on_its_seed_alone(env_id, arguments):
    fresh, used = (GymEnv(env_id, seed, **arguments) for seed in (1, 2))
    used.reset()
    actions = random_actions(fresh, 5)
    play(used, actions)
    first, second = (env.reset(seed=11)[0] for env in (fresh, used))
    np.testing.assert_array_equal(first, second)
    assert play(fresh, actions) == play(used, actions)


@pytest.mark.parametrize("steps", [0, 4, 30])
@pytest.mark.parametrize(("env_id", "arguments"), EVERY_KIND)
def test_an_environment_goes_on_where_a_snapshot_was_made(env_id, arguments, steps):
    env, resumed = (GymEnv(env_id, seed, **arguments) for seed in (1, 2))
    env.reset()
    play(env, random_actions(env, steps))
    resumed.restore(through_json(env.snapshot()))
    assert resumed.snapshot() == env.snapshot()
    more = random_actions(env, 60, seed=1)
    assert play(resumed, more) == play(env, more)
    assert resumed.snapshot() == env.snapshot()


def test_a_snapshot_from_before_the_first_episode():
    env, resumed = (GymEnv("CartPole-v1", seed) for seed in (1, 2))
    resumed.restore(through_json(env.snapshot()))
    with pytest.raises(gymnasium.error.ResetNeeded):
        resumed.step(np.array([0]))
    np.testing.assert_array_equal(resumed.reset()[0], env.reset()[0])


def test_a_later_step_does_not_change_a_snapshot():
    env = GymEnv("CartPole-v1", 1)
    env.reset()
    snapshot = env.snapshot()
    before = through_json(snapshot)
    play(env, random_actions(env, 40))
    assert snapshot == before


@pytest.mark.parametrize(
    ("env_id", "discretisation"), [("CartPole-v1", "none"), ("Pendulum-v1", "joint"), (f"{TINY}Pixels-v0", "none")]
)
def test_processes_give_the_same_results_and_go_on_from_each_other(env_id, discretisation):
    obs = {"obs": "pixels", "image_size": 48} if "Pixels" in env_id else {}
    task = configs.make(env=env_id, agent="dqn", discretisation=discretisation, **obs).task
    recipes = [functools.partial(envs.from_config, task, seed) for seed in (1, 2)]
    here, there, resumed = (make_stepper(recipes, in_processes) for in_processes in (False, True, True))
    try:
        assert here.env_info == there.env_info
        (ours, our_states), (theirs, their_states) = here.reset(), there.reset()
        np.testing.assert_array_equal(ours, theirs)
        assert our_states == their_states == [None, None]
        rng = np.random.default_rng(0)
        for step in range(40):
            if step == 13:
                resumed.restore(here.snapshot())
            steppers = [here, there] + ([resumed] if step >= 13 else [])
            actions = rng.integers(here.env_info.num_actions, size=(2, here.env_info.action_dim))
            for stepper in steppers:
                stepper.send(actions)
            expected, *results = [stepper.receive() for stepper in steppers]
            for result in results:
                np.testing.assert_equal(result, expected)
            assert expected.frame.dtype == here.env_info.frame_dtype
    finally:
        for stepper in (here, there, resumed):
            stepper.close()


def test_steppers_take_whole_numbers_only_where_there_are_choices():
    stepper = make_stepper([functools.partial(GymEnv, "CartPole-v1", 1)], in_processes=False)
    stepper.reset()
    with pytest.raises(TypeError, match="same_kind"):
        stepper.send(np.array([[0.9]]))
    stepper.send(np.array([[1]], np.int32))
    stepper.receive()
    assert stepper.snapshot()[0]["actions"][0].dtype == np.int64


def test_neither_torch_nor_mujoco_is_imported_for_one():
    code = (
        "import sys; from sacae import envs; envs.GymEnv('CartPole-v1', 1).reset();"
        "assert not {'torch', 'mujoco', 'dm_control', 'ale_py', 'cv2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Pictures.


def test_a_picture_has_the_size_that_is_asked_for_and_its_own_proportions():
    env = GymEnv(f"{TINY}Pixels-v0", 1, from_pixels=True, action_repeat=2)
    env.reset()
    assert env.metadata["render_fps"] == 5
    assert env.render_seconds == 0
    picture = env.render(64, 64)
    assert env.render_seconds > 0
    assert (picture.shape, picture.dtype) == ((64, 64, 3), np.uint8)
    assert (picture[16:48] == [200, 100, 50]).all()
    assert not picture[:16].any()
    assert not picture[48:].any()
    assert env.render().shape == (10, 20, 3)


def test_whether_there_can_be_a_video_is_known_before():
    assert envs.rendering_problem(f"{TINY}Pixels-v0") == ""
    assert "cannot render" in envs.rendering_problem(f"{TINY}Undrawn-v0")
    assert "cannot be rendered here: no crayon" in envs.rendering_problem(f"{TINY}WithoutCrayon-v0")
    env = GymEnv(f"{TINY}Undrawn-v0", 1, from_pixels=True)
    env.reset()
    with pytest.raises(UserError, match="which cannot render"):
        env.render()


def test_a_physics_environment_draws_itself_with_a_library_that_is_found(gl):
    code = (
        "from sacae import envs; env = envs.GymEnv('InvertedPendulum-v5', 1); env.reset();"
        "assert env.render(64, 64).std() > 5; env.close()"
    )
    clean = {name: value for name, value in os.environ.items() if name not in ("MUJOCO_GL", rendering.RECORD)}
    subprocess.run([sys.executable, "-c", code], env=clean, check=True)


def test_a_physics_environment_is_drawn_by_a_camera_that_goes_with_the_body(gl):
    code = (
        "from sacae import envs; env = envs.GymEnv('Hopper-v5', 1); env.reset(); body = env._env.unwrapped;"
        "brown = lambda: int((lambda i: (i[..., 0] > i[..., 2] + 40).sum())(env.render(84, 84).astype(int)));"
        "start = brown(); body.data.qpos[0] = 15; body.set_state(body.data.qpos, body.data.qvel);"
        "assert start > 50 and brown() > start / 2, (start, brown()); env.close()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("Pendulum-v0",), "env is Pendulum-v0, but no environment Pendulum-v0 is .*; did you mean Pendulum-v1"),
        (("CartPole",), "did you mean CartPole-v1"),
        (("zzzzzz",), "no environment zzzzzz is registered; .* lists all"),
        (("no_such_module:Thing-v0",), "but no_such_module cannot be imported: .*; install it, or put .* PYTHONPATH=."),
        ((".foo:Thing-v0",), "a module's name does not begin with a dot"),
        # Gymnasium sends on to gymnasium-robotics; once another test has imported that, it needs mujoco_py.
        (("HalfCheetah-v3",), "env is HalfCheetah-v3, but it cannot be made here: .*(gymnasium-robotics|mujoco_py)"),
        ((f"{TINY}NeedsMore-v0",), "cannot be made here: .*unexpected keyword argument 'size'"),
        ((f"{UNDRAWN}Matrix-v0", 1, True), r"obs is pixels, but .* shows float32 \(48, 48\), .*; use --obs state"),
        ((f"{UNDRAWN}FloatImage-v0", 1, True), r"shows float32 \(48, 48, 3\), .* not render rgb_array; let .* uint8"),
        ((f"{UNDRAWN}Camera-v0", 1, True), r"shows a Dict space with uint8 \(48, 48, 3\) in entry arm.camera, no"),
        ((f"{TINY}DrawsNothing-v0", 1, True), "renders a frame that is no array, but a NoneType; use --obs state"),
        ((f"{TINY}DrawsFloats-v0", 1, True), r"renders a frame of float64 \(8, 8, 3\), but .* uint8"),
        ((f"{UNDRAWN}FloatImage-v0",), r"float32 \(48, 48, 3\), an image, .* 6,912 raw numbers; .* uint8 from 0"),
        ((f"{UNDRAWN}StackedImages-v0",), r"shows uint8 \(48, 48, 12\), an image, .* 27,648 raw numbers"),
        ((f"{UNDRAWN}GreyImage-v0",), r"shows uint8 \(48, 48\), an image, .* 2,304 raw numbers"),
        ((f"{UNDRAWN}Camera-v0",), r"shows uint8 \(48, 48, 3\) in entry arm.camera, an image,.*; leave arm.camera out"),
        (("tests.envs.tiny:TinyPair-v0", 1, True), "a Dict space with .* entry image, .*; use --obs pixels.state"),
        ((f"{UNDRAWN}Mission-v0",), "a Text space in entry mission, cannot be flattened .*; leave mission out"),
        ((f"{TINY}Pixels-v0",), r"obs is state, but .* shows uint8 \(48, 48, 3\), an image; use --obs pixels"),
        ((f"{TINY}Words-v0",), "a Sequence space, cannot be flattened to a vector"),
        ((f"{TINY}Unequal-v0",), "whose action dimensions have 2, 3 choices; all must have the same number"),
        ((f"{TINY}Binary-v0",), "whose actions are a MultiBinary space; they must be"),
        ((f"{TINY}Unbounded-v0",), "whose actions have no bounds"),
        ((f"{TINY}FixedAction-v0",), "whose actions have the same lower and upper bound in entry 1"),
        (("CartPole-v1", -1), "seed is -1, but it must be 0 or more"),
        (("CartPole-v1", 1, False, 84, 0), "action_repeat is 0, but it must be a whole number, at least 1"),
        (("CartPole-v1", 1, False, 84, 2.0), "action_repeat is 2.0, but it must be a whole number, at least 1"),
        (("CartPole-v1", 1, True, "84"), "image_size is '84', but it must be a whole number, at least 1"),
        ((None, 1), "env is None, but no environment None is registered"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_one_line(arguments, line):
    with pytest.raises(UserError, match=line) as caught:
        GymEnv(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("UndrawnTwoCameras", "shows images in the entries left, right; it must be one .*; leave right out"),
        ("UndrawnCameraAndDepth", r"shows float32 \(48, 48, 1\) in entry depth, an image, .*; leave depth out"),
        ("UndrawnCameraAndMission", "a Text space in entry mission, cannot be flattened .*; leave mission out"),
        ("UndrawnCamera", r"shows an image and nothing beside it; use --obs pixels$"),
        ("UndrawnMatrix", r"shows float32 \(48, 48\); it must be one uint8 image .* beside it; use --obs state"),
        ("UndrawnFloatImage", r"shows float32 \(48, 48, 3\); it must be one uint8 image .*; let it show uint8 from 0"),
        ("TinyPixels", "shows an image and nothing beside it; use --obs pixels$"),
    ],
)
def test_what_is_no_image_with_vectors_is_refused_by_the_name_of_the_entry(name, line):
    with pytest.raises(UserError, match=line) as caught:
        GymEnv(f"tests.envs.tiny:{name}-v0", 1, True, with_state=True)
    assert "\n" not in str(caught.value)
    assert "obs is pixels+state" in str(caught.value) or "mission" in line


def test_an_image_and_the_vectors_beside_it_are_observed_apart():
    env = GymEnv("tests.envs.tiny:TinyPair-v0", 1, True, image_size=48, with_state=True)
    assert EnvInfo.of(env, keep_state=True).state_dim == 6
    looks = []
    look = env.original._look
    env.original._look = lambda: looks.append(look()) or looks[-1]
    image, _ = env.reset(seed=3)
    np.testing.assert_array_equal(image, looks[-1]["image"].transpose(2, 0, 1))
    # Gymnasium sorts keys: the one-hot grip comes before the joints.
    np.testing.assert_array_equal(env.state(), np.array([1, 0, *looks[-1]["arm"]["joints"]], np.float32), strict=True)
    env.step(np.zeros(2, np.float32))
    np.testing.assert_array_equal(env.state(), np.array([0, 1, *looks[-1]["arm"]["joints"]], np.float32), strict=True)


def test_what_renders_shows_its_frame_and_its_vector_beside_it():
    env = GymEnv("tests.envs.tiny:TinyDrawing-v0", 1, True, image_size=48, with_state=True)
    assert env.reset(seed=1)[0].shape == (3, 48, 48)
    expected = GymEnv("tests.envs.tiny:TinyDrawing-v0", 1)
    np.testing.assert_array_equal(env.state(), expected.reset(seed=1)[0])
    action = np.zeros(2, np.float32)
    env.step(action)
    np.testing.assert_array_equal(env.state(), expected.step(action)[0])


@pytest.mark.parametrize(
    ("env_id", "arguments", "line"),
    [
        (
            "Pendulum-v1",
            {"gravity": 1},
            "env_kwargs has gravity, but Pendulum-v1 takes no such argument; it takes g; ",
        ),
        ("Hopper-v5", {"reset_noise": 0}, "Hopper-v5 takes no such argument; did you mean reset_noise_scale"),
        ("Pendulum-v1", {"render_mode": "human"}, "env_kwargs has render_mode, but sacae gives Pendulum-v1 this"),
        ("Pendulum-v1", {"max_episode_steps": 0}, "env_kwargs has max_episode_steps=0, but it must be a whole number"),
        ("Pendulum-v1", {"max_num_frames_per_episode": 0}, "has max_num_frames_per_episode=0, but it must be a whole"),
        ("Pendulum-v1", {"max_episode_steps": True}, "env_kwargs has max_episode_steps=True, but it must be a whole"),
        ("Pendulum-v1", ["g=1"], "env_kwargs is .'g=1'., but it must be a dictionary of arguments by name"),
        ("Hopper-v5", {"camera_id": 1}, "camera_id=1, but Hopper-v5 has the cameras -1, 0; change --env-kwargs"),
        ("Hopper-v5", {"camera_name": "side"}, "camera_name=side, but Hopper-v5 has the cameras track; change"),
    ],
)
def test_an_argument_that_there_is_not_is_refused_in_one_line(env_id, arguments, line):
    with pytest.raises(UserError, match=line):
        GymEnv(env_id, 1, env_kwargs=arguments)


@pytest.mark.parametrize(("line", "named"), [("x = undefined", "NameError"), ("raise SystemExit", "SystemExit")])
def test_a_mistake_in_the_users_module_is_one_line(line, named, tmp_path, monkeypatch):
    (tmp_path / f"of_the_user_{named}.py").write_text(f"{line}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=rf"but of_the_user_{named} cannot be imported: {named}.*{named}.py:1\)"):
        GymEnv(f"of_the_user_{named}:Thing-v0", 1)


def test_a_camera_that_the_user_chooses_is_kept_and_a_frame_can_be_drawn_on(gl):
    env = GymEnv("Hopper-v5", 1, env_kwargs={"camera_id": -1})
    assert env.original.mujoco_renderer.camera_id == -1
    env.reset()
    env.render()[0] = 0
    env.close()


def test_arguments_of_an_environment_and_its_time_limit_reach_it():
    env = envs.from_config(configs.make(env="Pendulum-v1", env_kwargs=["g=1.5", "max_episode_steps=20"]).task, 1)
    assert (env.original.g, env.max_episode_steps) == (1.5, 20)


def test_a_time_limit_may_be_a_number_of_numpy():
    assert GymEnv("Pendulum-v1", 1, env_kwargs={"max_episode_steps": np.int64(5)}).max_episode_steps == 5


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch):
    def create():
        raise gymnasium.error.DependencyNotInstalled('Box2D is not installed, run\n`pip install "gymnasium[box2d]"`')

    with pytest.raises(UserError, match=r"cannot be made here: Box2D is not installed, run `pip install"):
        GymEnv(registered(create), 1)
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(UserError, match=f"Atari games need ale_py, .*{re.escape(how_to_install('atari'))}"):
        GymEnv(PONG, 1, from_pixels=True)


# Atari.


@needs_atari
def test_an_unknown_game_is_refused_with_those_that_are_close():
    with pytest.raises(UserError, match="no environment ALE/Pnog-v5 is registered; did you mean ALE/Pong-v5"):
        GymEnv("ALE/Pnog-v5", 1, from_pixels=True)


@needs_atari
def test_a_game_is_one_grey_image_of_its_last_two_frames():
    env = GymEnv(PONG, 1, from_pixels=True, action_repeat=4)
    env.reset()
    game = env._env.unwrapped
    seen, act = [], game.ale.act

    def noting(*action):
        reward = act(*action)
        seen.append(game.ale.getScreenGrayscale())
        return reward

    game.ale = SimpleNamespace(
        act=noting, **{n: getattr(game.ale, n) for n in dir(game.ale) if n[0] != "_" and n != "act"}
    )
    for _ in range(30):  # until the ball is in play
        obs, *_ = env.step(np.array([2]))
    assert len(seen) == 30 * 4
    import cv2

    expected = cv2.resize(np.maximum(seen[-1], seen[-2]), (84, 84), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(obs[0], expected)


@needs_atari
@pytest.mark.parametrize("noops", [1, 30])
def test_a_game_starts_at_random_and_by_pressing_fire(noops, monkeypatch):
    monkeypatch.setattr(atari, "NOOPS", noops)
    env = GymEnv("ALE/Breakout-v5", 1, from_pixels=True, action_repeat=4)
    frames = set()
    for _ in range(6):
        env.reset()
        frames.add(env._env.unwrapped.ale.getEpisodeFrameNumber())
    assert len(frames) == 1 if noops == 1 else len(frames) > 3
    assert min(frames) >= 1 + 4
    assert max(frames) <= noops + 4


@needs_atari
def test_a_game_goes_on_without_an_agent_that_presses_fire():
    env = GymEnv("ALE/Breakout-v5", 1, from_pixels=True, action_repeat=4)
    env.reset()
    # Without fire the ball does not appear, and no life is lost.
    for _ in range(1000):
        *_, terminated, _, info = env.step(np.array([0]))
        if terminated:
            break
    assert terminated
    assert info["lives"] == 0


@needs_atari
def test_a_game_pays_its_score_and_goes_on_when_a_life_is_lost():
    env = GymEnv("ALE/Qbert-v5", 1, from_pixels=True, action_repeat=4)
    env.reset()
    rewards, lost = set(), 0
    lives = env._env.unwrapped.ale.lives()
    for action in random_actions(env, 1000):
        _, reward, terminated, truncated, _ = env.step(action)
        rewards.add(reward)
        lost = lives - env._env.unwrapped.ale.lives()
        if terminated:
            break
    assert max(rewards) >= 25
    assert lost == lives  # It ended with the last life, not with the first.


@needs_atari
def test_a_game_has_the_size_and_repeat_of_the_settings():
    task = configs.make(env=PONG, image_size=60, action_repeat=2, frame_stack=2).task
    env = envs.from_config(task, 1)
    assert env.metadata["render_fps"] == 30
    assert envs.from_config(configs.make(env=PONG).task, 1).metadata["render_fps"] == 15  # 60 game frames a second
    assert EnvInfo.of(env) == EnvInfo((1, 60, 60), "uint8", 1, 54_000, 6)
    env.reset()
    assert Image.fromarray(env.render(256, 256)).size == (256, 256)


@pytest.mark.parametrize(("name", "mode"), [("OfAFunction", "rgb_array"), ("OfAPlainFunction", None)])
def test_what_a_function_makes_is_asked_to_draw_if_it_takes_a_mode(name, mode):
    env = GymEnv(f"{TINY}{name}-v0", 1)
    assert env.render_mode == mode
    env.reset(seed=1)
    env.close()
