from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymongo
import pytest

from tests.commands.support import Stored, database
from tests.commands.workers import Workers


@pytest.fixture
def stored(
    mongodb_uri: str, mongodb_client: pymongo.MongoClient[dict[str, Any]]
) -> Iterator[Stored]:
    """An empty database, and the commands upon it."""
    with database(mongodb_uri, mongodb_client) as found:
        yield found


@pytest.fixture
def workers(
    mongodb_uri: str, mongodb_client: pymongo.MongoClient[dict[str, Any]], database_name: str
) -> Iterator[Workers]:
    """An empty database, and worker processes upon it."""
    found = Workers(mongodb_uri, database_name, mongodb_client)
    yield found
    found.close()
    mongodb_client.drop_database(database_name)
