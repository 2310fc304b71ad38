"""`sacae show`: a picture of frames, reconstructions and feature maps at a few moments of an episode."""

import contextlib
from pathlib import Path

from rich.console import Console

from sacae import envs
from sacae.errors import UserError
from sacae.text import say, waiting
from sacae.training import pictures, run_folder
from sacae.training.device import choose_device
from sacae.training.evaluation import evaluate
from sacae.training.trained import arithmetic_of, fitting, load_config, load_state, make_player
from sacae.training.views import look


def show(run_dir: Path, best: bool, out: Path | None, seed: int, device: str, console: Console) -> Path:
    """Plays an episode with the policy's mean action and draws moments of it; returns the PNG's path.

    best: whether to use the checkpoint of the best evaluation. out: folder for the picture, by default show/ in the run
    folder; existing files are kept. seed: of the initial state, and of the dither in the reconstruction target.

    Raises UserError if the folder has no run from pixels, or `out` cannot be a folder.
    """
    config = load_config(run_dir)
    if not config.task.from_pixels:
        raise UserError(
            f"{run_dir} is a run with obs {config.task.obs}, which has no images and no convolutions to show; "
            "give a run with --obs pixels"
        )
    state = load_state(run_dir, best, config)
    if not config.task.env:
        envs.rendering.configure()
    with contextlib.closing(envs.from_config(config.task, seed)) as env:
        info, task = envs.EnvInfo.of(env, config.keeps_state), config.task
        spec = envs.spec_of(info, task.frame_stack, task.sees_state)
        agent = make_player(config, spec, choose_device(device))
        with fitting(run_dir, state):
            agent.load_networks(state["learning"])
        folder = run_folder.make_results_folder(out or run_dir / "show")
        with waiting(console, "playing an episode"), arithmetic_of(agent):
            (episode,) = evaluate(agent, [env], [seed], observations=True)
            view = look(agent, episode.observations, seed)
    env_step = state["loop"]["agent_step"] * config.task.action_repeat
    path = run_folder.unused_path(folder / f"step{env_step}-seed{seed}.png")
    title = f"{config.task_name} {config.variant} after {env_step:,} environment steps"
    pictures.write_view(path, view, title)
    say(console, f"return of the episode: {episode.episode_return:.1f}")
    say(console, f"written to {path}")
    return path
