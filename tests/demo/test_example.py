"""The demo runs the file that is shown to users."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sagaflow.demo.example import DIRECTORIES, load, orders
from sagaflow.exceptions import SagaflowError


def test_the_demo_uses_the_example_of_the_checkout_or_of_the_wheel() -> None:
    assert orders.__file__ in {str(directory / "orders.py") for directory in DIRECTORIES}
    assert sys.modules[orders.OrderSaga.__module__] is orders


def test_the_first_directory_that_has_the_example_is_taken(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("1", "2", "3"))
    for directory in (second, third):
        directory.mkdir()
        (directory / "probe.py").write_text(f"WHERE = {directory.name!r}", encoding="utf-8")
    module = load("probe", (first, second, third))
    try:
        assert module.WHERE == "2"
        assert sys.modules["sagaflow.demo.probe"] is module
    finally:
        del sys.modules["sagaflow.demo.probe"]


def test_an_example_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SagaflowError, match=r"probe\.py is missing .* install sagaflow again"):
        load("probe", (tmp_path,))
