"""Frozen agents: what an export holds, that it acts as its run does, and what is refused."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import sacae
from sacae import cli
from sacae.envs import rendering
from sacae.errors import UserError, how_to_install
from sacae.training.export import export
from tests.training.runs import SHORT, SMALL_PIXELS, SMALL_STATE

# Episodes of 10 steps.
SETTINGS = SHORT | {"device": "cpu", "num_train_steps": 800, "eval_every": 800, "checkpoint_every": 400}
PIXELS = SETTINGS | SMALL_PIXELS | {"domain": "cartpole", "task": "swingup", "action_repeat": 100}
STATE = SETTINGS | SMALL_STATE | {"action_repeat": 100}
RUNS = {
    "pixels": PIXELS,
    "pixels, a variational autoencoder, crops": PIXELS | {"decoder": "vae", "augment": "crop"},
    "pixels, windows": PIXELS | {"preset": "curl"},
    "pixels, translated": PIXELS | {"preset": "rad", "augment": "translate"},
    "pixels, drqv2": PIXELS | {"preset": "drqv2", "action_repeat": 100},
    "pixels, choices": PIXELS | {"agent": "dqn"},
    "pixels with state": PIXELS | {"obs": "pixels+state"},
    "state": STATE,
    "state, choices": STATE | {"agent": "discrete_sac"},
    "state, own encoders": STATE | {"agent": "td3"},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Makes a run of RUNS, once each."""
    folders = {}

    def make(name):
        if name not in folders:
            config = sacae.make_config(**RUNS[name], work_dir=tmp_path_factory.mktemp("run") / "run")
            folders[name] = sacae.train(config).folder
        return folders[name]

    return make


def observations(agent, count=5):
    rng = np.random.default_rng(1)
    shape = (count, *agent.spec.obs_shape)
    if agent.spec.sees_state:
        state = rng.standard_normal((count, agent.spec.state_dim), np.float32)
        return {"pixels": rng.integers(0, 256, shape, np.uint8), "state": state}
    if agent.spec.from_pixels:
        return rng.integers(0, 256, shape, np.uint8)
    return rng.standard_normal(shape, np.float32)


@pytest.mark.parametrize("name", RUNS)
def test_an_exported_agent_acts_exactly_as_its_run_does(name, trained, tmp_path):
    run = sacae.load_agent(trained(name), device="cpu")
    frozen = sacae.load_agent(export(trained(name), tmp_path / "frozen"), device="cpu")
    obs = observations(run)
    assert (frozen.spec, frozen.env_step) == (run.spec, run.env_step) == (run.spec, 800)
    np.testing.assert_array_equal(frozen.predict(obs), run.predict(obs))
    np.testing.assert_array_equal(frozen.latent(obs), run.latent(obs))
    explored = [agent.predict(obs, deterministic=False) for agent in (frozen, run)]
    np.testing.assert_array_equal(*explored)
    if run.network.decoder is not None:
        np.testing.assert_array_equal(frozen.reconstruct(obs), run.reconstruct(obs))


@pytest.mark.parametrize("name", ["pixels", "state, choices"])
def test_float16_halves_the_weights_and_moves_what_is_computed_a_little(name, trained, tmp_path):
    full, half = (export(trained(name), tmp_path / dtype, dtype=dtype) for dtype in ("float32", "float16"))
    stored = [load_file(folder / "agent.safetensors") for folder in (full, half)]
    sizes = [sum(tensor.nbytes for tensor in tensors.values()) for tensors in stored]
    assert sizes[0] == 2 * sizes[1]
    assert "| weights | float16 |" in (half / "README.md").read_text()
    run, frozen = (sacae.load_agent(folder, device="cpu") for folder in (full, half))
    assert {parameter.dtype for parameter in frozen.network.parameters()} == {torch.float32}
    obs = observations(run)
    assert np.abs(frozen.latent(obs) - run.latent(obs)).max() < 0.01
    assert np.abs(frozen.predict(obs) - run.predict(obs)).max() < 0.01
    assert not np.array_equal(frozen.latent(obs), run.latent(obs)) or name != "pixels"


def test_a_weight_that_float16_does_not_hold_is_refused(trained, tmp_path, monkeypatch):
    state = sacae.load_agent(trained("pixels"), device="cpu").network.acting_state()
    state["acting"] = {name: value * 1e9 for name, value in state["acting"].items()}
    monkeypatch.setattr("sacae.agents.Agent.acting_state", lambda self: state)
    with pytest.raises(UserError, match="dtype is float16, but head.* is too large for it"):
        export(trained("pixels"), tmp_path / "half", dtype="float16")


def test_an_exported_agent_is_loaded_without_its_environment(trained, tmp_path, monkeypatch):
    folder = export(trained("pixels"), tmp_path / "frozen")
    monkeypatch.setattr("sacae.envs.from_config", None)
    agent = sacae.load_agent(folder, device="cpu")
    assert agent.predict(observations(agent)).shape == (5, 1)


def test_an_export_holds_no_replay_no_optimiser_and_no_value_function(trained, tmp_path):
    folder = export(trained("pixels"), tmp_path / "frozen")
    assert {path.name for path in folder.iterdir()} == {"agent.safetensors", "config.yaml", "README.md"}
    names = load_file(folder / "agent.safetensors").keys()
    assert any("actor.trunk" in name for name in names)
    assert any("decoder" in name for name in names)
    assert {name.split(".encoder.")[0] for name in names if "critic" in name} == {"head.critic"}
    convolutions = [name for name in names if name.endswith(".convs.0.weight")]
    assert len(convolutions) == 1
    content = yaml.safe_load((folder / "config.yaml").read_text())
    assert "machine" not in content
    assert "work_dir" not in content["settings"]["train"]


def test_the_model_card_says_what_it_is_and_how_good(trained, tmp_path):
    card = (export(trained("pixels"), tmp_path / "frozen") / "README.md").read_text()
    last = [line.split(",") for line in (trained("pixels") / "eval.csv").read_text().splitlines()][-1]
    for text in ("# sac-rae on cartpole_swingup", "preset sac_ae", "800 environment steps", "sacae.load_agent("):
        assert text in card
    assert f"{float(last[6]):.1f} ± 0.0 over 1 episode at 800" in card
    assert f"torch {torch.__version__}" in card


def test_the_model_card_names_the_agent_and_all_that_it_sees(trained, tmp_path):
    card = (export(trained("pixels with state"), tmp_path / "both") / "README.md").read_text()
    assert "from pixels with state vectors" in card
    assert "| `pixels`, uint8 (9, 48, 48): the last 3 frames, oldest first; `state`, float32 (5,) |" in card
    card = (export(trained("state, choices"), tmp_path / "choices") / "README.md").read_text()
    assert "tags: [reinforcement-learning, discrete_sac-state]" in card
    assert "| float32 (5,) |" in card


def test_a_step_or_the_best_agent_is_exported(trained, tmp_path):
    assert sacae.load_agent(export(trained("pixels"), tmp_path / "step", step=400)).env_step == 400
    best = sacae.load_agent(export(trained("pixels"), tmp_path / "best", best=True))
    assert best.env_step == sacae.load_agent(trained("pixels"), best=True).env_step
    with pytest.raises(UserError, match="step is 7, but"):
        export(trained("pixels"), tmp_path / "none", step=7)
    assert not (tmp_path / "none").exists()


def test_the_command_exports_and_eval_plays_what_it_exported(trained, tmp_path, capsys):
    out = tmp_path / "frozen"
    assert cli.main(["export", str(trained("state")), "--out", str(out)]) == 0
    assert f"written to {out}: README.md, agent.safetensors, config.yaml" in capsys.readouterr().out.replace("\n", "")
    means = []
    for folder in (trained("state"), out):
        assert cli.main(["eval", str(folder), "--episodes", "1", "--no-video", "--device", "cpu"]) == 0
        means += [line for line in capsys.readouterr().out.splitlines() if line.startswith("mean ")]
    assert means[0] == means[1]


def test_a_folder_with_something_in_it_is_not_written_to(trained, tmp_path):
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(UserError, match="there is something in it; choose another --out"):
        export(trained("state"), tmp_path)


def test_an_exported_agent_has_no_other_checkpoint(trained, tmp_path):
    folder = export(trained("state"), tmp_path / "frozen")
    for asked in ({"best": True}, {"step": 400}):
        with pytest.raises(UserError, match="holds an exported agent and no other checkpoints"):
            sacae.load_agent(folder, **asked)


def test_an_exported_agent_is_not_trained_further(trained, tmp_path):
    with pytest.raises(UserError, match="frozen holds an exported agent, which cannot be trained further"):
        sacae.resume(export(trained("state"), tmp_path / "frozen"))


def test_damaged_weights_are_refused_in_one_line(trained, tmp_path):
    path = export(trained("state"), tmp_path / "frozen") / "agent.safetensors"
    content = path.read_bytes()
    for damaged in (content[:-9], b"", content.replace(b'"agent_step"', b'"agent_stop"')):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"agent.safetensors cannot be read as an exported agent"):
            sacae.load_agent(tmp_path / "frozen")


def test_weights_of_other_sizes_are_refused(trained, tmp_path, capsys):
    folder = export(trained("state"), tmp_path / "frozen")
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("hidden_dim: 16", "hidden_dim: 24"))
    with pytest.raises(UserError, match="agent.safetensors does not fit this run: .* has shape"):
        sacae.load_agent(folder)
    capsys.readouterr()
    assert cli.main(["eval", str(folder), "--episodes", "1", "--no-video", "--device", "cpu"]) == 2
    assert "agent.safetensors does not fit this run: " in (error := capsys.readouterr().err)
    assert "restore the file, or export the run anew" in error


# ONNX.


@pytest.mark.parametrize("name", [name for name in RUNS if "crops" not in name and "with state" not in name])
def test_the_onnx_model_acts_as_the_agent(name, trained, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    folder = export(trained(name), tmp_path / "frozen", format="onnx")
    agent = sacae.load_agent(folder, device="cpu")
    session = onnxruntime.InferenceSession(folder / "policy.onnx")
    obs = observations(agent, count=3)
    (actions,) = session.run(["action"], {"obs": obs})
    assert actions.dtype == agent.spec.action_dtype
    np.testing.assert_allclose(actions, agent.predict(obs), atol=1e-4)
    assert "policy.onnx" in (folder / "README.md").read_text()


def test_an_onnx_model_that_acts_otherwise_is_not_written(trained, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    monkeypatch.setattr("sacae.training.onnx_policy.LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(UserError, match="its actions differ from the agent's by up to"):
        export(trained("state"), tmp_path / "frozen", format="onnx")
    assert not (tmp_path / "frozen").exists()


def test_a_policy_that_acts_on_a_crop_is_not_written_as_onnx(trained, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    with pytest.raises(UserError, match="augment is crop: .* export without --format onnx"):
        export(trained("pixels, a variational autoencoder, crops"), tmp_path / "frozen", format="onnx")


def test_a_policy_of_images_with_a_state_is_not_written_as_onnx(trained, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    with pytest.raises(UserError, match=r"obs is pixels\+state: .* export without --format onnx"):
        export(trained("pixels with state"), tmp_path / "frozen", format="onnx")


def test_without_its_packages_onnx_names_the_extra(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("sacae.training.onnx_policy.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=re.escape(how_to_install("onnx"))):
        export(trained("state"), tmp_path / "frozen", format="onnx")


STATE_WITHOUT_OPENGL = """
import sys
import sacae
from sacae import cli
small = {"hidden_dim": 8, "batch_size": 4, "seed_steps": 5, "initial_updates": 1, "num_eval_episodes": 1}
task = {"domain": "cartpole", "task": "swingup", "obs": "state", "action_repeat": 100, "num_train_steps": 800}
folder = sacae.train(sacae.make_config(**small, **task, device="cpu", work_dir=sys.argv[1])).folder
assert sacae.load_agent(folder).env_step == 800
assert cli.main(["eval", str(folder), "--episodes", "1"]) == 0
assert cli.main(["export", str(folder), "--out", sys.argv[1] + "-frozen"]) == 0
"""


def test_an_agent_from_state_is_played_and_exported_where_nothing_renders(tmp_path):
    environment = os.environ | {"MUJOCO_GL": "off"}
    environment.pop(rendering.RECORD, None)
    command = [sys.executable, "-c", STATE_WITHOUT_OPENGL, str(tmp_path / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "there will be no video: MUJOCO_GL is off" in done.stdout
    assert not [*tmp_path.rglob("*.mp4")]
