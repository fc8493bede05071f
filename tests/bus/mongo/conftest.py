"""What tests of the bus over MongoDB share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pymongo
import pytest

from tests.reliability.proxy import Proxy


@pytest.fixture(scope="session")
def bus_proxy(mongodb_uri: str) -> Iterator[Proxy]:
    """A proxy before the server of this test run, which tests can have hold its messages."""
    server = urlsplit(mongodb_uri)
    with Proxy(server.hostname or "", server.port or 27017).running() as proxy:
        yield proxy


@pytest.fixture
def database(
    mongodb_client: pymongo.MongoClient[dict[str, Any]], database_name: str
) -> Iterator[Any]:
    yield mongodb_client[database_name]
    mongodb_client.drop_database(database_name)
