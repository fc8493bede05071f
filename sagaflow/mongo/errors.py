"""What the driver's errors mean to sagaflow."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
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

from sagaflow.exceptions import (
    RepositoryError,
    SerializationError,
    ServerUnavailableError,
    UnknownOutcomeError,
)

_TOO_LARGE: Final = frozenset({10334, 17419, 17420})


class TooLargeError(Exception):
    """The document would be larger than the server allows."""


@contextmanager
def translated(operation: str, *, writing: bool) -> Generator[None]:
    """Raise sagaflow's errors instead of the driver's.

    :param operation: what was done, such as ``read OrderSaga 'o-1'``, for the error.
    :param writing: whether a lost connection leaves open what was done.
    """
    try:
        yield
    except (DocumentTooLarge, BSONError, OverflowError, UnicodeError) as exc:
        if isinstance(exc, DocumentTooLarge):
            raise TooLargeError from exc
        raise SerializationError(operation, f"the driver cannot encode it: {exc}") from exc
    except ServerSelectionTimeoutError as exc:
        raise ServerUnavailableError(
            f"cannot {operation}: no MongoDB server was reached in time "
            f"({_first_sentence(exc)}). Check the address and that the server runs."
        ) from exc
    except (WTimeoutError, WriteConcernError, ConnectionFailure) as exc:
        kind = UnknownOutcomeError if writing else ServerUnavailableError
        lost = "the connection" if isinstance(exc, AutoReconnect) else "the acknowledgement"
        raise kind(f"cannot {operation}: {lost} was lost ({_first_sentence(exc)})") from exc
    except OperationFailure as exc:
        if exc.code in _TOO_LARGE:
            raise TooLargeError from exc
        reason = str(exc).partition(", full error:")[0]
        raise RepositoryError(f"cannot {operation}: the server refused ({reason})") from exc
    except PyMongoError as exc:
        raise RepositoryError(f"cannot {operation}: {exc}") from exc


def _first_sentence(error: PyMongoError) -> str:
    return str(error).partition(", Timeout:")[0].partition(" (configured timeouts")[0]
