"""Does it add up? The books of the participants against the sagas in the database."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal

from attrs import frozen

from sagaflow._codec.instance import Instance
from sagaflow._model.record import CompensationStatus, Status
from sagaflow.demo.books import Books
from sagaflow.demo.example import orders

Number = Decimal | int

_NOTHING = Decimal(0)


@frozen(kw_only=True)
class StoredOrder:
    """What the database says about one order.

    :ivar finished: the saga has ended and has nothing left to send.
    :ivar undone: every step that it recorded for compensation is done.
    """

    order_id: str
    total: Decimal
    state: str
    finished: bool
    undone: bool

    @classmethod
    def of(cls, instance: Instance[orders.OrderSaga]) -> StoredOrder:
        """Return what *instance* says."""
        return cls(
            order_id=str(instance.correlation_id),
            total=instance.saga.total,
            state=instance.state.name,
            finished=instance.status is Status.FINISHED and not instance.outbox,
            undone=all(step.status is CompensationStatus.DONE for step in instance.compensations),
        )

    @property
    def completed(self) -> bool:
        """Whether the order went through."""
        return self.finished and self.state == orders.OrderSaga.completed.name

    @property
    def failed(self) -> bool:
        """Whether the order was refused and taken back."""
        return self.finished and self.state == orders.OrderSaga.failed.name

    @property
    def expired(self) -> bool:
        """Whether nobody paid in time: such as where a demo was continued only hours later."""
        return self.finished and self.state == orders.OrderSaga.expired.name


@frozen(kw_only=True)
class Equation:
    """Two sums that must be equal, and what is wrong with single orders.

    :ivar name: what is compared.
    :ivar terms: the left side: the first, less the others.
    :ivar expected: the right side.
    :ivar faults: what is wrong, by order: the sums may agree although two orders are wrong.
    """

    name: str
    terms: tuple[Number, ...]
    expected: Number
    faults: tuple[str, ...] = ()

    @property
    def result(self) -> Number:
        """What the left side comes to."""
        first, *others = self.terms
        return first - sum(others)

    @property
    def holds(self) -> bool:
        """Whether the sums are equal and every order is right."""
        return self.result == self.expected and not self.faults


def reconcile(
    books: Books, stored: Collection[StoredOrder], placed: Collection[str]
) -> tuple[Equation, ...]:
    """Compare what the participants did with what the sagas say.

    :param books: what the participants wrote down.
    :param stored: the sagas, as read from the database.
    :param placed: the ids of the orders that were placed.
    """
    sagas = {order.order_id: order for order in stored}
    files = _files(books, sagas, frozenset(placed))
    in_time = [
        file for file in files if not file.expired
    ]  # further orders of the plan were not placed
    failed = [file for file in files if file.failed]
    given_up = [file for file in files if file.failed or file.expired]
    return (
        Equation(
            name="money charged - refunded = money of completed orders",
            terms=(_total(file.charged for file in files), _total(file.refunded for file in files)),
            expected=_total(file.due for file in files),
            faults=tuple(
                f"{file}: {file.charged} charged, {file.refunded} refunded"
                for file in files
                if file.money != file.due
            ),
        ),
        Equation(
            name="stock reserved - released = shipped",
            terms=(sum(file.reserved for file in files), sum(file.released for file in files)),
            expected=sum(file.shipped for file in files),
            faults=tuple(
                f"{file}: {file.reserved} reserved, {file.released} released, "
                f"{file.shipped} shipped"
                for file in files
                if file.stock != file.shipped
            ),
        ),
        Equation(
            name="stock shipped = parcels sent",
            terms=(sum(file.shipped for file in files),),
            expected=sum(file.parcels for file in files),
            faults=tuple(
                f"{file}: {file.shipped} shipped, {file.parcels} parcels"
                for file in files
                if file.shipped != file.parcels
            ),
        ),
        Equation(
            name="parcels sent = completed orders",
            terms=(sum(file.parcels for file in files),),
            expected=sum(file.completed for file in files),
            faults=tuple(
                f"{file}: {file.parcels} parcels"
                for file in files
                if file.parcels != int(file.completed)
            ),
        ),
        Equation(
            name="sagas stored = orders placed",
            terms=(len(stored),),
            expected=len(placed),
            faults=tuple(
                f"{file}: {'placed' if file.placed else 'never placed'}"
                for file in files
                if file.placed != (file.saga is not None)
            ),
        ),
        Equation(
            name="sagas left unfinished = 0",
            terms=(sum(file.unfinished for file in files),),
            expected=0,
            faults=tuple(str(file) for file in files if file.unfinished),
        ),
        Equation(
            name="failed orders = refused orders",
            terms=(len(failed),),
            expected=sum(file.refused for file in in_time),
            faults=tuple(
                f"{file}: refused by {'somebody' if file.refused else 'nobody'}"
                for file in in_time
                if file.failed != file.refused
            ),
        ),
        Equation(
            name="orders undone = orders given up",
            terms=(sum(not file.traces for file in given_up),),
            expected=len(given_up),
            faults=tuple(f"{file}: left behind {file.traces}" for file in given_up if file.traces),
        ),
    )


@frozen(kw_only=True)
class _File:
    """Everything that is known about one order."""

    order_id: str
    placed: bool
    saga: StoredOrder | None
    charged: Decimal
    refunded: Decimal
    reserved: int
    released: int
    shipped: int
    parcels: int
    refused: bool

    def __str__(self) -> str:
        return f"{self.order_id} ({'no saga' if self.saga is None else self.saga.state})"

    @property
    def completed(self) -> bool:
        return self.saga is not None and self.saga.completed

    @property
    def failed(self) -> bool:
        return self.saga is not None and self.saga.failed

    @property
    def expired(self) -> bool:
        return self.saga is not None and self.saga.expired

    @property
    def unfinished(self) -> bool:
        return self.saga is not None and not self.saga.finished

    @property
    def due(self) -> Decimal:
        """What the customer owes in the end."""
        return self.saga.total if self.saga is not None and self.saga.completed else _NOTHING

    @property
    def money(self) -> Decimal:
        return self.charged - self.refunded

    @property
    def stock(self) -> int:
        return self.reserved - self.released

    @property
    def traces(self) -> str:
        """What an order that was given up has left behind."""
        found = {"money": self.money, "stock": self.stock, "parcels": self.parcels}
        traces = [f"{name} {number}" for name, number in found.items() if number]
        if self.saga is not None and not self.saga.undone:
            traces.append("a compensation that is not done")
        return ", ".join(traces)


def _files(books: Books, sagas: Mapping[str, StoredOrder], placed: frozenset[str]) -> list[_File]:
    payment, inventory, shipping = books.payment, books.inventory, books.shipping
    refused = books.refused
    return [
        _File(
            order_id=order_id,
            placed=order_id in placed,
            saga=sagas.get(order_id),
            charged=payment.charged.get(order_id, _NOTHING),
            refunded=payment.refunded.get(order_id, _NOTHING),
            reserved=inventory.reserved[order_id],
            released=inventory.released[order_id],
            shipped=inventory.shipped[order_id],
            parcels=shipping.parcels[order_id],
            refused=order_id in refused,
        )
        for order_id in sorted(books.order_ids | sagas.keys() | placed)
    ]


def _total(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, _NOTHING)
