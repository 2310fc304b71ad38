"""From words on the command line to a command's options, by tyro; mistakes become a UserError of one line."""

import argparse
import contextlib
import io
from collections.abc import Sequence
from typing import TypeVar

import tyro

from sacae.errors import UserError

T = TypeVar("T")


def parse(kind: type[T], argv: Sequence[str], prog: str, default: T | None = None) -> T:
    """Parses a command's options. Raises UserError with tyro's complaint on one line."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            words, config = list(argv), (tyro.conf.OmitArgPrefixes,)
            if default is None:
                return tyro.cli(kind, args=words, prog=prog, config=config)
            return tyro.cli(kind, default=default, args=words, prog=prog, config=config)
    except SystemExit as stop:
        if stop.code in (None, 0):
            raise
        raise UserError(f"{_one_line(said.getvalue())}; {prog} --help lists every option") from None


def _one_line(box: str) -> str:
    """The first message in a box that tyro drew, in Unicode or ASCII, and the options it suggests."""
    sections: list[list[str]] = [[]]
    _, *lines = box.strip().splitlines() or [""]  # the first line is the box's title
    for line in lines:
        text = line.strip("│|╭╮╰╯ ")
        if set(text) <= set("─-+"):
            sections.append([])
        else:
            sections[-1].append(text)
    message, *rest = [section for section in sections if section] or [[box]]
    suggested = [line for section in rest if section[0].startswith("Perhaps") for line in section if line[0] == "-"]
    return " ".join(message).rstrip(".") + (f"; did you mean {' or '.join(suggested)}?" if suggested else "")


def early_settings(argv: Sequence[str]) -> dict[str, object]:
    """The settings that other defaults depend on, so that --help shows the defaults that really apply."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("env", "domain", "task", "obs", "decoder", "encoder", "agent", "std", "causal-entropy", "preset"):
        parser.add_argument(f"--{name}", f"--{name.replace('-', '_')}", default=argparse.SUPPRESS)
    for name, kind in {"num-layers": int, "num-filters": int, "log-std-min": float, "log-std-max": float}.items():
        parser.add_argument(f"--{name}", f"--{name.replace('-', '_')}", type=kind, default=argparse.SUPPRESS)
    try:
        return vars(parser.parse_known_args(argv)[0])
    except argparse.ArgumentError:
        return {}  # the full parser will say what is wrong
