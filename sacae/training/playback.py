"""Evaluation of a finished or interrupted run, from its folder alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sacae import config as configs
from sacae import envs, files
from sacae.groups import TaskConfig
from sacae.keywords import keyword_arguments
from sacae.settings import Settings
from sacae.text import printable, say, waiting
from sacae.training import pictures, run_folder
from sacae.training.device import choose_device
from sacae.training.evaluation import Episode, Player, RememberingPlayer, evaluate, success_rate
from sacae.training.task import full_task
from sacae.training.trained import TrainedAgent, env_step_of, fitting, load_config, load_state
from sacae.types import EnvSpec


def play_back(
    run_dir: Path,
    episodes: int,
    num_envs: int,
    video: bool,
    seed: int,
    device: str,
    console: Console,
    best: bool = False,
    load: "Load | None" = None,
    step: int | None = None,
) -> dict[str, Any]:
    """Evaluates what a run folder's last or best checkpoint plays; writes JSON, and an mp4 if asked, to evaluation/.

    Nothing that is there is overwritten. Returns what the JSON holds. Raises UserError if the folder has no run.

    load: says what kind of run the folder has; an agent's unless given. step: plays the checkpoint of that environment
        step instead.
    """
    config, make = (load or load_agent)(run_dir)
    # Read before anything is made: a run folder without a checkpoint is to be refused at once.
    state = load_state(run_dir, best, config, step)
    task = full_task(config)
    video = _prepare_rendering(task, video, console)
    eval_envs = [envs.from_config(task, seed) for _ in range(min(num_envs, episodes))]
    spec = envs.spec_of(envs.EnvInfo.of(eval_envs[0], config.keeps_state), task.frame_stack, task.sees_state)
    chosen = choose_device(device)
    with fitting(run_dir, state):
        player = make(spec, chosen, state["learning"])
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(episodes)]
    with waiting(console, f"playing {episodes} episodes"):
        played = evaluate(player, eval_envs, seeds, video=video)
    env_step = env_step_of(state, config)
    result = _summary(config, env_step, best, seed, played)
    _print(console, result)
    path = run_folder.unused_path(run_dir / "evaluation" / f"step{env_step}-seed{seed}.json", ".mp4")
    files.write_atomically(path, lambda temporary: temporary.write_text(json.dumps(result, indent=2) + "\n"))
    say(console, f"written to {path}")
    if video and played[0].no_video:
        say(console, f"there is no video: {played[0].no_video}")
    elif video:
        pictures.write_video(path.with_suffix(".mp4"), played[0].frames, eval_envs[0].metadata["render_fps"])
        say(console, f"video of the first episode: {path.with_suffix('.mp4')}")
    for env in eval_envs:
        env.close()
    return result


Make = Callable[[EnvSpec, torch.device, dict[str, Any]], Player | RememberingPlayer]
"""Makes a player from a checkpoint's "learning"."""

Load = Callable[[Path], tuple[Settings, Make]]
"""The settings of a run folder, and what makes the player that they describe."""


def load_agent(run_dir: Path) -> tuple[configs.Config, Make]:
    """As `Load`, for the run of an agent. Raises UserError if there is no such folder, or it has no run."""
    config = load_config(run_dir)

    def make(spec: EnvSpec, device: torch.device, learning: dict[str, Any]) -> TrainedAgent:
        return TrainedAgent(config, spec, device, learning)

    return config, make


def _prepare_rendering(task: TaskConfig, video: bool, console: Console) -> bool:
    """Says what renders; returns whether there can be the video that is asked for."""
    if task.env:
        problem = envs.rendering_problem(task.env, keyword_arguments(task.env_kwargs)) if video else ""
        text = f"there will be no video: {problem}" if problem else ""
    elif video or task.from_pixels:
        rendering = envs.rendering.configure(required=task.from_pixels)
        problem = rendering.problem
        text = f"there will be no video: {problem}" if problem else rendering.describe()
    else:
        problem = text = ""
    if text:
        say(console, text)
    return video and not problem


def _summary(config: Settings, env_step: int, best: bool, seed: int, episodes: list[Episode]) -> dict[str, Any]:
    """What the JSON holds; of success only where the environment tells it."""
    returns, rate = [episode.episode_return for episode in episodes], success_rate(episodes)
    summary = {
        "agent": config.variant,
        "task": config.task_name,
        "training_seed": config.train.seed,
        "env_step": env_step,
        "best": best,
        "evaluation_seed": seed,
        "mean": float(np.mean(returns)),
        "std": float(np.std(returns)),
        "episode_returns": returns,
        "episode_lengths": [episode.length for episode in episodes],
    }
    if rate is None:
        return summary
    return summary | {"success_rate": rate, "episode_successes": [episode.success for episode in episodes]}


def _print(console: Console, result: dict[str, Any]) -> None:
    title = f"{result['task']} {result['agent']} after {result['env_step']:,} environment steps"
    table = Table(title=escape(printable(title)))
    table.add_column("episode", justify="right")
    table.add_column("return", justify="right")
    table.add_column("agent steps", justify="right")
    for i, (episode_return, length) in enumerate(zip(result["episode_returns"], result["episode_lengths"])):
        table.add_row(str(i), f"{episode_return:.1f}", str(length))
    console.print(table)
    success = f", success rate {result['success_rate']:.2f}" if "success_rate" in result else ""
    console.print(f"mean {result['mean']:.1f}, standard deviation {result['std']:.1f}{success}", highlight=False)
