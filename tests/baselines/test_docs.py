"""The pages of the baselines against the code: settings, metrics, commands."""

import re
import shlex
from dataclasses import fields
from types import SimpleNamespace

import pytest

from baselines import train
from baselines.algorithm import Algorithm
from baselines.algorithms import ALGORITHMS, SETTINGS
from baselines.settings import make
from sacae import cli, groups
from sacae import config as configs
from tests.test_docs import ROOT, says, setting_of, tables

ACE = ROOT / "docs" / "ace.md"
PAGES = {name: ROOT / "docs" / f"{name}.md" for name in ALGORITHMS}
OVERVIEW = ROOT / "docs" / "baselines.md"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_documented_settings_are_the_algorithms_with_their_defaults(name):
    (rows,) = tables(PAGES[name], "Settings")
    documented = {setting_of(row["flag"]): row["default"] for row in rows}
    settings = make(SETTINGS[name])
    own = {f.name for f in fields(settings.algorithm)}
    assert own <= set(documented)
    for setting, default in documented.items():
        value = settings.flat()[setting]
        assert says(default, value) or (default == "none" and not value), f"{setting}: {default} for {value}"


def test_documented_settings_of_ace_are_all_with_their_defaults():
    (rows,) = tables(ACE, "Settings")
    documented = {setting_of(row["flag"]): row["default"] for row in rows}
    assert {f.name for f in fields(groups.CausalConfig)} | {"causal_entropy", "sparse_reward"} == set(documented)
    settings = configs.make(obs="state").flat()
    for setting, default in documented.items():
        assert says(default, settings[setting]) or (default == "none" and settings[setting] is None), setting


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_metric_is_documented_and_no_other(name):
    (rows,) = tables(PAGES[name], "Metrics")
    assert {row["name"].strip("`") for row in rows} == set(ALGORITHMS[name].metric_names)


@pytest.mark.parametrize("page", [OVERVIEW, ACE, *PAGES.values()], ids=lambda page: page.name)
def test_every_command_is_one_that_the_command_line_takes(page, monkeypatch):
    made = []

    def start(config, *_):
        made.append(config.variant)
        return SimpleNamespace(train=lambda: True)

    monkeypatch.setattr("sacae.training.off_policy.start", start)
    monkeypatch.setattr(Algorithm, "start", lambda _self, *given: start(*given))
    commands = re.findall(r"^    python -m baselines\.train ([^#\n]*)", page.read_text(), re.MULTILINE)
    assert commands
    for arguments in commands:
        assert cli.guarded(train.train, shlex.split(arguments), train.PROG) == 0, arguments
    assert len(made) == len(commands)


def test_the_overview_has_every_algorithm_and_its_page():
    text = OVERVIEW.read_text()
    for name in train.NAMES:
        assert f"`{name}`" in text
        assert f"({name}.md)" in text
