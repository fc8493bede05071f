"""The commit protocol of one saga, small enough to enumerate.

Every interleaving of two writers and a sweeper over one document is visited, with crashes, answers
that are lost, writes that arrive late, redelivered events, refused messages and a document that is
deleted and made anew. What is modelled, and where the library does it:

* a writer takes an event: read, decide, conditional write (`Processing`, `Commits`); the inbox
  recognises what was handled; an unknown outcome is resolved by the token of the write;
* whoever has written publishes the outbox of its record in order, and notes it after that
  (`Relay`): it removes messages by id whatever the version is, and changes ``wake`` only at
  its version;
* a writer that has published may take its next event on what it has written itself, without reading
  it (`HotSagas`), and have that write remove what it has published, rather than note that
  (`Mailbox`): such a write sets the outbox as a whole;
* a transition always writes ``wake``, as computed from what it has read (`_BOOKKEPT` in the codec),
  since notes change it without a new version;
* the sweeper reads what is due, fires its timer, publishes.

A lease only saves work and may run out at any time, so nothing may rest on it: here it keeps nobody
from anything, and is left out. Time has two instants, before and after the timer is due.

Each `Mistake` takes one part of that away; `explore` must then find a state that breaks the promise
and return the shortest way there.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Final, Literal, NamedTuple

TIMER: Final = 0
"""What the timer of the saga causes; the events are numbered from 1."""

NOW, AT_TIMER, NEVER = 0, 1, 2
"""When a saga is due, as ``wake`` says it. The clock stands at `NOW` or at `AT_TIMER`."""

WRITERS: Final = (0, 1)
SWEEPER: Final = 2
NAMES: Final = ("writer A", "writer B", "sweeper")


class Mistake(Enum):
    """A part of the protocol to take away."""

    NO_VERSION_IN_FILTER = "a write does not ask for the version that it read"
    NO_INCARNATION_IN_FILTER = "a write does not ask for the incarnation that it read"
    WHOLE_DOCUMENT_REPLACED = "bookkeeping replaces the document by what it knows"
    OUTBOX_EMPTIED = "bookkeeping empties the outbox instead of removing what was sent"
    WAKE_WITHOUT_VERSION = "bookkeeping sets wake whatever the version is"
    WAKE_NOT_REWRITTEN = "a transition writes wake only if it differs from what was read"
    WAKE_TOO_LATE = "a transition leaves wake to be set after publishing"
    UNKNOWN_IS_FAILURE = "a write whose answer was lost is reported as failed"
    UNKNOWN_IS_SUCCESS = "a write whose answer was lost is taken for done"
    PUBLISHED_BEFORE_WRITE = "messages leave before the write"
    NOTED_BEFORE_PUBLISHING = "messages are removed before they are published"
    INBOX_NOT_ASKED = "a handled event is not recognised"
    TIMER_NOT_REMOVED = "the write that applies a timer does not remove it"
    UNSENT_REMOVED_BY_WRITE = "a write removes all messages that it knows, sent or not"
    WAKE_NEVER_CLEARED = "a wake for which there is no work stays"


class Message(NamedTuple):
    """An outgoing message. Its id is the incarnation and the number."""

    incarnation: tuple[int, int]
    number: int
    cause: int


class Document(NamedTuple):
    """The saga as it is stored; *applied* is its history: who applied which cause on top of what.

    An entry of it is also the token of its write.
    """

    incarnation: tuple[int, int]
    version: int
    sequence: int
    inbox: frozenset[int]
    outbox: tuple[Message, ...]
    timer: bool
    wake: int
    applied: tuple[tuple[int, int, int], ...]


class Write(NamedTuple):
    """A transition on its way to the store; *removes* says that it sets the outbox as a whole."""

    actor: int
    cause: int
    before: Document | None
    after: Document
    removes: bool = False

    @property
    def token(self) -> tuple[int, int, int]:
        return self.after.applied[-1]


class Idle(NamedTuple):
    """Nothing in memory, as after a start."""

    doing: Literal["nothing"] = "nothing"


class Read(NamedTuple):
    """The document was read to apply *cause*, or is known; *sent* is to be removed from it."""

    cause: int
    record: Document | None
    sent: frozenset[Message] = frozenset()
    doing: Literal["deciding"] = "deciding"


class Decided(NamedTuple):
    """What is to be written is known; only with `Mistake.PUBLISHED_BEFORE_WRITE` does it show."""

    write: Write
    doing: Literal["writing"] = "writing"


class Unknown(NamedTuple):
    """The answer to this write was lost."""

    write: Write
    doing: Literal["resolving"] = "resolving"


class Publishing(NamedTuple):
    """*record* was stored or read; what is left of its outbox is being published."""

    record: Document
    left: tuple[Message, ...]
    sent: frozenset[Message]
    doing: Literal["publishing"] = "publishing"


Actor = Idle | Read | Decided | Unknown | Publishing


class Budget(NamedTuple):
    """How often what goes wrong may still go wrong."""

    crashes: int = 0
    unknown: int = 0
    refusals: int = 0
    duplicates: int = 0
    deletions: int = 0


class World(NamedTuple):
    """A state of everything.

    The last four are for the checks alone: what was reported as accepted and as failed, what the
    bus has accepted, what was ever stored.
    """

    document: Document | None
    actors: tuple[Actor, Actor, Actor]
    wire: Write | None
    time: int
    lives: int
    budget: Budget
    accepted: frozenset[tuple[int, tuple[int, int]]]
    failed: frozenset[tuple[int, int, int]]
    published: frozenset[Message]
    committed: frozenset[Message]


class Violation(NamedTuple):
    """A promise that was broken, and the shortest way there."""

    promise: str
    trace: tuple[str, ...]

    def __str__(self) -> str:
        steps = "\n".join(f"  {number}. {step}" for number, step in enumerate(self.trace, 1))
        return f"{self.promise}\n{steps}"


class Exploration(NamedTuple):
    """What a search came to."""

    states: int
    quiet: int
    violation: Violation | None


Step = tuple[str, World]


class Protocol:
    """The steps that are possible in a world, and the promises.

    :param events: how many events there are; the first to come starts the saga, any further one
        ends the state whose timer the first has armed.
    """

    def __init__(
        self, *, events: int = 2, budget: Budget | None = None, mistake: Mistake | None = None
    ) -> None:
        self.events: Final = range(1, events + 1)
        self.mistake: Final = mistake
        self.start: Final = World(
            document=None,
            actors=(Idle(), Idle(), Idle()),
            wire=None,
            time=NOW,
            lives=0,
            budget=budget or Budget(),
            accepted=frozenset(),
            failed=frozenset(),
            published=frozenset(),
            committed=frozenset(),
        )

    # What can happen next

    def steps(self, world: World) -> Iterator[Step]:
        """Yield what can happen next, each with the world after it."""
        document, budget = world.document, world.budget
        for number, actor in enumerate(world.actors):
            name = NAMES[number]
            match actor:
                case Idle():
                    if number == SWEEPER:
                        yield from self._sweep(world)
                    elif number == 0 or not isinstance(world.actors[0], Idle):
                        # Idle writers are alike: it is enough that the first goes first.
                        yield from self._receive(world, number)
                case Read():
                    yield from self._decide(world, number, actor)
                case Decided(write, _):
                    yield from self._write(world, number, write)
                case Unknown(write, _):
                    yield from self._resolve(world, number, write)
                case Publishing():
                    yield from self._publish(world, number, actor)
            if budget.crashes and not isinstance(actor, Idle):
                left = budget._replace(crashes=budget.crashes - 1)
                yield f"{name} crashes", _with(world, number, Idle(), budget=left)
        if world.wire is not None:
            yield (
                "the write whose answer was lost reaches the store",
                self._stored(world._replace(wire=None), world.wire)[0],
            )
            yield "the write whose answer was lost is lost itself", world._replace(wire=None)
        if world.time == NOW and document is not None and document.timer:
            yield "time passes until the timer is due", world._replace(time=AT_TIMER)
        if document is not None and budget.deletions:
            left = budget._replace(deletions=budget.deletions - 1)
            yield (
                "the saga is deleted",
                world._replace(document=None, budget=left, lives=world.lives + 1),
            )

    def _receive(self, world: World, number: int) -> Iterator[Step]:
        """Have a writer take an event that nobody has accepted, or once more one that somebody has.

        While nobody has accepted it, the bus may deliver it to several at once.
        """
        accepted = {event for event, _ in world.accepted}
        for event in self.events:
            read = Read(event, world.document)
            label = f"{NAMES[number]} receives event {event} and reads {_shown(world.document)}"
            if event not in accepted:
                yield label, _with(world, number, read)
            elif world.budget.duplicates:
                left = world.budget._replace(duplicates=world.budget.duplicates - 1)
                yield label + " (again)", _with(world, number, read, budget=left)

    def _sweep(self, world: World) -> Iterator[Step]:
        record = world.document
        if record is None or record.wake > world.time:
            return
        label = f"{NAMES[SWEEPER]} finds the saga due and reads {_shown(record)}"
        if record.timer and world.time == AT_TIMER:
            yield label + " to fire its timer", _with(world, SWEEPER, Read(TIMER, record))
        else:
            yield label, _with(world, SWEEPER, _publishing(record))

    def _decide(self, world: World, number: int, actor: Read) -> Iterator[Step]:
        cause, record, sent, _ = actor
        name = NAMES[number]
        if (
            record is not None
            and cause in record.inbox
            and self.mistake is not Mistake.INBOX_NOT_ASKED
        ):
            done = world._replace(accepted=world.accepted | {(cause, record.incarnation)})
            yield f"{name} recognises event {cause} as handled", _with(done, number, Idle())
            return
        after = self._after(world, number, cause, record, sent)
        write = Write(number, cause, record, after, removes=bool(sent))
        if self.mistake is Mistake.PUBLISHED_BEFORE_WRITE:
            published = world._replace(published=world.published | set(write.after.outbox))
            yield (
                f"{name} publishes what it is going to store",
                _with(published, number, Decided(write)),
            )
        else:
            yield from self._write(world, number, write)

    def _after(
        self,
        world: World,
        number: int,
        cause: int,
        record: Document | None,
        sent: frozenset[Message],
    ) -> Document:
        """Return what an event or the timer makes of the saga, as `concluded` does."""
        if record is None:
            incarnation, version, sequence = (world.lives, number), 0, 0
            inbox, outbox = frozenset[int](), tuple[Message, ...]()
            history = tuple[tuple[int, int, int], ...]()
        else:
            incarnation, version, sequence = record.incarnation, record.version, record.sequence
            inbox, outbox, history = record.inbox, record.outbox, record.applied
            outbox = tuple(message for message in outbox if message not in sent)
        timer = record is None
        if cause == TIMER:
            timer = self.mistake is Mistake.TIMER_NOT_REMOVED
        else:
            sequence += 1
            inbox |= {cause}
            outbox = (*outbox, Message(incarnation, sequence, cause))
        return Document(
            incarnation=incarnation,
            version=version + 1,
            sequence=sequence,
            inbox=inbox,
            outbox=outbox,
            timer=timer,
            wake=self._wake(outbox, timer=timer),
            applied=(*history, (version, number, cause)),
        )

    def _wake(self, outbox: tuple[Message, ...], *, timer: bool) -> int:
        if outbox and self.mistake is not Mistake.WAKE_TOO_LATE:
            return NOW
        return AT_TIMER if timer else NEVER

    def _write(self, world: World, number: int, write: Write) -> Iterator[Step]:
        name, what = NAMES[number], _cause(write.cause)
        after, stored = self._stored(world, write)
        if stored:
            yield f"{name} stores {what} as {_shown(write.after)}", self._committed(after, write)
        else:
            yield f"{name} cannot store {what}, another write came first", self._again(after, write)
        if world.budget.unknown and world.wire is None:
            left = world.budget._replace(unknown=world.budget.unknown - 1)
            lost = world._replace(wire=write, budget=left)
            label = f"{name} writes {what} and loses the connection"
            yield label, _with(lost, number, Unknown(write))

    def _resolve(self, world: World, number: int, write: Write) -> Iterator[Step]:
        name = NAMES[number]
        if self.mistake is Mistake.UNKNOWN_IS_FAILURE:
            failed = world._replace(failed=world.failed | {write.token})
            yield f"{name} reports that the write failed", _with(failed, number, Idle())
            return
        if self.mistake is Mistake.UNKNOWN_IS_SUCCESS:
            yield f"{name} takes the write for done", self._committed(world, write)
            return
        record = world.document
        if (
            record is not None
            and record.incarnation == write.after.incarnation
            and write.token in record.applied
        ):
            yield f"{name} finds the token of its write", self._committed(world, write)
        else:
            yield f"{name} does not find the token of its write", self._again(world, write)

    def _again(self, world: World, write: Write) -> World:
        """Return the world in which the actor starts over from what is stored now."""
        if write.actor != SWEEPER:
            return _with(world, write.actor, Read(write.cause, world.document))
        return _with(world, SWEEPER, Idle())

    def _committed(self, world: World, write: Write) -> World:
        if write.cause != TIMER:
            accepted = world.accepted | {(write.cause, write.after.incarnation)}
            world = world._replace(accepted=accepted)
        return _with(world, write.actor, _publishing(write.after))

    def _publish(self, world: World, number: int, actor: Publishing) -> Iterator[Step]:
        name = NAMES[number]
        if self.mistake is Mistake.NOTED_BEFORE_PUBLISHING and actor.left and not actor.sent:
            noted = self._noted(world, actor._replace(sent=frozenset(actor.left)))
            early = actor._replace(sent=frozenset(actor.left))
            yield f"{name} removes what it is going to publish", _with(noted, number, early)
        elif actor.left:
            message, left = actor.left[0], actor.left[1:]
            after = actor._replace(left=left, sent=actor.sent | {message})
            accepted = world._replace(published=world.published | {message})
            yield f"{name} publishes message {message.number}", _with(accepted, number, after)
            if world.budget.refusals:
                fewer = world.budget._replace(refusals=world.budget.refusals - 1)
                yield (
                    f"{name} cannot publish message {message.number}",
                    _with(world, number, actor._replace(left=()), budget=fewer),
                )
        else:
            yield from self._note(world, number, actor)
            careless = self.mistake is Mistake.UNSENT_REMOVED_BY_WRITE
            if (actor.sent or careless) and number != SWEEPER:
                yield from self._go_on(world, number, actor)

    def _go_on(self, world: World, number: int, actor: Publishing) -> Iterator[Step]:
        """Have a writer take its next event on what it has written, which may be out of date."""
        accepted = {event for event, _ in world.accepted}
        for event in self.events:
            if event not in accepted and event not in actor.record.inbox:
                careless = self.mistake is Mistake.UNSENT_REMOVED_BY_WRITE
                sent = frozenset(actor.record.outbox) if careless else actor.sent
                read = Read(event, actor.record, sent)
                label = f"{NAMES[number]} receives event {event} for {_shown(actor.record)}"
                yield label, _with(world, number, read)

    def _note(self, world: World, number: int, actor: Publishing) -> Iterator[Step]:
        name, record, document = NAMES[number], actor.record, world.document
        if not record.outbox and self.mistake is Mistake.WAKE_NEVER_CLEARED:
            yield f"{name} has nothing to note", _with(world, number, Idle())
            return
        after = _with(self._noted(world, actor), number, Idle())
        sent = sorted(message.number for message in actor.sent)
        yield f"{name} notes that {sent or 'nothing'} of {_shown(record)} was sent", after
        if world.budget.unknown and actor.sent:
            fewer = world.budget._replace(unknown=world.budget.unknown - 1)
            label = f"{name} cannot note that {sent} was sent"
            yield label, _with(world, number, Idle(), budget=fewer)
        if document is None or document.version == record.version:
            return
        if document.incarnation == record.incarnation:
            new = tuple(m for m in document.outbox if m not in actor.sent)
            if new:
                more = Publishing(document, new, frozenset())
                yield (
                    f"{name} notes that {sent} was sent, and goes on with what was added",
                    _with(after, number, more),
                )

    def _noted(self, world: World, actor: Publishing) -> World:
        """Return the world after one piece of bookkeeping."""
        document, record = world.document, actor.record
        if document is None or document.incarnation != record.incarnation:
            return world
        left = tuple(message for message in record.outbox if message not in actor.sent)
        wake = NOW if left else AT_TIMER if record.timer else NEVER
        if self.mistake is Mistake.WHOLE_DOCUMENT_REPLACED:
            replaced = record._replace(outbox=left, wake=wake)
            return world._replace(document=replaced)
        kept = tuple(message for message in document.outbox if message not in actor.sent)
        if self.mistake is Mistake.OUTBOX_EMPTIED:
            kept = ()
        document = document._replace(outbox=kept)
        if document.version == record.version or self.mistake is Mistake.WAKE_WITHOUT_VERSION:
            document = document._replace(wake=wake)
        return world._replace(document=document)

    def _stored(self, world: World, write: Write) -> tuple[World, bool]:
        """Return the world after the store has looked at a write, and whether it took place."""
        document, before, after = world.document, write.before, write.after
        if before is None:
            if document is not None:
                return world, False
            return _with_commit(world, after, after), True
        if document is None:
            return world, False
        if (
            document.incarnation != before.incarnation
            and self.mistake is not Mistake.NO_INCARNATION_IN_FILTER
        ):
            return world, False
        if document.version != before.version and self.mistake is not Mistake.NO_VERSION_IN_FILTER:
            return world, False
        # What is appended is appended to what is stored; the rest is what was decided.
        new = tuple(message for message in after.outbox if message.number > before.sequence)
        same_wake = self.mistake is Mistake.WAKE_NOT_REWRITTEN and after.wake == before.wake
        stored = after._replace(
            incarnation=document.incarnation,
            inbox=document.inbox | after.inbox,
            outbox=after.outbox if write.removes else (*document.outbox, *new),
            applied=(*document.applied, write.token),
            wake=document.wake if same_wake else after.wake,
        )
        return _with_commit(world, stored, after), True

    # What must hold

    def broken_by(self, before: World, after: World) -> str | None:
        """Return the promise that a step has broken, or None."""
        document = after.document
        if document is not None and document is not before.document:
            broken = self._document_broken(before, document, after)
            if broken is not None:
                return broken
        for message in after.published - before.published:
            if message not in after.committed:
                return "a message was published that was never stored"
            for other in before.published:
                if other.incarnation != message.incarnation:
                    continue
                if (other.number == message.number) is not (other.cause == message.cause):
                    return "one message was published with two ids, or two with one"
            first = {m.number for m in before.published if m.incarnation == message.incarnation}
            if first != set(range(1, message.number)) and message.number not in first:
                return "a message was published before an earlier one"
        if document is not None:
            if after.failed.intersection(document.applied):
                return "an event was reported failed and is stored"
            if document.timer and document.wake > AT_TIMER:
                return "wake is later than the timer"
            if document.outbox and document.wake > NOW and not _is_held(after, document):
                return "messages wait, nobody holds them in memory, and wake is not due"
        return None

    def _document_broken(self, before: World, document: Document, after: World) -> str | None:
        old = before.document
        causes = [cause for _, _, cause in document.applied]
        if len(set(causes)) != len(causes):
            twice = next(cause for cause in causes if causes.count(cause) > 1)
            return f"{_cause(twice)} was applied twice"
        if any(message.incarnation != document.incarnation for message in document.outbox):
            return "a write for one life of a saga was applied to another"
        if old is None or old.incarnation != document.incarnation:
            return None if document.version == 1 else "a saga did not begin with version 1"
        writes = len(document.applied) - len(old.applied)
        if not document.version - old.version == writes >= 0:
            return "the version did not rise by one with each write, and with writes alone"
        for message in set(old.outbox) - set(document.outbox):
            if message not in after.published:
                return f"message {message.number} was removed before it was published"
        fired = any(cause == TIMER for _, _, cause in document.applied[len(old.applied) :])
        if fired and not old.timer:
            return "a removed timer fired"
        return None

    def unfinished(self, world: World) -> str | None:
        """Return what is missing in a world in which nothing can happen any more, or None."""
        document = world.document
        if len({event for event, _ in world.accepted}) < len(self.events):
            return "an event was never accepted"
        if document is None:
            return None
        for event, incarnation in world.accepted:
            if incarnation == document.incarnation and event not in document.inbox:
                return f"event {event} was accepted and is lost"
        mine = {m for m in world.committed if m.incarnation == document.incarnation}
        if document.outbox or not mine <= world.published:
            return "a message was never published"
        if document.timer:
            return "the timer never fired"
        return None


def explore(protocol: Protocol) -> Exploration:
    """Visit every state, breadth first, until a promise is broken.

    In the end a quiet state, in which everything is done, must be reachable from each state: so
    nothing is ever stuck, and no work is repeated for ever without getting anywhere.
    """
    with _without_collection():
        return _explore(protocol)


@contextmanager
def _without_collection() -> Generator[None]:
    """Keep the collector from looking again and again at states, which hold no cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _explore(protocol: Protocol) -> Exploration:
    came: dict[World, tuple[World, str] | None] = {protocol.start: None}
    leads: dict[World, list[World]] = {}
    queue = deque([protocol.start])
    quiet: list[World] = []
    while queue:
        world = queue.popleft()
        ended = True
        for label, after in protocol.steps(world):
            ended = False
            if after != world:
                leads.setdefault(after, []).append(world)
            if after in came:
                continue
            came[after] = (world, label)
            broken = protocol.broken_by(world, after)
            if broken is not None:
                return Exploration(len(came), len(quiet), Violation(broken, _trace(came, after)))
            queue.append(after)
        if _rests(world):
            missing = protocol.unfinished(world)
            if missing is None:
                quiet.append(world)
            elif ended:
                return Exploration(len(came), len(quiet), Violation(missing, _trace(came, world)))
    finishing = set(quiet)
    queue = deque(quiet)
    while queue:
        for before in leads.get(queue.popleft(), ()):
            if before not in finishing:
                finishing.add(before)
                queue.append(before)
    stuck = next((world for world in came if world not in finishing), None)
    if stuck is None:
        return Exploration(len(came), len(quiet), None)
    broken = protocol.unfinished(stuck) or "the saga never comes to rest"
    return Exploration(len(came), len(quiet), Violation(broken, _trace(came, stuck)))


def _rests(world: World) -> bool:
    """Tell whether nobody is doing anything and nothing is due, now or later."""
    document = world.document
    return (
        all(isinstance(actor, Idle) for actor in world.actors)
        and world.wire is None
        and (document is None or document.wake == NEVER)
    )


def _trace(came: dict[World, tuple[World, str] | None], world: World) -> tuple[str, ...]:
    steps: list[str] = []
    found = came[world]
    while found is not None:
        world, label = found
        steps.append(label)
        found = came[world]
    return tuple(reversed(steps))


def _is_held(world: World, document: Document) -> bool:
    """Tell whether every message that waits is in the memory of a live actor."""
    held: set[Message] = set()
    for actor in world.actors:
        if isinstance(actor, Publishing):
            held.update(actor.record.outbox)
        elif isinstance(actor, Unknown):
            held.update(actor.write.after.outbox)
    return held.issuperset(document.outbox)


def _with_commit(world: World, stored: Document, after: Document) -> World:
    committed = world.committed | set(after.outbox)
    return world._replace(document=stored, committed=committed)


def _with(world: World, number: int, actor: Actor, *, budget: Budget | None = None) -> World:
    first, second, sweeper = world.actors
    actors: tuple[Actor, Actor, Actor]
    match number:
        case 0:
            actors = (actor, second, sweeper)
        case 1:
            actors = (first, actor, sweeper)
        case _:
            actors = (first, second, actor)
    return world._replace(actors=actors, budget=budget or world.budget)


def _publishing(record: Document) -> Publishing:
    return Publishing(record, record.outbox, frozenset())


def _cause(cause: int) -> str:
    return "the timer" if cause == TIMER else f"event {cause}"


def _shown(document: Document | None) -> str:
    if document is None:
        return "no saga"
    waiting = ", ".join(str(message.number) for message in document.outbox)
    wake = ("now", "at its timer", "never")[document.wake]
    return f"version {document.version} (outbox [{waiting}], wake {wake})"
