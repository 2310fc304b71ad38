"""Compares this package with a recording of what the authors of an algorithm computed: SAC-AE, DrQ, DrQ-v2, RAD, CURL.

    python tests/golden.py tests/data/sac_ae_4layers.npz [--compile]

The recording holds initial parameters, batches and every random draw of a few updates, and what came of them. The
algorithm, layers, sizes, the decoder, the number of views and DrQ-v2's schedule are inferred from it. Prints the worst
errors; status 0 if every bound is met, 1 if not, 2 with one line for a file that is no such recording. --compile:
compiles the losses first.
"""

import itertools
import math
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from sacae import config as configs
from sacae.agents import Agent, make_agent
from sacae.agents.augmentation import NUM_DRAWS, PAD, SHARES
from sacae.agents.autoencoder import reconstruction_target
from sacae.agents.contrastive import Contrastive
from sacae.errors import UserError
from sacae.presets import SCHEDULES
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
    """The arrays of a recording, as tensors, and the settings that its shapes imply.

    Raises UserError for a file that is not one, or not a whole one, here or where the missing part is needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with np.load(path) as arrays:
                self.arrays = _tensors({key: arrays[key] for key in arrays.files})
        except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error):
            problem = "is not an .npz file of arrays, or only a part of one" if path.exists() else "does not exist"
            raise UserError(f"{path} {problem}") from None

    def __getitem__(self, key: str) -> torch.Tensor:
        if key not in self.arrays:
            there = ", ".join(list(self.arrays)[:3]) or "nothing"
            raise UserError(f"{self.path} has no {key}, which a recording of {self.kind} has; it holds {there}, ...")
        return self.arrays[key]

    def in_shape(self, key: str, shape: Sequence[int]) -> torch.Tensor:
        """An array of as many elements in that shape: (C, H, W) may be unflattened, and (B,) a column."""
        if self[key].numel() != math.prod(shape):
            shapes = f"{tuple(self[key].shape)}, but its other arrays imply {tuple(shape)}"
            raise UserError(f"{self.path}: {key} has the shape {shapes}")
        return self[key].view(tuple(shape))

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

    @property
    def _largest(self) -> int:
        """Height and width of the largest images of which the encoder makes as many features."""
        filters = self.parameter("critic.encoder.convs.0.bias").numel()
        features = self.parameter("critic.encoder.fc.weight").shape[1] // filters
        return 2 * (math.isqrt(features) + 2 * (self.num_layers - 1)) + 2

    @property
    def _farthest(self) -> int:
        """The largest coordinate at which a window lies."""
        return max(int(places.max()) for key, places in self.arrays.items() if ".offset_" in key)

    @property
    def rendered(self) -> int:
        """Height and width of the recorded images."""
        return self["update1.obs"].shape[-1]

    @property
    def translates(self) -> bool:
        """Whether the encoder sees more than a window at the recorded places could show: RAD's translation."""
        return self.kind == "rad" and self._farthest + self._largest - 1 > self.rendered

    @property
    def window(self) -> int:
        """Height and width of the window that RAD and CURL cut out of each image.

        A pixel less than the largest makes the same features; it is taken if no window could lie so far out otherwise.
        """
        return self._largest - (self._farthest + self._largest > self.rendered)

    @property
    def exploration_steps(self) -> int:
        """Agent steps over which DrQ-v2's noise falls: of its authors' schedules the one nearest to the logs."""
        steps, entropies = (
            [self.in_shape(f"update{k}.{name}", ()).item() for k in self._numbers()]
            for name in ("step", "log.actor_ent")
        )
        stds = [math.exp(entropy / self.num_actions - (1 + math.log(2 * math.pi)) / 2) for entropy in entropies]
        return min(
            SCHEDULES.values(),
            key=lambda span: sum(abs(max(1 - 0.9 * step / span, 0.1) - std) for step, std in zip(steps, stds)),
        )

    @property
    def num_actions(self) -> int:
        """Dimensions of an action."""
        return self["update1.action"].shape[-1]

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
            sizes |= {"critic_views": len(self._series("offset_obs")), "target_views": len(self._series("noise_next"))}
        if self.translates:
            sizes |= {"augment": "translate", "image_size": self._largest, "window_size": None}
        elif self.kind in ("rad", "curl"):
            sizes |= {"image_size": self.rendered, "window_size": self.window}
        if self.kind == "drqv2":
            sizes |= {"exploration_steps": self.exploration_steps, "action_repeat": 1, "domain": "cheetah"}
        return configs.make(**({"preset": self.kind} | sizes | settings))

    def spec(self) -> EnvSpec:
        shape = self._images("update1.obs").shape[1:]
        return EnvSpec(tuple(shape), "uint8", 1, self.num_actions)

    def _images(self, key: str) -> torch.Tensor:
        """Recorded images, with a black border where RAD's translation is recorded of images without one."""
        border = (self._largest - self.rendered) // 2 if self.translates else 0
        images = self.in_shape(key, (*self["update1.obs"].shape[:2], self.rendered, self.rendered))
        return F.pad(images.to(torch.uint8), [border] * 4)

    def _rows(self, key: str, width: int) -> torch.Tensor:
        """What an update has of each transition, float32 (B, width)."""
        return self.in_shape(key, (len(self["update1.obs"]), width)).float()

    def _numbers(self) -> Iterator[int]:
        """The numbers of the updates, from 1."""
        return itertools.takewhile(lambda k: f"update{k}.obs" in self.arrays, itertools.count(1))

    def updates(self) -> Iterator[tuple[int, Batch, Noise]]:
        for k in self._numbers():
            u = {name: self._images(f"update{k}.{name}") for name in ("obs", "next_obs")}
            action, reward = self._rows(f"update{k}.action", self.num_actions), self._rows(f"update{k}.reward", 1)
            known = f"update{k}.discount" in self.arrays
            discount = self._rows(f"update{k}.discount", 1) if known else 0.99 * self._rows(f"update{k}.not_done", 1)
            batch = Batch(u["obs"], action, reward, discount, u["next_obs"])
            noise_next = [self._rows(f"update{k}.{name}", self.num_actions) for name in self._series("noise_next")]
            noise_pi = self._rows(f"update{k}.noise_pi", self.num_actions)
            half = torch.full(u["obs"].shape, 128, dtype=torch.uint8)
            yield k, batch, Noise(torch.cat(noise_next), noise_pi, half, augmentation=self._draws(k))

    def _series(self, first: str) -> list[str]:
        """An update's arrays that begin so, one at least: x, x_aug, x_aug2, ..., so that views and noise agree."""
        names = (key.removeprefix("update1.") for key in self.arrays)
        return sorted((name for name in names if name.startswith(first)), key=lambda name: (len(name), name)) or [first]

    def _draws(self, k: int) -> torch.Tensor | None:
        """The uniform draws that make the recorded places of the windows."""
        if self.kind == "sac_ae":
            return None
        of_obs, of_next_obs = self._series("offset_obs"), self._series("offset_next_obs")
        if self.translates and "update1.offset_next_obs" not in self.arrays:
            of_next_obs = of_obs[:1]  # which lies at the same place
        if len(of_next_obs) != len(self._series("noise_next")):
            raise UserError(f"{self.path}: offset_next_obs and noise_next are of different numbers of views")
        names = [*of_obs, *of_next_obs, *(self._series("offset_positive") if self.kind == "curl" else ())]
        if self.kind in ("drq", "drqv2"):
            room = 2 * PAD
        elif self.translates:
            room = self._largest - round(SHARES["translate"] * self._largest)
        else:
            room = self.rendered - self.window
        places = torch.stack([self._rows(f"update{k}.{name}", 2) for name in names])
        if places.min() < 0 or places.max() > room:
            raise UserError(f"{self.path}: a window of update{k} does not lie at one of the places 0 to {room}")
        draws = torch.zeros(*places.shape[:2], NUM_DRAWS)
        draws[..., :2] = (places + 0.5) / (room + 1)
        return draws


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """The arrays of numbers as tensors. What else a file says, such as who made it, is left out."""
    numbers = {key: array for key, array in arrays.items() if array.dtype.kind in "biuf"}
    return {key: torch.as_tensor(array.astype(array.dtype.newbyteorder("="))) for key, array in numbers.items()}


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
        theirs = recording.name(name.replace("critic_target", "critic"))
        parameter.copy_(recording.in_shape(f"init.{theirs}", parameter.shape))
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
        if not any(key.startswith(f"update{k}.log.") for key in recording.arrays):
            raise UserError(f"{recording.path} has no update{k}.log.*: nothing to compare the update's values with")
        if f"update{k}.step" in recording.arrays:
            agent.follow_schedule(int(recording[f"update{k}.step"]) * agent.config.task.action_repeat)
        on_device = [None if t is None else t.to(agent.device) for t in (*batch, *noise)]
        metrics = update(Batch(*on_device[: len(batch)]), Noise(*on_device[len(batch) :]))
        if recording.kind == "drq" and "alpha_loss" in metrics:
            # DrQ logs the sample's estimate, mean(-log pi), which stands in the temperature's loss.
            metrics["entropy"] = metrics["alpha_loss"] / metrics["alpha"] + agent.head.target_entropy
        if f"update{k}.log.critic_q1" in recording.arrays:
            both = [recording.in_shape(f"update{k}.log.critic_q{i}", ()) for i in (1, 2)]
            error = (metrics["q"].cpu() - sum(both) / 2).abs() / max(q.abs() for q in both)  # they may cancel
            rows.append((f"update{k}.log.critic_q", error.item(), BOUND_FORWARD))
        for theirs, ours in LOGGED.items():
            key = f"update{k}.log.{theirs}"
            if key in recording.arrays:
                bound = BOUND_ALPHA if ours == "alpha" else BOUND_FORWARD
                value = metrics.get(ours, torch.tensor(math.inf))  # which no recorded value is
                rows.append((key, relative_error(value, recording.in_shape(key, ())), bound))
    for name, parameter in reference_names(agent).items():
        final = recording.in_shape(f"final.{recording.name(name)}", parameter.shape)
        rows.append((f"final.{name}", relative_error(parameter, final), BOUND_PARAMETERS))
    if "final.log_alpha" in recording.arrays:
        log_alpha = relative_error(agent.head.log_alpha, recording.in_shape("final.log_alpha", ()))
        rows.append(("final.log_alpha", log_alpha, BOUND_ALPHA))
    return rows


@torch.no_grad()
def _forward(recording: Recording, agent: Agent) -> dict[str, torch.Tensor]:
    obs, action, noise = (recording[f"forward.{name}"].to(agent.device) for name in ("obs", "action", "noise"))
    action, noise = action.float(), noise.float()
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
    if len(files) != 1:
        print("usage: python tests/golden.py FILE.npz [--compile]", file=sys.stderr)
        return 2
    try:
        recording = Recording(Path(files[0]))
        agent = initial_agent(recording, compile=compiled)
        rows = sorted(compare(recording, agent), key=lambda row: (row[1] <= row[2], -row[1] / row[2]))
    except UserError as error:
        print(f"golden.py: error: {error}", file=sys.stderr)
        return 2
    for name, error, bound in rows[:10]:
        print(f"{name:45s} error {error:.1e}  bound {bound:.0e}  {'ok' if error <= bound else 'FAILED'}")
    failed = sum(not error <= bound for _, error, bound in rows)
    print(f"{len(rows) - failed} of {len(rows)} within bounds")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
