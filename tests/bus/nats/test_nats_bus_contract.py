"""The contract kit on the bus over NATS JetStream, on both runtimes and two servers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Literal

import pytest

from sagaflow.nats import NatsBus
from sagaflow.testing import BusContract
from sagaflow.testing._bus_contract.kit import OpenBus
from tests.bus.nats.opened import emptied
from tests.bus.nats.proxy import Proxy


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
class TestNatsBus(BusContract):
    port: int
    prefix: str
    proxy: Proxy

    @pytest.fixture(autouse=True)
    def _choose(
        self, runtime: Literal["asyncio", "trio"], nats_port: int, prefix: str, proxy: Proxy
    ) -> None:
        self.runtime, self.port, self.prefix, self.proxy = runtime, nats_port, prefix, proxy

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[OpenBus]:
        async with emptied(self.port, self.prefix):

            def open_bus(service: str, **settings: Any) -> NatsBus:
                return NatsBus(
                    f"nats://127.0.0.1:{self.proxy.port}",
                    service=service,
                    prefix=self.prefix,
                    operation_timeout=timedelta(seconds=2),
                    **settings,
                )

            yield open_bus

    @asynccontextmanager
    async def silence(self) -> AsyncGenerator[None]:
        with self.proxy.silent():
            yield
