"""Option-critic (Bacon, Harb and Precup 2017, arXiv:1609.05140): options learned from end to end, on state vectors.

Symbols: s, a, r, s' = state, action, reward, next state; w = the running option; Q = Q_Omega(s, w), its value; Q' = the
target network's; pi_w = its policy; beta_w(s') = the probability that it ends in s'; gamma = discount.
"""

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.distributions import Categorical, Independent, Normal
from torch.nn import functional as F

from baselines.actor_critic import FIRST_LOG_STD
from baselines.algorithm import Algorithm
from baselines.settings import Baseline
from baselines.settings.option_critic import OptionCriticSettings
from sacae.envs.contract import Stepper, StepResult
from sacae.replay import FrameReplay
from sacae.training.learner import Learner, require_finite
from sacae.training.run import Run
from sacae.training.streams import ACTIONS, REPLAY, restore, seed_for
from sacae.types import Actions, Batch, EnvSpec, Frames, Metrics

NO_OPTION = -1
"""In place of a running option: one is to be chosen."""

SHORTEST_EPISODE = 10
"""Agent steps of the shortest episode that the replay is planned for; with shorter ones it holds a little less."""


# Networks.


class OptionCritic(nn.Module):
    """Values, terminations and policies of W options on shared features.

    Terminations and policies see the features detached: only the values train them.
    """

    def __init__(self, spec: EnvSpec, config: OptionCriticSettings) -> None:
        super().__init__()
        self.spec, self.num_options = spec, config.num_options
        self.discrete = spec.num_actions is not None
        (obs_dim,) = spec.obs_shape
        hidden_dim = config.hidden_dim
        self.features = nn.Sequential(
            nn.Linear(obs_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, hidden_dim), nn.ReLU()
        )
        self.q = nn.Linear(hidden_dim, self.num_options)
        self.terminations = nn.Linear(hidden_dim, self.num_options)
        # Of each option: a mean for each action dimension, or a logit for each of its choices.
        self.outputs = self.num_options, spec.action_dim, spec.num_actions or 1
        self.policies = nn.Linear(hidden_dim, math.prod(self.outputs))
        shape = self.num_options, spec.action_dim
        self.log_std = None if self.discrete else nn.Parameter(torch.full(shape, FIRST_LOG_STD))

    def critic_parameters(self) -> list[nn.Parameter]:
        """The parameters of Q, features included."""
        return [*self.features.parameters(), *self.q.parameters()]

    def actor_parameters(self) -> list[nn.Parameter]:
        """The parameters of the terminations and policies alone."""
        log_std = [] if self.log_std is None else [self.log_std]
        return [*self.terminations.parameters(), *self.policies.parameters(), *log_std]

    def value(self, obs: torch.Tensor) -> torch.Tensor:
        """Q(s, .). (B, D) -> (B, W)."""
        values: torch.Tensor = self.q(self.features(obs))
        return values

    def termination(self, features: torch.Tensor) -> torch.Tensor:
        """beta_w(s) of every option. (B, hidden_dim) -> (B, W)."""
        return torch.sigmoid(self.terminations(features.detach()))

    def policy(self, features: torch.Tensor, option: torch.Tensor) -> "Independent[Categorical | Normal]":
        """pi_w(.|s) of options (B,); log_prob and entropy are (B,), summed over action dimensions."""
        outputs = chosen(self.policies(features.detach()).unflatten(-1, self.outputs), option)
        # Not validated: what is not finite shows in the loss, and ends the run with a line that says which.
        if self.log_std is None:
            base: Categorical | Normal = Categorical(logits=outputs, validate_args=False)
        else:
            base = Normal(outputs.squeeze(-1), self.log_std[option].exp(), validate_args=False)
        return Independent(base, 1, validate_args=False)

    @torch.no_grad()
    def sample(self, obs: torch.Tensor, option: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Actions drawn from pi_w(.|s): float32 (B, A), not bounded, or int64 (B, A).

        Drawn without reparameterisation: the gradient of log pi_w(a|s) is that at a fixed action.
        """
        base = self.policy(self.features(obs), option).base_dist
        if isinstance(base, Categorical):
            return torch.multinomial(base.probs.flatten(0, 1), 1, generator=generator).view(-1, self.spec.action_dim)
        return torch.normal(base.mean, base.stddev, generator=generator)

    @torch.no_grad()
    def act_on(self, obs: Frames, memory: Sequence[int | None]) -> tuple[torch.Tensor, list[int]]:
        """See RememberingPlayer; what is remembered is the running option.

        Without exploration: an option ends where that is the more likely, the next is the most valuable one, and its
        most likely action is taken, float32 (N, A) in [-1, 1] or int64 (N, A).
        """
        device = self.q.weight.device
        features = self.features(torch.as_tensor(obs, device=device))
        running = torch.tensor([NO_OPTION if option is None else option for option in memory], device=device)
        ends = (running == NO_OPTION) | (chosen(self.termination(features), running.clamp(min=0)) > 0.5)
        option = torch.where(ends, self.q(features).argmax(-1), running)
        base = self.policy(features, option).base_dist
        action = base.logits.argmax(-1) if isinstance(base, Categorical) else base.mean.clamp(-1, 1)
        return action, option.tolist()


def chosen(of_each: torch.Tensor, option: torch.Tensor) -> torch.Tensor:
    """What belongs to the options. (B, W, ...), int64 (B,) -> (B, ...)."""
    return of_each[torch.arange(len(option), device=option.device), option]


# What they learn from.


def option_target(
    reward: torch.Tensor, discount: torch.Tensor, next_q: torch.Tensor, next_beta: torch.Tensor, option: torch.Tensor
) -> torch.Tensor:
    """r + gamma [(1 - beta_w(s')) Q'(s', w) + beta_w(s') max_w' Q'(s', w')] (eq. 3 with a greedy policy over options).

    discount: gamma, or 0 where the task is over at s'; a time limit is not such an end. next_q, next_beta: of every
    option, (B, W); all else (B,).
    """
    ends = chosen(next_beta, option)
    return reward + discount * ((1 - ends) * chosen(next_q, option) + ends * next_q.max(-1).values)


def critic_loss(q: torch.Tensor, option: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Huber loss of Q(s, w). (B, W), (B,), (B,) -> ()."""
    return F.smooth_l1_loss(chosen(q, option), target)


def policy_loss(
    log_prob: torch.Tensor, entropy: torch.Tensor, advantage: torch.Tensor, entropy_weight: float
) -> torch.Tensor:
    """-E[log pi_w(a|s) A + c H(pi_w)], whose gradient is minus theorem 1's for A = target - Q(s, w). (B,) -> ()."""
    return -(log_prob * advantage + entropy_weight * entropy).mean()


def termination_loss(
    next_beta: torch.Tensor, next_q: torch.Tensor, option: torch.Tensor, alive: torch.Tensor, termination_reg: float
) -> torch.Tensor:
    """E[beta_w(s') (Q(s', w) - max_w' Q(s', w') + xi)], whose gradient is minus theorem 2's, for xi = 0. -> ().

    next_beta, next_q: of every option, (B, W). option: (B,). alive: float32 (B,), 0 where the task is over
    at s', where no option can go on.
    """
    advantage = chosen(next_q, option) - next_q.max(-1).values + termination_reg
    return (chosen(next_beta, option) * advantage.detach() * alive).mean()


class OptionUpdates:
    """The networks, their target network and the optimisers: a step of the critic, and one of all else."""

    def __init__(self, spec: EnvSpec, config: OptionCriticSettings, device: torch.device) -> None:
        self.config = config
        self.networks = OptionCritic(spec, config).to(device)
        self.target = copy.deepcopy(self.networks).requires_grad_(False)
        self.optimizers = {
            "critic": torch.optim.Adam(self.networks.critic_parameters(), config.critic_lr),
            "actor": torch.optim.Adam(self.networks.actor_parameters(), config.actor_lr),
        }
        self.updates_done = 0

    def update_critic(self, batch: Batch) -> Metrics:
        """Fits Q to replayed transitions, in which the action is the option."""
        networks, option = self.networks, batch.action[:, 0]
        with torch.no_grad():
            next_beta = networks.termination(networks.features(batch.next_obs))
            # The features below Q' are the target network's own.
            next_q = self.target.value(batch.next_obs)
            target = option_target(batch.reward[:, 0], batch.discount[:, 0], next_q, next_beta, option)
        q = networks.value(batch.obs)
        loss = critic_loss(q, option, target)
        self._step("critic", loss)
        self.updates_done += 1
        if self.updates_done % self.config.critic_target_update_freq == 0:
            self.target.load_state_dict(networks.state_dict())
        return {"critic_loss": loss.detach(), "q": chosen(q, option).mean().detach()}

    def update_options(
        self,
        obs: torch.Tensor,
        option: torch.Tensor,
        action: torch.Tensor,
        reward: torch.Tensor,
        alive: torch.Tensor,
        next_obs: torch.Tensor,
    ) -> Metrics:
        """Steps policies and terminations on what has just been done in N environments.

        alive: float32 (N,), 0 where the task was over at next_obs.
        """
        config, networks = self.config, self.networks
        with torch.no_grad():
            features, next_features = networks.features(obs), networks.features(next_obs)
            q, next_q = networks.q(features), networks.q(next_features)
        next_beta = networks.termination(next_features)
        policy = networks.policy(features, option)
        next_target_q = self.target.value(next_obs)
        target = option_target(reward, config.discount * alive, next_target_q, next_beta.detach(), option)
        log_prob, entropy = policy.log_prob(action), policy.entropy()
        of_policies = policy_loss(log_prob, entropy, target - chosen(q, option), config.entropy_weight)
        of_terminations = termination_loss(next_beta, next_q, option, alive, config.termination_reg)
        self._step("actor", of_policies + of_terminations)
        return {
            "policy_loss": of_policies.detach(),
            "entropy": entropy.mean().detach(),
            "termination_loss": of_terminations.detach(),
            "termination": chosen(next_beta, option).mean().detach(),
        }

    def _step(self, name: str, loss: torch.Tensor) -> None:
        self.optimizers[name].zero_grad()
        loss.backward()
        self.optimizers[name].step()

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "networks": self.networks.state_dict(),
            "target": self.target.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "updates_done": self.updates_done,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Takes over what `state` returned."""
        self.networks.load_state_dict(state["networks"])
        self.target.load_state_dict(state["target"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.updates_done = state["updates_done"]


# A run.


class OptionCriticLearner(Learner):
    """An option runs until it ends, and then the next is chosen (call and return)."""

    metric_names = ("critic_loss", "q", "policy_loss", "entropy", "termination_loss", "termination", "epsilon")

    def __init__(
        self, config: Baseline[OptionCriticSettings], spec: EnvSpec, stepper: Stepper, device: torch.device
    ) -> None:
        seed, algorithm = config.train.seed, config.algorithm
        self.config, self.device = config, device
        self.updates = OptionUpdates(spec, algorithm, device)
        self.player = self.networks = self.updates.networks
        self.replay = self.saved_replay = self._make_replay(spec, stepper.env_info.max_episode_steps)
        self.action_generator = torch.Generator(device).manual_seed(seed_for(seed, ACTIONS))
        self.option_rng = np.random.default_rng(seed_for(seed, ACTIONS, 1))
        self.replay_rng = np.random.default_rng(seed_for(seed, REPLAY))
        self._obs: Frames  # (N, D), what the next actions answer to
        self.options: NDArray[np.int64] = np.full(config.train.num_envs, NO_OPTION)

    def _make_replay(self, spec: EnvSpec, longest: int | None) -> FrameReplay:
        """A replay in which the options stand in place of the actions: the values need no more."""
        config, num_envs = self.config.algorithm, self.config.train.num_envs
        spec = dataclasses.replace(spec, action_dim=1, num_actions=config.num_options)
        assert longest is not None  # envs.from_config gives every task a time limit.
        shortest = min(longest, SHORTEST_EPISODE)
        return FrameReplay(
            spec, config.replay_capacity, num_envs, 1, config.discount, self.device, episode_length=shortest
        )

    @property
    def updates_done(self) -> int:
        """Updates of the values so far."""
        return self.updates.updates_done

    def epsilon(self, env_step: int) -> float:
        """Share of random choices among options at that environment step."""
        config = self.config.algorithm
        left = math.exp(-env_step / config.epsilon_decay_steps)
        return config.epsilon + (config.epsilon_start - config.epsilon) * left

    def begin(self, frames: Sequence[Frames], _states: Sequence[NDArray[np.float32] | None]) -> None:
        """See Learner."""
        self._obs = np.stack(frames)
        self.options[:] = NO_OPTION
        for i, frame in enumerate(self._obs):
            self.replay.begin(i, frame)

    def act(self, run: Run) -> Actions:
        """See Learner."""
        obs = torch.from_numpy(self._obs).to(self.device)
        self._before = self.action_generator.get_state(), self.option_rng.bit_generator.state, self.options
        self._choose_options(obs, run.env_step)
        options = torch.from_numpy(self.options).to(self.device)
        try:
            self._drawn = self.networks.sample(obs, options, self.action_generator)
        except RuntimeError:  # of probabilities that are not finite
            self.check_finite()
            raise
        choices = self._drawn.cpu().numpy()
        # A policy's Gaussian is not bounded, the task's actions are. What is learned from is what was drawn.
        return choices if self.networks.discrete else choices.clip(-1, 1)

    def take_back(self) -> None:
        """See Learner."""
        actions, options, self.options = self._before
        self.action_generator.set_state(actions)
        self.option_rng.bit_generator.state = options

    def check_finite(self) -> None:
        """See Learner."""
        obs, options = (torch.from_numpy(x).to(self.device) for x in (self._obs, self.options.clip(min=0)))
        with torch.no_grad():
            policy = self.networks.policy(self.networks.features(obs), options).base_dist
        outputs = policy.probs if isinstance(policy, Categorical) else policy.mean
        require_finite({"a policy": outputs.abs().max()}, self.updates_done)

    def observe(self, run: Run, _actions: Actions, result: StepResult) -> None:
        """Learns from the step, and ends options. See Learner."""
        next_obs = torch.from_numpy(result.frame).to(self.device)
        self._remember(result)
        if run.agent_step >= self.config.algorithm.seed_steps:
            with run.stopwatch.section("update"):
                self._learn(run, result, next_obs)
        self._end_options(next_obs)
        self._obs = result.next_obs()
        for i, first_frame in enumerate(result.first_frame):
            if first_frame is not None:
                self.options[i] = NO_OPTION
                self.replay.begin(i, first_frame)

    def _choose_options(self, obs: torch.Tensor, env_step: int) -> None:
        """Where none runs: at random with probability epsilon, otherwise the most valuable one."""
        if (self.options != NO_OPTION).all():
            return
        with torch.no_grad():
            best = self.networks.value(obs).argmax(-1).cpu().numpy()
        random = self.option_rng.integers(self.networks.num_options, size=len(best))
        chosen_now = np.where(self.option_rng.random(len(best)) < self.epsilon(env_step), random, best)
        self.options = np.where(self.options == NO_OPTION, chosen_now, self.options)

    def _end_options(self, next_obs: torch.Tensor) -> None:
        networks, running = self.networks, torch.from_numpy(self.options).to(self.device)
        with torch.no_grad():
            ends = chosen(networks.termination(networks.features(next_obs)), running).cpu().numpy()
        self.options = np.where(self.option_rng.random(len(ends)) < ends, NO_OPTION, self.options)

    def _remember(self, result: StepResult) -> None:
        for i, option in enumerate(self.options):
            if i in result.lost:
                continue
            terminated, truncated = bool(result.terminated[i]), bool(result.truncated[i])
            self.replay.add(i, np.array([option]), float(result.reward[i]), terminated, truncated, result.frame[i])

    def _learn(self, run: Run, result: StepResult, next_obs: torch.Tensor) -> None:
        obs, options = (torch.from_numpy(x).to(self.device) for x in (self._obs, self.options))
        reward, alive = (torch.from_numpy(x).float().to(self.device) for x in (result.reward, ~result.terminated))
        step: tuple[torch.Tensor, ...] = (obs, options, self._drawn, reward, alive, next_obs)
        taken = len(obs) - len(result.lost)
        if result.lost:
            kept = [i for i in range(len(obs)) if i not in result.lost]
            step = tuple(column[kept] for column in step)
        if taken:
            self._note(run, self.updates.update_options(*step))
        for _ in range(self._critic_updates_due(run.agent_step, taken)):
            batch = self.replay.sample(self.config.algorithm.batch_size, self.replay_rng)
            self._note(run, self.updates.update_critic(batch))

    def _critic_updates_due(self, agent_step: int, taken: int) -> int:
        every = self.config.algorithm.critic_update_freq
        return (agent_step + taken) // every - agent_step // every

    def _note(self, run: Run, metrics: Metrics) -> None:
        metrics = metrics | {"epsilon": torch.tensor(self.epsilon(run.env_step), device=self.device)}
        require_finite(metrics, self.updates_done)
        run.means.add(metrics)

    # What evaluations and checkpoints ask for.

    def playable(self) -> dict[str, Any]:
        """See Learner."""
        return {"agent": self.config.variant, "networks": self.networks.state_dict()}

    def state(self) -> dict[str, Any]:
        """See Learner."""
        return {
            "learning": {"agent": self.config.variant} | self.updates.state(),
            "learner": {"obs": self._obs, "options": self.options},
            "random": {
                "actions": self.action_generator.get_state(),
                "options": self.option_rng.bit_generator.state,
                "replay": self.replay_rng.bit_generator.state,
            },
        }

    def load(self, state: Mapping[str, Any]) -> bool:
        """See Learner."""
        self.updates.load(state["learning"])
        self._obs, self.options = state["learner"]["obs"], state["learner"]["options"]
        seed = seed_for(self.config.train.seed, ACTIONS, 2, self.updates_done)
        restore(self.action_generator, state["random"]["actions"], seed)
        self.option_rng.bit_generator.state = state["random"]["options"]
        self.replay_rng.bit_generator.state = state["random"]["replay"]
        return True


def load_player(
    config: Baseline[OptionCriticSettings], spec: EnvSpec, device: torch.device, learning: dict[str, Any]
) -> OptionCritic:
    """What plays, as a checkpoint's "learning" left it."""
    player = OptionCritic(spec, config.algorithm).to(device)
    player.load_state_dict(learning["networks"])
    return player


ALGORITHM = Algorithm(OptionCriticSettings, OptionCriticLearner, load_player, OptionCriticLearner.metric_names)
