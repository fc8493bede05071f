"""What the driver's errors mean to sagaflow."""

from __future__ import annotations

from types import TracebackType
from typing import Final

from bson.errors import BSONError
from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    DocumentTooLarge,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WTimeoutError,
)

from sagaflow._concurrency.cancellation import failure
from sagaflow._model.errors import (
    RepositoryError,
    SagaflowError,
    SerializationError,
    ServerUnavailableError,
    StrayCancellationError,
    UnknownOutcomeError,
)
from sagaflow.mongo.batches import UnknownResultError, WriteResult
from sagaflow.mongo.drivers import other_loop

_TOO_LARGE: Final = frozenset({10334, 17419, 17420})


_DRIVER_ERRORS: Final = (PyMongoError, BSONError, OverflowError, UnicodeError)


class TooLargeError(Exception):
    """The document would be larger than the server allows."""


class translated:  # noqa: N801 - it reads as a verb, like `contextlib.suppress`
    """Raise sagaflow's errors instead of the driver's.

    It is a class, since a context manager made of a generator would take longer than the rest of an
    operation that succeeds.

    :param operation: what is being done, such as ``read OrderSaga 'o-1'``, for the error.
    :param writing: whether something is written: after a lost connection it is not known then
        whether the write took place.
    """

    __slots__ = ("_operation", "_writing")

    def __init__(self, operation: str, *, writing: bool) -> None:
        self._operation = operation
        self._writing = writing

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None:
            return
        if isinstance(exc, _DRIVER_ERRORS):
            raise _translation(exc, self._operation, writing=self._writing) from exc
        if isinstance(exc, RuntimeError):
            if _is_of_other_loop(exc):
                raise other_loop() from exc
        elif isinstance(failure(exc), StrayCancellationError):
            # The driver was cancelled from within: its answer is lost, as with a connection.
            error = UnknownOutcomeError if self._writing else ServerUnavailableError
            raise error(
                f"cannot {self._operation}: the driver was interrupted by somebody else"
            ) from exc


def told(fate: WriteResult, operation: str) -> bool:
    """Return whether a write took place, or raise what is known instead.

    The same error may be the result of many writes, so each caller gets a translation of its own.

    :param operation: what is being done, for the error.
    :raises UnknownOutcomeError: if it is not known whether the write took place.
    :raises RepositoryError: if the server refuses the write.
    :raises ServerUnavailableError: if no server was reached.
    :raises SerializationError: if the driver cannot encode what is to be written.
    :raises TooLargeError: if the document would be too large.
    :raises SagaflowError: if the client belongs to another event loop.
    """
    if isinstance(fate, bool):
        return fate
    if isinstance(fate, _DRIVER_ERRORS):
        raise _translation(fate, operation, writing=True) from fate
    if isinstance(fate, SagaflowError):
        raise fate
    if _is_of_other_loop(fate):
        raise other_loop() from fate
    reason = str(fate) if isinstance(fate, UnknownResultError) else repr(fate)
    raise UnknownOutcomeError(
        f"cannot tell whether it was possible to {operation}: {reason}"
    ) from fate


def _is_of_other_loop(exc: Exception) -> bool:
    """Tell whether the driver, or asyncio beneath it, has refused a client of another loop."""
    return isinstance(exc, RuntimeError) and "loop" in str(exc)


def _translation(exc: Exception, operation: str, *, writing: bool) -> Exception:
    code = exc.code if isinstance(exc, OperationFailure) else None
    if isinstance(exc, DocumentTooLarge) or code in _TOO_LARGE:
        return TooLargeError()
    if not isinstance(exc, PyMongoError):
        return SerializationError(operation, f"the driver cannot encode it: {exc}")
    if isinstance(exc, ServerSelectionTimeoutError):
        return ServerUnavailableError(
            f"cannot {operation}: no MongoDB server was reached in time "
            f"({_first_sentence(exc)}). Check the address and that the server runs."
        )
    if isinstance(exc, WTimeoutError | WriteConcernError | ConnectionFailure):
        kind = UnknownOutcomeError if writing else ServerUnavailableError
        lost = "the connection" if isinstance(exc, AutoReconnect) else "the acknowledgement"
        return kind(f"cannot {operation}: {lost} was lost ({_first_sentence(exc)})")
    if isinstance(exc, OperationFailure):
        reason = str(exc).partition(", full error:")[0]
        return RepositoryError(f"cannot {operation}: the server refused ({reason})")
    return RepositoryError(f"cannot {operation}: {exc}")


def _first_sentence(error: PyMongoError) -> str:
    return str(error).partition(", Timeout:")[0].partition(" (configured timeouts")[0]
