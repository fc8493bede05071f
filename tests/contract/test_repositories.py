"""The contract kit on the repositories that come with the library, with every driver."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Literal

import pytest

from sagaflow import SagaRepository
from sagaflow.testing import ManualClock, RepositoryContract
from tests.stores import WITHOUT_SERVER, opened


class TestRepositories(RepositoryContract):
    store: str
    uri: str
    database: str

    @pytest.fixture(autouse=True)
    def _choose(
        self,
        anyio_backend: Literal["asyncio", "trio"],
        store: str,
        database_name: str,
        request: pytest.FixtureRequest,
    ) -> None:
        self.runtime, self.store, self.database = anyio_backend, store, database_name
        self.uri = "" if store in WITHOUT_SERVER else request.getfixturevalue("mongodb_uri")

    def open(self, clock: ManualClock) -> AbstractAsyncContextManager[SagaRepository]:
        return opened(self.store, self.uri, self.database, clock)
