"""Settings of DDPG with hindsight experience replay."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from baselines.settings import Baseline, RunConfig
from sacae.settings import Above, AtLeast, Condition, Within


@dataclass(frozen=True)
class HERConfig:
    """The algorithm; defaults are those of Plappert et al. 2018."""

    her_k: Annotated[int, AtLeast(0)] = 4
    """Transitions with a goal chosen in hindsight for each one with its original goal; 0 is DDPG without hindsight."""
    episodes_per_cycle: Annotated[int, AtLeast(1)] = 2
    """Episodes, summed over all environments, from one cycle of updates to the next."""
    updates_per_cycle: Annotated[int, AtLeast(1)] = 40
    """Updates in each cycle; the target networks move once, at the cycle's end."""
    discount: Annotated[float, Within(0, 1)] = 0.98
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


@dataclass(frozen=True)
class HERRunConfig(RunConfig):
    """How long a run is, how it is watched, where it lies."""

    num_train_steps: int = 100_000
    """Length of the run in environment steps."""
    eval_every: int = 5_000
    """Environment steps from one evaluation to the next; there is also one before the first and after the last step."""
    num_eval_episodes: int = 20
    """Episodes in each evaluation, without exploration."""


@dataclass(frozen=True)
class HERSettings(Baseline):
    """Learn to reach goals by DDPG with hindsight."""

    ALGO: ClassVar[str] = "her_ddpg"

    algorithm: HERConfig = field(default_factory=HERConfig)
    train: HERRunConfig = field(default_factory=HERRunConfig)

    @property
    def hindsight_share(self) -> float:
        """Share of transitions in a batch that have a goal in hindsight: 1 - 1 / (1 + k)."""
        return 1 - 1 / (1 + self.algorithm.her_k)

    @property
    def lowest_target(self) -> float | None:
        """The least return of rewards -1 and 0; None where targets are not clipped."""
        return -1 / (1 - self.algorithm.discount) if self.algorithm.clip_targets else None

    def conditions(self) -> Sequence[Condition]:
        """See Grouped."""
        config = self.algorithm
        return (
            ("action_repeat", self.task.action_repeat == 1, "1, since a new goal's reward is known for single steps"),
            ("discount", config.discount < 1 or not config.clip_targets, "below 1 unless --no-clip-targets is given"),
        )
