"""Recordings of DrQ, DrQ-v2, RAD and CURL in any size, made from their equations in plain PyTorch and float64.

The authors' recordings have one size each. This uses nothing of the package, so that other sizes too are compared with
something else than themselves. It is the simplest code that there is for the equations: no view is folded into another,
no convolution shared.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F

Tensors = dict[str, torch.Tensor]
GAMMA, POLICY_EVERY, TARGET_EVERY = 0.99, 2, 2


@dataclass
class Recorder:
    """The kind and the sizes of a recording: drq, drqv2, rad, curl, or translate, which is RAD with its translation.

    size, window: height and width of the images, and of what RAD and CURL cut out of them. span: agent steps over which
    DrQ-v2's noise falls.
    """

    kind: str
    size: int = 84
    window: int = 84
    layers: int = 4
    filters: int = 4
    features: int = 10
    hidden: int = 32
    actions: int = 3
    channels: int = 9
    batch: int = 4
    critic_views: int = 2
    target_views: int = 2
    updates: int = 4
    span: int = 100_000
    seed: int = 0
    p: Tensors = field(default_factory=dict)
    arrays: Tensors = field(default_factory=dict)

    def record(self) -> dict[str, np.ndarray]:
        """All arrays of the recording."""
        self.draw = torch.Generator().manual_seed(self.seed)
        self._start()
        self.arrays |= {f"init.{name}": value.detach().clone() for name, value in self.p.items()}
        of_target = [name for name in self.p if name.startswith("critic.")]
        self.target = {name: self.p[name].detach().clone() for name in of_target}
        self.log_alpha = torch.tensor(math.log(0.1), dtype=torch.float64, requires_grad=True)
        self._make_optimisers()
        for k in range(1, self.updates + 1):
            self._update(k)
        self.arrays |= {f"final.{name}": value.detach() for name, value in self.p.items()}
        self.arrays |= {f"final.critic_target.{n.removeprefix('critic.')}": value for n, value in self.target.items()}
        if self.kind != "drqv2":
            self.arrays["final.log_alpha"] = self.log_alpha.detach()
        return {name: value.numpy().astype(np.float32) if value.is_floating_point() else value.numpy()
                for name, value in self.arrays.items()}  # fmt: skip

    # Networks, by the authors' names.

    @property
    def v2(self) -> bool:
        return self.kind == "drqv2"

    @property
    def seen(self) -> int:
        """Height and width of what the encoder sees."""
        return self.size if self.kind in ("drq", "drqv2", "translate") else self.window

    @property
    def inner(self) -> int:
        """Height and width of what is translated, 100 of 108."""
        return round(self.size * 100 / 108)

    def conv_name(self, network: str, i: int) -> str:
        return f"encoder.convnet.{2 * i}" if self.v2 else f"{network}.encoder.convs.{i}"

    def head_names(self, network: str) -> tuple[str, str]:
        if self.v2:
            return f"{network}.trunk.0", f"{network}.trunk.1"
        parts = ("head.0", "head.1") if self.kind == "drq" else ("fc", "ln")
        return f"{network}.encoder.{parts[0]}", f"{network}.encoder.{parts[1]}"

    def q_name(self, network: str, twin: int, i: int) -> str:
        return f"{network}.Q{twin}.{i}" if self.kind in ("drq", "drqv2") else f"{network}.Q{twin}.trunk.{i}"

    def policy_name(self, i: int) -> str:
        return f"actor.policy.{i}" if self.v2 else f"actor.trunk.{i}"

    def _start(self) -> None:
        out = (self.seen - 3) // 2 + 1 - 2 * (self.layers - 1)
        for i in range(self.layers):
            self._parameter(self.conv_name("critic", i), self.filters, (self.filters if i else self.channels, 3, 3), 2)
            if not self.v2:  # the actor's convolutions are the critic's
                for kind in ("weight", "bias"):
                    shared = self.p[f"{self.conv_name('critic', i)}.{kind}"]
                    self.p[f"{self.conv_name('actor', i)}.{kind}"] = shared
        for network in ("actor", "critic"):
            linear, norm = self.head_names(network)
            self._parameter(linear, self.features, (self.filters * out * out,))
            self.p[f"{norm}.weight"] = (1 + self._normal(self.features) / 10).requires_grad_()
            self.p[f"{norm}.bias"] = (self._normal(self.features) / 10).requires_grad_()
        widths = [self.features, self.hidden, self.hidden, self.actions * (1 if self.v2 else 2)]
        for i in range(3):
            self._parameter(self.policy_name(2 * i), widths[i + 1], (widths[i],))
        widths = [self.features + self.actions, self.hidden, self.hidden, 1]
        for twin in (1, 2):
            for i in range(3):
                self._parameter(self.q_name("critic", twin, 2 * i), widths[i + 1], (widths[i],))
        if self.kind == "curl":
            w = torch.rand(self.features, self.features, generator=self.draw, dtype=torch.float64)
            self.p["W"] = w.requires_grad_()

    def _parameter(self, name: str, rows: int, rest: tuple[int, ...], gain: float = 1) -> None:
        weight = self._normal(rows, *rest) * math.sqrt(gain / math.prod(rest))
        self.p[f"{name}.weight"] = weight.float().double().requires_grad_()
        self.p[f"{name}.bias"] = (self._normal(rows) / 20).float().double().requires_grad_()

    def _normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.draw).double()

    def convs(self, images: torch.Tensor, p: Tensors) -> torch.Tensor:
        x = images.double() / 255 - (0.5 if self.v2 else 0)
        for i in range(self.layers):
            name = self.conv_name("critic", i)
            x = F.conv2d(x, p[f"{name}.weight"], p[f"{name}.bias"], stride=1 if i else 2).relu()
        return x.flatten(1)

    def latent(self, h: torch.Tensor, network: str, p: Tensors) -> torch.Tensor:
        linear, norm = self.head_names(network)
        z = F.linear(h, p[f"{linear}.weight"], p[f"{linear}.bias"])
        z = F.layer_norm(z, (self.features,), p[f"{norm}.weight"], p[f"{norm}.bias"])
        return z.tanh() if self.kind in ("drq", "drqv2") else z

    def mlp(self, x: torch.Tensor, names: list[str], p: Tensors) -> torch.Tensor:
        for i, name in enumerate(names):
            x = F.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])
            x = x.relu() if i < len(names) - 1 else x
        return x

    def q(self, h: torch.Tensor, action: torch.Tensor, p: Tensors) -> list[torch.Tensor]:
        x = torch.cat([self.latent(h, "critic", p), action], 1)
        return [self.mlp(x, [self.q_name("critic", twin, i) for i in (0, 2, 4)], p) for twin in (1, 2)]

    def policy(self, h: torch.Tensor, noise: torch.Tensor, std: float) -> tuple[torch.Tensor, ...]:
        """Action, its log probability, and the entropy that is logged."""
        raw = self.mlp(self.latent(h, "actor", self.p), [self.policy_name(i) for i in (0, 2, 4)], self.p)
        if self.v2:
            mu, bound = raw.tanh(), 1 - 1e-6
            action = mu + (std * noise).clamp(-0.3, 0.3)
            action = action + (action.clamp(-bound, bound) - action).detach()
            normal = torch.distributions.Normal(mu, std)
            return action, normal.log_prob(action).sum(1, keepdim=True), normal.entropy().sum(1, keepdim=True)
        mu, log_std = raw.chunk(2, 1)
        log_std = -10 + 0.5 * 12 * (log_std.tanh() + 1)
        before = mu + log_std.exp() * noise
        action = before.tanh()
        log_pi = (-0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(1, keepdim=True)
        if self.kind == "drq":
            log_pi = log_pi - (2 * (math.log(2) - before - F.softplus(-2 * before))).sum(1, keepdim=True)
            return action, log_pi, -log_pi
        log_pi = log_pi - ((1 - action**2).relu() + 1e-6).log().sum(1, keepdim=True)
        return action, log_pi, (log_std + 0.5 * (1 + math.log(2 * math.pi))).sum(1, keepdim=True)

    # Learning.

    def named(self, *starts: str) -> list[torch.Tensor]:
        return [value for name, value in self.p.items() if name.startswith(starts)]

    def _make_optimisers(self) -> None:
        adam = torch.optim.Adam
        if self.v2:
            parts = {"encoder": self.named("encoder."), "critic": self.named("critic."), "actor": self.named("actor.")}
            self.adams = {name: adam(params, lr=1e-4) for name, params in parts.items()}
            return
        convs = {id(value) for value in self.named("critic.encoder.convs")}
        of_actor = [value for value in self.named("actor.") if id(value) not in convs]
        alpha = {"lr": 1e-3} if self.kind == "drq" else {"lr": 1e-4, "betas": (0.5, 0.999)}
        self.adams = {"critic": adam(self.named("critic."), lr=1e-3), "actor": adam(of_actor, lr=1e-3),
                      "alpha": adam([self.log_alpha], **alpha)}  # fmt: skip
        if self.kind == "curl":
            encoder = self.named("critic.encoder.")
            self.adams |= {"of encoder": adam(encoder, lr=1e-3), "of curl": adam([*encoder, self.p["W"]], lr=1e-3)}

    def _step(self, loss: torch.Tensor, *names: str) -> None:
        """Steps of several optimisers on one gradient."""
        for value in [*self.p.values(), self.log_alpha]:
            value.grad = None
        loss.backward()
        for name in names:
            self.adams[name].step()

    def _update(self, k: int) -> None:
        u, std = self._batch(k), 0.0
        if self.v2:
            step = 10_000 * k
            self._keep(k, step=torch.tensor(step))
            std = 1 - 0.9 * min(step / self.span, 1)
        views = [self._place(u["obs"], place) for place in u["places"]["obs"]]
        next_views = [self._place(u["next_obs"], place) for place in u["places"]["next_obs"]]
        discount = u["discount"] if self.v2 else GAMMA * u["not_done"]
        alpha = self.log_alpha.exp().detach()
        with torch.no_grad():
            values = []
            for view, noise in zip(next_views, u["noise_next"]):
                h = self.convs(view, self.p)
                action, log_pi, _ = self.policy(h, noise, std)
                at_target = h if self.v2 else self.convs(view, self.target)
                value = torch.min(*self.q(at_target, action, self.target))
                values.append(value if self.v2 else value - alpha * log_pi)
            y = u["reward"] + discount * sum(values) / len(values)
        features = [self.convs(view, self.p) for view in views]
        qs = [self.q(h, u["action"], self.p) for h in features]
        loss = sum(F.mse_loss(q, y) for pair in qs for q in pair)
        self._step(loss, "critic", *(["encoder"] if self.v2 else []))
        self._log_critic(k, u, loss, qs, y)
        if self.v2 or k % POLICY_EVERY == 0:
            self._improve_policy(k, features[0].detach() if self.v2 else self.convs(views[0], self.p).detach(), u, std)
        if self.v2 or k % TARGET_EVERY == 0:
            for name, value in self.target.items():
                fast = self.kind in ("rad", "curl", "translate") and ".encoder." in name
                tau = 0.05 if fast else 0.01
                self.target[name] = tau * self.p[name].detach() + (1 - tau) * value
        if self.kind == "curl":
            anchor = self.latent(self.convs(views[0], self.p), "critic", self.p)
            with torch.no_grad():
                positive = self._place(u["obs"], u["places"]["positive"][0])
                positive = self.latent(self.convs(positive, self.target), "critic", self.target)
            loss = F.cross_entropy(anchor @ self.p["W"] @ positive.T, torch.arange(self.batch))
            self._step(loss, "of encoder", "of curl")
            self._log(k, {"train/curl_loss": loss})

    def _improve_policy(self, k: int, h: torch.Tensor, u: dict, std: float) -> None:
        action, log_pi, entropy = self.policy(h, u["noise_pi"], std)
        q = torch.min(*self.q(h, action, self.p))
        if self.v2:
            loss = -q.mean()
            self._step(loss, "actor")
            self._log(k, {"actor_loss": loss, "actor_logprob": log_pi.mean(), "actor_ent": entropy.mean()})
            return
        alpha = self.log_alpha.exp()
        loss = (alpha.detach() * log_pi - q).mean()
        of_alpha = (alpha * (-log_pi + self.actions).detach()).mean()  # the target entropy is -actions
        self._step(loss + of_alpha, "actor", "alpha")
        self._log(k, {"train_actor/loss": loss, "train_alpha/loss": of_alpha, "train_alpha/value": alpha,
                      "train_actor/entropy": entropy.mean()})  # fmt: skip

    def _log_critic(self, k: int, u: dict, loss: torch.Tensor, qs: list, y: torch.Tensor) -> None:
        if self.v2:
            self._log(k, {"batch_reward": u["reward"].mean(), "critic_loss": loss, "critic_target_q": y.mean(),
                          "critic_q1": qs[0][0].mean(), "critic_q2": qs[0][1].mean()})  # fmt: skip
        else:
            self._log(k, {"train/batch_reward": u["reward"].mean(), "train_critic/loss": loss})

    # What is recorded.

    def _keep(self, k: int, **values: torch.Tensor) -> None:
        self.arrays |= {f"update{k}.{name}": value for name, value in values.items()}

    def _log(self, k: int, values: Tensors) -> None:
        self._keep(k, **{f"log.{name}": value.detach().clone() for name, value in values.items()})

    def _batch(self, k: int) -> dict:
        shape, n = (self.batch, self.channels, self.size, self.size), (self.batch, self.actions)
        obs, next_obs = (torch.randint(0, 256, shape, dtype=torch.uint8, generator=self.draw) for _ in range(2))
        last = (torch.arange(self.batch) + k) % 3 == 0
        ends = {"not_done": 1.0 - last.double()[:, None]}
        if self.v2:
            ends = {"discount": 0.99**3 * ends["not_done"]}
        u = {"obs": obs, "next_obs": next_obs, "action": torch.rand(n, generator=self.draw).double() * 2 - 1,
             "reward": torch.rand(self.batch, 1, generator=self.draw).double(), **ends}  # fmt: skip
        self._keep(k, **u)
        num = {"obs": 1, "next_obs": 1, "positive": int(self.kind == "curl")}
        if self.kind == "drq":
            num |= {"obs": self.critic_views, "next_obs": self.target_views}
        room = (
            8
            if self.kind in ("drq", "drqv2")
            else self.size - (self.inner if self.kind == "translate" else self.window)
        )
        places = {name: [torch.randint(0, room + 1, (self.batch, 2), generator=self.draw) for _ in range(count)]
                  for name, count in num.items()}  # fmt: skip
        if self.kind == "translate":
            places["next_obs"] = places["obs"]
        noises = [self._normal(*n) for _ in range(num["next_obs"])]
        for i in range(4):
            suffix = ["", "_aug", "_aug2", "_aug3"][i]
            self._keep(k, **{f"offset_{name}{suffix}": all_[i] for name, all_ in places.items() if i < len(all_)})
            self._keep(k, **({f"noise_next{suffix}": noises[i]} if i < len(noises) else {}))
        noise_pi = self._normal(*n)
        self._keep(k, noise_pi=noise_pi)
        return u | {"places": places, "noise_next": noises, "noise_pi": noise_pi}

    def _place(self, images: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """What the encoder sees of each image."""
        shown = []
        for image, (y, x) in zip(images, places.tolist()):
            if self.kind == "translate":
                inner, black = self.inner, torch.zeros_like(image)
                margin = (self.size - inner) // 2
                black[:, y : y + inner, x : x + inner] = image[:, margin : margin + inner, margin : margin + inner]
                shown.append(black)
            else:
                pad = 4 if self.kind in ("drq", "drqv2") else 0
                padded = F.pad(image[None].float(), [pad] * 4, mode="replicate")[0] if pad else image
                shown.append(padded[:, y : y + self.seen, x : x + self.seen])
        return torch.stack(shown)
