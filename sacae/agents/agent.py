"""The agent: a head and the auxiliary objectives on a shared encoder, and the order of an update."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from numpy.typing import NDArray
from torch import nn

from sacae.agents import weights
from sacae.agents.augmentation import Augmentation, repeated
from sacae.agents.autoencoder import Reconstruction
from sacae.agents.auxiliary import make_objectives
from sacae.agents.descent import make_descents, norm_groups, raise_if_not_finite
from sacae.agents.gates import Gates, due_gates
from sacae.agents.head import Head, Scheduled
from sacae.agents.optimisers import head_optimised, make_adams
from sacae.agents.targets import MovingAverages
from sacae.config import Config
from sacae.decoder import PixelDecoder
from sacae.encoder import Encoder, channels_last, make_encoder
from sacae.networks import MLP
from sacae.types import PIXELS, STATE, Batch, EnvSpec, Metrics, Noise

Seen: TypeAlias = torch.Tensor | NDArray[Any] | Mapping[str, torch.Tensor] | Mapping[str, NDArray[Any]]
"""Stacked observations, as arrays or as tensors."""


class Agent(nn.Module):
    """An algorithm (head) on a shared encoder, with the auxiliary objectives that the settings ask for.

    With `precision` bf16 the convolutions, the product of the projection and the decoder compute in bfloat16;
    parameters, latent vectors, policies, values and losses are float32. With anything else everything is. `state_dict`
    holds every network, target and temperature, and the update counter; `optimizers` hold the rest of what is learned.

    optimizers: every optimiser, by name. objectives: the auxiliary ones, in the order of their steps.
    encoded_spec: as spec, of what the encoder sees of a frame, which is smaller with `--augment window`.
    updates_done: number of updates so far, as an integer on the host; the buffer num_updates has it on the device.
    policy_gradients: None, or once set to {}, the gradients of the latest update's policy step by parameter.
    """

    num_updates: torch.Tensor
    first_bad_update: torch.Tensor

    def __init__(self, head: type[Head], spec: EnvSpec, config: Config, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.spec, self.config, self.device = spec, config, torch.device(device)
        self.augmentation = Augmentation(spec, config)
        self.encoded_spec = self.augmentation.encoded_spec
        dtype = torch.bfloat16 if config.train.precision == "bf16" else torch.float32
        self.head = head(lambda: make_encoder(self.encoded_spec, config.encoder, dtype), spec, config.agent)
        self.objectives = make_objectives(self.encoded_spec, self.head, config)
        for objective in self.objectives:
            for name, network in objective.networks().items():
                self.add_module(name, network)
        self.encoder.requires_grad_(not config.encoder.freeze_encoder)
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.int64))
        self.to(self.device)
        self.policy_gradients: dict[torch.Tensor, torch.Tensor] | None = None
        self.updates_done = 0
        self._prepare_steps()
        self._prepare_losses()

    def _prepare_steps(self) -> None:
        """Makes the optimisers and, for each loss, what steps on it."""
        config = self.config.agent
        of_head = make_adams(head_optimised(self.head, config))
        together = [{"critic": of_head.pop("critic")}, of_head]
        together += [make_adams(objective.optimised()) for objective in self.objectives]
        self.optimizers = {name: optimizer for group in together for name, optimizer in group.items()}
        # For each optimiser the number of the first update whose loss or gradient was not finite; 0 while all is well.
        self.register_buffer("first_bad_update", torch.zeros(len(self.optimizers), dtype=torch.int64).to(self.device))
        descents = make_descents(together, self.first_bad_update, self.num_updates)
        self._step_critic, self._step_policy, *self._step_objectives = descents
        if config.max_grad_norm:
            for descent in (self._step_critic, self._step_policy):
                descent.bound(norm_groups(self.head, descent.parameters), config.max_grad_norm)
        self._targets = MovingAverages(self.head.targets(), self.config.encoder.encoder_tau, config.critic_tau)

    def _prepare_losses(self) -> None:
        """Compiles the losses if asked for, and finds out which convolutions the policy's step moves."""
        compiling, as_it_is = functools.partial(torch.compile, dynamic=False), lambda function: function
        wrap: Callable[[Any], Any] = compiling if self.config.train.compile else as_it_is
        self._features, self._policy_features = wrap(self.encoder.features), wrap(self.policy_encoder.features)
        self._critic_loss = wrap(self.head.critic_loss)
        self._policy_loss = None if self.head.policy_loss is None else wrap(self.head.policy_loss)
        self._objective_losses = [wrap(objective.loss) for objective in self.objectives]
        self._policy_moves_convs = not {*self._step_policy.parameters}.isdisjoint(self.encoder.convs.parameters())
        shares_convs = self.policy_encoder.convs is self.encoder.convs
        self._policy_has_critics_features = shares_convs and not self._policy_moves_convs

    @property
    def encoder(self) -> Encoder:
        """The critic's encoder, whose convolutions the actor shares and which the auxiliary objectives train."""
        return self.head.critic.encoder

    @property
    def policy_encoder(self) -> Encoder:
        """The encoder whose features the head acts on: the actor's, or without an actor the critic's."""
        return self.encoder if self.head.actor is None else self.head.actor.encoder

    @property
    def reconstruction(self) -> Reconstruction | None:
        """The objective that reconstructs the observation or predicts the physical state, if any."""
        return next((o for o in self.objectives if isinstance(o, Reconstruction)), None)

    @property
    def decoder(self) -> PixelDecoder | MLP | None:
        """The network that reconstructs the observation or predicts the physical state, if any."""
        return None if self.reconstruction is None else self.reconstruction.decoder

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of all metrics that an update may return."""
        return (*self.head.metric_names, *(name for o in self.objectives for name in o.metric_names))

    # Acting.

    @torch.no_grad()
    def act(self, obs: Seen, noise: torch.Tensor | None = None) -> torch.Tensor:
        """Actions for stacked observations: exploring with the head's `exploration_noise`, deterministic without.

        (N, *obs_shape) -> float32 (N, A) in [-1, 1], or int64 (N, A) of choices, on the agent's device. An agent that
        sees a state takes {"pixels": (N, *obs_shape), "state": (N, state_dim)}.
        """
        frames, state = (obs[PIXELS], obs[STATE]) if isinstance(obs, Mapping) else (obs, None)
        images = self.seen(torch.as_tensor(frames, device=self.device))
        state = None if state is None else torch.as_tensor(state, device=self.device)
        return self.head.act(self.policy_encoder.features(self.encoder.prepare(images, state)), noise)

    def seen(self, obs: torch.Tensor) -> torch.Tensor:
        """Observations as acting sees them: the window in the middle where `--augment` cuts one, else unchanged."""
        return self.augmentation.seen(obs)

    @torch.no_grad()
    def latent(self, obs: torch.Tensor) -> torch.Tensor:
        """The critic's latent of images or vectors as acting sees them. (B, *obs_shape) -> (B, latent_dim)."""
        latent: torch.Tensor = self.encoder(self.seen(obs.to(self.device)))
        return latent

    # Learning.

    def draw_noise(self, generator: torch.Generator) -> Noise:
        """All random numbers that one `update` of a batch of the configured size needs, on the generator's device."""
        batch_size = self.config.replay.batch_size
        drawn = self.augmentation.draw(batch_size, generator)
        for objective in self.objectives:
            drawn |= objective.draw_noise(batch_size, generator)
        for name in self.head.noise:
            views = self.augmentation.target_views if name == "next_action" else 1
            shape = views * batch_size, self.spec.action_dim
            drawn[name] = torch.randn(shape, generator=generator, device=generator.device)
        return Noise(**drawn)

    def follow_schedule(self, env_step: int) -> None:
        """Sets what the losses take from a schedule to its value at that environment step, before updates there."""
        if isinstance(self.head, Scheduled):
            self.head.follow_schedule(env_step)

    def update(self, batch: Batch, noise: Noise, step: int = 0) -> Metrics:
        """One update with a batch. Returns metrics as tensors () on the device, and synchronises nothing.

        step: agent steps of each environment since learning started, which `--gates agent_steps` counts.
        """
        return self.run_update(batch, noise, self.next_gates(step))

    def next_gates(self, step: int = 0) -> Gates:
        """Counts one update, and says which parts of it are due. step: as of `update`."""
        self.updates_done += 1
        return due_gates(self.config, self.updates_done, step, bool(self.objectives))

    def run_update(self, batch: Batch, noise: Noise, gates: Gates) -> Metrics:
        """Makes the parts of an update that are due, in the reference's order. Returns metrics as `update` does.

        Nothing in it depends on the value of a tensor, so that it can be captured as a CUDA graph for each gates.
        """
        self.num_updates += 1
        if self.policy_gradients is not None:
            self.policy_gradients = {}
        batch_size = len(batch.obs)
        batch = self.augmentation(batch, noise)
        batch = batch._replace(obs=channels_last(batch.obs))
        images = self.encoder.prepare(batch.obs, batch.state)
        metrics: Metrics = {}
        features: torch.Tensor | None = None
        before: torch.Tensor | None = None

        if gates.critic:
            next_images = self.encoder.prepare(batch.next_obs, batch.next_state)
            actions = repeated(batch.action, self.augmentation.critic_views)
            prepared = batch._replace(obs=images, action=actions, next_obs=next_images)
            features = self._features(images)
            loss, of_critic = self._critic_loss(features, prepared, noise)
            self._step_critic(loss)
            before = features[:batch_size].detach() if self.config.agent.FEATURES_BEFORE_CRITIC else None
            features = None
            metrics |= of_critic

        # What follows sees the first view alone.
        if self.augmentation.has_views:
            batch = self.augmentation.first_view(batch, batch_size)
            images = self.encoder.prepare(batch.obs, batch.state)

        if gates.policy:
            # One pass through the convolutions serves the policy, whose gradient ends behind them, and the first
            # auxiliary objective, unless the policy's step moves them or its features are from before the critic's.
            if before is None:
                with torch.set_grad_enabled(gates.auxiliary):
                    features = self._features(images)
                before = features.detach()
            metrics |= self._improve_policy(images, before, noise)
            if self._policy_moves_convs:
                features = None

        if gates.targets:
            self._targets.move()

        if gates.auxiliary:
            for objective_loss, step in zip(self._objective_losses, self._step_objectives):
                features = self._features(images) if features is None else features
                loss, of_objective = objective_loss(features, batch, noise)
                step(loss)
                features = None
                metrics |= of_objective

        return {name: value.detach() for name, value in metrics.items()}

    def _improve_policy(self, images: torch.Tensor, of_critics: torch.Tensor, noise: Noise) -> Metrics:
        """A step on the policy's loss. of_critics: features of the images by the critic's encoder, detached."""
        assert self._policy_loss is not None
        own = of_critics if self._policy_has_critics_features else self._policy_features(images)
        metrics: Metrics
        loss, metrics = self._policy_loss(own, of_critics, noise)
        gradients = self._step_policy(loss)
        if self.policy_gradients is not None:
            self.policy_gradients = dict(zip(self._step_policy.parameters, gradients))
        return metrics

    def check_finite(self) -> None:
        """Raises UserError if a loss or gradient was not finite, naming it and the update. Synchronises the device."""
        raise_if_not_finite(dict(zip(self.optimizers, self.first_bad_update.tolist())))

    # Saving and loading, all in weights.py.

    learning_state, load_learning_state = weights.learning_state, weights.load_learning_state
    load_networks, load_encoder, acting_state = weights.load_networks, weights.load_encoder, weights.acting_state
