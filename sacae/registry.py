"""Objects by name that are imported when they are first used, so that the names can be listed without PyTorch."""

import importlib
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TypeVar

T = TypeVar("T")


class Registry(MutableMapping[str, T]):
    """A mapping of names to objects, each given as itself or as its place, such as "sacae.agents.sac:SAC".

    An object with a place is imported by the first look-up of its value. Iterating over the names and `in` import
    nothing.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._entries: dict[str, T | str] = dict(places)

    def __getitem__(self, name: str) -> T:
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = self._entries[name] = getattr(importlib.import_module(module), attribute)
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
