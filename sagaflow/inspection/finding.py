"""A finding: something that a person should look at."""

from __future__ import annotations

from attrs import frozen

from sagaflow._model.ids import SagaId


@frozen(kw_only=True)
class Finding:
    """Something that a person should look at.

    :ivar saga: the name of the saga.
    :ivar kind: what kind of finding it is, a word for programs.
    :ivar problem: what is the matter, and what to do.
    :ivar state: the state that it is about.
    :ivar subject: the event, step, timer, method or message type that it is about.
    :ivar place: the file and the line of the declaration.
    :ivar count: how often it is stored; None where nothing stored is concerned.
    :ivar examples: sagas that have it.
    """

    saga: str
    kind: str
    problem: str
    state: str | None = None
    subject: str | None = None
    place: tuple[str, int] | None = None
    count: int | None = None
    examples: tuple[SagaId, ...] = ()
