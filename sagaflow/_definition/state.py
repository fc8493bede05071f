"""States: the places where a saga waits."""

from __future__ import annotations

from sagaflow._definition.origin import Origin


class State:
    """A place where a saga waits. Equal by name.

    A class attribute takes its attribute's name. A state that several sagas share is made outside
    of them with a name: ``State("paid")``.

    :param name: the stored name; leave it out for a class attribute.
    :param final: whether the saga ends here. Nothing leaves a final state.
    """

    __slots__ = ("_final", "_name", "_owner")

    def __init__(self, name: str | None = None, /, *, final: bool = False) -> None:
        if not _may_name(name):
            raise Origin.of_caller().error(
                f"a state's name is a non-empty str, not {name!r}: write State() for a class "
                'attribute, State("paid") for a state that several sagas share'
            )
        self._name = name
        self._final = final
        self._owner: str | None = None

    @property
    def name(self) -> str:
        """The name under which the state is stored.

        :raises SagaDefinitionError: if it has none yet.
        """
        if self._name is None:
            raise Origin.of_caller().error(
                "this State() has no name: make it a class attribute of a saga, "
                'or name it: State("paid")'
            )
        return self._name

    @property
    def final(self) -> bool:
        """Whether the saga ends here."""
        return self._final

    @property
    def owner(self) -> str | None:
        """The saga class that named this state; None for a state made with a name."""
        return self._owner

    @property
    def is_named(self) -> bool:
        """Whether the state has a name already."""
        return self._name is not None

    def __set_name__(self, owner: type, name: str) -> None:
        if self._name is None:
            self._name = name
            self._owner = f"{owner.__module__}.{owner.__qualname__}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, State):
            return NotImplemented
        return self is other or (self._name is not None and self._name == other._name)

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        final = ", final=True" if self._final else ""
        return f"State({self._name!r}{final})"


def _may_name(given: object) -> bool:
    return given is None or (isinstance(given, str) and given != "")
