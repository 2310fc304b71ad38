"""The commands behind the results, which stand in the README of each folder of results/, and how they are run again."""

import glob
import hashlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sacae import config as configs
from sacae.errors import UserError, did_you_mean
from sacae.experiments.local import POLL_SECONDS, stop_on_signals
from sacae.experiments.process import FIRST_THING
from sacae.signals import INTERRUPTED
from sacae.training.unstarted import CONFIG, is_empty, is_unstarted

CHECKOUT = Path(__file__).parents[2]
"""The folder with results/. An installed wheel has none there."""

RUN_DIR = "RUN_DIR"
"""What stands in a command for the folder of the run before it."""

TRAINS = ("sacae train", "baselines.train")
"""Programs that make one run. All others continue their runs by themselves, or write their files anew."""

PROGRAMS = {
    "train.py": TRAINS[0],
    "eval.py": "sacae eval",
    "-m baselines.train": TRAINS[1],
    "-m baselines.four_rooms": "baselines.four_rooms",
}
"""Programs by the words after `python`, with the module that runs them and its first argument."""

_LINE = re.compile(r"^(?:(#+) (.*)|    (python|sacae) (.*))$", re.MULTILINE)


def found(results: Path = CHECKOUT / "results") -> dict[str, list[str]]:
    """The commands by name: of a README, its folder; of one of its sections, folder/heading, in lower case with dashes.

    Raises UserError where there are no results.
    """
    recipes: dict[str, list[str]] = {}
    for readme in sorted(results.glob("*/README.md")):
        folder = section = readme.parent.name
        for marks, heading, program, rest in _LINE.findall(readme.read_text(encoding="utf-8")):
            if marks:
                section = folder if marks == "#" else f"{folder}/{re.sub(r'[^a-z0-9]+', '-', heading.lower())}"
            else:
                for name in dict.fromkeys((folder, section)):
                    recipes.setdefault(name, []).append(f"{program} {rest.partition('  #')[0].strip()}")
    if not recipes:
        raise UserError(f"there are no results in {results}; they are in the repository, so run this in a clone of it")
    return recipes


def find(name: str, recipes: dict[str, list[str]]) -> list[str]:
    """The commands of that name. Raises UserError, which lists the names, if there are none."""
    if name not in recipes:
        raise UserError(f"there are no results {name!r}, only {', '.join(recipes)}{did_you_mean(name, recipes)}")
    return recipes[name]


def planned(commands: Sequence[str], seed: int | None, root: Path) -> Iterator[list[str]]:
    """The words of each command in turn, as it has to be run now in the folder root: a run that is there is continued.

    None makes a run again whose replay `sacae prune` dropped: it is finished.

    seed: of commands that make one run, in folders of its own; None is the command's own.
    """
    run_dir = ""
    for command in commands:
        program, words = _split(command)
        if program in TRAINS:
            run_dir = _taken(words, "--work-dir")
            if seed is not None:
                _taken(words, "--seed")
                run_dir = run_dir and f"{run_dir}/seed-{seed}"
                words += [] if "--resume" in words else ["--seed", str(seed)]
            run_dir = run_dir or _folder(program, words)
            words += ["--work-dir", run_dir]
            if _is_pruned(root / run_dir, words):
                continue
            if "--resume" not in words and not (is_empty(root / run_dir) or is_unstarted(root / run_dir)):
                algo = ["--algo", name] if (name := _taken(words, "--algo")) else []  # which says what a run is of
                words = [*algo, "--work-dir", run_dir, "--resume"]
        yield [*program.split(), *(run_dir if word == RUN_DIR else word for word in words)]


def _is_pruned(folder: Path, words: Sequence[str]) -> bool:
    """Whether the command's run is finished and has lost its replay. A longer one is to be refused by `--resume`."""
    if not folder.is_dir():
        return False

    from sacae.training import pruned  # imports PyTorch, which is slow

    if not pruned.is_pruned(folder):
        return False
    wanted = int(_taken([*words], "--num-train-steps") or 0) if "--resume" in words else 0
    return bool(not wanted or wanted <= configs.read(folder / CONFIG)["settings"]["train"]["num_train_steps"])


def _split(command: str) -> tuple[str, list[str]]:
    """A command's program, and the words after it."""
    first, *words = shlex.split(command)
    if first == "sacae":
        return f"sacae {words[0]}", words[1:]
    count = 2 if words[0] == "-m" else 1
    return PROGRAMS[" ".join(words[:count])], words[count:]


def _taken(words: list[str], flag: str) -> str:
    """Takes a flag and its value out of the words; returns the value, "" if it is not there."""
    if flag not in words:
        return ""
    at = words.index(flag)
    _, value = words[at : at + 2]
    del words[at : at + 2]
    return value


def _folder(program: str, words: Sequence[str]) -> str:
    """A run folder that is the command's own, whatever other commands there are."""
    flags = dict(zip(words, words[1:], strict=False))
    what = [flags.get("--env") or f"{flags.get('--domain')}_{flags.get('--task')}"]
    what.append(flags.get("--algo") or flags.get("--agent") or flags.get("--preset") or "sac")
    digest = hashlib.sha256(" ".join([program, *words]).encode()).hexdigest()[:8]
    return f"runs/{'-'.join(what).replace('/', '-')}-{digest}"


def run(words: Sequence[str], root: Path, say: Callable[[str], None]) -> int:
    """Runs one command in the folder root; returns its exit status, INTERRUPTED after a stop request.

    The request is passed on, and waited for: trainings write a checkpoint first. A pattern becomes the paths that it
    matches, as in a shell.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"work_dir is {root}, but that is no folder and cannot be made one ({error.strerror}); choose another "
            "--work-dir"
        ) from None
    words = [path for word in words for path in sorted(glob.glob(word, root_dir=root)) or [word]]
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
    with stop_on_signals() as stop:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=root,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C on the terminal is passed on once
            preexec_fn=FIRST_THING,
        )
        passed_on = 0
        while process.poll() is None:
            if stop.count > passed_on:
                say("stopping after the current step (again: stop at once)")
                process.send_signal(signal.SIGINT)
                passed_on += 1
            time.sleep(POLL_SECONDS)
    return INTERRUPTED if stop.count else process.returncode
