"""The algorithms that are no head of an agent."""

from baselines.hdqn import HDQNTrainer
from baselines.her_ddpg import HERTrainer
from baselines.option_critic import OptionCriticTrainer
from baselines.ppo import PPOTrainer
from baselines.q_learning import QLearningTrainer
from baselines.trpo import NPGTrainer, TRPOTrainer
from baselines.vpg import VPGTrainer
from sacae.training.loop import TrainingLoop

ALGORITHMS: dict[str, type[TrainingLoop]] = {
    trainer.SETTINGS.ALGO: trainer
    for trainer in (
        QLearningTrainer,
        VPGTrainer,
        NPGTrainer,
        TRPOTrainer,
        PPOTrainer,
        HERTrainer,
        OptionCriticTrainer,
        HDQNTrainer,
    )
}
"""What trains each, by the name that `--algo` takes: with SETTINGS, `metric_names`, and `load_player`."""
