"""Buses on an empty broker, which is left empty."""

# The client leaves some types open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final, TypeAlias

import anyio
import nats

from sagaflow import RetryPolicy
from sagaflow._concurrency.asyncio_portal import AsyncioPortal
from sagaflow.nats import NatsBus
from sagaflow.testing._bus_contract.kit import MESSAGES, Noted, Seen

SHORT: Final = timedelta(milliseconds=600)
QUICK: Final = RetryPolicy(
    initial_delay=timedelta(milliseconds=20), max_delay=timedelta(milliseconds=40)
)
OpenNats: TypeAlias = Callable[..., NatsBus]


async def ask(port: int, question: Callable[[Any], Awaitable[Any]]) -> Any:
    """Have a client do something with JetStream, on whatever runtime the test runs."""

    async def on_asyncio() -> Any:
        client = await nats.connect(f"nats://127.0.0.1:{port}")
        try:
            return await question(client.jetstream())
        finally:
            await client.close()

    portal = AsyncioPortal()
    try:
        return await portal.call(on_asyncio)
    finally:
        await portal.aclose()


@asynccontextmanager
async def emptied(port: int, prefix: str) -> AsyncGenerator[None]:
    """Remove the streams of a test at its end."""

    async def remove(context: Any) -> None:
        for one in await context.streams_info():
            if one.config.name.startswith((prefix, f"KV_{prefix}")):
                await context.delete_stream(one.config.name)

    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await ask(port, remove)


def bus_on(port: int, prefix: str) -> OpenNats:
    """Return what makes a bus of a service."""

    def opened(service: str, **settings: Any) -> NatsBus:
        uri = settings.pop("uri", f"nats://127.0.0.1:{port}")
        defaults: dict[str, Any] = {"messages": MESSAGES, "prefix": prefix, "retry": QUICK}
        return NatsBus(uri, service=service, **{**defaults, **settings})

    return opened


def is_down(bus: NatsBus) -> bool:
    return bus.down_since is not None


async def subscribe_once(bus: NatsBus, seen: Seen) -> None:
    """Have messages kept for a service that does not run."""
    bus.subscribe(Noted, seen.add)
    async with bus:
        pass


async def limit_size(port: int, stream: str, size: int) -> None:
    """Have a stream refuse what is larger; -1 for no limit."""

    async def change(context: Any) -> None:
        config = (await context.stream_info(stream)).config
        await context.update_stream(config.evolve(max_msg_size=size))

    await ask(port, change)
