"""What a message that is published takes over from the message that is being handled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from hashlib import blake2b
from typing import Any, Final, Protocol

from sagaflow._model.envelope import CAUSATION_ID, TRACE, Envelope
from sagaflow._model.ids import MessageId, SagaId, check_id

_BYTES_OF_AN_ID: Final = 16


class Handling(Protocol):
    """What a handler is dealing with."""

    def id_of_next(self) -> str:
        """Return the id of the next message that the handler publishes without one."""
        ...


current_handling: ContextVar[Handling | None] = ContextVar("current_handling", default=None)
"""What a handler is dealing with in this task, of whatever bus: it may publish on another one."""


def envelope_of(
    message: object,
    cause: Envelope[object] | None,
    *,
    correlation_id: SagaId | None,
    message_id: MessageId | None,
    headers: Mapping[str, object] | None,
    new_id: Callable[[], str],
) -> Envelope[object]:
    """Return the envelope of a message that is published.

    A message that a handler publishes inherits the correlation id and the trace (the headers
    ``traceparent`` and ``tracestate``) of the message that it handles, and names that message as
    its cause.

    :param cause: the message that is being handled, if any.
    :param new_id: gives the id of a message that was published without one.
    :raises CorrelationError: if an id is of no allowed type.
    """
    headers = headers or {}
    if cause is not None:
        if correlation_id is None:
            correlation_id = cause.correlation_id
        if TRACE[0] not in headers:
            trace = {name: cause.headers[name] for name in TRACE if name in cause.headers}
            headers = {**headers, **trace}
    causation_id: Any = headers.get(CAUSATION_ID, None if cause is None else cause.id)
    return Envelope(
        body=message,
        id=new_id() if message_id is None else check_id(message_id, "message id"),
        correlation_id=None if correlation_id is None else check_id(correlation_id),
        causation_id=causation_id,
        headers=headers,
    )


def id_by_place(handled: MessageId, service: str, handler: str, number: int) -> str:
    """Return the id of a message that a handler publishes: the same on each delivery.

    A message that is delivered again is then answered with the same ids, by which whoever takes
    the answers recognises them.

    :param handled: the id of the message that is being handled.
    :param service: whose handler it is; two services may run the same code.
    :param handler: the name of the handler.
    :param number: which of the messages that the handler publishes it is, counted from 1.
    """
    parts = (type(handled).__name__, str(handled), service, handler, str(number))
    digest = blake2b(digest_size=_BYTES_OF_AN_ID)
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.hexdigest()
