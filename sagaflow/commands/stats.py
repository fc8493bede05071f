"""``sagaflow stats``."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final

import click
from attrs import evolve, frozen

from sagaflow._codec.selection import UNFINISHED, Part, Selection, Summary, Trait
from sagaflow._definition.saga import Saga, definition_of
from sagaflow._model.record import Status
from sagaflow._model.spans import roughly
from sagaflow.commands.connection import ask
from sagaflow.commands.ids import json_id, show_id
from sagaflow.commands.options import in_json, stored
from sagaflow.commands.output import as_json, columns, iso, plain, section
from sagaflow.commands.targets import load_sagas
from sagaflow.mongo import MongoRepository

_STATUSES: Final = (*UNFINISHED, Status.FINISHED)


@frozen(kw_only=True)
class _Numbers:
    """What is stored of one class.

    :ivar states: the names of the states, also of those that only the database knows.
    :ivar traits: what the sagas have in common.
    :ivar due: how many sagas have work to do now.
    :ivar oldest: the saga whose work has waited longest.
    :ivar schema: the schema of the class.
    :ivar known: the names of the states that the class has.
    """

    saga: str
    states: tuple[str, ...]
    traits: tuple[Trait, ...]
    due: int
    oldest: Summary | None
    schema: int
    known: frozenset[str]

    def damaged(self) -> int:
        """Return how many parts of documents cannot be read."""
        return sum(trait.count for trait in self.traits if trait.part is Part.DAMAGED)

    def newer(self) -> int:
        """Return how many sagas newer code has stored."""
        return sum(
            trait.count
            for trait in self.traits
            if trait.part is Part.STATE and trait.schema > self.schema
        )

    def unknown(self) -> Counter[str]:
        """Count the sagas that are left alone, by the states that the class does not know."""
        found = Counter[str]()
        for trait in self.traits:
            if (
                trait.part is Part.STATE
                and trait.schema <= self.schema
                and trait.status in UNFINISHED
                and trait.state not in self.known
            ):
                found[trait.state] += trait.count
        return found

    def live(self, part: Part) -> Counter[str]:
        """Count messages by type, or timers by name."""
        found = Counter[str]()
        for trait in self.traits:
            if trait.part is part:
                found[trait.message or trait.name or ""] += trait.count
        return found

    def in_state(self, state: str, status: Status) -> int:
        """Return how many sagas in a state have that status."""
        return sum(
            trait.count
            for trait in self.traits
            if trait.part is Part.STATE and trait.state == state and trait.status is status
        )


@click.command()
@click.argument("target", metavar="MODULE[:CLASS]")
@stored()
@in_json
def stats(*, target: str, mongodb: str, database: str, in_json: bool) -> None:
    """Count sagas by state and status, and what waits: work, outgoing messages, parked events.

    The exit status is 0, or 2 after an error.
    """
    sagas, now = load_sagas(target), datetime.now(UTC)

    async def read(repository: MongoRepository) -> list[_Numbers]:
        return [await _count(repository, saga, now) for saga in sagas]

    found = ask(mongodb, database, read, "counting")
    if in_json:
        as_json({"sagas": [_plain(numbers) for numbers in found]})
        return
    for number, numbers in enumerate(found):
        if number:
            click.echo()
        _print(numbers, now)


async def _count(repository: MongoRepository, saga: type[Saga], now: datetime) -> _Numbers:
    present = definition_of(saga).evolution.present
    traits = [
        evolve(trait, state=present(trait.state))
        async for trait in repository.survey(saga, finished=True)
    ]
    stored = (trait.state for trait in traits if trait.state and trait.status is not Status.EMBRYO)
    states = tuple(dict.fromkeys((*(state.name for state in saga.table.states), *stored)))
    due, oldest = 0, None
    everything = Selection(statuses=_STATUSES, due_before=now)
    async with aclosing(repository.summaries(saga, everything)) as summaries:
        async for summary in summaries:
            oldest = oldest or summary
            due += 1
    return _Numbers(
        saga=saga.table.saga,
        states=states,
        traits=tuple(traits),
        due=due,
        oldest=oldest,
        schema=definition_of(saga).options.schema,
        known=frozenset(state.name for state in saga.table.states),
    )


def _print(numbers: _Numbers, now: datetime) -> None:
    total = sum(numbers.in_state(state, status) for state in numbers.states for status in _STATUSES)
    click.secho(f"{numbers.saga}: {total:,} sagas", bold=True)
    heading = ("STATE", *(status.name for status in _STATUSES))
    rows = [
        (state, *(f"{numbers.in_state(state, status):,}" for status in _STATUSES))
        for state in numbers.states
    ]
    for line in columns(rows, heading=heading):
        click.echo(f"  {line}")
    oldest = ""
    if numbers.oldest is not None and numbers.oldest.wake is not None:
        since = roughly(now - numbers.oldest.wake)
        oldest = f"; the oldest for {since}: {show_id(numbers.oldest.correlation_id)}"
    click.echo(f"  {numbers.due:,} have work to do now{oldest}")
    unknown = numbers.unknown()
    for number, what in (
        (
            unknown.total(),
            f"in states that the class does not have: {', '.join(map(plain, unknown))}",
        ),
        (numbers.newer(), "stored by newer code"),
        (numbers.damaged(), "damaged: sagaflow ls --damaged"),
    ):
        if number:
            click.echo(f"  {number:,} left alone, {what}")
    for part, title in (
        (Part.OUTGOING, "messages to send"),
        (Part.PARKED, "parked events"),
        (Part.TIMER, "timers"),
    ):
        counted = numbers.live(part)
        section(f"{title}: {counted.total():,}", columns((n, f"{c:,}") for n, c in counted.items()))


def _plain(numbers: _Numbers) -> dict[str, object]:
    oldest = numbers.oldest
    return {
        "saga": numbers.saga,
        "states": {
            state: {status.value: numbers.in_state(state, status) for status in _STATUSES}
            for state in numbers.states
        },
        "due": numbers.due,
        "oldest": None
        if oldest is None
        else {**json_id(oldest.correlation_id), "wake": iso(oldest.wake)},
        "unknown_states": dict(numbers.unknown()),
        "newer": numbers.newer(),
        "damaged": numbers.damaged(),
        "outgoing": dict(numbers.live(Part.OUTGOING)),
        "parked": dict(numbers.live(Part.PARKED)),
        "timers": dict(numbers.live(Part.TIMER)),
    }
