"""Writes whose answer was lost: the saga is read again to find out whether the write took place."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import anyio

from sagaflow._codec.documents import decode_record
from sagaflow._model.errors import RepositoryError, UnknownOutcomeError
from sagaflow._model.record import SagaRecord
from sagaflow.abc import SagaRepository


async def took_place(
    repository: SagaRepository,
    saga: str,
    after: SagaRecord,
    cause: UnknownOutcomeError,
    pauses: Iterator[timedelta],
    within: timedelta,
) -> bool:
    """Tell whether *after* was stored: the history has its token then.

    :param cause: what is raised if that cannot be found out.
    :param pauses: how long to wait after each read that fails.
    :param within: for how long to try.
    :raises UnknownOutcomeError: *cause*, if no read succeeds within that time.
    """
    deadline = anyio.current_time() + within.total_seconds()
    while True:
        try:
            document = await repository.load_document(saga, after.correlation_id, message_id=None)
            break
        except RepositoryError:
            if anyio.current_time() >= deadline:
                raise cause from None
        await anyio.sleep(next(pauses).total_seconds())
    if document is None:
        return False
    record = decode_record(document, saga)
    if record.incarnation != after.incarnation:
        return False
    return any(entry.token == after.token for entry in record.history)
