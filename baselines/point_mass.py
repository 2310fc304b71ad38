"""PointMassGoal-v0: push a point mass to a goal on a table. The import of this module registers it with Gymnasium."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

EDGE = 1.0
"""The table is all points whose coordinates lie in [-EDGE, EDGE]."""

PUSH = 0.02
"""What the full action adds to the velocity in a step."""

KEPT = 0.8
"""Share of the velocity that friction leaves in a step: the fastest motion is PUSH / (1 - KEPT) = 0.1 a step."""

RADIUS = 0.1
"""How near to the goal counts as there."""

STEPS = 50
"""Steps of an episode, which ends by this limit alone."""

PICTURE, POINT_RADIUS = 128, 0.05
TABLE_COLOUR, GOAL_COLOUR, POINT_COLOUR = (40, 40, 40), (60, 160, 80), (240, 240, 240)


Observation = dict[str, NDArray[np.float32]]


class PointMassGoalEnv(gymnasium.Env):
    """A point mass that starts at rest in the middle of a table, and a goal anywhere on it.

    Observations are those of a goal environment, float32: "observation" (4,) = position and velocity, "achieved_goal"
    (2,) = position, "desired_goal" (2,). Actions are float32 (2,) in [-1, 1], the push. The reward of a step is 0 where
    the point lies within RADIUS of the goal after it, otherwise -1; info["is_success"] says the same as 1.0 and 0.0. At
    an edge of the table the point stops.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        fastest = PUSH / (1 - KEPT)
        reach = np.array([EDGE, EDGE, fastest, fastest], np.float32)
        goals = spaces.Box(-EDGE, EDGE, (2,), np.float32)
        self.observation_space = spaces.Dict(
            observation=spaces.Box(-reach, reach), achieved_goal=goals, desired_goal=goals
        )
        self.position: NDArray[np.float32] = np.zeros(2, np.float32)
        self.velocity: NDArray[np.float32] = self.position
        self.goal: NDArray[np.float32] = self.position

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode with a goal of its own. Returns (observation, info)."""
        super().reset(seed=seed)
        self.position = self.velocity = np.zeros(2, np.float32)
        self.goal = self.np_random.uniform(-EDGE, EDGE, 2).astype(np.float32)
        return self._observation(), {}

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Pushes the point for a step. float32 (2,) -> (observation, reward, terminated, truncated, info)."""
        self.velocity = (KEPT * self.velocity + PUSH * np.clip(action, -1, 1)).astype(np.float32)
        moved = self.position + self.velocity
        self.position = np.clip(moved, -EDGE, EDGE)
        self.velocity = np.where(self.position == moved, self.velocity, np.float32(0))
        reward = float(self.compute_reward(self.position, self.goal, {}))
        return self._observation(), reward, False, False, {"is_success": float(reward == 0)}

    def compute_reward(
        self, achieved_goal: NDArray[np.float32], desired_goal: NDArray[np.float32], info: Any
    ) -> NDArray[np.float64]:
        """The reward of arriving at achieved goals where desired ones were wanted. (..., 2), (..., 2) -> (...)."""
        distance = np.linalg.norm(achieved_goal - desired_goal, axis=-1)
        return np.where(distance <= RADIUS, 0.0, -1.0)

    def render(self) -> NDArray[np.uint8]:
        """The table from above, uint8 (PICTURE, PICTURE, 3): the goal a green disc, the point a white one."""
        along = np.linspace(-EDGE, EDGE, PICTURE)
        places = np.stack(np.meshgrid(along, -along), axis=-1)  # upwards is the second coordinate
        picture = np.full((PICTURE, PICTURE, 3), TABLE_COLOUR, np.uint8)
        for centre, radius, colour in (
            (self.goal, RADIUS, GOAL_COLOUR),
            (self.position, POINT_RADIUS, POINT_COLOUR),
        ):
            picture[np.linalg.norm(places - centre, axis=-1) <= radius] = colour
        return picture

    def _observation(self) -> Observation:
        return {
            "observation": np.concatenate([self.position, self.velocity]),
            "achieved_goal": self.position.copy(),
            "desired_goal": self.goal.copy(),
        }


gymnasium.register("PointMassGoal-v0", f"{__name__}:{PointMassGoalEnv.__name__}", max_episode_steps=STEPS)
