"""``sagaflow dead-letters``: what a service could not deal with."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, cast

import anyio
import click
from attrs import frozen

from sagaflow._concurrency.groups import cause_of
from sagaflow._model.errors import SagaflowError, WireError
from sagaflow._model.redaction import HIDDEN, redact
from sagaflow._model.shown import shown
from sagaflow._model.spans import instant, relative, roughly
from sagaflow._model.texts import cleaned
from sagaflow.bus.broker import BrokerBus
from sagaflow.bus.transport import DeadLetter
from sagaflow.commands.connection import showing_progress
from sagaflow.commands.options import in_json, on_bus, stored
from sagaflow.commands.output import as_json, columns, iso, parts_of, plain, section
from sagaflow.commands.running.buses import MONGODB, bus_at, check_bus
from sagaflow.commands.targets import load_messages
from sagaflow.inspection.shown import shown_error
from sagaflow.mongo import MongoRepository
from sagaflow.mongo.uris import impatient

T = TypeVar("T")
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_HEADING: Final = ("ID", "MESSAGE", "KEY", "REASON", "ATTEMPTS", "SINCE", "AGE")
_SHOWN_HEADERS: Final = frozenset(
    {"id", "source", "subject", "type", "time", "correlationid", "causationid", "traceparent"}
)
"""The attributes of a message that are shown; other headers may hold secrets."""
_PREFIX: Final = re.compile(r"(?:ce[-_]|cloudEvents[_:])?", re.IGNORECASE)
_ESCAPED: Final = re.compile(r"\\(?:x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|[nrt])")


@frozen(kw_only=True)
class _Where:
    """Which dead letters are meant."""

    bus: str
    service: str
    mongodb: str | None
    database: str | None
    messages: str | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[BrokerBus]:
        """Open the bus. It takes no messages."""
        mongodb = self.mongodb if self.bus == MONGODB else None
        connected: Any = nullcontext()
        if mongodb is not None and self.database is not None:
            connected = MongoRepository.connect(
                mongodb, database=self.database, **impatient(mongodb)
            )
        async with connected as repository:
            bus = bus_at(self.bus, repository)(
                service=self.service, messages=load_messages(self.messages)
            )
            async with bus:
                yield bus

    def ask(self, question: Callable[[BrokerBus], Awaitable[T]], waiting: str) -> T:
        """Return the answer to a question about the bus.

        :raises SagaflowError: if the bus cannot be reached, or cannot answer.
        """

        async def connect() -> T:
            async with self.opened() as bus:
                return await question(bus)

        check_bus(self.bus)
        with showing_progress(waiting):
            try:
                return anyio.run(connect)
            except BaseExceptionGroup as group:
                cause = cause_of(group)
                raise cause from cause.__cause__


@click.group(name="dead-letters")
def dead_letters() -> None:
    """List, show, retry or drop what a service could not deal with, on any bus.

    A message becomes a dead letter if it cannot be read, if no saga has a use for it, or if its
    handler has failed for too long. It stays until somebody retries or drops it.

    The exit status is 0; 1 after a no, or if a dead letter was not there; 2 after an error.
    """


def _of_a_service(function: FunctionT) -> FunctionT:
    return on_bus(stored(required=False)(function))


def _several(function: FunctionT) -> FunctionT:
    """Add what says which dead letters are meant, where there may be several."""
    function = _of_a_service(function)
    function = click.option(
        "--yes", is_flag=True, help="Do not ask. Needed where there is no terminal to ask on."
    )(function)
    function = click.option(
        "--reason", metavar="REASON", help="With --all: only those put aside for this reason."
    )(function)
    function = click.option(
        "--all", "every", is_flag=True, help="All of the service, instead of some by their ids."
    )(function)
    return click.argument("ids", metavar="[ID]...", nargs=-1)(function)


def _where(**given: Any) -> _Where:
    """Return which dead letters are meant.

    :raises click.UsageError: if the bus needs a database, and none is named.
    """
    if given["bus"] == MONGODB:
        for name in ("mongodb", "database"):
            if given[name] is None:
                raise click.UsageError(
                    f"Missing option '--{name}': the bus mongodb is in the database."
                )
    return _Where(**given)


@dead_letters.command("ls")
@click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most."
)
@_of_a_service
@in_json
def list_letters(*, limit: int, in_json: bool, **given: Any) -> None:
    """List the dead letters of a service, the oldest first.

    The exit status is 0, or 2 after an error.
    """
    where = _where(**given)

    async def read(bus: BrokerBus) -> tuple[list[DeadLetter], bool]:
        found = list[DeadLetter]()
        async with aclosing(cast("AsyncGenerator[DeadLetter]", bus.dead_letters())) as letters:
            async for letter in letters:
                if len(found) == limit:
                    return found, True
                found.append(letter)
        return found, False

    found, is_cut = where.ask(read, "reading dead letters")
    if in_json:
        letters = [_plain(letter) for letter in found]
        as_json({"service": where.service, "dead_letters": letters, "more": is_cut})
        return
    now = datetime.now(UTC)
    rows = (
        (
            letter.id,
            letter.name,
            letter.key or "-",
            letter.reason,
            str(letter.attempts),
            instant(letter.since),
            roughly(now - letter.since),
        )
        for letter in found
    )
    for line in columns(rows, heading=_HEADING) if found else ():
        click.echo(line)
    if not found:
        click.echo(f"{where.service}: no dead letters", err=True)
    if is_cut:
        click.echo("there are more: say --limit", err=True)


@dead_letters.command("show")
@click.argument("letter_id", metavar="ID")
@click.option("--traceback", is_flag=True, help="Show all that is known of why it was put aside.")
@click.option(
    "--messages",
    metavar="MODULE:NAME",
    help="The message classes of the service: then the message is read, and shown without what is "
    "marked as Secret.",
)
@_of_a_service
@in_json
def show_letter(*, letter_id: str, traceback: bool, in_json: bool, **given: Any) -> None:
    """Show a dead letter: which message it is, and why it was put aside.

    Of the message itself only the names and types of its fields are shown, since their values may
    be secret; with --messages what the classes say may be shown.

    The exit status is 0, or 2 after an error; that there is no such dead letter is one.
    """
    where = _where(**given)

    async def read(bus: BrokerBus) -> tuple[DeadLetter, Mapping[str, str] | None, str | None]:
        found = await _found(bus, letter_id)
        if found is None:
            raise SagaflowError(f"{where.service} has no dead letter {letter_id!r}")
        if where.messages is None:
            return found, None, None
        try:
            return found, _shown(bus.read_dead_letter(found).body), None
        except WireError as exc:
            return found, None, str(exc)

    letter, fields, problem = where.ask(read, "reading a dead letter")
    headers = dict(_headers(letter))
    if in_json:
        said = {**_plain(letter), "headers": headers, "bytes": len(letter.body)}
        said |= {"types": dict(_types(letter.body))} if fields is None else {"fields": fields}
        as_json(said | ({"detail": letter.detail} if traceback else {}))
        return
    click.secho(f"{plain(letter.service)} {plain(letter.id)}", bold=True)
    for line in columns(_head(letter)):
        click.echo(f"  {line}")
    section("headers", columns(headers.items()), empty="none")
    if fields is not None:
        section("message", columns(fields.items()), empty="no fields")
    else:
        title = f"message, {len(letter.body):,} bytes, by its types"
        section(title, columns(_types(letter.body)), empty="no JSON object")
        if problem is not None:
            click.echo(f"  it cannot be read: {plain(problem)}")
    if traceback:
        section("detail", (plain(line) for line in letter.detail.splitlines()), empty="none")


@dead_letters.command("retry")
@_several
@click.pass_context
def retry_letters(ctx: click.Context, /, **given: Any) -> None:
    """Have dead letters handled again by their service, each as if it had just come.

    The exit status is 0; 1 after a no, or if one was not there; 2 after an error.
    """
    _act(ctx, BrokerBus.retry_dead_letter, ("Have {} handled again?", "is handled again"), **given)


@dead_letters.command("drop")
@_several
@click.pass_context
def drop_letters(ctx: click.Context, /, **given: Any) -> None:
    """Remove dead letters for good.

    The exit status is 0; 1 after a no, or if one was not there; 2 after an error.
    """
    _act(ctx, BrokerBus.drop_dead_letter, ("Remove {} for good?", "was dropped"), **given)


def _act(
    ctx: click.Context,
    action: Callable[[BrokerBus, str], Awaitable[bool]],
    words: tuple[str, str],
    *,
    ids: tuple[str, ...],
    every: bool,
    reason: str | None,
    yes: bool,
    **given: Any,
) -> None:
    where, (question, done) = _where(**given), words
    if bool(ids) == every:
        raise click.UsageError("say the ids of dead letters, or --all")
    if reason is not None and not every:
        raise click.UsageError("--reason goes with --all")

    async def look(bus: BrokerBus) -> Sequence[str]:
        async with aclosing(cast("AsyncGenerator[DeadLetter]", bus.dead_letters())) as letters:
            return [one.id async for one in letters if reason is None or one.reason == reason]

    async def act(bus: BrokerBus) -> list[bool]:
        return [await _act_on(bus, action, one) for one in wanted]

    wanted: Sequence[str] = ids or where.ask(look, "reading dead letters")
    if wanted and not yes:
        if not _is_terminal():
            raise SagaflowError(f"there is no terminal to ask on: say {ctx.command.name} --yes")
        what = f"{len(wanted):,} dead letter{'' if len(wanted) == 1 else 's'} of {where.service}"
        if not click.confirm(question.format(what), err=True):
            click.echo("nothing was changed", err=True)
            ctx.exit(1)
    were_there = where.ask(act, "writing") if wanted else []
    for one, was_there in zip(wanted, were_there, strict=True):
        click.echo(f"{plain(one)} {done if was_there else 'was not there'}")
    if not wanted:
        click.echo(f"{where.service}: no dead letters", err=True)
    ctx.exit(0 if all(were_there) else 1)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


async def _act_on(
    bus: BrokerBus, action: Callable[[BrokerBus, str], Awaitable[bool]], typed: str
) -> bool:
    return any([await action(bus, one) for one in _meant(typed)])


async def _found(bus: BrokerBus, typed: str) -> DeadLetter | None:
    for one in _meant(typed):
        if (letter := await bus.find_dead_letter(one)) is not None:
            return letter
    return None


def _meant(typed: str) -> tuple[str, ...]:
    """Return the ids that may be meant: as it is typed, or as `ls` escapes what cannot be shown."""
    plain_id = _ESCAPED.sub(lambda found: found[0].encode().decode("unicode_escape"), typed)
    return (typed,) if plain_id == typed else (typed, plain_id)


def _head(letter: DeadLetter) -> Iterator[tuple[str, str]]:
    yield "message", letter.name
    yield "key", letter.key or "-"
    yield "reason", letter.reason
    if letter.detail:
        yield "it said", shown_error(letter.detail)
    yield "attempts", str(letter.attempts)
    yield "since", f"{instant(letter.since)} ({relative(letter.since, datetime.now(UTC))})"


def _headers(letter: DeadLetter) -> Iterator[tuple[str, str]]:
    for name, value in letter.headers.items():
        found = _PREFIX.match(name)
        attribute = name[0 if found is None else found.end() :]
        yield name, cleaned(value) if attribute in _SHOWN_HEADERS else f"{len(value):,} characters"


def _shown(message: object) -> Mapping[str, str]:
    """Return the fields of a message as text, without secrets."""
    fields = redact(message)
    return {name: HIDDEN if value is HIDDEN else shown(value) for name, value in fields.items()}


def _types(body: bytes) -> Iterator[tuple[str, str]]:
    """Yield the fields of a message with their types."""
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        return
    if isinstance(found, dict):
        yield from parts_of(cast("dict[str, object]", found))


def _plain(letter: DeadLetter) -> dict[str, object]:
    return {
        "id": letter.id,
        "service": letter.service,
        "name": letter.name,
        "key": letter.key,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "since": iso(letter.since),
    }
