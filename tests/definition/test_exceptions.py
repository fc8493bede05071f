from __future__ import annotations

import copy
import inspect
import pickle
from datetime import timedelta

import pytest

from sagaflow import exceptions
from sagaflow.exceptions import (
    AmbiguousSagaError,
    BusError,
    CompensationError,
    ConcurrencyError,
    CorrelationError,
    DamagedDocumentError,
    LeftAloneError,
    LimitExceededError,
    NewerSchemaError,
    NoHandlerError,
    OperationError,
    OrchestratorClosedError,
    RepositoryError,
    SagaDefinitionError,
    SagaflowError,
    SerializationError,
    ServerUnavailableError,
    StrayCancellationError,
    UnknownEventError,
    UnknownOutcomeError,
    UnknownStateError,
    WaitError,
    WaitTimeoutError,
    WireError,
)
from tests.definition.support import Paid

ERRORS = [
    SagaflowError("wrong"),
    SagaDefinitionError("wrong"),
    SagaDefinitionError("wrong", saga="Order", method="pay", filename="orders.py", line=7),
    CorrelationError("correlation id", {"$gt": ""}, "it is a dict"),
    UnknownEventError(Paid, ("Order", "Parcel")),
    AmbiguousSagaError(Paid, ("Order", "Parcel")),
    ConcurrencyError("Order", "o-1", 7, 2.5),
    ConcurrencyError("Order", "o-1", 7, 2.5, operation="cancel"),
    CompensationError("Order", "o-1", "pay", "TimeoutError()"),
    SerializationError("Order.lines[2].price", "it is a complex"),
    LimitExceededError("Order", "o-1", "parked events", 1_001, 1_000),
    LeftAloneError("left alone"),
    NewerSchemaError("Order", "o-1", 3, 2),
    UnknownStateError("Order", "o-1", "packing"),
    DamagedDocumentError("Order", {"$gt": ""}, "the field 'state' is missing"),
    OperationError("wrong"),
    RepositoryError("wrong"),
    ServerUnavailableError("wrong"),
    UnknownOutcomeError("wrong"),
    BusError("wrong"),
    NoHandlerError(Paid),
    WireError("not_json", "it is empty"),
    WaitError("Order", "o-1", "finished", "it is suspended", "packing"),
    WaitTimeoutError("Order", "o-1", "finished", timedelta(1), "it is in packing", "packing"),
    StrayCancellationError(),
    OrchestratorClosedError("wrong"),
]


def test_every_error_is_listed_and_derives_from_the_base() -> None:
    defined = {
        name
        for name, value in vars(exceptions).items()
        if inspect.isclass(value) and value.__module__ == exceptions.__name__
    }
    assert set(exceptions.__all__) == defined == {type(error).__name__ for error in ERRORS}
    assert all(isinstance(error, SagaflowError) for error in ERRORS)
    assert exceptions.__all__ == sorted(exceptions.__all__)


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_error_survives_the_way_to_another_process(error: SagaflowError) -> None:
    """Such as a pool of workers, or a parallel test run."""
    error.add_note("seen at noon")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert vars(other) == vars(error)


def test_definition_error_names_what_it_knows() -> None:
    assert str(SagaDefinitionError("wrong")) == "wrong"
    assert str(SagaDefinitionError("wrong", saga="Order")) == "Order: wrong"
    assert str(SagaDefinitionError("wrong", method="pay")) == "pay: wrong"
    assert (
        str(SagaDefinitionError("wrong", saga="Order", method="pay", filename="orders.py", line=7))
        == 'Order.pay: wrong (File "orders.py", line 7)'
    )


def test_errors_can_be_caught_as_the_builtin_that_a_caller_expects() -> None:
    assert issubclass(SagaDefinitionError, TypeError)
    assert issubclass(CorrelationError, TypeError)
    assert issubclass(UnknownEventError, TypeError)
    assert issubclass(SerializationError, ValueError)


def test_errors_keep_their_values_and_say_what_to_do() -> None:
    correlation = CorrelationError("correlation id", {}, "it is a dict")
    assert correlation.value == {}
    assert str(correlation) == (
        "{} cannot be a correlation id: it is a dict. "
        "An id is a str of 1 to 1,024 bytes, an int of at most 64 bits, a UUID or an ObjectId."
    )
    unknown = UnknownEventError(Paid, ("Order", "Parcel"))
    assert unknown.event_type is Paid
    assert "this orchestrator runs Order, Parcel. Declare a transition .on(Paid)" in str(unknown)
    ambiguous = AmbiguousSagaError(Paid, ("Order", "Parcel"))
    assert (ambiguous.event_type, ambiguous.sagas) == (Paid, ("Order", "Parcel"))
    assert "pass saga_type=Order to handle()" in str(ambiguous)
    concurrency = ConcurrencyError("Order", "o-1", 7, 2.5)
    assert (concurrency.saga, concurrency.correlation_id, concurrency.attempts) == (
        "Order",
        "o-1",
        7,
    )
    assert concurrency.seconds == 2.5
    assert str(concurrency) == (
        "Order 'o-1': 7 attempts were each overtaken by another writer, the last 2.5 s after the "
        "first. Nothing was stored; deliver the event again, or raise the orchestrator's "
        "conflict_deadline."
    )
    operation = ConcurrencyError("Order", "o-1", 7, 2.5, operation="cancel")
    assert "Nothing was stored; call cancel() again, or raise" in str(operation)
    compensation = CompensationError("Order", 7, "pay", "TimeoutError()")
    assert (compensation.saga, compensation.correlation_id, compensation.step) == (
        "Order",
        7,
        "pay",
    )
    assert "Order 7: undoing 'pay': TimeoutError()" in str(compensation)
    limit = LimitExceededError("Order", 7, "parked events", 1_001, 1_000)
    assert (limit.saga, limit.correlation_id, limit.what) == ("Order", 7, "parked events")
    assert (limit.count, limit.limit) == (1_001, 1_000)
    assert "Order 7 would have 1,001 parked events; 1,000 are allowed" in str(limit)
    serialization = SerializationError("Order.total", "it is a complex")
    assert serialization.path == "Order.total"
    assert str(serialization) == "Order.total: it is a complex"
    unhandled = NoHandlerError(Paid)
    assert unhandled.message_type is Paid
    assert "bus.subscribe(Paid, ...)" in str(unhandled)
