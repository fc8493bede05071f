"""Carries messages through a MongoDB database: queues, who reads them, and dead letters."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final, TypeVar

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

from sagaflow._concurrency.cancellation import failure
from sagaflow._concurrency.generators import closing
from sagaflow._model.clock import Clock
from sagaflow._model.errors import BusError, RepositoryError, SagaflowError
from sagaflow._model.log import about, get_logger
from sagaflow.bus.transport import DeadLetter, Handle, Outgoing, Transport
from sagaflow.bus.wire import Binding
from sagaflow.mongo.dead_letters import DEAD_LETTER_INDEXES, read_dead_letter
from sagaflow.mongo.drivers import Driver
from sagaflow.mongo.errors import TooLargeError, translated
from sagaflow.mongo.held_queue import Hold
from sagaflow.mongo.queues import (
    QUEUE_INDEXES,
    DamagedQueueError,
    Document,
    Queue,
    claim_of,
    free_queues,
    held,
    left_queues,
    new_queue,
    push,
    queue_id,
    read_queue,
    read_waiting,
    rest,
    services_of,
    waiting_of,
)

logger = get_logger("sagaflow.bus")

DocumentT = TypeVar("DocumentT")
ReadT = TypeVar("ReadT")

_FIRST_PAUSE: Final = 0.01
_TRIES: Final = 5
_DAMAGED_FOR: Final = timedelta(minutes=5)


@define(kw_only=True)
class MongoTransport(Transport):
    """Keeps the messages of a saga for a service in one document.

    :ivar owner: the name of this process.
    :ivar lease: for how long others leave a queue alone that this process has claimed; renewed for
        as long as it handles its messages.
    :ivar poll_interval: how often it looks for messages of other processes when there were none.
    :ivar timeout: how long one operation may take.
    """

    driver: Driver
    service: str
    prefix: str
    owner: str
    clock: Clock
    lease: timedelta
    poll_interval: timedelta
    timeout: timedelta
    _has_indexes: bool = field(default=False, init=False)
    _held: set[str] = field(factory=set[str], init=False)
    _damaged: dict[str, datetime] = field(factory=dict[str, datetime], init=False)
    _pushed: anyio.Event = field(factory=anyio.Event, init=False)

    binding = Binding.PLAIN

    @property
    def _queues(self) -> str:
        return f"{self.prefix}_queues"

    @property
    def _readers(self) -> str:
        return f"{self.prefix}_readers"

    @property
    def _letters(self) -> str:
        return f"{self.prefix}_dead_letters"

    async def subscribe(self, names: Collection[str]) -> None:
        """Note in the document of each name that this service reads its messages."""
        with self._bounded("subscribe", writing=True):
            await self._make_indexes()
            for name in sorted(names):
                known = await self.driver.find_one(self._readers, {"_id": name}, None)
                if self.service in _read(services_of, known, f"the readers of {name}"):
                    continue
                now = self.clock.now()
                change = {"$set": {f"services.{self.service}": now}}
                if not await self.driver.update_one(self._readers, {"_id": name}, change):
                    first = {"_id": name, "services": {self.service: now}}
                    if not await self.driver.insert_one(self._readers, first):
                        await self.driver.update_one(self._readers, {"_id": name}, change)

    async def publish(self, message: Outgoing) -> bool:
        """Push a message to the queue of its key, for each service that reads its name."""
        with self._bounded(f"publish {message.name} {message.id!r}", writing=True):
            found = await self.driver.find_one(self._readers, {"_id": message.name}, None)
            services = _read(services_of, found, f"the readers of {message.name}")
            waiting = waiting_of(message)
            for service in services:
                # A message of no saga has a queue of its own: it has no order to keep.
                key = message.id if message.key is None else message.key
                await self._push(service, key, waiting)
        if self.service in services:
            self._pushed.set()
        return bool(services)

    async def consume(self, handle: Handle, *, concurrency: int, stopping: anyio.Event) -> None:
        """Claim queues that have messages, and handle these."""
        await self._take_back()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._wake_when, stopping)
            pause = _FIRST_PAUSE
            while not stopping.is_set():
                self._pushed = anyio.Event() if self._pushed.is_set() else self._pushed
                try:
                    taken = await self._start_some(tasks, handle, concurrency, stopping)
                except BusError as exc:
                    if not self._held:
                        raise
                    # Handlers at work are not cancelled since no further message can be had.
                    logger.info("%s: %s", self.service, exc, extra=about())
                    taken = False
                pause = (
                    _FIRST_PAUSE if taken else min(pause * 2, self.poll_interval.total_seconds())
                )
                if stopping.is_set():
                    break
                with anyio.move_on_after(0 if taken else pause):
                    await self._pushed.wait()

    async def dead_letters(self) -> AsyncGenerator[DeadLetter, None]:
        """Yield the dead letters of the service, the oldest first."""
        with self._bounded("list the dead letters", writing=False):
            query = {"service": self.service}
            async with closing(
                self.driver.find(self._letters, query, {"_id": 1}, sort="since")
            ) as documents:
                ids = [document["_id"] async for document in documents]
        for one in ids:
            letter = await self.find_dead_letter(str(one).partition("\n")[2])
            if letter is not None:
                yield letter

    async def find_dead_letter(self, letter_id: str) -> DeadLetter | None:
        """Return one dead letter of the service, or None."""
        document = await self._letter(letter_id)
        return None if document is None else read_dead_letter(document)

    async def retry_dead_letter(self, letter_id: str) -> bool:
        """Push a dead letter to the end of its queue again."""
        document = await self._letter(letter_id)
        if document is None:
            return False
        with self._bounded(f"retry the dead letter {letter_id!r}", writing=True):
            waiting = _read(read_waiting, document.get("message"), f"dead letter {letter_id!r}")
            key = document.get("key")
            key = key if isinstance(key, str) else waiting.id
            await self._push(self.service, key, document["message"])
            await self.driver.delete_one(self._letters, {"_id": document["_id"]})
        self._pushed.set()
        return True

    async def drop_dead_letter(self, letter_id: str) -> bool:
        """Remove a dead letter for good."""
        with self._bounded(f"drop the dead letter {letter_id!r}", writing=True):
            query = {"_id": queue_id(self.service, letter_id)}
            return await self.driver.delete_one(self._letters, query) == 1

    async def ping(self) -> None:
        """Read a document that need not be there."""
        with self._bounded("reach the server", writing=False):
            await self.driver.find_one(self._readers, {"_id": ""}, None)

    async def aclose(self) -> None:
        """Do nothing: the client was passed in, and others may use it."""

    async def update_queue(self, condition: Document, change: Document) -> bool:
        """Change a queue if the condition holds, and tell whether it did."""
        with self._bounded("let go of a queue", writing=True):
            return await self.driver.update_one(self._queues, condition, change) == 1

    async def insert_dead_letter(self, letter: Document) -> None:
        """Store a dead letter; one that is there already is the same."""
        with self._bounded("store a dead letter", writing=True):
            await self.driver.insert_one(self._letters, letter)

    async def _make_indexes(self) -> None:
        if self._has_indexes:
            return
        for collection, indexes in (
            (self._queues, QUEUE_INDEXES),
            (self._letters, DEAD_LETTER_INDEXES),
        ):
            for index in indexes:
                await self.driver.create_index(
                    collection, list(index.keys), name=index.name, **index.options
                )
        self._has_indexes = True

    async def _push(self, service: str, key: str, waiting: Document) -> None:
        """Push a message to the end of a queue, which is made if there is none."""
        query = {"_id": queue_id(service, key)}
        for _ in range(_TRIES):
            now = self.clock.now()
            if await self.driver.update_one(self._queues, query, push(waiting, now)):
                return
            if await self.driver.insert_one(self._queues, new_queue(service, key, waiting, now)):
                return
        raise BusError(f"the queue of {key!r} for {service} comes and goes; nothing was published")

    async def _letter(self, letter_id: str) -> Document | None:
        with self._bounded(f"read the dead letter {letter_id!r}", writing=False):
            query = {"_id": queue_id(self.service, letter_id)}
            found: Document | None = await self.driver.find_one(self._letters, query, None)
            return found

    async def _take_back(self) -> None:
        """Free the queues that a process of this name has left behind when it was killed."""
        now = self.clock.now()
        with self._bounded("look for queues that were left", writing=True):
            query = left_queues(self.service, self.owner, now)
            left: list[Document] = []
            fields = {"claim": 1}
            async with closing(self.driver.find(self._queues, query, fields)) as documents:
                left = [one async for one in documents]
            for one in left:
                name, claim = one["_id"], one.get("claim")
                if not isinstance(name, str) or not isinstance(claim, int):
                    continue  # it is not ours, and might be read as an operator
                if name in self._held:
                    continue
                condition = {"_id": name, "claim": claim}
                await self.driver.update_one(self._queues, condition, rest(now))

    async def _start_some(
        self, tasks: TaskGroup, handle: Handle, concurrency: int, stopping: anyio.Event
    ) -> bool:
        """Have queues worked on that are free, and tell whether there were any."""
        room = concurrency - len(self._held)
        if room <= 0:
            return False
        now, started = self.clock.now(), False
        with self._bounded("look for messages", writing=False):
            query = free_queues(self.service, now)
            async with closing(
                self.driver.find(
                    self._queues, query, None, sort="wake", limit=room + len(self._damaged)
                )
            ) as documents:
                found = [document async for document in documents]
        for document in found:
            name = str(document["_id"])  # another program may have stored anything
            if name in self._held or self._is_set_aside(name, now):
                continue
            try:
                queue = read_queue(document)
            except DamagedQueueError as exc:
                self._damaged[name] = now + _DAMAGED_FOR
                message = "%s: the queue %r is damaged: %s"
                logger.error(message, self.service, name, exc, extra=about())  # noqa: TRY400
                continue
            started = True
            self._held.add(queue.id)
            tasks.start_soon(self._work, queue, handle, stopping, name=f"queue {queue.id}")
        return started

    def _is_set_aside(self, queue: str, now: datetime) -> bool:
        until = self._damaged.get(queue)
        if until is not None and until <= now:
            del self._damaged[queue]
            return False
        return until is not None

    async def _work(self, queue: Queue, handle: Handle, stopping: anyio.Event) -> None:
        """Claim a queue, handle its messages, and let go of it."""
        try:
            with self._bounded("claim a queue", writing=True):
                until = self.clock.now() + self.lease
                condition, change = claim_of(queue, self.owner, until)
                if not await self.driver.update_one(self._queues, condition, change):
                    return
            hold = Hold(
                queue=queue,
                service=self.service,
                writes=self,
                handle=handle,
                clock=self.clock,
                stopping=stopping,
            )
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._renew, queue, tasks)
                await hold.run()
                tasks.cancel_scope.cancel()
        except BaseException as caught:  # noqa: BLE001 - one queue does not stop the others
            error = failure(caught)
            message = "%s: the queue of %r is tried again: %s"
            logger.warning(message, self.service, queue.key, error, extra=about())
        finally:
            self._held.discard(queue.id)
            self._pushed.set()

    async def _renew(self, queue: Queue, tasks: TaskGroup) -> None:
        """Keep a queue while its messages are handled; stop handling them if it was lost."""
        expires = anyio.current_time() + self.lease.total_seconds()
        while True:
            await anyio.sleep(self.lease.total_seconds() / 3)
            asked = anyio.current_time()
            if asked >= expires:
                break
            try:
                until = self.clock.now() + self.lease
                with self._bounded("renew a claim", writing=True):
                    if not await self.driver.update_one(self._queues, held(queue), rest(until)):
                        break
                expires = asked + self.lease.total_seconds()
            except SagaflowError as exc:
                logger.info("%s: %s", self.service, exc, extra=about())
        message = "%s: the queue of %r was lost to another"
        logger.warning(message, self.service, queue.key, extra=about())
        tasks.cancel_scope.cancel()

    async def _wake_when(self, stopping: anyio.Event) -> None:
        await stopping.wait()
        self._pushed.set()

    @contextmanager
    def _bounded(self, operation: str, *, writing: bool) -> Generator[None]:
        """Limit the time of an operation, and raise the bus's errors instead of the driver's."""
        try:
            with anyio.fail_after(self.timeout.total_seconds()):
                with translated(operation, writing=writing):
                    yield
        except TimeoutError as exc:
            raise BusError(f"cannot {operation}: no answer within {self.timeout}") from exc
        except TooLargeError as exc:
            raise BusError(
                f"cannot {operation}: too many messages of this saga wait already; they have to "
                "be handled first"
            ) from exc
        except RepositoryError as exc:
            raise BusError(str(exc)) from exc


def _read(read: Callable[[DocumentT], ReadT], document: DocumentT, called: str) -> ReadT:
    """Read a part of a document.

    :raises BusError: if it is damaged.
    """
    try:
        return read(document)
    except DamagedQueueError as exc:
        raise BusError(f"{called}: the document is damaged: {exc}") from exc
