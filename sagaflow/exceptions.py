"""Every error that sagaflow raises on purpose."""

from __future__ import annotations

from sagaflow._model import errors as _errors
from sagaflow._model.errors import (
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

__all__ = [
    "AmbiguousSagaError",
    "BusError",
    "CompensationError",
    "ConcurrencyError",
    "CorrelationError",
    "DamagedDocumentError",
    "LeftAloneError",
    "LimitExceededError",
    "NewerSchemaError",
    "NoHandlerError",
    "OperationError",
    "OrchestratorClosedError",
    "RepositoryError",
    "SagaDefinitionError",
    "SagaflowError",
    "SerializationError",
    "ServerUnavailableError",
    "StrayCancellationError",
    "UnknownEventError",
    "UnknownOutcomeError",
    "UnknownStateError",
    "WaitError",
    "WaitTimeoutError",
    "WireError",
]

for _name in __all__:  # a traceback names an error by where it can be imported from
    getattr(_errors, _name).__module__ = __name__
