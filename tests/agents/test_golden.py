"""The package computes what the reference implementation computed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import golden

DATA = Path(__file__).parents[1] / "data" / "sac_ae_4layers.npz"


@pytest.fixture(scope="module")
def recording() -> golden.Recording:
    return golden.Recording(DATA)


def test_four_updates_match_the_reference(recording):
    rows = golden.compare(recording, golden.initial_agent(recording))
    assert len(rows) == 106
    failed = [row for row in rows if not row[1] <= row[2]]
    assert not failed


@pytest.mark.parametrize(
    "setting",
    [
        {"alpha_beta1": 0.9},
        {"encoder_tau": 0.01},
        {"critic_tau": 0.05},
        {"actor_update_freq": 1},
        {"critic_target_update_freq": 1},
        {"latent_penalty": 0.0},
        {"decoder_weight_decay": 1e-3},
        {"target_bits": 6},
        {"log_std_min": -5.0},
        {"discount": 0.9},
    ],
)
def test_a_wrong_setting_is_noticed(recording, setting, monkeypatch):
    if "discount" in setting:
        updates = [(k, batch._replace(discount=batch.discount * 0.9), noise) for k, batch, noise in recording.updates()]
        monkeypatch.setattr(recording, "updates", lambda: iter(updates))
    else:
        config = recording.config().replace(**setting)
        monkeypatch.setattr(recording, "config", lambda: config)
    rows = golden.compare(recording, golden.initial_agent(recording))
    assert any(error > bound for _, error, bound in rows)


def test_the_script_reports_success_and_misuse():
    script = Path(golden.__file__)
    good = subprocess.run([sys.executable, script, DATA], capture_output=True, text=True, check=False)
    assert good.returncode == 0
    assert "106 of 106 within bounds" in good.stdout
    assert subprocess.run([sys.executable, script], capture_output=True, check=False).returncode == 2
