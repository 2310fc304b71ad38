"""Compares this package with a recording of what the reference implementation of SAC-AE computed.

    python tests/golden.py tests/data/sac_ae_4layers.npz

The recording holds initial parameters, batches and every random draw of four updates, and what came of them. Layers,
sizes and the decoder are inferred from its keys. Prints the worst errors; status 0 if every bound is met, else 1.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from sacae import config as configs
from sacae.agents import Agent, make_agent
from sacae.agents.autoencoder import reconstruction_target
from sacae.types import Batch, EnvSpec, Noise

BOUND_FORWARD = 1e-4
BOUND_ALPHA = 1e-6
BOUND_PARAMETERS = 1e-3

LOGGED = {
    "train_critic/loss": "critic_loss",
    "train/batch_reward": "batch_reward",
    "train_actor/loss": "actor_loss",
    "train_alpha/loss": "alpha_loss",
    "train_alpha/value": "alpha",
    "train_actor/entropy": "entropy",
    "train_ae/ae_loss": "reconstruction_loss",
}


class Recording:
    """The arrays of a recording, as tensors, and the settings that its shapes imply."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            self.arrays = {key: torch.as_tensor(arrays[key]) for key in arrays.files}

    def __getitem__(self, key: str) -> torch.Tensor:
        return self.arrays[key]

    def config(self) -> configs.Config:
        fc = self["init.critic.encoder.fc.weight"]
        convs = [k for k in self.arrays if k.startswith("init.critic.encoder.convs.") and k.endswith("weight")]
        has_decoder = any(key.startswith("init.decoder.") for key in self.arrays)
        return configs.make(
            num_layers=len(convs),
            num_filters=self[convs[0]].shape[0],
            feature_dim=fc.shape[0],
            hidden_dim=self["init.actor.trunk.0.weight"].shape[0],
            decoder="rae" if has_decoder else "none",
            batch_size=self["update1.obs"].shape[0],
        )

    def spec(self) -> EnvSpec:
        channels, height, width = self["forward.obs"].shape[1:]
        return EnvSpec((channels // 3, height, width), "uint8", 3, self["forward.action"].shape[1])

    def updates(self) -> Iterator[tuple[int, Batch, Noise]]:
        k = 1
        while f"update{k}.obs" in self.arrays:
            u = {name: self[f"update{k}.{name}"] for name in ("obs", "action", "reward", "next_obs", "not_done")}
            batch = Batch(u["obs"], u["action"], u["reward"], 0.99 * u["not_done"], u["next_obs"])
            half = torch.full(u["obs"].shape, 128, dtype=torch.uint8)
            yield k, batch, Noise(self[f"update{k}.noise_next"], self[f"update{k}.noise_pi"], half)
            k += 1


def reference_names(agent: Agent) -> dict[str, torch.Tensor]:
    """The agent's parameters under the reference's names; writing to one writes to the agent.

    Shapes are the reference's but for the linear layers beside the convolutions, whose (C, H, W) is kept unflattened,
    because it lies in memory as (H, W, C) here.
    """
    named = {}
    conv_shape = agent.encoder.conv_shape
    memory_shape = (*conv_shape[1:], conv_shape[0])

    def linear(prefix: str, weight: torch.Tensor, bias: torch.Tensor) -> None:
        named[f"{prefix}.weight"], named[f"{prefix}.bias"] = weight.data, bias.data

    def encoder(prefix: str, module: torch.nn.Module) -> None:
        for i, conv in enumerate(module.convs[::2]):
            linear(f"{prefix}.convs.{i}", conv.weight, conv.bias)
        fc, norm, _ = module.projection
        linear(f"{prefix}.fc", fc.weight.unflatten(1, memory_shape).permute(0, 3, 1, 2), fc.bias)
        linear(f"{prefix}.ln", norm.weight, norm.bias)

    head = agent.head
    encoder("actor.encoder", head.actor.encoder)
    for i in (0, 2, 4):
        linear(f"actor.trunk.{i}", head.actor.trunk[i].weight, head.actor.trunk[i].bias)
    for name, critic in (("critic", head.critic), ("critic_target", head.critic_target)):
        encoder(f"{name}.encoder", critic.encoder)
        for twin in (0, 1):
            for i, (weight, bias) in enumerate(zip(critic.q.weights, critic.q.biases)):
                linear(f"{name}.Q{twin + 1}.trunk.{2 * i}", weight[twin].T, bias[twin, 0])
    if agent.decoder is not None:
        fc = agent.decoder.fc
        weight, bias = (p.unflatten(0, memory_shape).movedim(2, 0) for p in (fc.weight, fc.bias))
        linear("decoder.fc", weight, bias)
        for i, deconv in enumerate(agent.decoder.deconvs):
            linear(f"decoder.deconvs.{i}", deconv.weight, deconv.bias)
    return named


def initial_agent(recording: Recording, device: str = "cpu") -> Agent:
    """An agent with the recording's initial parameters."""
    agent = make_agent(recording.spec(), recording.config(), device)
    for name, parameter in reference_names(agent).items():
        parameter.copy_(recording[f"init.{name.replace('critic_target', 'critic')}"].view(parameter.shape))
    return agent


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest absolute difference over the largest magnitude of theirs."""
    difference = (ours.detach().cpu().double() - theirs.double().view(ours.shape)).abs().max().item()
    return difference / max(theirs.double().abs().max().item(), 1e-12)


Update = Callable[[Batch, Noise], dict[str, torch.Tensor]]


def compare(recording: Recording, agent: Agent, update: Update | None = None) -> list[tuple[str, float, float]]:
    """(name, error, bound) of everything recorded. `update` replaces agent.update, to test another way to run it."""
    update = update or agent.update
    rows = [(f"forward.{name}", relative_error(value, recording[f"forward.{name}"]), BOUND_FORWARD)
            for name, value in _forward(recording, agent).items()]  # fmt: skip
    for k, batch, noise in recording.updates():
        on_device = [None if t is None else t.to(agent.device) for t in (*batch, *noise)]
        metrics = update(Batch(*on_device[: len(batch)]), Noise(*on_device[len(batch) :]))
        for theirs, ours in LOGGED.items():
            key = f"update{k}.log.{theirs}"
            if key in recording.arrays:
                bound = BOUND_ALPHA if ours == "alpha" else BOUND_FORWARD
                rows.append((key, relative_error(metrics[ours], recording[key]), bound))
    for name, parameter in reference_names(agent).items():
        rows.append((f"final.{name}", relative_error(parameter, recording[f"final.{name}"]), BOUND_PARAMETERS))
    log_alpha = relative_error(agent.head.log_alpha, recording["final.log_alpha"])
    return [*rows, ("final.log_alpha", log_alpha, BOUND_ALPHA)]


@torch.no_grad()
def _forward(recording: Recording, agent: Agent) -> dict[str, torch.Tensor]:
    obs, action, noise = (recording[f"forward.{name}"].to(agent.device) for name in ("obs", "action", "noise"))
    features = agent.encoder.features(agent.encoder.prepare(obs))
    latent = agent.encoder.project(features)
    pi, log_pi, log_std = agent.head.actor.sample(features, noise)
    q1, q2 = agent.head.critic(features, action)
    outputs = {
        "latent": latent,
        "mu": agent.act(obs),
        "pi": pi,
        "log_pi": log_pi,
        "log_std": log_std,
        "q1": q1,
        "q2": q2,
    }
    if agent.decoder is not None:
        outputs["reconstruction"] = agent.decoder(latent)
        outputs["target_5bit"] = reconstruction_target(obs, torch.full_like(obs, 128), 5)
    return outputs


def main() -> int:
    """Compares with the recording named on the command line."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        print("usage: python tests/golden.py FILE.npz", file=sys.stderr)
        return 2
    recording = Recording(Path(sys.argv[1]))
    rows = sorted(compare(recording, initial_agent(recording)), key=lambda row: -row[1] / row[2])
    for name, error, bound in rows[:10]:
        print(f"{name:45s} error {error:.1e}  bound {bound:.0e}  {'ok' if error <= bound else 'FAILED'}")
    failed = sum(not error <= bound for _, error, bound in rows)
    print(f"{len(rows) - failed} of {len(rows)} within bounds")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
