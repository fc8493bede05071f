"""Sagas with dates may be used for the first time while freezegun holds the time still.

The annotations here are strings, so they are looked up in this module when a class is used for the
first time; freezegun has put its own classes there meanwhile.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import anyio
import pytest
from attrs import field, frozen
from freezegun import freeze_time

from sagaflow import Context, MemoryRepository, Orchestrator, Saga, State, during, initially
from sagaflow._forms.forms import form_of

RUNTIMES = ["anyio", "asyncio", "trio"]


@frozen
class Begun:
    order: str


@frozen
class Packed:
    order: str


@frozen
class Promised:
    order: str
    day: date
    others: list[date | datetime] = field(factory=list[date | datetime])


def delivery() -> type[Saga]:
    """Return a class that nothing has looked at yet; so is its event, the first time."""

    class Delivery(Saga, correlate_by="order"):
        packing = State()
        packed = State()
        promised = State(final=True)

        since: datetime | None = None
        days: list[date] = field(factory=list[date])

        @initially.on(Begun).goto(packing)
        def begin(self, event: Begun, ctx: Context) -> None:
            self.since = ctx.now

        early = during(packing).on(Promised).defer()
        pack = during(packing).on(Packed).goto(packed)

        @during(packed).on(Promised).goto(promised)
        def promise(self, event: Promised, ctx: Context) -> None:
            self.days.append(event.day)

    return Delivery


async def delivered(saga_type: type[Saga]) -> Any:
    repository = MemoryRepository()
    day = date(2030, 3, 1)
    for event in (Begun("o"), Promised("o", day, [day, datetime.now(UTC)]), Packed("o")):
        await Orchestrator([saga_type], repository).handle(event)
    found = await Orchestrator([saga_type], repository).find(saga_type, "o")
    assert found is not None
    return found.saga


def test_class_that_is_first_used_in_frozen_time_works_in_it_and_after_it() -> None:
    with freeze_time("2030-02-28 12:00", ignore=RUNTIMES):
        saga_type = delivery()
        then = anyio.run(delivered, saga_type)
    now = anyio.run(delivered, saga_type)
    assert then.since == datetime(2030, 2, 28, 12, tzinfo=UTC)
    assert now.since < datetime(2030, 1, 1, tzinfo=UTC)
    assert then.days == now.days == [date(2030, 3, 1)]


def test_class_that_was_used_before_works_in_frozen_time() -> None:
    saga_type = delivery()
    anyio.run(delivered, saga_type)
    with freeze_time("2030-02-28 12:00", ignore=RUNTIMES):
        assert anyio.run(delivered, saga_type).since == datetime(2030, 2, 28, 12, tzinfo=UTC)


@pytest.mark.parametrize("frozen_first", [False, True])
def test_stored_form_does_not_depend_on_when_a_type_was_first_seen(frozen_first: bool) -> None:
    day = date(2030, 3, 1)

    @frozen
    class Dated:
        at: date | str

    if frozen_first:
        with freeze_time("2030-02-28 12:00"):
            form_of(Dated)
    assert form_of(Dated).encode(Dated(day)) == {"at": {"@type": "date", "value": "2030-03-01"}}


def test_value_made_in_frozen_time_is_stored_as_a_plain_one() -> None:
    with freeze_time("2030-02-28 12:00"):
        made = datetime.now(UTC)
    assert type(form_of(datetime).encode(made)) is datetime
