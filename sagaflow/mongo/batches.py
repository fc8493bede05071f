"""Has writes that come at the same time share a round trip."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint
from attrs import define

WriteResult: TypeAlias = bool | Exception
"""What became of one write: whether it took place, or what is known instead."""

ItemT = TypeVar("ItemT")


class UnknownResultError(Exception):
    """Says why it is not known whether a write took place."""


_STOPPED: Final = UnknownResultError("whoever sent it was stopped before the answer came")


@define(eq=False)
class _Call(Generic[ItemT]):
    """One caller and the item that it wants written.

    :ivar leads: whether the caller sends the next batch.
    :ivar result: what became of the item; None while that is not known.
    :ivar woken: set once the caller leads or the result is known; None if nobody waits.
    """

    item: ItemT
    leads: bool = False
    result: WriteResult | None = None
    woken: anyio.Event | None = None

    async def wait(self) -> None:
        """Wait until the caller leads, or its result is known."""
        self.woken = anyio.Event()
        await self.woken.wait()

    def wake(self) -> None:
        """Wake the caller, if it waits."""
        if self.woken is not None:
            self.woken.set()


class Batches(Generic[ItemT]):
    """Natural group commit: items that arrive while a batch is under way make up the next batch.

    The first caller sends its item at once, and alone: there is neither a timer nor a task in the
    background. When a batch comes back, one of the waiting callers sends the next. As long as items
    come together, a caller that is about to send lets all tasks run first that are ready to, so
    that their items come along.

    :param send: writes all items of a batch in one round trip and returns the result of each; an
        exception that it raises is the result of all.
    :param send_one: writes an item that is alone in its batch.
    :param most: how many items go into a batch.
    :param at_once: how many batches are under way at the same time, so that a batch whose
        connection stands still does not keep all other items waiting.
    """

    def __init__(
        self,
        send: Callable[[Sequence[ItemT]], Awaitable[Sequence[WriteResult]]],
        send_one: Callable[[ItemT], Awaitable[WriteResult]],
        *,
        most: int,
        at_once: int,
    ) -> None:
        self._send = send
        self._send_one = send_one
        self._most = most
        self._at_once = at_once
        self._free = at_once
        self._was_shared = True
        self._waiting: deque[_Call[ItemT]] = deque()
        self._has_leader = False

    @property
    def is_idle(self) -> bool:
        """Whether an item that is submitted now is sent at once, and alone."""
        return not (self._waiting or self._expects_others())

    async def submit(self, item: ItemT) -> WriteResult:
        """Write *item* with the next batch and return its result.

        If the caller is cancelled while its batch is under way, *item* may have been written; if it
        is cancelled before that, *item* has not. Neither disturbs the other callers.

        :raises Exception: what *send_one* raises, if *item* was alone in its batch.
        """
        if self.is_idle:
            return await self._send_alone(item)
        call = _Call(item)
        self._waiting.append(call)
        self._appoint()
        try:
            if not call.leads:
                await call.wait()
            if call.leads and self._expects_others():
                await cancel_shielded_checkpoint()
        except BaseException:
            self._withdraw(call)
            raise
        if call.leads:
            return await self._lead(call)
        assert call.result is not None  # noqa: S101 - it has been woken
        return call.result

    async def _send_alone(self, item: ItemT) -> WriteResult:
        """Send *item* at once and alone: the same as leading a batch of one."""
        self._free -= 1
        try:
            return await self._send_one(item)
        finally:
            self._free += 1
            self._appoint()

    def _expects_others(self) -> bool:
        """Tell whether other items may come along: the last batch had several, or one is sent."""
        return self._was_shared or self._free < self._at_once

    def _appoint(self) -> None:
        """Have the first of the waiting callers send the next batch, if one more may be sent."""
        if self._waiting and self._free and not self._has_leader:
            self._has_leader = True
            leader = self._waiting[0]
            leader.leads = True
            leader.wake()

    def _withdraw(self, call: _Call[ItemT]) -> None:
        """Forget a call whose caller is gone, unless its batch is under way."""
        if call in self._waiting:
            self._waiting.remove(call)
        if call.leads:
            self._has_leader = False
            self._appoint()

    async def _lead(self, leader: _Call[ItemT]) -> WriteResult:
        """Send the next batch, tell the others their results, and return that of the leader."""
        size = min(self._most, len(self._waiting))
        batch = [self._waiting.popleft() for _ in range(size)]
        self._has_leader = False
        self._was_shared = size > 1
        self._free -= 1
        self._appoint()
        results: Sequence[WriteResult] = [_STOPPED] * size
        try:
            if size == 1:
                results = [await self._send_one(leader.item)]
            else:  # the others must not lose their answers if this caller gives up
                with anyio.CancelScope(shield=True):
                    results = await self._send([call.item for call in batch])
        except Exception as exc:
            if size == 1:
                raise
            results = [exc] * size
        finally:
            self._free += 1
            for call, result in zip(batch, results, strict=True):
                call.result = result
                call.wake()
            self._appoint()
        assert leader.result is not None  # noqa: S101 - it is the first of its batch
        return leader.result
