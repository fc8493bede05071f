from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from bson.errors import InvalidBSON, InvalidDocument
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    ExecutionTimeout,
    InvalidOperation,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
    WriteError,
    WTimeoutError,
)

from sagaflow import (
    RepositoryError,
    SagaflowError,
    SerializationError,
    ServerUnavailableError,
    UnknownOutcomeError,
)
from sagaflow.mongo.errors import TooLargeError, translated

OPERATION = "store Order 'o-1'"


def outcome(error: BaseException, *, writing: bool) -> BaseException:
    """Return what becomes of *error*, of which it must be the cause."""
    with pytest.raises(BaseException) as caught, translated(OPERATION, writing=writing):
        raise error
    assert caught.value is error or caught.value.__cause__ is error
    return caught.value


@pytest.mark.parametrize(
    ("error", "reading", "writing"),
    [
        (ServerSelectionTimeoutError("h:1: refused"), ServerUnavailableError, None),
        (AutoReconnect("connection closed"), ServerUnavailableError, UnknownOutcomeError),
        (NetworkTimeout("h:1: timed out"), ServerUnavailableError, UnknownOutcomeError),
        (NotPrimaryError("not primary"), ServerUnavailableError, UnknownOutcomeError),
        (ConnectionFailure("gone"), ServerUnavailableError, UnknownOutcomeError),
        (WaitQueueTimeoutError("no connection"), ServerUnavailableError, UnknownOutcomeError),
        (WTimeoutError("waited too long", 64), ServerUnavailableError, UnknownOutcomeError),
        (WriteConcernError("no majority", 100), ServerUnavailableError, UnknownOutcomeError),
        (OperationFailure("not authorized", 13), RepositoryError, None),
        (ExecutionTimeout("over the limit", 50), RepositoryError, None),
        (WriteError("failed", 121), RepositoryError, None),
        (DuplicateKeyError("E11000", 11000), RepositoryError, None),
        (BulkWriteError({"writeErrors": []}), RepositoryError, None),
        (InvalidOperation("after close"), RepositoryError, None),
        (ConfigurationError("nonsense"), RepositoryError, None),
        (PyMongoError("something"), RepositoryError, None),
        (InvalidDocument("cannot encode object"), SerializationError, None),
        (InvalidBSON("not valid"), SerializationError, None),
        (OverflowError("8-byte ints"), SerializationError, None),
        (DocumentTooLarge("17 MB"), TooLargeError, None),
        (OperationFailure("too large", 10334), TooLargeError, None),
        (WriteError("too large", 17419), TooLargeError, None),
        (OperationFailure("too large", 17420), TooLargeError, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_error_of_the_driver_becomes_one_of_sagaflow(
    error: Exception, reading: type[Exception], writing: type[Exception] | None
) -> None:
    assert type(outcome(error, writing=False)) is reading
    assert type(outcome(error, writing=True)) is (writing or reading)


@pytest.mark.parametrize(
    "error", [KeyError("mine"), ValueError("mine"), RuntimeError("mine"), KeyboardInterrupt()]
)
def test_any_other_error_passes_through(error: BaseException) -> None:
    assert outcome(error, writing=True) is error


def test_error_of_sagaflow_passes_through() -> None:
    error = SagaflowError("mine")
    assert outcome(error, writing=True) is error


def test_nothing_happens_without_an_error() -> None:
    with translated(OPERATION, writing=True):
        pass


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            ServerSelectionTimeoutError(
                "h:1: [Errno 111] Connection refused (configured timeouts: connectTimeoutMS: "
                "20000.0ms), Timeout: 0.2s, Topology Description: <TopologyDescription id: 6>"
            ),
            (
                "cannot store Order 'o-1': no MongoDB server was reached in time (h:1: [Errno 111] "
                "Connection refused). Check the address and that the server runs."
            ),
        ),
        (
            AutoReconnect("h:1: connection closed (configured timeouts: connectTimeoutMS: 1ms)"),
            "cannot store Order 'o-1': the connection was lost (h:1: connection closed)",
        ),
        (
            WTimeoutError("waiting timed out", 64),
            "cannot store Order 'o-1': the acknowledgement was lost (waiting timed out)",
        ),
        (
            OperationFailure("not authorized on shop, full error: {'ok': 0.0, 'code': 13}", 13),
            "cannot store Order 'o-1': the server refused (not authorized on shop)",
        ),
        (
            InvalidOperation("Cannot use MongoClient after close"),
            "cannot store Order 'o-1': Cannot use MongoClient after close",
        ),
        (
            InvalidDocument("cannot encode object: {1}"),
            "store Order 'o-1': the driver cannot encode it: cannot encode object: {1}",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_error_says_what_could_not_be_done_and_no_more_of_the_driver_than_helps(
    error: Any, says: str
) -> None:
    assert str(outcome(error, writing=True)) == says


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("writing", "kind"), [(True, UnknownOutcomeError), (False, ServerUnavailableError)]
)
async def test_driver_that_somebody_else_interrupts_has_lost_its_answer(
    writing: bool, kind: type[SagaflowError], anyio_backend: str
) -> None:
    error: BaseException | None = None
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await checkpoint()
        except anyio.get_cancelled_exc_class() as exc:
            error = exc
            raise
    assert error is not None
    with pytest.raises(kind, match="interrupted by somebody else"):
        with translated(OPERATION, writing=writing):
            raise error
    with anyio.CancelScope() as scope:
        scope.cancel()
        with translated(OPERATION, writing=writing):
            await checkpoint()
    assert scope.cancelled_caught
