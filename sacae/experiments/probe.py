"""`sacae probe`: how much of the physical state a linear map can read off an encoder's latent vector."""

import contextlib
import csv
import dataclasses
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from sacae import config as configs
from sacae import envs, files
from sacae.agents import Agent
from sacae.agents.augmentation import what_acting_sees
from sacae.errors import UserError
from sacae.experiments.probe_picture import LATENT, PIXELS, RANDOM, Result, draw
from sacae.experiments.regression import principal_components, r2_on_held_out
from sacae.groups import EncoderConfig
from sacae.limits import LARGEST_SEED
from sacae.networks import seeded
from sacae.text import draws_over, printable, say
from sacae.training import run_folder
from sacae.training.device import choose_device
from sacae.training.evaluation import episode_failures
from sacae.training.figures import DPI
from sacae.training.trained import arithmetic_of, fitting, load_config, load_state, make_player
from sacae.types import Frames

COLUMNS = ("run", "env_step", "source", "coordinate", "r2", "n_train", "n_test", "note")
HELD_OUT = 0.3
"""Share of the episodes that is held out to test the fit."""

FEWEST_EPISODES = 3
"""One for the test, and two for the cross-validation of the penalty."""

SEEN_ALIKE = ("task_kwargs", "image_size", "frame_stack", "camera_id", "action_repeat", "render_quality")
"""Settings that runs must share, so that each encoder accepts the other runs' images, and their states are the same."""

ENCODER_BATCH = 64


@dataclass
class Recording:
    """Observations and physical states at N time steps of several episodes.

    observations: uint8 (N, K * C, H, W). states: float64 (N, S), by `names`. episode: int64 (N,), numbered from 0.
    """

    observations: Frames
    states: NDArray[np.float64]
    names: list[str]
    episode: NDArray[np.int64]


Encode = Callable[[torch.Tensor], torch.Tensor]


@runtime_checkable
class TellsState(Protocol):
    """What an environment of DeepMind Control offers beside the others."""

    def physics_coordinates(self) -> dict[str, float]:
        """The physical state that the latest observation shows, by the coordinates' names."""


@dataclass(eq=False)
class Played:
    """A run's encoder after env_step steps, an untrained one with the same settings, and a recording of the run.

    encoder, untrained: from uint8 (B, K * C, H, W) to float32 (B, feature_dim).
    """

    run: Path
    config: configs.Config
    env_step: int
    encoder: Encode
    untrained: Encode
    recording: Recording


@dataclass(frozen=True)
class Plan:
    """How each run is probed.

    episodes: number to play, with exploration. max_steps: maximum agent steps of each. best: whether to use the
    checkpoint of the best evaluation. seed: of initial states, exploration and the random encoder.
    """

    episodes: int
    max_steps: int
    best: bool
    seed: int
    device: str


def probe(run_dirs: Sequence[Path], plan: Plan, out: Path | None, console: Console) -> Path:
    """Probes the encoders of run folders of one task; writes a CSV and a plot, and returns the CSV's path.

    Each run plays its episodes; the map of every encoder is fitted and tested on those of all runs.

    out: folder for the results, by default probe/ in the first run folder; nothing there is overwritten.

    Raises UserError if there is no run, if a run has no physical state or no images, if tasks or image settings differ,
    if a number is out of range, and if `out` cannot be a folder.
    """
    _check(run_dirs, plan)
    run_dirs = [*{run_dir.resolve(): run_dir for run_dir in run_dirs}.values()]  # each run counts once
    found = {run_dir: _checked_config(run_dir) for run_dir in run_dirs}
    _check_alike(found)
    for run_dir, config in found.items():
        load_state(run_dir, plan.best, config)  # Refuses a folder without a checkpoint before any episode is played.
    folder = run_folder.make_results_folder(out or run_dirs[0] / "probe")
    say(console, envs.rendering.configure().describe())
    results = compare([_play(run_dir, plan, console) for run_dir in found])
    table = run_folder.unused_path(folder / "probe.csv", ".png")
    picture = table.with_suffix(".png")
    files.write_atomically(table, lambda temporary: _write_csv(temporary, results))
    figure = draw(results)
    files.write_atomically(picture, lambda temporary: figure.savefig(temporary, dpi=DPI, format="png"))
    for result in results:
        _print(console, result, pooled=len(results) > 1)
    if len(results) > 1:
        say(
            console,
            f"the episodes of the {len(results)} runs are pooled: each encoder is fitted and tested on all of them",
        )
    say(console, f"written to {table} and {picture}")
    return table


def _check(run_dirs: Sequence[Path], plan: Plan) -> None:
    if not run_dirs:
        raise UserError("run_dirs is empty, but there must be one run folder or more; name some")
    for name, least in (("episodes", FEWEST_EPISODES), ("max_steps", 2)):
        if getattr(plan, name) < least:
            flag = name.replace("_", "-")
            raise UserError(f"{name} is {getattr(plan, name)}, but it must be at least {least}; change --{flag}")
    if not 0 <= plan.seed <= LARGEST_SEED:
        raise UserError(f"seed is {plan.seed}, but it must be from 0 to {LARGEST_SEED}; change --seed")
    choose_device(plan.device)


def _check_alike(found: Mapping[Path, configs.Config]) -> None:
    """Raises UserError unless all runs have the same task and image settings."""

    def require_one(values: Sequence[object], problem: str) -> None:
        if len({*values}) > 1:
            listed = ", ".join(f"{run_dir} ({value})" for run_dir, value in zip(found, values))
            raise UserError(f"run_dirs {problem}: {listed}; probe them separately")

    tasks = [config.task_name for config in found.values()]
    require_one(tasks, "are of different tasks, whose states cannot be compared")
    for name in SEEN_ALIKE:
        values = [getattr(config.task, name) for config in found.values()]
        require_one(values, f"differ in {name}, so that their episodes cannot be pooled")


def _checked_config(run_dir: Path) -> configs.Config:
    config = load_config(run_dir)
    if config.task.env:
        raise UserError(
            f"{run_dir} is a run in {config.task.env}, which provides no physical state; "
            "give a run of a DeepMind Control task"
        )
    if config.task.obs != "pixels":
        raise UserError(
            f"{run_dir} is a run with obs {config.task.obs}, which already observes the physical state; "
            "give a run with --obs pixels"
        )
    return config


def _play(run_dir: Path, plan: Plan, console: Console) -> Played:
    config = _checked_config(run_dir)
    state = load_state(run_dir, plan.best, config)
    env_step = state["loop"]["agent_step"] * config.task.action_repeat
    with contextlib.closing(envs.from_config(config.task, plan.seed)) as env:
        spec = envs.spec_of(envs.EnvInfo.of(env, config.keeps_state), config.task.frame_stack)
        device = choose_device(plan.device)
        with seeded(plan.seed):
            agent, untrained = (make_player(config, spec, device) for _ in range(2))
        with fitting(run_dir, state):
            agent.load_networks(state["learning"])
        steps = min(plan.max_steps, env.max_episode_steps or plan.max_steps)
        text = f"{run_dir}: {plan.episodes} episodes of {steps} steps"
        say(console, f"{text}; software rendering takes about half a minute for 1000 steps")
        with (
            Progress(console=console, transient=True, disable=not draws_over(console)) as progress,
            arithmetic_of(agent),
        ):
            bar = progress.add_task("playing", total=plan.episodes * steps)
            recording = record(agent, env, env_step, plan.episodes, steps, plan.seed, lambda: progress.advance(bar))
    return Played(run_dir, config, env_step, _encoder_of(agent), _encoder_of(untrained), recording)


def _encoder_of(agent: Agent) -> Encode:
    def encode(images: torch.Tensor) -> torch.Tensor:
        with arithmetic_of(agent):
            return agent.latent(images)

    return encode


def record(
    agent: Agent,
    env: envs.Env,
    env_step: int,
    episodes: int,
    max_steps: int,
    seed: int,
    on_step: Callable[[], None] = lambda: None,
) -> Recording:
    """Plays episodes with exploration, and records the observation before each action and the physical state.

    env_step: of the training, on which exploration can depend. on_step: called after each step. Raises UserError if the
    environment fails.
    """
    assert isinstance(env, TellsState)  # other runs are refused before they are played
    rng = np.random.default_rng(seed)
    observations, states, numbers = [], [], []
    for episode, start in enumerate(np.random.SeedSequence(seed).generate_state(episodes)):
        with episode_failures(episode, None):
            frame, _ = env.reset(seed=int(start))
        frames = deque([frame] * agent.spec.frame_stack, maxlen=agent.spec.frame_stack)
        for step in range(1, max_steps + 1):
            observations.append(np.concatenate(frames))
            coordinates = env.physics_coordinates()
            states.append([*coordinates.values()])
            numbers.append(episode)
            noise = torch.from_numpy(agent.head.exploration_noise(rng, 1, env_step)).to(agent.device)
            (action,) = agent.act(observations[-1][None], noise).cpu().numpy()
            with episode_failures(episode, step):
                frame, _, terminated, truncated, _ = env.step(action)
            frames.append(frame)
            on_step()
            if terminated or truncated:
                break
    return Recording(np.stack(observations), np.array(states), [*coordinates], np.array(numbers))


def compare(runs: Sequence[Played]) -> list[Result]:
    """R² of each run's encoder on the time steps of all runs.

    Runs with the same encoder settings share the random encoder of the first one, and its R². Runs with latents of the
    same length share the principal components.
    """
    recording, held_out = pool([run.recording for run in runs])
    test = np.isin(recording.episode, held_out)

    def score(features: NDArray[np.float64]) -> NDArray[np.float64]:
        return r2_on_held_out(features, recording.states, recording.episode, held_out)

    @cache
    def of_random_encoder(settings: tuple[EncoderConfig, object]) -> NDArray[np.float64]:
        first = next(run for run in runs if _untrained_settings(run) == settings)
        return score(latents(first.untrained, recording.observations))

    @cache
    def of_pixels(dimension: int) -> NDArray[np.float64]:
        return score(principal_components(recording.observations, ~test, dimension))

    def r2_of(run: Played) -> dict[str, NDArray[np.float64]]:
        return {
            LATENT: score(latents(run.encoder, recording.observations)),
            RANDOM: of_random_encoder(_untrained_settings(run)),
            PIXELS: of_pixels(run.config.encoder.feature_dim),
        }

    counts = int((~test).sum()), int(test.sum())
    return [Result(run.run, run.config, run.env_step, recording.names, r2_of(run), *counts) for run in runs]


def _untrained_settings(run: Played) -> tuple[EncoderConfig, object]:
    """The settings of the run's encoder, except those used only in training, and what it sees of an image."""
    encoder = dataclasses.replace(run.config.encoder, encoder_tau=0.0, encoder_from=None, freeze_encoder=False)
    return encoder, what_acting_sees(run.config.replay)


def pool(recordings: Sequence[Recording]) -> tuple[Recording, NDArray[np.int64]]:
    """Several recordings as one, whose episodes are numbered on, and the numbers of those held out of each."""
    firsts = np.cumsum([0, *(recording.episode.max() + 1 for recording in recordings)])[:-1]
    held_out = [held_out_episodes(recording.episode) + first for recording, first in zip(recordings, firsts)]
    pooled = Recording(
        np.concatenate([recording.observations for recording in recordings]),
        np.concatenate([recording.states for recording in recordings]),
        recordings[0].names,
        np.concatenate([recording.episode + first for recording, first in zip(recordings, firsts)]),
    )
    return pooled, np.concatenate(held_out)


def held_out_episodes(episode: NDArray[np.int64]) -> NDArray[np.int64]:
    """The last of the episodes, HELD_OUT of them and at least one; their starts are drawn independently."""
    numbers = np.unique(episode)
    return numbers[len(numbers) - max(1, round(HELD_OUT * len(numbers))) :]


@torch.no_grad()
def latents(encoder: Encode, observations: Frames) -> NDArray[np.float64]:
    """uint8 (N, K * C, H, W) -> float64 (N, feature_dim)."""
    batches = torch.from_numpy(observations).split(ENCODER_BATCH)
    return torch.cat([encoder(batch).cpu() for batch in batches]).double().numpy()


# What is written.


def _write_csv(path: Path, results: Sequence[Result]) -> None:
    """A row for each run, source and coordinate; for a constant coordinate, r2 is empty and the note is 'constant'."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for result in results:
            for source, values in result.r2.items():
                for name, r2 in zip(result.names, values):
                    value, note = ("", "constant") if np.isnan(r2) else (f"{r2:.6f}", "")
                    counts = result.n_train, result.n_test
                    writer.writerow((result.run, result.env_step, source, name, value, *counts, note))


def _print(console: Console, result: Result, pooled: bool) -> None:
    episodes = "held-out episodes of all runs" if pooled else "held-out episodes"
    title = f"{result.run}: R² on {result.n_test} moments of {episodes}, fitted to {result.n_train}"
    table = Table(title=escape(printable(title)))
    table.add_column("coordinate")
    for source in result.r2:
        table.add_column(source, justify="right")
    for i, name in enumerate(result.names):
        values = (values[i] for values in result.r2.values())
        table.add_row(name, *("constant" if np.isnan(value) else f"{value:.2f}" for value in values))
    console.print(table)
