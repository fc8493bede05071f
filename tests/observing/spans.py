"""Spans and metrics as the SDK of OpenTelemetry has collected them."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sagaflow.otel import OpenTelemetryObserver


class Telemetry:
    """Collects what a process emits, and makes the observer that emits it."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._meters = MeterProvider([self._reader])

    def observer(self, *, content: bool = False) -> OpenTelemetryObserver:
        """Return a new observer."""
        return OpenTelemetryObserver(
            tracer_provider=self.tracers, meter_provider=self._meters, content=content
        )

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        """Return the spans that have ended, in the order of their beginning."""
        spans = sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)
        return [span for span in spans if name in (None, span.name)]

    def span(self, name: str) -> ReadableSpan:
        """Return the only span of that name."""
        (span,) = self.spans(name)
        return span

    def tree(self) -> list[str]:
        """Return the names of all spans, each indented below its parent."""
        spans = self.spans()
        ids = {_id(span) for span in spans}
        children: dict[int | None, list[ReadableSpan]] = {}
        for span in spans:
            parent = None if span.parent is None else span.parent.span_id
            children.setdefault(parent if parent in ids else None, []).append(span)

        def lines(parent: int | None, depth: int) -> list[str]:
            found: list[str] = []
            for span in children.get(parent, ()):
                found += ["  " * depth + span.name, *lines(_id(span), depth + 1)]
            return found

        return lines(None, 0)

    def points(self, name: str) -> list[Any]:
        """Return the data points of a metric."""
        data = self._reader.get_metrics_data()
        found: list[Any] = []
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        found += metric.data.data_points
        return found

    def counts(self, name: str, *attributes: str) -> dict[Any, Any]:
        """Return what a metric says, by its attributes: a number, or how often it was recorded."""
        found: dict[Any, Any] = {}
        for point in self.points(name):
            key = tuple(point.attributes[f"sagaflow.{attribute}"] for attribute in attributes)
            found[key] = getattr(point, "value", getattr(point, "count", None))
        return found


def _id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def trace_ids(spans: list[ReadableSpan]) -> set[int]:
    """Return the traces that spans belong to."""
    return {span.context.trace_id for span in spans if span.context is not None}
