"""What streams, subjects and consumers are called. Pure."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final
from urllib.parse import quote
from zlib import crc32

from attrs import frozen

from sagaflow._model.errors import BusError

LANES: Final = 16
"""Into how many lanes the messages of a service are divided by their key; all programs have to
agree. So many processes of one service can be at work at the same time."""

_PREFIX: Final = re.compile(r"[A-Za-z0-9_]{1,32}")
_LANE: Final = re.compile(r"lane-(\d{1,3})-[0-9a-f]+")
_MOST: Final = 200


@frozen
class Names:
    """The names of one bus.

    :ivar prefix: what they begin with, the same in all programs.
    :ivar service: the service that takes messages.
    """

    prefix: str
    service: str

    @property
    def registry(self) -> str:
        """The stream that says which service takes what. It is a key-value bucket as well."""
        return f"KV_{self.prefix}"

    @property
    def registry_subjects(self) -> str:
        """The subjects of the registry."""
        return f"$KV.{self.prefix}.>"

    @property
    def readers(self) -> str:
        """The subject of the entry that says which service takes which names."""
        return f"$KV.{self.prefix}.readers"

    def failing(self, lane: int) -> str:
        """Return the subject of the entry that says how often messages of a lane have failed."""
        return f"$KV.{self.prefix}.failing.{self.service}.{lane}"

    @property
    def inbox(self) -> str:
        """The stream with the messages that wait for this service."""
        return self.inbox_of(self.service)

    def inbox_of(self, service: str) -> str:
        """Return the stream with the messages that wait for a service."""
        return f"{self.prefix}-inbox-{service}"

    @property
    def inbox_subjects(self) -> str:
        """The subjects of the inbox."""
        return f"{self.prefix}.inbox.{self.service}.>"

    def lane_subjects(self, lane: int) -> str:
        """Return the subjects of one lane of the inbox."""
        return f"{self.prefix}.inbox.{self.service}.{lane}.>"

    def subject(self, service: str, name: str, key: str) -> str:
        """Return the subject of a message for a service."""
        return f"{self.prefix}.inbox.{service}.{lane_of(key)}.{token(name)}"

    @property
    def dead(self) -> str:
        """The stream of dead letters, those of all services."""
        return f"{self.prefix}-dead"

    @property
    def dead_subjects(self) -> str:
        """The subjects of all dead letters."""
        return f"{self.prefix}.dead.>"

    @property
    def letters(self) -> str:
        """The subjects of the dead letters of this service."""
        return f"{self.prefix}.dead.{self.service}.*"

    def letter(self, letter_id: str) -> str:
        """Return the subject of one dead letter of this service."""
        return f"{self.prefix}.dead.{self.service}.{letter_id}"

    @property
    def members(self) -> str:
        """The subject on which the processes of this service tell each other that they are there.

        It is in no stream.
        """
        return f"{self.prefix}.members.{self.service}"


def check_prefix(prefix: str) -> None:
    """Refuse what cannot begin the names of streams and subjects.

    :raises BusError: if it has other characters than letters, digits and ``_``, or too many.
    """
    if not _PREFIX.fullmatch(prefix):
        raise BusError(
            f"prefix= has 1 to 32 letters, digits and _, to begin names of streams, not {prefix!r}"
        )


def lane_of(key: str) -> int:
    """Return the lane of the messages of a key. Programs in other languages compute it, too."""
    return crc32(key.encode("utf-8", "surrogatepass")) % LANES


def token(name: str) -> str:
    """Return the registered name of a message as the end of a subject.

    A name that is no valid subject is percent-encoded, a very long one is a digest.
    """
    told = quote(name, safe="", errors="surrogatepass")
    if not all(name.split(".")):
        told = told.replace(".", "%2E")
    return told if len(told) <= _MOST else sha256(told.encode()).hexdigest()


def consumer_name(lane: int, unique: str) -> str:
    """Return the name of the consumer by which one process owns a lane for a while."""
    return f"lane-{lane}-{unique}"


def lane_in(consumer: str) -> int | None:
    """Return of which lane a consumer is; None if it is no consumer of ours."""
    found = _LANE.fullmatch(consumer)
    return None if found is None else int(found[1])


def letter_id_of(message: str) -> str:
    """Return the id of the dead letter of a message: the same for the same message."""
    return sha256(message.encode("utf-8", "surrogatepass")).hexdigest()[:24]
