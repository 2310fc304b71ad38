"""Which device, and which arithmetic on it."""

import os
import time
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from torch.utils._python_dispatch import TorchDispatchMode

from sacae import config as configs
from sacae.errors import UserError
from sacae.training import device as devices
from sacae.training import trained
from sacae.training.start import open_run
from sacae.types import EnvSpec

CPU, GPU = torch.device("cpu"), torch.device("cuda:1")


@pytest.mark.parametrize("name", ["gpu", "cpu:1", "cuda:x", "mps:0", ""])
def test_a_name_that_is_no_device_is_refused(name):
    with pytest.raises(UserError, match="must be auto, cpu, cuda, cuda:N or mps"):
        devices.choose_device(name)


def test_a_gpu_that_is_not_there_is_refused_with_how_many_there_are():
    with pytest.raises(UserError, match=rf"finds {torch.cuda.device_count()} CUDA devices"):
        devices.choose_device("cuda:99")


def test_auto_is_a_gpu_where_there_is_one():
    assert devices.choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def modes(monkeypatch):
    """Undoes what a test sets of PyTorch's modes."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # so that it is put back
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    monkeypatch.setattr(devices, "_chosen", {})
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("asked", [True, False])
def test_deterministic_algorithms_are_used_if_they_are_asked_for(asked, modes, tmp_path):
    config = configs.make(deterministic=asked, device="cpu", work_dir=tmp_path / "run")
    open_run(config, Console(quiet=True), resume=False)
    assert torch.are_deterministic_algorithms_enabled() is asked
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if asked else None)
    assert torch.backends.cudnn.benchmark is not asked
    assert torch.utils.deterministic.fill_uninitialized_memory is not asked


def test_a_training_takes_back_what_an_earlier_one_of_the_process_chose(modes, tmp_path):
    def chosen(**settings):
        open_run(configs.make(device="cpu", work_dir=tmp_path / "run", **settings), Console(quiet=True), resume=False)
        return torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()

    torch.set_num_threads(3)
    assert chosen(num_threads=2, deterministic=True) == (2, True)
    assert chosen(num_threads=1, deterministic=True) == (1, True)
    assert chosen(num_threads=0, deterministic=False) == (3, False)
    assert chosen(num_threads=1) == (1, False)
    torch.set_num_threads(2)  # the user's own choice stays
    torch.use_deterministic_algorithms(True)
    assert chosen(num_threads=0) == (2, True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert chosen(deterministic=False)[1]
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    chosen(deterministic=True)
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    chosen(deterministic=False)
    assert torch.is_deterministic_algorithms_warn_only_enabled()


@pytest.fixture
def machine(monkeypatch):
    """Lets the machine have a GPU of some capability, or a CPU with some features."""

    def has(capability=None, **features):
        features = {"architecture": "x86_64", "avx512_f": True, "amx_bf16": False, "avx512_bf16": False} | features
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
        monkeypatch.setattr(torch.cuda, "get_device_capability", {GPU: capability}.__getitem__)
        return CPU if capability is None else GPU

    return has


MACHINES = [
    ({"capability": (7, 5)}, "fp32", "the GPU's compute capability is 7.5, below 8.0"),
    ({"capability": (8, 0)}, "bf16", "the GPU's compute capability is 8.0, at least 8.0"),
    ({"capability": (9, 0)}, "bf16", "the GPU's compute capability is 9.0, at least 8.0"),
    ({"capability": (12, 0)}, "bf16", "the GPU's compute capability is 12.0, at least 8.0"),
    ({"capability": (7, 5), "amx_bf16": True}, "fp32", "the GPU's compute capability is 7.5, below 8.0"),
    ({}, "fp32", "the CPU has neither AMX_BF16 nor AVX512_BF16"),
    ({"amx_bf16": True}, "bf16", "the CPU has AMX_BF16"),
    ({"avx512_bf16": True}, "bf16", "the CPU has AVX512_BF16"),
    ({"amx_bf16": True, "avx512_bf16": True}, "bf16", "the CPU has AMX_BF16"),
    ({"architecture": "arm64", "bf16": True}, "fp32", "the CPU has neither AMX_BF16 nor AVX512_BF16"),
]


@pytest.mark.parametrize(("has", "chosen", "reason"), MACHINES)
def test_auto_precision_is_a_rule_on_what_the_device_has(has, chosen, reason, machine):
    device = machine(**has)
    assert devices.auto_precision(device) == (chosen, reason)
    assert devices.choose_precision("auto", device, from_pixels=True) == chosen
    assert devices.choose_precision("auto", device, from_pixels=False) == "fp32"


@pytest.mark.parametrize("setting", ["fp32", "bf16"])
def test_a_precision_that_is_named_is_that_on_every_device(setting, machine):
    for has in ({}, {"amx_bf16": True}, {"capability": (7, 5)}, {"capability": (9, 0)}):
        assert devices.choose_precision(setting, machine(**has), from_pixels=True) == setting


def test_auto_precision_computes_nothing_and_looks_at_no_clock(monkeypatch):
    def refuse(*_, **__):
        pytest.fail("the rule computes, or measures")

    class NoComputing(TorchDispatchMode):
        __torch_dispatch__ = refuse

    for clock in ("perf_counter", "perf_counter_ns", "monotonic", "process_time", "time"):
        monkeypatch.setattr(time, clock, refuse)
    with NoComputing():
        chosen = {devices.choose_precision("auto", CPU, from_pixels=True) for _ in range(3)}
    monkeypatch.undo()
    assert chosen in ({"fp32"}, {"bf16"})


def test_pytorch_tells_of_the_features_that_the_rule_asks_for():
    told = torch.cpu.get_capabilities()
    if told["architecture"] != "x86_64":
        pytest.skip("only x86 has them")
    assert set(devices.BF16_FEATURES) <= told.keys()


@pytest.fixture
def switches():
    """Puts back what a test sets of TF32."""
    kinds = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [kind.allow_tf32 for kind in kinds]
    yield
    for kind, allowed in zip(kinds, before):
        kind.allow_tf32 = allowed


def test_tf32_needs_a_gpu_and_fp32_means_float32(switches):
    with pytest.raises(UserError, match="precision is tf32, but cpu has none"):
        devices.choose_precision("tf32", CPU, from_pixels=True)
    torch.backends.cudnn.allow_tf32 = True
    devices.choose_precision("fp32", CPU, from_pixels=True)  # where it makes no difference, it is the user's own
    assert torch.backends.cudnn.allow_tf32
    devices.choose_precision("fp32", torch.device("cuda"), from_pixels=True)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_a_device_may_be_pytorchs_own():
    assert devices.choose_device(CPU) == CPU


def never():
    pytest.fail("nothing is tested where the settings or the device decide")


@pytest.mark.parametrize(
    ("settings", "device", "chosen", "why_not"),
    [
        ({}, "cpu", False, ""),
        ({}, "mps", False, ""),
        ({"capture": False}, "cpu", False, ""),
        ({"capture": True}, "cpu", True, "cpu has no CUDA graphs"),
        ({"capture": False}, "cuda:1", False, ""),
        ({"capture": True}, "cuda:1", True, ""),
        ({"soft_reset": "reset"}, "cuda:1", False, "soft_reset is reset"),
        ({"soft_reset": "dormant_reset", "capture": False}, "cuda:1", False, ""),
        ({"augment": "crop"}, "cuda:1", False, "augment is crop"),
        ({"augment": "crop", "capture": True}, "cpu", True, "cpu has no CUDA graphs"),
    ],
)
def test_settings_and_the_device_decide_about_capture_without_a_test(settings, device, chosen, why_not):
    assert devices.choose_capture(configs.make(**settings), torch.device(device), never) == (chosen, why_not)


def test_capture_of_what_cannot_be_captured_is_refused():
    with pytest.raises(UserError, match="capture is on, but augment is crop, which cannot be captured"):
        devices.choose_capture(configs.make(augment="crop", capture=True), GPU, never)


@pytest.mark.parametrize("problem", ["", "the step of critic differs"])
def test_on_a_gpu_updates_are_captured_if_a_test_finds_nothing_wrong(problem):
    assert devices.choose_capture(configs.make(), GPU, lambda: problem) == (not problem, problem)


def test_capture_and_soft_resets_exclude_each_other_if_both_are_given():
    with pytest.raises(UserError, match="soft_reset is reset, but it must be off if capture is on"):
        configs.make(soft_reset="reset", capture=True)


def test_a_gpu_of_apple_computes_in_fp32(monkeypatch):
    if not torch.backends.mps.is_available():
        with pytest.raises(UserError, match="device is mps, but PyTorch finds no GPU of Apple here"):
            devices.choose_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    mps = devices.choose_device("mps")
    assert mps == torch.device("mps")
    assert devices.describe(mps) == "mps"
    assert [devices.choose_precision(setting, mps, from_pixels=True) for setting in ("auto", "fp32")] == ["fp32"] * 2
    with pytest.raises(UserError, match="precision is bf16, but mps computes in fp32 only"):
        devices.choose_precision("bf16", mps, from_pixels=True)


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_what_a_gpu_of_cuda_has_trained_plays_in_fp32_elsewhere(precision, monkeypatch):
    monkeypatch.setattr(trained, "make_agent", lambda _spec, config, _device: config.train.precision)
    spec = EnvSpec((3, 84, 84), "uint8", 3, 6)
    for kind in ("cpu", "mps"):
        assert trained.make_player(configs.make(precision=precision), spec, torch.device(kind)) == "fp32"


def test_what_plays_on_a_gpu_has_its_own_arithmetic_and_leaves_the_processs(switches, monkeypatch):
    products, convolutions, cuda = torch.backends.cuda.matmul, torch.backends.cudnn, torch.device("cuda")

    def in_force():
        return products.fp32_precision, convolutions.conv.fp32_precision

    def fails():
        assert in_force() == ("ieee", "ieee")
        assert (products.allow_tf32, convolutions.allow_tf32) == (False, False)  # reading raises where they disagree
        raise UserError

    made = lambda _spec, config, device: SimpleNamespace(config=config, device=device)  # noqa: E731
    monkeypatch.setattr(trained, "make_agent", made)
    devices.choose_precision("tf32", cuda, from_pixels=True)  # of a training that goes on around it
    player = trained.make_player(configs.make(precision="bf16"), EnvSpec((3, 84, 84), "uint8", 3, 6), cuda)
    assert in_force() == ("tf32", "tf32")
    with pytest.raises(UserError), trained.arithmetic_of(player):
        fails()
    assert in_force() == ("tf32", "tf32")
    assert (products.allow_tf32, convolutions.allow_tf32) == (True, True)
    with devices.computing_in("fp32", CPU):
        assert in_force() == ("tf32", "tf32")
    devices.choose_precision("fp32", cuda, from_pixels=True)
    with devices.computing_in("tf32", cuda):
        assert in_force() == ("tf32", "tf32")
    assert (products.allow_tf32, convolutions.allow_tf32) == (False, False)
