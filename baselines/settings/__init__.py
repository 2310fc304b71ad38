"""Settings of the algorithms that have no pixel version; flags are named as those of `train.py`."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from sacae import config as configs
from sacae import groups


@dataclass(frozen=True)
class StateTask(groups.NamedTask):
    """The task, whose state vector is observed."""

    env: str | None = None
    """Gymnasium environment to train on in place of a DeepMind Control task, such as CartPole-v1."""
    action_repeat: int = 1
    """How many environment steps each action is held."""

    # What else an environment is made from, and is no choice here.
    obs: ClassVar[Literal["state"]] = "state"
    image_size: ClassVar[int] = groups.TaskConfig.image_size
    frame_stack: ClassVar[int] = 1
    camera_id: ClassVar[int] = groups.TaskConfig.camera_id
    render_quality: ClassVar[str] = groups.TaskConfig.render_quality
    discretisation: ClassVar[Literal["none"]] = "none"
    bins: ClassVar[int] = groups.TaskConfig.bins


@dataclass(frozen=True)
class RunConfig(groups.RunConfig):
    """How long a run is, how it is watched, where it lies."""

    num_threads: int = 1
    """CPU threads that PyTorch computes with; 0 leaves the number to PyTorch, which takes one for each core."""


@dataclass(frozen=True)
class Baseline(configs.Settings):
    """Settings of a run of an algorithm, which adds its own group to them."""

    ALGO: ClassVar[str]
    """The algorithm's name, as `--algo` takes it."""

    PLAY_COMMAND: ClassVar[str] = "python -m baselines.eval"

    task: StateTask = field(default_factory=StateTask)
    train: RunConfig = field(default_factory=RunConfig)

    @property
    def variant(self) -> str:
        """The run's name beside other runs of the task: the algorithm's."""
        return self.ALGO
