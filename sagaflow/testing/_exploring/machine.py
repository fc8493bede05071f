"""The explorer's world as a state machine of Hypothesis, which is imported only if it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from sagaflow._definition.saga import Saga
from sagaflow._model.errors import SagaflowError
from sagaflow._model.late import Late
from sagaflow._model.services import svcs
from sagaflow.testing._exploring.explore import NOBODY, subject_of, world_of
from sagaflow.testing._exploring.world import AnswersByClass, Invariant

if TYPE_CHECKING:
    from hypothesis import stateful
else:
    stateful = Late("hypothesis.stateful")

SagaT = TypeVar("SagaT", bound=Saga)


def saga_state_machine(  # noqa: PLR0913
    saga: type[SagaT],
    *,
    events: Iterable[object] = (),
    optional: Iterable[object] = (),
    participants: AnswersByClass = NOBODY,
    invariants: Sequence[Invariant[SagaT]] = (),
    nothing_to_undo: Sequence[Callable[..., object]] = (),
    faults: int = 1,
    services: svcs.Registry | None = None,
    messages: Iterable[type] | Mapping[str, type] = (),
    backend: str = "asyncio",
) -> type[stateful.RuleBasedStateMachine]:
    """Return a state machine of Hypothesis that does at random what `explore` does in order.

    ``TestOrders = saga_state_machine(OrderSaga).TestCase`` is a test; Hypothesis looks for a
    history that breaks something, and shrinks it. The parameters are those of `explore`.

    :raises SagaflowError: if Hypothesis is not installed, or an example is of no use.
    """
    try:
        from sagaflow.testing._exploring.rules import Rest, machine  # noqa: PLC0415
    except ImportError as exc:
        raise SagaflowError(
            "saga_state_machine() needs Hypothesis: pip install 'sagaflow[hypothesis]'"
        ) from exc
    subject = subject_of(saga, participants, invariants, nothing_to_undo, services, messages)
    start, _ = world_of(saga, events, optional, participants)
    return machine(Rest(subject=subject, start=start, faults=faults, backend=backend))
