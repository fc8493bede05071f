"""What tests of the bus over MongoDB share."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.reliability.proxy import Proxy


@pytest.fixture(scope="session")
def bus_proxy(mongodb_uri: str) -> Iterator[Proxy]:
    """A proxy before the server of this test run, which tests can have hold its messages."""
    server = urlsplit(mongodb_uri)
    with Proxy(server.hostname or "", server.port or 27017).running() as proxy:
        yield proxy
