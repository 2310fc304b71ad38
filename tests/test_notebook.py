"""The notebook in examples/: all of its cells run, with tiny sizes, and show what they say."""

import copy
import json
import os
from pathlib import Path

import pytest

from sacae.experiments import demo
from tests.training.runs import SHORT, SMALL_PIXELS

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "examples" / "sac_ae_in_ten_minutes.ipynb"


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_notebook_is_stored_without_outputs(notebook):
    nbformat.validate(notebook)
    assert not [cell for cell in code(notebook) if cell.outputs or cell.execution_count]


def test_the_notebook_trains_what_the_demo_trains(notebook):
    first = code(notebook)[0].source
    names = {}
    exec(compile(first[first.index("settings = {") : first.index("# Other settings")], NOTEBOOK.name, "exec"), names)
    assert names["settings"] == demo.SETTINGS


@pytest.fixture(scope="module")
def executed(notebook, tmp_path_factory):
    """The notebook after a user ran all cells."""
    folder = tmp_path_factory.mktemp("notebook")
    small = SMALL_PIXELS | SHORT | {"action_repeat": 50, "num_train_steps": 400, "save_video": True}
    environment = {
        "SACAE_NOTEBOOK_SETTINGS": json.dumps(small | {"work_dir": str(folder / "run")}),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "IPYTHONDIR": str(folder / "ipython"),
    }
    client = nbclient.NotebookClient(
        copy.deepcopy(notebook), timeout=300, resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=os.environ | environment)
    return client.nb, folder / "run"


def test_all_cells_run_and_leave_an_agent_a_video_and_a_probe(executed):
    notebook, run = executed
    assert all(cell.execution_count for cell in code(notebook))
    for name in ("checkpoint/state.pt", "curve.png", "video/400.mp4", "probe/probe.csv"):
        assert (run / name).is_file()


def test_cells_show_a_curve_a_video_reconstructions_the_latent_and_the_probe(executed):
    shown = [output for cell in code(executed[0]) for output in cell.outputs]
    assert not [output for output in shown if output.output_type == "error"]
    kinds = [kind for output in shown for kind in output.get("data", {})]
    assert kinds.count("image/png") == 4
    assert [text for output in shown for text in [output.get("data", {}).get("text/html", "")] if "<video" in text]
    text = "".join(output.get("text", "") for output in shown)
    assert "in 20 agent steps; an observation is uint8 (9, 48, 48)" in text
    assert "random encoder" in text
