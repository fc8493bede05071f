"""Which services take which names, in one entry that all publishers read. Runs on asyncio."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping
from typing import Any, Final, cast

from attrs import define, field

from sagaflow._model.errors import BusError
from sagaflow.nats.link import Link
from sagaflow.nats.names import Names

_TRIES: Final = 50

Readers = Mapping[str, frozenset[str]]
"""The names that each service takes."""


@define(eq=False)
class Registry:
    """The registry as this process knows it.

    Each publication reads the entry, so that a service which has just subscribed misses nothing.
    Those that wait for it at the same time share one reading, which began after they did.
    """

    link: Link
    names: Names
    _readers: Readers = field(factory=dict[str, frozenset[str]], init=False)
    _revision: int = field(default=0, init=False)
    _next: asyncio.Task[None] | None = field(default=None, init=False)
    _running: asyncio.Task[None] | None = field(default=None, init=False)

    def known(self, name: str) -> frozenset[str]:
        """Return the services of which this process knows that they take a name."""
        return frozenset(one for one, taken in self._readers.items() if name in taken)

    def read_soon(self) -> asyncio.Task[None]:
        """Have the entry read, after this call, and return what to wait for with a shield."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._read_after(self._running))
            self._next.add_done_callback(_look_at)
        return self._next

    async def _read_after(self, running: asyncio.Task[None] | None) -> None:
        if running is not None and not running.done():
            await asyncio.wait([running])
        self._running, self._next = self._next, None
        await self._read()

    async def _read(self) -> None:
        """Read the entry.

        :raises BusError: if the server cannot be reached, or the entry is damaged.
        """
        found = await self.link.last(self.names.registry, self.names.readers)
        if found is None:
            self._readers, self._revision = {}, 0
        elif found.number != self._revision:
            self._readers, self._revision = _readers_in(found.body), found.number

    async def add(self, taken: Collection[str]) -> None:
        """Note that this service takes some names.

        :raises BusError: if the server cannot be reached, or refuses.
        """
        service = self.names.service
        for _ in range(_TRIES):
            await self._read()
            mine = self._readers.get(service, frozenset())
            if mine >= set(taken):
                return
            changed = {**self._readers, service: mine | set(taken)}
            text = json.dumps({one: sorted(its) for one, its in sorted(changed.items())})
            operation = "note what the service takes"
            if await self.link.replace(
                self.names.readers, text.encode(), self._revision, operation
            ):
                return
        raise BusError(f"cannot note what {service} takes: others change it all the time")


def _look_at(task: asyncio.Task[None]) -> None:
    """Take note of a failure that nobody may have waited for."""
    if not task.cancelled():
        task.exception()


def _readers_in(data: bytes) -> Readers:
    try:
        found: Any = json.loads(data)
        return {
            str(service): frozenset(str(name) for name in cast("list[object]", its))
            for service, its in found.items()
        }
    except (ValueError, AttributeError, TypeError) as exc:
        raise BusError(
            "the entry 'readers' of the registry is damaged: it has to say in JSON which service "
            "takes which names"
        ) from exc
