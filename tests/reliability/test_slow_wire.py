"""The contract kit on a wire that delays each message and delivers it in two parts."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Final, Literal

import pytest

from sagaflow import SagaRepository
from sagaflow.testing import ManualClock, RepositoryContract
from tests.reliability.proxy import Proxy
from tests.stores import opened

DELAY: Final = 0.002
"""Seconds before each half of a message."""


@pytest.mark.soak
class TestRepositoriesOnASlowWire(RepositoryContract):
    store: str
    uri: str
    database: str

    @pytest.fixture(autouse=True)
    def _choose(
        self,
        anyio_backend: Literal["asyncio", "trio"],
        store: str,
        database_name: str,
        proxy: Proxy,
    ) -> None:
        proxy.delay = DELAY
        self.runtime, self.store, self.database = anyio_backend, store, database_name
        self.uri = f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true&retryWrites=false"

    def open(self, clock: ManualClock) -> AbstractAsyncContextManager[SagaRepository]:
        return opened(self.store, self.uri, self.database, clock)
