"""The contract kit on the bus over Kafka, on both runtimes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Literal

import pytest

from sagaflow.kafka import KafkaBus
from sagaflow.testing import BusContract
from sagaflow.testing._bus_contract.kit import OpenBus
from tests.bus.kafka.servers import KafkaCluster


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
class TestKafkaBus(BusContract):
    prefix: str
    cluster: KafkaCluster

    @pytest.fixture(autouse=True)
    def _choose(
        self, runtime: Literal["asyncio", "trio"], prefix: str, kafka_cluster: KafkaCluster
    ) -> None:
        self.runtime, self.prefix, self.cluster = runtime, prefix, kafka_cluster

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[OpenBus]:
        def open_bus(service: str, **settings: Any) -> KafkaBus:
            return KafkaBus(
                self.cluster.uri,
                service=service,
                prefix=self.prefix,
                # The mock waits for members that are to join for as long as this, less a second.
                lease_duration=timedelta(seconds=2.5),
                operation_timeout=timedelta(seconds=2),
                **settings,
            )

        yield open_bus

    @asynccontextmanager
    async def silence(self) -> AsyncGenerator[None]:
        with self.cluster.silenced():
            yield
