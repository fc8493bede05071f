"""What the factory of ``sagaflow run MODULE:FACTORY`` is given, and sets up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias, cast

from sagaflow._codec.messages import MessageTypes
from sagaflow._definition.saga import Saga
from sagaflow._model.errors import SagaDefinitionError, SagaflowError
from sagaflow._model.policy import Limits, RetryPolicy
from sagaflow._model.services import svcs
from sagaflow.abc import SagaRepository
from sagaflow.bus.broker import BrokerBus
from sagaflow.bus.wire import Binding, Wire
from sagaflow.observing import Observer

__all__ = ["Worker"]

Messages: TypeAlias = Iterable[type] | Mapping[str, type]
_ANY: Final = Binding.PLAIN


class Worker:
    """A process that ``sagaflow run`` has begun, before it takes messages.

    A factory says what the process does: it registers participants with ``worker.bus.subscribe``,
    services with ``worker.services.register_factory``, and the sagas that are to run here::

        def shop(worker: Worker) -> None:
            worker.sagas = [OrderSaga]
            worker.messages = MESSAGES
            worker.bus.subscribe(ProcessPayment, pay)

    :param service: the name of the program on the bus.
    :param owner: the name of this process, the same when it is started again.
    :param repository: where sagas are stored; None if the command line names no database.
    :param make_bus: makes the bus of these messages.
    :param sagas: the saga classes to run.
    :param messages: the message classes that travel.

    :ivar observers: who is told what the sagas do; none unless the factory adds some.
    :ivar retry: how failing work of sagas is tried again; None for what `Orchestrator` does.
    :ivar limits: how large a saga may become; None for what `Orchestrator` allows.
    """

    def __init__(
        self,
        *,
        service: str,
        owner: str,
        repository: SagaRepository | None,
        make_bus: Callable[[Mapping[str, type]], BrokerBus],
        sagas: Iterable[type[Saga]] = (),
        messages: Messages = (),
    ) -> None:
        self.observers: list[Observer] = []
        self.retry: RetryPolicy | None = None
        self.limits: Limits | None = None
        self._service = service
        self._owner = owner
        self._repository = repository
        self._make_bus = make_bus
        self._sagas = tuple(sagas)
        self._messages = _kept(messages)
        self._bus: BrokerBus | None = None
        self._services: svcs.Registry | None = None

    @property
    def service(self) -> str:
        """The name of the program on the bus."""
        return self._service

    @property
    def owner(self) -> str:
        """The name of this process: the same when it is started again."""
        return self._owner

    @property
    def repository(self) -> SagaRepository:
        """Where sagas are stored.

        :raises SagaflowError: if the command line names no database.
        """
        if self._repository is None:
            raise SagaflowError(
                f"{self._service} runs sagas and has no database: say --mongodb and --database"
            )
        return self._repository

    @property
    def sagas(self) -> tuple[type[Saga], ...]:
        """The saga classes that run here: with a factory, those that it sets; it may set none."""
        return self._sagas

    @sagas.setter
    def sagas(self, sagas: Iterable[type[Saga]]) -> None:
        self._refuse_once_used("sagas")
        self._sagas = tuple(sagas)

    @property
    def messages(self) -> Messages:
        """The message classes that travel, or a mapping of the names under which they do.

        Those of ``--messages`` unless the factory sets others. The events of the sagas are known
        as well; if nothing else is said, so are the classes that the code of the sagas mentions.
        """
        return self._messages

    @messages.setter
    def messages(self, messages: Messages) -> None:
        self._refuse_once_used("messages")
        self._messages = _kept(messages)

    @property
    def bus(self) -> BrokerBus:
        """The bus of the command line, for participants; made when it is asked for first.

        :raises SagaflowError: if the bus cannot be had, or a message cannot travel.
        """
        if self._bus is None:
            self._bus = self._make_bus(self._names())
        return self._bus

    @property
    def services(self) -> svcs.Registry:
        """What ``ctx.services`` offers to the handlers of sagas; closed when the worker ends."""
        if self._services is None:
            self._services = svcs.Registry()
        return self._services

    @property
    def has_bus(self) -> bool:
        """Whether anybody has asked for the bus, such as to subscribe to it."""
        return self._bus is not None

    @property
    def has_services(self) -> bool:
        """Whether anybody has asked for the services, such as to register one."""
        return self._services is not None

    def _names(self) -> Mapping[str, type]:
        known = MessageTypes(self._sagas, self._messages).registered()
        declared = MessageTypes((), self._messages).registered()
        events = {event for saga in self._sagas for event in saga.table.events}
        return {
            name: cls
            for name, cls in known.items()
            if name in declared or ((cls in events or not declared) and _travels(name, cls))
        }

    def _refuse_once_used(self, name: str) -> None:
        if self._bus is not None:
            raise SagaflowError(f"worker.{name} is set before worker.bus is used")


def _travels(name: str, cls: type) -> bool:
    """Tell whether a class can travel.

    What the code of a saga mentions may be no message, and an event may come by `handle` only.
    """
    try:
        Wire({name: cls}, binding=_ANY, source="/")
    except SagaDefinitionError:
        return False
    return True


def _kept(messages: Any) -> Messages:
    """Return messages that can be read more than once."""
    if isinstance(messages, Mapping):
        return dict(cast("Mapping[str, type]", messages))
    return tuple(messages)
