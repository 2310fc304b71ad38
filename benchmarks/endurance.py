"""Memory, open descriptors and threads over long trainings, from state and from pixels with many evaluations.

    python benchmarks/endurance.py --json OUT.json

Each training is a process of its own at small sizes, watched from outside through /proc, with all that it starts.
README.md in this folder says how to read the numbers.
"""

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from common import run, say, write
from memory import machine

from sacae.errors import UserError
from sacae.experiments.board import read_progress

TRAIN = Path(__file__).parents[1] / "train.py"
KINDS = ("state", "pixels")

GROWTH = 0.02
"""Share by which memory may grow in the second half. Descriptors and threads may not."""
OWN = ("Pss_Anon", "Pss_Shmem")
"""Fields of /proc/PID/smaps_rollup that are a process's own memory."""
ROWS = 10
"""Rows of the table for each training."""
PIXELS_EVAL_STEPS, PIXELS_REPEAT = 200, 8
"""Environment steps between two evaluations from pixels, and action repeat."""

SIZES = {
    "domain": "cartpole", "task": "balance", "seed-steps": 20, "initial-updates": 1, "batch-size": 8, "hidden-dim": 16,
    "updates-per-step": 0.25, "num-eval-episodes": 1, "num-threads": 1, "device": "cpu", "precision": "fp32",
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """Memory, open descriptors and threads of a training from state and of one from pixels, over time."""

    kinds: tuple[str, ...] = KINDS
    """Trainings that are watched, one after the other: state, pixels."""
    steps: int = 200_000
    """Agent steps of the training from state."""
    evaluations: int = 41
    """Evaluations of the training from pixels, each with a video."""
    seconds: float = 1.0
    """Seconds between two looks at a training."""
    json: Path | None = None
    """File for every look, with the machine and the versions."""
    markdown: Path | None = None
    """File for the tables."""


@dataclass(frozen=True)
class Look:
    """A training and all that it has started, at one moment.

    step: environment steps that its CSV files tell. memory: bytes that are its own, not those of files: how many
    pages of a library count depends on who else uses it. Pages that its processes share are divided among them.
    """

    step: int
    memory: int
    descriptors: int
    threads: int


def main(options: Options) -> None:
    """Watches each training, prints a Markdown table of each with a verdict, and writes files where asked."""
    _check(options)
    about, watched = machine(), {}
    for kind in options.kinds:
        say(f"training from {kind}")
        watched[kind] = watch(words_of(kind, options), options.seconds)
    parts = [part(kind, words_of(kind, options), looks) for kind, looks in watched.items()]
    text = "\n\n".join([*parts, _about(about)])
    print(text)
    write(options.markdown, text)
    found = {kind: {"verdict": verdict(looks), "looks": [*map(asdict, looks)]} for kind, looks in watched.items()}
    write(options.json, json.dumps(found | {"machine": about}, indent=2) if options.json else "")


def _check(options: Options) -> None:
    if not Path("/proc/self/smaps_rollup").exists():
        raise UserError("a training is watched through /proc/PID/smaps_rollup, which only Linux has")
    for kind in options.kinds:
        if kind not in KINDS:
            raise UserError(f"kinds has {kind}, but only {' and '.join(KINDS)} exist; change --kinds")
    for name, least in (("steps", 400), ("evaluations", 9)):
        if (value := getattr(options, name)) < least:
            raise UserError(f"{name} is {value}, below {least}, too few for two halves; raise --{name}")
    if options.seconds <= 0:
        raise UserError(f"seconds is {options.seconds}, but must be above 0; raise --seconds")


def words_of(kind: str, options: Options) -> list[str]:
    """Words of the command line of a training: all but the run folder."""
    words = [str(word) for name, value in flags_of(kind, options).items() for word in (f"--{name}", value)]
    return words if kind == "pixels" else [*words, "--no-save-video"]


def flags_of(kind: str, options: Options) -> dict[str, object]:
    """Flags of a training, without dashes. Its replay is full in the first half: pages of it that are not yet used
    would count as growth."""
    if kind == "state":
        steps = {"num-train-steps": options.steps, "eval-every": options.steps // 10}
        return SIZES | steps | {"obs": "state", "replay-capacity": options.steps // 10}
    length = PIXELS_EVAL_STEPS * (options.evaluations - 1)
    small = {"image-size": 48, "num-layers": 2, "num-filters": 4, "feature-dim": 8, "render-quality": "fast"}
    every = {"eval-every": PIXELS_EVAL_STEPS, "checkpoint-every": PIXELS_EVAL_STEPS, "action-repeat": PIXELS_REPEAT}
    replay = {"replay-capacity": length // PIXELS_REPEAT // 4}
    return SIZES | small | every | replay | {"obs": "pixels", "num-train-steps": length}


def watch(words: Sequence[str], seconds: float) -> list[Look]:
    """Looks at a training until it ends. Raises UserError with its last line if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        work_dir, errors = Path(folder, "run"), Path(folder, "errors")
        command = [sys.executable, str(TRAIN), *words, "--work-dir", str(work_dir)]
        with open(errors, "wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
            try:
                looks = _looks(process, work_dir, seconds)
            finally:
                process.terminate()
        if process.returncode:
            *_, last = [""] + errors.read_text(errors="replace").splitlines()
            raise UserError(f"the training ended with status {process.returncode}: {last}")
    return looks


def _looks(process: subprocess.Popen, work_dir: Path, seconds: float) -> list[Look]:
    looks = []
    while process.poll() is None:
        # The last look at a process that is about to end finds nothing.
        with contextlib.suppress(OSError):
            looks.append(look(process.pid, read_progress(work_dir).env_step))
        time.sleep(seconds)
    return looks


def look(pid: int, step: int) -> Look:
    """What a process and its descendants hold. Raises OSError if the process has ended."""
    memory, descriptors, threads = _of_process(Path("/proc", str(pid)))
    for child in _descendants(pid):
        with contextlib.suppress(OSError):  # It may have ended meanwhile.
            of_child = _of_process(Path("/proc", str(child)))
            memory, descriptors, threads = (a + b for a, b in zip((memory, descriptors, threads), of_child))
    return Look(step, memory, descriptors, threads)


def _of_process(folder: Path) -> tuple[int, int, int]:
    fields = dict(line.split(":", 1) for line in (folder / "smaps_rollup").read_text().splitlines()[1:])
    counts = [sum(1 for _ in (folder / name).iterdir()) for name in ("fd", "task")]
    return 1024 * sum(int(fields[name].split()[0]) for name in OWN), counts[0], counts[1]


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path("/proc", str(pid), "task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, path.read_text().split()):
                found += [child, *_descendants(child)]
    return found


# What the looks say.


def quarters(looks: Sequence[Look]) -> tuple[Look, Look]:
    """Medians of the third and of the last quarter of the steps, so that what comes and goes, such as the program that
    writes a video, does not decide. Raises UserError if a quarter has no looks."""
    end = looks[-1].step if looks else 0
    third = [look for look in looks if end / 2 <= look.step < 3 * end / 4]
    last = [look for look in looks if 3 * end / 4 <= look.step < end]  # After the end, much is closed.
    if not end or not third or not last:
        raise UserError("the training was too short to compare its last two quarters; lower --seconds")
    return _median(third), _median(last)


def _median(looks: Sequence[Look]) -> Look:
    return Look(*(statistics.median_low(column) for column in zip(*(asdict(look).values() for look in looks))))


def verdict(looks: Sequence[Look]) -> str:
    """flat, or what has grown."""
    third, last = quarters(looks)
    grown = [name for name in ("descriptors", "threads") if getattr(last, name) > getattr(third, name)]
    if last.memory > third.memory * (1 + GROWTH):
        grown.insert(0, "memory")
    return f"not flat: {', '.join(grown)}" if grown else "flat"


def part(kind: str, words: Sequence[str], looks: Sequence[Look]) -> str:
    """Table and verdict of one training, in Markdown."""
    shown = [looks[i * (len(looks) - 1) // ROWS] for i in range(ROWS + 1)]
    third, last = quarters(looks)
    lines = ["| environment steps | memory | descriptors | threads |", "|---|---|---|---|"]
    lines += [_line(f"{look.step:,}", look) for look in shown]
    lines += [_line(f"median of {name} quarter", look) for name, look in (("third", third), ("last", last))]
    change = last.memory / third.memory - 1
    return "\n".join(
        [
            f"## From {kind}: {verdict(looks)}",
            "",
            *lines,
            "",
            f"From the third quarter to the last, memory changes by {change:+.2%} (allowed: {GROWTH:+.0%}).",
            f"{len(looks)} looks. `train.py {' '.join(words)}`",
        ]
    )


def _line(name: str, look: Look) -> str:
    return f"| {name} | {look.memory / 1e6:.1f} MB | {look.descriptors} | {look.threads} |"


def _about(about: dict[str, object]) -> str:
    return (
        f"{about['processor']}, {about['cpus']} cores; PyTorch {about['torch']}, Python {about['python']}, "
        f"NumPy {about['numpy']}; {about['date']}."
    )


if __name__ == "__main__":
    run(Options, main)
