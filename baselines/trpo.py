"""Trust region policy optimisation (Schulman et al. 2015, arXiv:1502.05477), and the natural policy gradient (Kakade
2001), which is its step without the search along it.

Symbols: L = E[pi(a|s) / pi_old(a|s) A], the surrogate; g = its gradient; F = the Fisher matrix, the Hessian of
KL(pi_old || pi) at pi = pi_old; delta = max_kl.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.distributions import Categorical, Distribution, Independent, Normal, kl_divergence
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from baselines import on_policy
from baselines.actor_critic import ActorCritic
from baselines.rollout import RolloutBatch
from baselines.settings.on_policy import NaturalGradientSettings, NPGSettings, TRPOSettings
from sacae.types import Metrics


class NPG:
    """The policy's step: sqrt(2 delta / x'Fx) x with x = F^-1 g."""

    metric_names: tuple[str, ...] = ("policy_loss", "entropy", "kl", "step_fraction")

    def __init__(self, actor_critic: ActorCritic, config: NaturalGradientSettings) -> None:
        self._actor_critic, self._config = actor_critic, config
        self._parameters = actor_critic.policy_parameters()

    def improve(self, batch: RolloutBatch, _rng: np.random.Generator) -> Metrics:
        """One step on all of the batch."""
        old = frozen(self._actor_critic.policy(batch.obs))
        surrogate = self._surrogate(batch)
        step = self._full_step(batch, old, surrogate)
        surrogate, start = surrogate.detach(), parameters_to_vector(self._parameters).detach()
        fraction = self._move(batch, old, surrogate, start, step)
        return {
            "policy_loss": -surrogate,
            "entropy": old.entropy().mean(),
            "kl": self._kl(batch, old),
            "step_fraction": torch.tensor(fraction, device=batch.obs.device),
        }

    def _surrogate(self, batch: RolloutBatch) -> torch.Tensor:
        log_prob: torch.Tensor = self._actor_critic.policy(batch.obs).log_prob(batch.action)
        return ((log_prob - batch.log_prob).exp() * batch.advantage).mean()

    def _kl(self, batch: RolloutBatch, old: Distribution) -> torch.Tensor:
        with torch.no_grad():
            divergence: torch.Tensor = kl_divergence(old, self._actor_critic.policy(batch.obs))
        return divergence.mean()

    def _full_step(self, batch: RolloutBatch, old: Distribution, surrogate: torch.Tensor) -> torch.Tensor:
        config = self._config
        gradient = parameters_to_vector(torch.autograd.grad(surrogate, self._parameters)).detach()
        kl = kl_divergence(old, self._actor_critic.policy(batch.obs)).mean()
        fisher = fisher_vector_product(kl, self._parameters, config.damping)
        direction = conjugate_gradient(fisher, gradient, config.cg_iterations)
        curvature = direction @ fisher(direction)
        if curvature <= 0:  # no gradient, or one lost in rounding
            return torch.zeros_like(direction)
        return torch.sqrt(2 * config.max_kl / curvature) * direction

    def _move(
        self,
        _batch: RolloutBatch,
        _old: Distribution,
        _surrogate: torch.Tensor,
        start: torch.Tensor,
        step: torch.Tensor,
    ) -> float:
        """Takes the step, or a part of it; returns which part."""
        vector_to_parameters(start + step, self._parameters)
        return 1.0

    def state(self) -> dict[str, Any]:
        """See PolicyStep: there is nothing beside the networks."""
        return {}

    def load(self, _state: dict[str, Any]) -> None:
        """See PolicyStep."""


class TRPO(NPG):
    """The same step, shortened until the policy is better and within the trust region (appendix C)."""

    def __init__(self, actor_critic: ActorCritic, config: TRPOSettings) -> None:
        super().__init__(actor_critic, config)
        self._search = config

    def _move(
        self, batch: RolloutBatch, old: Distribution, surrogate: torch.Tensor, start: torch.Tensor, step: torch.Tensor
    ) -> float:
        config = self._search
        for j in range(config.backtracks):
            fraction: float = config.backtrack_coefficient**j
            vector_to_parameters(start + fraction * step, self._parameters)
            with torch.no_grad():
                better = self._surrogate(batch) > surrogate
            if better and self._kl(batch, old) <= config.max_kl:
                return fraction
        vector_to_parameters(start, self._parameters)
        return 0.0


def frozen(policy: "Independent[Categorical | Normal]") -> "Independent[Categorical | Normal]":
    """The distribution as it is now, whatever becomes of the parameters it was made from."""
    base: Categorical | Normal = policy.base_dist
    if isinstance(base, Normal):
        base = Normal(base.mean.detach().clone(), base.stddev.detach().clone(), validate_args=False)
    else:
        base = Categorical(logits=base.logits.detach().clone(), validate_args=False)
    return Independent(base, 1, validate_args=False)


def fisher_vector_product(
    kl: torch.Tensor, parameters: Sequence[torch.Tensor], damping: float
) -> Callable[[torch.Tensor], torch.Tensor]:
    """v -> (F + damping) v, by differentiating the divergence KL(pi_old || pi) at pi = pi_old twice."""
    gradient = parameters_to_vector(torch.autograd.grad(kl, parameters, create_graph=True))

    def product(vector: torch.Tensor) -> torch.Tensor:
        columns = torch.autograd.grad(gradient @ vector, parameters, retain_graph=True)
        return parameters_to_vector([column.contiguous() for column in columns]) + damping * vector

    return product


def conjugate_gradient(
    product: Callable[[torch.Tensor], torch.Tensor], b: torch.Tensor, iterations: int, tolerance: float = 1e-10
) -> torch.Tensor:
    """x with product(x) = b, for a symmetric positive definite matrix, after so many iterations at most."""
    x, residual, direction = torch.zeros_like(b), b.clone(), b.clone()
    squared = residual @ residual
    for _ in range(iterations):
        if squared < tolerance:
            break
        image = product(direction)
        step = squared / (direction @ image)
        x = x + step * direction
        residual = residual - step * image
        before, squared = squared, residual @ residual
        direction = residual + squared / before * direction
    return x


NPG_ALGORITHM = on_policy.algorithm(NPGSettings, NPG)
TRPO_ALGORITHM = on_policy.algorithm(TRPOSettings, TRPO)
