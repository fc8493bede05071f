"""sagaflow: sagas as plain classes; one document, one conditional write, nothing half done."""

from importlib.metadata import version as _version

from sagaflow._definition.chain import compensates as compensates
from sagaflow._definition.migrations import migrates as migrates
from sagaflow._definition.saga import Saga as Saga
from sagaflow._definition.sources import during as during
from sagaflow._definition.sources import during_any as during_any
from sagaflow._definition.sources import initially as initially
from sagaflow._definition.state import State as State
from sagaflow._definition.table import TransitionRow as TransitionRow
from sagaflow._definition.table import TransitionTable as TransitionTable
from sagaflow.abc import Bus as Bus
from sagaflow.abc import SagaRepository as SagaRepository
from sagaflow.bus import MemoryBus as MemoryBus
from sagaflow.clock import Clock as Clock
from sagaflow.clock import SystemClock as SystemClock
from sagaflow.context import Context as Context
from sagaflow.envelope import Envelope as Envelope
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
from sagaflow.health import Health as Health
from sagaflow.ids import SagaId as SagaId
from sagaflow.instance import Instance as Instance
from sagaflow.memory import MemoryRepository as MemoryRepository
from sagaflow.observing import Observer as Observer
from sagaflow.operations import Cancellation as Cancellation
from sagaflow.orchestrator import Orchestrator as Orchestrator
from sagaflow.outcome import Outcome as Outcome
from sagaflow.outcome import OutcomeKind as OutcomeKind
from sagaflow.policy import Limits as Limits
from sagaflow.policy import RetryPolicy as RetryPolicy
from sagaflow.record import Failing as Failing
from sagaflow.record import HistoryEntry as HistoryEntry
from sagaflow.record import HistoryKind as HistoryKind
from sagaflow.record import OutgoingMessage as OutgoingMessage
from sagaflow.record import ParkedEvent as ParkedEvent
from sagaflow.record import RecordedCompensation as RecordedCompensation
from sagaflow.record import Status as Status
from sagaflow.record import StepStatus as StepStatus
from sagaflow.record import StoredMessage as StoredMessage
from sagaflow.record import Suspension as Suspension
from sagaflow.record import SuspensionReason as SuspensionReason
from sagaflow.record import Timer as Timer
from sagaflow.record import TimerKind as TimerKind
from sagaflow.redaction import Secret as Secret
from sagaflow.redaction import redact as redact

__version__ = _version("sagaflow")

__all__ = [
    "AmbiguousSagaError",
    "Bus",
    "BusError",
    "Cancellation",
    "Clock",
    "CompensationError",
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
    "StepStatus",
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
    "__version__",
    "compensates",
    "during",
    "during_any",
    "initially",
    "migrates",
    "redact",
]
