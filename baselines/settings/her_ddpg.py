"""Settings of DDPG with hindsight experience replay."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from baselines.settings import AlgorithmSettings, Baseline
from sacae.declaration import Above, AtLeast, Must, Within
from sacae.settings import Condition


@dataclass(frozen=True)
class HERSettings(AlgorithmSettings):
    """DDPG with hindsight: learn to reach goals. Defaults are those of Plappert et al. 2018."""

    NAME: ClassVar[str] = "her_ddpg"

    PRESET: ClassVar[Mapping[str, Any]] = {"num_train_steps": 100_000, "eval_every": 5_000, "num_eval_episodes": 20}
    """Runs are shorter than those of other algorithms, and evaluated more often."""

    her_k: Annotated[int, AtLeast(0)] = 4
    """Transitions with a goal chosen in hindsight for each one with its original goal; 0 is DDPG without hindsight."""
    episodes_per_cycle: Annotated[int, AtLeast(1)] = 2
    """Episodes, summed over all environments, from one cycle of updates to the next."""
    updates_per_cycle: Annotated[int, AtLeast(1)] = 40
    """Updates in each cycle; the target networks move once, at the cycle's end."""
    discount: Annotated[
        float,
        Within(0, 1),
        Must(
            "below 1 if clip_targets is on",
            lambda settings: settings["discount"] < 1 or not settings["clip_targets"],
        ),
    ] = 0.98
    """Discount factor gamma per agent step, 0 to 1."""
    batch_size: Annotated[int, AtLeast(1)] = 256
    """Transitions in each update."""
    actor_lr: Annotated[float, Above(0)] = 1e-3
    """Learning rate of the actor."""
    critic_lr: Annotated[float, Above(0)] = 1e-3
    """Learning rate of the critic."""
    hidden_dim: Annotated[int, AtLeast(1)] = 256
    """Width of the three hidden layers of actor and critic."""
    polyak: Annotated[float, Within(0, 1)] = 0.95
    """Weight of the old target network in each of its updates, 0 to 1."""
    action_l2: Annotated[float, AtLeast(0)] = 1.0
    """Weight of the policy's mean squared action in the actor's loss."""
    clip_targets: bool = True
    """Clip the critic's targets to [-1 / (1 - gamma), 0], the range of returns of rewards -1 and 0; switch it off for
    other rewards."""
    random_eps: Annotated[float, Within(0, 1)] = 0.3
    """Share of training actions that are uniformly random."""
    exploration_noise: Annotated[float, AtLeast(0)] = 0.2
    """Standard deviation of the Gaussian noise on training actions that are not uniformly random."""
    replay_capacity: Annotated[int, AtLeast(1)] = 1_000_000
    """Transitions that the replay holds, in whole episodes."""

    @property
    def hindsight_share(self) -> float:
        """Share of transitions in a batch that have a goal in hindsight: 1 - 1 / (1 + k)."""
        return 1 - 1 / (1 + self.her_k)

    @property
    def lowest_target(self) -> float | None:
        """The smallest possible return of rewards -1 and 0; None if targets are not clipped."""
        return -1 / (1 - self.discount) if self.clip_targets else None

    def conditions(self, run: Baseline[AlgorithmSettings]) -> Sequence[Condition]:
        """See AlgorithmSettings."""
        single_steps = run.task.action_repeat == 1
        return (("action_repeat", single_steps, "1, because rewards for a new goal are computed for single steps"),)
