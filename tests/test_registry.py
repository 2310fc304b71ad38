"""A registry knows names before it imports what they stand for."""

import sys

import pytest

from sacae.registry import Registry


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module that can be imported, and was not yet."""
    (tmp_path / "imported_later.py").write_text("class Head: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "imported_later"
    sys.modules.pop("imported_later", None)


def test_names_are_listed_without_an_import_and_values_import_their_module(module):
    registry = Registry({"head": f"{module}:Head"})
    assert ([*registry], len(registry), "head" in registry, "other" in registry) == (["head"], 1, True, False)
    assert module not in sys.modules
    assert registry["head"].__name__ == "Head"
    assert registry["head"] is sys.modules[module].Head


def test_an_object_can_be_registered_as_itself_and_taken_out(module):
    registry = Registry({"head": f"{module}:Head"})
    registry["own"] = dict
    assert registry["own"] is dict
    del registry["head"]
    assert [*registry] == ["own"]
    with pytest.raises(KeyError):
        registry["head"]
