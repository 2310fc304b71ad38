"""`sacae demo`: a training, its agent beside random actions, a video of both."""

import imageio.v2 as imageio
import numpy as np
import pytest

from sacae import config as configs
from sacae.cli import main
from sacae.experiments import demo

TINY = {
    "num_layers": 2,
    "num_filters": 4,
    "feature_dim": 8,
    "hidden_dim": 16,
    "batch_size": 4,
    "seed_steps": 5,
    "initial_updates": 3,
    "num_train_steps": 80,
    "eval_every": 80,
    "action_repeat": 8,
    "num_threads": 1,
}


def test_the_demo_says_what_both_return_and_films_them_side_by_side(gl, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(demo, "SETTINGS", demo.SETTINGS | TINY)
    monkeypatch.setattr(demo, "EPISODES", 2)
    assert main(["demo", "--work-dir", str(tmp_path / "run"), "--seed", "3"]) == 0
    said = capsys.readouterr().out
    assert "random actions: return " in said
    assert "trained: return " in said
    assert configs.load(tmp_path / "run" / "config.yaml", configs.Config()).train.preset == "laptop"
    with imageio.get_reader(tmp_path / "run" / demo.VIDEO, format="FFMPEG") as reader:
        frames = [np.asarray(frame) for frame in reader]
    assert len(frames) == 126  # an episode of 125 agent steps, from its first frame
    height, width, _ = frames[0].shape
    assert width == 2 * 256
    left, right = frames[60][40:, :256], frames[60][40:, 256:]
    assert (left != right).any()


def test_its_settings_are_valid_and_those_of_the_laptop_but_for_length_and_a_faster_start():
    laptop = configs.make(preset="laptop", domain=demo.SETTINGS["domain"], task=demo.SETTINGS["task"]).flat()
    differing = {name for name, value in configs.make(**demo.SETTINGS).flat().items() if laptop[name] != value}
    assert differing <= {
        "num_train_steps", "seed_steps", "eval_every", "num_eval_episodes", "batch_size", "updates_per_step", "n_step",
    }  # fmt: skip


def test_it_is_refused_where_something_lies_already(tmp_path, capsys):
    (tmp_path / "note").write_text("mine")
    assert main(["demo", "--work-dir", str(tmp_path)]) == 2
    assert "is no run folder and holds note; choose another --work-dir" in capsys.readouterr().err


@pytest.mark.parametrize("seed", [1, 2])
def test_random_actions_are_reproducible_and_fill_their_range(seed):
    spec = type("Spec", (), {"action_dim": 2})()
    actions = [demo.RandomPolicy(spec, np.random.default_rng(seed)).act(np.zeros((500, 3))) for _ in range(2)]
    assert (actions[0] == actions[1]).all()
    assert actions[0].shape == (500, 2)
    assert actions[0].min() < -0.9
    assert actions[0].max() > 0.9
