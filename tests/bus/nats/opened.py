"""Buses on an empty broker, which is left empty."""

# The client leaves some types open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import nats

from sagaflow._concurrency.asyncio_portal import AsyncioPortal


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
