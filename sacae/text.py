"""Text for people and files: what comes from outside cannot steer a terminal, break a line or fail to be encoded."""

import io
import re
import shutil
import sys
import textwrap
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

LONGEST_VALUE = 200
"""Characters of a value in a message."""


def shortened(text: str, most: int = LONGEST_VALUE) -> str:
    """The text, with dots in its middle if it has more characters than `most`."""
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def printable(text: str) -> str:
    """The text with an escape such as \\x1b in place of each character that is not printable, except line breaks.

    These steer terminals (escape sequences, right-to-left marks) or cannot be encoded (halves of surrogate pairs).
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def say(console: "Console", text: str) -> None:
    """Prints a line as it is, without markup, broken by nothing but the terminal."""
    console.print(printable(text), highlight=False, soft_wrap=True, markup=False)


def draws_over(console: "Console") -> bool:
    """Whether a display may replace what it has printed: on a terminal that can, and not in a file.

    The variable FORCE_COLOR, which build servers set, asks for colours in files too, and for nothing else.
    """
    return console.is_interactive and console.file.isatty()


def waiting(console: "Console", text: str) -> AbstractContextManager[object]:
    """Shows a text that moves while the block runs, on a terminal."""
    return console.status(text) if draws_over(console) else nullcontext()


def substitute_what_terminals_lack() -> None:
    """Has standard output and error print an escape for a character that their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def in_time(hours: float) -> str:
    """A time for people: hours, or below one hour minutes."""
    return f"{60 * hours:.1f} minutes" if hours < 1 else f"{hours:.2f} hours"


def wrapped(text: str, indent: str = "") -> str:
    """The text with lines that are longer than the terminal is wide broken between words, and then without styles.

    indent: begins each line after a break.
    """
    width = max(40, shutil.get_terminal_size().columns)

    def broken(line: str) -> str:
        plain = STYLE.sub("", line)
        if len(plain) <= width:
            return line
        return textwrap.fill(plain, width, subsequent_indent=indent, break_on_hyphens=False)

    return "\n".join(map(broken, text.split("\n")))


STYLE = re.compile(r"\x1b\[[0-9;]*m")
"""A sequence that chooses bold or a colour, and takes no room."""
