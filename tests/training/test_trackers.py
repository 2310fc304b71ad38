"""Experiment trackers: what W&B (offline) and MLflow (a local file store) record of a run, and what a failure does."""

import json
import re

import numpy as np
import pytest

from sacae.errors import UserError, how_to_install
from sacae.training import trackers
from sacae.training.trackers import Tracking
from tests.training.counting import CountingSettings
from tests.training.runs import rows, said

SETTINGS = {"num_train_steps": 40, "checkpoint_every": 20, "eval_every": 20}


class Memory:
    """A tracker that remembers, and fails when told to."""

    def __init__(self, config, run_id):
        self.run_id = run_id or "first"
        self.rows, self.images, self.fails, self.closed = [], [], False, False

    def scalars(self, row, env_step):
        if self.fails:
            raise ConnectionError("no route to host")
        self.rows.append((env_step, dict(row)))

    def image(self, name, image, env_step):
        self.images.append(name)

    def close(self):
        self.closed = True


@pytest.fixture
def remembered(monkeypatch):
    """The trackers of the runs that were started."""
    made = []

    def make(config, run_id):
        made.append(Memory(config, run_id))
        return made[-1]

    monkeypatch.setattr(trackers, "TRACKERS", {"wandb": make, "mlflow": make})
    monkeypatch.setattr(trackers, "require_package", lambda kind: None)
    return made


def test_a_tracker_is_told_every_row_and_closed(make_counting, remembered):
    training = make_counting(logger="wandb", **SETTINGS)
    assert training.train()
    (tracker,) = remembered
    assert tracker.closed
    episodes = [str(row["train/episode_return"]) for _, row in tracker.rows if "train/episode_return" in row]
    assert episodes == [row["episode_return"] for row in rows(training.run.folder / "train.csv")]
    assert [step for step, row in tracker.rows if "eval/episode_return" in row] == [0, 20, 40]


def test_a_resumed_run_goes_on_in_the_trackers_run(make_counting, remembered):
    make_counting(logger="wandb", **SETTINGS).train()
    remembered[0].run_id = "not asked for"
    make_counting(resume=True, num_train_steps=60).train()
    assert [tracker.run_id for tracker in remembered[1:]] == ["first"]
    make_counting(resume=True, num_train_steps=80, logger="mlflow").train()
    make_counting(resume=True, num_train_steps=100, logger="none").train()
    assert len(remembered) == 3
    make_counting(resume=True, num_train_steps=120, logger="mlflow").train()
    assert remembered[3].run_id == remembered[2].run_id


def test_a_run_without_a_tracker_keeps_nothing_of_one(make_counting, remembered):
    training = make_counting(**SETTINGS)
    assert "tracker" not in training.run.logger.state(0)
    assert training.train()
    assert not remembered


def test_a_tracker_that_fails_is_one_line_and_the_run_goes_on(make_counting, remembered):
    training = make_counting(logger="wandb", **SETTINGS)
    remembered[0].fails = True
    assert training.train()
    assert said(training).count("warning: wandb failed (no route to host): it is told nothing from here on") == 1
    assert not remembered[0].rows


def test_one_that_cannot_start_ends_the_run_before_it_learns(make_counting, monkeypatch, remembered):
    def refuse(config, run_id):
        raise RuntimeError("No API key\nconfigured")

    monkeypatch.setitem(trackers.TRACKERS, "wandb", refuse)
    with pytest.raises(UserError, match="logger is wandb, but wandb cannot start: No API key configured; mend that"):
        make_counting(logger="wandb", **SETTINGS)
    assert make_counting(**SETTINGS).train()


@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_a_missing_package_names_the_extra_before_anything_is_written(kind, make_counting, monkeypatch, tmp_path):
    monkeypatch.setattr("sacae.training.trackers.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=f"{kind} is not installed; .*{re.escape(how_to_install(kind))}"):
        make_counting(logger=kind, **SETTINGS)
    assert not (tmp_path / "run").exists()


# The packages themselves.


def use(kind, folder, saved=None):
    """Tells a tracker a little; returns what a checkpoint keeps of it."""
    folder.mkdir(exist_ok=True)
    config = CountingSettings().replace(work_dir=folder, seed=7)
    warnings = []
    tracking = Tracking(kind, config, saved, warnings.append)
    tracking.scalars({"train/episode_return": 3.0, "train/q": 0.5}, 10 if saved is None else 30)
    tracking.scalars({"causal/weight": 1.0}, 5)  # of a fit, which comes late
    tracking.image("inside", np.zeros((8, 8, 3), np.uint8), 10)
    tracking.close()
    assert not warnings
    return tracking.state()


def leveldb_records(content):
    """The records of a W&B file: a header of 7 bytes, then LevelDB's log format, in blocks of 32 KiB."""
    at, record = 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:  # the padding of a block
            at += left
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        record += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def test_wandb_records_a_run_offline_and_its_continuation(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    saved = use("wandb", tmp_path / "run")
    again = use("wandb", tmp_path / "run", saved)
    assert again == saved
    history, configs = [], []
    files = sorted((tmp_path / "run" / "wandb").glob(f"offline-run-*/run-{saved['run_id']}.wandb"))
    for path in files:
        for data in leveldb_records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "run":
                configs.append({item.key: json.loads(item.value_json) for item in record.run.config.update})
            for item in record.history.item:
                name = item.key or "/".join(item.nested_key)
                history.append((name, json.loads(item.value_json)))
    numbers = [(name, value) for name, value in history if name in ("train/episode_return", "env_step")]
    assert ("train/episode_return", 3.0) in numbers
    assert [value for name, value in numbers if name == "env_step"][:3] == [10, 5, 10]
    assert configs[0]["seed"] == 7
    assert [*(tmp_path / "run" / "wandb").glob("offline-run-*/files/media/images/inside*.png")]


def test_mlflow_records_a_run_in_a_local_file_store_and_its_continuation(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'store'}")
    saved = use("mlflow", tmp_path / "run")
    assert use("mlflow", tmp_path / "run", saved) == saved
    client = MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("sacae").experiment_id])
    assert run.info.run_id == saved["run_id"]
    assert run.info.status == "FINISHED"
    assert run.data.params["seed"] == "7"
    history = client.get_metric_history(run.info.run_id, "train/episode_return")
    assert [(metric.step, metric.value) for metric in history] == [(10, 3.0), (30, 3.0)]
    assert [path.path for path in client.list_artifacts(run.info.run_id)] == ["images"]
