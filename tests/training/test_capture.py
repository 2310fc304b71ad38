"""Whether a run's updates are captured: what it says and writes, and that the test at its start changes nothing."""

import pytest
import torch

from sacae import config as configs
from sacae.agents.self_test import disagreement
from sacae.training import device as devices
from sacae.training import off_policy
from tests.agents.replayed import captured
from tests.training import runs

GPU = torch.device("cuda:0")


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Lets the choice be that of a GPU, whose updates are tested as given; the run itself computes on the CPU."""

    def choose(made=captured):
        def choose_capture(config, device, _):
            return devices.choose_capture(config, GPU, lambda: disagreement(agents[-1], made))

        agents = []
        make_agent = off_policy.make_agent
        monkeypatch.setattr(off_policy, "make_agent", lambda *args: agents.append(make_agent(*args)) or agents[-1])
        monkeypatch.setattr(off_policy, "choose_capture", choose_capture)

    return choose


def setting(training):
    return configs.load(training.run.folder / "config.yaml", configs.Config()).train.capture


def disagrees(agent, generator):
    raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize("obs", ["pixels", "state"])
@pytest.mark.parametrize("made", [captured, disagrees])
def test_the_test_at_the_start_changes_no_number_of_the_run(made, obs, make_training, on_a_gpu):
    plain = make_training(obs, folder="plain", device="cpu")
    state = torch.get_rng_state()
    assert plain.train()
    on_a_gpu(made)
    tested = make_training(obs, folder="tested", device="cpu")
    assert torch.equal(torch.get_rng_state(), state)
    assert tested.train()
    runs.assert_same_run(plain, tested)


def test_a_run_says_why_its_updates_are_not_captured_and_goes_on_without(make_training, on_a_gpu):
    on_a_gpu(disagrees)
    training = make_training(device="cpu")
    (line,) = [line for line in runs.said(training).splitlines() if "captured" in line]
    why = "the test of it failed (operation not permitted when stream is capturing)"
    assert line == f"updates are not captured as CUDA graphs: {why}"
    assert setting(training) is False
    assert training.train()


def test_a_run_whose_updates_are_captured_says_nothing_and_writes_it_down(make_training, on_a_gpu):
    on_a_gpu()
    training = make_training(device="cpu")
    assert "captured" not in runs.said(training)
    assert setting(training) is True


def test_with_soft_resets_a_run_is_not_captured_and_says_so(make_training, on_a_gpu):
    on_a_gpu()
    training = make_training(device="cpu", soft_reset="reset")
    assert "updates are not captured as CUDA graphs: soft_reset is reset" in runs.said(training)
    assert setting(training) is False


def test_on_a_cpu_nothing_is_tested_said_or_captured(make_training, monkeypatch):
    monkeypatch.setattr(off_policy, "disagreement", lambda _: pytest.fail("nothing is captured on a CPU"))
    training = make_training(device="cpu")
    assert "captured" not in runs.said(training)
    assert setting(training) is False


@pytest.mark.parametrize("capture", [True, False])
def test_a_resumed_run_keeps_the_choice_of_its_start(capture, make_training, on_a_gpu):
    first = make_training(device="cpu", capture=capture, num_train_steps=40)
    assert first.train()
    on_a_gpu(lambda *_: pytest.fail("a choice that was made is not made again"))
    resumed = make_training(resume=True, num_train_steps=80)
    assert resumed.train()
    assert setting(resumed) is capture
