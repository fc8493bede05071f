"""What the tests of the explorer share: the shop's participants, and a saga for each mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, TypeAlias

from examples.broken_orders import HastyOrderSaga
from examples.orders import (
    CreateShipment,
    InventoryFailed,
    InventoryReserved,
    OrderCancelled,
    OrderPlaced,
    OrderSaga,
    OrderShipped,
    PaymentDeclined,
    PaymentProcessed,
    ProcessPayment,
    ReserveInventory,
    ShipmentFailed,
)
from sagaflow import during

PLACED: Final = OrderPlaced("o-1", Decimal(9))
PAID: Final = PaymentProcessed("o-1", "t-1")
DECLINED: Final = PaymentDeclined("o-1", "no money")
RESERVED: Final = InventoryReserved("o-1", "r-1")
SOLD_OUT: Final = InventoryFailed("o-1", "sold out")
SHIPPED: Final = OrderShipped("o-1", "x-1")
NOT_SHIPPED: Final = ShipmentFailed("o-1", "strike")
CANCELLED: Final = OrderCancelled("o-1", "no longer needed")


class PatientOrderSaga(HastyOrderSaga):
    """The mistake of its base set right: an answer that comes early waits."""

    early = during(OrderSaga.awaiting_payment).on(InventoryReserved, InventoryFailed).defer()


Participants: TypeAlias = Mapping[type, Callable[[Any], object]]

SHOP: Final[Participants] = {
    ProcessPayment: lambda _: [PAID, DECLINED],
    ReserveInventory: lambda _: [RESERVED, SOLD_OUT],
    CreateShipment: lambda _: [SHIPPED, NOT_SHIPPED],
}


def functions(namespace: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the tests in a namespace that a snippet was run in."""
    for name, value in namespace.items():
        if name.startswith("test_"):
            yield value


def run(snippet: str) -> None:
    """Run a snippet as a user would who pastes it into a file of tests."""
    namespace: dict[str, Any] = {}
    exec(compile(snippet, "<snippet>", "exec", dont_inherit=True), namespace)  # noqa: S102
    (test,) = functions(namespace)
    test()
