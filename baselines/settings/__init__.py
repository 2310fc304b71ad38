"""Settings of the algorithms that learn from state only; the flags have the same names as those of `train.py`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

from sacae import groups
from sacae.settings import Condition, Settings, check


@dataclass(frozen=True)
class StateTask(groups.NamedTask):
    """The task, whose state vector is observed."""

    env: str | None = None
    """Gymnasium environment to train on in place of a DeepMind Control task, such as CartPole-v1."""
    action_repeat: int = 1
    """How many environment steps each action is held."""

    # The other properties of an environment, which are fixed here.
    obs: ClassVar[Literal["state"]] = "state"
    image_size: ClassVar[int] = groups.TaskConfig.image_size
    frame_stack: ClassVar[int] = 1
    camera_id: ClassVar[int] = groups.TaskConfig.camera_id
    render_quality: ClassVar[str] = groups.TaskConfig.render_quality
    discretisation: ClassVar[Literal["none"]] = "none"
    bins: ClassVar[int] = groups.TaskConfig.bins


@dataclass(frozen=True)
class RunConfig(groups.RunConfig):
    """Length of the run, evaluations, checkpoints, device and run folder."""

    num_threads: int = 1
    """CPU threads that PyTorch computes with; 0 leaves the number to PyTorch, which takes one for each core."""
    work_dir: Path | None = None
    """Run folder; None: runs/<task>/<algorithm>/<seed>."""


class AlgorithmSettings:
    """The settings of an algorithm: each algorithm adds its fields, as a frozen dataclass."""

    NAME: ClassVar[str]
    """The algorithm's name, as `--algo` takes it."""

    PRESET: ClassVar[Mapping[str, Any]] = {}
    """Settings of any group whose defaults the algorithm changes."""

    def conditions(self, _run: "Baseline[AlgorithmSettings]") -> Sequence[Condition]:
        """Conditions that the fields do not declare."""
        return ()


A_co = TypeVar("A_co", bound=AlgorithmSettings, covariant=True)


@dataclass(frozen=True)
class Baseline(Settings, Generic[A_co]):
    """The settings of a run of an algorithm. `make` applies the algorithm's preset."""

    task: StateTask = field(default_factory=StateTask)
    train: RunConfig = field(default_factory=RunConfig)
    algorithm: A_co = field(kw_only=True)

    def defaults_for(self, _values: Mapping[str, Any]) -> Self:
        """See Settings."""
        kind = type(self.algorithm)
        return type(self)(algorithm=kind()).replace(**kind.PRESET)

    @property
    def variant(self) -> str:
        """The run's name among the runs of a task: the algorithm's name."""
        return self.algorithm.NAME

    def how_to_play(self, folder: Path) -> str:
        """See Settings."""
        return f"python -m baselines.eval {folder}"

    def conditions(self) -> Sequence[Condition]:
        """See Settings."""
        return self.algorithm.conditions(self)


def make(algorithm: type[A_co], /, **settings: Any) -> Baseline[A_co]:
    """The settings of a run: defaults, then the algorithm's preset, then the given settings.

    Raises UserError if a setting is unknown, does not apply, is out of range or contradicts another one.
    """
    run = Baseline(algorithm=algorithm()).defaults_for({}).replace(**settings)
    check(run, given=settings)
    return run
