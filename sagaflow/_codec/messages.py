"""The message classes that an orchestrator knows, by the name under which they are stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import FunctionType
from typing import Any, cast

from sagaflow._codec.decoding import cannot_decode, converter
from sagaflow._codec.encoding import encoder_for
from sagaflow._codec.values import cannot_encode
from sagaflow._definition.messages import is_message_class, mentioned_messages
from sagaflow._definition.saga import Saga
from sagaflow._shown import shown
from sagaflow.exceptions import SagaDefinitionError, SerializationError
from sagaflow.record import StoredMessage


class MessageTypes:
    """A registry of names. Stored data names a class; it never names a module to import.

    It knows the events of the sagas, what was passed as *messages*, what the code of the sagas
    mentions, and what was sent since.

    :param sagas: the saga classes.
    :param messages: further classes, or a mapping of the names under which they are stored.
    :raises SagaDefinitionError: if two declared classes have one name, or one cannot be a message.
    """

    def __init__(
        self, sagas: Iterable[type[Saga]], messages: Iterable[type] | Mapping[str, type]
    ) -> None:
        self._by_name: dict[str, type] = {}
        self._names: dict[type, str] = {}
        if isinstance(messages, Mapping):
            named = cast("Mapping[str, type]", messages)
            for name, message in named.items():
                self._declare(_checked(message), _checked_name(name))
        else:
            for message in messages:
                self._declare(_checked(message))
        classes = tuple(sagas)
        for saga in classes:
            for event in saga.table.events:
                self._declare(event)
        for saga in classes:
            for message in _mentioned_by(saga):
                if message not in self._names and message.__name__ not in self._by_name:
                    self._add(message, message.__name__)

    def encode(self, message: object, path: str) -> StoredMessage:
        """Return the stored form of *message*.

        :param path: where it stands, for the error.
        :raises SerializationError: if a field of it cannot be stored, or its name is taken.
        """
        cls = type(message)
        name = self._names.get(cls)
        if name is None:
            name = cls.__name__
            other = self._by_name.get(name)
            if other is not None:
                raise SerializationError(
                    path,
                    f"{_full_name(cls)} and {_full_name(other)} are both called {name!r}: "
                    f"give one another stored name with Orchestrator(..., messages={{"
                    f"'{cls.__module__}.{name}': {name}}})",
                )
            self._add(cls, name)
        return StoredMessage(type=name, body=_encode_body(message, cls, f"{path}: {name}"))

    def decode(self, stored: StoredMessage, path: str) -> Any:
        """Return the message whose stored form this is.

        :param path: where it stands, for the error.
        :raises SerializationError: if its class is not known here, or its fields do not fit.
        """
        cls = self._by_name.get(stored.type)
        if cls is None:
            raise SerializationError(
                path,
                f"the message class {stored.type!r} is not known to this orchestrator: pass it "
                f"with Orchestrator(..., messages=[{stored.type}])",
            )
        try:
            decoded = converter.structure(stored.body, cast("type[Any]", cls))
        except Exception as exc:
            raise cannot_decode(f"{path}: {stored.type}", exc) from exc
        return decoded

    def find(self, name: str) -> type | None:
        """Return the class that is stored under *name*, if it is known here."""
        return self._by_name.get(name)

    def name(self, message_type: type) -> str:
        """Return the name under which messages of this class are stored."""
        return self._names.get(message_type, message_type.__name__)

    def _declare(self, message: type, name: str | None = None) -> None:
        if name is None and message in self._names:
            return
        name = name or message.__name__
        other = self._by_name.get(name)
        if other is not None and other is not message:
            raise SagaDefinitionError(
                f"{_full_name(message)} and {_full_name(other)} are both called {name!r}: give "
                f"one another stored name with Orchestrator(..., messages={{"
                f"'{message.__module__}.{name}': ...}})"
            )
        self._add(message, name)

    def _add(self, message: type, name: str) -> None:
        self._by_name[name] = message
        self._names.setdefault(message, name)


def _mentioned_by(saga: type[Saga]) -> Iterable[type]:
    for owner in saga.__mro__:
        for value in vars(owner).values():
            for function in (value, getattr(value, "__func__", None), getattr(value, "fget", None)):
                if isinstance(function, FunctionType):
                    yield from mentioned_messages(function)


def _checked(message: type) -> type:
    if not is_message_class(message):
        raise SagaDefinitionError(
            f"messages= takes attrs classes and dataclasses, not {shown(message)}"
        )
    return message


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise SagaDefinitionError(
            f"messages= maps the names under which classes are stored, not {shown(name)}"
        )
    return name


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _encode_body(message: object, cls: type, path: str) -> Mapping[str, object]:
    if not is_message_class(cls):
        raise SerializationError(path, "a message is an instance of an attrs class or a dataclass")
    try:
        encoded: Any = encoder_for(cls)(message)
    except Exception as exc:
        raise cannot_encode(path, exc) from exc
    return cast("Mapping[str, object]", encoded)
