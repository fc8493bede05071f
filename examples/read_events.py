"""A program that hands a saga the events of a file, one JSON object a line.

A line says ``{"id": "m-1", "event": "FlightBooked", "data": {"booking": "T-1", ...}}``: the id of
the message, by which a second delivery is recognised; the name of the event; and its attributes.

Each line is reported with its number and what became of it. A line that holds no event is refused
and says why; the others go on. The exit status is 0 if every line could be read, 1 if some were
refused, and 2 if the file or the database could not be used.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import re
import reprlib
import sys
import textwrap
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import anyio
import attrs
from attrs import define, field, frozen
from cattrs import Converter, ForbiddenExtraKeysError, transform_error
from cattrs.gen import make_dict_structure_fn

from sagaflow import (
    CompensationStatus,
    Envelope,
    MemoryBus,
    MemoryRepository,
    Orchestrator,
    Outcome,
    OutcomeKind,
    RepositoryError,
    Saga,
    SagaflowError,
    SagaId,
    SagaRepository,
)
from sagaflow.mongo import MongoRepository

LONGEST_LINE = 4096  # bytes
LONGEST_TEXT = 200  # characters
INT64 = range(-(2**63), 2**63)

# From bytes to an event.


class RefusedLineError(Exception):
    """A line that holds no event, and why."""


@frozen
class Line:
    """What every line says."""

    id: str
    event: str
    data: Any


def decode(raw: bytes, events: Mapping[str, type]) -> tuple[str, object]:
    """Return the message id and the event of a line.

    :param events: the events that a file may name. What is not among them does not exist: a name
        in a file never decides what is imported.
    :raises RefusedLineError: if the line holds no event; it says what is wrong.
    """
    if len(raw) > LONGEST_LINE:
        raise RefusedLineError(f"it is longer than {LONGEST_LINE} bytes")
    try:
        content: object = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as exc:
        raise RefusedLineError(f"it is not UTF-8 from byte {exc.start + 1} on") from exc
    except json.JSONDecodeError as exc:
        raise RefusedLineError(f"it is not JSON: {exc.msg} (character {exc.colno})") from exc
    except (ValueError, RecursionError) as exc:  # digits or brackets without end
        raise RefusedLineError(f"it is not JSON: {exc}") from exc
    line: Line = _structure(content, Line, "line")
    event = events.get(line.event)
    if event is None:
        raise RefusedLineError(f"there is no event {line.event!r}")
    return line.id, _structure(line.data, event, event.__name__)


def _structure(content: object, cls: type, name: str) -> Any:
    try:
        return _CONVERTER.structure(content, cls)
    except Exception as exc:
        problems = transform_error(exc, path=name, format_exception=_describe)
        # "expected a text, found 7 @ FlightBooked.booking" reads better the other way round.
        turned = [problem.rpartition(" @ ") for problem in problems]
        said = "; ".join(f"{path}: {problem}" for problem, _, path in turned)
        raise RefusedLineError(said) from exc


def _describe(error: BaseException, _: type | None) -> str:
    if isinstance(error, KeyError):
        return "it is missing"
    if isinstance(error, ForbiddenExtraKeysError):
        return f"it has no {', '.join(sorted(reprlib.repr(name) for name in error.extra_fields))}"
    return str(error)


# Left to itself cattrs is generous: of the object {"$gt": ""}, sent as a booking, it would make a
# text. What comes from outside is taken for what it is, or refused. These are the types that the
# events of the examples have; a float or a list needs a hook of its own.


def _text(value: object, _: object) -> str:
    if not isinstance(value, str):
        raise _unexpected("a text", value)
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"a text has at most {LONGEST_TEXT} characters, this one {len(value)}")
    if not value.isprintable():
        raise ValueError(f"a text that can be printed is expected, not {reprlib.repr(value)}")
    return value


def _yes_or_no(value: object, _: object) -> bool:
    if not isinstance(value, bool):
        raise _unexpected("true or false", value)
    return value


def _whole_number(value: object, _: object) -> int:
    if type(value) is not int or value not in INT64:  # True is an int as well
        raise _unexpected("a whole number of at most 64 bits", value)
    return value


def _amount(value: object, _: object) -> Decimal:
    # A text: JSON's numbers are binary fractions to most programs. No NaN, no 1e999.
    if not isinstance(value, str) or not re.fullmatch(r"-?[0-9]{1,9}(\.[0-9]{1,2})?", value):
        raise _unexpected('an amount such as "129.90"', value)
    return Decimal(value)


def _date(value: object, _: object) -> date:
    if not isinstance(value, str):
        raise _unexpected("a date such as 2026-08-01", value)
    return date.fromisoformat(value)


def _instant(value: object, _: object) -> datetime:
    if not isinstance(value, str):
        raise _unexpected("an instant such as 2026-08-01T12:00Z", value)
    instant = datetime.fromisoformat(value)
    if instant.tzinfo is None:
        raise ValueError(f"it has no time zone, as 2026-08-01T12:00Z has: {value!r}")
    return instant


def _object(cls: type, converter: Converter) -> Callable[[object, object], object]:
    fill: Callable[[Any, Any], object] = make_dict_structure_fn(
        cls, converter, _cattrs_forbid_extra_keys=True
    )

    def structure(value: object, _: object) -> object:
        if not isinstance(value, dict):
            raise _unexpected("an object", value)
        return fill(value, cls)

    return structure


def _unexpected(expected: str, found: object) -> ValueError:
    return ValueError(f"expected {expected}, found {reprlib.repr(found)}")


def _make_converter() -> Converter:
    made = Converter()
    made.register_structure_hook(str, _text)
    made.register_structure_hook(bool, _yes_or_no)
    made.register_structure_hook(int, _whole_number)
    made.register_structure_hook(Decimal, _amount)
    made.register_structure_hook(date, _date)
    made.register_structure_hook(datetime, _instant)
    made.register_structure_hook_factory(attrs.has, _object)
    return made


_CONVERTER = _make_converter()


# From events to a report.

MEANING = {
    OutcomeKind.STARTED: "started: {state}",
    OutcomeKind.TRANSITIONED: "now {state}",
    OutcomeKind.STAYED: "still {state}",
    OutcomeKind.COMPENSATING: "not everything is undone yet",
    OutcomeKind.DUPLICATE: "nothing done: handled before",
    OutcomeKind.IGNORED: "nothing done: ignored when {state}",
    OutcomeKind.UNHANDLED: "nothing done: out of place when {state}",
    OutcomeKind.FINISHED: "nothing done: it has ended, {state}",
    OutcomeKind.NOT_FOUND: "nothing done: unknown id",
    OutcomeKind.UNCORRELATED: "nothing done: it names no id",
}


@define
class Partners:
    """Stand in for those whom the saga writes to. Their answers are the lines of the file."""

    received: list[Envelope[object]] = field(factory=list)

    def connect(self, bus: MemoryBus, messages: Iterable[type]) -> None:
        """Take messages of these classes."""
        for message in messages:
            bus.subscribe(message, self.received.append, envelope=True)

    def names(self, correlation_id: SagaId | None = None, *, since: int = 0) -> str:
        """Return what was received, about one saga or about all, in order."""
        return ", ".join(
            type(envelope.body).__name__
            for envelope in self.received[since:]
            if correlation_id is None or envelope.correlation_id == correlation_id
        )


@define
class Desk:
    """Hands lines to the saga, one after another, and prints what became of each."""

    saga_type: type[Saga]
    events: Mapping[str, type]
    orchestrator: Orchestrator
    partners: Partners
    seen: list[SagaId] = field(factory=list)
    counted: Counter[str] = field(factory=Counter)
    refused: list[int] = field(factory=list)

    async def take(self, number: int, raw: bytes) -> None:
        """Take one line.

        :raises RepositoryError: if the database fails, which is no fault of the line.
        """
        if not raw.strip():
            self.counted["empty"] += 1
            print(f"{number:>4}  skipped: it is empty")
            return
        before = len(self.partners.received)
        try:
            message_id, event = decode(raw, self.events)
            outcome = await self.orchestrator.handle(event, message_id=message_id)
        except RepositoryError:
            raise
        except (RefusedLineError, SagaflowError) as exc:
            self.counted["refused"] += 1
            self.refused.append(number)
            print(f"{number:>4}  REFUSED: {exc}")
            return
        self.counted[outcome.kind.value] += 1
        self.report(number, type(event).__name__, outcome)
        if sent := self.partners.names(since=before):
            print(f"{'':<31}sent {sent}")

    def report(self, number: int, event: str, outcome: Outcome) -> None:
        """Print what became of an event."""
        state = ""
        if outcome.state is not None and outcome.correlation_id is not None:
            state = outcome.state.name
            if outcome.correlation_id not in self.seen:
                self.seen.append(outcome.correlation_id)
        meaning = MEANING.get(outcome.kind, outcome.kind.value).format(state=state)
        print(f"{number:>4}  {outcome.correlation_id!s:<8} {event:<15} {meaning}")

    async def summarise(self) -> None:
        """Print where each saga stands, and how many lines came to what."""
        print()
        if self.seen:
            print(f"{'id':<8} {'state':<16} messages sent, steps undone")
        for correlation_id in self.seen:
            if instance := await self.orchestrator.find(self.saga_type, correlation_id):
                row = f"{correlation_id!s:<8} {instance.state.name:<16}"
                sent = self.partners.names(correlation_id) or "nothing"
                _print_wrapped(f"{row} sent    ", sent)
                steps = reversed(instance.compensations)
                undone = [step.method for step in steps if step.status is CompensationStatus.DONE]
                if undone:
                    _print_wrapped(f"{'':<25} undone  ", ", ".join(undone))
        if self.seen:
            print()
        counts = ", ".join(f"{kind}={count}" for kind, count in sorted(self.counted.items()))
        _print_wrapped(f"lines: {self.counted.total()} ", f"({counts or 'none'})")
        if self.refused:
            _print_wrapped("refused lines: ", ", ".join(map(str, self.refused)))


def _print_wrapped(label: str, text: str) -> None:
    width = max(100, len(label) + 60)  # an id may be long
    print(textwrap.fill(text, width, initial_indent=label, subsequent_indent=" " * len(label)))


# The program.


def read_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file; of one that is too long, as much as shows that it is."""
    while raw := file.readline(LONGEST_LINE + 2):
        yield raw.rstrip(b"\r\n")
        while len(raw) == LONGEST_LINE + 2 and not raw.endswith(b"\n"):
            raw = file.readline(LONGEST_LINE + 2)


@asynccontextmanager
async def open_repository(
    saga_type: type[Saga], uri: str | None, database: str
) -> AsyncGenerator[SagaRepository, None]:
    """Connect to a database, or keep everything in memory."""
    if uri is None:
        yield MemoryRepository()
        return
    async with MongoRepository.connect(uri, database=database) as repository:
        # Indexes are made by this call alone; in earnest it is part of the deployment.
        await repository.create_indexes(saga_type)
        yield repository


async def process(
    saga_type: type[Saga],
    events: Iterable[type],
    messages: Iterable[type],
    file: IO[bytes],
    options: argparse.Namespace,
) -> int:
    """Hand all lines of a file to the saga and return the exit status."""
    partners, bus = Partners(), MemoryBus()
    partners.connect(bus, messages)
    async with (
        open_repository(saga_type, options.mongodb, options.database) as repository,
        Orchestrator([saga_type], repository, bus=bus) as orchestrator,
    ):
        named = {event.__name__: event for event in events}
        desk = Desk(saga_type, named, orchestrator, partners)
        try:
            if await orchestrator.run_due():  # what an earlier run left in the database
                print(f"left by an earlier run: sent {partners.names() or 'nothing'}\n")
            for number, raw in enumerate(read_lines(file), 1):
                await desk.take(number, raw)
            await desk.summarise()
        except (OSError, RepositoryError) as exc:
            return _unusable(exc)
        return 1 if desk.refused else 0


def main(
    saga_type: type[Saga],
    events: Iterable[type],
    messages: Iterable[type],
    file: Path,
    arguments: Sequence[str] | None = None,
) -> int:
    """Run the program and return its exit status.

    :param saga_type: the saga that takes the events.
    :param events: the classes of events that the file may name.
    :param messages: the classes of messages that the saga sends.
    :param file: what is read unless the command line names another.
    :param arguments: the command line.
    """
    parser = argparse.ArgumentParser(
        description=f"Hand the events of a file to {saga_type.__name__}."
    )
    parser.add_argument("file", nargs="?", type=Path, default=file, help="JSON, one event a line")
    parser.add_argument("--runtime", choices=("asyncio", "trio"), default="asyncio")
    parser.add_argument("--mongodb", metavar="URI", help="where to store; in memory by default")
    parser.add_argument("--database", metavar="NAME", default="sagaflow_examples")
    options = parser.parse_args(arguments)
    if find_spec(options.runtime) is None:
        parser.error(f"{options.runtime} is not installed")
    # The report says what the library would log as a warning.
    logging.basicConfig(level=logging.ERROR)
    if isinstance(sys.stdout, io.TextIOWrapper):  # what the terminal cannot show is escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with options.file.open("rb") as opened:
            run = partial(process, saga_type, events, messages, opened, options)
            return anyio.run(run, backend=options.runtime)
    except (OSError, RepositoryError) as exc:
        return _unusable(exc)


def _unusable(error: Exception) -> int:
    reason: object = error
    if isinstance(error, OSError) and error.filename is not None:
        reason = f"cannot read {error.filename}: {error.strerror}"
    print(f"error: {reason}", file=sys.stderr)
    return 2
