"""The DeepMind Control suite as a Gymnasium environment: pixels or state, action repeat, exact resume."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from sacae.config import CAMERA
from sacae.envs import contexts, rendering, suite
from sacae.envs.arguments import check_whole, named_arguments
from sacae.envs.contract import Action, Frame, Info, Snapshot, State
from sacae.envs.seeds import as_seed
from sacae.envs.spaces import UNBOUNDED
from sacae.errors import UserError
from sacae.limits import LARGEST_SEED

SHADOW_SIZE = {"exact": None, "fast": 512}
"""Texels along an edge of the shadow map, by render quality; None keeps the model's own, 2048 in the whole suite."""

RENDERS_AT_RESET = (("quadruped", "escape"),)
"""Tasks that need a renderer even when observed from state: their reset uploads a random terrain to it."""

HINGE = 3
"""MuJoCo's constant for a joint that rotates about one axis (mjJNT_HINGE)."""


class DMCEnv(gymnasium.Env):
    """A task of the DeepMind Control suite.

    Actions are float32 (A,) in [-1, 1], scaled to the task's bounds; an action without bounds (LQR) is not scaled.
    Observations are one uint8 image, (3, H, W) or with channels last (H, W, 3), or the float32 (D,) state: all entries
    of the task's observation, flattened, in their order.

    An episode is truncated at its time limit. It is terminated only if the task says that no reward can follow (in the
    suite: LQR). `info` holds "discount", the task's own.

    With EGL, use an environment that has rendered only in the thread in which it did. Never carry it over a fork:
    start other processes with spawn or forkserver, and send them the arguments.

    control_timestep: seconds of simulated time in one control step of the task.
    state_space: a Box, float32 (S,), what `state` returns, for image observations too.
    frame_skip: control steps for which each action is held (action repeat); their rewards are summed.
    max_episode_steps: agent steps until the time limit; None where there is none.
    render_seconds: wall-clock seconds spent rendering so far.
    last_info, original: see `Env`.
    """

    metadata = {"render_modes": ["rgb_array"]}
    original = None
    action_space: spaces.Box
    observation_space: spaces.Box
    state_space: spaces.Box
    max_episode_steps: int | None

    def __init__(
        self,
        domain_name: str,
        task_name: str,
        seed: int | None = None,
        from_pixels: bool = True,
        height: int = 84,
        width: int = 84,
        frame_skip: int = 1,
        camera_id: int | None = None,
        task_kwargs: Mapping[str, Any] | None = None,
        environment_kwargs: Mapping[str, Any] | None = None,
        channels_first: bool = True,
        visualize_reward: bool = False,
        render_quality: Literal["exact", "fast"] = "exact",
        render_mode: str | None = "rgb_array",
    ) -> None:
        """Loads the task.

        domain_name, task_name: as in the suite, such as "cheetah", "run".
        seed: 0 to 2^32 - 1; the model (where it is random) and the episodes are drawn from it. None draws a seed.
        from_pixels: observe images; otherwise the state, which needs no OpenGL library.
        height, width: of the observed image and of `render`, in pixels.
        frame_skip: control steps for which each action is held.
        camera_id: the model's camera to render with, -1 for the free one; None is the domain's preset.
        task_kwargs, environment_kwargs: arguments for the suite, such as {"time_limit": 5}.
        channels_first: whether an image is (3, H, W) instead of (H, W, 3).
        visualize_reward: colour the body by its reward.
        render_quality: "exact" as in dm_control; "fast" has a smaller shadow map, on which software rendering spends
            most of its time. It changes pixels by 0.01 to 0.1 of 255 on average (swimmer: 0.2).
        render_mode: "rgb_array", or None, as `gymnasium.make` passes it on. `render` returns an image with either.

        Raises UserError if an argument is out of range, there is no such task, or nothing renders here.
        """
        seed = as_seed(seed, LARGEST_SEED)
        check_whole(height=height, width=width, frame_skip=frame_skip)
        if render_quality not in [*SHADOW_SIZE]:
            raise UserError(f"render_quality is {render_quality}, but it must be one of {', '.join(SHADOW_SIZE)}")
        if render_mode not in (None, "rgb_array"):
            raise UserError(f"render_mode is {render_mode}, but the tasks of the suite render rgb_array; choose that")
        self.render_mode = render_mode
        rendering.configure(required=from_pixels or (domain_name, task_name) in RENDERS_AT_RESET)
        self._task_kwargs = named_arguments("task_kwargs", task_kwargs)
        self._environment_kwargs = named_arguments("environment_kwargs", environment_kwargs)
        suite.check(domain_name, task_name, self._task_kwargs, self._environment_kwargs)
        self.frame_skip = frame_skip
        self.render_seconds = 0.0
        self.last_info: Info = {}
        self._names = domain_name, task_name
        self._visualize_reward = bool(visualize_reward)  # dm_control takes no other type, such as NumPy's.
        self._from_pixels, self._channels_first = from_pixels, channels_first
        self._height, self._width = height, width
        self._camera_id = CAMERA.get(domain_name, 0) if camera_id is None else camera_id
        self._shadow_size = SHADOW_SIZE[render_quality]
        self._load(int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed)
        self._check_camera(self._camera_id)
        self._define_spaces()

    def _load(self, model_seed: int) -> None:
        """Builds the task. Its random stream starts from the seed, as does the draw of LQR's model."""
        self._model_seed = model_seed
        self._env = suite.load(
            *self._names, model_seed, self._task_kwargs, self._environment_kwargs, self._visualize_reward
        )
        self._prepare_model()
        self._random_state = self._env.task.random.get_state(legacy=False)
        self._actions: list[NDArray[np.float32]] = []
        self._started = self._running = False
        self._time_step: Any = None

    def _prepare_model(self) -> None:
        """Sets what dm_control reads from a model at its first frame."""
        self._cameras: dict[tuple[int, int, int], Any] = {}
        self._model = self._env.physics.model
        if self._shadow_size is not None:
            self._model.vis.quality.shadowsize = self._shadow_size

    def _define_spaces(self) -> None:
        spec = self._env.action_spec()
        unbounded = (spec.minimum <= -UNBOUNDED) | (spec.maximum >= UNBOUNDED)
        low, high = np.where(unbounded, -1.0, spec.minimum), np.where(unbounded, 1.0, spec.maximum)
        self._action_centre, self._action_half_range = (low + high) / 2, (high - low) / 2
        self.action_space = spaces.Box(-1.0, 1.0, spec.shape, np.float32)
        entries = self._env.observation_spec().values()
        length = sum(math.prod(entry.shape) for entry in entries)
        self.state_space = spaces.Box(-np.inf, np.inf, (length,), np.float32)
        self.observation_space = self.state_space
        if self._from_pixels:
            size = self._height, self._width
            shape = (3, *size) if self._channels_first else (*size, 3)
            self.observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.control_timestep = float(self._env.control_timestep())
        # dm_control computes the limit but has no public name for it.
        limit = self._env._step_limit
        self.max_episode_steps = None if math.isinf(limit) else math.ceil(math.ceil(limit) / self.frame_skip)
        self.metadata = {**self.metadata, "render_fps": 1 / (self.control_timestep * self.frame_skip)}

    # An episode.

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Frame, Info]:
        """Starts an episode, drawn from `seed` or, without one, from the random stream. Returns (obs, info).

        The first episode of a new environment is the one that dm_control starts from the same seed.

        Raises UserError if seed is out of range.
        """
        seed = as_seed(seed, LARGEST_SEED)
        super().reset(seed=seed)
        if seed is not None:
            # Tasks have no public way to seed them again.
            self._env.task._random = np.random.RandomState(seed)
        self._begin_episode()
        return self._observe(), {"discount": 1.0}

    def step(self, action: Action) -> tuple[Frame, float, bool, bool, Info]:
        """Holds a float32 (A,) action for `frame_skip` control steps, fewer if the episode ends.

        Returns (obs, summed reward, terminated, truncated, info). Only the last control step is rendered.

        Raises gymnasium.error.ResetNeeded if no episode is running, InvalidAction for an action of another shape.
        """
        if not self._running:
            raise gymnasium.error.ResetNeeded("no episode is running: call reset() before step()")
        given = np.array(action, np.float32)
        if given.shape != self.action_space.shape:
            raise gymnasium.error.InvalidAction(
                f"an action has shape {self.action_space.shape}, but this one has {given.shape}"
            )
        reward = self._advance(given)
        last, discount = self._time_step.last(), float(self._time_step.discount)
        terminated = last and discount == 0
        truncated = last and not terminated
        self.last_info = {"discount": discount}
        return self._observe(), reward, terminated, truncated, self.last_info

    def _begin_episode(self) -> None:
        self._random_state = self._env.task.random.get_state(legacy=False)
        self._actions = []
        self._started = self._running = True
        contexts.use_dm_controls()
        if self._names in RENDERS_AT_RESET:
            contexts.refuse_after_fork()
            self._abandon_lost()
            contexts.wake_display()
        self._time_step = self._env.reset()

    def _advance(self, action: NDArray[np.float32]) -> float:
        """Simulates an agent step without rendering. Returns the summed reward."""
        self._actions.append(action)
        control = self._action_centre + self._action_half_range * action
        total_reward = 0.0
        for _ in range(self.frame_skip):
            self._time_step = self._env.step(control)
            total_reward += float(self._time_step.reward)
            if self._time_step.last():
                self._running = False
                break
        return total_reward

    def _observe(self) -> Frame:
        if not self._from_pixels:
            return self.state()
        image = self.render()
        return np.ascontiguousarray(image.transpose(2, 0, 1)) if self._channels_first else image

    def state(self) -> State:
        """The present state, float32 (S,), as `from_pixels=False` observes it. Renders nothing.

        Raises gymnasium.error.ResetNeeded before the first episode.
        """
        if self._time_step is None:
            raise gymnasium.error.ResetNeeded("no episode has begun: call reset() before state()")
        return np.concatenate([np.ravel(entry) for entry in self._time_step.observation.values()]).astype(np.float32)

    @property
    def physics(self) -> Any:
        """dm_control's `Physics`, for its named data. What changes in it is not in a snapshot."""
        return self._env.physics

    def physics_state(self) -> NDArray[np.float64]:
        """The simulator's present state, float64: positions, velocities and any activations."""
        state: NDArray[np.float64] = self._env.physics.get_state()
        return state

    def physics_coordinates(self) -> dict[str, float]:
        """The numbers in `physics_state` by name: "qpos <joint>", "qvel <joint>", "act <actuator>".

        A joint's several numbers have an index. A hinge without limits also has "sin <joint>" and "cos <joint>": an
        image shows its angle only up to whole turns.
        """
        model = self._env.physics.model
        joints = [model.id2name(j, "joint") or f"joint {j}" for j in range(model.njnt)]
        names = [
            *_numbered("qpos", joints, np.diff([*model.jnt_qposadr, model.nq])),
            *_numbered("qvel", joints, np.diff([*model.jnt_dofadr, model.nv])),
            *_numbered("act", *_activations(model)),
        ]
        coordinates = dict(zip(names, self.physics_state().tolist(), strict=True))
        free_hinges = (model.jnt_type == HINGE) & (model.jnt_limited == 0)
        for name in np.array(joints)[free_hinges]:
            angle = coordinates[f"qpos {name}"]
            coordinates |= {f"sin {name}": math.sin(angle), f"cos {name}": math.cos(angle)}
        return coordinates

    # Rendering.

    def render(
        self, height: int | None = None, width: int | None = None, camera_id: int | None = None
    ) -> NDArray[np.uint8]:
        """An image of the present moment, uint8 (height, width, 3), of any size; by default that of observations.

        Raises UserError if nothing renders here, or there is no such camera.
        """
        started = time.perf_counter()
        size = self._height if height is None else height, self._width if width is None else width
        wanted = *size, self._camera_id if camera_id is None else camera_id
        try:
            image = self._draw(*wanted)
        except Exception as error:
            if not contexts.is_lost(error):
                raise
            self._abandon_lost()
            image = self._draw(*wanted)
        self.render_seconds += time.perf_counter() - started
        return image

    def _abandon_lost(self) -> None:
        contexts.abandon_lost(self._env.physics)
        self._cameras = {}

    def _draw(self, height: int, width: int, camera_id: int) -> NDArray[np.uint8]:
        contexts.use_dm_controls()
        contexts.refuse_after_fork()
        # A copy: the camera renders its next frame into the same buffer.
        image: NDArray[np.uint8] = self._camera(height, width, camera_id).render().copy()
        return image

    def _camera(self, height: int, width: int, camera_id: int) -> Any:
        """A camera. It is cached, since building its scene takes milliseconds."""
        if self._env.physics.model is not self._model:
            # The task has loaded another model, and dm_control has freed the old one's renderer.
            self._prepare_model()
        key = height, width, camera_id
        if key not in self._cameras:
            self._cameras[key] = self._make_camera(*key)
        return self._cameras[key]

    def _make_camera(self, height: int, width: int, camera_id: int) -> Any:
        rendering.configure()
        contexts.wake_display()
        self._check_camera(camera_id)
        from dm_control.mujoco import Camera

        self._grow_buffer(height, width)
        return Camera(self._env.physics, height, width, camera_id)

    def _grow_buffer(self, height: int, width: int) -> None:
        """Enlarges the model's off-screen buffer if the image does not fit in it."""
        import mujoco

        physics = self._env.physics
        size = physics.model.vis.global_
        if height <= size.offheight and width <= size.offwidth:
            return
        size.offheight, size.offwidth = max(height, size.offheight), max(width, size.offwidth)
        contexts = physics.contexts
        with contexts.gl.make_current() as context:
            context.call(mujoco.mjr_resizeOffscreen, size.offwidth, size.offheight, contexts.mujoco.ptr)

    def _check_camera(self, camera_id: int) -> None:
        count = self._env.physics.model.ncam
        if not (isinstance(camera_id, Integral) and -1 <= camera_id < count):
            raise UserError(
                f"camera_id is {camera_id!r}, but {self._names[0]} has the cameras 0 to {count - 1}, and -1, the free "
                "one; choose one of these"
            )

    def close(self) -> None:
        """Frees the simulation and its renderers. Afterwards only close may be called."""
        self._running = False
        self._cameras, self._model = {}, None
        contexts.free_physics(self._env.physics)

    # Snapshots.

    def snapshot(self) -> dict[str, Any]:
        """What `restore` needs to return to this moment: the random state at the episode's start, and its actions.

        It holds only dicts, lists, strings and numbers, so that any format can store it.
        """
        return {
            "model_seed": self._model_seed,
            "random_state": _plain(self._random_state),
            "started": self._started,
            "actions": [action.tolist() for action in self._actions],
        }

    def restore(self, snapshot: Snapshot) -> float:
        """Returns to the moment of `snapshot`, which an environment with the same arguments made. Renders nothing.

        Returns the sum of the rewards of the repeated actions.

        It simulates the episode again, since setting a physics state directly is not bit-exact. Everything that
        follows, later episodes too, is the same to the last bit.
        """
        if snapshot["model_seed"] != self._model_seed:
            contexts.free_physics(self._env.physics)
            self._load(snapshot["model_seed"])
        self._random_state = _as_numpy(snapshot["random_state"])
        self._env.task.random.set_state(self._random_state)
        self._actions, self._started, self._running, self._time_step = [], False, False, None
        if snapshot["started"]:
            self._begin_episode()
        return sum((self._advance(np.array(action, np.float32)) for action in snapshot["actions"]), 0.0)


make = DMCEnv
"""As in dmc2gym: `sacae.envs.make(...)` takes the arguments of dmc2gym's `make`."""


def _numbered(kind: str, owners: Sequence[str], counts: Iterable[int]) -> list[str]:
    """Names of all owners' numbers; `counts` says how many each owner has."""
    return [
        f"{kind} {owner}" if count == 1 else f"{kind} {owner}[{i}]"
        for owner, count in zip(owners, counts)
        for i in range(count)
    ]


def _activations(model: Any) -> tuple[list[str], list[int]]:
    """Names of the actuators with a state of their own, and the length of each state."""
    actuators = [i for i in range(model.nu) if model.actuator_actnum[i]]
    return [model.id2name(i, "actuator") or str(i) for i in actuators], [model.actuator_actnum[i] for i in actuators]


def _plain(random_state: Mapping[str, Any]) -> dict[str, Any]:
    """A RandomState's state whose array of 624 words is a list."""
    words = {"key": random_state["state"]["key"].tolist(), "pos": int(random_state["state"]["pos"])}
    return {**random_state, "state": words}


def _as_numpy(random_state: Mapping[str, Any]) -> dict[str, Any]:
    words = {**random_state["state"], "key": np.array(random_state["state"]["key"], np.uint32)}
    return {**random_state, "state": words}
