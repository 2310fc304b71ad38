"""The package computes what the authors of SAC-AE and of its descendants computed."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sacae.agents.settings.drqv2 import DrQV2Settings
from sacae.errors import UserError
from tests import golden
from tests.agents.recorder import Recorder

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


SIZES = [
    ("drq", {"critic_views": 3, "target_views": 1, "features": 7, "actions": 1, "batch": 3, "layers": 2, "size": 48}),
    ("drq", {"critic_views": 1, "target_views": 4, "layers": 6, "actions": 6, "size": 64, "updates": 3}),
    ("drqv2", {"size": 48, "layers": 2}),
    ("drqv2", {"span": 500_000, "features": 100, "actions": 6, "channels": 12, "size": 64, "batch": 5}),
    ("drqv2", {"span": 2_000_000, "channels": 4, "filters": 8, "batch": 5, "size": 56}),
    ("rad", {"size": 64, "window": 48, "actions": 1, "channels": 3, "updates": 6}),
    ("translate", {"size": 54, "seed": 1}),
    ("curl", {"size": 76, "window": 64, "features": 5, "hidden": 16, "batch": 6}),
    ("curl", {"size": 60, "window": 51, "layers": 2}),
]
"""Sizes that the authors' recordings do not have: views, schedules, images, windows, stacks, layers, batches."""


@pytest.fixture
def recorded(tmp_path):
    """The recording with these arrays, or else the path of its file, after what `change` makes of them."""

    def record(arrays, change=lambda arrays: arrays):
        np.savez(tmp_path / "recording.npz", **change(arrays))
        return tmp_path / "recording.npz"

    return record


@pytest.mark.parametrize(("kind", "sizes"), SIZES)
def test_an_algorithm_computes_the_same_as_its_equations_in_other_sizes(kind, sizes, recorded):
    recording = golden.Recording(recorded(Recorder(kind, **sizes).record()))
    assert recording.kind == kind.replace("translate", "rad")
    rows = golden.compare(recording, golden.initial_agent(recording))
    assert not [row for row in rows if not row[1] <= row[2]]
    compared = {recording.name(name) for name, _, _ in rows}
    assert not [key for key in recording.arrays if key.startswith("final.") and key not in compared]


def test_translated_images_may_be_recorded_without_their_border(recorded):
    arrays = Recorder("translate", size=54, seed=1).record()
    cut = {k: v[..., 2:-2, 2:-2] if k.endswith("obs") and "offset" not in k else v for k, v in arrays.items()}
    recording = golden.Recording(recorded({k: v for k, v in cut.items() if "offset_next" not in k}))
    rows = golden.compare(recording, golden.initial_agent(recording))
    assert not [row for row in rows if not row[1] <= row[2]]


def changed(arrays, part, change):
    """The arrays, with those changed in whose names the part is."""
    return {key: change(value) if part in key else value for key, value in arrays.items()}


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: {key: v.astype(np.float64) if v.dtype == np.float32 else v for key, v in arrays.items()},
        lambda arrays: {key: v.astype(v.dtype.newbyteorder(">")) for key, v in arrays.items()},
        lambda arrays: changed(changed(arrays, ".reward", np.ravel), ".not_done", np.ravel),
        lambda arrays: changed(arrays, "not_done", lambda v: v.astype(bool)),
        lambda arrays: changed(arrays, "obs", lambda v: v.astype(np.float32)),
        lambda arrays: {key.replace("_aug", "2"): v for key, v in reversed(arrays.items())},
        lambda arrays: arrays | {"made_by": np.array("someone")},
        lambda arrays: changed(arrays, ".log.", lambda v: v.reshape(1)),
    ],
)
def test_a_recording_may_be_written_in_other_ways(change, recorded):
    arrays = Recorder("drq", size=48, layers=2, updates=2, target_views=3).record()
    recording = golden.Recording(recorded(arrays, change))
    rows = golden.compare(recording, golden.initial_agent(recording))
    assert not [row for row in rows if not row[1] <= row[2]]


def test_the_fall_of_drqv2s_noise_is_found_in_all_updates(recorded):
    arrays = Recorder("drqv2", size=48, layers=2, updates=3, span=500_000).record()
    std = 1 - 0.9 * 20_000 / 500_000
    same = golden.Recording(recorded(arrays | {"update1.step": np.array(0)}))
    assert same.exploration_steps == 500_000
    assert math.exp(arrays["update2.log.actor_ent"] / 3 - (1 + math.log(2 * math.pi)) / 2) == pytest.approx(std)


def test_what_this_package_does_not_compute_and_what_is_no_number_are_shown_as_failed(recorded, monkeypatch, capsys):
    arrays = Recorder("rad", size=60, window=48, layers=2, updates=2).record()
    extra = {"update1.log.train_actor/loss": np.float32(1), "final.actor.trunk.0.bias": np.full(32, np.nan)}
    monkeypatch.setattr(sys, "argv", ["golden.py", str(recorded(arrays | extra))])
    assert golden.main() == 1
    shown = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in shown if line.endswith("FAILED")} == {*extra}


def without(part):
    return lambda arrays: {key: value for key, value in arrays.items() if part not in key}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("final.W"), "has no final.W, which a recording of curl has; it holds "),
        (without("update2.reward"), "has no update2.reward, which a recording of curl has"),
        (without("update"), "has no update1.obs, which a recording of curl has"),
        (without("update1.log."), r"has no update1.log.*: nothing to compare"),
        (without("convs.1"), "num_layers is 1, but it must be one of 2, 4, 6"),
        (
            lambda arrays: arrays | {"init.W": np.zeros((3, 5))},
            r"init.W has the shape \(3, 5\), but .* imply \(10, 10\)",
        ),
        (without("update1.noise_next"), "has no update1.noise_next, which"),
        (without("offset_next_obs"), "has no update1.offset_next_obs, which"),
        (
            lambda arrays: arrays | {"update1.noise_next_aug": arrays["update1.noise_next"]},
            "offset_next_obs and noise_next are of different numbers of views",
        ),
        (
            lambda arrays: changed(arrays, "update2.action", lambda v: v[:2]),
            r"update2.action has the shape \(2, 3\), but .* imply \(4, 3\)",
        ),
        (
            lambda arrays: changed(arrays, "update1.obs", lambda v: v[..., :-2]),
            r"update1.obs has the shape \(4, 9, 60, 58\), but .* imply \(4, 9, 58, 58\)",
        ),
        (
            lambda arrays: changed(arrays, "update1.offset", lambda v: v + 60),
            "a window of update1 does not lie at one of the places 0 to 13",
        ),
        (
            lambda arrays: changed(arrays, "train/batch_reward", lambda v: np.full(4, v)),
            r"batch_reward has the shape \(4,\), but .* imply \(\)",
        ),
        (lambda _: {"a": np.zeros(3)}, "has no update1.obs, which a recording of sac_ae has; it holds a, ..."),
        (lambda _: {}, "it holds nothing"),
        (lambda _: {"a": np.array([{}], dtype=object)}, "is not an .npz file of arrays, or only a part of one"),
    ],
)
def test_what_a_recording_lacks_is_said_in_one_line(change, said, recorded):
    path = recorded(Recorder("curl", size=60, window=48, layers=2, updates=2).record(), change)
    with pytest.raises(UserError, match=said):
        golden.compare(recording := golden.Recording(path), golden.initial_agent(recording))


def test_a_file_that_is_no_recording_is_refused(tmp_path, monkeypatch, capsys):
    whole = (FOLDER / "drq.npz").read_bytes()
    for name, content in (("cut", whole[: len(whole) // 2]), ("text", b"hello"), ("no", None)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        monkeypatch.setattr(sys, "argv", ["golden.py", str(tmp_path / name)])
        assert golden.main() == 2
        said = capsys.readouterr().err
        assert said.startswith(f"golden.py: error: {tmp_path / name} ")
        assert said.count("\n") == 1


def test_the_script_reports_success_and_misuse():
    script = Path(golden.__file__)
    good = subprocess.run([sys.executable, script, DATA], capture_output=True, text=True, check=False)
    assert good.returncode == 0
    assert "106 of 106 within bounds" in good.stdout
    assert subprocess.run([sys.executable, script], capture_output=True, check=False).returncode == 2
