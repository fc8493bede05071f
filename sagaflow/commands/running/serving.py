"""Runs a worker in this process: waits for its servers, works, and ends in good order."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Final

import anyio
from attrs import define, field, frozen

from sagaflow._definition.saga import Saga
from sagaflow._engine.backoff import bound
from sagaflow._model.errors import RepositoryError, SagaflowError, ServerUnavailableError
from sagaflow._model.log import about, get_logger
from sagaflow._model.policy import RetryPolicy
from sagaflow._model.services import svcs
from sagaflow.bus.broker import BrokerBus
from sagaflow.bus.subscribing import share_turns
from sagaflow.bus.turns import MakeTurns
from sagaflow.commands.running.applying import apply
from sagaflow.commands.running.buses import bus_at
from sagaflow.commands.running.owners import owning
from sagaflow.commands.running.settings import Settings
from sagaflow.commands.running.status import Progress
from sagaflow.commands.targets import load_application, load_messages
from sagaflow.mongo import MongoRepository
from sagaflow.mongo.uris import impatient
from sagaflow.orchestrator import Orchestrator
from sagaflow.worker import Messages, Worker

logger = get_logger("sagaflow.worker")

_FIRST_PAUSE: Final = timedelta(milliseconds=100)
_LONGEST_PAUSE: Final = timedelta(seconds=10)


@frozen
class Application:
    """What a worker is to run.

    :ivar sagas: the saga classes, where no factory says what they are.
    """

    sagas: tuple[type[Saga], ...]
    factory: Callable[..., object] | None
    messages: Messages

    @classmethod
    def of(cls, settings: Settings) -> Application:
        """Import it.

        :raises SagaflowError: if it cannot be imported, or has nothing to run.
        """
        sagas, factory = load_application(settings.target)
        return cls(sagas, factory, load_messages(settings.messages))


@define
class Serving:
    """A worker of this process.

    :ivar owner: the name of this process.
    :ivar make_turns: gives the turns of handlers with limits; None if it is the only process.
    :ivar progress: how far the worker has come, for whoever asks for its health.
    """

    settings: Settings
    owner: str
    application: Application
    make_turns: MakeTurns | None = None
    progress: Progress = field(factory=Progress, init=False)
    _stopping: anyio.Event = field(factory=anyio.Event, init=False)
    _scope: anyio.CancelScope = field(factory=anyio.CancelScope, init=False)
    _has_begun: bool = field(default=False, init=False)

    def stop(self) -> None:
        """Have the worker end: in good order once it works, at once before that."""
        self.progress.note("it is stopping")
        self._stopping.set()
        if not self._has_begun:
            self._scope.cancel()

    async def run(self) -> None:
        """Work until `stop` is called.

        :raises SagaflowError: if the worker cannot be set up.
        :raises RepositoryError: if the database refuses.
        """
        with self._scope:
            async with AsyncExitStack() as stack:
                await self._work(stack)
        logger.info("%s has ended", self.owner, extra=about())

    async def _work(self, stack: AsyncExitStack) -> None:
        settings = self.settings
        await stack.enter_async_context(owning(self.owner, settings.database))
        repository = await self._connect(stack)
        worker = Worker(
            service=settings.service,
            owner=self.owner,
            repository=repository,
            make_bus=self._bus_maker(repository),
            sagas=self.application.sagas,
            messages=self.application.messages,
        )
        if self.application.factory is not None:
            await apply(self.application.factory, worker, stack, settings.target)
        if not worker.sagas and not worker.has_bus:
            raise SagaflowError(
                f"{settings.target} gives the worker nothing to do: set worker.sagas, or subscribe "
                "to worker.bus"
            )
        await self._check_indexes(worker, repository)
        if worker.has_services:
            stack.push_async_callback(self._close, worker.services)
        self._has_begun = True
        bus = self.progress.bus = await stack.enter_async_context(worker.bus)
        if worker.sagas:
            await stack.enter_async_context(self._orchestrating(worker))
        if not self._stopping.is_set():
            self.progress.note(None)
            runs = ", ".join(saga.table.saga for saga in worker.sagas) or "participants only"
            logger.info("%s is at work: %s", self.owner, runs, extra=about())
        await self._stopping.wait()
        message = "%s takes no more messages, and ends what it has begun"
        logger.info(message, self.owner, extra=about())
        await bus.drain()

    async def _connect(self, stack: AsyncExitStack) -> MongoRepository | None:
        """Connect to the database, once it answers."""
        uri, database = self.settings.mongodb, self.settings.database
        if uri is None or database is None:
            return None
        attempt = 0
        while True:
            try:
                found = await stack.enter_async_context(
                    MongoRepository.connect(uri, database=database, **impatient(uri))
                )
            except ServerUnavailableError as exc:
                if not attempt:
                    self.progress.note("it waits for the database")
                    message = "%s waits for the database, and tries again: %s"
                    logger.warning(message, self.owner, exc, extra=about())
                await anyio.sleep(bound(_FIRST_PAUSE, _LONGEST_PAUSE, attempt).total_seconds())
                attempt += 1
                continue
            if attempt:
                logger.warning("%s has reached the database", self.owner, extra=about())
            return found

    def _bus_maker(
        self, repository: MongoRepository | None
    ) -> Callable[[Mapping[str, type]], BrokerBus]:
        settings = self.settings
        kind = bus_at(settings.bus, repository)

        def make(messages: Mapping[str, type]) -> BrokerBus:
            bus = kind(
                service=settings.service,
                messages=messages,
                retry=RetryPolicy(max_age=settings.retry_for),
                concurrency=settings.concurrency,
                handler_timeout=settings.handler_timeout,
                shutdown_timeout=settings.shutdown_timeout,
                unhandled=settings.unhandled,
                owner=self.owner,
            )
            if self.make_turns is not None:
                share_turns(bus, self.make_turns)
            return bus

        return make

    async def _check_indexes(self, worker: Worker, repository: MongoRepository | None) -> None:
        """Warn of indexes that are missing: all works without them, and ever slower."""
        if repository is None:
            return
        for saga in worker.sagas:
            try:
                known = await repository.check_indexes(saga)
            except RepositoryError as exc:
                logger.warning("%s: %s", saga.table.saga, exc, extra=about(saga.table.saga))
                continue
            if missing := [name for name, made in known.items() if not made]:
                logger.warning(
                    "%s has no index %s: call sagaflow indexes --create",
                    saga.table.saga,
                    ", ".join(missing),
                    extra=about(saga.table.saga),
                )

    @asynccontextmanager
    async def _orchestrating(self, worker: Worker) -> AsyncGenerator[None]:
        async with Orchestrator(
            worker.sagas,
            worker.repository,
            bus=worker.bus,
            services=worker.services if worker.has_services else None,
            messages=worker.messages,
            retry=worker.retry,
            limits=worker.limits,
            concurrency=self.settings.concurrency,
            owner=self.owner,
            shutdown_timeout=self.settings.shutdown_timeout,
            observers=worker.observers or None,
        ) as orchestrator:
            self.progress.orchestrator = orchestrator
            yield

    async def _close(self, services: svcs.Registry) -> None:
        with anyio.move_on_after(self.settings.shutdown_timeout.total_seconds(), shield=True):
            await services.aclose()
