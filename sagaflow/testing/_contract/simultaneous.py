"""Writes at the same time: each caller is told what became of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import anyio
from attrs import evolve

from sagaflow._codec.documents import Bookkeeping, DocumentChange, encode_change, encode_record
from sagaflow._model.record import SagaRecord
from sagaflow.abc import SagaRepository
from sagaflow.testing._contract.kit import Contract, promise
from sagaflow.testing._contract.records import (
    NOW,
    PARCEL,
    document,
    load,
    outgoing,
    past,
    record,
    store,
)

NamedWrites = Mapping[Any, Callable[[], Awaitable[bool]]]


async def at_once(writes: NamedWrites) -> dict[Any, bool]:
    """Make all these writes at the same time and return the result of each, by its name."""
    told: dict[Any, bool] = {}

    async def make(name: Any, write: Callable[[], Awaitable[bool]]) -> None:
        told[name] = await write()

    async with anyio.create_task_group() as tasks:
        for name, write in writes.items():
            tasks.start_soon(make, name, write)
    return told


def next_of(before: SagaRecord, token: str) -> DocumentChange:
    """Return the change to the next version, as a commit makes it."""
    version = before.version + 1
    entry = evolve(past(version), token=token)
    after = evolve(before, version=version, token=token, data={"weight": version}, inbox=())
    return encode_change(before, evolve(after, history=(entry,)), inbox_size=9)


def updates_of(repository: SagaRepository, changes: Mapping[Any, DocumentChange]) -> NamedWrites:
    return {
        name: partial(repository.update_document, PARCEL, change)
        for name, change in changes.items()
    }


class SimultaneousContract(Contract):
    """Writes at the same time."""

    @promise
    async def test_updates_of_many_sagas_win_and_lose_each_for_itself(
        self, repository: SagaRepository
    ) -> None:
        current, overtaken = record(version=2, token="t-2"), record(version=1)
        await store(repository, *(document(number, version=2, token="t-2") for number in range(60)))
        changes = {
            number: next_of(
                evolve(overtaken if number % 3 else current, correlation_id=number), f"new-{number}"
            )
            for number in range(80)  # the last 20 sagas are not there at all
        }
        told = await at_once(updates_of(repository, changes))
        assert told == {number: number < 60 and number % 3 == 0 for number in range(80)}
        for number in range(60):
            found = await load(repository, number)
            assert found.version == (2 if number % 3 else 3)
            assert found.token == ("t-2" if number % 3 else f"new-{number}")

    @promise
    async def test_one_writer_of_each_saga_wins(self, repository: SagaRepository) -> None:
        await store(repository, *(document(number) for number in range(5)))
        changes = {
            (number, writer): next_of(record(number), f"{number}-{writer}")
            for writer in range(6)
            for number in range(5)
        }
        told = await at_once(updates_of(repository, changes))
        for number in range(5):
            (winner,) = [writer for writer in range(6) if told[number, writer]]
            assert (await load(repository, number)).token == f"{number}-{winner}"

    @promise
    async def test_one_start_of_each_saga_wins(self, repository: SagaRepository) -> None:
        await store(repository, document(0, token="before"))
        documents = {
            (number, writer): document(number, token=f"{number}-{writer}")
            for writer in range(6)
            for number in range(5)
        }
        told = await at_once(
            {
                name: partial(repository.insert_document, PARCEL, given)
                for name, given in documents.items()
            }
        )
        assert not any(told[0, writer] for writer in range(6))
        assert (await load(repository, 0)).token == "before"
        for number in range(1, 5):
            (winner,) = [writer for writer in range(6) if told[number, writer]]
            assert (await load(repository, number)).token == f"{number}-{winner}"

    @promise
    async def test_notes_starts_and_updates_at_once_are_each_told_their_own_fate(
        self, repository: SagaRepository
    ) -> None:
        outbox = (outgoing(1), outgoing(2))
        before = record(outbox=outbox, sequence=2, wake=NOW)
        for name in ("won", "lost", "noted", "late", "started"):
            await store(repository, encode_record(evolve(before, correlation_id=name, version=2)))

        def note(
            name: str, version: int, incarnation: str = "i-1"
        ) -> Callable[[], Awaitable[bool]]:
            given = Bookkeeping(
                correlation_id=name,
                incarnation=incarnation,
                version=version,
                sent=("i-1-1",),
                unset=("wake",),
            )
            return lambda: repository.bookkeep(PARCEL, given)

        def update(name: str, version: int) -> Callable[[], Awaitable[bool]]:
            given = next_of(evolve(before, correlation_id=name, version=version), f"t-{name}")
            return lambda: repository.update_document(PARCEL, given)

        told = await at_once(
            {
                "won": update("won", 2),
                "lost": update("lost", 1),
                "gone": update("gone", 2),
                "noted": note("noted", 2),
                "late": note("late", 1),
                "other incarnation": note("lost", 2, "i-0"),
                "note on nothing": note("gone", 1),
                "started": lambda: repository.insert_document(PARCEL, document("started")),
                "new": lambda: repository.insert_document(PARCEL, document("new")),
            }
        )
        assert {name for name, fate in told.items() if fate} == {"won", "noted", "new"}
        assert (await load(repository, "won")).token == "t-won"
        assert (await load(repository, "lost")).version == 2
        assert (await load(repository, "lost")).outbox == outbox
        noted, late = await load(repository, "noted"), await load(repository, "late")
        assert (noted.outbox, noted.wake) == (outbox[1:], None)
        assert (late.outbox, late.wake) == (outbox[1:], NOW)
        assert (await load(repository, "started")).outbox == outbox
        assert (await load(repository, "new")).version == 1

    @promise
    async def test_caller_who_is_cancelled_disturbs_no_other(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, *(document(number) for number in range(40)))
        changes = {number: next_of(record(number), f"t-{number}") for number in range(40)}
        told: dict[int, bool] = {}

        async def write(number: int) -> None:
            with anyio.CancelScope() as scope:
                if number % 4 == 0:
                    scope.cancel()
                told[number] = await repository.update_document(PARCEL, changes[number])

        async with anyio.create_task_group() as tasks:
            for number in range(40):
                tasks.start_soon(write, number)
        for number in range(40):
            is_stored = (await load(repository, number)).version == 2
            assert told.get(number, is_stored) is is_stored
            assert is_stored or number % 4 == 0
