"""The contract kit on the bus over Redis, on both runtimes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Literal

import pytest

from sagaflow.redis import RedisBus
from sagaflow.testing import BusContract
from sagaflow.testing._bus_contract.kit import OpenBus
from tests.bus.redis.servers import Way


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
class TestRedisBus(BusContract):
    url: str
    prefix: str
    way: Way

    @pytest.fixture(autouse=True)
    def _choose(self, runtime: Literal["asyncio", "trio"], prefix: str, redis_way: Way) -> None:
        self.runtime, self.prefix, self.way = runtime, prefix, redis_way
        self.url = f"redis://127.0.0.1:{redis_way.port}"

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[OpenBus]:
        def open_bus(service: str, **settings: Any) -> RedisBus:
            return RedisBus(
                self.url,
                service=service,
                prefix=self.prefix,
                operation_timeout=timedelta(seconds=2),
                **settings,
            )

        yield open_bus

    @asynccontextmanager
    async def silence(self) -> AsyncGenerator[None]:
        with self.way.silenced():
            yield
