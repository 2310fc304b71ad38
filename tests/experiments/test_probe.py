"""The probe: ridge regression on whole held-out episodes, what it is compared with, and `sacae probe` on real runs."""

import csv

import numpy as np
import pytest
import torch

from sacae import cli
from sacae import config as configs
from sacae.encoder import Conv, PixelEncoder, make_encoder
from sacae.envs.dmc import DMCEnv
from sacae.errors import UserError
from sacae.experiments import probe, probe_picture, regression
from sacae.types import EnvSpec
from tests.experiments import tiny_pixels

EPISODES, STEPS = 10, 60


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def episode():
    return np.repeat(np.arange(EPISODES), STEPS)


def score(x, y, episode):
    return regression.r2_on_held_out(x, y, episode, probe.held_out_episodes(episode))


# The regression.


def test_an_exactly_linear_relation_is_recovered(rng, episode):
    x = rng.normal(size=(len(episode), 12)) * 10.0 ** rng.integers(-3, 3, 12) + 5
    y = x @ rng.normal(size=(12, 4)) * [1e-3, 1, 1e3, 1] + [0, 7, -1e5, 0]
    assert (score(x, y, episode) > 0.99).all()


def test_noise_gives_about_nothing_and_not_much_less(rng, episode):
    r2 = score(rng.normal(size=(len(episode), 50)), rng.normal(size=(len(episode), 6)), episode)
    assert (r2 < 0.1).all()
    assert (r2 > -0.1).all()


def test_held_out_episodes_are_whole_apart_and_never_fitted_to(rng, episode, monkeypatch):
    held_out = probe.held_out_episodes(episode)
    assert held_out.tolist() == [7, 8, 9]
    assert probe.held_out_episodes(np.repeat(np.arange(3), 2)).tolist() == [2]
    fitted = []

    class Watched(regression.Ridge):
        def __init__(self, x, y):
            fitted.append({*x[:, 0].astype(int)})
            super().__init__(x, y)

        def predict(self, x, penalties):
            assert not {*x[:, 0].astype(int)} & fitted[-1]
            return super().predict(x, penalties)

    monkeypatch.setattr(regression, "Ridge", Watched)
    x = np.column_stack([episode, rng.normal(size=(len(episode), 3))]).astype(float)
    score(x, rng.normal(size=(len(episode), 2)), episode)
    *folds, final = fitted
    assert len(folds) == regression.FOLDS
    assert final == {*range(7)}
    assert all(fold < final for fold in folds)


def test_held_out_targets_change_neither_the_penalty_nor_the_fit(rng, episode, monkeypatch):
    x, y = rng.normal(size=(len(episode), 5)), rng.normal(size=(len(episode), 2))
    predictions = []
    monkeypatch.setattr(regression, "r2", lambda y, prediction: predictions.append(prediction) or np.zeros(2))
    score(x, y, episode)
    y[episode >= 7] *= -100
    score(x, y, episode)
    np.testing.assert_array_equal(*predictions)


def test_r2_equals_that_of_least_squares_on_the_augmented_problem(rng, episode):
    x = rng.normal(size=(len(episode), 6))
    y = np.tanh(x @ rng.normal(size=(6, 3))) + 0.5 * rng.normal(size=(len(episode), 3))
    test = episode >= 7
    penalties = regression.choose_penalties(x[~test], y[~test], episode[~test])
    expected = []
    for j, penalty in enumerate(penalties):
        # Ridge regression is least squares with a further row for each weight, whose target is 0.
        centre, scale = x[~test].mean(0), x[~test].std(0)
        rows = np.vstack([(x[~test] - centre) / scale, np.sqrt(penalty * (~test).sum()) * np.eye(6)])
        mean = y[~test, j].mean()
        weights = np.linalg.lstsq(rows, np.append(y[~test, j] - mean, np.zeros(6)), rcond=None)[0]
        error = y[test, j] - ((x[test] - centre) / scale @ weights + mean)
        expected.append(1 - error.var() / y[test, j].var() - error.mean() ** 2 / y[test, j].var())
    np.testing.assert_allclose(score(x, y, episode), expected, rtol=1e-9)


def test_the_penalty_is_large_for_noise_and_small_for_a_clean_relation(rng, episode):
    x = rng.normal(size=(len(episode), 30))
    y = np.column_stack([x[:, 0], rng.normal(size=len(episode))])
    clean, noise = regression.choose_penalties(x, y, episode)
    assert clean < 1e-4
    assert noise > 0.3


def test_coordinates_that_are_constant_anywhere_have_no_r2(rng, episode):
    x = rng.normal(size=(len(episode), 4))
    varies, always = x[:, 0], np.full(len(episode), 3.7)
    in_training, in_test = np.where(episode < 7, 2.0, x[:, 1]), np.where(episode < 7, x[:, 1], 2.0)
    rounding = 1e4 + 1e-9 * x[:, 2]
    y = np.column_stack([varies, always, in_training, in_test, rounding, 1e-3 * varies])
    assert np.isnan(score(x, y, episode)).tolist() == [False, True, True, True, True, False]


def test_features_that_never_change_do_no_harm(rng, episode):
    x = np.column_stack([rng.normal(size=len(episode)), np.zeros(len(episode)), np.ones(len(episode))])
    assert score(x, x[:, :1] * 3, episode)[0] > 0.99


def test_principal_components_are_those_of_the_fitted_images(rng):
    images = rng.integers(0, 256, (40, 3, 60, 60), np.uint8)
    fit = np.arange(40) < 30
    found = regression.principal_components(images, fit, 5)
    flat = images.reshape(40, -1) / 255
    centred = flat - flat[fit].mean(0)
    expected = centred @ np.linalg.svd(centred[fit], full_matrices=False)[2][:5].T
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-8)
    assert regression.principal_components(images, fit, 100).shape == (40, 29)
    assert regression.principal_components(np.repeat(images[:2], 20, 0), fit, 100).shape == (40, 1)


def test_latents_are_the_encoders_output_whatever_the_number_of_images(rng):
    encoder = PixelEncoder((3, 48, 48), 8, (Conv(4, 3, 2),))
    observations = rng.integers(0, 256, (probe.ENCODER_BATCH + 3, 3, 48, 48), np.uint8)
    found = probe.latents(encoder, observations)
    with torch.no_grad():
        np.testing.assert_allclose(found, encoder(torch.from_numpy(observations)).numpy(), atol=1e-6)


# The command, on runs that are really trained.


@pytest.fixture(scope="module")
def runs(gl, tmp_path_factory):
    """Runs with and without decoder."""
    root = tmp_path_factory.mktemp("runs")
    return [tiny_pixels.train(root / decoder, decoder=decoder) for decoder in ("rae", "none")]


def run_probe(*arguments):
    return cli.main(["probe", *map(str, arguments), "--max-steps", "12", "--episodes", "4", "--device", "cpu"])


def read(path):
    with open(path, newline="") as file:
        return [*csv.DictReader(file)]


def test_two_runs_come_into_one_table_and_one_picture_on_pooled_episodes(runs, tmp_path, capsys):
    before = [tiny_pixels.files_of(run) for run in runs]
    assert run_probe(*runs, "--out", tmp_path) == 0
    rows = read(tmp_path / "probe.csv")
    assert [*rows[0]] == ["run", "env_step", "source", "coordinate", "r2", "n_train", "n_test", "note"]
    found = [(row["run"], row["source"], row["coordinate"]) for row in rows]
    names = ["qpos slider", "qpos hinge_1", "qvel slider", "qvel hinge_1", "sin hinge_1", "cos hinge_1"]
    sources = ["latent", "random encoder", "pixels PCA"]
    assert found == [(str(run), source, name) for run in runs for source in sources for name in names]
    assert {(row["n_train"], row["n_test"], row["env_step"]) for row in rows} == {("72", "24", "120")}
    values = {(row["run"], row["source"], row["coordinate"]): row["r2"] for row in rows}
    first, second = ({source: [values[str(run), source, name] for name in names] for source in sources} for run in runs)
    assert first["pixels PCA"] == second["pixels PCA"]
    assert first["random encoder"] == second["random encoder"]
    assert first["latent"] != second["latent"]
    out = " ".join(capsys.readouterr().out.split())
    assert "the episodes of the 2 runs are pooled" in out
    assert "24 moments of held-out episodes of all runs, fitted to 72" in out
    assert all(float(row["r2"]) <= 1 and not row["note"] for row in rows)
    assert (tmp_path / "probe.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"probe.csv", "probe.png"}
    assert [tiny_pixels.files_of(run) for run in runs] == before


def test_results_lie_in_the_run_folder_are_never_overwritten_and_are_repeatable(runs):
    folder = runs[0] / "probe"
    assert run_probe(runs[0]) == 0
    first = tiny_pixels.files_of(folder)
    assert run_probe(runs[0]) == 0
    assert {path.name for path in folder.iterdir()} == {"probe.csv", "probe.png", "probe-2.csv", "probe-2.png"}
    assert first.items() <= tiny_pixels.files_of(folder).items()
    assert read(folder / "probe.csv") == read(folder / "probe-2.csv")
    assert {(row["n_train"], row["n_test"]) for row in read(folder / "probe.csv")} == {("36", "12")}
    assert run_probe(runs[0], "--best", "--seed", "5") == 0
    assert read(folder / "probe-3.csv") != read(folder / "probe.csv")


def test_moments_are_recorded_with_the_state_that_the_picture_shows(runs):
    from sacae import envs
    from sacae.training import trained

    config = trained.load_config(runs[0])
    env = envs.from_config(config.task, 0)
    spec = envs.spec_of(envs.EnvInfo.of(env), config.task.frame_stack)
    agent = trained.make_player(config, spec, torch.device("cpu"))
    steps = []
    recording = probe.record(agent, env, 0, episodes=2, max_steps=5, seed=3, on_step=lambda: steps.append(1))
    assert recording.observations.shape == (10, 9, 48, 48)
    assert recording.observations.dtype == np.uint8
    assert recording.states.shape == (10, 6)
    assert recording.episode.tolist() == [0] * 5 + [1] * 5
    assert len(steps) == 10
    starts = np.random.SeedSequence(3).generate_state(2)
    for index, start in ((0, starts[0]), (5, starts[1])):
        frame, _ = env.reset(seed=int(start))
        np.testing.assert_array_equal(recording.observations[index], np.concatenate([frame] * 3))
        np.testing.assert_array_equal(recording.states[index], [*env.physics_coordinates().values()])
    # Stacks go on within an episode, and exploration makes two episodes of one start differ.
    np.testing.assert_array_equal(recording.observations[3][:6], recording.observations[2][3:])
    env.close()


def made_up(path, settings, seed, episodes=4, steps=5):
    """A run as if played: noise for images, states that tell the run, and an encoder of these settings."""
    rng = np.random.default_rng(seed)
    config = configs.make(image_size=48, **settings)
    torch.manual_seed(seed)
    encoder, untrained = (make_encoder(EnvSpec((3, 48, 48), "uint8", 3, 1), config.encoder) for _ in range(2))
    number = np.repeat(np.arange(episodes), steps)
    images = rng.integers(0, 256, (len(number), 9, 48, 48), np.uint8)
    states = np.column_stack([np.full(len(number), float(seed)), rng.normal(size=len(number))])
    return probe.Played(path, config, 0, encoder, untrained, probe.Recording(images, states, ["run", "noise"], number))


def test_pooled_recordings_keep_every_moment_and_hold_out_the_last_episodes_of_each(tmp_path):
    recordings = [made_up(tmp_path, {}, seed, n).recording for seed, n in ((1, 4), (2, 10), (3, 3))]
    pooled, held_out = probe.pool(recordings)
    assert held_out.tolist() == [3, 11, 12, 13, 16]
    assert np.unique(pooled.episode).tolist() == [*range(17)]
    np.testing.assert_array_equal(pooled.observations, np.concatenate([r.observations for r in recordings]))
    np.testing.assert_array_equal(pooled.states, np.concatenate([r.states for r in recordings]))
    for episode, run in ((3, 1), (4, 2), (13, 2), (14, 3)):
        assert {*pooled.states[pooled.episode == episode, 0]} == {run}


def test_every_encoder_is_scored_on_all_moments_and_equal_settings_share_what_they_are_compared_with(tmp_path):
    small = {"num_layers": 2, "num_filters": 4}
    kinds = [{"feature_dim": 6}, {"feature_dim": 6, "encoder_tau": 0.5}, {"feature_dim": 6, "latent_norm": False},
             {"feature_dim": 3}]  # fmt: skip
    runs = [made_up(tmp_path / str(i), small | kind, i) for i, kind in enumerate(kinds)]
    results = probe.compare(runs)
    assert {(result.n_train, result.n_test) for result in results} == {(4 * 15, 4 * 5)}
    recording, held_out = probe.pool([run.recording for run in runs])
    for run, result in zip(runs, results):
        x = probe.latents(run.encoder, recording.observations)
        expected = regression.r2_on_held_out(x, recording.states, recording.episode, held_out)
        np.testing.assert_array_equal(result.r2["latent"], expected)
        assert result.run == run.run
    one, alike, other, shorter = (result.r2 for result in results)
    assert one["random encoder"] is alike["random encoder"]
    assert (one["random encoder"] != other["random encoder"]).all()
    assert one["pixels PCA"] is alike["pixels PCA"] is other["pixels PCA"]
    assert (one["pixels PCA"] != shorter["pixels PCA"]).all()
    drawn = probe_picture.draw(results[:2]).axes[0].get_legend_handles_labels()[1]
    assert drawn == [f"{run.run}: latent" for run in runs[:2]] + ["random encoder", "pixels PCA"]


def test_seeds_of_an_arm_share_a_colour_and_an_entry_of_the_legend(tmp_path):
    small = {"num_layers": 2, "num_filters": 4, "feature_dim": 6}
    kinds = [{"seed": 1}, {"seed": 2}, {"seed": 1, "decoder": "none"}]
    runs = [made_up(tmp_path / str(i), small | kind, i) for i, kind in enumerate(kinds)]
    (axis,) = probe_picture.draw(probe.compare(runs)).axes
    assert axis.get_legend_handles_labels()[1] == [
        "sac-rae, 2 seeds: latent", "sac-none: latent", "random encoder", "pixels PCA",
    ]  # fmt: skip
    one, other, none = [line.get_color() for line in axis.lines if line.get_marker() == "o"][:3]
    assert one == other != none


def test_dots_are_the_table_and_constant_coordinates_are_named(tmp_path):
    r2 = {"latent": [0.5, np.nan], "random encoder": [0.25, np.nan], "pixels PCA": [-3.0, np.nan]}
    r2 = {source: np.array(values) for source, values in r2.items()}
    result = probe_picture.Result(
        tmp_path, configs.make(domain="cartpole", task="swingup"), 0, ["qpos slider", "qpos rail"], r2, 70, 30
    )
    (axis,) = probe_picture.draw([result]).axes
    dots = {line.get_label(): line.get_xydata().tolist() for line in axis.lines if line.get_label()[0] != "_"}
    assert {name: x for name, ((x, _), _) in dots.items()} == {f"sac-rae: {s}": values[0] for s, values in r2.items()}
    arrows = [line.get_xydata().tolist() for line in axis.lines if line.get_marker() == "<"]
    assert arrows == [[], [], [[probe_picture.LOWEST_SHOWN, 0]]]
    assert [text.get_text() for text in axis.texts] == ["constant"]
    probe._write_csv(tmp_path / "probe.csv", [result])
    rows = read(tmp_path / "probe.csv")
    assert [(row["r2"], row["note"]) for row in rows[:2]] == [("0.500000", ""), ("", "constant")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["run_dirs is empty"]),
        (["nowhere"], ["nowhere", "no such folder"]),
        (["{run}", "--episodes", "2"], ["episodes is 2", "at least 3", "--episodes"]),
        (["{run}", "--max-steps", "1"], ["max_steps is 1", "at least 2", "--max-steps"]),
        (["{run}", "--seed", "-1"], ["seed is -1", "from 0 to"]),
        (["{run}", "--device", "tpu"], ["device is tpu"]),
        (["{run}", "--out", "{run}/config.yaml"], ["out is", "config.yaml", "no folder", "--out"]),
        (["{broken}"], ["broken", "no checkpoint"]),
        (["{run}", "{other}"], ["different tasks", "cartpole_swingup", "cartpole_balance"]),
        (["{run}", "{larger}"], ["differ in image_size", "cannot be pooled", "(48)", "(64)", "probe them separately"]),
        (["{run}", "{fast}"], ["differ in render_quality", "(exact)", "(fast)"]),
        (["{run}", "{repeats}"], ["differ in action_repeat", "(8)", "(4)"]),
        (["{run}", "{stacks}"], ["differ in frame_stack", "(3)", "(2)"]),
        (["{run}", "{moved}"], ["differ in camera_id", "(0)", "(1)"]),
        (["{state}"], ["obs state", "--obs pixels"]),
        (["{gym}"], ["Pendulum-v1", "no physical state"]),
    ],
)
def test_bad_input_is_one_line_with_status_2_and_changes_nothing(arguments, words, runs, tmp_path, capsys):
    names = {"run": runs[0]}
    changes = {
        "broken": ("task: swingup", "task: swingup"),
        "other": ("task: swingup", "task: balance"),
        "larger": ("image_size: 48", "image_size: 64"),
        "fast": ("render_quality: exact", "render_quality: fast"),
        "repeats": ("action_repeat: 8", "action_repeat: 4"),
        "stacks": ("frame_stack: 3", "frame_stack: 2"),
        "moved": ("camera_id: 0", "camera_id: 1"),
        "gym": ("env: null", "env: Pendulum-v1"),
    }
    settings = (runs[0] / "config.yaml").read_text()
    for name, (old, new) in changes.items():
        assert old in settings
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(settings.replace(old, new))
        names[name] = tmp_path / name
    names["state"] = tmp_path / "state"
    names["state"].mkdir()
    from_state = settings.replace("obs: pixels", "obs: state").replace("decoder: rae", "decoder: none")
    (names["state"] / "config.yaml").write_text(from_state)
    before = tiny_pixels.files_of(runs[0]) | tiny_pixels.files_of(tmp_path)
    assert cli.main(["probe", *(word.format(**names) for word in arguments)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert all(word in err for word in words), err
    assert tiny_pixels.files_of(runs[0]) | tiny_pixels.files_of(tmp_path) == before


def test_runs_whose_states_can_have_other_lengths_are_refused(tmp_path):
    swimmer = {"domain": "swimmer", "task": "swimmer"}
    found = {tmp_path / n: configs.make(**swimmer, task_kwargs=(f"n_joints={n}",)) for n in ("3", "5")}
    with pytest.raises(UserError, match=r"run_dirs differ in task_kwargs, .*; probe them separately"):
        probe._check_alike(found)


def test_an_environment_that_fails_ends_in_one_line(runs, tmp_path, monkeypatch, capsys):
    def fail(_env, _action):
        raise RuntimeError("Physics state is invalid")

    monkeypatch.setattr(DMCEnv, "step", fail)
    assert run_probe(runs[0], "--out", tmp_path) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "the environment of episode 0 raised RuntimeError: Physics state is invalid" in error
    assert error.rstrip().endswith("at step 1")
