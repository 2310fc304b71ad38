"""Which commands there are where this process was started, for lines that name the next one to type."""

import shutil
import sys
from pathlib import Path

COMMAND = "sacae"


def command(name: str) -> str:
    """A command of the package: by the checkout's script, or by `sacae` if the shell finds it, or by Python."""
    script = Path(sys.argv[0])
    sibling = script.with_name(f"{name}.py")
    if script.name in ("train.py", "eval.py") and sibling.is_file() and script.with_name("sacae").is_dir():
        return f"python {sibling}"
    if shutil.which(COMMAND):
        return f"{COMMAND} {name}"
    return f"{script} {name}" if script.name == COMMAND else f"python -m sacae {name}"


def command_of_script(name: str) -> str:
    """A command of a script that runs `sacae.cli.main`, as one with a head of its own does; "" if this one does not."""
    return f"python {sys.argv[0]} {name}" if "sacae.cli" in sys.modules else ""


def how_to_continue(folder: Path) -> str:
    """What continues a stopped run where it was started: the command line, or Python."""
    if "sacae.cli" not in sys.modules:
        return f'sacae.resume("{folder}")'
    of_file = any(word.split("=")[0] == "--config" for word in sys.argv)
    return "the same command and " + (f"--resume --work-dir {folder} in place of --config" if of_file else "--resume")
