"""The class that applications subclass, and the metaclass that reads its body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Final, dataclass_transform

import attrs
from attrs import frozen

from sagaflow._definition.arguments import may_correlate
from sagaflow._definition.body import (
    Place,
    check_body,
    check_data,
    check_fields,
    check_graph,
    check_mixin,
    check_overrides,
)
from sagaflow._definition.build import Layer, build_table, read_layer
from sagaflow._definition.evolution import Evolution, build_evolution
from sagaflow._definition.origin import SagaBody
from sagaflow._definition.table import Correlator, TransitionTable
from sagaflow._model.redaction import safe_repr

_DEFAULT_INBOX: Final = 128
MOST_INBOX: Final = 4_096
"""With ids of 1 KiB these take 4 MiB, which MongoDB has room for beside `Limits.max_bytes`."""
_DEFAULT_EARLY_EVENTS: Final = timedelta(days=1)
_MOST_CHARACTERS: Final = 171
"""Of a name: with that of its database, of 63 at most, a sharded collection may have 235."""


@frozen(kw_only=True)
class Options:
    """What the class keywords of a saga say.

    :ivar correlate_by: where its events keep the correlation id, unless they say ``by=``.
    :ivar retain: how long a finished saga is kept as a tombstone; None for ever.
    :ivar inbox_size: how many message ids are remembered to recognise duplicates.
    :ivar timeout: how long it may wait in a state that has no timeout of its own; None for ever.
    :ivar early_events: how long events are kept that arrive before their saga.
    :ivar schema: which version of its data the class has.
    """

    correlate_by: Correlator | None = None
    retain: timedelta | None = None
    inbox_size: int = _DEFAULT_INBOX
    timeout: timedelta | None = None
    early_events: timedelta = _DEFAULT_EARLY_EVENTS
    schema: int = 1


@frozen
class Definition:
    """A saga class as the engine sees it.

    :ivar layers: what it and each of its bases declare, in method resolution order.
    :ivar given: the keywords of its own class statement.
    :ivar evolution: how sagas of an earlier schema become such of this one.
    """

    table: TransitionTable
    options: Options
    layers: Mapping[type, Layer]
    given: Mapping[str, Any]
    evolution: Evolution


@dataclass_transform(kw_only_default=True, field_specifiers=(attrs.field,))
class SagaMeta(type):
    """Makes an attrs class and a checked, frozen transition table of a saga's class body."""

    __sagaflow__: Definition

    @classmethod
    def __prepare__(mcls, name: str, bases: tuple[type, ...], /, **_: object) -> SagaBody:
        """Return the namespace that notices unfinished chains."""
        return SagaBody()

    def __new__(  # noqa: PLR0913 - the keywords of the class statement
        mcls,
        class_name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        /,
        *,
        name: str | None = None,
        correlate_by: Correlator | None = None,
        retain: timedelta | None = None,
        inbox_size: int | None = None,
        timeout: timedelta | None = None,
        early_events: timedelta | None = None,
        schema: int | None = None,
    ) -> SagaMeta:
        place = Place.of_caller(class_name)
        if "__sagaflow__" in namespace:
            raise place.error("a saga is an attrs class already: leave out the decorator of attrs")
        if "__attrs_attrs__" in namespace:  # attrs makes the class again, to give it slots
            return super().__new__(mcls, class_name, bases, namespace)
        layer = read_layer(namespace)
        try:
            plain = super().__new__(mcls, class_name, bases, dict(namespace))
        except TypeError as exc:
            if "lay-out conflict" not in str(exc):
                raise
            raise place.error(
                "two of its bases hold data, which a class with slots cannot inherit: keep the "
                "data in one of them"
            ) from exc
        check_body(place, plain, namespace)
        cls: SagaMeta = attrs.define(plain, slots=True, auto_attribs=True, kw_only=True, repr=False)
        check_fields(place, cls)
        given = _keywords(
            place,
            correlate_by=correlate_by,
            inbox_size=inbox_size,
            retain=retain,
            timeout=timeout,
            early_events=early_events,
            schema=schema,
        )
        options = dict(given)
        layers: dict[type, Layer] = {cls: layer}
        for base in cls.__mro__[1:-1]:
            definition = _definition(base)
            if definition is None:
                check_mixin(place, cls, base)
                layers[base] = read_layer(vars(base))
            else:
                layers[base] = definition.layers[base]
                options = {**definition.given, **options}
        table = build_table(cls, layers, _name(place, name), options.get("correlate_by"))
        if table.states:
            check_graph(place, table)
        check_overrides(place, namespace, layer, table)
        check_data(place, cls, table)
        found = Options(**options)
        evolution = build_evolution(place, cls, layers, table, found.schema)
        cls.__sagaflow__ = Definition(table, found, layers, given, evolution)
        return cls

    def __init__(cls, *args: Any, **_: Any) -> None:
        super().__init__(*args)

    if TYPE_CHECKING:

        @property
        def table(cls) -> TransitionTable:
            """The transition table of the class: frozen and checked."""
            ...

    else:  # asked for many times with each event, so it is found without a call of Python's
        table = property(
            attrgetter("__sagaflow__.table"),
            doc="The transition table of the class: frozen and checked.",
        )


def _definition(base: type) -> Definition | None:
    return vars(base).get("__sagaflow__")


def _name(place: Place, name: str | None) -> str:
    if name is None:
        return place.saga
    if not _is_stored_name(name):
        raise place.error(
            f"name= takes a str of letters, digits and _ . -, at most {_MOST_CHARACTERS} of them, "
            f"as a collection of MongoDB is called, not {name!r}"
        )
    return name


def _is_stored_name(given: object) -> bool:
    return (
        isinstance(given, str)
        and len(given) <= _MOST_CHARACTERS
        and not given.startswith("system.")
        and bool(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*", given))
    )


def _keywords(
    place: Place,
    *,
    correlate_by: object,
    inbox_size: object,
    schema: object,
    **spans: object,
) -> dict[str, Any]:
    """Return those keywords of a class statement that were given."""
    if not may_correlate(correlate_by):
        raise place.error(
            f"correlate_by= takes an attribute's name or a callable, not {correlate_by!r}"
        )
    for keyword, span in spans.items():
        if span is not None and not (isinstance(span, timedelta) and span > timedelta(0)):
            raise place.error(f"{keyword}= takes a positive timedelta, not {span!r}")
    counts: dict[str, Any] = {"inbox_size": inbox_size, "schema": schema}
    for keyword, count in counts.items():
        if count is not None and (type(count) is not int or count < 1):
            raise place.error(f"{keyword}= takes a positive int, not {count!r}")
    if inbox_size is not None and counts["inbox_size"] > MOST_INBOX:
        raise place.error(
            f"inbox_size= takes at most {MOST_INBOX:,}, not {inbox_size!r}: the ids stand in the "
            "document of the saga, and each may have 1 KiB"
        )
    given = {"correlate_by": correlate_by, **counts, **spans}
    return {keyword: value for keyword, value in given.items() if value is not None}


class Saga(metaclass=SagaMeta):
    """A long-running process, written as one class.

    Subclass it: `State` attributes are the places where it waits, annotated attributes are its
    persisted data, decorated methods are its transitions. A subclass is an attrs class with slots
    and keyword-only arguments, so a misspelt attribute raises instead of being lost.

    Class keywords: ``name`` under which it is stored (the class's own by default),
    ``correlate_by`` (attribute name or callable that gives an event's correlation id), ``retain``
    (how long a finished saga is kept; for ever by default), ``inbox_size`` (how many message ids
    it remembers, 4,096 at most; 128 by default), ``timeout`` (how long it may wait in a
    state that has no ``.after()`` before it is suspended; for ever by default), ``early_events``
    (how long events that arrive before their saga are kept, where ``initially...defer()`` says so;
    a day by default) and ``schema`` (which version of its data this is, with `migrates` for each
    step from version 1; 1 by default).

    :raises SagaDefinitionError: when the class statement runs, if it says something that cannot
        be run.
    """

    def __repr__(self) -> str:
        return safe_repr(self)

    if TYPE_CHECKING:  # so that the functions of attrs take it
        __attrs_attrs__: ClassVar[Any]


def definition_of(saga_type: type[Saga]) -> Definition:
    """Return what *saga_type* says."""
    return saga_type.__sagaflow__
