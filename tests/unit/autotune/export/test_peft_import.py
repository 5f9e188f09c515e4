"""A command that only writes a configuration of peft imports it without bitsandbytes."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from autotune.export.peft_import import _hidden, import_peft_alone


def test_a_hidden_module_cannot_be_imported_until_the_block_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "xml.sax", raising=False)
    with _hidden("xml.sax"), pytest.raises(ModuleNotFoundError):
        import xml.sax
    import xml.sax

    assert isinstance(xml.sax, ModuleType)


def test_a_module_that_is_imported_already_stays() -> None:
    with _hidden("sys"):
        assert sys.modules["sys"] is sys


def test_an_imported_peft_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    already = ModuleType("peft")
    monkeypatch.setitem(sys.modules, "peft", already)
    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    import_peft_alone()
    assert sys.modules["peft"] is already
    assert "bitsandbytes" not in sys.modules
