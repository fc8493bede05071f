"""The message classes that an orchestrator knows, by the name under which they are stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import FunctionType
from typing import Any, Final, cast

from sagaflow._definition.messages import mentioned_messages
from sagaflow._definition.saga import Saga
from sagaflow._forms.form import Form
from sagaflow._forms.forms import form_of
from sagaflow._forms.instances import is_message_class
from sagaflow._forms.values import cannot_decode, cannot_encode
from sagaflow._model.errors import SagaDefinitionError, SerializationError
from sagaflow._model.record import StoredMessage
from sagaflow._model.shown import shown


class MessageTypes:
    """A registry of names. Stored data names a class; it never names a module to import.

    It knows the events of the sagas and the subclasses of these events, the classes that were
    passed as *messages*, the message classes that the code of the sagas mentions, and the classes
    of the messages that were sent since.

    :param sagas: the saga classes.
    :param messages: further classes, or a mapping of the names under which they are stored.
    :raises SagaDefinitionError: if two declared classes have one name, or a class cannot be stored
        as a message.
    """

    def __init__(
        self, sagas: Iterable[type[Saga]], messages: Iterable[type] | Mapping[str, type]
    ) -> None:
        self._by_name: dict[str, type] = {}
        self._names: dict[type, str] = {}
        self._forms: dict[type, Form] = {}
        self._events: list[type] = []
        if isinstance(messages, Mapping):
            named = cast("Mapping[str, type]", messages)
            for name, message in named.items():
                self._declare(_checked(message), _checked_name(name))
        else:
            for message in messages:
                self._declare(_checked(message))
        for message in self._names:
            _check_stored(message)
        classes = tuple(sagas)
        for saga in classes:
            for event in saga.table.events:
                self._declare(event)
                self._events.append(event)
        for saga in classes:
            for message in _mentioned_by(saga):
                if message not in self._names and message.__name__ not in self._by_name:
                    self._add(message, message.__name__)

    def encode(self, message: object, path: str) -> StoredMessage:
        """Return the stored form of *message*.

        :param path: where the message stands, for the error.
        :raises SerializationError: if the message cannot be stored, or another class has its name.
        """
        cls = type(message)
        name = self._names.get(cls)
        if name is None:
            name = self._new_name(cls, path)
        form = self._forms.get(cls)
        if form is None and not is_message_class(cls):
            raise SerializationError(
                f"{path}: {name}", "a message is an instance of an attrs class or a dataclass"
            )
        try:
            if form is None:
                form = self._form_of(cls)
            body: Any = form.encode(message)
        except Exception as exc:
            raise cannot_encode(f"{path}: {name}", exc) from exc
        return StoredMessage(type=name, body=body)

    def decode(self, stored: StoredMessage, path: str) -> Any:
        """Return the message that *stored* is the stored form of.

        :param path: where the message stands, for the error.
        :raises SerializationError: if its class is not known here, or its fields do not fit.
        """
        cls = self._by_name.get(stored.type) or self.find(stored.type)
        if cls is None:
            raise SerializationError(
                path,
                f"the message class {stored.type!r} is not known to this orchestrator: pass it "
                f"with Orchestrator(..., messages=[{stored.type}])",
            )
        try:
            form = self._forms.get(cls) or self._form_of(cls)
            return form.decode(stored.body)
        except Exception as exc:
            raise cannot_decode(f"{path}: {stored.type}", exc) from exc

    def find(self, name: str) -> type | None:
        """Return the class that is stored under *name*, if it is known here.

        An event may be of a subclass of a declared event which nothing else mentions. Such a class
        is found among the subclasses of declared events, wherever in the program it is defined.
        """
        found = self._by_name.get(name)
        if found is None:
            subclasses = self._subclasses(name)
            if subclasses and not _rivals(subclasses, subclasses[-1]):
                found = subclasses[-1]
                self._add(found, name)
        return found

    def name(self, message_type: type) -> str:
        """Return the name under which messages of this class are stored."""
        return self._names.get(message_type, message_type.__name__)

    def written_name(self, message_type: type) -> str | None:
        """Return the name under which this class is written; None if it is not registered."""
        return self._names.get(message_type)

    def registered(self) -> Mapping[str, type]:
        """Return every registered name, earlier names of a class included, with its class."""
        return dict(self._by_name)

    def _new_name(self, cls: type, path: str) -> str:
        """Return the name under which messages of a class are stored from now on.

        :raises SerializationError: if another class has this name.
        """
        name = cls.__name__
        for other in (self._by_name.get(name), *_rivals(self._subclasses(name), cls)):
            if other is not None:
                raise SerializationError(
                    path,
                    f"{_full_name(cls)} and {_full_name(other)} are both called {name!r}: "
                    f"give one another stored name with Orchestrator(..., messages={{"
                    f"'{cls.__module__}.{name}': {name}}})",
                )
        self._add(cls, name)
        return name

    def _form_of(self, cls: type) -> Form:
        """Return the form of a message class; it is made when the first message of the class comes.

        The annotations of the class may use a name that is not defined yet when the orchestrator is
        made.
        """
        form = self._forms[cls] = form_of(cls)
        return form

    def _subclasses(self, name: str) -> list[type]:
        """Return the subclasses of declared events with this name, in order of definition.

        attrs makes a class anew to give it slots: the class as it was before that is left out.
        """
        found: dict[type, None] = {}
        pending = list(self._events)
        while pending:
            direct: list[type] = pending.pop(0).__subclasses__()
            pending += [cls for cls in direct if cls not in found]
            found |= dict.fromkeys(direct)
        called = [cls for cls in found if cls.__name__ == name and is_message_class(cls)]
        return [cls for cls in called if not _MADE.isdisjoint(vars(cls))] or called

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


_MADE: Final = frozenset({"__attrs_attrs__", "__dataclass_fields__"})
"""What attrs and dataclasses add to a class that they have made."""


def _rivals(classes: list[type], cls: type) -> list[type]:
    """Return the classes that are defined elsewhere than *cls*, not merely defined again."""
    return [other for other in classes if _full_name(other) != _full_name(cls)]


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


def _check_stored(message: type) -> None:
    try:
        form_of(message)
    except Exception as exc:
        raise SagaDefinitionError(
            f"{message.__name__} is passed as messages=, but cannot be stored: {exc}"
        ) from exc


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise SagaDefinitionError(
            f"messages= maps the names under which classes are stored, not {shown(name)}"
        )
    return name


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
