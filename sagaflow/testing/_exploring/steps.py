"""What may happen to a saga in one step of a history."""

from __future__ import annotations

from typing import TypeAlias

from attrs import field, frozen
from attrs.validators import ge

from sagaflow._model.ids import MessageId, SagaId


@frozen(kw_only=True)
class _Troubled:
    """What may go wrong in a step.

    :ivar fails: a method of the saga that raises when it is called first.
    :ivar always: whether it goes on raising, until an operator says `Retry`.
    :ivar crash_before: the process is gone before this write, counted from 1; 0 for none.
    :ivar crash_after: the process is gone after this write, before what follows; 0 for none.
    """

    fails: str | None = None
    always: bool = False
    crash_before: int = field(default=0, validator=ge(0))
    crash_after: int = field(default=0, validator=ge(0))

    @property
    def is_troubled(self) -> bool:
        """Whether something goes wrong in it."""
        return self.fails is not None or self.crash_before + self.crash_after > 0


@frozen
class Deliver(_Troubled):
    """An event reaches the saga; with the id of an earlier one it is the same message again.

    :ivar event: the event.
    :ivar message_id: what a second delivery is recognised by; None makes one up.
    :ivar correlation_id: which saga, if the event itself does not say.
    """

    event: object
    message_id: MessageId | None = None
    correlation_id: SagaId | None = field(default=None, kw_only=True)


@frozen
class Advance(_Troubled):
    """Time passes until something is due, and a fresh process does it.

    That is a timer, or what a process that crashed has left.
    """


@frozen
class Retry:
    """An operator has repaired what failed and puts the suspended saga back to work.

    :ivar correlation_id: which saga.
    """

    correlation_id: SagaId


@frozen
class Silence:
    """A participant never answers a command. Nothing happens to the saga.

    :ivar answer_to: which command.
    """

    answer_to: str


Step: TypeAlias = Deliver | Advance | Retry | Silence
"""One step of a history."""
