"""What exchanges and queues are called, and how a message finds its partition. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote
from zlib import crc32

from attrs import frozen

from sagaflow._model.errors import BusError

SLOTS: Final = 32
"""Into how many parts keys fall. Publishers know them; each service divides them by its number of
partitions."""
MOST_BYTES_OF_A_KEY: Final = 255
"""How long AMQP lets a routing key be."""
NEVER: Final = 1_000_000
"""How often RabbitMQ may take a message back before it puts it aside: what fails for too long is
decided here. Newer servers would do it after 20 times, and each move of a partition counts."""

_PREFIX: Final = re.compile(r"(?!amq\.)[A-Za-z0-9_.-]{1,64}")


def slot_of(key: str) -> int:
    """Return the slot of a key; programs in other languages compute the same."""
    return crc32(key.encode("utf-8", "surrogatepass")) % SLOTS


def routing_key(slot: int, name: str) -> str:
    """Return the routing key of messages of this name in a slot.

    :raises BusError: if it would be too long for AMQP.
    """
    key = f"{slot}.{_word(name)}"
    if len(key) > MOST_BYTES_OF_A_KEY:
        raise BusError(
            f"the name {name[:40]!r}... is too long for RabbitMQ, where a routing key has at most "
            f"{MOST_BYTES_OF_A_KEY} bytes: register the class under a shorter one"
        )
    return key


def pattern(name: str) -> str:
    """Return what a service binds to take messages of this name from all slots.

    :raises BusError: if the name is too long for AMQP.
    """
    routing_key(0, name)
    return f"*.{_word(name)}"


def _word(name: str) -> str:
    """Return a name as one word of a routing key, where dots, stars and hashes have a meaning."""
    return quote(name, safe="").replace(".", "%2E")


@frozen
class Names:
    """What belongs to a service.

    :ivar exchange: to which all services publish.
    """

    exchange: str
    service: str

    @property
    def service_exchange(self) -> str:
        """Gets what the service subscribes to, and divides it among the partitions."""
        return f"{self.exchange}.{self.service}"

    @property
    def dead(self) -> str:
        """The queue of the dead letters."""
        return f"{self.service_exchange}.dead"

    @property
    def lock(self) -> str:
        """A queue that is there while somebody reads the dead letters."""
        return f"{self.service_exchange}.dead.lock"

    @property
    def members(self) -> str:
        """A queue without messages: its consumers are the processes of the service."""
        return f"{self.service_exchange}.members"

    @property
    def number(self) -> str:
        """An exchange without messages: an argument of it is the number of partitions."""
        return f"{self.service_exchange}.partitions"

    def queue(self, partition: int) -> str:
        """Return the queue of a partition."""
        return f"{self.service_exchange}.{partition}"

    def owner(self, partition: int) -> str:
        """Return a queue that is there while a process has the partition."""
        return f"{self.queue(partition)}.owner"

    def arguments(self) -> Mapping[str, Any]:
        """Return the arguments of the queue of a partition."""
        return {
            **QUORUM,
            "x-single-active-consumer": True,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.dead,
        }


QUORUM: Final[Mapping[str, Any]] = {"x-queue-type": "quorum", "x-delivery-limit": NEVER}


def check_prefix(prefix: object) -> None:
    """Refuse what exchanges and queues cannot begin with.

    :raises BusError: if it has other characters than letters, digits, ``_``, ``-`` and dots, none
        at all, or more than 64, or begins with ``amq.``, which is RabbitMQ's own.
    """
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        raise BusError(
            "prefix= is what names of exchanges and queues begin with: letters, digits, _, - and "
            f"dots, at most 64 of them, and not amq., not {prefix!r}"
        )
