"""Puts the parts of an orchestrator together: what each of them is given, and nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import uuid4

from attrs import frozen

from sagaflow._codec.messages import MessageTypes
from sagaflow._definition.saga import Saga
from sagaflow._model.clock import Clock
from sagaflow._model.ids import SagaId
from sagaflow._model.policy import Limits, RetryPolicy
from sagaflow._model.services import svcs
from sagaflow._runtime.background import Background
from sagaflow._runtime.backlogs import Backlogs
from sagaflow._runtime.bus_watch import BusWatch
from sagaflow._runtime.delivery import Delivery
from sagaflow._runtime.due import DueWork
from sagaflow._runtime.following import FollowUp
from sagaflow._runtime.group_commit import GroupCommit
from sagaflow._runtime.handling import Handling
from sagaflow._runtime.hot_sagas import HotSagas
from sagaflow._runtime.intake import Intake
from sagaflow._runtime.invoke import Invoker
from sagaflow._runtime.lanes import Lane
from sagaflow._runtime.leases import Leases
from sagaflow._runtime.mailbox import Mailboxes
from sagaflow._runtime.operations import Operations
from sagaflow._runtime.outages import Outages
from sagaflow._runtime.outbox import Outbox, make_outbox
from sagaflow._runtime.pace import Pace
from sagaflow._runtime.process import Process
from sagaflow._runtime.removals import Removals
from sagaflow._runtime.resuming import Resuming
from sagaflow._runtime.store import Store
from sagaflow._runtime.sweep import Sweep
from sagaflow._runtime.trace import Trace
from sagaflow._runtime.transitions import Transitions
from sagaflow._runtime.waiting import Waiting
from sagaflow._runtime.workers import Workers
from sagaflow.abc import Bus, SagaRepository


@frozen(kw_only=True)
class Parts:
    """The parts that an orchestrator speaks to."""

    process: Process
    outages: Outages
    store: Store
    removals: Removals
    leases: Leases
    outbox: Outbox
    intake: Intake
    follow_up: FollowUp
    resuming: Resuming
    operations: Operations
    background: Background
    backlogs: Backlogs
    bus_watch: BusWatch
    waiting: Waiting


def put_together(  # noqa: PLR0913 - here the parts meet
    *,
    sagas: tuple[type[Saga], ...],
    repository: SagaRepository,
    bus: Bus | None,
    services: svcs.Registry | None,
    clock: Clock,
    messages: MessageTypes,
    retry: RetryPolicy,
    limits: Limits,
    background: bool,
    poll_interval: timedelta,
    concurrency: int,
    send_timeout: timedelta,
    lease_duration: timedelta,
    owner: str | None,
    conflict_deadline: timedelta,
    hot_sagas: int,
    trace: Trace,
    pace: Pace,
    resume: Callable[[type[Saga], SagaId], Awaitable[Lane | None]],
) -> Parts:
    """Return the parts of an orchestrator; see `Orchestrator` for what they are told.

    :param resume: does what is due for one saga in the background.
    :raises ValueError: if *hot_sagas* is negative.
    """
    process = Process(
        clock=clock,
        lease=lease_duration,
        owner=owner or uuid4().hex,
        sends=bus is not None,
        class_of=messages.find,
    )
    outages = Outages(clock=process.clock, trace=trace)
    store = Store(
        process=process,
        repository=repository,
        limits=limits,
        hot=HotSagas(hot_sagas),
        resolution=pace.resolution,
        trace=trace,
    )
    removals = Removals(process, store, outages)
    leases = Leases(process, store, fires=background)
    outbox = make_outbox(
        process,
        store,
        outages,
        bus,
        messages,
        retry=retry,
        removals=removals,
        leases=leases,
        send_timeout=send_timeout,
        trace=trace,
    )
    invoker = Invoker(messages=messages, clock=process.clock, services=services, trace=trace)
    due = DueWork(
        process=process,
        store=store,
        invoker=invoker,
        retry=retry,
        conflict_deadline=conflict_deadline,
        trace=trace,
    )
    workers = Workers(outages=outages, resume=resume, concurrency=concurrency)
    in_background = Background(
        process=process,
        store=store,
        outages=outages,
        sagas=sagas,
        workers=workers,
        sweep=Sweep(
            process=process,
            store=store,
            outages=outages,
            sagas=sagas,
            workers=workers,
            poll_interval=poll_interval,
        ),
        takes_back=owner is not None,
    )
    follow_up = FollowUp(
        process=process,
        store=store,
        outages=outages,
        due=due,
        outbox=outbox,
        leases=leases,
        begin=in_background.begin,
        has_background=background,
    )
    transitions = Transitions(process, store, removals)
    delivery = Delivery(
        process=process,
        store=store,
        handling=Handling(process=process, invoker=invoker, due=due, trace=trace),
        due=due,
        follow_up=follow_up,
        mailboxes=Mailboxes(pace.longest_turn),
        transitions=transitions,
        group=GroupCommit(commit=transitions.commit, patience=pace.batch),
        conflict_deadline=conflict_deadline,
        trace=trace,
    )
    intake = Intake(sagas=sagas, process=process, delivery=delivery, trace=trace)
    resuming = Resuming(
        process=process,
        store=store,
        outages=outages,
        due=due,
        outbox=outbox,
        leases=leases,
        concurrency=concurrency,
    )
    operations = Operations(
        process=process,
        store=store,
        outbox=outbox,
        conflict_deadline=conflict_deadline,
    )
    backlogs = Backlogs(process=process, store=store, outages=outages, sagas=sagas)
    return Parts(
        process=process,
        outages=outages,
        store=store,
        removals=removals,
        leases=leases,
        outbox=outbox,
        intake=intake,
        follow_up=follow_up,
        resuming=resuming,
        operations=operations,
        background=in_background,
        backlogs=backlogs,
        bus_watch=BusWatch(bus=bus, process=process, outbox=outbox),
        waiting=Waiting(process, store),
    )
