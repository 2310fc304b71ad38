"""What a policy did: the buffer of steps between two updates, and advantages estimated from it."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from baselines.actor_critic import ActorCritic
from sacae.envs.contract import StepResult
from sacae.types import Actions, EnvSpec, Frames


class RolloutBatch(NamedTuple):
    """B = T * N steps on the training device.

    obs: float32 (B, D). action: float32 or int64 (B, A), as drawn. log_prob: float32 (B,), of the policy that drew it.
    advantage: float32 (B,), mean 0 and standard deviation 1. value_target: float32 (B,).
    """

    obs: torch.Tensor
    action: torch.Tensor
    log_prob: torch.Tensor
    advantage: torch.Tensor
    value_target: torch.Tensor


def advantages(
    reward: NDArray[np.float64],
    value: NDArray[np.float64],
    next_value: NDArray[np.float64],
    terminated: NDArray[np.bool_],
    ended: NDArray[np.bool_],
    discount: float,
    gae_lambda: float,
) -> NDArray[np.float64]:
    """Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438, eq. 16). All arrays are (T, N).

    next_value: of the observation that followed the action, also where that was an episode's last one. terminated: no
    value after it. ended: terminated or cut off; the next row belongs to another episode.
    """
    difference = reward + discount * np.where(terminated, 0.0, next_value) - value
    result = np.empty_like(difference)
    running = np.zeros_like(difference[0])
    for t in reversed(range(len(difference))):
        running = difference[t] + discount * gae_lambda * np.where(ended[t], 0.0, running)
        result[t] = running
    return result


class Rollout:
    """The steps of N environments since the last update, T at most."""

    def __init__(self, spec: EnvSpec, num_steps: int, num_envs: int) -> None:
        shape = num_steps, num_envs
        self.columns = {
            "obs": np.zeros((*shape, *spec.obs_shape), np.float32),
            "next_obs": np.zeros((*shape, *spec.obs_shape), np.float32),
            "action": np.zeros((*shape, spec.action_dim), spec.action_dtype),
            "reward": np.zeros(shape),
            "terminated": np.zeros(shape, bool),
            "ended": np.zeros(shape, bool),
        }
        self._kept = np.ones(shape, bool)  # whether it is a step, not a failed one
        self.length = 0

    @property
    def full(self) -> bool:
        """Whether there is no room for another step."""
        return self.length == len(self.columns["reward"])

    def add(self, obs: Frames, action: Actions, result: StepResult) -> None:
        """Takes in a step: states (N, D), actions (N, A), and what the environments answered."""
        self.cut_off(result.lost)
        if len(result.lost) == len(obs):
            return
        lost = [*result.lost]
        self._kept[self.length] = True
        self._kept[self.length, lost] = False
        row = {
            "obs": obs,
            "next_obs": result.frame,
            "action": action,
            "reward": result.reward,
            "terminated": result.terminated,
            "ended": result.terminated | result.truncated,
        }
        for name, value in row.items():
            self.columns[name][self.length] = value
        self.length += 1

    def cut_off(self, numbers: Iterable[int]) -> None:
        """The running episodes of these environments end with their last step here."""
        if self.length:
            self.columns["ended"][self.length - 1, [*numbers]] = True

    @torch.no_grad()
    def batch(
        self, actor_critic: ActorCritic, discount: float, gae_lambda: float, monte_carlo: bool, device: torch.device
    ) -> RolloutBatch:
        """All steps, in a full buffer, with what the policy and values that made them say; empties the buffer.

        monte_carlo: whether values are fitted to discounted sums of rewards, or to the value plus the advantage.
        """
        columns = self.columns
        obs, next_obs, action = (
            torch.from_numpy(columns[name]).to(device, copy=True).flatten(0, 1)
            for name in ("obs", "next_obs", "action")
        )
        shape = columns["reward"].shape
        value, next_value = (actor_critic.value(x).cpu().double().numpy().reshape(shape) for x in (obs, next_obs))
        told = columns["reward"], value, next_value, columns["terminated"], columns["ended"], discount
        advantage = advantages(*told, gae_lambda)
        # With lambda 1 the values in between cancel: what is left is the sum of rewards to the end, minus the value.
        target = value + (advantages(*told, 1.0) if monte_carlo else advantage)
        if not self._kept.all():
            kept = torch.from_numpy(self._kept.ravel()).to(device)
            obs, action = obs[kept], action[kept]
            advantage, target = advantage[self._kept], target[self._kept]
        normalised = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        log_prob = actor_critic.policy(obs).log_prob(action)
        self.length = 0
        flat = (torch.from_numpy(x).float().flatten().to(device) for x in (normalised, target))
        return RolloutBatch(obs, action, log_prob, *flat)

    def state(self) -> dict[str, Any]:
        """For a checkpoint: the steps so far."""
        state = {name: column[: self.length].copy() for name, column in self.columns.items()}
        kept = self._kept[: self.length]
        return state if kept.all() else state | {"kept": kept.copy()}

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Takes over what `state` returned."""
        self.length = len(state["reward"])
        for name, column in self.columns.items():
            column[: self.length] = state[name]
        self._kept[: self.length] = state.get("kept", True)
