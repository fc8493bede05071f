"""These tests are about MongoDB alone: where a test takes `store`, the others are left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest

from tests.mongo.support import Commands
from tests.stores import WITHOUT_SERVER

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the runs without a server of the tests in this directory."""
    dropped = [
        item
        for item in items
        if item.path.is_relative_to(HERE)
        and any(f"-{store}" in item.name for store in WITHOUT_SERVER)
    ]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]


@pytest.fixture
def commands() -> Commands:
    """What a client notes its commands in, if given as ``event_listeners=[commands]``."""
    return Commands()


@pytest.fixture
def database(
    mongodb_client: pymongo.MongoClient[dict[str, Any]], database_name: str
) -> Iterator[str]:
    """The name of a database that is dropped after the test."""
    yield database_name
    mongodb_client.drop_database(database_name)
