"""Each planted mistake still finds the place that it is to spoil, and leaves none behind."""

from __future__ import annotations

import pytest

from sagaflow.mongo import MongoRepository
from tests.chaos.mistakes import MISTAKES


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_replaces_something_of_the_library(name: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        MISTAKES[name](patch, MongoRepository)
        replaced = patch._setattr  # pyright: ignore[reportPrivateUsage]
        assert replaced
        for owner, attribute, original in replaced:
            module: str = getattr(owner, "__name__", "") + getattr(owner, "__module__", "")
            assert "sagaflow" in module
            assert vars(owner)[attribute] is not original


def test_there_are_enough_of_them() -> None:
    assert len(MISTAKES) >= 10
