"""Who shares the lanes of a service, and how many each should own. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from attrs import define, field, frozen

from sagaflow.nats.names import LANES


@frozen
class Taken:
    """A lane that some process owns.

    :ivar consumer: the consumer that is the ownership.
    """

    lane: int
    consumer: str
    owner: str


@frozen
class Plan:
    """What this process should do now.

    :ivar remove: consumers of processes that are gone.
    :ivar take: lanes that are free, or will be then.
    :ivar give: how many of its own lanes it should leave to others.
    """

    remove: tuple[Taken, ...]
    take: tuple[int, ...]
    give: int


@define(eq=False)
class Members:
    """The processes of a service, as one of them sees them.

    :ivar owner: the name of this one.
    :ivar patience: seconds without a word after which a process is said to be gone.
    :ivar heard: when each of the others was heard of last.
    """

    owner: str
    patience: float
    heard: dict[str, float] = field(factory=dict[str, float], init=False)

    def hear(self, owner: str, now: float) -> bool:
        """Note that a process is there, and tell whether it is a new one."""
        if owner == self.owner:
            return False
        is_new = owner not in self.heard
        self.heard[owner] = now
        return is_new

    def forget(self, owner: str) -> None:
        """Note that a process has left."""
        self.heard.pop(owner, None)

    def plan(self, taken: Mapping[int, Taken], mine: Mapping[int, str], now: float) -> Plan:
        """Return what to do, so that each process owns its share.

        :param taken: the lanes that the server says somebody owns.
        :param mine: the consumers by which this process owns lanes.
        """
        for one in taken.values():
            if one.owner != self.owner:
                # Its patience begins when it is seen first: this process may have just started.
                self.heard.setdefault(one.owner, now)
        gone = {owner for owner, at in self.heard.items() if now - at > self.patience}
        for owner in gone:
            del self.heard[owner]
        # What has the name of this process and is not known here, was left when it was killed.
        remove = [
            one
            for one in taken.values()
            if one.owner in gone or (one.owner == self.owner and mine.get(one.lane) != one.consumer)
        ]
        share = ceil(LANES / (len(self.heard) + 1))
        left = {one.lane for one in remove}
        free = [lane for lane in range(LANES) if lane not in mine]
        free = [lane for lane in free if lane not in taken or lane in left]
        return Plan(
            tuple(remove), tuple(free[: max(0, share - len(mine))]), max(0, len(mine) - share)
        )
