"""Which saga an event belongs to."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import frozen

from sagaflow import CorrelationError, Saga, SagaflowError, State, initially
from sagaflow._engine.correlation import correlate


@frozen
class Event:
    own: Any = None
    usual: Any = None
    correlation_id: Any = None


@frozen
class Special(Event):
    """A kind of event."""


@frozen
class Bare:
    """An event without any attribute."""


@frozen
class Usual:
    """An event of which the usual place is the only one."""

    usual: Any = None


@frozen
class Attribute:
    """An event whose attribute is the only place."""

    correlation_id: Any = None


def fails(_: Special) -> str:
    raise LookupError("nothing")


class Plain(Saga):
    only = State(final=True)
    start = initially.on(Event, Bare).goto(only)


class Keyed(Saga, correlate_by="usual"):
    only = State(final=True)
    start = initially.on(Event, by="own").goto(only)
    bare = initially.on(Bare).goto(only)


class Called(Saga, correlate_by=lambda event: event.usual):
    only = State(final=True)
    start = initially.on(Event).goto(only)
    special = initially.on(Special, by=fails).goto(only)


class Elsewhere(Saga):
    only = State(final=True)
    start = initially.on(Bare, by=lambda _: None).goto(only)


@pytest.mark.parametrize(
    ("saga", "event", "given", "envelope", "found"),
    [
        (Keyed, Event("o", "u", "c"), "g", "e", "g"),
        (Keyed, Event("o", "u", "c"), None, "e", "o"),
        (Keyed, Event(None, "u", "c"), None, "e", "u"),
        (Keyed, Event(None, None, "c"), None, "e", "c"),
        (Keyed, Event(), None, "e", None),
        (Keyed, Special(), None, "e", None),
        (Keyed, Usual(), None, "e", None),
        (Keyed, Attribute(), None, "e", None),
        (Called, Event(), None, "e", None),
        (Plain, Event(), None, "e", None),
        (Plain, Attribute(), None, "e", None),
        (Plain, Usual(), None, "e", "e"),
        (Plain, Bare(), None, "e", "e"),
        (Elsewhere, Bare(), None, "e", None),
        (Keyed, Event(), None, None, None),
        (Keyed, Special("o", "u", "c"), None, None, "o"),
        (Keyed, Bare(), None, None, None),
        (Keyed, Bare(), None, 5, 5),
        (Called, Event("o", "u", "c"), None, None, "u"),
        (Called, Event("o", None, "c"), None, None, "c"),
        (Plain, Event("o", "u", "c"), None, None, "c"),
        (Plain, Event("o", "u"), None, None, None),
    ],
)
def test_places_in_their_order(
    saga: type[Saga], event: object, given: object, envelope: object, found: object
) -> None:
    assert correlate(saga.table, event, given, envelope) == found


def test_id_that_is_falsy_is_an_id() -> None:
    assert correlate(Keyed.table, Event(0, "u"), None) == 0


@pytest.mark.parametrize("place", ["given", "own", "usual", "correlation_id", "envelope"])
def test_what_is_no_id_is_refused_wherever_it_is_found(place: str) -> None:
    value: Any = {"$gt": ""}
    event = Event(**{place: value}) if place not in ("given", "envelope") else Bare()
    given, envelope = (value if place == name else None for name in ("given", "envelope"))
    with pytest.raises(CorrelationError, match="it is a dict"):
        correlate(Keyed.table, event, given, envelope)


def test_error_of_a_correlator_says_whose_it_is() -> None:
    with pytest.raises(SagaflowError, match="Called: the by= callable of Special raised") as caught:
        correlate(Called.table, Special(usual="u"), None)
    assert isinstance(caught.value.__cause__, LookupError)


def test_correlator_is_not_asked_when_the_id_is_given() -> None:
    assert correlate(Called.table, Special(), "g") == "g"
