"""The command line: `sacae train`, `eval`, `ablate` and so on, as COMMANDS lists them; `python -m sacae` is the same.

Mistakes end in one line on standard error and exit status 2.
"""

import argparse
import contextlib
import dataclasses
import io
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro
from rich.console import Console

from sacae import config as configs
from sacae.errors import UserError

if TYPE_CHECKING:
    from sacae.training.playback import Load
    from sacae.training.start import Start, Training

T = TypeVar("T")


@dataclass(frozen=True)
class Train:
    """Train an agent on a DeepMind Control task or a Gymnasium environment, from pixels or from state vectors.

    Everything lands in the run folder: settings, CSV files, TensorBoard, videos, reconstructions, a checkpoint.
    """

    config: Annotated[configs.Settings, tyro.conf.arg(name="")] = field(default_factory=configs.Config)
    resume: bool = False
    """Continue the run in the run folder from its checkpoint."""


@dataclass(frozen=True)
class Evaluate:
    """Play a trained agent back: prints each return, and writes JSON and a video into the run folder."""

    run_dir: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN_DIR")]
    """The run folder, as `train` printed it."""
    episodes: int = 10
    """Episodes to play, without exploration."""
    num_envs: int = 1
    """Episodes that run side by side; by rounding their actions differ with it in the last digits."""
    video: bool = True
    """Record the first episode."""
    best: bool = False
    """Play the agent as it was at its best evaluation, instead of the last checkpoint."""
    seed: int = 1000
    """Seed of the episodes' starts."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


@dataclass(frozen=True)
class Probe:
    """Read the physical state off an encoder's latent by a linear map: R² of each coordinate, as a CSV and a bar plot.

    Beside the latent: a randomly initialised encoder, and principal components of the pixels.
    """

    run_dirs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN_DIR...")]
    """Run folders of one task, seen in the same pixels; several come into one picture, their episodes pooled."""
    episodes: int = 10
    """Episodes to play in each run, with exploration; the fit is tested on three in ten of them."""
    max_steps: int = 100
    """Agent steps of each episode at most. Each is a frame to render, of which software does about 30 a second."""
    best: bool = False
    """Probe the agent as it was at its best evaluation, instead of the last checkpoint."""
    out: Path | None = None
    """Folder for probe.csv and probe.png; None is probe/ in the (first) run folder. Nothing there is overwritten."""
    seed: int = 2000
    """Seed of the episodes' starts, the exploration and the random encoder."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


@dataclass(frozen=True)
class Show:
    """Draw what an agent sees, reconstructs and computes: input, target, reconstruction, difference, feature maps."""

    run_dir: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN_DIR")]
    """The run folder, as `train` printed it."""
    best: bool = False
    """Show the agent as it was at its best evaluation, instead of the last checkpoint."""
    out: Path | None = None
    """Folder for the picture; None is show/ in the run folder. Nothing there is overwritten."""
    seed: int = 1000
    """Seed of the start of the episode that is played."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What `ablate` and `sweep` share: many runs, each an ordinary run folder, made by the same training flags."""

    tasks: str | None = None
    """Names with commas between: of the DeepMind Control suite, such as cheetah_run,walker_walk, or Gymnasium ids;
    None is cheetah_run."""
    seeds: int | None = None
    """Seeds of each arm on each task; None is 3."""
    first_seed: int = 1
    """The first of these seeds; others follow it."""
    launcher: Literal["local", "ray"] = "local"
    """local: processes on this machine. ray: tasks of a Ray cluster."""
    parallel: int | None = None
    """local: runs at a time; None is one for each GPU, or one where there is none. CPU threads are shared out."""
    ray_address: str | None = None
    """ray: address of the cluster, such as auto or ray://head:10001; None is RAY_ADDRESS, or else this machine."""
    cpus_per_run: float = 1.0
    """ray: CPU cores set aside for each run."""
    gpus_per_run: float = 0.0
    """ray: GPUs set aside for each run; a fraction lets runs share one."""
    retries: int = 3
    """ray: how often a run goes on from its checkpoint after its worker was lost."""
    config: Annotated[configs.Config, tyro.conf.arg(name="")] = field(default_factory=configs.Config)


@dataclass(frozen=True, kw_only=True)
class Ablate(Experiment):
    """Make every run of a named ablation. The same command goes on with what is not finished.

    --work-dir is the folder for all runs, which lie in WORK_DIR/<task>/<arm>/<seed>; runs/ablations/NAME by default.
    """

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")] = ""
    """The ablation, such as decoder, autoencoder, depth, heads; docs/ablations.md has them all."""
    arms: str | None = None
    """Names of arms with commas between; None is all."""


@dataclass(frozen=True, kw_only=True)
class Sweep(Experiment):
    """Make a run for every point of a grid over settings. The same command goes on with what is not finished.

    --work-dir is the folder for all runs, which lie in WORK_DIR/<task>/<arm>/<seed>; runs/sweeps/... by default.
    """

    grid: tuple[str, ...] = ()
    """Settings and their values, such as critic_lr=1e-3,3e-4 encoder_tau=0.01,0.05."""
    file: Path | None = None
    """YAML file with any of grid, arms, settings, tasks, seeds; flags come before what it says."""


@dataclass(frozen=True)
class Demo:
    """Learn to swing a pole up from pixels within minutes, and film the agent beside random actions."""

    work_dir: Path | None = None
    """The run folder; None is demo/ and the time."""
    seed: int = 1
    """Seed of everything random in the run."""


@dataclass(frozen=True)
class Doctor:
    """Show what works here: rendering, devices, memory, versions; and what to install where something does not."""


@dataclass(frozen=True)
class Report:
    """Compare runs: learning curves, tables beside published numbers, videos side by side, one HTML page."""

    run_dirs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN_DIR...")]
    """Run folders, or folders that hold some, such as runs."""
    out: Path
    """The folder to write; a former report in it is replaced."""


def train(argv: Sequence[str], prog: str) -> int:
    """Runs a training; returns the exit status."""

    def start(config: configs.Settings, console: Console, resume: bool) -> "Training":
        from sacae.training import off_policy

        return off_policy.start(config, console, resume)

    return train_with(configs.make(**_early_settings(argv)), start, argv, prog)


def train_with(
    defaults: configs.Settings, start: "Start", argv: Sequence[str], prog: str
) -> int:
    """Runs a training of any kind of settings; returns the exit status.

    defaults: the settings where no flag says otherwise. start: prepares the training, once the flags are in order.
    """
    command = parse(Train, argv, prog, Train(defaults))
    configs.check(command.config, new_run=not command.resume)
    config = _resumed(command, argv, prog) if command.resume else command.config
    return 0 if start(config, Console(), command.resume).train() else 130


def evaluate(argv: Sequence[str], prog: str) -> int:
    """Evaluates a run folder's agent; returns the exit status."""
    from sacae.training.playback import load_agent

    return evaluate_with(load_agent, argv, prog)


def evaluate_with(load: "Load", argv: Sequence[str], prog: str) -> int:
    """Evaluates what `load` finds in a run folder; returns the exit status."""
    command = parse(Evaluate, argv, prog)
    for name in ("episodes", "num_envs"):
        if getattr(command, name) < 1:
            raise UserError(f"{name} is {getattr(command, name)}, but it must be at least 1; change --{name}")

    from sacae.training.playback import play_back

    play_back(**dataclasses.asdict(command), console=Console(), load=load)
    return 0


def probe(argv: Sequence[str], prog: str) -> int:
    """Probes the encoders of run folders; returns the exit status."""
    command = parse(Probe, argv, prog)

    from sacae.experiments.probe import Plan
    from sacae.experiments.probe import probe as run_probe

    plan = Plan(command.episodes, command.max_steps, command.best, command.seed, command.device)
    run_probe(command.run_dirs, plan, command.out, Console())
    return 0


def show(argv: Sequence[str], prog: str) -> int:
    """Draws what goes on inside a run folder's agent; returns the exit status."""
    command = parse(Show, argv, prog)

    from sacae.experiments.show import show as draw

    draw(**dataclasses.asdict(command), console=Console())
    return 0


def ablate(argv: Sequence[str], prog: str) -> int:
    """Makes the runs of a named ablation; returns the exit status."""
    command, given = _parse_experiment(Ablate, argv, prog)

    from sacae.experiments import ablations

    ablation = ablations.find(command.name)
    arms = ablations.choose(ablation.arms, _words(command.arms), f"ablation {command.name}")
    return _conduct(command, f"ablation {command.name}", arms, given, Path("runs", "ablations", command.name))


def sweep(argv: Sequence[str], prog: str) -> int:
    """Makes the runs of a grid; returns the exit status."""
    command, given = _parse_experiment(Sweep, argv, prog)

    from sacae.experiments import sweep as sweeps

    said = sweeps.read(command.file) if command.file else sweeps.Sweep()
    grid = {**said.grid, **sweeps.grid_of(command.grid)}
    arms = {**said.arms, **(sweeps.arms_of(grid) if grid or not said.arms else {})}
    name = command.file.stem if command.file else ",".join(grid)
    command = dataclasses.replace(
        command,
        tasks=",".join(said.tasks) if command.tasks is None and said.tasks else command.tasks,
        seeds=said.seeds if command.seeds is None else command.seeds,
    )
    return _conduct(command, f"sweep {name}", arms, {**said.settings, **given}, Path("runs", "sweeps", name))


def _conduct(
    command: Experiment, title: str, arms: Mapping[str, dict[str, Any]], given: dict[str, Any], default_root: Path
) -> int:
    """Makes an experiment's runs; returns the exit status."""
    from sacae.experiments import local, plan
    from sacae.experiments.experiment import conduct
    from sacae.experiments.ray_cluster import RayLauncher

    root = command.config.train.work_dir or default_root
    count = 3 if command.seeds is None else command.seeds
    seeds = range(command.first_seed, command.first_seed + count)
    runs = plan.plan(arms, _words(command.tasks) if command.tasks is not None else ["cheetah_run"], seeds, given, root)
    if command.launcher == "ray":
        launcher = RayLauncher(root, command.ray_address, command.cpus_per_run, command.gpus_per_run, command.retries)
    else:
        launcher = local.LocalLauncher(local.places(command.parallel, command.config.train.device))
    return conduct(title, runs, root, launcher, Console())


def _parse_experiment(kind: type[T], argv: Sequence[str], prog: str) -> tuple[T, dict[str, Any]]:
    """An experiment's options, and the settings of all its runs: those that were given, since arms change presets."""
    command = parse(kind, argv, prog, kind(config=configs.make(**_early_settings(argv))))
    configs.check(command.config)
    settings, given = command.config.flat(), {}
    for word in argv:
        name = word.partition("=")[0].removeprefix("--").replace("-", "_")
        name = name if name in settings else name.removeprefix("no_")
        if word.startswith("--") and name in settings:
            given[name] = settings[name]
    given.pop("work_dir", None)
    for name, instead in {"seed": "seeds", "env": "tasks", "domain": "tasks", "task": "tasks"}.items():
        if name in given:
            raise UserError(f"{name} is {given[name]}, but {prog} takes --{instead}; leave --{name} out")
    return command, given


def _words(text: str | None) -> list[str] | None:
    """The words between commas; None stays None."""
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def doctor(argv: Sequence[str], prog: str) -> int:
    """Prints what works here; returns 0 if rendering does, else 1."""
    parse(Doctor, argv, prog)

    from sacae.doctor import doctor as examine

    return examine()


def demo(argv: Sequence[str], prog: str) -> int:
    """Makes the demonstration; returns the exit status."""
    command = parse(Demo, argv, prog)

    from sacae.experiments.demo import demo as demonstrate

    work_dir = command.work_dir or Path("demo", f"{datetime.now():%Y%m%d-%H%M%S}")
    return 0 if demonstrate(work_dir, command.seed, Console()) else 130


def report(argv: Sequence[str], prog: str) -> int:
    """Writes a report on run folders; returns the exit status."""
    command = parse(Report, argv, prog)

    from sacae.experiments.report.report import report as compare

    compare(command.run_dirs, command.out, Console())
    return 0


COMMANDS: dict[str, tuple[type, Callable[[Sequence[str], str], int]]] = {
    "demo": (Demo, demo),
    "train": (Train, train),
    "eval": (Evaluate, evaluate),
    "ablate": (Ablate, ablate),
    "sweep": (Sweep, sweep),
    "probe": (Probe, probe),
    "show": (Show, show),
    "report": (Report, report),
    "doctor": (Doctor, doctor),
}
"""Options and function of each command."""


def main(argv: Sequence[str] | None = None) -> int:
    """The `sacae` command. Returns the exit status."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        lines = [f"  {command:10s} {kind.__doc__.splitlines()[0]}" for command, (kind, _) in COMMANDS.items()]
        print("\n".join(["usage: sacae COMMAND [OPTIONS]", "", *lines, "", "sacae COMMAND --help shows its options."]))
        return 0
    return run(name, rest, f"sacae {name}")


def run(name: str, argv: Sequence[str], prog: str) -> int:
    """Runs one command, turning a UserError into a line on standard error and status 2."""

    def unknown(_argv: Sequence[str], _prog: str) -> int:
        known = f"{', '.join(COMMANDS)}{configs.did_you_mean(name, COMMANDS)}"
        raise UserError(f"there is no command {name!r}, only {known}")

    _, command = COMMANDS.get(name, (None, unknown))
    return guarded(command, argv, prog)


def guarded(command: Callable[[Sequence[str], str], int], argv: Sequence[str], prog: str) -> int:
    """A command's exit status, with a UserError as a line on standard error and status 2."""
    # Two libraries announce their own future on every start; nothing a user could act on.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    try:
        return command(argv, prog)
    except UserError as error:
        print(f"{prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _early_settings(argv: Sequence[str]) -> dict[str, object]:
    """The settings that other defaults depend on, so that --help shows the defaults that really apply."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("env", "domain", "task", "obs", "decoder", "encoder", "agent", "std", "causal-entropy", "preset"):
        parser.add_argument(f"--{name}", f"--{name.replace('-', '_')}", default=argparse.SUPPRESS)
    for name, kind in {"num-layers": int, "num-filters": int, "log-std-min": float, "log-std-max": float}.items():
        parser.add_argument(f"--{name}", f"--{name.replace('-', '_')}", type=kind, default=argparse.SUPPRESS)
    try:
        return vars(parser.parse_known_args(argv)[0])
    except argparse.ArgumentError:
        return {}  # the full parser will say what is wrong


def _resumed(command: Train, argv: Sequence[str], prog: str) -> configs.Settings:
    """The run folder's settings, with those given on the command line that a resumed run may change."""
    folder = command.config.work_dir
    saved = configs.load(folder / "config.yaml", type(command.config)).replace(work_dir=folder)
    given = parse(Train, argv, prog, Train(saved, resume=True)).config.replace(work_dir=folder)
    configs.check(given, new_run=False)
    before, after = saved.flat(), given.flat()
    for name in before:
        if before[name] != after[name] and name not in CHANGEABLE:
            raise UserError(
                f"{name} is {after[name]}, but the run in {folder} has {before[name]}; a resumed run may change only "
                f"{', '.join(CHANGEABLE)}; leave --{name.replace('_', '-')} out"
            )
    return given


CHANGEABLE = (
    "num_train_steps",
    "eval_every",
    "num_eval_episodes",
    "num_eval_envs",
    "num_threads",
    "save_video",
    "checkpoint_every",
    "save_replay",
    "overlap",
    "device",
    "replay_device",
)
"""Settings that may differ when a run goes on: how long it is, what is watched and kept, where it computes."""


def parse(kind: type[T], argv: Sequence[str], prog: str, default: T | None = None) -> T:
    """Parses a command's options. Raises UserError with tyro's complaint on one line."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            kwargs = {} if default is None else {"default": default}
            return tyro.cli(kind, args=list(argv), prog=prog, config=(tyro.conf.OmitArgPrefixes,), **kwargs)
    except SystemExit as stop:
        if stop.code in (None, 0):
            raise
        raise UserError(f"{_one_line(said.getvalue())}; {prog} --help lists every option") from None


def _one_line(box: str) -> str:
    """The first message in a box that tyro drew, in Unicode or ASCII, and the options it suggests."""
    sections: list[list[str]] = [[]]
    _, *lines = box.strip().splitlines() or [""]  # the first line is the box's title
    for line in lines:
        text = line.strip("│|╭╮╰╯ ")
        if set(text) <= set("─-+"):
            sections.append([])
        else:
            sections[-1].append(text)
    message, *rest = [section for section in sections if section] or [[box]]
    suggested = [line for section in rest if section[0].startswith("Perhaps") for line in section if line[0] == "-"]
    return " ".join(message).rstrip(".") + (f"; did you mean {' or '.join(suggested)}?" if suggested else "")


if __name__ == "__main__":
    sys.exit(main())
