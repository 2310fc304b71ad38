"""`sacae show`, the pictures that it and TensorBoard share, and the feature maps in them."""

import dataclasses

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional as F

from sacae import cli, envs
from sacae import config as configs
from sacae.agents import make_agent
from sacae.training import pictures
from sacae.training.views import MOMENTS, look
from sacae.types import EnvSpec
from tests.experiments import tiny_pixels
from tests.training.conftest import short_episode_env

SPEC = EnvSpec((3, 48, 48), "uint8", 3, 2)
SMALL = {"image_size": 48, "num_layers": 4, "num_filters": 20, "feature_dim": 8, "hidden_dim": 16}


@pytest.fixture
def observations():
    return list(np.random.default_rng(0).integers(0, 256, (31, 9, 48, 48), np.uint8))


def agent_with(**settings):
    torch.manual_seed(0)
    config = configs.make(**(SMALL | settings))
    return make_agent(dataclasses.replace(SPEC, state_dim=5 if config.keeps_state else 0), config)


def rows_of(figure):
    """What each row of the picture is called."""
    return [axis.get_ylabel() for axis in figure.axes]


def shown(figure, row, column):
    return np.ma.filled(figure.axes[row].images[column].get_array(), np.nan)


# What is looked at.


def test_feature_maps_are_each_convolutions_output_after_its_relu(observations):
    agent = agent_with(decoder="none")
    view = look(agent, observations, seed=0)
    x = torch.from_numpy(view.obs) / 255
    convs = [module for module in agent.encoder.convs if isinstance(module, torch.nn.Conv2d)]
    assert len(view.feature_maps) == len(convs) == 4
    for conv, maps in zip(convs, view.feature_maps):
        x = F.relu(F.conv2d(x, conv.weight, conv.bias, conv.stride))
        assert maps.shape == x.shape
        np.testing.assert_allclose(maps, x.detach().numpy(), atol=1e-5)


def test_moments_are_spread_over_the_episode_and_the_same_seed_gives_the_same_target(observations):
    agent = agent_with()
    view, again, other = look(agent, observations, 1), look(agent, observations, 1), look(agent, observations, 2)
    assert view.steps == [0, 6, 12, 18, 24, 30]
    np.testing.assert_array_equal(view.obs, np.stack(observations)[view.steps])
    np.testing.assert_array_equal(view.target, again.target)
    assert (view.target != other.target).any()
    assert np.abs(view.target + 0.5 - view.obs / 255).max() < 0.07  # five bits and their dither
    assert look(agent, observations[:2], 0).steps == [0, 0, 0, 0, 0, 1]


# What is drawn.


def test_the_reconstruction_strip_names_the_agent_step_of_each_column(observations, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: written.append(figure))
    monkeypatch.setattr(pictures, "write_atomically", lambda path, write: write(path))
    view = look(agent_with(), observations, 0)
    pictures.write_reconstruction_strip(tmp_path / "1.png", view)
    assert rows_of(written[0]) == ["input", "target", "reconstruction"]
    assert [text.get_text() for text in written[0].axes[0].texts] == [f"step {step}" for step in view.steps]


def test_with_a_decoder_the_rows_are_frames_their_difference_and_the_feature_maps(observations):
    view = look(agent_with(), observations, 0)
    figure = pictures.draw_view(view, "cheetah")
    sizes = [23, 21, 19, 17]
    convs = [f"conv {i}: {size}×{size}" for i, size in enumerate(sizes, 1)]
    assert rows_of(figure) == ["input", "target", "reconstruction", "difference", *convs]
    assert [text.get_text() for text in figure.axes[0].texts] == [f"step {step}" for step in view.steps]
    for image, text in zip(figure.axes[0].images, figure.axes[0].texts):
        left, right, *_ = image.get_extent()
        assert left < text.get_position()[0] < right
    assert figure.get_suptitle() == "cheetah"
    newest = view.obs[2, -3:].transpose(1, 2, 0) / 255
    np.testing.assert_allclose(shown(figure, 0, 2), newest)
    difference = np.abs(view.reconstruction - view.target)[2, -3:].transpose(1, 2, 0)
    np.testing.assert_allclose(shown(figure, 3, 2), np.clip(difference, 0, 1))
    grid = shown(figure, 4, 5)
    assert grid.shape == (4 * 23 + 3, 4 * 23 + 3)
    np.testing.assert_array_equal(grid[:23, 24:47], view.feature_maps[0][5, 1])
    np.testing.assert_array_equal(grid[-23:, -23:], view.feature_maps[0][5, 15])


@pytest.mark.parametrize("decoder", ["none", "state"])
def test_without_a_decoder_of_pixels_the_rows_are_the_input_and_the_feature_maps(decoder, observations):
    figure = pictures.draw_view(look(agent_with(decoder=decoder, num_layers=2), observations, 0))
    assert rows_of(figure) == ["input", "conv 1: 23×23", "conv 2: 21×21"]


def test_one_scale_serves_a_whole_row_of_feature_maps_and_silent_ones_are_black(observations):
    view = look(agent_with(decoder="none"), observations, 0)
    view.feature_maps[1][:] = 0
    figure = pictures.draw_view(view)
    limits = [[image.get_clim() for image in axis.images] for axis in figure.axes]
    assert all(len({*row}) == 1 for row in limits)
    assert limits[1][0][0] == 0
    assert limits[1][0][1] == pytest.approx(np.quantile(view.feature_maps[0][:, :16], 0.995))
    assert limits[2][0][1] > 0


def test_a_mosaic_has_each_map_in_its_place_and_nothing_elsewhere():
    maps = np.arange(5, dtype=np.float32)[:, None, None] * np.ones((5, 2, 3), np.float32)
    grid = pictures.mosaic(maps)
    assert grid.shape == (2 * 3 - 1, 3 * 4 - 1)
    assert [grid[0, 0], grid[1, 4], grid[0, 10], grid[3, 0], grid[4, 6]] == [0, 1, 2, 3, 4]
    assert np.isnan(grid[2]).all()
    assert np.isnan(grid[:, 3]).all()
    assert np.isnan(grid[3:, 8:]).all()


def test_grey_frames_of_games_are_drawn_too():
    torch.manual_seed(0)
    agent = make_agent(EnvSpec((1, 48, 48), "uint8", 4, 2), configs.make(**SMALL))
    observations = list(np.random.default_rng(0).integers(0, 256, (9, 4, 48, 48), np.uint8))
    view = look(agent, observations, 0)
    np.testing.assert_allclose(shown(pictures.draw_view(view), 0, 0), view.obs[0, -1] / 255)


# The command and TensorBoard, on runs that are really trained.


@pytest.fixture(scope="module")
def runs(gl, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return {decoder: tiny_pixels.train(root / decoder, decoder=decoder) for decoder in ("rae", "state", "none")}


@pytest.fixture
def short_episodes(monkeypatch):
    monkeypatch.setattr(envs, "from_config", short_episode_env)


def tensorboard_images(run):
    events = EventAccumulator(str(run / "tb"), size_guidance={"images": 0}).Reload()
    return {tag: [image.step for image in events.Images(tag)] for tag in events.Tags()["images"]}


def test_tensorboard_shows_the_same_at_each_evaluation(runs):
    assert tensorboard_images(runs["rae"]) == {"reconstruction": [0, 80, 120], "inside": [0, 80, 120]}
    assert {path.name for path in (runs["rae"] / "reconstruction").iterdir()} == {"0.png", "80.png", "120.png"}
    for decoder in ("state", "none"):
        assert tensorboard_images(runs[decoder]) == {"inside": [0, 80, 120]}
        assert not (runs[decoder] / "reconstruction").exists()


@pytest.mark.parametrize("decoder", ["rae", "state", "none"])
def test_a_picture_lies_in_the_run_folder_and_is_never_overwritten(decoder, runs, short_episodes):
    run = runs[decoder]
    before = tiny_pixels.files_of(run)
    command = ["show", str(run), "--seed", "3", "--device", "cpu"]
    assert cli.main(command) == 0
    picture = run / "show" / "step120-seed3.png"
    height, width = imageio.imread(picture).shape[:2]
    rows = 6 if decoder == "rae" else 3
    assert (height, width) == (int(130 * (1.8 * rows + 0.6)), int(130 * (1.8 * MOMENTS + 0.4)))
    assert cli.main([*command, "--best"]) == 0
    after = tiny_pixels.files_of(run)
    assert {path.parent.name for path in after.keys() - before.keys()} == {"show"}
    assert len(after) == len(before) + 2
    assert before.items() <= after.items()


def test_out_names_another_folder(runs, short_episodes, tmp_path):
    before = tiny_pixels.files_of(runs["none"])
    assert cli.main(["show", str(runs["none"]), "--out", str(tmp_path / "a" / "b"), "--device", "cpu"]) == 0
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["step120-seed1000.png"]
    assert tiny_pixels.files_of(runs["none"]) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["RUN_DIR"]),
        (["nowhere"], ["nowhere", "no such folder"]),
        (["{run}/tb"], ["tb", "not a run folder"]),
        (["{run}", "--seed", "-1"], ["seed is -1"]),
        (["{run}", "--device", "tpu"], ["device is tpu"]),
        (["{run}", "--out", "{run}/config.yaml"], ["out is", "no folder", "--out"]),
        (["{broken}"], ["broken", "no checkpoint"]),
        (["{state}"], ["obs state", "--obs pixels"]),
    ],
)
def test_bad_input_is_one_line_with_status_2_and_changes_nothing(arguments, words, runs, tmp_path, capsys):
    settings = (runs["none"] / "config.yaml").read_text()
    for name, text in {"broken": settings, "state": settings.replace("obs: pixels", "obs: state")}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(text)
    names = {"run": runs["rae"], "broken": tmp_path / "broken", "state": tmp_path / "state"}
    before = tiny_pixels.files_of(runs["rae"]) | tiny_pixels.files_of(tmp_path)
    assert cli.main(["show", *(word.format(**names) for word in arguments)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert all(word in err for word in words), err
    assert tiny_pixels.files_of(runs["rae"]) | tiny_pixels.files_of(tmp_path) == before
