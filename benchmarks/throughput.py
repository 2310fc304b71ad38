"""Updates per second beside the reference implementation's, both timed in turn, and environment steps per second.

    python benchmarks/throughput.py --reference PATH --json OUT.json

Every implementation and configuration lives in a process of its own that works only when told to, so that neither
side's settings reach the other. README.md in this folder says how to read the numbers.
"""

import contextlib
import importlib
import itertools
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from memory import machine
from rich.console import Console

from sacae import config as configs
from sacae.agents import HEADS, check_agent, make_agent, make_update
from sacae.errors import UserError
from sacae.replay import FrameReplay, MemoryPlan, choose_storage
from sacae.training import off_policy
from sacae.training.device import choose_device, choose_precision, keep_freed_memory
from sacae.training.loop import step
from sacae.training.start import Training
from sacae.types import EnvSpec

Precision = Literal["fp32", "tf32", "bf16"]
Mode = Literal["eager", "compiled", "captured"]

MODES = {
    "eager": {"compile": False, "capture": False},
    "compiled": {"compile": True, "capture": False},
    "captured": {"compile": False, "capture": True},
}
"""The settings that each mode stands for."""

REFERENCE_DECODERS = {"rae": "pixel", "none": "identity"}
"""What the reference calls a decoder; it has no other, and no head but SAC."""

EPISODE_LENGTH = 250
"""Agent steps in an episode of cheetah run at action repeat 4."""

ACTION_DIM = 6
STATE_DIM = 17
"""Both of cheetah; the state is kept for `--decoder state` alone."""
NUM_BINS = 3
ROUND_SECONDS = 2.5
WARM_UP_UPDATES = 4
"""Updates before any is timed: an even number meets every combination of the gates twice."""

SEED_STEPS = 100
INITIAL_UPDATES = 10
POOL = 256
"""Different random frames, or stacks, that a replay is filled with."""


@dataclass(frozen=True)
class Options:
    """Updates per second of sacae and of the reference implementation, timed in turn in the same run."""

    heads: tuple[str, ...] = ("sac",)
    """Algorithms, as --agent of train.py."""
    decoders: tuple[str, ...] = ("rae", "none")
    """Decoders, as --decoder of train.py."""
    layers: tuple[int, ...] = (4,)
    """Convolutions of the encoder."""
    precisions: tuple[Precision, ...] = ("fp32",)
    """Arithmetic; what the device cannot do is skipped, and said so."""
    modes: tuple[Mode, ...] = ("eager", "compiled", "captured")
    """compiled: torch.compile. captured: CUDA graphs; skipped on a CPU, and said so."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    batch_size: int = 128
    """Transitions in each update."""
    hidden_dim: int = 1024
    """Width of the hidden layers of actor and critic."""
    rounds: int = 7
    """Times that each implementation is timed."""
    updates_per_round: int = 0
    """Updates in a round; 0 is as many as take about 2.5 seconds, for each implementation by itself."""
    replay_size: int = 10_000
    """Transitions in the full replay that is sampled; the reference takes 127 kB for each."""
    reference: Path | None = None
    """Checkout of the reference implementation; without one only sacae is timed."""
    env_steps: int = 0
    """Environment steps of a real training that are timed end to end for each configuration; 0 is none."""
    render_quality: Literal["exact", "fast"] = "exact"
    """Rendering of that training, as --render-quality of train.py."""
    json: Path | None = None
    """File for the rows of the table, with the machine and the versions."""
    markdown: Path | None = None
    """File for the table."""


@dataclass(frozen=True)
class Setup:
    """What is timed: one configuration on one device."""

    head: str
    decoder: str
    layers: int
    precision: str
    mode: str
    device: str
    batch_size: int = 128
    hidden_dim: int = 1024
    image_size: int = 84
    replay_size: int = 10_000

    def config(self, **settings: Any) -> configs.Config:
        """The settings of a run of this configuration, with others on top. Raises UserError as `configs.make`."""
        check_agent(self.head)
        return configs.make(
            agent=self.head,
            decoder=self.decoder,
            num_layers=self.layers,
            precision=self.precision,
            device=self.device,
            batch_size=self.batch_size,
            hidden_dim=self.hidden_dim,
            image_size=self.image_size,
            **MODES[self.mode],
            **settings,
        )

    @property
    def spec(self) -> EnvSpec:
        """Colour images stacked by three, as the paper's; for discrete actions three bins in each dimension."""
        num_actions = NUM_BINS if HEADS[self.head].discrete_actions else None
        state_dim = STATE_DIM if self.decoder == "state" else 0
        return EnvSpec((3, self.image_size, self.image_size), "uint8", 3, ACTION_DIM, num_actions, state_dim)

    def __str__(self) -> str:
        return f"{self.head} {self.decoder} {self.layers} layers {self.precision} {self.mode}"


# What runs in a worker.


class Work:
    """Something that samples and learns, and what is timed of it. A subclass has `sample` and `step`."""

    device: torch.device
    sample: Callable[[], Any]
    """Draws a batch."""
    step: Callable[[], Any]
    """Draws a batch and learns from it."""

    def warm_up(self) -> None:
        """Updates until everything is compiled, captured and allocated."""
        self.seconds(WARM_UP_UPDATES)

    def seconds(self, updates: int) -> float:
        """Seconds that so many updates take, with the device idle before and after."""
        return self._timed(self.step, updates)

    def updates_in(self, seconds: float) -> int:
        """An even number of updates that take about so long."""
        updates = 2
        while (elapsed := self.seconds(updates)) < seconds / 8:
            updates *= 2
        return max(2, 2 * round(updates * seconds / elapsed / 2))

    def sample_seconds(self, batches: int) -> float:
        """Seconds that so many batches take, with the device idle before and after."""
        return self._timed(self.sample, batches)

    def sample_share(self, updates: int) -> float:
        """Share of an update that sampling takes where the device waits for one before it begins the other."""
        sampling = total = 0.0
        for _ in range(updates):
            sampling += self.sample_seconds(1)
            total += self.seconds(1)
        return sampling / total

    def _timed(self, action: Callable[[], Any], times: int) -> float:
        self._synchronize()
        start = time.perf_counter()
        for _ in range(times):
            action()
        self._synchronize()
        return time.perf_counter() - start

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class OurWork(Work):
    """sacae: its replay, filled with random frames, and its update, prepared as the trainer prepares them."""

    def __init__(self, setup: Setup) -> None:
        keep_freed_memory()
        self.device = torch.device(setup.device)
        config, spec = setup.config(), setup.spec
        choose_precision(setup.precision, self.device, spec.from_pixels)
        torch.manual_seed(0)
        self.batch_size = setup.batch_size
        self.replay = filled_replay(spec, setup.replay_size, self.device)
        self.rng = np.random.default_rng(0)
        self.update = make_update(make_agent(spec, config, self.device), torch.Generator(self.device).manual_seed(0))
        self.warm_up()

    def sample(self) -> Any:
        """See Work."""
        return self.replay.sample(self.batch_size, self.rng)

    def step(self) -> None:
        """See Work."""
        self.update(self.sample())


def filled_replay(spec: EnvSpec, capacity: int, device: torch.device) -> FrameReplay:
    """A replay in which every transition that fits is stored, where the trainer would put it."""
    storage = choose_storage(MemoryPlan(spec, capacity, episode_length=EPISODE_LENGTH), device)
    replay = FrameReplay(spec, capacity, device=device, storage=storage, episode_length=EPISODE_LENGTH)
    rng = np.random.default_rng(0)
    frames = itertools.cycle(rng.integers(0, 256, (POOL, *spec.frame_shape), dtype=np.uint8))
    shape = capacity + EPISODE_LENGTH, spec.action_dim
    continuous = spec.num_actions is None
    state = np.zeros(spec.state_dim, np.float32) if spec.state_dim else None
    actions = rng.uniform(-1, 1, shape).astype(np.float32) if continuous else rng.integers(spec.num_actions, size=shape)
    for i, action in enumerate(actions):
        step = i % EPISODE_LENGTH
        if step == 0:
            replay.begin(0, next(frames), state)
        replay.add(0, action, float(action[0]), False, step == EPISODE_LENGTH - 1, next(frames), state)
    return replay


class ReferenceWork(Work):
    """The reference implementation, unmodified: its agent and its replay, filled with random stacks.

    Its logger is one that drops everything, and it gets the same sizes and update frequencies as ours.
    """

    def __init__(self, path: Path, setup: Setup) -> None:
        self.device = torch.device(setup.device)
        if setup.precision == "fp32":
            torch.backends.cudnn.allow_tf32 = False  # PyTorch's default is to allow it in convolutions.
        modules = import_reference(path)
        self.buffer = self._filled_buffer(modules["utils"].ReplayBuffer, setup)
        self.agent = self._make_agent(modules["sac_ae"].SacAeAgent, setup)
        self.logger = Silence()
        self.updates = 0
        self.warm_up()

    def sample(self) -> Any:
        """See Work."""
        return self.buffer.sample()

    def step(self) -> None:
        """See Work."""
        self.updates += 1
        self.agent.update(self.buffer, self.logger, self.updates)

    def _make_agent(self, kind: type, setup: Setup) -> Any:
        config = setup.config()
        return kind(
            setup.spec.obs_shape,
            (ACTION_DIM,),
            self.device,
            hidden_dim=config.agent.hidden_dim,
            actor_update_freq=config.agent.actor_update_freq,
            critic_target_update_freq=config.agent.critic_target_update_freq,
            encoder_feature_dim=config.encoder.feature_dim,
            num_layers=config.encoder.num_layers,
            num_filters=config.encoder.num_filters,
            decoder_type=REFERENCE_DECODERS[setup.decoder],
            decoder_update_freq=config.autoencoder.decoder_update_freq,
            decoder_latent_lambda=config.autoencoder.latent_penalty,
            decoder_weight_lambda=config.autoencoder.decoder_weight_decay,
        )

    def _filled_buffer(self, kind: type, setup: Setup) -> Any:
        shape = setup.spec.obs_shape
        buffer = kind(shape, (ACTION_DIM,), setup.replay_size, setup.batch_size, self.device)
        rng = np.random.default_rng(0)
        for array in (buffer.obses, buffer.next_obses):
            pool = rng.integers(0, 256, (POOL, *shape), dtype=np.uint8)
            for start in range(0, len(array), POOL):
                array[start : start + POOL] = pool[: len(array) - start]
        buffer.actions[:] = rng.uniform(-1, 1, buffer.actions.shape)
        buffer.rewards[:] = buffer.actions[:, :1]
        buffer.not_dones[:] = 1
        buffer.idx, buffer.full = 0, True
        return buffer


def import_reference(path: Path) -> dict[str, Any]:
    """The reference's modules, from its folder. `gym`, which it names but an update never calls, is a stand-in."""
    gym = types.ModuleType("gym")
    gym.spaces = types.ModuleType("gym.spaces")
    gym.Env = gym.Wrapper = gym.ObservationWrapper = gym.ActionWrapper = gym.spaces.Box = type("Stub", (), {})
    sys.modules |= {"gym": gym, "gym.spaces": gym.spaces}
    sys.path.insert(0, str(path))
    return {name: importlib.import_module(name) for name in ("utils", "sac_ae")}


class Silence:
    """A logger whose every method does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


class EndToEnd:
    """A real training of cheetah run from pixels, timed after its random steps and its initial updates."""

    def __init__(self, setup: Setup, env_steps: int, render_quality: str) -> None:
        self.setup, self.env_steps, self.render_quality = setup, env_steps, render_quality

    def steps_per_second(self) -> float:
        """Environment steps per second: acting, simulating, rendering, storing, sampling and learning."""
        with tempfile.TemporaryDirectory() as folder:
            training = off_policy.start(self._config(Path(folder, "run")), Console(quiet=True))
            with contextlib.closing(training):
                first = (SEED_STEPS + INITIAL_UPDATES) * training.run.config.task.action_repeat
                run_until(training, first)
                started = time.perf_counter()  # Acting reads the action back: the device is a step behind at most.
                run_until(training, first + self.env_steps)
                return self.env_steps / (time.perf_counter() - started)

    def _config(self, folder: Path) -> configs.Config:
        steps = self.env_steps + 4 * (SEED_STEPS + INITIAL_UPDATES + EPISODE_LENGTH)
        return self.setup.config(
            domain="cheetah",
            task="run",
            render_quality=self.render_quality,
            num_train_steps=steps,
            seed_steps=SEED_STEPS,
            initial_updates=INITIAL_UPDATES,
            save_replay=False,
            save_video=False,
            work_dir=folder,
        )


def run_until(training: Training, env_step: int) -> None:
    """Trains up to that environment step, without evaluations and checkpoints."""
    while training.run.env_step < env_step:
        step(*training)


class Worker:
    """A process that holds one object and is idle until one of its methods is asked for."""

    def __init__(self, make: Callable[..., Any], *args: Any) -> None:
        """Waits until the object is made. Raises UserError with what went wrong, here and in `ask`."""
        context = multiprocessing.get_context("spawn")  # Nothing of this process comes along.
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, args))
        self._process.start()
        theirs.close()
        try:
            self._receive()
        except UserError:
            self.close()
            raise

    def ask(self, method: str, *args: Any) -> Any:
        """What the object's method returns."""
        self._pipe.send((method, args))
        return self._receive()

    def close(self) -> None:
        """Ends the process; may be called again."""
        self._pipe.close()
        self._process.join()

    def _receive(self) -> Any:
        try:
            problem, answer = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise UserError(f"the process ended with status {self._process.exitcode}") from None
        if problem:
            raise UserError(problem)
        return answer


def _serve(pipe: Connection, make: Callable[..., Any], args: tuple) -> None:
    try:
        made = make(*args)
        pipe.send((None, None))
        while True:
            method, values = pipe.recv()
            pipe.send((None, getattr(made, method)(*values)))
    except (EOFError, KeyboardInterrupt):
        return  # The other side has closed the pipe, or Ctrl-C went to every process.
    except Exception as error:
        first_line, *_ = str(error).strip().splitlines() or [""]
        pipe.send((f"{type(error).__name__}: {first_line}", None))


# What runs in the main process.


@dataclass
class Timing:
    """Updates per second of one implementation in each round, and the share that sampling takes."""

    rates: list[float]
    sample_share: float


def main(options: Options) -> list[dict]:
    """Measures, prints a Markdown table, and writes the files asked for. Returns the rows."""
    setups = plan(options)
    rows = []
    for (decoder, layers, precision), group in itertools.groupby(setups, _group_key):
        say(f"timing {decoder}, {layers} layers, {precision}")
        rows += measure_group(list(group), options)
    if not rows:
        raise UserError("nothing was timed: every configuration was skipped, for the reasons above")
    about = machine() | {"gpu": gpu_name(setups[0].device), "threads": torch.get_num_threads()}
    text = table(rows, about)
    print(text)
    write(options.markdown, text)
    write(options.json, json.dumps([row | about for row in rows], indent=2))
    return rows


def plan(options: Options) -> list[Setup]:
    """Every configuration to be timed, those beside each other that share a reference.

    Says which are skipped. Raises UserError for options that cannot be used, before anything is timed.
    """
    check_options(options)
    device = str(choose_device(options.device))
    sizes = {name: getattr(options, name) for name in ("batch_size", "hidden_dim", "replay_size")}
    skipped = {value: why for value in (*options.precisions, *options.modes) if (why := cannot(value, device))}
    for value, why in skipped.items():
        say(f"skipped {value}: {why}")
    setups = [
        Setup(head, decoder, layers, precision, mode, device, **sizes)
        for decoder, layers, precision, head, mode in itertools.product(
            options.decoders, options.layers, options.precisions, options.heads, options.modes
        )
        if precision not in skipped and mode not in skipped
    ]
    for setup in setups:
        setup.config()
    if not setups:
        raise UserError(f"nothing is left to time on {device}; change --precisions or --modes")
    return setups


def check_options(options: Options) -> None:
    """Raises UserError for a number out of range, or a reference that is not one."""
    for name, least in (("rounds", 1), ("replay_size", 1), ("updates_per_round", 0), ("env_steps", 0)):
        if getattr(options, name) < least:
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{name} is {getattr(options, name)}, but it must be {least} or more; change {flag}")
    path = options.reference
    if path and not all((path / name).is_file() for name in ("sac_ae.py", "utils.py")):
        raise UserError(
            f"reference is {path}, but there is no sac_ae.py and utils.py in it; "
            "give the folder of a checkout of the reference implementation, or leave --reference out"
        )


def cannot(value: str, device: str) -> str:
    """Why the device cannot do a precision or a mode, or ''."""
    if not device.startswith("cuda"):
        return f"{device} has none" if value in ("tf32", "captured") else ""
    if value in ("tf32", "bf16") and torch.cuda.get_device_capability(device) < (8, 0):
        return f"{torch.cuda.get_device_name(device)} has none"
    return ""


def _group_key(setup: Setup) -> tuple[str, int, str]:
    return setup.decoder, setup.layers, setup.precision


def measure_group(setups: Sequence[Setup], options: Options) -> list[dict]:
    """Rows of configurations that are timed in turn, beside one reference where there is one."""
    workers: dict[Setup | None, Worker] = {}
    try:
        if options.reference and any(has_reference(setup) for setup in setups):
            workers[None] = start_reference(options.reference.resolve(), setups[0])
        for setup in setups:
            try:
                workers[setup] = Worker(OurWork, setup)
            except UserError as error:
                say(f"skipped {setup}: {error}")
        timings = time_in_turn(workers, options.rounds, options.updates_per_round)
    finally:
        for worker in workers.values():
            worker.close()
    reference = timings.pop(None, None)
    return [
        row(setup, timing, reference if has_reference(setup) else None, end_to_end(setup, options))
        for setup, timing in timings.items()
    ]


def has_reference(setup: Setup) -> bool:
    """Whether the reference implementation can do what the configuration does."""
    return setup.head == "sac" and setup.decoder in REFERENCE_DECODERS and setup.image_size == 84


def reference_precision(setup: Setup) -> str:
    """The reference's arithmetic: float32 beside fp32, otherwise what PyTorch does unless told."""
    by_default = setup.precision != "fp32" and setup.device.startswith("cuda")
    return "fp32, convolutions in tf32" if by_default else "fp32"


def start_reference(path: Path, setup: Setup) -> Worker:
    """The reference at work. Raises UserError where it does not run."""
    try:
        return Worker(ReferenceWork, path, setup)
    except UserError as error:
        raise UserError(f"the reference in {path} does not run: {error}; leave --reference out") from None


def time_in_turn(workers: dict[Any, Worker], rounds: int, updates_per_round: int) -> dict[Any, Timing]:
    """Times a round of each worker, then the next round of each, so that what disturbs one disturbs all."""
    updates = {name: updates_per_round or worker.ask("updates_in", ROUND_SECONDS) for name, worker in workers.items()}
    rates: dict[Any, list[float]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            rates[name].append(updates[name] / worker.ask("seconds", updates[name]))
    return {name: Timing(rates[name], worker.ask("sample_share", updates[name])) for name, worker in workers.items()}


def end_to_end(setup: Setup, options: Options) -> float | None:
    """Environment steps per second of a real training; None where none was asked for, or it does not run here."""
    if not options.env_steps:
        return None
    say(f"training with {setup}")
    worker = Worker(EndToEnd, setup, options.env_steps, options.render_quality)
    try:
        return worker.ask("steps_per_second")
    except UserError as error:  # What was timed so far is worth having.
        say(f"skipped the training: {error}")
        return None
    finally:
        worker.close()


def row(setup: Setup, ours: Timing, reference: Timing | None, env_steps_per_second: float | None) -> dict:
    """What is known of a configuration; what was not measured is None."""
    ratios = [a / b for a, b in zip(ours.rates, reference.rates)] if reference else []
    return {
        **{name: getattr(setup, name) for name in ("head", "decoder", "layers", "precision", "mode", "device")},
        **{name: getattr(setup, name) for name in ("batch_size", "hidden_dim", "replay_size")},
        "updates_per_second": statistics.median(ours.rates),
        "updates_per_second_min": min(ours.rates),
        "updates_per_second_max": max(ours.rates),
        "reference_updates_per_second": statistics.median(reference.rates) if reference else None,
        "reference_precision": reference_precision(setup) if reference else None,
        "ratio": statistics.median(ratios) if reference else None,
        "ratio_min": min(ratios, default=None),
        "ratio_max": max(ratios, default=None),
        "rounds": len(ours.rates),
        "sample_share": ours.sample_share,
        "reference_sample_share": reference.sample_share if reference else None,
        "env_steps_per_second": env_steps_per_second,
    }


def table(rows: Sequence[dict], about: dict) -> str:
    """The rows in Markdown, with the machine under them."""
    head = ("head", "decoder", "layers", "precision", "mode", "updates/s", "reference", "ratio (min to max)")
    head += ("sampling", "env steps/s")
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(_table_line(row) for row in rows)]
    first = rows[0]
    where = f"{about['gpu']} beside {about['processor']}" if about["gpu"] else about["processor"]
    lines += [
        "",
        f"Batch {first['batch_size']}, {first['replay_size']:,} transitions in the replay, median of "
        f"{first['rounds']} rounds. {where}, {about['cpus']} cores, {about['threads']} threads; "
        f"PyTorch {about['torch']}, Python {about['python']}, NumPy {about['numpy']}; {about['date']}.",
    ]
    return "\n".join(lines)


def _table_line(row: dict) -> str:
    cells = [str(row[name]) for name in ("head", "decoder", "layers", "precision", "mode")]
    cells.append(f"{row['updates_per_second']:.2f}")
    if row["ratio"] is None:
        cells += ["-", "-"]
    else:
        cells.append(f"{row['reference_updates_per_second']:.2f}")
        cells.append(f"{row['ratio']:.2f} ({row['ratio_min']:.2f} to {row['ratio_max']:.2f})")
    cells.append(f"{row['sample_share']:.1%}")
    env_steps = row["env_steps_per_second"]
    cells.append("-" if env_steps is None else f"{env_steps:.1f}")
    return f"| {' | '.join(cells)} |"


def gpu_name(device: str) -> str | None:
    """The GPU's name; None where the device is none."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else None


def write(path: Path | None, text: str) -> None:
    """Writes text to a file, in a folder that is made where it is missing; nothing where path is None."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def say(text: str) -> None:
    """A line for the person who waits; standard output is the table's."""
    print(text, file=sys.stderr, flush=True)


def run(kind: type, action: Callable[[Any], Any]) -> None:
    """Parses options and acts on them, turning a UserError into a line on standard error and status 2."""
    options = tyro.cli(kind)
    try:
        action(options)
    except UserError as error:
        say(f"{Path(sys.argv[0]).name}: error: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run(Options, main)
