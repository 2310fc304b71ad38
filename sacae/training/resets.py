"""Soft resets during training, and the dormancy of the policy, which is written down with or without them."""

from pathlib import Path
from typing import Any

from sacae.agents import Agent
from sacae.agents.sac import SAC
from sacae.agents.soft_reset import dormancy, own_linear_layers, soft_reset
from sacae.config import Config
from sacae.training.logger import Logger
from sacae.training.pictures import only_warned, write_series

CSV, PICTURE = "dormancy.csv", "dormancy.png"


class SoftResets:
    """Looks at the policy's dormancy every `causal_every` environment steps, and resets every `reset_every` updates.

    Both wait for the next update that has the policy's part, whose gradients they need.
    """

    def __init__(
        self, config: Config, agent: Agent, folder: Path, logger: Logger, seed: int, state: dict[str, Any] | None
    ) -> None:
        """seed: of fresh parameters. state: what `state` returned at the checkpoint from which the run goes on."""
        self._config, self._agent, self._folder = config.causal, agent, folder
        self._logger, self._seed = logger, seed
        agent.policy_gradients = {}
        head = agent.head
        assert isinstance(head, SAC)  # the settings allow no resets of another head
        self._layers = own_linear_layers(head.actor, head.critic)
        self._names = [f"dormant_{i}" for i in range(len(self._layers))]
        columns = ("env_step", "update", "dormant", *self._names, "retained")
        self._log = logger.rows(folder / CSV, columns, state, "csv")
        self._next_look = state["next_look"] if state else config.causal.causal_every
        self._next_reset = state["next_reset"] if state else config.causal.reset_every

    def after_update(self, env_step: int) -> None:
        """What is due after an update made at that environment step."""
        gradients, updates = self._agent.policy_gradients, self._agent.updates_done
        look = env_step >= self._next_look
        reset = self._config.soft_reset != "off" and updates >= self._next_reset
        if not gradients or not (look or reset):
            return
        found = dormancy([gradients[layer.weight] for layer in self._layers], self._config.dormancy_threshold)
        row: dict[str, float] = {"update": updates, "dormant": found.share}
        row |= {name: float(mask.float().mean()) for name, mask in zip(self._names, found.masks)}
        if reset:
            row["retained"] = soft_reset(self._agent, self._config.soft_reset, found, self._seed + updates)
            self._next_reset = (updates // self._config.reset_every + 1) * self._config.reset_every
        if look:
            self._next_look = (env_step // self._config.causal_every + 1) * self._config.causal_every
        self._log.write({"env_step": env_step, **row})
        self._logger.scalars("dormancy", row, env_step)
        shares = {"whole policy": "dormant"} | {f"layer {i}": name for i, name in enumerate(self._names)}
        panels = {"share of dormant neurons": shares, "retained in a reset": {"share": "retained"}}
        with only_warned(self._logger.warn, self._folder / PICTURE):
            write_series(self._folder / PICTURE, self._folder / CSV, panels)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"next_look": self._next_look, "next_reset": self._next_reset, "csv": self._log.state()}

    def close(self) -> None:
        """Closes the file."""
        self._log.close()
