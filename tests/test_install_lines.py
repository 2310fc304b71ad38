"""Lines that install the package: each works from a clone, and none asks a registry for a stranger's `sacae`."""

import configparser
import re
from pathlib import Path

import pytest

from sacae.errors import how_to_install

ROOT = Path(__file__).parents[1]
FOLDERS = ("sacae", "baselines", "docs", "examples", "benchmarks", "results", "tests", ".github")
KINDS = {".py", ".md", ".ipynb", ".yml", ".yaml", ".html", ".j2"}
TEXTS = [
    *(path for path in ROOT.iterdir() if path.suffix in KINDS or path.name == "Dockerfile"),
    *(
        path
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in KINDS and path != Path(__file__)
    ),
]
COMMAND = re.compile(r"pip install ([^\n`]*)")
OWN = re.compile(r"""(?:^|[\s"'])(?:\.(?=\[|[\s"']|$)|sacae(?![\w.-]))""")
"""A word that names this package: a dot, a dot with extras, or its name."""

FORM = re.compile(r"-c constraints\.txt -e (?:\.(?=\s|$)|'\.\[(?P<extras>[\w,]+|\{extra\})\]')")


def extras() -> set[str]:
    """The extras of setup.cfg."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return {*parser["options.extras_require"]}


def faults(text: str) -> list[str]:
    """The lines of a text that install this package in another way than from a clone, with the tested versions."""
    found = ["sacae" + rest for rest in re.findall(r"sacae(\[[a-z]\w*\])['\"`]", text)]
    for line in COMMAND.findall(text):
        form = FORM.match(line)
        named = {*((form["extras"] or "").split(","))} - {"", "{extra}"} if form else set()
        if OWN.search(line) and (form is None or not named <= extras()):
            found.append(line)
    return found


def test_pages_code_and_tests_install_the_package_from_a_clone_only():
    assert len(TEXTS) > 300
    assert {str(path.relative_to(ROOT)): lines for path in TEXTS if (lines := faults(path.read_text()))} == {}


@pytest.mark.parametrize(
    "line",
    [
        "pip install sacae",
        "pip install 'sacae[atari]'",
        "pip install -e .",
        "pip install .",
        "pip install -e '.[atari]'",
        "uv pip install '.[atari]'",
        "pip install -c constraints.txt -e '.[attari]'",
        "run it with sacae[ray]'",
    ],
)
def test_other_forms_are_found(line):
    assert faults(line)


@pytest.mark.parametrize(
    "line",
    [
        "pip install -c constraints.txt -e .",
        "uv pip install -c constraints.txt -e '.[report,atari]'",
        "pip install -c constraints.txt stable-baselines3==2.9.2",
        'pip install "gymnasium[box2d]"',
        "sacae[0]",
    ],
)
def test_the_form_and_other_packages_are_not_faults(line):
    assert not faults(line)


def test_messages_name_the_same_form():
    line = how_to_install("atari")
    assert "clone" in line
    assert "pip install -c constraints.txt -e '.[atari]'" in line
    assert not faults(line)
