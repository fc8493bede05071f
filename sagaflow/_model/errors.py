"""Every error that sagaflow raises on purpose.

Constructors take values, keep them as attributes and write the sentence: what happened, where,
and what to do about it.
"""

from __future__ import annotations

from datetime import timedelta

from sagaflow._model.shown import shown as _shown

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


class SagaflowError(Exception):
    """The base of every error that sagaflow raises on purpose."""

    # Constructors take values, not the sentence: without this no error could cross to another
    # process, such as out of a pool of workers or of a parallel test run.
    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), self.args), vars(self)


class SagaDefinitionError(SagaflowError, TypeError):
    """A saga class says something that cannot be run.

    :ivar problem: what is wrong, and what to do.
    :ivar saga: the name of the class, if it is known.
    :ivar method: the method or attribute at fault, if there is one.
    :ivar filename: the file that holds the definition.
    :ivar line: the line in that file.
    """

    def __init__(
        self,
        problem: str,
        *,
        saga: str | None = None,
        method: str | None = None,
        filename: str | None = None,
        line: int | None = None,
    ) -> None:
        self.problem = problem
        self.saga = saga
        self.method = method
        self.filename = filename
        self.line = line
        name = ".".join(part for part in (saga, method) if part)
        place = f' (File "{filename}", line {line})' if filename else ""
        super().__init__(f"{name}: {problem}{place}" if name else f"{problem}{place}")


class CorrelationError(SagaflowError, TypeError):
    """A value that is no id was given as a correlation id or a message id.

    :ivar value: what was given.
    """

    def __init__(self, what: str, value: object, reason: str) -> None:
        self.value = value
        super().__init__(
            f"{_shown(value)} cannot be a {what}: {reason}. "
            "An id is a str of 1 to 1,024 bytes, an int of at most 64 bits, a UUID or an ObjectId."
        )


class UnknownEventError(SagaflowError, TypeError):
    """No saga of this orchestrator takes this class of event.

    :ivar event_type: the class of the event.
    """

    def __init__(self, event_type: type, sagas: tuple[str, ...]) -> None:
        self.event_type = event_type
        super().__init__(
            f"no saga takes {event_type.__qualname__}; this orchestrator runs {', '.join(sagas)}. "
            f"Declare a transition .on({event_type.__name__}), or hand the event to the "
            "orchestrator that runs its saga."
        )


class AmbiguousSagaError(SagaflowError):
    """Several sagas take this class of event and the call does not say which is meant.

    :ivar event_type: the class of the event.
    :ivar sagas: the names of the sagas that take it.
    """

    def __init__(self, event_type: type, sagas: tuple[str, ...]) -> None:
        self.event_type = event_type
        self.sagas = sagas
        super().__init__(
            f"{event_type.__qualname__} is taken by {', '.join(sagas)}: "
            f"pass saga_type={sagas[0]} to handle(), or publish the event on the bus, "
            "where each of them gets it."
        )


class ConcurrencyError(SagaflowError):
    """An event or an operator's command lost every race for its saga until a deadline had passed.

    Nothing was stored of the event or command: deliver the event again, or repeat the command.

    :ivar saga: the name of the saga class.
    :ivar correlation_id: which saga.
    :ivar attempts: how many attempts were overtaken by other writers.
    :ivar seconds: how long after the first attempt the last one was overtaken.
    """

    def __init__(
        self,
        saga: str,
        correlation_id: object,
        attempts: int,
        seconds: float,
        *,
        operation: str = "",
    ) -> None:
        self.saga = saga
        self.correlation_id = correlation_id
        self.attempts = attempts
        self.seconds = seconds
        again = f"call {operation}() again" if operation else "deliver the event again"
        super().__init__(
            f"{saga} {correlation_id!r}: {attempts} attempts were each overtaken by another "
            f"writer, the last {seconds:.3g} s after the first. Nothing was stored; {again}, or "
            "raise the orchestrator's conflict_deadline."
        )


class CompensationError(SagaflowError):
    """A step cannot be undone as the saga is defined.

    :ivar saga: the name of the saga class.
    :ivar correlation_id: which saga.
    :ivar step: the step that cannot be undone.
    """

    def __init__(self, saga: str, correlation_id: object, step: str, problem: str) -> None:
        self.saga = saga
        self.correlation_id = correlation_id
        self.step = step
        super().__init__(f"{saga} {correlation_id!r}: undoing {step!r}: {problem}")


class WaitError(SagaflowError):
    """A saga was waited for, and what was waited for will not come by itself.

    :ivar saga: the name of the saga class.
    :ivar correlation_id: which saga.
    :ivar goal: what was waited for, in words.
    :ivar state: the name of the state that the saga is in; None if there is no such saga.
    """

    def __init__(
        self, saga: str, correlation_id: object, goal: str, told: str, state: str | None
    ) -> None:
        self.saga = saga
        self.correlation_id = correlation_id
        self.goal = goal
        self.state = state
        super().__init__(
            f"{saga} {correlation_id!r} was waited for until it is {goal}, but {told}."
        )


class WaitTimeoutError(SagaflowError, TimeoutError):
    """A saga was waited for, and what was waited for took too long. It may still come.

    :ivar saga: the name of the saga class.
    :ivar correlation_id: which saga.
    :ivar goal: what was waited for, in words.
    :ivar timeout: how long it was waited for.
    :ivar state: the name of the state that the saga was in when it was last looked at; None if
        there was no such saga.
    """

    def __init__(
        self,
        saga: str,
        correlation_id: object,
        goal: str,
        timeout: timedelta,
        told: str,
        state: str | None,
    ) -> None:
        self.saga = saga
        self.correlation_id = correlation_id
        self.goal = goal
        self.timeout = timeout
        self.state = state
        super().__init__(
            f"{saga} {correlation_id!r} was not {goal} within {timeout}: {told}. Wait "
            "longer, or see what it waits for: sagaflow show"
        )


class SerializationError(SagaflowError, ValueError):
    """A value cannot be stored, or what is stored cannot be read.

    :ivar path: the field at fault, from the outside in, such as ``OrderSaga.lines[2].price``.
    """

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        super().__init__(f"{path}: {problem}")


class LimitExceededError(SagaflowError):
    """A saga would become larger than its orchestrator allows. Nothing was stored or sent.

    :ivar saga: the name of the saga class.
    :ivar correlation_id: which saga.
    :ivar what: what there would be too much of.
    :ivar count: how much there would be.
    :ivar limit: how much is allowed.
    """

    def __init__(
        self,
        saga: str,
        correlation_id: object,
        what: str,
        count: int,
        limit: int,
        detail: str = "",
    ) -> None:
        self.saga = saga
        self.correlation_id = correlation_id
        self.what = what
        self.count = count
        self.limit = limit
        super().__init__(
            f"{saga} {correlation_id!r} would have {count:,} {what}; {limit:,} are allowed "
            f"(Orchestrator(..., limits=Limits(...))). {detail}Nothing was stored."
        )


class OperationError(SagaflowError):
    """An operator asked for something that the saga's condition does not allow."""


class RepositoryError(SagaflowError):
    """The store refused an operation or holds something that cannot be used."""


class LeftAloneError(RepositoryError):
    """A stored saga cannot be worked on here. This process leaves it to others, as it is.

    :ivar saga: the name of the saga class.
    :ivar correlation_id: which saga; for a damaged document, the ``_id`` that it has.
    """

    saga: str
    correlation_id: object


class NewerSchemaError(LeftAloneError):
    """A saga was stored by newer code. This process leaves it alone: nothing was stored.

    Deliver the event again later: to a process that runs the newer code, or to this one once it
    does.

    :ivar saga: the name of the saga class.
    :ivar correlation_id: which saga.
    :ivar stored: the schema that it is stored with.
    :ivar known: the schema of the class here.
    """

    def __init__(self, saga: str, correlation_id: object, stored: int, known: int) -> None:
        self.saga = saga
        self.correlation_id = correlation_id
        self.stored = stored
        self.known = known
        super().__init__(
            f"{saga} {correlation_id!r} is stored with schema {stored}, and the class here has "
            f"schema {known}: it is left to processes that run the newer code. Nothing was stored; "
            "deliver the event again later, or deploy the newer code here."
        )


class UnknownStateError(LeftAloneError):
    """A saga is in a state, or on its way to one, that the class does not know.

    Newer code may have led the saga there, or the state was renamed or removed while sagas were in
    it. This process leaves the saga alone, and nothing is lost: its timers and messages wait for
    code that knows the state. Deliver the event again later.

    :ivar saga: the name of the saga class.
    :ivar correlation_id: which saga.
    :ivar state: the state that the class does not know.
    """

    def __init__(self, saga: str, correlation_id: object, state: str) -> None:
        self.saga = saga
        self.correlation_id = correlation_id
        self.state = state
        super().__init__(
            f"{saga} {correlation_id!r} is in the state {state!r} or leads there, which the class "
            "here does not have: it is left alone, with its timers and messages, for code that "
            "knows the state. Nothing was stored; deliver the event again later. If no newer code "
            "is being deployed, put the state back, or say with migrates(..., renamed=...) what it "
            "is called now."
        )


class DamagedDocumentError(LeftAloneError):
    """A stored document cannot be read as a saga: nobody knows what it says, so it is left alone.

    :ivar saga: the name of the saga class.
    :ivar correlation_id: the ``_id`` of the document, whatever it is.
    :ivar reason: what is wrong with it.
    """

    def __init__(self, saga: str, correlation_id: object, reason: str) -> None:
        self.saga = saga
        self.correlation_id = correlation_id
        self.reason = reason
        super().__init__(
            f"{saga}: the document {_shown(correlation_id)} is not one that sagaflow wrote: "
            f"{reason}. Give sagaflow collections of its own, or restore or remove the document."
        )


class ServerUnavailableError(RepositoryError):
    """No server could be reached within the driver's selection timeout."""


class UnknownOutcomeError(RepositoryError):
    """The connection was lost during a write: it may have been stored, or not.

    The orchestrator reads the saga again and decides by its commit token.
    """


class BusError(SagaflowError):
    """The bus cannot do what it was asked to."""


class NoHandlerError(BusError):
    """A command was sent that nobody on this bus handles.

    :ivar message_type: the class of the command.
    """

    def __init__(self, message_type: type) -> None:
        self.message_type = message_type
        super().__init__(
            f"nobody handles the command {message_type.__qualname__}: "
            f"subscribe a handler with bus.subscribe({message_type.__name__}, ...). "
            "It stays in its saga's outbox until somebody does."
        )


class WireError(BusError):
    """A message cannot travel: what came in is no message that is known here, or one cannot leave.

    :ivar reason: which kind of fault it is, by a short name that does not change between releases:
        a member of `sagaflow.bus.wire.WireReason`.
    :ivar detail: what is wrong, and what to do; it holds no values of the message.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class StrayCancellationError(SagaflowError):
    """A handler, or other code of yours, was cancelled from within, and nobody cancelled its task.

    The code waited for a future or a task, and somebody has cancelled that. This counts as a
    failure like any other exception; the caller of the code is not cancelled.
    """

    def __init__(self) -> None:
        super().__init__(
            "what this code waited for was cancelled by somebody else, and this task was not: that "
            "counts as a failure. Catch the cancellation where you await that future or task."
        )


class OrchestratorClosedError(SagaflowError):
    """A message reached an orchestrator that has been closed."""


def _restore(kind: type[SagaflowError], args: tuple[object, ...]) -> SagaflowError:
    error = kind.__new__(kind, *args)
    error.args = args  # an OSError, such as a TimeoutError, takes them in its __init__ only
    return error
