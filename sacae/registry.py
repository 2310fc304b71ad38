"""Objects by name that are imported when they are first used, so that the names can be listed without PyTorch."""

import importlib
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, TypeVar

T = TypeVar("T")


def found(entry: Any) -> Any:
    """An object that is given as itself or as its place, such as "sacae.agents.sac:SAC", which is then imported."""
    if not isinstance(entry, str):
        return entry
    module, _, attribute = entry.partition(":")
    return getattr(importlib.import_module(module), attribute)


class Registry(MutableMapping[str, T]):
    """A mapping of names to objects, each given as itself or as its place, as `found` takes them.

    An object with a place is imported by the first look-up of its value. Iterating over the names and `in` import
    nothing.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._entries: dict[str, T | str] = dict(places)

    def __getitem__(self, name: str) -> T:
        entry: T = found(self._entries[name])
        self._entries[name] = entry
        return entry

    def __setitem__(self, name: str, value: T) -> None:
        self._entries[name] = value

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries  # Mapping's own would import the object
