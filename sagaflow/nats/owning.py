"""What a process asks of the server about lanes. Runs on asyncio."""

# The client leaves some types open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import json
from datetime import timedelta
from typing import Final

from attrs import frozen
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, NotFoundError

from sagaflow.nats.lanes import IN_HAND, PULLED, Failures, Lane, read_failing, write_failing
from sagaflow.nats.link import Link
from sagaflow.nats.members import Taken
from sagaflow.nats.names import Names, lane_in

_ACK_WAIT: Final = timedelta(hours=1)
"""After this the server hands a message out again that is still in hand, and it is passed over.
What an owner has left behind is handed out at once, by the consumer of the next owner."""
_NOT_UNIQUE: Final = frozenset({10099, 10100})
_NANOSECONDS: Final = 1_000_000_000


@frozen
class Owning:
    """The lanes of a service, on the server.

    :ivar owner: the name of this process.
    :ivar lease: how long a lane stays this process's own without a word from it.
    """

    link: Link
    names: Names
    owner: str
    lease: timedelta

    async def taken(self) -> dict[int, Taken]:
        """Return the lanes that somebody owns.

        :raises BusError: if the server cannot be reached.
        """
        found: dict[int, Taken] = {}
        async with self.link.bounded("see who owns which messages") as context:
            for one in await context.consumers_info(self.names.inbox):
                lane = lane_in(one.name)
                if lane is not None:
                    found[lane] = Taken(lane, one.name, (one.config.description or ""))
        return found

    async def make(self, lane: int, consumer: str) -> bool:
        """Own a lane, and tell whether nobody else does.

        :raises BusError: if the server cannot be reached, or refuses for another reason.
        """
        config = ConsumerConfig(
            name=consumer,
            description=self.owner,
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=_ACK_WAIT.total_seconds(),
            max_ack_pending=IN_HAND,
            filter_subject=self.names.lane_subjects(lane),
            inactive_threshold=self.lease.total_seconds(),
        )
        async with self.link.bounded("own messages") as context:
            try:
                await context.add_consumer(self.names.inbox, config)
            except APIError as exc:
                if exc.err_code in _NOT_UNIQUE:
                    return False
                raise
        return True

    async def remove(self, consumer: str) -> None:
        """End somebody's ownership of a lane.

        :raises BusError: if the server cannot be reached.
        """
        async with self.link.bounded("let go of messages") as context:
            try:
                await context.delete_consumer(self.names.inbox, consumer)
            except NotFoundError:
                return

    async def release(self, lane: Lane) -> None:
        """Let go of a lane, once the server has all acknowledgements.

        :raises BusError: if the server cannot be reached.
        """
        if lane.last_reply is not None:
            # It takes them in order: when it has confirmed the last one again, it has the others.
            await self.link.ask(lane.last_reply, b"+ACK", "acknowledge messages")
        await self.remove(lane.consumer)

    async def pull(self, lane: Lane, inbox: str) -> None:
        """Ask for messages of a lane.

        :raises BusError: if the connection is lost.
        """
        expires = int(self.lease.total_seconds() / 3 * _NANOSECONDS)
        await self.link.say(
            f"$JS.API.CONSUMER.MSG.NEXT.{self.names.inbox}.{lane.consumer}",
            json.dumps({"batch": PULLED, "expires": expires}).encode(),
            f"{inbox}.{lane.consumer}",
        )

    async def acknowledge(self, reply: str) -> None:
        """Have the server remove a message that was dealt with.

        :raises BusError: if the connection is lost.
        """
        await self.link.say(reply, b"+ACK")

    async def failing(self, lane: int) -> dict[int, Failures]:
        """Return how messages of a lane have failed before this process owned it.

        :raises BusError: if the server cannot be reached.
        """
        found = await self.link.last(self.names.registry, self.names.failing(lane))
        return {} if found is None else read_failing(found.body)

    async def note_failing(self, lane: Lane) -> None:
        """Store how messages of a lane have failed, for the next owner.

        :raises BusError: if the server cannot be reached.
        """
        subject, told = self.names.failing(lane.number), write_failing(lane.failing)
        await self.link.put(subject, told, {}, "note a failed attempt")

    async def tell(self, word: str) -> None:
        """Tell the other processes of the service something, with the name of this one.

        :raises BusError: if the connection is lost.
        """
        await self.link.say(self.names.members, f"{word} {self.owner}".encode())
