"""Names in Gymnasium's registry for the tasks of the DeepMind Control suite, such as sacae/cheetah-run-v0.

This module imports neither dm_control nor the environments: `gymnasium.make` does, with the first task that it makes.
"""

import gymnasium

NAMESPACE = "sacae"

SUITE = {
    "acrobot": ("swingup", "swingup_sparse"),
    "ball_in_cup": ("catch",),
    "cartpole": ("balance", "balance_sparse", "swingup", "swingup_sparse", "two_poles", "three_poles"),
    "cheetah": ("run",),
    "dog": ("stand", "walk", "trot", "run", "fetch"),
    "finger": ("spin", "turn_easy", "turn_hard"),
    "fish": ("upright", "swim"),
    "hopper": ("stand", "hop"),
    "humanoid": ("stand", "walk", "run", "run_pure_state"),
    "humanoid_CMU": ("stand", "walk", "run"),
    "lqr": ("lqr_2_1", "lqr_6_2"),
    "manipulator": ("bring_ball", "bring_peg", "insert_ball", "insert_peg"),
    "pendulum": ("swingup",),
    "point_mass": ("easy", "hard"),
    "quadruped": ("walk", "run", "escape", "fetch"),
    "reacher": ("easy", "hard"),
    "stacker": ("stack_2", "stack_4"),
    "swimmer": ("swimmer6", "swimmer15"),
    "walker": ("stand", "walk", "run"),
}
"""The tasks of each domain; written down here because the import of dm_control takes seconds."""


def register() -> None:
    """Adds the ids to Gymnasium's registry; does nothing if they are there."""
    for domain, tasks in SUITE.items():
        for task in tasks:
            name = f"{NAMESPACE}/{domain}-{task}-v0"
            if name not in gymnasium.registry:
                gymnasium.register(
                    name, entry_point="sacae.envs:make", kwargs={"domain_name": domain, "task_name": task}
                )
