"""The command line: `sacae train`, `eval`, `ablate` and so on, as COMMANDS lists them; `python -m sacae` is the same.

A command is imported when it is run. Mistakes end in one line on standard error and exit status 2, Ctrl-C in status
130. What cannot be printed, because the terminal or the reader of a pipe is gone, is dropped: the command goes on.
"""

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence

from sacae.errors import UserError, did_you_mean
from sacae.output import lasting
from sacae.signals import INTERRUPTED, interrupted_once
from sacae.text import printable, shortened, substitute_what_terminals_lack, wrapped

Command = Callable[[Sequence[str], str], int]
"""What runs a command, given the words after its name and the name to show in messages; returns the exit status."""

COMMANDS = {
    "demo": ("Demo", "demo"),
    "train": ("Train", "train"),
    "eval": ("Evaluate", "evaluate"),
    "ablate": ("Ablate", "ablate"),
    "sweep": ("Sweep", "sweep"),
    "probe": ("Probe", "probe"),
    "show": ("Show", "show"),
    "export": ("Export", "export"),
    "report": ("Report", "report"),
    "reproduce": ("Reproduce", "reproduce"),
    "prune": ("Prune", "prune"),
    "check-env": ("CheckEnv", "check_env"),
    "doctor": ("Doctor", "doctor"),
}
"""Options and function of each command, by their names in sacae/commands/<command>.py, with _ in place of -."""


def load(name: str) -> tuple[type, Command]:
    """Imports the options and the function of a command. Raises UserError for a name that is not in COMMANDS."""
    if name not in COMMANDS:
        raise UserError(
            f"there is no command {shortened(name)!r}, only {', '.join(COMMANDS)}{did_you_mean(name, COMMANDS)}"
        )
    module = importlib.import_module(f"sacae.commands.{name.replace('-', '_')}")
    options, function = COMMANDS[name]
    return getattr(module, options), getattr(module, function)


def main(argv: Sequence[str] | None = None) -> int:
    """The `sacae` command. Returns the exit status."""
    substitute_what_terminals_lack()
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name == "--version":
        return guarded(_version, rest, "sacae")
    if name in ("-h", "--help"):
        return guarded(_help, rest, "sacae")
    return run(name, rest, f"sacae {name}" if name in COMMANDS else "sacae")


def _version(_argv: Sequence[str], prog: str) -> int:
    """Prints the package's version."""
    import sacae

    print(prog, sacae.__version__)
    return 0


def _help(_argv: Sequence[str], prog: str) -> int:
    """Prints the commands."""
    summaries = {command: _summary(load(command)[0]) for command in COMMANDS}
    lines = [wrapped(f"  {command:10s} {summary}", " " * 13) for command, summary in summaries.items()]
    more = f"{prog} COMMAND --help shows its options, {prog} --version the version."
    print("\n".join([f"usage: {prog} COMMAND [OPTIONS]", "", *lines, "", more]))
    return 0


def _summary(options: type) -> str:
    """The first line of a docstring; "" under python -OO, which drops them."""
    return (options.__doc__ or "").partition("\n")[0]


def run(name: str, argv: Sequence[str], prog: str) -> int:
    """Runs one command, turning a UserError into a line on standard error and status 2."""
    return guarded(lambda argv, prog: load(name)[1](argv, prog), argv, prog)


def guarded(command: Command, argv: Sequence[str], prog: str) -> int:
    """A command's exit status, with a UserError or a lack of permission as a line on standard error and status 2."""
    # Two libraries announce their own future on every start; nothing a user could act on.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    substitute_what_terminals_lack()
    with interrupted_once(), lasting():
        try:
            return command(argv, prog)
        except UserError as error:
            print(printable(f"{prog}: error: {' '.join(str(error).split())}"), file=sys.stderr)
            return 2
        except PermissionError as error:
            where = printable(str(error.filename or "a file or folder"))
            print(f"{prog}: error: {where} cannot be read or written: check its permissions", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
