"""A bus within one process."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint
from attrs import define

from sagaflow._concurrency.cancellation import failure, is_cancelled
from sagaflow._model.clock import Clock, SystemClock
from sagaflow._model.envelope import COMMAND, MESSAGE_KIND, Envelope, current_envelope
from sagaflow._model.errors import BusError, NoHandlerError
from sagaflow._model.ids import MessageId, SagaId, Unique
from sagaflow.bus.causation import current_handling, envelope_of, id_by_place
from sagaflow.bus.replies import reply_of
from sagaflow.bus.subscribing import SubscribingBus
from sagaflow.bus.subscriptions import Subscription
from sagaflow.bus.turns import Turns

_Key = tuple[type, SagaId]

_TURNS: Final = 16
"""After how many messages the bus lets other tasks run, even if no handler has waited."""


@define(eq=False)
class _Delivery:
    """A message on its way, and the messages that its handlers have published.

    :ivar handler: the name of the handler that is being called.
    :ivar postponed: what a handler with limits has published, to be handled when its turn has
        ended; None while no such handler is called.
    :ivar published: how many messages each of the handlers has published without an id.
    :ivar parent: the message whose handler has published this one; None if no handler did.
    :ivar unsettled: how many of these messages have not been handled yet.
    :ivar settled: set once all of them have been handled; None if nobody waits for that.
    :ivar turn: set once its publisher is to attend the queue; None if the publisher does not wait.
    """

    envelope: Envelope[object]
    parent: _Delivery | None
    unsettled: int = 1
    error: BaseException | None = None
    settled: anyio.Event | None = None
    turn: anyio.Event | None = None
    handler: str = ""
    published: dict[str, int] | None = None
    postponed: deque[_Delivery] | None = None

    def id_of_next(self) -> str:
        """Return the id of the next message that the handler publishes without one."""
        if self.published is None:
            self.published = {}
        number = self.published[self.handler] = self.published.get(self.handler, 0) + 1
        return id_by_place(self.envelope.id, "", self.handler, number)

    def settle(self, error: BaseException | None = None) -> None:
        """Note that this message, or a message that its handlers published, has been handled."""
        delivery: _Delivery | None = self
        while delivery is not None:
            delivery.error = error = delivery.error or error
            delivery.unsettled -= 1
            if delivery.unsettled:
                return
            if delivery.settled is not None:
                delivery.settled.set()
            delivery = delivery.parent

    async def wait(self) -> None:
        """Wait until this message, and all messages that it caused, have been handled."""
        if self.unsettled:
            self.settled = anyio.Event()
            await self.settled.wait()


class MemoryBus(SubscribingBus):
    """Carries messages to handlers in this process.

    Messages of one correlation id are handled one after another, in the order in which they were
    published; messages of different ids at the same time. `publish` returns once the message has
    been handled, together with everything that its handlers published, and raises what they raise:
    a message that is removed from an outbox then has really been dealt with, also if the process
    dies later. Within a handler, `publish` only queues a message that has to wait for its turn;
    within a handler that has limits it queues every message, as it might wait for this handler.

    :param clock: where the time comes from by which a `Rate` is kept.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        super().__init__(clock or SystemClock())
        self._queues: dict[_Key, deque[_Delivery]] = {}
        self._until_pause = _TURNS
        self._new_id = Unique()

    def delivers_at_once(self, message_type: type, correlation_id: SagaId) -> bool:
        """Tell whether `publish` would not wait for anything, and so cannot be interrupted.

        It does not wait if every handler is a plain function, and no other message of this
        correlation id is being handled.
        """
        takers = self._subscriptions.takers(message_type)
        return not takers.wait and (type(correlation_id), correlation_id) not in self._queues

    async def publish(
        self,
        message: object,
        /,
        *,
        correlation_id: SagaId | None = None,
        message_id: MessageId | None = None,
        headers: Mapping[str, object] | None = None,
    ) -> None:
        """Have *message* handled by every handler that is subscribed to its class.

        A message that a handler publishes inherits the correlation id and the trace (the headers
        ``traceparent`` and ``tracestate``) of the message that it handles, and names that message
        as its cause.

        :param correlation_id: the saga that the message belongs to.
        :param message_id: the id by which receivers recognise duplicates; made up if missing.
        :param headers: what else travels with the message.
        :raises CorrelationError: if an id is of no allowed type.
        :raises NoHandlerError: if the message is a command of a saga and has no handler.
        :raises BusError: if the task that handled the queue was cancelled: the message may not
            have been handled.
        :raises Exception: what a handler raised; an ExceptionGroup, if several handlers did.
        """
        cause = current_envelope.get()
        handling = None if cause is None else current_handling.get()
        parent = handling if isinstance(handling, _Delivery) else None
        is_by_handler = parent is not None and bool(parent.unsettled)
        if handling is None or (parent is not None and not is_by_handler):
            new_id: Callable[[], str] = self._new_id
        else:
            new_id = handling.id_of_next
        envelope = envelope_of(
            message,
            cause,
            correlation_id=correlation_id,
            message_id=message_id,
            headers=headers,
            new_id=new_id,
        )
        takers = self._subscriptions.takers(type(message))
        if not takers.subscriptions and envelope.headers.get(MESSAGE_KIND) == COMMAND:
            raise NoHandlerError(type(message))
        if parent is not None:
            if is_by_handler:
                parent.unsettled += 1
            else:
                parent = None  # a task that has outlived its delivery publishes on its own
        delivery = _Delivery(envelope, parent)
        if parent is None or parent.postponed is None:
            await self._deliver(delivery)
        else:
            self._postpone(parent.postponed, delivery)

    async def _deliver(self, delivery: _Delivery) -> None:
        key = _key_of(delivery)
        if key is None:
            await self._handle(delivery)
        else:
            queue = self._queues.get(key)
            if queue is None:
                self._queues[key] = deque((delivery,))
                await self._attend(key, delivery)
            else:
                await self._line_up(queue, key, delivery)
        if delivery.parent is not None:
            return
        if delivery.unsettled:
            await delivery.wait()
        self._until_pause -= 1
        if not self._until_pause:  # other tasks run as well, though no handler waits
            self._until_pause = _TURNS
            await cancel_shielded_checkpoint()
        if delivery.error is not None:
            raise delivery.error

    async def _line_up(self, queue: deque[_Delivery], key: _Key, delivery: _Delivery) -> None:
        """Wait in the queue of a correlation id for this delivery's turn; then attend the queue.

        A queue is attended by one publisher at a time, who handles its messages. A message that a
        handler publishes does not wait for its turn: the handler might wait for itself.
        """
        queue.append(delivery)
        if delivery.parent is not None:
            return
        delivery.turn = anyio.Event()
        try:
            await delivery.turn.wait()
        except BaseException:
            queue.remove(delivery)
            if delivery.turn.is_set():
                self._pass_on(key)
            raise
        await self._attend(key, delivery)

    async def _attend(self, key: _Key, own: _Delivery) -> None:
        """Handle the messages of a queue up to *own*, and the rest if no other publisher waits."""
        queue = self._queues[key]
        own_handled = False
        try:
            while queue:
                own_handled = own_handled or queue[0] is own
                await self._handle(queue[0])
                queue.popleft()
                if own_handled and queue and self._wake_next(key):
                    return
            del self._queues[key]
        except BaseException:
            queue.popleft().settle(BusError("the delivery was cancelled"))
            if not own_handled:
                queue.remove(own)
            self._pass_on(key)
            raise

    def _pass_on(self, key: _Key) -> None:
        """Leave a queue to the next publisher in it; without one, the queued messages fail."""
        if not self._wake_next(key):
            for delivery in self._queues.pop(key):
                delivery.settle(BusError("the delivery was cancelled"))

    def _wake_next(self, key: _Key) -> bool:
        """Have the first publisher that waits in a queue attend it; tell whether there is one."""
        for delivery in self._queues[key]:
            if delivery.turn is not None:  # messages that handlers have published have none
                delivery.turn.set()
                return True
        return False

    async def _handle(self, delivery: _Delivery) -> None:
        """Call every handler of a message, even if another handler fails; settle the message."""
        envelope = delivery.envelope
        body: object = envelope.body
        errors: list[Exception] = []
        takers = self._subscriptions.takers(type(body))
        envelope_token, delivery_token = (
            current_envelope.set(envelope),
            current_handling.set(delivery),
        )
        try:
            for subscription in takers.subscriptions:
                delivery.handler = subscription.name
                try:
                    if subscription.turns is not None:
                        result = await self._call_in_turn(
                            subscription, subscription.turns, delivery
                        )
                    else:
                        result = subscription.handler(envelope if subscription.envelope else body)
                    if result is not None and inspect.isawaitable(result):
                        if not subscription.waits:
                            self._subscriptions.note_that_it_waits(subscription)
                        result = await result
                    if result is not None and (reply := reply_of(result, subscription)) is not None:
                        if not subscription.waits:  # whoever takes the reply may wait
                            self._subscriptions.note_that_it_waits(subscription)
                        await self.publish(reply)
                except BaseException as exc:  # noqa: BLE001 - the publisher of the message is told
                    errors.append(failure(exc))
        finally:
            current_handling.reset(delivery_token)
            current_envelope.reset(envelope_token)
        if len(errors) > 1:
            group = f"several handlers failed on {type(body).__name__}"
            delivery.settle(ExceptionGroup(group, errors))
        else:
            delivery.settle(errors[0] if errors else None)

    # Handlers with limits

    async def _call_in_turn(
        self, subscription: Subscription, turns: Turns, delivery: _Delivery
    ) -> object:
        """Call a handler when it is its turn, and have what it has published handled after that.

        Whatever is handled within a turn could wait for a turn of the same handler.
        """
        postponed = deque[_Delivery]()
        given: object = delivery.envelope if subscription.envelope else delivery.envelope.body
        try:
            async with turns.take() as begin:
                begin()
                delivery.postponed = postponed
                result: object = subscription.handler(given)
                if inspect.isawaitable(result):
                    result = await result
        finally:
            delivery.postponed = None
            try:
                while postponed and not is_cancelled():
                    await self._handle_postponed(postponed.popleft())
            finally:
                for one in postponed:
                    self._give_up(one)
        return result

    def _postpone(self, postponed: deque[_Delivery], delivery: _Delivery) -> None:
        """Keep a message for later, with its place among those of its correlation id."""
        key = _key_of(delivery)
        queue = None if key is None else self._queues.get(key)
        if queue is not None:
            queue.append(delivery)  # whoever attends the queue handles it
            return
        if key is not None:
            self._queues[key] = deque((delivery,))
        postponed.append(delivery)

    async def _handle_postponed(self, delivery: _Delivery) -> None:
        key = _key_of(delivery)
        if key is None:
            await self._handle(delivery)
        else:
            await self._attend(key, delivery)

    def _give_up(self, delivery: _Delivery) -> None:
        key = _key_of(delivery)
        if key is not None:
            self._queues[key].remove(delivery)
            self._pass_on(key)
        delivery.settle(BusError("the delivery was cancelled"))


def _key_of(delivery: _Delivery) -> _Key | None:
    correlation_id = delivery.envelope.correlation_id
    return None if correlation_id is None else (type(correlation_id), correlation_id)
