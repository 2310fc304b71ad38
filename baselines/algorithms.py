"""The algorithms that are no head of an agent. Importing this module does not import PyTorch."""

from typing import TYPE_CHECKING

from baselines import point_mass  # noqa: F401 - registers PointMassGoal-v0, which agents can learn too
from baselines.settings import Baseline
from baselines.settings.hdqn import HDQNSettings
from baselines.settings.her_ddpg import HERSettings
from baselines.settings.on_policy import NPGSettings, PPOSettings, TRPOSettings, VPGSettings
from baselines.settings.option_critic import OptionCriticSettings
from baselines.settings.q_learning import QLearningSettings
from sacae.registry import Registry

if TYPE_CHECKING:
    from sacae.training.loop import TrainingLoop

_TABLE: tuple[tuple[type[Baseline], str], ...] = (
    (QLearningSettings, "baselines.q_learning:QLearningTrainer"),
    (VPGSettings, "baselines.vpg:VPGTrainer"),
    (NPGSettings, "baselines.trpo:NPGTrainer"),
    (TRPOSettings, "baselines.trpo:TRPOTrainer"),
    (PPOSettings, "baselines.ppo:PPOTrainer"),
    (HERSettings, "baselines.her_ddpg:HERTrainer"),
    (OptionCriticSettings, "baselines.option_critic:OptionCriticTrainer"),
    (HDQNSettings, "baselines.hdqn:HDQNTrainer"),
)

SETTINGS: dict[str, type[Baseline]] = {settings.ALGO: settings for settings, _ in _TABLE}
"""The settings of each algorithm, by the name that `--algo` takes."""

ALGORITHMS: Registry[type["TrainingLoop"]] = Registry({settings.ALGO: trainer for settings, trainer in _TABLE})
"""What trains each, by the same name: with SETTINGS, `metric_names`, and `load_player`. Imported when looked up."""
