"""Help at once: no command imports PyTorch or a simulator before it is known what is to be run."""

import json
import subprocess
import sys
from pathlib import Path

from baselines.train import NAMES
from sacae.cli import COMMANDS

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "mujoco", "dm_control"}

ASKS_FOR_HELP = [
    ["sacae", "--help"],
    *(["sacae", command, "--help"] for command in COMMANDS),
    ["train.py", "--help"],
    ["eval.py", "--help"],
    ["baselines.train", "--help"],
    *(["baselines.train", "--algo", name, "--help"] for name in NAMES),
    ["baselines.eval", "--help"],
]

# One process for all, since most of a command's time is the imports that they share. It ends with the first import of
# something heavy, after which later commands could not be judged.
PROGRAM = """
import contextlib, io, json, runpy, sys

heavy, *calls = json.loads(sys.argv[1])
for words in calls:
    sys.argv, said = words, io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        if words[0].endswith(".py"):
            runpy.run_path(words[0], run_name="__main__")
        else:
            runpy.run_module(words[0], run_name="__main__")
    imported = [name for name in heavy if name in sys.modules]
    print(json.dumps([words, imported, said.getvalue()]))
    if imported:
        break
"""


def test_help_of_every_command_is_printed_without_pytorch_and_simulators():
    argument = json.dumps([sorted(HEAVY), *ASKS_FOR_HELP])
    command = [sys.executable, "-c", PROGRAM, argument]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    asked = []
    for line in done.stdout.splitlines():
        words, imported, help_text = json.loads(line)
        assert not imported, f"{' '.join(words)} imports {', '.join(imported)}"
        assert "usage: " in help_text
        assert "--help" in help_text
        asked.append(words)
    assert asked == ASKS_FOR_HELP
