"""Causality-aware entropy beside training: when effects are fitted, when weights change, what is written down."""

from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sacae.agents import Agent
from sacae.agents.sac import SAC
from sacae.causality import entropy_weights, timed_fit
from sacae.config import Config
from sacae.errors import UserError
from sacae.replay import FrameReplay
from sacae.signals import follow_parent, signals_held
from sacae.training.logger import Logger
from sacae.training.pictures import only_warned, write_series

CSV, PICTURE = "causal.csv", "causal.png"
ENCODER_BATCH = 128


def check_samples(config: Config, agent: Agent) -> None:
    """Raises UserError where a fit has no more samples than columns, which are state, action and reward."""
    least = agent.encoder.feature_dim + agent.spec.action_dim + 2 + config.train.num_envs
    if config.causal_entropy != "off" and config.causal.causal_samples < least:
        raise UserError(
            f"causal_samples is {config.causal.causal_samples}, but it must be {least} or more on this task; change "
            "--causal-samples"
        )


class CausalEntropy:
    """Fits the effects of actions on rewards, in a process of its own, and gives the agent its weights.

    Every `causal_every` environment steps the latest `causal_samples` transitions are handed over, from pixels as
    latent vectors. What comes of them takes effect `causal_delay` agent steps later, whenever the fit is done: so a run
    is the same on a fast machine and on a slow one, which waits for it then.
    """

    def __init__(
        self, config: Config, agent: Agent, folder: Path, logger: Logger, state: dict[str, Any] | None
    ) -> None:
        """state: what `state` returned at the checkpoint from which the run goes on."""
        self._config, self._agent, self._folder, self._logger = config.causal, agent, folder, logger
        self._signed = config.causal_entropy == "signed"
        self._executor = ProcessPoolExecutor(1, get_context("spawn"), initializer=follow_parent)
        names = [f"{kind}_{i}" for kind in ("effect", "weight") for i in range(agent.spec.action_dim)]
        columns = ("env_step", "agent_step", "fit_seconds", *names)
        self._log = logger.rows(folder / CSV, columns, state, "csv")
        self._next_fit = state["next_fit"] if state else config.causal.causal_every
        self._pending: dict[str, Any] | None = None
        self._future: Future[tuple[NDArray[np.float64], float]] | None = None
        if state and state["pending"]:
            self._submit(state["pending"])

    def step(self, env_step: int, agent_step: int, replay: FrameReplay) -> None:
        """What is due after an agent step: handing over, or taking over."""
        if self._pending and agent_step >= self._pending["agent_step"] + self._config.causal_delay:
            self._take_over()
        if env_step >= self._next_fit and not self._pending and len(replay) >= self._config.causal_samples:
            self._next_fit = (env_step // self._config.causal_every + 1) * self._config.causal_every
            parts = replay.latest(self._config.causal_samples, ENCODER_BATCH)
            columns = zip(*[(self._states(obs), actions, rewards) for obs, actions, rewards in parts])
            data = dict(zip(("states", "actions", "rewards"), map(np.concatenate, columns)))
            self._submit({"env_step": env_step, "agent_step": agent_step, **data})

    def _states(self, obs: torch.Tensor) -> NDArray[np.float32]:
        """The causes beside the actions: the state vector, or the critic's latent of pixels. (N, S)."""
        return self._agent.latent(obs).cpu().numpy()

    def _submit(self, pending: dict[str, Any]) -> None:
        self._pending = pending
        with signals_held():  # the process starts here
            self._future = self._executor.submit(
                timed_fit, *(pending[name] for name in ("states", "actions", "rewards"))
            )

    def _take_over(self) -> None:
        pending, future, head = self._pending, self._future, self._agent.head
        assert pending is not None  # `step` has asked
        assert future is not None
        assert isinstance(head, SAC)  # the settings allow no other head
        assert head.actor.entropy_weights is not None
        try:
            effects, seconds = future.result()
        except BrokenProcessPool:
            raise UserError(
                "the process that fits the effects of actions has ended, perhaps for want of memory: lower "
                "causal_samples; --resume continues the run"
            ) from None
        env_step, agent_step = pending["env_step"], pending["agent_step"]
        self._pending = self._future = None
        weights = entropy_weights(effects, self._signed)
        head.actor.entropy_weights.copy_(torch.from_numpy(weights))
        row = {"fit_seconds": seconds}
        told: dict[str, NDArray[np.floating]] = {"effect": effects, "weight": weights}
        for kind, values in told.items():
            row |= {f"{kind}_{i}": float(value) for i, value in enumerate(values)}
        self._log.write({"env_step": env_step, "agent_step": agent_step} | row)
        self._logger.scalars("causal", row, env_step)
        lines = {f"action {i}": f"weight_{i}" for i in range(len(weights))}
        panels = {"weight of the entropy": lines, "seconds of the fit": {"seconds": "fit_seconds"}}
        with only_warned(self._logger.warn, self._folder / PICTURE):
            write_series(self._folder / PICTURE, self._folder / CSV, panels)

    def state(self) -> dict[str, Any]:
        """For a checkpoint. The weights are the agent's own."""
        return {"next_fit": self._next_fit, "pending": self._pending, "csv": self._log.state()}

    def close(self) -> None:
        """Ends the process, whatever it is at."""
        for process in (self._executor._processes or {}).values():
            process.kill()
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._log.close()
