"""The algorithms that are no head of an agent."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.console import Console

from baselines import hdqn, her_ddpg, on_policy, option_critic, ppo, q_learning, trpo, vpg
from baselines.settings import Baseline
from sacae import envs
from sacae.training.evaluation import Player, RememberingPlayer
from sacae.training.learner import Learner
from sacae.training.start import Training, make_stepper, open_run


@dataclass(frozen=True)
class Algorithm:
    """An algorithm: its settings, what learns (config, spec, stepper, device), and what plays a checkpoint."""

    settings: type[Baseline]
    learner: Callable[..., Learner]
    load_player: Callable[..., Player | RememberingPlayer]

    def start(self, config: Baseline, console: Console, resume: bool = False) -> Training:
        """Prepares a training. Raises UserError for whatever the user can put right, before anything is written."""
        opening = open_run(config, console, resume)
        config = opening.with_rendering(config).replace(work_dir=config.work_dir, device=str(opening.device))
        stepper = make_stepper(config)
        spec = envs.spec_of(stepper.env_info, config.task.frame_stack)
        torch.manual_seed(config.train.seed)
        return opening.begin(config, self.learner(config, spec, stepper, opening.device), stepper)


def _on_policy(settings: type[on_policy.OnPolicySettings], policy_step: type[on_policy.PolicyStep]) -> Algorithm:
    return Algorithm(settings, functools.partial(on_policy.OnPolicyLearner, policy_step), on_policy.load_player)


ALGORITHMS: dict[str, Algorithm] = {
    algorithm.settings.ALGO: algorithm
    for algorithm in (
        Algorithm(q_learning.QLearningSettings, q_learning.QLearner, q_learning.load_player),
        _on_policy(vpg.VPGSettings, vpg.VPG),
        _on_policy(trpo.NPGSettings, trpo.NPG),
        _on_policy(trpo.TRPOSettings, trpo.TRPO),
        _on_policy(ppo.PPOSettings, ppo.PPO),
        Algorithm(her_ddpg.HERSettings, her_ddpg.HERLearner, her_ddpg.load_player),
        Algorithm(option_critic.OptionCriticSettings, option_critic.OptionCriticLearner, option_critic.load_player),
        Algorithm(hdqn.HDQNSettings, hdqn.HDQNLearner, hdqn.load_player),
    )
}
"""Every algorithm by the name that `--algo` takes."""
