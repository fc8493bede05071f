"""A connection for the time of one question."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TypeVar

import anyio
from attrs import frozen
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from sagaflow._codec.documents import decode_record
from sagaflow._codec.upgrade import read_record
from sagaflow._definition.saga import Saga
from sagaflow._model.errors import DamagedDocumentError, NewerSchemaError
from sagaflow._model.ids import SagaId
from sagaflow._model.record import SagaRecord, has_expired
from sagaflow.commands.ids import not_found
from sagaflow.mongo import MongoRepository
from sagaflow.mongo.uris import impatient

T = TypeVar("T")


def ask(
    uri: str, database: str, question: Callable[[MongoRepository], Awaitable[T]], waiting: str
) -> T:
    """Return the answer to *question*; a terminal shows that it takes time.

    :param uri: may hold credentials, which no error repeats.
    :param waiting: what the terminal says is being done.
    :raises SagaflowError: if the server is not reached, or cannot answer.
    """

    async def connect() -> T:
        async with MongoRepository.connect(uri, database=database, **impatient(uri)) as repository:
            return await question(repository)

    with showing_progress(waiting):
        return anyio.run(connect)


@frozen
class Loaded:
    """What is stored of one saga.

    :ivar document: the document as it is stored.
    :ivar record: the whole saga as its class has it now, or as it is stored if it does not fit the
        class; None if the document cannot be read.
    :ivar problem: why the saga does not fit the class.
    """

    document: Mapping[str, object]
    record: SagaRecord | None
    problem: str | None = None


async def look(
    repository: MongoRepository, saga_type: type[Saga], correlation_id: SagaId
) -> Loaded:
    """Return what is stored under an id, fit to be worked on or not.

    :raises SagaflowError: if there is none.
    """
    saga = saga_type.table.saga
    document = await repository.load_document(saga, correlation_id, message_id=None)
    if document is None or has_expired(document.get("expire_at"), datetime.now(UTC)):
        raise not_found(saga, correlation_id)
    try:
        record = read_record(saga_type, document, any_state=True)
    except DamagedDocumentError as exc:
        return Loaded(document, None, f"damaged: {exc.reason}")
    except NewerSchemaError as exc:
        try:
            return Loaded(document, decode_record(document, saga), str(exc))
        except DamagedDocumentError:  # newer code may store other fields
            return Loaded(document, None, str(exc))
    return Loaded(document, record, None if record.fault is None else str(record.fault))


async def load(
    repository: MongoRepository, saga_type: type[Saga], correlation_id: SagaId
) -> SagaRecord:
    """Return a whole stored saga: as its class has it now, or as it is stored if it does not fit.

    :raises SagaflowError: if there is none, or it cannot be read.
    """
    found = await look(repository, saga_type, correlation_id)
    return found.record or read_record(saga_type, found.document, any_state=True)


@contextmanager
def showing_progress(waiting: str) -> Generator[None]:
    """Show a progress bar within the block, on a terminal only; the output stays as it is."""
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
