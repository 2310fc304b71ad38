"""The command that a finished run names to play it back, and the one that an error names instead."""

import sys

import pytest
import yaml

from baselines.settings import make
from baselines.settings.on_policy import NPGSettings, PPOSettings, TRPOSettings, VPGSettings
from sacae import config as configs
from sacae import invocation
from sacae.errors import UserError
from sacae.heads import HEADS, HeadEntry


class OwnSettings(HEADS["ddpg"].settings):
    """Settings of a head that a script registers."""


@pytest.fixture
def own_head(monkeypatch):
    monkeypatch.setitem(HEADS, "own", HeadEntry(OwnSettings, HEADS["ddpg"].head))


def started_as(monkeypatch, script, on_path=True):
    monkeypatch.setattr(sys, "argv", [str(script)])
    monkeypatch.setattr(invocation.shutil, "which", lambda name: f"/usr/bin/{name}" if on_path else None)


def test_a_script_of_the_checkout_names_its_neighbour(monkeypatch, tmp_path):
    (tmp_path / "sacae").mkdir()
    (tmp_path / "eval.py").write_text("")
    started_as(monkeypatch, tmp_path / "train.py")
    assert invocation.command("eval") == f"python {tmp_path / 'eval.py'}"


@pytest.mark.parametrize(
    ("script", "on_path", "expected"),
    [
        ("/env/bin/sacae", True, "sacae eval"),
        ("/env/bin/sacae", False, "/env/bin/sacae eval"),
        ("/lib/sacae/__main__.py", False, "python -m sacae eval"),
        ("mine.py", True, "sacae eval"),
        ("train.py", True, "sacae eval"),  # not this package's: there is no eval.py beside it
    ],
)
def test_an_installed_package_names_a_command_that_the_shell_finds(script, on_path, expected, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    started_as(monkeypatch, script, on_path)
    assert configs.make().how_to_play("run") == f"{expected} run"


def test_a_head_of_ones_own_is_played_by_the_script_that_registers_it(monkeypatch, own_head):
    started_as(monkeypatch, "ln_ddpg.py")
    monkeypatch.setitem(sys.modules, "sacae.cli", sys)
    assert configs.make(agent="own").how_to_play("run") == "python ln_ddpg.py eval run"
    monkeypatch.delitem(sys.modules, "sacae.cli")
    assert configs.make(agent="own").how_to_play("run") == 'sacae.load_agent("run")'


def test_a_run_of_a_settings_file_is_continued_by_its_folder(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacae.cli", sys)
    monkeypatch.setattr(sys, "argv", ["sacae", "train", "--seed", "3"])
    assert invocation.how_to_continue("run") == "the same command and --resume"
    monkeypatch.setattr(sys, "argv", ["sacae", "train", "--config=my.yaml", "--seed", "3"])
    assert invocation.how_to_continue("run") == "the same command and --resume --work-dir run in place of --config"


def test_a_baseline_is_played_by_its_own_command():
    assert make(PPOSettings).how_to_play("run") == "python -m baselines.eval run"


def test_a_run_of_another_kind_names_the_commands_for_it(monkeypatch, tmp_path, own_head):
    started_as(monkeypatch, "/env/bin/sacae")
    path = tmp_path / "config.yaml"

    def refusal(config, like):
        path.write_text(yaml.safe_dump({"agent": config.variant, "settings": configs.to_yaml(config)}))
        with pytest.raises(UserError) as refused:
            configs.load(path, like)
        return str(refused.value)

    baseline, agent = make(PPOSettings), configs.make()
    assert f"python -m baselines.eval {tmp_path} plays it" in refusal(baseline, agent)
    assert f"sacae eval {tmp_path} plays it" in refusal(agent, baseline)
    # The settings of the first are a part of the second's.
    for one, other in ((VPGSettings, PPOSettings), (NPGSettings, TRPOSettings)):
        refused = refusal(make(one), make(other))
        assert f"holds a run of the baseline {one.NAME}: python -m baselines.eval {tmp_path} plays it" in refused
        assert f"--algo {one.NAME} --resume --work-dir {tmp_path} continues it" in refused
    own = configs.make(agent="own")
    monkeypatch.delitem(HEADS, "own")
    assert "agent is own, but it must be one of" in (refused := refusal(own, agent))
    assert "python SCRIPT.py eval RUN_DIR" in refused
