from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymongo
import pytest

from tests.commands.support import Stored, database


@pytest.fixture
def stored(
    mongodb_uri: str, mongodb_client: pymongo.MongoClient[dict[str, Any]]
) -> Iterator[Stored]:
    """An empty database, and the commands upon it."""
    with database(mongodb_uri, mongodb_client) as found:
        yield found
