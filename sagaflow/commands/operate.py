"""``sagaflow retry``, ``resume``, ``skip`` and ``cancel``.

Each is one conditional write. This process has neither the bus nor the services of the
application, so it sends nothing and runs no handler: the workers that run do what follows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

from sagaflow._definition.saga import Saga
from sagaflow._definition.state import State
from sagaflow._model.errors import SagaflowError
from sagaflow._model.ids import SagaId
from sagaflow._model.policy import Limits
from sagaflow._model.record import CompensationStatus, OutgoingMessage, SagaRecord, Status
from sagaflow._model.spans import relative
from sagaflow._runtime.operations import Cancellation
from sagaflow.commands.connection import ask, load
from sagaflow.commands.ids import parse_id, show_id
from sagaflow.commands.options import one_saga, stored
from sagaflow.commands.output import plain
from sagaflow.commands.targets import load_saga
from sagaflow.inspection.shown import shown_error
from sagaflow.mongo import MongoRepository
from sagaflow.orchestrator import Orchestrator

_MOST: Final = 2**31
_NO_LIMITS: Final = Limits(
    max_outbox=_MOST,
    max_parked=_MOST,
    max_timers=_MOST,
    max_compensations=_MOST,
    warn_bytes=_MOST,
    max_bytes=_MOST,
)
"""The limits of the application are not known here, and lifting a suspension adds nothing."""


def _command(function: Callable[..., Any]) -> click.Command:
    """Return a command with the arguments and options that all four have."""
    function = click.option(
        "--yes", is_flag=True, help="Do not ask. Needed where there is no terminal to ask on."
    )(function)
    return click.command()(one_saga(stored()(function)))


@_command
def retry(**given: Any) -> None:
    """Have what suspended a saga tried again, and then what was parked, in order.

    The running workers do it, as soon as they see it: here is neither the bus nor the services of
    the application, so no handler runs and nothing is sent. It does what resume does; the history
    says which was asked for.

    The exit status is 0; 1 after a no; 2 after an error, such as that the saga is not suspended.
    """
    _act("retry", "Have it tried again?", **given)


@_command
def resume(**given: Any) -> None:
    """Put a suspended saga back to work: what failed is tried again, with new patience.

    The running workers do it, as soon as they see it; no handler runs here and nothing is sent.

    The exit status is 0; 1 after a no; 2 after an error, such as that the saga is not suspended.
    """
    _act("resume", "Put it back to work?", **given)


@_command
def skip(**given: Any) -> None:
    """Leave out what suspended a saga: the event, the timer, the step or the message.

    An event that is skipped is lost; a step that is skipped stays done. The running workers go on
    with what came later; no handler runs here and nothing is sent.

    The exit status is 0; 1 after a no; 2 after an error, such as that the saga is not suspended.
    """
    _act("skip", "Leave it out for good?", **given)


@click.option("--state", metavar="NAME", help="The final state to end in, instead of where it is.")
@_command
def cancel(**given: Any) -> None:
    """Have a saga undo its completed steps, last first, and end. Parked events are dropped.

    What it has sent and the bus has not taken is withdrawn, but for what undoes its steps. The
    running workers undo the steps; no handler runs here and nothing is sent. It says what was in
    flight, and what becomes of it.

    The exit status is 0; 1 after a no; 2 after an error, such as that the saga has ended.
    """
    _act("cancel", "Undo and end it?", **given)


def _act(  # noqa: PLR0913 - the options of the commands
    action: str,
    question: str,
    *,
    target: str,
    correlation_id: str,
    id_type: str | None,
    mongodb: str,
    database: str,
    yes: bool,
    state: str | None = None,
) -> None:
    saga_type, wanted = load_saga(target), parse_id(correlation_id, id_type)
    name = f"{saga_type.table.saga} {show_id(wanted)}"
    goal = _final(saga_type, state)

    async def read(repository: MongoRepository) -> SagaRecord:
        return await load(repository, saga_type, wanted)

    async def change(repository: MongoRepository) -> tuple[SagaRecord, Cancellation | None]:
        told = await _operate(repository, saga_type, wanted, action, goal)
        return await read(repository), told

    before = ask(mongodb, database, read, "reading the saga")
    if not yes:
        _confirm(name, before, action, question)
    after, told = ask(mongodb, database, change, "writing")
    click.echo(f"{name}: {action}: {plain(_change(before, after))}")
    for line in () if told is None else _in_flight(told):
        click.echo(plain(line))
    click.echo(_follows(after, told))


async def _operate(
    repository: MongoRepository,
    saga_type: type[Saga],
    wanted: SagaId,
    action: str,
    goal: State | None,
) -> Cancellation | None:
    # Never entered, so it has no workers. Its leases end at once, so that the workers may begin.
    orchestrator = Orchestrator(
        [saga_type], repository, background=False, limits=_NO_LIMITS, lease_duration=timedelta(0)
    )
    match action:
        case "retry":
            await orchestrator.retry(saga_type, wanted, wait=False)
        case "resume":
            await orchestrator.resume(saga_type, wanted)
        case "skip":
            await orchestrator.skip(saga_type, wanted, wait=False)
        case _:
            return await orchestrator.cancel(saga_type, wanted, state=goal, wait=False)
    return None


def _final(saga_type: type[Saga], name: str | None) -> State | None:
    found = None if name is None else saga_type.table.state(name)
    if name is not None and found is None:
        finals = ", ".join(state.name for state in saga_type.table.states if state.final)
        raise SagaflowError(
            f"{saga_type.table.saga} has no state {name!r}; its final states: {finals}"
        )
    return found


def _confirm(name: str, record: SagaRecord, action: str, question: str) -> None:
    if not _is_terminal():
        raise SagaflowError(f"there is no terminal to ask on: say {action} --yes")
    click.echo(f"{name} is {record.status.value} in {plain(record.state)}", err=True)
    if record.suspension is not None:
        since = relative(record.suspension.since, datetime.now(UTC))
        said = f"suspended {since}: {shown_error(record.suspension.error)}"
        click.echo(plain(said), err=True)
    if action == "cancel":
        steps = [e.step for e in record.compensations if e.status is CompensationStatus.PENDING]
        undone = ", ".join(reversed(steps)) or "nothing"
        click.echo(f"to be undone, in this order: {plain(undone)}", err=True)
        unsent = tuple(message for message in record.outbox if message.undoes is None)
        if unsent:
            click.echo(f"to be withdrawn, if not sent yet: {plain(_listed(unsent))}", err=True)
    if not click.confirm(question, err=True):
        click.echo("nothing was changed", err=True)
        click.get_current_context().exit(1)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _change(before: SagaRecord, after: SagaRecord) -> str:
    moved = after.state if before.state == after.state else f"{before.state} -> {after.state}"
    return (
        f"{before.status.value} -> {after.status.value} in {moved}, "
        f"version {before.version} -> {after.version}"
    )


def _in_flight(told: Cancellation) -> Iterator[str]:
    """Yield what becomes of the messages of a cancelled saga."""
    if told.withdrawn:
        yield f"withdrawn, since the bus never took it: {_listed(told.withdrawn)}"
    if told.under_way:
        yield f"may arrive still, since a worker may be sending it now: {_listed(told.under_way)}"
    if told.kept:
        yield f"sent nevertheless, since it undoes a step: {_listed(told.kept)}"


def _listed(messages: tuple[OutgoingMessage, ...]) -> str:
    return ", ".join(f"{message.message.type} {message.id}" for message in messages)


def _follows(after: SagaRecord, told: Cancellation | None) -> str:
    if after.status is Status.FINISHED and after.wake is None:
        asked = after.sequence if told is None else told.sent + len(told.under_way)
        if not asked:
            return "it has ended, and nothing is left to do"
        return (
            "it has ended; what it asked for before may still be done, and an answer to that "
            "changes nothing any more: see to it where it is answered"
        )
    if after.wake is not None and after.wake <= datetime.now(UTC):
        return "the running workers go on with it within seconds; see sagaflow show"
    return "there is nothing to do for it now; see sagaflow explain"
