"""Which device, and which arithmetic on it."""

import pytest
import torch

from sacae import config as configs
from sacae.errors import UserError
from sacae.training import device as devices
from sacae.types import EnvSpec

PIXELS, STATE = EnvSpec((3, 48, 48), "uint8", 3, 2), EnvSpec((5,), "float32", 1, 2)
CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cpu:1", "cuda:x", "mps", ""])
def test_a_name_that_is_no_device_is_refused(name):
    with pytest.raises(UserError, match="must be auto, cpu, cuda or cuda:N"):
        devices.choose_device(name)


def test_a_gpu_that_is_not_there_is_refused_with_how_many_there_are():
    with pytest.raises(UserError, match=rf"finds {torch.cuda.device_count()} CUDA devices"):
        devices.choose_device("cuda:99")


def test_auto_is_a_gpu_where_there_is_one():
    assert devices.choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(("bf16_seconds", "chosen"), [(0.5, "bf16"), (0.95, "fp32"), (2.0, "fp32")])
def test_auto_precision_takes_bf16_only_where_it_is_clearly_faster(bf16_seconds, chosen, monkeypatch):
    monkeypatch.setattr(devices, "_seconds", lambda precision, *_: bf16_seconds if precision == "bf16" else 1.0)
    assert devices.choose_precision("auto", CPU, PIXELS, configs.EncoderConfig()) == chosen


def test_auto_precision_measures_in_about_a_second_and_leaves_the_random_stream(monkeypatch):
    measured = []
    seconds = devices._seconds
    monkeypatch.setattr(devices, "_seconds", lambda p, *rest: measured.append(p) or seconds(p, *rest))
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    small = configs.EncoderConfig(num_layers=2, num_filters=4)
    assert devices.choose_precision("auto", CPU, PIXELS, small) in ("fp32", "bf16")
    assert measured == ["fp32", "bf16"]
    assert torch.equal(torch.rand(2), expected)


def test_from_state_nothing_is_measured():
    assert devices.choose_precision("auto", CPU, STATE, configs.EncoderConfig()) == "fp32"


def test_tf32_needs_a_gpu_and_fp32_means_float32():
    with pytest.raises(UserError, match="precision is tf32, but cpu has none"):
        devices.choose_precision("tf32", CPU, PIXELS, configs.EncoderConfig())
    torch.backends.cudnn.allow_tf32 = True
    devices.choose_precision("fp32", CPU, PIXELS, configs.EncoderConfig())
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
