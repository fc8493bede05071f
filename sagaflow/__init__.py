"""sagaflow: sagas as plain classes; one document, one conditional write, nothing half done."""

from importlib.metadata import version as _version

from sagaflow._codec.instance import Instance as Instance
from sagaflow._definition.chain import compensates as compensates
from sagaflow._definition.context import Context as Context
from sagaflow._definition.migrations import migrates as migrates
from sagaflow._definition.saga import Saga as Saga
from sagaflow._definition.sources import during as during
from sagaflow._definition.sources import during_any as during_any
from sagaflow._definition.sources import initially as initially
from sagaflow._definition.state import State as State
from sagaflow._definition.table import TransitionRow as TransitionRow
from sagaflow._definition.table import TransitionTable as TransitionTable
from sagaflow._engine.outcome import Outcome as Outcome
from sagaflow._engine.outcome import OutcomeKind as OutcomeKind
from sagaflow._model.clock import Clock as Clock
from sagaflow._model.clock import SystemClock as SystemClock
from sagaflow._model.envelope import Envelope as Envelope
from sagaflow._model.ids import MessageId as MessageId
from sagaflow._model.ids import SagaId as SagaId
from sagaflow._model.policy import Limits as Limits
from sagaflow._model.policy import RetryPolicy as RetryPolicy
from sagaflow._model.public import public_in as _public_in
from sagaflow._model.record import CompensationStatus as CompensationStatus
from sagaflow._model.record import Failing as Failing
from sagaflow._model.record import HistoryEntry as HistoryEntry
from sagaflow._model.record import HistoryKind as HistoryKind
from sagaflow._model.record import OutgoingMessage as OutgoingMessage
from sagaflow._model.record import ParkedEvent as ParkedEvent
from sagaflow._model.record import RecordedCompensation as RecordedCompensation
from sagaflow._model.record import Status as Status
from sagaflow._model.record import StoredMessage as StoredMessage
from sagaflow._model.record import Suspension as Suspension
from sagaflow._model.record import SuspensionReason as SuspensionReason
from sagaflow._model.record import Timer as Timer
from sagaflow._model.record import TimerKind as TimerKind
from sagaflow._model.redaction import Secret as Secret
from sagaflow._model.redaction import redact as redact
from sagaflow._runtime.health import Health as Health
from sagaflow._runtime.operations import Cancellation as Cancellation
from sagaflow.abc import Bus as Bus
from sagaflow.abc import SagaRepository as SagaRepository
from sagaflow.bus.memory import MemoryBus as MemoryBus
from sagaflow.exceptions import AmbiguousSagaError as AmbiguousSagaError
from sagaflow.exceptions import BusError as BusError
from sagaflow.exceptions import CompensationError as CompensationError
from sagaflow.exceptions import ConcurrencyError as ConcurrencyError
from sagaflow.exceptions import CorrelationError as CorrelationError
from sagaflow.exceptions import DamagedDocumentError as DamagedDocumentError
from sagaflow.exceptions import LeftAloneError as LeftAloneError
from sagaflow.exceptions import LimitExceededError as LimitExceededError
from sagaflow.exceptions import NewerSchemaError as NewerSchemaError
from sagaflow.exceptions import NoHandlerError as NoHandlerError
from sagaflow.exceptions import OperationError as OperationError
from sagaflow.exceptions import OrchestratorClosedError as OrchestratorClosedError
from sagaflow.exceptions import RepositoryError as RepositoryError
from sagaflow.exceptions import SagaDefinitionError as SagaDefinitionError
from sagaflow.exceptions import SagaflowError as SagaflowError
from sagaflow.exceptions import SerializationError as SerializationError
from sagaflow.exceptions import ServerUnavailableError as ServerUnavailableError
from sagaflow.exceptions import StrayCancellationError as StrayCancellationError
from sagaflow.exceptions import UnknownEventError as UnknownEventError
from sagaflow.exceptions import UnknownOutcomeError as UnknownOutcomeError
from sagaflow.exceptions import UnknownStateError as UnknownStateError
from sagaflow.exceptions import WaitError as WaitError
from sagaflow.exceptions import WaitTimeoutError as WaitTimeoutError
from sagaflow.exceptions import WireError as WireError
from sagaflow.memory import MemoryRepository as MemoryRepository
from sagaflow.observing import Observer as Observer
from sagaflow.orchestrator import Orchestrator as Orchestrator

__version__ = _version("sagaflow")
_public_in(__name__, compensates, during, migrates, redact)

__all__ = [
    "AmbiguousSagaError",
    "Bus",
    "BusError",
    "Cancellation",
    "Clock",
    "CompensationError",
    "CompensationStatus",
    "ConcurrencyError",
    "Context",
    "CorrelationError",
    "DamagedDocumentError",
    "Envelope",
    "Failing",
    "Health",
    "HistoryEntry",
    "HistoryKind",
    "Instance",
    "LeftAloneError",
    "LimitExceededError",
    "Limits",
    "MemoryBus",
    "MemoryRepository",
    "MessageId",
    "NewerSchemaError",
    "NoHandlerError",
    "Observer",
    "OperationError",
    "Orchestrator",
    "OrchestratorClosedError",
    "Outcome",
    "OutcomeKind",
    "OutgoingMessage",
    "ParkedEvent",
    "RecordedCompensation",
    "RepositoryError",
    "RetryPolicy",
    "Saga",
    "SagaDefinitionError",
    "SagaId",
    "SagaRepository",
    "SagaflowError",
    "Secret",
    "SerializationError",
    "ServerUnavailableError",
    "State",
    "Status",
    "StoredMessage",
    "StrayCancellationError",
    "Suspension",
    "SuspensionReason",
    "SystemClock",
    "Timer",
    "TimerKind",
    "TransitionRow",
    "TransitionTable",
    "UnknownEventError",
    "UnknownOutcomeError",
    "UnknownStateError",
    "WaitError",
    "WaitTimeoutError",
    "WireError",
    "__version__",
    "compensates",
    "during",
    "during_any",
    "initially",
    "migrates",
    "redact",
]
