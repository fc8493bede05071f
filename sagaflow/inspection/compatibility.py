"""Finds stored sagas that a class could not handle, before its code is deployed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from attrs import evolve, frozen

from sagaflow._codec.selection import Part, Trait
from sagaflow._definition.saga import Saga, definition_of
from sagaflow._definition.table import TransitionTable
from sagaflow._model.record import Status, TimerKind
from sagaflow.inspection.finding import Finding

_EXAMPLES: Final = 3
_MESSAGE_REMEDY: Final = (
    "keep its class, or pass it with --messages as the orchestrator is given it"
)


@frozen
class _Problem:
    kind: str
    subject: str
    text: str


_DAMAGED: Final = _Problem(
    "damaged",
    "",
    "documents have something in them that cannot be read, so they are left alone; list them with "
    "sagaflow ls --damaged",
)


def unmanageable(
    saga_type: type[Saga], class_of: Callable[[str], type | None], traits: Iterable[Trait]
) -> Iterator[Finding]:
    """Yield a finding for each trait that the class could not handle.

    :param class_of: finds the class of a message by the name under which it is stored.
    :param traits: what the stored sagas have in common; each says with which ``schema``.
    """
    found: dict[_Problem, list[Trait]] = {}
    for trait in traits:
        present = _present(saga_type, trait)
        for problem in _problems(saga_type, class_of, present):
            found.setdefault(problem, []).append(present)
    for problem, having in found.items():
        states = {trait.state for trait in having}
        yield Finding(
            saga=saga_type.table.saga,
            kind=problem.kind,
            state=states.pop() or None if len(states) == 1 else None,
            subject=problem.subject,
            problem=problem.text,
            count=sum(trait.count for trait in having),
            examples=tuple(dict.fromkeys(e for trait in having for e in trait.examples))[
                :_EXAMPLES
            ],
        )


def _present(saga_type: type[Saga], trait: Trait) -> Trait:
    """Return a trait with the names that the class has now for what it was stored with."""
    names = definition_of(saga_type).evolution.names_since(trait.schema)
    renamed = trait.part is not Part.TIMER or trait.kind is TimerKind.TIMEOUT
    return evolve(
        trait,
        state=names.get(trait.state, trait.state),
        name=names.get(trait.name, trait.name) if trait.name and renamed else trait.name,
    )


def _problems(
    saga_type: type[Saga], class_of: Callable[[str], type | None], trait: Trait
) -> Iterator[_Problem]:
    table, schema = saga_type.table, definition_of(saga_type).evolution.schema
    if trait.schema > schema:
        if trait.part is Part.STATE:
            yield _Problem(
                "schema",
                str(trait.schema),
                f"sagas are stored with schema {trait.schema}, the class has {schema}: this code "
                "leaves them alone; deploy it where newer code has not run",
            )
        return
    match trait.part:
        case Part.STATE:
            yield from _state(table, trait)
        case Part.GOAL:
            yield from _goal(table, trait)
        case Part.TIMER:
            yield from _timer(saga_type, class_of, trait)
        case Part.COMPENSATION:
            yield from _compensation(saga_type, class_of, trait)
        case Part.PARKED:
            yield from _event(table, class_of, trait, "parked")
        case Part.DAMAGED:
            yield _DAMAGED
        case Part.OUTGOING:
            yield from _outgoing(class_of, trait)


def _outgoing(class_of: Callable[[str], type | None], trait: Trait) -> Iterator[_Problem]:
    if class_of(trait.message or "") is None:
        yield _Problem(
            "outgoing",
            str(trait.message),
            f"messages of the type {trait.message!r} wait to be sent, which the code does not "
            f"know: {_MESSAGE_REMEDY}",
        )


def _state(table: TransitionTable, trait: Trait) -> Iterator[_Problem]:
    if trait.status in (Status.EMBRYO, Status.FINISHED):
        return
    state = table.state(trait.state)
    if state is None:
        yield _Problem(
            "state",
            trait.state,
            f"sagas are in the state {trait.state!r}, which the class does not have: put it back "
            "until none is left, or say with migrates(..., renamed=...) what it is called now; "
            "until then they are left alone",
        )
    elif (
        state.final and trait.status is Status.ACTIVE
    ):  # a suspended saga may be in its final state already
        yield _Problem(
            "state",
            trait.state,
            f"sagas are in the state {trait.state!r} and not finished, but the class calls it "
            "final: nothing would ever leave it",
        )


def _goal(table: TransitionTable, trait: Trait) -> Iterator[_Problem]:
    if table.state(trait.name or "") is None:
        yield _Problem(
            "goal",
            str(trait.name),
            f"sagas being undone are to enter the state {trait.name!r}, which the class does not "
            "have: put it back until none is left; until then they are left alone",
        )


def _timer(
    saga_type: type[Saga], class_of: Callable[[str], type | None], trait: Trait
) -> Iterator[_Problem]:
    table, name = saga_type.table, str(trait.name)
    if trait.kind is TimerKind.EVENT:
        yield from _event(table, class_of, trait, "scheduled")
    elif trait.kind is TimerKind.TIMEOUT:
        declared = [row for row in table.timeouts(trait.state) if row.step == name]
        # If the class has a timeout of that name, armed timers keep the delay they were armed with.
        if len(declared) != 1 and not any(row.after == trait.delay for row in declared):
            now = ", ".join(str(row.after) for row in declared) or "none"
            yield _Problem(
                "timer",
                name,
                f"timeouts {name!r} after {trait.delay} are armed in state {trait.state!r}; the "
                f"class declares {now} of that name there, so they would be dropped: keep one "
                "of that name until none is left",
            )


def _compensation(
    saga_type: type[Saga], class_of: Callable[[str], type | None], trait: Trait
) -> Iterator[_Problem]:
    method = str(trait.name)
    if not callable(getattr(saga_type, method, None)):
        yield _Problem(
            "compensation",
            method,
            f"steps would be undone by the method {method!r}, which the class does not have: keep "
            "it until none is left",
        )
    if trait.message is not None and class_of(trait.message) is None:
        yield _Problem(
            "compensation",
            trait.message,
            f"{method!r} would be given the event {trait.message!r}, which the code does not know: "
            f"{_MESSAGE_REMEDY}",
        )


def _event(
    table: TransitionTable, class_of: Callable[[str], type | None], trait: Trait, how: str
) -> Iterator[_Problem]:
    name = str(trait.message)
    found = class_of(name)
    if found is None:
        yield _Problem(
            how,
            name,
            f"events of the type {name!r} are {how}, which the code does not know: "
            f"{_MESSAGE_REMEDY}",
        )
    elif not table.takes(found):
        yield _Problem(
            how,
            name,
            f"events of the type {name!r} are {how}, which no transition takes: they would be "
            "dropped; declare one, if only .ignore()",
        )
