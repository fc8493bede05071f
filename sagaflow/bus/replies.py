"""What a handler has returned: a reply, a verdict, or a mistake."""

from __future__ import annotations

from sagaflow._forms.instances import is_message_class
from sagaflow._model.errors import BusError
from sagaflow._model.shown import shown
from sagaflow._model.verdict import Accepted, RetryLater, Undeliverable
from sagaflow.bus.subscriptions import Subscription


def reply_of(result: object, subscription: Subscription) -> object | None:
    """Return the message that is to be published as the reply; None if a verdict was returned.

    :param result: what the handler has returned; not None.
    :raises BusError: if that is neither a message nor a verdict.
    """
    if isinstance(result, Accepted | RetryLater | Undeliverable):
        return None
    if is_message_class(type(result)):
        return result
    raise BusError(
        f"{subscription.name} returned {shown(result)}: a handler returns its reply, which is an "
        "instance of an attrs class or a dataclass, or None"
    )
