"""The algorithms that are no head of an agent. Importing this module does not import PyTorch."""

from typing import TYPE_CHECKING

from baselines import point_mass  # noqa: F401 - registers PointMassGoal-v0, which agents can learn too
from baselines.settings import AlgorithmSettings
from baselines.settings.hdqn import HDQNSettings
from baselines.settings.her_ddpg import HERSettings
from baselines.settings.on_policy import NPGSettings, PPOSettings, TRPOSettings, VPGSettings
from baselines.settings.option_critic import OptionCriticSettings
from baselines.settings.q_learning import QLearningSettings
from sacae.registry import Registry

if TYPE_CHECKING:
    from baselines.algorithm import Algorithm

_TABLE: tuple[tuple[type[AlgorithmSettings], str], ...] = (
    (QLearningSettings, "baselines.q_learning:ALGORITHM"),
    (VPGSettings, "baselines.vpg:ALGORITHM"),
    (NPGSettings, "baselines.trpo:NPG_ALGORITHM"),
    (TRPOSettings, "baselines.trpo:TRPO_ALGORITHM"),
    (PPOSettings, "baselines.ppo:ALGORITHM"),
    (HERSettings, "baselines.her_ddpg:ALGORITHM"),
    (OptionCriticSettings, "baselines.option_critic:ALGORITHM"),
    (HDQNSettings, "baselines.hdqn:ALGORITHM"),
)

SETTINGS: dict[str, type[AlgorithmSettings]] = {settings.NAME: settings for settings, _ in _TABLE}
"""The settings of each algorithm, by the name that `--algo` takes."""

ALGORITHMS: Registry["Algorithm"] = Registry({settings.NAME: place for settings, place in _TABLE})
"""The algorithms by the same name. One is imported when it is looked up."""
