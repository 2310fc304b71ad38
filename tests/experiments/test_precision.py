"""The arithmetic of an experiment: decided once, the same in all its runs, and kept when it goes on elsewhere."""

import contextlib
import io

import pytest
import torch
from rich.console import Console

from sacae import cli
from sacae import config as configs
from sacae.experiments import experiment, local, plan, process
from sacae.experiments import sweep as sweeps
from sacae.experiments.plan import Left, what_is_left
from sacae.experiments.precision import with_precision
from sacae.training import device as devices
from sacae.training import run_folder
from sacae.training.device import Choice
from tests.experiments.conftest import CENTRING, CENTRING_FOLDER, TINY_PIXELS, sacae, without

ARMS = {"rae": {"decoder": "rae"}, "none": {"decoder": "none"}}
OBSERVATION = {"pixels": {"obs": "pixels"}, "state": {"obs": "state"}}
FAST, SLOW = Choice("bf16", "the CPU has AMX_BF16"), Choice("fp32", "the CPU has neither")


@pytest.fixture
def runs(tmp_path):
    """The runs of an experiment from pixels."""

    def planned(arms=ARMS, seeds=(1, 2), **given) -> list[plan.Run]:
        given = given if any("obs" in settings for settings in arms.values()) else {"obs": "pixels"} | given
        return plan.plan(arms, ["Pendulum-v1"], seeds, given, tmp_path)

    return planned


def make_folder(run: plan.Run, precision: str, learned: bool = True) -> None:
    """The folder of a run that was interrupted; learned: after its first checkpoint."""
    run_folder.create(run.config.replace(device="cpu", precision=precision, replay_capacity=100))
    if learned:
        (run.folder / "checkpoint").mkdir()
        (run.folder / "checkpoint" / "state.pt").touch()


def has(*choices: Choice):
    """Devices that answer so."""
    return lambda device: [(f"{device}-{i}", choice) for i, choice in enumerate(choices)]


def not_asked(device):
    pytest.fail("the devices were asked")


def decide(runs, root, ask):
    """The runs' precisions as they were decided, and what was said."""
    said = []
    decided = with_precision({run: what_is_left(run) for run in runs}, root, ask, said.append)
    for run, kind in decided.items():
        assert what_is_left(run) is kind, "a run is refused for what was decided"
        if kind is Left.ALL:
            assert run.settings["precision"] == run.config.train.precision
    return [run.config.train.precision for run in decided], said


def test_every_run_has_the_precision_that_the_device_has(runs, tmp_path):
    assert decide(runs(), tmp_path, has(FAST)) == (["bf16"] * 4, ["precision: bf16, because the CPU has AMX_BF16"])
    assert decide(runs(), tmp_path, has(SLOW, SLOW)) == (["fp32"] * 4, ["precision: fp32, because the CPU has neither"])


def test_the_devices_that_are_asked_are_those_of_the_runs(runs, tmp_path):
    asked = []
    arms = {"a": {"device": "cpu"}, "b": {"device": "cuda", "batch_size": 8}}
    decide(runs(arms), tmp_path, lambda device: asked.append(device) or [(device, FAST)])
    assert asked == ["cpu", "cuda"]


def test_from_state_runs_have_fp32_and_no_device_is_asked_for_them(runs, tmp_path):
    assert decide(runs(OBSERVATION, seeds=[1]), tmp_path, has(FAST))[0] == ["bf16", "fp32"]
    assert decide(runs({"a": {}}, obs="state"), tmp_path, not_asked) == (["fp32"] * 2, [])


def test_what_was_named_stays_and_no_device_is_asked(runs, tmp_path):
    assert decide(runs(precision="tf32"), tmp_path, not_asked) == (["tf32"] * 4, [])
    arms = sweeps.arms_of({"precision": ["fp32", "bf16"]})
    assert decide(runs(arms, seeds=[1]), tmp_path, not_asked) == (["fp32", "bf16"], [])


def test_an_arm_that_names_its_precision_has_it_beside_others(runs, tmp_path):
    arms = {"named": {"precision": "fp32"}, "open": {}}
    assert decide(runs(arms), tmp_path, has(FAST))[0] == ["fp32", "bf16"] * 2
    make_folder(runs(arms)[0], "fp32")
    assert decide(runs(arms), tmp_path, has(FAST))[0] == ["fp32", "bf16"] * 2, "a named one says nothing of the others"


def test_new_runs_have_the_precision_of_those_that_are_there(runs, tmp_path):
    make_folder(runs()[1], "fp32")
    line = "precision: fp32, as the runs that are there have"
    assert decide(runs(), tmp_path, not_asked) == (["fp32", "auto", "fp32", "fp32"], [line])
    assert configs.load(runs()[1].folder / "config.yaml", configs.Config()).train.precision == "fp32"
    # Other arms and other seeds of the experiment, which this command does not ask for, count as well.
    assert decide(runs({"rae": {}}, seeds=[5]), tmp_path, not_asked) == (["fp32"], [line])


def test_runs_that_are_there_go_on_with_their_own_precision(runs, tmp_path):
    make_folder(runs()[0], "fp32")
    make_folder(runs()[1], "bf16")
    precisions, (line,) = decide(runs(), tmp_path, has(FAST))
    assert precisions == ["auto", "auto", "bf16", "bf16"]
    assert line == "precision: bf16, because the CPU has AMX_BF16; the runs that are there have bf16 and fp32"
    assert "--precision" not in process.command(runs()[0], resume=True)


def test_a_run_from_state_or_one_that_learned_nothing_does_not_count_as_there(runs, tmp_path):
    both = runs(OBSERVATION, seeds=[1])
    make_folder(both[1], "fp32")
    make_folder(both[0], "fp32", learned=False)
    assert decide(both, tmp_path, has(FAST))[0] == ["bf16", "auto"]


def test_a_folder_that_holds_no_run_does_not_count_as_there(runs, tmp_path):
    other = tmp_path / "Pendulum-v1" / "rae" / "notes"
    other.mkdir(parents=True)
    (other / "config.yaml").write_text("settings: {colour: red}")
    assert decide(runs(), tmp_path, has(FAST))[0] == ["bf16"] * 4


def test_devices_that_are_not_alike_all_compute_in_fp32(runs, tmp_path):
    precisions, said = decide(runs(), tmp_path, has(FAST, SLOW))
    assert precisions == ["fp32"] * 4
    each = "on auto-0 the CPU has AMX_BF16, on auto-1 the CPU has neither"
    assert said == [f"precision: fp32, because the devices are not alike: {each}"]


@pytest.fixture
def gpus(monkeypatch):
    """Two unlike GPUs, as CUDA_VISIBLE_DEVICES may name them."""
    monkeypatch.setattr(local, "visible_gpus", lambda: ["3", "5"])
    monkeypatch.setattr(devices, "choose_device", torch.device)
    monkeypatch.setattr(local, "ask_elsewhere", lambda asked: [(str(device), FAST) for device in asked])
    monkeypatch.setattr(devices, "auto_precision", lambda device: SLOW)


@pytest.mark.parametrize(
    ("parallel", "of_the_places", "device", "asked"),
    [
        (None, "auto", "auto", ["cuda:0", "cuda:1"]),
        (1, "auto", "auto", ["cuda:0"]),
        (3, "cuda", "cuda", ["cuda:0", "cuda:1"]),
        (None, "cuda:1", "cuda:1", ["cuda:1"]),
        (2, "cpu", "cpu", ["cpu"]),
        (None, "auto", "cpu", ["cpu"]),
    ],
)
def test_on_this_machine_those_devices_are_asked_that_the_places_have(parallel, of_the_places, device, asked, gpus):
    launcher = local.LocalLauncher(local.places(parallel, of_the_places))
    choice = FAST if asked != ["cpu"] else SLOW
    assert launcher.auto_precisions(device) == [(name, choice) for name in asked]


def test_another_process_answers_as_this_one():
    cpu = torch.device("cpu")
    assert local.ask_elsewhere([cpu]) == [("cpu", devices.auto_precision(cpu))]


def test_a_device_that_is_not_there_is_refused_before_anything_starts(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["ablate", "decoder", "--tasks", CENTRING, "--obs", "pixels", "--device", "cuda:77"]
    assert cli.main(command) == 2
    assert "device is cuda:77, but PyTorch finds" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


class Started:
    """Stands for a run's process: notes its command line, and has finished."""

    def __init__(self, run, environment, words):
        self.run = run
        words.append(process.command(run, resume=what_is_left(run) is Left.REST))

    def poll(self):
        return 0


@pytest.mark.parametrize(("there", "expected"), [(None, "bf16"), ("fp32", "fp32")])
def test_every_command_line_of_an_experiment_has_the_same_precision(there, expected, runs, tmp_path, monkeypatch):
    """On a machine with fast bfloat16; there: what the first run was started with on another."""
    started = []
    monkeypatch.setattr(local, "RunProcess", lambda run, environment: Started(run, environment, started))
    monkeypatch.setattr(devices, "auto_precision", lambda device: FAST)
    planned = runs(device="cpu")
    if there:
        make_folder(planned[0], there)
    launcher = local.LocalLauncher(local.places(2, "cpu"))
    out = io.StringIO()
    assert experiment.conduct("ablation", planned, tmp_path, launcher, Console(file=out, width=200)) == 0
    new = [words for words in started if "--resume" not in words]
    assert (len(started), len(new)) == (4, 3 if there else 4)
    assert {words[words.index("--precision") + 1] for words in new} == {expected}
    assert f"precision: {expected}, " in out.getvalue()


def test_nothing_is_decided_or_connected_to_where_every_run_is_finished(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "what_is_left", lambda run: Left.NOTHING)

    class Launcher:
        connected = auto_precisions = launch = not_asked

    assert experiment.conduct("ablation", runs(), tmp_path, Launcher(), Console(file=io.StringIO())) == 0


def test_a_launcher_is_asked_while_it_is_connected(runs, tmp_path):
    happened = []

    class Launcher:
        @contextlib.contextmanager
        def connected(self):
            happened.append("connected")
            yield
            happened.append("gone")

        def auto_precisions(self, device):
            happened.append(device)
            return [(device, FAST)]

        def launch(self, made, board):
            happened.extend(run.config.train.precision for run in made)

    experiment.conduct("ablation", runs(seeds=[1]), tmp_path, Launcher(), Console(file=io.StringIO()))
    assert happened == ["connected", "auto", "bf16", "bf16", "gone"]


def test_two_arms_that_were_really_trained_with_auto_have_one_precision(tmp_path):
    words = ["ablate", "decoder", "--tasks", CENTRING, "--seeds", 1, "--parallel", 2, "--work-dir", tmp_path]
    status, out, err = sacae(*words, *without(TINY_PIXELS, "--precision"), "--num-train-steps", 20, "--eval-every", 20)
    assert status == 0, out + err
    chosen, reason = devices.auto_precision(torch.device("cpu"))
    assert f"precision: {chosen}, because {reason}\n" in out
    folders = [tmp_path / CENTRING_FOLDER / arm / "1" for arm in ARMS]
    saved = [configs.load(folder / "config.yaml", configs.Config()) for folder in folders]
    assert [config.train.precision for config in saved] == [chosen] * 2
