"""Buses on an empty broker, which is left empty."""

# The client leaves some types open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import nats

from sagaflow._concurrency.asyncio_portal import AsyncioPortal


async def remove_streams(port: int, prefix: str) -> None:
    """Remove the streams whose names begin with a prefix."""
    client = await nats.connect(f"nats://127.0.0.1:{port}")
    try:
        context = client.jetstream()
        found: Any = await context.streams_info()
        for one in found:
            if one.config.name.startswith((prefix, f"KV_{prefix}")):
                await context.delete_stream(one.config.name)
    finally:
        await client.close()


@asynccontextmanager
async def emptied(port: int, prefix: str) -> AsyncGenerator[None]:
    """Remove the streams of a test at its end."""
    portal = AsyncioPortal()
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await portal.call(remove_streams, port, prefix)
            await portal.aclose()
