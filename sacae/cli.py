"""The command line: `sacae train`, `sacae eval`, `sacae doctor`; `python -m sacae` is the same.

Mistakes end in one line on standard error and exit status 2.
"""

import argparse
import contextlib
import dataclasses
import io
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeVar

import tyro
from rich.console import Console

from sacae import config as configs
from sacae.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Train:
    """Train an agent on a DeepMind Control task or a Gymnasium environment, from pixels or from state vectors.

    Everything lands in the run folder: settings, CSV files, TensorBoard, videos, reconstructions, a checkpoint.
    """

    config: Annotated[configs.Config, tyro.conf.arg(name="")] = field(default_factory=configs.Config)
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
    """Episodes that run side by side."""
    video: bool = True
    """Record the first episode."""
    best: bool = False
    """Play the agent as it was at its best evaluation, instead of the last checkpoint."""
    seed: int = 1000
    """Seed of the episodes' starts."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


@dataclass(frozen=True)
class Doctor:
    """Show what works here: rendering, devices, memory, versions; and what to install where something does not."""


def train(argv: Sequence[str], prog: str) -> int:
    """Runs a training; returns the exit status."""
    early = _early_settings(argv)
    command = _parse(Train, argv, prog, Train(configs.make(**early)))
    configs.check(command.config)
    config = _resumed(command, argv, prog) if command.resume else command.config

    from sacae.training.trainer import Trainer

    return 0 if Trainer(config, Console(), command.resume).run() else 130


def evaluate(argv: Sequence[str], prog: str) -> int:
    """Evaluates a run folder's agent; returns the exit status."""
    command = _parse(Evaluate, argv, prog)
    for name in ("episodes", "num_envs"):
        if getattr(command, name) < 1:
            raise UserError(f"{name} is {getattr(command, name)}, but it must be at least 1; change --{name}")

    from sacae.training.playback import play_back

    play_back(**dataclasses.asdict(command), console=Console())
    return 0


def doctor(argv: Sequence[str], prog: str) -> int:
    """Prints what works here; returns 0 if rendering does, else 1."""
    _parse(Doctor, argv, prog)

    from sacae.doctor import doctor as examine

    return examine()


COMMANDS: dict[str, Callable[[Sequence[str], str], int]] = {"train": train, "eval": evaluate, "doctor": doctor}


def main(argv: Sequence[str] | None = None) -> int:
    """The `sacae` command. Returns the exit status."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        kinds = {"train": Train, "eval": Evaluate, "doctor": Doctor}
        lines = [f"  {command:10s} {kinds[command].__doc__.splitlines()[0]}" for command in COMMANDS]
        print("\n".join(["usage: sacae COMMAND [OPTIONS]", "", *lines, "", "sacae COMMAND --help shows its options."]))
        return 0
    return run(name, rest, f"sacae {name}")


def run(name: str, argv: Sequence[str], prog: str) -> int:
    """Runs one command, turning a UserError into a line on standard error and status 2."""
    # Two libraries announce their own future on every start; nothing a user could act on.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    try:
        if name not in COMMANDS:
            raise UserError(
                f"there is no command {name!r}, only {', '.join(COMMANDS)}{configs.did_you_mean(name, COMMANDS)}"
            )
        return COMMANDS[name](argv, prog)
    except UserError as error:
        print(f"{prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _early_settings(argv: Sequence[str]) -> dict[str, object]:
    """The settings that other defaults depend on, so that --help shows the defaults that really apply."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("env", "domain", "task", "obs", "decoder", "encoder", "agent"):
        parser.add_argument(f"--{name}", default=argparse.SUPPRESS)
    for name in ("num-layers", "num-filters"):
        parser.add_argument(f"--{name}", f"--{name.replace('-', '_')}", type=int, default=argparse.SUPPRESS)
    try:
        return vars(parser.parse_known_args(argv)[0])
    except argparse.ArgumentError:
        return {}  # the full parser will say what is wrong


def _resumed(command: Train, argv: Sequence[str], prog: str) -> configs.Config:
    """The run folder's settings, with those given on the command line that a resumed run may change."""
    folder = command.config.work_dir
    saved = configs.load(folder / "config.yaml").replace(work_dir=folder)
    given = _parse(Train, argv, prog, Train(saved, resume=True)).config.replace(work_dir=folder)
    configs.check(given)
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
"""Settings that may differ when a run goes on: they change how long it is and what is watched, not what it learns."""


def _parse(kind: type[T], argv: Sequence[str], prog: str, default: T | None = None) -> T:
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
