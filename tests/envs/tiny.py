"""Tiny environments, registered by the import of this module: `--env tests.envs.tiny:Name-v0`, in any process.

And how tests play an environment.
"""

import gymnasium
import numpy as np
from gymnasium import spaces

SIZE = 48
LIMIT = 7

ACTIONS = {
    "discrete": spaces.Discrete(3),
    "shifted": spaces.Discrete(3, start=-1),
    "several": spaces.MultiDiscrete([[3, 3], [3, 3]], start=[[0, 0], [5, 5]]),
    "unequal": spaces.MultiDiscrete([3, 2]),
    "binary": spaces.MultiBinary(2),
    "continuous": spaces.Box(np.array([[0, -3]], np.float32), np.array([[1, 5]], np.float32)),
    "fixed": spaces.Box(np.array([-1, 1], np.float32), np.array([1, 1], np.float32)),
    "unbounded": spaces.Box(-np.inf, np.inf, (2,), np.float32),
}

OBSERVATIONS = {
    "image": spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8),
    "channels first": spaces.Box(0, 255, (3, SIZE, SIZE), np.uint8),
    "large image": spaces.Box(0, 255, (2 * SIZE, 2 * SIZE, 3), np.uint8),
    "dictionary": spaces.Dict({"door": spaces.Discrete(3), "at": spaces.Box(-1, 1, (2, 2), np.float64)}),
    "words": spaces.Sequence(spaces.Discrete(2)),
    "float image": spaces.Box(0, 1, (SIZE, SIZE, 3), np.float32),
    "stacked images": spaces.Box(0, 255, (SIZE, SIZE, 12), np.uint8),
    "grey image": spaces.Box(0, 255, (SIZE, SIZE), np.uint8),
    "camera": spaces.Dict({"arm": spaces.Dict({"camera": spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)})}),
    "pair": spaces.Dict(
        {
            "image": spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8),
            "arm": spaces.Dict({"joints": spaces.Box(-1, 1, (4,), np.float32), "grip": spaces.Discrete(2)}),
        }
    ),
    "two cameras": spaces.Dict(
        {"left": spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8), "right": spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)}
    ),
    "camera and depth": spaces.Dict(
        {
            "camera": spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8),
            "depth": spaces.Box(0, 1, (SIZE, SIZE, 1), np.float32),
        }
    ),
    "camera and mission": spaces.Dict(
        {"camera": spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8), "mission": spaces.Text(8)}
    ),
    "mission": spaces.Dict({"at": spaces.Box(-1, 1, (2,)), "mission": spaces.Text(8)}),
    "matrix": spaces.Box(-1, 1, (SIZE, SIZE), np.float32),
}


class Tiny(gymnasium.Env):
    """What it shows and pays hangs on its random stream and the actions; terminates at random, on average in step 20.

    log: the actions it was given, and the last reset's seed.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, observes="image", acts="discrete", draws=True, ends=True, render_mode=None):
        self.observation_space, self.action_space = OBSERVATIONS[observes], ACTIONS[acts]
        self.draws, self.ends, self.render_mode = draws, ends, render_mode
        self.log, self.episode_seed = [], None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode_seed, self.log = seed, []
        return self._look(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.log.append(action)
        reward = float(self.np_random.normal() + np.sum(action))
        terminated = self.ends and bool(self.np_random.random() < 0.05)
        return self._look(), reward, terminated, False, {}

    def render(self):
        if not self.draws:
            raise RuntimeError("no\ncrayon")
        return np.full((10, 20, 3), (200, 100, 50), np.uint8)

    def _look(self):
        if self.observation_space is OBSERVATIONS["pair"]:
            arm = {"joints": self.np_random.uniform(-1, 1, 4).astype(np.float32), "grip": int(len(self.log) % 2)}
            return {"image": self._picture(), "arm": arm}
        if isinstance(self.observation_space, spaces.Dict):
            return {"door": int(self.np_random.integers(3)), "at": self.np_random.uniform(-1, 1, (2, 2))}
        return self._picture()

    def _picture(self):
        blocks = self.np_random.integers(0, 256, (3, 6, 6)).astype(np.uint8)
        shape = self.observation_space.shape or (SIZE, SIZE, 3)
        if shape[0] == 3:
            return blocks.repeat(SIZE // 6, 1).repeat(SIZE // 6, 2)
        scale = shape[0] // 6
        return blocks.repeat(scale, 1).repeat(scale, 2).transpose(1, 2, 0)


class Drawing(Tiny):
    """Draws (10, 20) pixels. The upper half hangs on the actions, the lower is black; `drawn` counts the frames."""

    drawn = 0

    def render(self):
        self.drawn += 1
        frame = np.zeros((10, 20, 3), np.uint8)
        frame[:5] = 50 + 20 * len(self.log), 255 * (np.sum(self.log[-1:]) > 1), 200
        return frame


class DrawsWrongly(Tiny):
    """Draws what is no RGB image."""

    def __init__(self, frame, **arguments):
        super().__init__(**arguments)
        self.frame = frame

    def render(self):
        return self.frame


class Undrawn(Tiny):
    metadata = {"render_modes": []}


def make_drawing(**arguments):
    return Drawing(**arguments)


def make_without_a_mode():
    return Drawing(observes="dictionary", acts="continuous")


def register(name, creator=Tiny, limit=LIMIT, **settings):
    gymnasium.register(f"{name}-v0", creator, max_episode_steps=limit, kwargs=settings)


register("TinyPixels")
register("TinyPixelsContinuous", acts="continuous")
register("TinyChannelsFirst", observes="channels first")
register("TinyLarge", observes="large image")
register("TinyDictionary", observes="dictionary", acts="continuous")
register("TinyWords", observes="words")
register("TinyOfAFunction", creator=make_drawing, observes="dictionary", acts="continuous")
register("TinyOfAPlainFunction", creator=make_without_a_mode)
register("TinyFixedAction", acts="fixed", observes="dictionary")
register("TinyEndless", observes="dictionary", limit=None, ends=False)
register("TinyUndrawn", Undrawn)
register("TinyHopper", "gymnasium.envs.mujoco.hopper_v5:HopperEnv", width=64, height=64)
register("TinyWithoutCrayon", draws=False)
register("TinyDrawing", Drawing, observes="dictionary", acts="continuous")
register("TinyDrawsFailing", observes="dictionary", draws=False)
register("TinyDrawsNothing", DrawsWrongly, observes="dictionary", frame=None)
register("TinyDrawsFloats", DrawsWrongly, observes="dictionary", frame=np.zeros((8, 8, 3)))
register("TinyPair", Undrawn, observes="pair", acts="continuous")
for name in (
    *("float image", "stacked images", "grey image", "camera", "mission", "matrix"),
    *("two cameras", "camera and depth", "camera and mission"),
):
    register(f"Undrawn{name.title().replace(' ', '')}", Undrawn, observes=name)
register("TinyNeedsMore", size=3)
for kind in ACTIONS:
    register(f"Tiny{kind.capitalize()}", observes="dictionary", acts=kind)


def random_actions(env, count, seed=0):
    """Actions of the environment's space."""
    env.action_space.seed(seed)
    return [env.action_space.sample() for _ in range(count)]


def play(env, actions):
    """What comes of the actions, with a new episode after each end; every array as bytes."""
    seen = []
    for action in actions:
        obs, reward, terminated, truncated, _ = env.step(action)
        seen.append((obs.tobytes(), reward, terminated, truncated))
        if terminated or truncated:
            seen.append(env.reset()[0].tobytes())
    return seen
