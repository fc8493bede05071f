"""Each error that a method of the orchestrator says it raises, and none that it does not say."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest
import trio
from attrs import define, field, frozen
from trio.testing import MockClock

from sagaflow import (
    Context,
    Limits,
    MemoryRepository,
    Orchestrator,
    RepositoryError,
    Saga,
    SagaRepository,
    ServerUnavailableError,
    State,
    compensates,
    during,
    initially,
)
from sagaflow._codec.documents import DocumentChange
from sagaflow.testing import ManualClock
from tests.semantics.support import LosesAnswers, Passing

HOUR = timedelta(hours=1)


@frozen
class Begun:
    ticket: object


@frozen
class Noted:
    ticket: object
    how: str = ""


@frozen
class Unknown:
    ticket: object


def asked(event: object) -> Any:
    """Say which ticket an event is about, if it is one that has a name."""
    ticket: Any = getattr(event, "ticket", None)
    if ticket == "raises":
        raise LookupError(ticket)
    return ticket


class Ticket(Saga, correlate_by=asked, timeout=HOUR):
    open_ = State()
    gone = State(final=True)

    notes: str = ""
    other: Any = None

    @initially.on(Begun).goto(open_)
    def begin(self, event: Begun, ctx: Context) -> None: ...

    @compensates(begin)
    def end(self, event: Begun, ctx: Context) -> None: ...

    @during(open_).on(Noted).branch(open_, gone)
    async def note(self, event: Noted, ctx: Context) -> State:
        match event.how:
            case "raises":
                raise LookupError(event.ticket)
            case "is cancelled":
                stray: BaseException | None = None
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    try:
                        await anyio.sleep(1)
                    except anyio.get_cancelled_exc_class() as exc:
                        stray = exc
                assert stray is not None
                raise stray
            case "returns another state":
                return State("elsewhere")
            case "grows":
                self.notes = "x" * 10_000
            case "keeps what cannot be stored":
                self.other = object()
            case _:
                pass
        return Ticket.open_


class Second(Saga, correlate_by="ticket"):
    start = initially.on(Begun).goto(State("done", final=True))


class Refusing(Passing):
    """Fails whatever is asked of it."""

    def __init__(self, inner: SagaRepository, error: Exception) -> None:
        super().__init__(inner)
        self.error = error

    async def load_document(self, *_: Any, **__: Any) -> Any:
        raise self.error

    async def _none(self) -> AsyncIterator[Any]:
        await self.load_document()
        yield None

    def due(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        return self._none()

    def scan_documents(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        return self._none()


class Overtaken(Passing):
    """Somebody else is always faster."""

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        return False


@define
class World:
    """A ticket that is stored, and how it is asked about.

    :ivar arguments: more to say in the call.
    """

    clock: ManualClock
    repository: SagaRepository
    ticket: Any = "t"
    sagas: tuple[type[Saga], ...] = (Ticket,)
    event: object = Noted("t")
    closed: bool = False
    arguments: dict[str, Any] = field(factory=dict[str, Any])

    async def change(self, path: str, value: object, ticket: str = "t") -> None:
        """Have a stranger change the stored document."""
        document: Any = await self.repository.load_document("Ticket", ticket, message_id=None)
        await self.repository.delete_document("Ticket", ticket)
        place, (*outer, last) = document, path.split(".")
        for name in outer:
            place = place[name]
        place[last] = value
        await self.repository.insert_document("Ticket", document)


async def all_of(found: Any) -> None:
    async for _ in found:
        pass


Call = Callable[[Orchestrator, World], Awaitable[object]]
CALLS: dict[str, Call] = {
    "handle": lambda o, w: o.handle(w.event, **w.arguments),
    "run_due": lambda o, _: o.run_due(),
    "retry": lambda o, w: o.retry(Ticket, w.ticket),
    "resume": lambda o, w: o.resume(Ticket, w.ticket),
    "skip": lambda o, w: o.skip(Ticket, w.ticket),
    "cancel": lambda o, w: o.cancel(Ticket, w.ticket),
    "health": lambda o, _: o.health(),
    "find": lambda o, w: o.find(Ticket, w.ticket),
    "wait_for": lambda o, w: o.wait_for(Ticket, w.ticket, **(w.arguments or {"finished": True})),
    "find_by_state": lambda o, w: all_of(
        o.find_by_state(Ticket, w.arguments.get("state", Ticket.open_))
    ),
    "find_stale": lambda o, w: all_of(
        o.find_stale(Ticket, w.arguments.get("older_than", timedelta(0)))
    ),
}


async def no_server(world: World) -> None:
    world.repository = Refusing(world.repository, ServerUnavailableError("nobody is there"))


async def failing_store(world: World) -> None:
    world.repository = Refusing(world.repository, RepositoryError("the disk is full"))


async def lost_answers(world: World) -> None:
    await world.repository.delete_document("Ticket", "u")
    world.repository = LosesAnswers(
        world.repository,
        applies=False,
        times=10**9,
        failing_read=lambda: ServerUnavailableError("nobody is there"),
        failing_reads=10**9,
    )


async def overtaken(world: World) -> None:
    world.repository = Overtaken(world.repository)


async def newer_code(world: World) -> None:
    await world.change("schema", 7)


async def unknown_state(world: World) -> None:
    await world.change("state", "elsewhere")


async def damaged(world: World) -> None:
    await world.change("version", "damaged")


async def data_of_another_type(world: World) -> None:
    await world.change("data.notes", 7)


async def wrong_id(world: World) -> None:
    world.ticket, world.event = 1.5, Noted(1.5)


async def missing(world: World) -> None:
    world.ticket, world.event = "missing", Noted("missing")


async def closed(world: World) -> None:
    world.closed = True


Situation = Callable[[World], Awaitable[None]]
SITUATIONS: dict[str, Situation] = {
    "ServerUnavailableError": no_server,
    "RepositoryError": failing_store,
    "UnknownOutcomeError": lost_answers,
    "ConcurrencyError": overtaken,
    "NewerSchemaError": newer_code,
    "UnknownStateError": unknown_state,
    "DamagedDocumentError": damaged,
    "SerializationError": data_of_another_type,
    "CorrelationError": wrong_id,
    "OperationError": missing,
    "OrchestratorClosedError": closed,
}


def handling(how: str) -> Situation:
    async def arrange(world: World) -> None:
        world.event = Noted("t", how)

    return arrange


async def unknown_event(world: World) -> None:
    world.event = Unknown("t")


async def two_sagas(world: World) -> None:
    world.sagas, world.event = (Ticket, Second), Begun("t")


async def saga_of_others(world: World) -> None:
    world.arguments["saga_type"] = Second


async def two_damaged(world: World) -> None:
    await damaged(world)
    await world.change("version", "damaged", "u")


async def no_such_state(world: World) -> None:
    world.arguments["state"] = "missing"


async def no_instant(world: World) -> None:
    world.arguments["older_than"] = "yesterday"


async def never_ending(world: World) -> None:
    """It stays open."""


async def ended_elsewhere(world: World) -> None:
    world.arguments["state"] = Ticket.open_
    await world.change("state", "gone")
    await world.change("status", "finished")


async def two_goals(world: World) -> None:
    world.arguments.update(finished=True, state=Ticket.gone)


OF_ONE_METHOD: dict[tuple[str, str], Situation] = {
    ("handle", "UnknownEventError"): unknown_event,
    ("handle", "AmbiguousSagaError"): two_sagas,
    ("handle", "SagaflowError"): saga_of_others,
    ("handle", "SagaDefinitionError"): handling("returns another state"),
    ("handle", "SerializationError"): handling("keeps what cannot be stored"),
    ("handle", "LimitExceededError"): handling("grows"),
    ("handle", "StrayCancellationError"): handling("is cancelled"),
    ("handle", "Exception"): handling("raises"),
    ("run_due", "ExceptionGroup"): two_damaged,
    ("find_by_state", "SagaflowError"): no_such_state,
    ("find_stale", "SagaflowError"): no_instant,
    ("wait_for", "SagaflowError"): no_such_state,
    ("wait_for", "WaitTimeoutError"): never_ending,
    ("wait_for", "WaitError"): ended_elsewhere,
    ("wait_for", "ValueError"): two_goals,
}


def said(method: str) -> list[str]:
    """Return what the docstring says that the method raises."""
    return re.findall(r":raises (\w+):", getattr(Orchestrator, method).__doc__)


def name_of(exc: Exception | None) -> str:
    """Return the name of an error; the one that the handler raises here stands for any."""
    return "Exception" if type(exc) is LookupError else type(exc).__name__


PROMISED = [(method, error) for method in CALLS for error in said(method)]


def raised(method: str, arrange: Situation) -> Exception | None:
    """Return what the method raises in a situation. Deadlines pass as soon as everybody waits."""
    exc: Exception | None = trio.run(
        _raised, method, arrange, clock=MockClock(autojump_threshold=0)
    )
    return exc


async def _raised(method: str, arrange: Situation) -> Exception | None:
    clock = ManualClock()
    world = World(clock, MemoryRepository(clock=clock))
    before = Orchestrator([Ticket], world.repository, clock=clock)
    for ticket in ("t", "u"):
        await before.handle(Begun(ticket))
    if method != "handle":
        clock.advance(HOUR)
    if method in ("retry", "resume", "skip", "cancel"):
        await before.run_due()  # it has waited for too long, and is suspended
    await arrange(world)
    orchestrator = Orchestrator(
        world.sagas, world.repository, clock=clock, limits=Limits(max_bytes=5_000)
    )
    if world.closed:
        async with orchestrator:
            pass
    try:
        await CALLS[method](orchestrator, world)
    except Exception as exc:  # noqa: BLE001 - which one it is, is the question
        return exc
    return None


def test_every_method_is_asked() -> None:
    methods = {n for n, v in vars(Orchestrator).items() if callable(v) and not n.startswith("_")}
    assert methods == set(CALLS)
    assert len(PROMISED) > 70


@pytest.mark.parametrize(("method", "error"), PROMISED)
def test_what_is_said_to_be_raised_is_raised(method: str, error: str) -> None:
    exc = raised(method, OF_ONE_METHOD.get((method, error)) or SITUATIONS[error])
    assert name_of(exc) == error


@pytest.mark.parametrize("method", CALLS)
def test_nothing_else_is_raised(method: str) -> None:
    own = [arrange for (other, _), arrange in OF_ONE_METHOD.items() if other == method]
    situations = [*SITUATIONS.values(), two_damaged, *own]
    if method == "run_due":  # which goes on as long as others are faster
        situations.remove(overtaken)
    for arrange in situations:
        exc = raised(method, arrange)
        assert exc is None or name_of(exc) in said(method), arrange.__name__


def test_place_of_an_id_that_raises_is_told() -> None:
    async def arrange(world: World) -> None:
        world.event = Noted("raises")

    assert "LookupError" in str(raised("handle", arrange))
