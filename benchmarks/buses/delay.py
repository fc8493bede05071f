"""How long after its event was stored a command is on the broker."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from statistics import median
from typing import Final

import anyio

from benchmarks.buses.control import PLACE, instant
from benchmarks.buses.places import Place, fresh_place
from benchmarks.buses.team import Team, team_at
from benchmarks.measuring import Measurement
from benchmarks.orders import OrderSaga, orders
from benchmarks.server import open_repository
from sagaflow import Observer, Orchestrator
from sagaflow.observing import Activity, ActivityKind

_LONGEST_PAUSE: Final = 0.1
_GOLDEN: Final = 0.618_033_988_749_895
"""Multiples of it, modulo 1, are spread evenly: the pauses fall on no rhythm of the workers."""
_MILLISECOND: Final = 1e6


class _Stored(Observer):
    """Notes when the first event of an order was stored by this process."""

    def __init__(self, team: Team) -> None:
        self._team = team

    @contextmanager
    def observe(self, activity: Activity) -> Generator[None]:
        """Note it, when it is over."""
        yield
        if activity.kind is ActivityKind.COMMIT and activity.outcome == "won":
            self._team.stored.setdefault(str(activity.correlation_id), instant())


def delay(*, bus: str, number: int, uri: str, broker: str = "") -> Measurement:
    """Time commands whose event the sending worker has stored, and those of another process."""
    with fresh_place(bus=bus, broker=broker, uri=uri) as place:
        beside, apart = anyio.run(_delays, place, number)
    return Measurement({"beside": beside, "apart": apart})


async def _delays(place: Place, number: int) -> tuple[float, float]:
    async with team_at(place) as team:
        worker = await team.start("sending")
        await worker.tell(PLACE, number)
        beside = await _median(team, number)
        team.stored.clear()
        team.sent.clear()
        await _store(team, number)
        apart = await _median(team, number)
    return beside, apart


async def _store(team: Team, number: int) -> None:
    """Store the first events of orders, as a web process does, and leave the rest to the worker."""
    place = team.place
    async with (
        open_repository("pymongo-async", place.server, place.database, OrderSaga) as repository,
        Orchestrator(
            [OrderSaga], repository, background=False, observers=_Stored(team)
        ) as orchestrator,
    ):
        for index, order in enumerate(orders(number, prefix="apart")):
            await anyio.sleep(index * _GOLDEN % 1 * _LONGEST_PAUSE)
            await orchestrator.handle(order.events[0], message_id=order.message_ids[0], wait=False)


async def _median(team: Team, number: int) -> float:
    """Return the median delay of so many orders, in milliseconds."""
    await team.until(lambda: len(team.sent) == len(team.stored) == number)
    taken = [team.sent[order] - team.stored[order] for order in team.sent]
    return median(taken) / _MILLISECOND
