"""The contract kit on the bus over RabbitMQ, on both runtimes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest

from sagaflow.rabbitmq import RabbitBus
from sagaflow.testing import BusContract
from sagaflow.testing._bus_contract.kit import OpenBus
from tests.bus.rabbitmq.proxy import TcpProxy


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
class TestRabbitBus(BusContract):
    uri: str
    prefix: str
    proxy: TcpProxy

    @pytest.fixture(autouse=True)
    def _choose(
        self,
        runtime: Literal["asyncio", "trio"],
        rabbitmq_uri: str,
        rabbitmq_proxy: TcpProxy,
        prefix: str,
    ) -> None:
        self.runtime, self.prefix, self.proxy = runtime, prefix, rabbitmq_proxy
        port = urlsplit(rabbitmq_uri).port
        self.uri = rabbitmq_uri.replace(f":{port}", f":{rabbitmq_proxy.port}")

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[OpenBus]:
        def open_bus(service: str, **settings: Any) -> RabbitBus:
            return RabbitBus(
                self.uri,
                service=service,
                prefix=self.prefix,
                partitions=4,
                balance_interval=timedelta(milliseconds=100),
                operation_timeout=timedelta(seconds=3),
                **settings,
            )

        yield open_bus

    @asynccontextmanager
    async def silence(self) -> AsyncGenerator[None]:
        self.proxy.hold()
        try:
            yield
        finally:
            self.proxy.release()
