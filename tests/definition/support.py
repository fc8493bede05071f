"""Events for the sagas of these tests, and how a refused definition is checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Protocol, TypeVar, cast

import pytest
from attrs import frozen

from sagaflow import Saga
from sagaflow._definition.table import TransitionRow
from sagaflow.exceptions import SagaDefinitionError, SagaflowError

T = TypeVar("T")


@frozen
class Started:
    key: str = ""


@frozen
class Paid:
    key: str = ""
    amount: int = 0


@frozen
class PaidByCard(Paid):
    """A kind of payment."""


@frozen
class PaidByDebitCard(PaidByCard):
    """A kind of payment by card."""


@frozen
class Shipped:
    key: str = ""


@frozen
class Cancelled:
    key: str = ""


class Decorator(Protocol):
    """Something that returns the function it is put on."""

    def __call__(self, function: T, /) -> T: ...


def unchecked(decorator: object) -> Decorator:
    """Hide *decorator* from the type checkers, which refuse what these tests do with it."""
    return cast("Decorator", decorator)


def steps(saga: type[Saga], state: str | None, event: type) -> list[str]:
    """Return the names of the transitions to consider, in order."""
    return [row.step for row in saga.table.candidates(state, event)]


def row(saga: type[Saga], step: str) -> TransitionRow:
    """Return the only row of that step."""
    (found,) = (row for row in saga.table.rows if row.step == step)
    return found


def assert_refused(define: Callable[[], object], where: str, *says: str) -> None:
    """Assert that *define* raises an error for the line that is marked with ``# here``.

    :param where: the class, or the class and the method or attribute, that the error names.
    :param says: parts of the message: what is wrong, and what to do.
    """
    with pytest.raises(SagaDefinitionError) as caught:
        define()
    error = caught.value
    assert isinstance(error, SagaflowError)
    assert isinstance(error, TypeError)
    saga, _, method = where.partition(".")
    assert (error.saga, error.method) == (saga, method or None)
    assert error.filename == inspect.getsourcefile(define)
    assert error.line == _marked_line(define)
    assert str(error) == f'{where}: {error.problem} (File "{error.filename}", line {error.line})'
    for part in says:
        assert part in error.problem


def _marked_line(define: Callable[[], object]) -> int:
    lines, first = inspect.getsourcelines(define)
    (marked,) = (number for number, line in enumerate(lines, first) if "# here" in line)
    return marked
