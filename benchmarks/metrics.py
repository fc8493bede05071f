"""What is measured, and in which unit."""

from __future__ import annotations

from attrs import frozen


@frozen
class Metric:
    """A kind of figure.

    :ivar title: the head of its column.
    :ivar unit: what the figure counts.
    """

    title: str
    unit: str


_WHOLE = 100

METRICS: dict[str, Metric] = {
    "wall": Metric("wall time", "µs/event"),
    "cpu": Metric("CPU of the client", "µs/event"),
    "calls": Metric("function calls", "/event"),
    "python_calls": Metric("of functions in Python", "/event"),
    "look": Metric("wall time", "µs/look"),
    "new": Metric("wall time", "µs/instance"),
    "round_trips": Metric("round trips", "/event"),
    "writes": Metric("writes", ""),
    "attempted": Metric("transitions attempted", ""),
    "lost": Metric("lost", ""),
    "sweep": Metric("sweep, nothing due", "ms"),
    "fire": Metric("due timer", "µs/timer"),
    "memory": Metric("memory", "KiB/saga"),
    "process": Metric("process", "MiB"),
    "recovery": Metric("until all sent", "s"),
    "orders_one": Metric("1 worker, orders", "/s"),
    "orders_two": Metric("2 workers, orders", "/s"),
    "message_one": Metric("1 worker, CPU", "µs/message"),
    "message_two": Metric("2 workers, CPU", "µs/message"),
    "handled_one": Metric("1 worker, messages", "/s"),
    "handled_two": Metric("2 workers, messages", "/s"),
    "gain": Metric("2 workers over 1", "×"),
    "message_wall": Metric("wall time", "µs/message"),
    "message_cpu": Metric("CPU", "µs/message"),
    "beside": Metric("stored by the worker that sends it", "ms"),
    "apart": Metric("stored by another process", "ms"),
    "redelivered": Metric("sent more than once", ""),
}


def shown(value: float) -> str:
    """Return *value* with three digits, or as many as it has before the point."""
    return f"{value:,.0f}" if abs(value) >= _WHOLE else f"{value:.3g}"
