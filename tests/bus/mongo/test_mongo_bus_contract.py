"""The contract kit on the bus over MongoDB, with every driver and runtime."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest

from sagaflow.mongo import MongoBus
from sagaflow.testing import BusContract
from sagaflow.testing._bus_contract.kit import OpenBus
from tests.databases import DRIVERS, opened_database
from tests.reliability.proxy import Fault, Harm, Proxy

FOR_EVER = 1_000_000


@pytest.mark.parametrize(
    ("runtime", "driver"), DRIVERS, ids=[f"{runtime}-{driver}" for runtime, driver in DRIVERS]
)
class TestMongoBus(BusContract):
    driver: str
    uri: str
    database: str
    proxy: Proxy

    @pytest.fixture(autouse=True)
    def _choose(
        self,
        runtime: Literal["asyncio", "trio"],
        driver: str,
        database_name: str,
        mongodb_uri: str,
        bus_proxy: Proxy,
    ) -> None:
        self.runtime, self.driver, self.database, self.proxy = (
            runtime,
            driver,
            database_name,
            bus_proxy,
        )
        port = urlsplit(mongodb_uri).port
        self.uri = mongodb_uri.replace(f":{port}", f":{bus_proxy.port}")

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[OpenBus]:
        async with opened_database(self.driver, self.uri, self.database) as database:

            def open_bus(service: str, **settings: Any) -> MongoBus:
                return MongoBus(
                    database,
                    service=service,
                    poll_interval=timedelta(milliseconds=20),
                    operation_timeout=timedelta(seconds=2),
                    **settings,
                )

            yield open_bus

    @asynccontextmanager
    async def silence(self) -> AsyncGenerator[None]:
        for command in ("find", "insert", "update"):
            self.proxy.plant(Fault(Harm.HOLD, command, times=FOR_EVER))
        try:
            yield
        finally:
            self.proxy.clear()
