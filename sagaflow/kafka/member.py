"""A member of a consumer group: its thread, and what it tells the event loop.

The thread asks Kafka for messages all the time, also while handlers take minutes: a member that
does not ask is thrown out of its group. It commits what it is told, and nothing by itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final, TypeAlias

from attrs import define, field, frozen

from sagaflow._model.errors import BusError
from sagaflow._model.log import about, get_logger
from sagaflow._model.texts import cleaned
from sagaflow.kafka.client import Client
from sagaflow.kafka.progress import Reached, Start, read_start
from sagaflow.kafka.records import Record, read_record
from sagaflow.kafka.threads import Tell

logger = get_logger("sagaflow.bus")

_POLL: Final = 0.1
"""Seconds for which the thread waits for a message, before it looks what it is to do."""
_BATCH: Final = 500
_AGAIN: Final = 0.5
"""Seconds after which a commit that was refused is made again."""
_MOST_UNREAD: Final = 4
"""How many batches the event loop may have before it; then the thread waits for it."""
_CANCELLING: Final = 10.0
"""Seconds for which handlers that were cancelled are waited for."""


@frozen
class Assigned:
    """Partitions that this process has from now on."""

    starts: list[Start]


@frozen
class Batch:
    """Messages, those of each partition in their order."""

    records: list[Record] = field(repr=False)


@define(eq=False)
class Handover:
    """Partitions that another process is to have.

    :ivar is_lost: whether it may have them already: then nothing is waited for or committed.
    :ivar reached: what is to be committed, once *is_ready*.
    """

    partitions: frozenset[int]
    is_lost: bool
    reached: list[Reached] = field(factory=list[Reached])
    is_ready: threading.Event = field(factory=threading.Event)


@frozen
class Overdue:
    """A handover for which the thread waits no longer: handlers are to be cancelled."""

    handover: Handover


@frozen
class Failed:
    """The thread has ended, or its work is of no use any more."""

    error: Exception


Event: TypeAlias = Assigned | Batch | Handover | Overdue | Failed


@define(eq=False, kw_only=True)
class Member:
    """Takes messages of a topic, in a thread.

    :ivar settings: what the client is told of the group.
    :ivar patience: seconds for which handlers may go on with a partition that is given away.
    :ivar receive: called with each event, in the event loop.
    """

    client: Client
    topic: str
    settings: Mapping[str, Any]
    patience: float
    tell: Tell
    receive: Callable[[Event], None]
    thread: threading.Thread = field(init=False)
    _consumer: Any = field(default=None, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _reached: dict[int, Reached] = field(factory=dict[int, Reached], init=False)
    _sent: dict[int, Reached] = field(factory=dict[int, Reached], init=False)
    _paused: dict[int, bool] = field(factory=dict[int, bool], init=False)
    _refused_since: float | None = field(default=None, init=False)
    _is_warned: bool = field(default=False, init=False)
    _again_at: float = field(default=0.0, init=False)
    _unread: int = field(default=0, init=False)
    _is_read: threading.Event = field(factory=threading.Event, init=False)
    _ends: threading.Event = field(factory=threading.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, name="sagaflow-kafka-member", daemon=True)

    def commit(self, reached: Reached) -> None:
        """Have it committed soon how far a partition was dealt with."""
        with self._lock:
            self._reached[reached.partition] = reached

    def pause(self, partition: int, *, is_paused: bool) -> None:
        """Have a partition left alone, or taken up again."""
        with self._lock:
            self._paused[partition] = is_paused

    def end(self) -> None:
        """Have the thread commit what it was told, leave the group and end."""
        self._ends.set()
        self._is_read.set()

    def _tell(self, event: Event) -> None:
        self.tell(lambda: self.receive(event))

    def _run(self) -> None:
        try:
            with self.client.translated(f"take messages of {self.topic}"):
                given = {**self.settings, "on_commit": self._note_commit}
                self._consumer = self.client.member(given, self._note_error)
                try:
                    self._consumer.subscribe(
                        [self.topic],
                        on_assign=self._assigned,
                        on_revoke=self._revoked,
                        on_lost=self._lost,
                    )
                    while not self._ends.is_set():
                        self._do_what_was_asked()
                        self._take()
                    self._commit_the_last()
                finally:
                    self._ends.set()
                    self._consumer.close()
        except Exception as exc:  # noqa: BLE001 - raised where messages are waited for
            self._tell(Failed(exc))

    def _note_error(self, error: Any) -> None:
        """Note an error that is about no message: of a connection, or of the group."""
        if error.fatal():
            self._tell(Failed(self.client.error(f"take messages of {self.topic}", error)))
        elif self.client.is_code(error, "_ALL_BROKERS_DOWN"):
            why = self.client.trouble or error.str()
            self._tell(
                Failed(
                    BusError(
                        f"cannot take messages of {self.topic}: Kafka at {self.client.place} "
                        f"cannot be reached: {why}"
                    )
                )
            )

    def _take(self) -> None:
        """Take what there is, and hand it to the event loop."""
        if self._unread >= _MOST_UNREAD:
            self._is_read.wait(_POLL)
            return
        first = self._consumer.poll(_POLL)
        if first is None:
            return
        records: list[Record] = []
        for found in (first, *self._consumer.consume(_BATCH, 0)):
            error = found.error()
            if error is None:
                records.append(read_record(found))
            elif not error.retriable():
                raise self.client.error(f"take messages of {self.topic}", error)
        self._is_read.clear()
        with self._lock:
            self._unread += 1
        self.tell(lambda: self._hand_over(Batch(records)))

    def _hand_over(self, batch: Batch) -> None:
        with self._lock:
            self._unread -= 1
        self._is_read.set()
        self.receive(batch)

    def _do_what_was_asked(self) -> None:
        mine = self._mine()
        with self._lock:
            paused, self._paused = self._paused, {}
            reached: dict[int, Reached] = {}
            if time.monotonic() >= self._again_at:
                told, self._reached = self._reached, {}
                reached = {one: told[one] for one in told.keys() & mine}
                self._sent.update(reached)
        for partition in paused.keys() & mine:
            change = self._consumer.pause if paused[partition] else self._consumer.resume
            change([self.client.place_in(self.topic, partition)])
        self._commit(reached, waits=False)

    def _mine(self) -> set[int]:
        return {place.partition for place in self._consumer.assignment()}

    def _note_commit(self, error: Any, places: list[Any]) -> None:
        """Note which commits have failed: Kafka refuses them while a group is put together anew."""
        refusal: Any = error
        with self._lock:
            for place in places:
                failed = error or place.error
                refusal = refusal or failed
                sent = self._sent.get(place.partition)
                if sent is not None and sent.offset == place.offset:  # and no later one was sent
                    del self._sent[place.partition]
                    if failed is not None:
                        self._reached.setdefault(place.partition, sent)
        self._note_refusal(refusal)

    def _note_refusal(self, error: Any) -> None:
        """Note whether commits are refused; the log is told when that lasts.

        :param error: why; None if they are not.
        """
        if error is None:
            self._refused_since, self._is_warned = None, False
            return
        now = time.monotonic()
        self._again_at = now + _AGAIN
        self._refused_since = self._refused_since or now
        if now - self._refused_since > self.client.seconds and not self._is_warned:
            self._is_warned = True
            message = "%s: what is dealt with cannot be committed, and is tried again: %s"
            logger.warning(message, self.topic, cleaned(str(error)), extra=about())

    def _told(self, partitions: AbstractSet[int]) -> dict[int, Reached]:
        """Return what is known of partitions and may not be committed."""
        with self._lock:
            known = {**self._sent, **self._reached}
        return {one: known[one] for one in known.keys() & partitions}

    def _commit_the_last(self) -> None:
        """Commit what was dealt with, and wait for it, for as long as an operation may take."""
        ends = time.monotonic() + self.client.seconds
        self._again_at = 0.0
        while time.monotonic() < ends:
            self._do_what_was_asked()
            if not self._told(self._mine()):
                return
            self._consumer.poll(_POLL)  # it tells of commits; what else comes stays for others

    def _commit(self, reached: Mapping[int, Reached], *, waits: bool) -> bool:
        """Commit, and tell whether that may count as done.

        What fails in the end is only done again by whoever has the partition next.
        """
        places = [
            self.client.place_in(self.topic, one.partition, one.offset, one.told)
            for one in reached.values()
        ]
        if not places:
            return True
        try:
            found = self._consumer.commit(offsets=places, asynchronous=not waits)
        except Exception as exc:  # noqa: BLE001 - the client's
            self._note_refusal(exc)
            return False
        if not waits:
            return True  # `_note_commit` is told what has become of it
        error = next((one.error for one in found if one.error is not None), None)
        self._note_refusal(error)
        return error is None

    def _assigned(self, consumer: Any, places: list[Any]) -> None:
        """Begin where the one before has stopped, with what it has told."""
        found: list[Any] = []
        if places:
            found = consumer.committed(places, timeout=self.client.seconds)
        for place in found:
            if place.error is not None:
                raise self.client.error(f"find out where to begin in {self.topic}", place.error)
        self._tell(Assigned([read_start(one.partition, one.offset, one.metadata) for one in found]))
        consumer.incremental_assign(
            [self.client.place_in(self.topic, one.partition, one.offset) for one in found]
        )

    def _revoked(self, consumer: Any, places: list[Any]) -> None:
        """Give partitions away when nobody here is at work on them."""
        self._give_away(consumer, places, is_lost=False)

    def _lost(self, consumer: Any, places: list[Any]) -> None:
        """Break off: Kafka believes that this process is gone."""
        self._give_away(consumer, places, is_lost=True)

    def _give_away(self, consumer: Any, places: list[Any], *, is_lost: bool) -> None:
        partitions = frozenset(place.partition for place in places)
        handover = Handover(partitions, is_lost)
        if places and not self._ends.is_set():
            self._tell(handover)
            if not is_lost and not self._wait_for(handover, self.patience):
                self._tell(Overdue(handover))
            self._wait_for(handover, _CANCELLING)
        if not is_lost:
            told = self._told(partitions)
            if handover.is_ready.is_set():
                told |= {one.partition: one for one in handover.reached}
            self._commit(told, waits=True)
        with self._lock:  # it would be about partitions of others, or come back to them later
            for partition in partitions:
                for known in (self._sent, self._reached, self._paused):
                    known.pop(partition, None)
        consumer.incremental_unassign(places)

    def _wait_for(self, handover: Handover, seconds: float) -> bool:
        """Wait until nobody is at work on partitions, or this process ends."""
        ends = time.monotonic() + seconds
        while not handover.is_ready.wait(_POLL):
            if self._ends.is_set() or time.monotonic() > ends:
                return False
        return True
