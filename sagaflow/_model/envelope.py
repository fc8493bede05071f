"""A message and what travels with it."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final, Generic, TypeVar

from attrs import field, frozen

from sagaflow._model.ids import MessageId, SagaId
from sagaflow._model.shown import shown

BodyT_co = TypeVar("BodyT_co", covariant=True)

CAUSATION_ID: Final = "causation_id"
"""The header that names the message which was handled when this one was sent."""

MESSAGE_KIND: Final = "kind"
"""The header that tells a command, which somebody must handle, from an event."""

TRACE: Final = ("traceparent", "tracestate")
"""The headers that tell to which trace a message belongs; see W3C Trace Context."""

COMMAND: Final = "command"
EVENT: Final = "event"


def _read_only(headers: Mapping[str, object]) -> Mapping[str, object]:
    return MappingProxyType(dict(headers))


@frozen(kw_only=True)
class Envelope(Generic[BodyT_co]):
    """A message on its way.

    :ivar body: the message itself.
    :ivar id: the same on every delivery of this message: what a receiver recognises duplicates by.
    :ivar correlation_id: the saga it belongs to, if any.
    :ivar causation_id: the id of the message that was handled when this one was sent, if any.
    :ivar headers: what else the sender said, read-only.
    """

    body: BodyT_co = field(repr=shown)
    id: MessageId
    correlation_id: SagaId | None = None
    causation_id: MessageId | None = None
    headers: Mapping[str, object] = field(factory=dict[str, object], converter=_read_only)


current_envelope: ContextVar[Envelope[object] | None] = ContextVar("current_envelope", default=None)
"""The message that is being handled in this task, so that what it causes can name it."""
