"""The package computes what the authors of SAC-AE and of its descendants computed."""

import subprocess
import sys
from pathlib import Path

import pytest

from sacae.agents.settings.drqv2 import DrQV2Settings
from tests import golden

FOLDER = Path(__file__).parents[1] / "data"
DATA = FOLDER / "sac_ae_4layers.npz"

DESCENDANTS = {
    "drq": {
        "alpha_lr": 1e-4,
        "alpha_beta1": 0.5,
        "encoder_tau": 0.05,
        "critic_tau": 0.05,
        "actor_update_freq": 1,
        "critic_target_update_freq": 1,
        "latent_tanh": False,
    },
    "drqv2": {
        "critic_lr": 1e-3,
        "actor_lr": 1e-3,
        "critic_tau": 0.05,
        "encoder_tau": 0.05,
        "critic_target_update_freq": 2,
        "centre_pixels": False,
        "noise_clip": 0.5,
        "exploration_steps": 400,
        "exploration_noise_start": 0.1,
    },
    "rad": {
        "encoder_tau": 0.01,
        "alpha_lr": 1e-3,
        "critic_tau": 0.05,
        "actor_update_freq": 1,
        "latent_tanh": True,
    },
    "curl": {
        "contrastive_lr": 1e-4,
        "encoder_tau": 0.01,
        "alpha_beta1": 0.9,
        "critic_target_update_freq": 1,
        "latent_tanh": True,
    },
}
"""Of each preset of an algorithm, settings that would compute something else than its authors."""


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


@pytest.fixture(scope="module")
def descendants():
    return {name: golden.Recording(FOLDER / f"{name}.npz") for name in DESCENDANTS}


@pytest.mark.parametrize("name", DESCENDANTS)
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_preset_of_an_algorithm_computes_what_its_authors_computed(name, compiled, descendants):
    recording = descendants[name]
    rows = golden.compare(recording, golden.initial_agent(recording, compile=compiled))
    assert not [row for row in rows if not row[1] <= row[2]]
    compared = {recording.name(row[0]) for row in rows}
    left_out = {key for key in recording.arrays if key.startswith("final.") and key not in compared}
    assert not left_out
    assert len([row for row in rows if row[0].startswith("update")]) >= 4 * 2


@pytest.mark.parametrize(("name", "setting"), [(n, s) for n, wrong in DESCENDANTS.items() for s in wrong.items()])
def test_a_setting_that_is_not_the_authors_is_noticed(name, setting, descendants):
    recording = descendants[name]
    rows = golden.compare(recording, golden.initial_agent(recording, **dict([setting])))
    assert any(error > bound for _, error, bound in rows)


def test_an_actor_of_drqv2_on_features_from_after_the_critics_step_is_noticed(descendants, monkeypatch):
    monkeypatch.setattr(DrQV2Settings, "FEATURES_BEFORE_CRITIC", False)
    rows = golden.compare(descendants["drqv2"], golden.initial_agent(descendants["drqv2"]))
    assert any(error > bound for _, error, bound in rows)


def test_the_script_reports_success_and_misuse():
    script = Path(golden.__file__)
    good = subprocess.run([sys.executable, script, DATA], capture_output=True, text=True, check=False)
    assert good.returncode == 0
    assert "106 of 106 within bounds" in good.stdout
    assert subprocess.run([sys.executable, script], capture_output=True, check=False).returncode == 2
