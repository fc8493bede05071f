"""A connection for the time of one question."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TypeVar

import anyio
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from sagaflow._codec.documents import decode_record
from sagaflow._codec.upgrade import read_record
from sagaflow._definition.saga import Saga
from sagaflow.commands.ids import not_found
from sagaflow.exceptions import NewerSchemaError
from sagaflow.ids import SagaId
from sagaflow.mongo import MongoRepository
from sagaflow.mongo.uris import impatient
from sagaflow.record import SagaRecord, has_expired

T = TypeVar("T")


def ask(
    uri: str, database: str, question: Callable[[MongoRepository], Awaitable[T]], waiting: str
) -> T:
    """Return the answer to *question*; a terminal shows that it takes time.

    :param uri: may hold credentials, which no error repeats.
    :param waiting: what is done meanwhile.
    :raises SagaflowError: if the server is not reached, or cannot answer.
    """

    async def connect() -> T:
        async with MongoRepository.connect(uri, database=database, **impatient(uri)) as repository:
            return await question(repository)

    with _progress(waiting):
        return anyio.run(connect)


async def load(
    repository: MongoRepository, saga_type: type[Saga], correlation_id: SagaId
) -> tuple[SagaRecord, str | None]:
    """Return a stored saga with everything, as the class has it now.

    If the class cannot have it, it is as it is stored, and why is returned with it.

    :raises SagaflowError: if there is none.
    """
    saga = saga_type.table.saga
    document = await repository.load_document(saga, correlation_id, message_id=None)
    if document is None or has_expired(document.get("expire_at"), datetime.now(UTC)):
        raise not_found(saga, correlation_id)
    try:
        record = read_record(saga_type, document, any_state=True)
    except NewerSchemaError as exc:
        return decode_record(document, saga), str(exc)
    return record, None if record.fault is None else str(record.fault)


@contextmanager
def _progress(waiting: str) -> Generator[None]:
    """Show a bar meanwhile, if there is a terminal for it; the output is not touched."""
    console = Console(stderr=True, highlight=False)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.file.isatty(),
    ) as progress:
        progress.add_task(waiting, total=None)
        yield
