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
    """An algorithm of this package.

    learner: makes what learns from (config, spec, stepper, device). load_player: makes what plays from (config, spec,
    device) and a checkpoint's "learning". metric_names: the columns that its metrics have in train.csv.
    """

    settings: type[Baseline]
    learner: Callable[..., Learner]
    load_player: Callable[..., Player | RememberingPlayer]
    metric_names: tuple[str, ...]

    def start(self, config: Baseline, console: Console, resume: bool = False) -> Training:
        """Prepares a training. Raises UserError for whatever the user can put right, before anything is written."""
        opening = open_run(config, console, resume)
        config = opening.with_rendering(config).replace(work_dir=config.work_dir, device=str(opening.device))
        stepper = make_stepper(config)
        spec = envs.spec_of(stepper.env_info, config.task.frame_stack)
        torch.manual_seed(config.train.seed)
        return opening.begin(config, self.learner(config, spec, stepper, opening.device), stepper)


def _on_policy(settings: type[on_policy.OnPolicySettings], policy_step: type[on_policy.PolicyStep]) -> Algorithm:
    learner = functools.partial(on_policy.OnPolicyLearner, policy_step)
    return Algorithm(settings, learner, on_policy.load_player, on_policy.metric_names(policy_step))


def _of_module(settings: type[Baseline], learner: type[Learner], load_player: Callable) -> Algorithm:
    return Algorithm(settings, learner, load_player, learner.metric_names)


ALGORITHMS: dict[str, Algorithm] = {
    algorithm.settings.ALGO: algorithm
    for algorithm in (
        _of_module(q_learning.QLearningSettings, q_learning.QLearner, q_learning.load_player),
        _on_policy(vpg.VPGSettings, vpg.VPG),
        _on_policy(trpo.NPGSettings, trpo.NPG),
        _on_policy(trpo.TRPOSettings, trpo.TRPO),
        _on_policy(ppo.PPOSettings, ppo.PPO),
        _of_module(her_ddpg.HERSettings, her_ddpg.HERLearner, her_ddpg.load_player),
        _of_module(option_critic.OptionCriticSettings, option_critic.OptionCriticLearner, option_critic.load_player),
        _of_module(hdqn.HDQNSettings, hdqn.HDQNLearner, hdqn.load_player),
    )
}
"""Every algorithm by the name that `--algo` takes."""
