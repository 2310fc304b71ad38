"""Every setting that a run is offered is read by it: none is accepted and does nothing."""

import dataclasses
import io
import sys

import pytest
from rich.console import Console

from sacae import config as configs
from sacae.experiments.ablations import FAMILY
from sacae.heads import HEADS
from sacae.training import off_policy

SMALL = {
    "domain": "cartpole", "task": "swingup", "image_size": 48, "num_layers": 2, "num_filters": 4, "feature_dim": 8,
    "hidden_dim": 8, "batch_size": 4, "seed_steps": 5, "initial_updates": 2, "action_repeat": 100,
    "num_train_steps": 1200, "eval_every": 1200, "num_eval_episodes": 1,
    "precision": "fp32", "save_video": False, "overlap": False, "device": "cpu",
}  # fmt: skip

NOT_READ_HERE = {"preset": "its settings are read one by one"}

# Code that looks at all settings alike, whatever they are for.
OF_ALL = ("dataclasses.py", "<string>")
OF_ALL_METHODS = ("Settings.flat", "Config.conditions")

CASES = {
    f"{head} {seen} {decoder}": {"agent": head, "obs": seen, "decoder": decoder}
    for head in HEADS
    for seen, decoder in (*(("pixels", name) for name in ("rae", "vae", "state", "none")), ("state", "none"))
}
CASES |= {
    "rae with all that can be switched on": {
        "decoder": "rae",
        "dynamics": True,
        "dynamics_contrastive": 0.1,
        "soft_reset": "reset",
        "causal_every": 100,
    },
    **{preset: {"preset": preset, "decoder": "rae", "image_size": 60} for preset in FAMILY},
    "translated, clean target": {
        "augment": "translate",
        "target_image": "clean",
        "image_size": 60,
        "contrastive": True,
    },
    "fixed temperature": {"learn_temperature": False},
    "one network": {"agent": "dqn", "target_network": False},
}
FAST = ("sac pixels rae", "dqn state none")


def recording(group, read):
    """A group of settings that notes the names of those that are read, except by what looks at all alike."""

    def note(self, name):
        caller = sys._getframe(1).f_code
        if not caller.co_filename.endswith(OF_ALL) and not caller.co_qualname.startswith(OF_ALL_METHODS):
            read.add(name)
        return object.__getattribute__(self, name)

    kind = type(type(group).__name__, (type(group),), {"__getattribute__": note, "__module__": __name__})
    return kind(**{f.name: getattr(group, f.name) for f in dataclasses.fields(group)})


@pytest.mark.parametrize("case", [pytest.param(c, marks=[] if c in FAST else pytest.mark.slow) for c in CASES])
def test_a_run_reads_every_setting_that_it_is_offered(case, tmp_path):
    config = configs.make(**configs.with_what_fits(CASES[case] | {"work_dir": tmp_path / "run"}, SMALL))
    read: set[str] = set()
    groups = {f.name: recording(getattr(config, f.name), read) for f in dataclasses.fields(config)}
    assert off_policy.start(dataclasses.replace(config, **groups), Console(file=io.StringIO())).train()
    assert config.applying().keys() - read - NOT_READ_HERE.keys() == set()
