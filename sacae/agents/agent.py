"""The agent: encoders, decoder and a head put together, and the order of an update."""

import functools
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from sacae.agents.augmentation import NUM_DRAWS, augment, centre_crop
from sacae.agents.autoencoder import (
    AUTOENCODERS,
    Dynamics,
    Metrics,
    draw_bytes,
    reconstruction_target,
    standardised_error,
)
from sacae.config import AgentConfig, Config, EncoderConfig
from sacae.decoder import PixelDecoder
from sacae.encoder import PixelEncoder, StateEncoder, channels_last, conv_layers
from sacae.errors import UserError
from sacae.networks import MLP, EnsembleMLP, own_parameters, without
from sacae.types import Batch, EnvSpec, Noise


class Head(Protocol):
    """What an algorithm supplies; see sac.py for one. It is an nn.Module with a `critic` that has an `encoder`.

    discrete_actions: whether it chooses among discrete actions, int64 (B, A), instead of float32 (B, A) in [-1, 1].
    metric_names: every name that the metrics of its losses have.
    noise: the fields of Noise that its losses need as standard normal (B, A): "next_action", "action", both or none.
    """

    discrete_actions: bool
    metric_names: tuple[str, ...]
    noise: tuple[str, ...]

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        """What each optimiser steps: "critic", and where there is a policy "actor", "temperature" or both."""

    def exploration_noise(self, rng: np.random.Generator, count: int, env_step: int) -> np.ndarray:
        """What `act` needs to explore in `count` environments at that environment step; the rest is the head's."""

    def act(self, features: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """Action (B, A) for the conv features (B, flat_dim); the deterministic one where noise is None."""

    def critic_loss(self, batch: Batch, noise: Noise) -> tuple[torch.Tensor, Metrics]:
        """What the critic, its encoder included, descends. The batch's observations are prepared for the encoder."""

    def policy_loss(
        self, features: torch.Tensor, critic_features: torch.Tensor, noise: Noise
    ) -> tuple[torch.Tensor, Metrics]:
        """What every optimiser but the critic's descends. Not called where there is none.

        features: of the actor's encoder, detached unless the actor trains convolutions. critic_features: of the
        critic's, detached.
        """

    def targets(self) -> list[tuple[nn.Module, nn.Module]]:
        """(online, target), each with an encoder, for each target network."""


def make_encoder(
    spec: EnvSpec, config: EncoderConfig, dtype: torch.dtype = torch.float32
) -> PixelEncoder | StateEncoder:
    """The encoder for what the environment shows. dtype: in which it convolves images."""
    if spec.from_pixels:
        return PixelEncoder(
            spec.obs_shape,
            config.feature_dim,
            conv_layers(config),
            config.conv_init == "delta_orthogonal",
            config.latent_norm,
            config.latent_tanh,
            dtype,
        )
    return StateEncoder(spec.obs_shape)


def adam_settings(name: str, config: AgentConfig) -> dict:
    """Settings of one of a head's optimisers."""
    prefix = "alpha" if name == "temperature" else name
    return {"lr": getattr(config, f"{prefix}_lr"), "betas": (getattr(config, f"{prefix}_beta1"), 0.999)}


class Gates(NamedTuple):
    """Which parts of an update are due."""

    critic: bool
    policy: bool
    targets: bool
    autoencoder: bool


class Agent(nn.Module):
    """An actor-critic on a shared encoder, with a decoder where one is asked for.

    Gates (actor_update_freq and the like) count updates from 1, or agent steps from 0, as `gates` says. With
    `precision` bf16 the convolutions, the product of the projection and the decoder compute in bfloat16; parameters,
    latent vectors, policies, values and losses are float32. With anything else everything is. `state_dict` holds every
    network, target and temperature, and the update counter; `optimizers` hold the rest of the learning state.
    """

    def __init__(self, head: type[Head], spec: EnvSpec, config: Config, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.spec = spec
        self.config = config
        dtype = torch.bfloat16 if config.train.precision == "bf16" else torch.float32
        self.head = head(lambda: make_encoder(spec, config.encoder, dtype), spec, config.agent)
        autoencoder = AUTOENCODERS.get(config.autoencoder.decoder)
        self.autoencoder = autoencoder and autoencoder(spec, self.encoder, config)
        self.dynamics = Dynamics(spec, self.encoder, config) if config.autoencoder.dynamics else None
        self.encoder.requires_grad_(not config.encoder.freeze_encoder)
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.int64))
        self.to(device)
        self.device = torch.device(device)
        head_steps = self._head_parameters()
        self.policy_optimizers = [name for name in head_steps if name != "critic"]
        wrap = functools.partial(torch.compile, dynamic=False) if config.train.compile else lambda function: function
        self._features, self._policy_features = wrap(self.encoder.features), wrap(self.policy_encoder.features)
        self._critic_loss = wrap(self.head.critic_loss)
        self._policy_loss = wrap(self.head.policy_loss) if self.policy_optimizers else None
        self._autoencoder_loss = wrap(self._autoencoder_loss)
        of_actor = set(head_steps.get("actor", ()))
        self._actor_steps_convs = any(p in of_actor for p in self.policy_encoder.convs.parameters())
        self._actor_steps_critics_convs = any(p in of_actor for p in self.encoder.convs.parameters())
        self._actor_shares_convs = self.policy_encoder.convs is self.encoder.convs
        # A captured step count must lie on the GPU.
        capturable = self.device.type == "cuda"
        steps = {name: (parameters, adam_settings(name, config.agent)) for name, parameters in head_steps.items()}
        self.optimizers = {
            name: torch.optim.Adam(parameters, **settings, fused=True, capturable=capturable)
            for name, (parameters, settings) in (steps | self._autoencoder_optimizers()).items()
            if parameters
        }
        # Number of the first update whose loss or gradient was not finite, per optimiser; 0 while all is well.
        self.register_buffer("first_bad_update", torch.zeros(len(self.optimizers), dtype=torch.int64, device=device))
        # The policy's gradients in the latest update, {} where it had no part, where something asks for them.
        self.policy_gradients: dict[nn.Parameter, torch.Tensor] | None = None
        self.updates_done = 0  # num_updates, where asking for it does not synchronise the device

    @property
    def encoder(self) -> PixelEncoder | StateEncoder:
        """The critic's encoder, whose convolutions the actor shares and the decoder trains."""
        return self.head.critic.encoder

    @property
    def policy_encoder(self) -> PixelEncoder | StateEncoder:
        """The encoder whose features the head acts on: the actor's, or the critic's where there is no actor."""
        return self.head.actor.encoder if "actor" in self.policy_optimizers else self.encoder

    @property
    def decoder(self) -> PixelDecoder | MLP | None:
        """What draws the observation again, or says the physical state, where there is one."""
        return self.autoencoder and self.autoencoder.decoder

    @property
    def draws_pixels(self) -> bool:
        """Whether there is a decoder that draws the observation again, so that `reconstruct` can be asked."""
        return self.autoencoder is not None and self.autoencoder.draws_pixels

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Every name that an update's metrics may have."""
        beside = [part for part in (self.autoencoder, self.dynamics) if part is not None]
        return (*self.head.metric_names, *(name for part in beside for name in part.metric_names))

    def _head_parameters(self) -> dict[str, list[nn.Parameter]]:
        """What each of the head's optimisers steps, as the settings say where gradients end."""
        steps = self.head.optimizers()
        config = self.config.agent
        if not config.critic_gradient:
            steps["critic"] = without(steps["critic"], self.encoder.parameters())
        if "actor" in steps and config.actor_gradient == "after_latent":
            steps["actor"] = without(steps["actor"], self.head.actor.encoder.parameters())
        elif "actor" in steps and config.actor_gradient == "through":
            steps["actor"] = [*dict.fromkeys([*steps["actor"], *self.head.actor.encoder.parameters()])]
        return {name: [p for p in parameters if p.requires_grad] for name, parameters in steps.items()}

    def _autoencoder_optimizers(self) -> dict[str, tuple[list[nn.Parameter], dict]]:
        if self.autoencoder is None:
            return {}
        config = self.config.autoencoder
        return {
            # A second Adam with moments of its own on the encoder, which the critic's also steps: as in the reference.
            "encoder": (
                [
                    p
                    for p in (*self.encoder.parameters(), *own_parameters(self.autoencoder, self.decoder))
                    if p.requires_grad
                ],
                {"lr": config.encoder_lr},
            ),
            "decoder": (
                [*self.decoder.parameters(), *(self.dynamics.parameters() if self.dynamics else ())],
                {"lr": config.decoder_lr, "weight_decay": config.decoder_weight_decay},
            ),
        }

    @torch.no_grad()
    def act(self, obs: torch.Tensor | np.ndarray, noise: torch.Tensor | None = None) -> torch.Tensor:
        """Actions for stacked observations: exploring with the head's `exploration_noise`, deterministic without.

        (N, *obs_shape) -> float32 (N, A) in [-1, 1], or int64 (N, A) of choices, on the agent's device.
        """
        obs = self.seen(torch.as_tensor(obs, device=self.device))
        return self.head.act(self.policy_encoder.features(self.encoder.prepare(obs)), noise)

    def draw_noise(self, generator: torch.Generator) -> Noise:
        """Every random number that one `update` of a batch of the configured size needs, on the agent's device."""
        batch_size = self.config.replay.batch_size

        def normal(size: int) -> torch.Tensor:
            return torch.randn(batch_size, size, generator=generator, device=self.device)

        drawn = {}
        if self.config.replay.augment != "none":
            shape = 2, batch_size, NUM_DRAWS
            drawn["augmentation"] = torch.rand(shape, generator=generator, device=self.device)
        if self.autoencoder is not None:
            if self.draws_pixels:
                drawn["reconstruction"] = draw_bytes((batch_size, *self.spec.obs_shape), generator)
            if self.autoencoder.draws_latent:
                drawn["latent"] = normal(self.encoder.feature_dim)
        return Noise(**drawn, **{name: normal(self.spec.action_dim) for name in self.head.noise})

    def update(self, batch: Batch, noise: Noise, step: int = 0) -> Metrics:
        """One update of a batch; returns what was computed, as tensors () on the device. Synchronises nothing.

        step: agent steps of each environment since learning started, where `gates` counts these.
        """
        return self.run_update(batch, noise, self.next_gates(step))

    def next_gates(self, step: int = 0) -> Gates:
        """Counts one update, and says which of its parts are due: in pretraining the autoencoder's alone."""
        self.updates_done += 1
        config = self.config.agent
        count = self.updates_done - self.config.autoencoder.pretrain_updates
        if count <= 0:
            return Gates(critic=False, policy=False, targets=False, autoencoder=True)
        if self.config.train.gates == "agent_steps":
            count = step

        def due(freq: int) -> bool:
            return count % freq == 0

        return Gates(
            critic=True,
            policy=bool(self.policy_optimizers) and due(config.actor_update_freq),
            targets=due(config.critic_target_update_freq),
            autoencoder=self.autoencoder is not None and due(self.config.autoencoder.decoder_update_freq),
        )

    def run_update(self, batch: Batch, noise: Noise, gates: Gates) -> Metrics:
        """The work of `update`, in the reference's order: critic; actor and temperature; targets; autoencoder.

        Nothing in it depends on the value of a tensor, so that it can be captured as a CUDA graph for each gates.
        """
        self.num_updates += 1
        if self.policy_gradients is not None:
            self.policy_gradients = {}
        batch = self._augmented(batch, noise)
        batch = batch._replace(obs=channels_last(batch.obs))
        images = self.encoder.prepare(batch.obs)
        metrics = {}
        if gates.critic:
            prepared = batch._replace(obs=images, next_obs=self.encoder.prepare(batch.next_obs))
            metrics |= self._update_critic(prepared, noise)
        # Unless the actor trains them, the convolutions do not move between the critic's step and the autoencoder's:
        # one pass serves both and the actor, whose gradient ends here.
        with torch.set_grad_enabled(gates.autoencoder):
            features = self._features(images) if gates.policy or gates.autoencoder else None
        if gates.policy:
            shared = self._actor_shares_convs and not self._actor_steps_convs
            actor_features = features.detach() if shared else self._policy_features(images)
            metrics |= self._update_policy(actor_features, features.detach(), noise)
            if self._actor_steps_critics_convs and gates.autoencoder:
                features = self._features(images)
        if gates.targets:
            self._update_targets()
        if gates.autoencoder:
            metrics |= self._update_autoencoder(features, batch, noise)
        return {name: value.detach() for name, value in metrics.items()}

    def _augmented(self, batch: Batch, noise: Noise) -> Batch:
        if noise.augmentation is None:
            return batch
        both = zip((batch.obs, batch.next_obs), noise.augmentation)
        channels = self.spec.frame_shape[0]
        obs, next_obs = (augment(self.config.replay.augment, images, draws, channels) for images, draws in both)
        return batch._replace(obs=obs, next_obs=next_obs)

    def _autoencoder_loss(self, features: torch.Tensor, batch: Batch, noise: Noise) -> tuple[torch.Tensor, Metrics]:
        decoded, regulariser, metrics = self.autoencoder(self.encoder, features, noise)
        loss = self._decoding_error(decoded, batch, noise) + regulariser
        metrics = metrics | {"reconstruction_loss": loss}
        if self.dynamics is not None:
            metrics["dynamics_loss"] = self._dynamics_loss(features, batch)
            loss = loss + self.config.autoencoder.dynamics_weight * metrics["dynamics_loss"]
        return loss, metrics

    def _decoding_error(self, decoded: torch.Tensor, batch: Batch, noise: Noise) -> torch.Tensor:
        if self.draws_pixels:
            return F.mse_loss(decoded, self._reconstruction_target(batch.obs, noise.reconstruction))
        return standardised_error(decoded, batch.state)

    def _dynamics_loss(self, features: torch.Tensor, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            next_latent = self.encoder(batch.next_obs)
        return F.mse_loss(self.dynamics(self.encoder.project(features), batch.action), next_latent)

    def _reconstruction_target(self, obs: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        config = self.config.autoencoder
        return reconstruction_target(
            obs, noise if config.target_dither else torch.zeros_like(noise), config.target_bits
        )

    def _update_critic(self, batch: Batch, noise: Noise) -> Metrics:
        loss, metrics = self._critic_loss(batch, noise)
        self._step(["critic"], loss, self.config.agent.max_grad_norm)
        return metrics

    def _update_policy(self, features: torch.Tensor, critic_features: torch.Tensor, noise: Noise) -> Metrics:
        loss, metrics = self._policy_loss(features, critic_features, noise)
        gradients = self._step(self.policy_optimizers, loss, self.config.agent.max_grad_norm)
        if self.policy_gradients is not None:
            self.policy_gradients = gradients
        return metrics

    def _update_autoencoder(self, features: torch.Tensor, batch: Batch, noise: Noise) -> Metrics:
        loss, metrics = self._autoencoder_loss(features, batch, noise)
        self._step([name for name in ("encoder", "decoder") if name in self.optimizers], loss)
        return metrics

    @torch.no_grad()
    def _update_targets(self) -> None:
        """Moves encoders by encoder_tau and all else by critic_tau. Convolutions that two targets share move once."""
        encoders, others = {}, {}
        for online, target in self.head.targets():
            in_encoder = set(target.encoder.parameters())
            for source, moved in zip(online.parameters(), target.parameters(), strict=True):
                (encoders if moved in in_encoder else others)[moved] = source
        for pairs, tau in ((encoders, self.config.encoder.encoder_tau), (others, self.config.agent.critic_tau)):
            if pairs:
                torch._foreach_lerp_([*pairs.keys()], [*pairs.values()], tau)

    def _step(
        self, names: Iterable[str], loss: torch.Tensor, max_grad_norm: float = 0.0
    ) -> dict[nn.Parameter, torch.Tensor]:
        """Steps the named optimisers down the loss, and only their parameters receive a gradient, which is returned.

        max_grad_norm: largest norm of the gradients that `_norm_groups` takes together; 0 leaves them.
        """
        optimizers = [self.optimizers[name] for name in names]
        parameters = [p for optimizer in optimizers for p in optimizer.param_groups[0]["params"]]
        gradients = torch.autograd.grad(loss, parameters)
        norm = torch.nn.utils.get_total_norm(gradients)
        for parameter, gradient in zip(parameters, gradients):
            # Fused Adam walks through both as they lie in memory, whatever their strides say.
            same_layout = gradient.stride() == parameter.stride()
            parameter.grad = gradient if same_layout else torch.empty_like(parameter).copy_(gradient)
        for group in self._norm_groups(set(parameters)) if max_grad_norm else ():
            own_norm = torch.nn.utils.get_total_norm(group)
            torch._foreach_mul_(group, (max_grad_norm / (own_norm + 1e-6)).clamp(max=1.0))
        self._note_non_finite(names, torch.isfinite(loss) & torch.isfinite(norm))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return dict(zip(parameters, gradients))

    def _norm_groups(self, stepped: set[nn.Parameter]) -> list[list[torch.Tensor]]:
        """Gradients that share a norm: of each Q or value function, of the shared encoder, of the actor, of alpha."""
        groups = [[p.grad for p in self.encoder.parameters() if p in stepped]]
        left = stepped.difference(self.encoder.parameters())
        for ensemble in (module for module in self.head.modules() if isinstance(module, EnsembleMLP)):
            if left.issuperset(own := [*ensemble.parameters()]):
                groups += [[p.grad[i] for p in own] for i in range(len(own[0]))]
                left.difference_update(own)
        for part in self.head.children():
            groups.append([p.grad for p in part.parameters() if p in left])
            left.difference_update(part.parameters())
        groups.append([p.grad for p in left])
        return [group for group in groups if group]

    def _note_non_finite(self, names: Iterable[str], finite: torch.Tensor) -> None:
        for index, name in enumerate(self.optimizers):
            if name in names:
                seen = self.first_bad_update[index]
                seen.copy_(torch.where(finite | (seen > 0), seen, self.num_updates))

    def check_finite(self) -> None:
        """Raises UserError if a loss or gradient was not finite, naming it and the update. Synchronises the device."""
        for name, update in zip(self.optimizers, self.first_bad_update.tolist()):
            if update:
                raise UserError(
                    f"the {name} loss or its gradient was not finite at update {update}: training stopped; "
                    "the last checkpoint is from before; try a smaller learning rate"
                )

    def learning_state(self) -> dict:
        """Everything that `load_learning_state` needs to go on exactly: networks, counters, optimisers, its name."""
        return {
            "agent": self.config.variant,
            "networks": self.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
        }

    def load_encoder(self, state: dict) -> None:
        """Starts the encoder and its target from another agent's learning state, and the decoder if it is the same.

        Raises UserError where the encoders' sizes differ.
        """
        networks = state["networks"]
        of_critic = [target.encoder for online, target in self.head.targets() if online.encoder is self.encoder]
        try:
            for encoder in (self.encoder, *of_critic):
                _load(encoder, networks, "head.critic.encoder.")
            if self.decoder is not None and _fits(self.decoder, networks, "autoencoder.decoder."):
                _load(self.decoder, networks, "autoencoder.decoder.")
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise UserError(f"encoder_from is of an encoder of another size or kind ({reason})") from None

    def load_learning_state(self, state: dict) -> None:
        """Takes over what `learning_state` returned. Raises UserError for the state of another algorithm."""
        self.load_networks(state)
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])

    def load_networks(self, state: dict) -> None:
        """As `load_learning_state`, but without what only further learning needs: "agent" and "networks" are enough."""
        if state["agent"] != self.config.variant:
            raise UserError(
                f"the checkpoint is of {state['agent']}, but the settings say {self.config.variant}; "
                "leave --agent and --decoder out, or start in another --work-dir"
            )
        self.load_state_dict(self._renamed(state["networks"]))
        self.updates_done = int(self.num_updates)

    def _renamed(self, networks: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The networks as this version names them: 0.1.0 kept the logarithm of a fixed temperature too."""
        if "head.log_alpha" not in networks or "head.log_alpha" in self.state_dict():
            return networks
        others = {name: value for name, value in networks.items() if name != "head.log_alpha"}
        return others | {"head.fixed_alpha": networks["head.log_alpha"].exp()}

    def seen(self, obs: torch.Tensor) -> torch.Tensor:
        """Observations as they are looked at outside of updates: with `--augment crop` the window in the middle."""
        return centre_crop(obs) if self.config.replay.augment == "crop" else obs

    @torch.no_grad()
    def latent(self, obs: torch.Tensor) -> torch.Tensor:
        """The critic's latent of observations as acting sees them. (B, *obs_shape) -> (B, feature_dim)."""
        return self.encoder(self.seen(obs.to(self.device)))

    @torch.no_grad()
    def reconstruct(self, obs: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Reconstruction target and reconstruction of observations, both in [-0.5, 0.5) up to error.

        uint8 (N, *obs_shape), random bytes of that shape -> float32 of that shape, twice. Needs a decoder of pixels.
        """
        obs = self.seen(obs)
        target = self._reconstruction_target(obs, noise)
        return target, self.decoder(self.encoder(obs))


def _load(module: nn.Module, networks: dict[str, torch.Tensor], prefix: str) -> None:
    """Takes over the module's part of an agent's networks, if there is one."""
    part = _part(networks, prefix)
    if part:
        module.load_state_dict(part)


def _fits(module: nn.Module, networks: dict[str, torch.Tensor], prefix: str) -> bool:
    """Whether the module's part of an agent's networks is of a module of the same kind and size."""
    own, part = module.state_dict(), _part(networks, prefix)
    return own.keys() == part.keys() and all(own[name].shape == part[name].shape for name in own)


def _part(networks: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in networks.items() if name.startswith(prefix)}
