"""Traces and metrics of an orchestrator, for OpenTelemetry. Needs the extra ``otel``.

Names of attributes follow OpenTelemetry's semantic conventions for messaging where those have one.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Generic, TypeVar

from attrs import define, field
from opentelemetry import context, metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from sagaflow._model.redaction import redact
from sagaflow.observing import (
    Activity,
    ActivityKind,
    Backlog,
    BusCondition,
    Ended,
    Fact,
    Observer,
    Retrying,
    StoreFails,
    StoreIsBack,
    Suspended,
)

__all__ = ["OpenTelemetryObserver"]

_PROPAGATOR: Final = TraceContextTextMapPropagator()
_KEPT: Final = 60.0
"""Seconds after which what was told last is no longer shown."""

FactT = TypeVar("FactT")

_own: ContextVar[bool] = ContextVar("within_a_span_of_sagaflow", default=False)


class OpenTelemetryObserver(Observer):
    """Makes a span of each event, handler, commit, compensation and message sent, and metrics.

    The trace is stored along with messages: an event that a command caused belongs to the trace of
    the command, whichever process sent it and whenever. Of messages and sagas, only the names of
    their classes, their ids, versions and states go out.

    :param tracer_provider: where spans go; the global one by default.
    :param meter_provider: where metrics go; the global one by default.
    :param content: whether to show business data, too: events, without the fields that are marked
        as secret, and the texts of exceptions.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        content: bool = False,
    ) -> None:
        self._tracer = trace.get_tracer("sagaflow", tracer_provider=tracer_provider)
        self._content = content
        self._metrics = _Metrics(meter_provider)

    @contextmanager
    def observe(self, activity: Activity) -> Generator[None]:
        """Make a span of *activity*, which is the current one meanwhile."""
        within = _parent(activity)
        span = self._tracer.start_span(
            _name(activity),
            within,
            kind=_kind(activity),
            attributes=_attributes(activity),
            record_exception=False,
            set_status_on_exception=False,
        )
        token = context.attach(trace.set_span_in_context(span, within))
        own = _own.set(True)
        begun = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - begun
            _own.reset(own)
            context.detach(token)
            self._finish(span, activity)
            self._metrics.record(activity, seconds)

    def note(self, fact: Fact) -> None:
        """Count *fact*."""
        self._metrics.note(fact)

    def headers(self) -> Mapping[str, str]:
        """Return the present trace context as W3C headers: ``traceparent``, ``tracestate``."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier

    def _finish(self, span: Span, activity: Activity) -> None:
        if span.is_recording():
            if self._content and activity.body is not None:
                span.set_attribute("sagaflow.content", str(redact(activity.body)))
            if activity.outcome:
                span.set_attribute("sagaflow.outcome", activity.outcome)
            span.set_attribute("sagaflow.version", activity.version)
            if activity.error is not None:
                self._record(span, activity.error)
        span.end()

    def _record(self, span: Span, error: BaseException) -> None:
        name = _type_name(error)
        span.set_attribute("error.type", name)
        if self._content:
            span.set_status(StatusCode.ERROR, f"{name}: {error}")
            span.record_exception(error)
            return
        span.set_status(StatusCode.ERROR, name)
        where = "".join(traceback.format_tb(error.__traceback__))
        span.add_event("exception", {"exception.type": name, "exception.stacktrace": where + name})


@define
class _Recent(Generic[FactT]):
    """What was told last of each saga class, or of each bus, unless that is long ago."""

    _told: dict[str, tuple[float, FactT]] = field(factory=dict[str, tuple[float, FactT]])

    def keep(self, name: str, fact: FactT) -> None:
        """Keep what is told of the class or bus of that name, in place of what was told before."""
        self._told[name] = (time.monotonic(), fact)

    def facts(self) -> list[FactT]:
        """Return what was told within the last minute."""
        now = time.monotonic()
        return [fact for at, fact in list(self._told.values()) if now - at <= _KEPT]


class _Metrics:
    """The instruments, and what they count."""

    def __init__(self, provider: MeterProvider | None) -> None:
        meter = metrics.get_meter("sagaflow", meter_provider=provider)
        self._backlogs: _Recent[Backlog] = _Recent()
        self._buses: _Recent[BusCondition] = _Recent()
        self._events = meter.create_counter(
            "sagaflow.events", "{event}", "Events that sagas have taken, by outcome"
        )
        self._conflicts = meter.create_counter(
            "sagaflow.conflicts", "{write}", "Writes that another write of the saga came before"
        )
        self._retries = meter.create_counter(
            "sagaflow.retries", "{attempt}", "Failed attempts after which work is tried again"
        )
        self._suspensions = meter.create_counter(
            "sagaflow.suspensions", "{saga}", "Sagas that have been suspended"
        )
        self._outages = meter.create_counter(
            "sagaflow.outages", "{outage}", "Outages of the store that were noticed"
        )
        self._saga_duration = meter.create_histogram(
            "sagaflow.saga.duration", "s", "From the start of a saga to its end"
        )
        self._handler_duration = meter.create_histogram(
            "sagaflow.handler.duration", "s", "How long handlers and compensations run"
        )
        self._commit_duration = meter.create_histogram(
            "sagaflow.commit.duration", "s", "How long it takes to write a saga"
        )
        self._wake_latency = meter.create_histogram(
            "sagaflow.wake.latency",
            "s",
            "How long after they were due timers fire and work is tried again",
        )
        self._outbox_age = meter.create_histogram(
            "sagaflow.outbox.age", "s", "How long after it was stored a message is accepted"
        )
        meter.create_observable_gauge(
            "sagaflow.overdue", [self._overdue], "{saga}", "Sagas with work that is due"
        )
        meter.create_observable_gauge(
            "sagaflow.suspended", [self._suspended], "{saga}", "Sagas that wait for an operator"
        )
        meter.create_observable_gauge(
            "sagaflow.overdue.age", [self._overdue_age], "s", "How long the oldest work is due"
        )
        meter.create_observable_gauge(
            "sagaflow.outbox.oldest", [self._outbox_oldest], "s", "How old the oldest message is"
        )
        meter.create_observable_gauge(
            "sagaflow.bus.down", [self._bus_down], "s", "How long the broker cannot be reached"
        )
        meter.create_observable_gauge(
            "sagaflow.bus.silent", [self._bus_silent], "s", "How long the bus gives no answer"
        )

    def record(self, activity: Activity, seconds: float) -> None:
        """Count an activity that has ended."""
        saga: dict[str, AttributeValue] = {"sagaflow.saga": activity.saga}
        named = {**saga, "sagaflow.outcome": activity.outcome}
        late = None if activity.late is None else activity.late.total_seconds()
        match activity.kind:
            case ActivityKind.EVENT:
                self._events.add(1, {**named, "sagaflow.event": activity.name})
            case ActivityKind.HANDLER | ActivityKind.COMPENSATION:
                step = {**named, "sagaflow.step": activity.name}
                self._handler_duration.record(seconds, step)
            case ActivityKind.COMMIT:
                self._commit_duration.record(seconds, named)
                if activity.outcome == "lost":
                    self._conflicts.add(1, saga)
            case ActivityKind.PUBLISH:
                if late is not None and activity.outcome == "accepted":
                    self._outbox_age.record(late, {**saga, "sagaflow.event": activity.name})
                return
        if late is not None:
            self._wake_latency.record(late, saga)

    def note(self, fact: Fact) -> None:
        """Count a fact."""
        match fact:
            case Retrying():
                self._retries.add(1, {"sagaflow.saga": fact.saga})
            case Suspended():
                reason = fact.reason.value
                self._suspensions.add(1, {"sagaflow.saga": fact.saga, "sagaflow.reason": reason})
            case Ended():
                attributes = {"sagaflow.saga": fact.saga, "sagaflow.state": fact.state}
                self._saga_duration.record(fact.took.total_seconds(), attributes)
            case StoreFails():
                self._outages.add(1)
            case StoreIsBack():
                pass
            case Backlog():
                self._backlogs.keep(fact.saga, fact)
            case BusCondition():
                self._buses.keep(fact.bus, fact)

    def _overdue(self, _: CallbackOptions) -> Iterable[Observation]:
        return [_observation(b, b.due) for b in self._backlogs.facts()]

    def _suspended(self, _: CallbackOptions) -> Iterable[Observation]:
        return [_observation(b, b.suspended) for b in self._backlogs.facts()]

    def _overdue_age(self, _: CallbackOptions) -> Iterable[Observation]:
        return [_observation(b, b.late.total_seconds()) for b in self._backlogs.facts()]

    def _outbox_oldest(self, _: CallbackOptions) -> Iterable[Observation]:
        return [_observation(b, b.outbox_age.total_seconds()) for b in self._backlogs.facts()]

    def _bus_down(self, _: CallbackOptions) -> Iterable[Observation]:
        return [_of_bus(b, b.down_for.total_seconds()) for b in self._buses.facts()]

    def _bus_silent(self, _: CallbackOptions) -> Iterable[Observation]:
        return [_of_bus(b, b.silent_for.total_seconds()) for b in self._buses.facts()]


def _observation(backlog: Backlog, value: float) -> Observation:
    return Observation(value, {"sagaflow.saga": backlog.saga})


def _of_bus(condition: BusCondition, value: float) -> Observation:
    return Observation(value, {"sagaflow.bus": condition.bus})


def _parent(activity: Activity) -> Context:
    """Return the context in which an activity belongs."""
    here = context.get_current()
    if activity.kind in (ActivityKind.HANDLER, ActivityKind.COMMIT):
        return here
    if activity.kind is ActivityKind.COMPENSATION and _own.get():
        return here  # the event that made the saga undo its steps says more
    given = {
        name: value
        for name, value in activity.headers.items()
        if isinstance(value, str) and name in _PROPAGATOR.fields
    }
    arrives = activity.kind is ActivityKind.EVENT and activity.late is None
    # What a worker does has nothing to do with the span in which its orchestrator was started.
    return _PROPAGATOR.extract(given, here if arrives else Context())


def _name(activity: Activity) -> str:
    match activity.kind:
        case ActivityKind.EVENT:
            return f"process {activity.name}"
        case ActivityKind.HANDLER:
            return f"{activity.saga}.{activity.name}"
        case ActivityKind.COMPENSATION:
            return f"undo {activity.saga}.{activity.name}"
        case ActivityKind.COMMIT:
            return f"commit {activity.saga}"
        case ActivityKind.PUBLISH:
            return f"send {activity.name}"


def _kind(activity: Activity) -> SpanKind:
    if activity.kind is ActivityKind.EVENT and activity.timer is None:
        return SpanKind.CONSUMER
    return SpanKind.PRODUCER if activity.kind is ActivityKind.PUBLISH else SpanKind.INTERNAL


def _attributes(activity: Activity) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {"sagaflow.saga": activity.saga}
    if activity.correlation_id is not None:
        attributes["sagaflow.correlation_id"] = str(activity.correlation_id)
    if activity.attempt > 1:
        attributes["sagaflow.attempt"] = activity.attempt
    if activity.timer is not None:
        attributes["sagaflow.timer"] = activity.timer
    if activity.kind not in (ActivityKind.EVENT, ActivityKind.PUBLISH):
        return {**attributes, "sagaflow.step": activity.name}
    operation = "process" if activity.kind is ActivityKind.EVENT else "send"
    attributes |= {
        "sagaflow.event": activity.name,
        "messaging.system": "sagaflow",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": activity.name,
    }
    if activity.message_id is not None:
        attributes["messaging.message.id"] = str(activity.message_id)
    if activity.correlation_id is not None:
        attributes["messaging.message.conversation_id"] = str(activity.correlation_id)
    return attributes


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
