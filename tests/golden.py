"""Compares this package with a recording of what the authors of an algorithm computed: SAC-AE, DrQ, DrQ-v2, RAD, CURL.

    python tests/golden.py tests/data/sac_ae_4layers.npz [--compile]

The recording holds initial parameters, batches and every random draw of a few updates, and what came of them. The
algorithm, layers, sizes, the decoder and the number of views are inferred from its keys. Prints the worst errors;
status 0 if every bound is met, else 1. --compile: compiles the losses first.
"""

import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sacae import config as configs
from sacae.agents import Agent, make_agent
from sacae.agents.augmentation import NUM_DRAWS, PAD
from sacae.agents.autoencoder import reconstruction_target
from sacae.agents.contrastive import Contrastive
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
    "train/curl_loss": "contrastive_loss",
    "batch_reward": "batch_reward",
    "critic_loss": "critic_loss",
    "critic_target_q": "target_q",
    "actor_loss": "actor_loss",
    "actor_logprob": "actor_log_prob",
    "actor_ent": "actor_entropy",
}
"""The metric of this package that each logged value is."""

NAMES = {
    "sac_ae": (),
    "drqv2": (
        (r"\w+\.encoder\.convs\.(\d)", lambda match: f"encoder.convnet.{2 * int(match[1])}"),
        (r"actor\.trunk", "actor.policy"),
        (r"encoder\.fc", "trunk.0"),
        (r"encoder\.ln", "trunk.1"),
        (r"\.(Q\d)\.trunk", r".\1"),
    ),
    "rad": (),
    "curl": (),
    "drq": ((r"encoder\.fc", "encoder.head.0"), (r"encoder\.ln", "encoder.head.1"), (r"\.(Q\d)\.trunk", r".\1")),
}
"""How the authors' names differ from those of SAC-AE's authors: patterns and their replacements, by algorithm."""


class Recording:
    """The arrays of a recording, as tensors, and the settings that its shapes imply."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            self.arrays = {key: torch.as_tensor(arrays[key]) for key in arrays.files}

    def __getitem__(self, key: str) -> torch.Tensor:
        return self.arrays[key]

    @property
    def kind(self) -> str:
        """The algorithm, as `--preset` names it."""
        if "init.W" in self.arrays:
            return "curl"
        if "init.encoder.convnet.0.weight" in self.arrays:
            return "drqv2"
        if any(key.startswith("init.critic.encoder.head.") for key in self.arrays):
            return "drq"
        return "rad" if "update1.offset_obs" in self.arrays else "sac_ae"

    def name(self, ours: str) -> str:
        """The authors' name of a parameter that SAC-AE's authors name so."""
        for pattern, replacement in NAMES[self.kind]:
            ours = re.sub(pattern, replacement, ours)
        return ours

    def parameter(self, ours: str) -> torch.Tensor:
        """The initial parameter that SAC-AE's authors name so."""
        return self[f"init.{self.name(ours)}"]

    @property
    def num_layers(self) -> int:
        """Convolutions."""
        return sum(f"init.{self.name(f'critic.encoder.convs.{i}.weight')}" in self.arrays for i in range(10))

    def config(self, **settings: Any) -> configs.Config:
        sizes = {
            "num_layers": self.num_layers,
            "num_filters": self.parameter("critic.encoder.convs.0.bias").numel(),
            "feature_dim": self.parameter("critic.encoder.fc.weight").shape[0],
            "hidden_dim": self.parameter("actor.trunk.0.weight").shape[0],
            "batch_size": self["update1.obs"].shape[0],
        }
        if self.kind == "sac_ae":
            has_decoder = any(key.startswith("init.decoder.") for key in self.arrays)
            sizes["decoder"] = "rae" if has_decoder else "none"
        else:
            sizes |= {"critic_views": len(self._views("obs")), "target_views": len(self._views("next_obs"))}
        if self.kind in ("rad", "curl"):
            sizes |= {"image_size": self["update1.obs"].shape[-1], "window_size": self._window()}
        if self.kind == "drqv2":
            sizes |= {"domain": "cartpole", "task": "swingup"}  # the recorded schedule is that of the easy tasks
        return configs.make(**({"preset": self.kind} | sizes | settings))

    def spec(self) -> EnvSpec:
        channels, height, width = self["update1.obs"].shape[1:]
        return EnvSpec((channels // 3, height, width), "uint8", 3, self["update1.action"].shape[1])

    def updates(self) -> Iterator[tuple[int, Batch, Noise]]:
        k = 1
        while f"update{k}.obs" in self.arrays:
            u = {name: self[f"update{k}.{name}"] for name in ("obs", "action", "reward", "next_obs")}
            known = f"update{k}.discount" in self.arrays
            discount = self[f"update{k}.discount"] if known else 0.99 * self[f"update{k}.not_done"]
            batch = Batch(u["obs"], u["action"], u["reward"], discount, u["next_obs"])
            half = torch.full(u["obs"].shape, 128, dtype=torch.uint8)
            next_noise = torch.cat([self[f"update{k}.{name}"] for name in self._names("noise_next(_aug.*)?")])
            noise = Noise(next_noise, self[f"update{k}.noise_pi"], half)
            yield k, batch, noise._replace(augmentation=self._draws(k))
            k += 1

    def _names(self, pattern: str) -> list[str]:
        """What of an update's arrays matches, in the order of the recording."""
        names = (key.removeprefix("update1.") for key in self.arrays if key.startswith("update1."))
        return [name for name in names if re.fullmatch(pattern, name)]

    def _views(self, of: str) -> list[str]:
        return self._names(f"offset_{of}(_aug.*)?")

    def _window(self) -> int:
        """Height and width of the images that the encoder sees, from those of its features."""
        filters = self.parameter("critic.encoder.convs.0.bias").numel()
        features = self.parameter("critic.encoder.fc.weight").shape[1] // filters
        return 2 * (math.isqrt(features) + 2 * (self.num_layers - 1)) + 2

    def _draws(self, k: int) -> torch.Tensor | None:
        """The uniform draws that make the recorded places of the windows."""
        names = [*self._views("obs"), *self._views("next_obs"), *self._views("positive")]
        if not names:
            return None
        shifted = self.kind in ("drq", "drqv2")
        room = 2 * PAD if shifted else self[f"update{k}.obs"].shape[-1] - self._window()
        places = torch.stack([self[f"update{k}.{name}"] for name in names])
        draws = torch.zeros(*places.shape[:2], NUM_DRAWS)
        draws[..., :2] = (places + 0.5) / (room + 1)
        return draws


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
    for objective in agent.objectives:
        if isinstance(objective, Contrastive):
            named["W"] = objective.similarity.weight.data
    if agent.decoder is not None:
        fc = agent.decoder.fc
        weight, bias = (p.unflatten(0, memory_shape).movedim(2, 0) for p in (fc.weight, fc.bias))
        linear("decoder.fc", weight, bias)
        for i, deconv in enumerate(agent.decoder.deconvs):
            linear(f"decoder.deconvs.{i}", deconv.weight, deconv.bias)
    return named


def initial_agent(recording: Recording, device: str = "cpu", **settings: Any) -> Agent:
    """An agent with the recording's initial parameters. settings: of any group, beside those of the recording."""
    agent = make_agent(recording.spec(), recording.config(**settings), device)
    for name, parameter in reference_names(agent).items():
        parameter.copy_(recording.parameter(name.replace("critic_target", "critic")).view(parameter.shape))
    return agent


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest absolute difference over the largest magnitude of theirs."""
    difference = (ours.detach().cpu().double() - theirs.double().view(ours.shape)).abs().max().item()
    return difference / max(theirs.double().abs().max().item(), 1e-12)


Update = Callable[[Batch, Noise], dict[str, torch.Tensor]]


def compare(recording: Recording, agent: Agent, update: Update | None = None) -> list[tuple[str, float, float]]:
    """(name, error, bound) of everything recorded. `update` replaces agent.update, to test another way to run it."""
    update = update or agent.update
    forward = _forward(recording, agent) if "forward.obs" in recording.arrays else {}
    rows = [(f"forward.{name}", relative_error(value, recording[f"forward.{name}"]), BOUND_FORWARD)
            for name, value in forward.items()]  # fmt: skip
    for k, batch, noise in recording.updates():
        if f"update{k}.step" in recording.arrays:
            agent.follow_schedule(int(recording[f"update{k}.step"]) * agent.config.task.action_repeat)
        on_device = [None if t is None else t.to(agent.device) for t in (*batch, *noise)]
        metrics = update(Batch(*on_device[: len(batch)]), Noise(*on_device[len(batch) :]))
        if recording.kind == "drq" and "alpha_loss" in metrics:
            # DrQ logs the sample's estimate, mean(-log pi), which stands in the temperature's loss.
            metrics["entropy"] = metrics["alpha_loss"] / metrics["alpha"] + agent.head.target_entropy
        if f"update{k}.log.critic_q1" in recording.arrays:
            both = [recording[f"update{k}.log.critic_q{i}"] for i in (1, 2)]
            error = (metrics["q"].cpu() - sum(both) / 2).abs() / max(q.abs() for q in both)  # they may cancel
            rows.append((f"update{k}.log.critic_q", error.item(), BOUND_FORWARD))
        for theirs, ours in LOGGED.items():
            key = f"update{k}.log.{theirs}"
            if key in recording.arrays:
                bound = BOUND_ALPHA if ours == "alpha" else BOUND_FORWARD
                rows.append((key, relative_error(metrics[ours], recording[key]), bound))
    for name, parameter in reference_names(agent).items():
        final = recording[f"final.{recording.name(name)}"]
        rows.append((f"final.{name}", relative_error(parameter, final), BOUND_PARAMETERS))
    if "final.log_alpha" in recording.arrays:
        log_alpha = relative_error(agent.head.log_alpha, recording["final.log_alpha"])
        rows.append(("final.log_alpha", log_alpha, BOUND_ALPHA))
    return rows


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
    files, compiled = [word for word in sys.argv[1:] if word != "--compile"], "--compile" in sys.argv
    if len(files) != 1 or not Path(files[0]).is_file():
        print("usage: python tests/golden.py FILE.npz [--compile]", file=sys.stderr)
        return 2
    recording = Recording(Path(files[0]))
    agent = initial_agent(recording, compile=compiled)
    rows = sorted(compare(recording, agent), key=lambda row: -row[1] / row[2])
    for name, error, bound in rows[:10]:
        print(f"{name:45s} error {error:.1e}  bound {bound:.0e}  {'ok' if error <= bound else 'FAILED'}")
    failed = sum(not error <= bound for _, error, bound in rows)
    print(f"{len(rows) - failed} of {len(rows)} within bounds")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
