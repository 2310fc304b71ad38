"""SAC, TD3, DDPG and DQN from state in as little PyTorch as they take: the speed that a package should not fall behind.

No checkpoints, no logging, no evaluation, one environment, 2x256 networks, batches of 256, an update for each step.
`baselines_throughput.py` times them beside the package.
"""

import copy
from collections.abc import Iterable

import gymnasium
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

HIDDEN, BATCH, CAPACITY = 256, 256, 100_000
DISCOUNT, TAU, LEARNING_RATE = 0.99, 0.005, 3e-4
EPSILON, NOISE = 0.05, 0.1
TARGET_NOISE, TARGET_NOISE_CLIP = 0.2, 0.5
POLICY_DELAY, COPY_EVERY = 2, 1000
RNG = np.random.default_rng(1)


class Replay:
    """Transitions in arrays; the oldest are overwritten."""

    def __init__(self, obs_dim: int, action_dim: int) -> None:
        self.obs = np.zeros((CAPACITY, obs_dim), np.float32)
        self.next_obs = np.zeros_like(self.obs)
        self.action = np.zeros((CAPACITY, action_dim), np.float32)
        self.reward, self.alive = np.zeros((CAPACITY, 1), np.float32), np.zeros((CAPACITY, 1), np.float32)
        self.count = 0

    def add(self, obs: np.ndarray, action: np.ndarray, reward: float, next_obs: np.ndarray, terminated: bool) -> None:
        """Stores a transition."""
        i = self.count % CAPACITY
        self.obs[i], self.action[i], self.reward[i], self.next_obs[i] = obs, action, reward, next_obs
        self.alive[i] = not terminated
        self.count += 1

    def sample(self) -> list[torch.Tensor]:
        """obs, action, reward, next_obs, alive of a batch, float32 (B, ...)."""
        rows = RNG.integers(min(self.count, CAPACITY), size=BATCH)
        return [torch.from_numpy(a[rows]) for a in (self.obs, self.action, self.reward, self.next_obs, self.alive)]


def mlp(inputs: int, outputs: int) -> nn.Sequential:
    """A network with two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs)
    )


def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Adam:
    """The optimiser of every network."""
    return torch.optim.Adam(parameters, LEARNING_RATE)


def descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """A step of the optimiser on the loss."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@torch.no_grad()
def move(target: nn.Module, online: nn.Module) -> None:
    """A step of the target's moving average."""
    for old, new in zip(target.parameters(), online.parameters()):
        old.lerp_(new, TAU)


class Twin(nn.Module):
    """Q functions of continuous actions."""

    def __init__(self, obs_dim: int, action_dim: int, count: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(mlp(obs_dim + action_dim, 1) for _ in range(count))

    def forward(self, obs: torch.Tensor, action: torch.Tensor) -> list[torch.Tensor]:
        """Their values, (B, 1) each."""
        x = torch.cat([obs, action], -1)
        return [member(x) for member in self.members]


class SAC:
    """Soft actor-critic with a learned temperature."""

    def __init__(self, obs_dim: int, action_dim: int) -> None:
        self.actor, self.critic = mlp(obs_dim, 2 * action_dim), Twin(obs_dim, action_dim, 2)
        self.target = copy.deepcopy(self.critic)
        self.log_alpha = nn.Parameter(torch.zeros(()))
        self.steps_actor, self.steps_critic = adam(self.actor.parameters()), adam(self.critic.parameters())
        self.steps_alpha = adam([self.log_alpha])
        self.target_entropy = -action_dim

    def sample(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Actions (B, A) and their log-probabilities (B, 1)."""
        mean, log_std = self.actor(obs).chunk(2, -1)
        normal = torch.distributions.Normal(mean, log_std.clamp(-20, 2).exp())
        u = normal.rsample()
        correction = 2 * (np.log(2) - u - F.softplus(-2 * u))
        return torch.tanh(u), (normal.log_prob(u) - correction).sum(-1, keepdim=True)

    @torch.no_grad()
    def act(self, obs: torch.Tensor) -> torch.Tensor:
        """An exploring action."""
        return self.sample(obs)[0]

    def update(self, batch: list[torch.Tensor], _count: int) -> None:
        """One update of everything."""
        obs, action, reward, next_obs, alive = batch
        alpha = self.log_alpha.exp().detach()
        with torch.no_grad():
            next_action, log_prob = self.sample(next_obs)
            next_q = torch.minimum(*self.target(next_obs, next_action)) - alpha * log_prob
            y = reward + DISCOUNT * alive * next_q
        descend(self.steps_critic, sum(F.mse_loss(q, y) for q in self.critic(obs, action)))
        new_action, log_prob = self.sample(obs)
        descend(self.steps_actor, (alpha * log_prob - torch.minimum(*self.critic(obs, new_action))).mean())
        descend(self.steps_alpha, -(self.log_alpha.exp() * (log_prob.detach() + self.target_entropy)).mean())
        move(self.target, self.critic)


class TD3:
    """Twin delayed DDPG."""

    members, delay, target_noise = 2, POLICY_DELAY, TARGET_NOISE

    def __init__(self, obs_dim: int, action_dim: int) -> None:
        self.actor = nn.Sequential(mlp(obs_dim, action_dim), nn.Tanh())
        self.critic = Twin(obs_dim, action_dim, self.members)
        self.actor_target, self.critic_target = copy.deepcopy(self.actor), copy.deepcopy(self.critic)
        self.steps_actor, self.steps_critic = adam(self.actor.parameters()), adam(self.critic.parameters())

    @torch.no_grad()
    def act(self, obs: torch.Tensor) -> torch.Tensor:
        """An exploring action."""
        action = self.actor(obs)
        return (action + NOISE * torch.randn_like(action)).clamp(-1, 1)

    def update(self, batch: list[torch.Tensor], count: int) -> None:
        """One update of everything that is due."""
        obs, action, reward, next_obs, alive = batch
        with torch.no_grad():
            next_action = self.actor_target(next_obs)
            if self.target_noise:
                noise = (self.target_noise * torch.randn_like(next_action)).clamp(-TARGET_NOISE_CLIP, TARGET_NOISE_CLIP)
                next_action = (next_action + noise).clamp(-1, 1)
            values = self.critic_target(next_obs, next_action)
            y = reward + DISCOUNT * alive * (torch.minimum(*values) if len(values) == 2 else values[0])
        descend(self.steps_critic, sum(F.mse_loss(q, y) for q in self.critic(obs, action)))
        if count % self.delay == 0:
            descend(self.steps_actor, -self.critic(obs, self.actor(obs))[0].mean())
            move(self.actor_target, self.actor)
            move(self.critic_target, self.critic)


class DDPG(TD3):
    """Deep deterministic policy gradient."""

    members, delay, target_noise = 1, 1, 0.0


class DQN:
    """Deep Q-learning with a copied target network."""

    def __init__(self, obs_dim: int, num_actions: int) -> None:
        self.q, self.num_actions = mlp(obs_dim, num_actions), num_actions
        self.target = copy.deepcopy(self.q)
        self.steps = adam(self.q.parameters())

    @torch.no_grad()
    def act(self, obs: torch.Tensor) -> torch.Tensor:
        """An exploring choice."""
        if RNG.random() < EPSILON:
            return torch.randint(self.num_actions, (1,))
        return self.q(obs).argmax(-1, keepdim=True)

    def update(self, batch: list[torch.Tensor], count: int) -> None:
        """One update, and a copy to the target network when it is due."""
        obs, action, reward, next_obs, alive = batch
        with torch.no_grad():
            y = reward + DISCOUNT * alive * self.target(next_obs).max(-1, keepdim=True).values
        descend(self.steps, F.smooth_l1_loss(self.q(obs).gather(1, action.long()), y))
        if count % COPY_EVERY == 0:
            self.target.load_state_dict(self.q.state_dict())


ALGORITHMS = {"SAC": SAC, "TD3": TD3, "DDPG": DDPG, "DQN": DQN}


class Run:
    """A training on one environment: an agent step, and after `seed_steps` an update, for each step."""

    def __init__(self, algorithm: str, env: str, seed_steps: int) -> None:
        self.env, self.seed_steps, self.count = gymnasium.make(env), seed_steps, 0
        obs_dim, space = self.env.observation_space.shape[0], self.env.action_space
        self.discrete = isinstance(space, gymnasium.spaces.Discrete)
        self.agent = ALGORITHMS[algorithm](obs_dim, space.n if self.discrete else space.shape[0])
        self.replay = Replay(obs_dim, 1 if self.discrete else space.shape[0])
        self.obs, _ = self.env.reset(seed=1)

    def step(self) -> None:
        """One environment step, and what is learned with it."""
        action = self._action()
        next_obs, reward, terminated, truncated, _ = self.env.step(self._in_env(action))
        self.replay.add(self.obs, action, reward, next_obs, terminated)
        self.obs = self.env.reset()[0] if terminated or truncated else next_obs
        self.count += 1
        if self.count > self.seed_steps:
            self.agent.update(self.replay.sample(), self.count)

    def _action(self) -> np.ndarray:
        """An action in [-1, 1], or a choice, (A,)."""
        space = self.env.action_space
        if self.count < self.seed_steps:
            return np.array([space.sample()]) if self.discrete else RNG.uniform(-1, 1, space.shape)
        return self.agent.act(torch.from_numpy(self.obs)).numpy()

    def _in_env(self, action: np.ndarray) -> int | np.ndarray:
        """The action as the environment takes it."""
        if self.discrete:
            return int(action[0])
        low, high = self.env.action_space.low, self.env.action_space.high
        return low + (action + 1) / 2 * (high - low)
