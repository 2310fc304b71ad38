"""Limits that hold for every setting of a type, and numbers of processes and runs that no machine is meant for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MOST_PROCESSES = 1024
"""Most environments, runs or threads side by side. Each takes memory and a process or thread of the machine."""

MOST_EPISODES = 100_000
"""Most episodes that are played at once."""

MOST_RUNS = 10_000
"""Most runs of one experiment, which are planned before the first one starts."""

LONGEST_LIST = 100_000
"""Bytes of a list of names in one word, such as the tasks of an experiment."""

LARGEST_SEED = 2**32 - 1
"""Largest seed of NumPy's RandomState, from which the tasks of the DeepMind Control suite draw."""

LARGEST_INTEGER = 2**63 - 1
"""Largest integer that NumPy and PyTorch count with."""

LONGEST_NAME = 255
"""Bytes of a file's name, in the usual file systems."""

LONGEST_PATH = 4000
"""Bytes of a path; Linux allows 4096, and files within a folder need some of them."""

ROOM_IN_NAME = 15
"""Bytes of a file's name that are left for prefixes and suffixes, such as of temporary files."""


@dataclass(frozen=True)
class Finite:
    """Numbers other than infinity and not-a-number."""

    allowed: str = "a finite number"

    def holds(self, value: float) -> bool:
        """See Bound."""
        return math.isfinite(value)


@dataclass(frozen=True)
class Countable:
    """Integers of 64 bits."""

    allowed: str = f"a whole number from -{LARGEST_INTEGER} to {LARGEST_INTEGER}"

    def holds(self, value: int) -> bool:
        """See Bound."""
        return abs(value) <= LARGEST_INTEGER


@dataclass(frozen=True)
class Text:
    """Printable text of at most so many bytes, not empty. The default leaves room in a file's name."""

    most: int = LONGEST_NAME - ROOM_IN_NAME

    @property
    def allowed(self) -> str:
        """See Bound."""
        return f"a name of 1 to {self.most} bytes, without control characters"

    def holds(self, value: str) -> bool:
        """See Bound."""
        return 0 < len(_bytes(value)) <= self.most and value.isprintable()


@dataclass(frozen=True)
class FilePath:
    """Paths that a file system takes. "" is not one; Path("") would be the current folder."""

    allowed: str = f"a path, not empty and without NUL, of at most {LONGEST_PATH} bytes, {LONGEST_NAME} in each name"

    def holds(self, value: Path | str) -> bool:
        """See Bound."""
        text = str(value)
        names = max((len(_bytes(part)) for part in Path(text).parts), default=0)
        return bool(text) and "\0" not in text and names <= LONGEST_NAME and len(_bytes(text)) <= LONGEST_PATH


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


LIMITS: Mapping[type, Finite | Countable | Text | FilePath] = {
    float: Finite(),
    int: Countable(),
    str: Text(),
    Path: FilePath(),
}
"""The limit of every setting of a type, or of each of its values if it is a tuple of them."""
