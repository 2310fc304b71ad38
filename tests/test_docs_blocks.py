"""Every block of Python in the documentation runs, with tiny trainings in place of long ones."""

import re
import sys
from pathlib import Path

import pytest

import sacae
from sacae.agents import HEADS
from sacae.training.trained import TrainedAgent
from tests.training.runs import SHORT, SMALL_PIXELS

ROOT = Path(__file__).parents[1]
MARKDOWN = [
    *ROOT.glob("*.md"),
    *(path for folder in ("docs", "results", "benchmarks") for path in ROOT.glob(f"{folder}/**/*.md")),
]
BLOCK = re.compile(r"^```(?:python|py)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in MARKDOWN if BLOCK.search(path.read_text()))
TINY = SHORT | {"action_repeat": 50, "num_train_steps": 200, "device": "cpu"}
OWN_HEAD = "docs/write_your_own_head.md"


def test_every_page_that_had_python_still_has_some():
    assert {*PAGES} >= {"README.md", "docs/start.md", "docs/python.md", "docs/environments.md", OWN_HEAD}


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Runs in an empty folder; settings of a training are made tiny, whatever a page says; no page's head remains."""
    make, count = sacae.make_config, iter(range(100))

    def make_tiny(**settings):
        small = TINY | ({} if settings.get("obs") == "state" else SMALL_PIXELS)
        return make(**settings | small | {"preset": "sac_ae", "work_dir": tmp_path / f"run-{next(count)}"})

    monkeypatch.setattr(sacae, "make_config", make_tiny)
    monkeypatch.chdir(tmp_path)
    before = dict(HEADS)
    yield
    HEADS.clear()
    HEADS.update(before)


def run_blocks(page):
    """The names that a page's blocks define, run one after another as the script that is started."""
    names = {"__name__": "__main__"}
    for number, block in enumerate(BLOCK.findall((ROOT / page).read_text())):
        exec(compile(block, f"{page}, block {number}", "exec"), names)
    return names


@pytest.mark.parametrize("page", [page for page in PAGES if page != OWN_HEAD])
def test_every_python_block_of_a_page_runs(page, tiny, tmp_path):
    (tmp_path / "results").symlink_to(ROOT / "results")
    (tmp_path / "this folder").symlink_to((ROOT / page).parent)  # as a model card calls its own
    names = run_blocks(page)
    if "agent" in names:
        assert isinstance(names["agent"], TrainedAgent)
        assert names.get("ended", True)
    for name in ("env", "vector"):
        if name in names:
            names[name].close()


def test_the_script_of_a_head_of_ones_own_trains_it(tiny, monkeypatch, tmp_path):
    words = "train --agent ln_ddpg --domain cartpole --task swingup --obs state --no-overlap --num-train-steps 20"
    words += " --seed-steps 5 --initial-updates 2 --batch-size 4 --num-eval-episodes 1 --no-save-video"
    words += " --action-repeat 50 --hidden-dim 16 --work-dir run"
    monkeypatch.setattr(sys, "argv", ["ln_ddpg.py", *words.split()])
    with pytest.raises(SystemExit) as stop:
        run_blocks(OWN_HEAD)
    assert stop.value.code == 0
    assert (tmp_path / "run" / "train.csv").is_file()


def test_the_first_script_has_at_most_ten_lines_and_its_page_at_most_four_commands():
    text = (ROOT / "docs" / "start.md").read_text()
    (script,) = BLOCK.findall(text)
    assert len([line for line in script.splitlines() if line]) <= 10
    before = text.split("## Look")[0]
    assert len(re.findall(r"^    (?:python|pip|sacae|make) ", BLOCK.sub("", before), re.MULTILINE)) <= 4
