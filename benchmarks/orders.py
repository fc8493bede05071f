"""The flow that every contestant runs: an order is placed, paid, reserved and shipped.

Each event sets a field, and each but the last one asks for a command.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal

from attrs import define, field, frozen

from benchmarks.measuring import Measurement, one_at_a_time
from sagaflow import Context, MemoryBus, Orchestrator, OutcomeKind, Saga, State, during, initially

EVENTS_PER_ORDER = 4
TOTAL = Decimal("99.50")


@frozen
class OrderPlaced:
    """The order starts."""

    order_id: str
    total: Decimal


@frozen
class PaymentProcessed:
    """The customer was charged."""

    order_id: str
    transaction_id: str


@frozen
class InventoryReserved:
    """The stock is set aside."""

    order_id: str
    reservation_id: str


@frozen
class OrderShipped:
    """The parcel is on its way."""

    order_id: str
    tracking_code: str


@frozen
class ProcessPayment:
    """Charge the customer."""

    order_id: str
    amount: Decimal


@frozen
class ReserveInventory:
    """Set the stock aside."""

    order_id: str


@frozen
class CreateShipment:
    """Send the parcel."""

    order_id: str


COMMANDS = (ProcessPayment, ReserveInventory, CreateShipment)


class OrderSaga(Saga, name="BenchmarkOrder", correlate_by="order_id"):
    """The flow as a saga, without compensation and timeouts, which the peers do not have."""

    awaiting_payment = State()
    awaiting_inventory = State()
    awaiting_shipment = State()
    completed = State(final=True)

    order_id: str | None = None
    total: Decimal = Decimal(0)
    transaction_id: str | None = None
    reservation_id: str | None = None
    tracking_code: str | None = None
    notes: list[str] = field(factory=list)

    @initially.on(OrderPlaced).goto(awaiting_payment)
    async def place(self, event: OrderPlaced, ctx: Context) -> None:
        """Ask for the payment."""
        self.order_id, self.total = event.order_id, event.total
        ctx.send(ProcessPayment(event.order_id, event.total))

    @during(awaiting_payment).on(PaymentProcessed).goto(awaiting_inventory)
    async def reserve(self, event: PaymentProcessed, ctx: Context) -> None:
        """Ask for the stock."""
        self.transaction_id = event.transaction_id
        ctx.send(ReserveInventory(event.order_id))

    @during(awaiting_inventory).on(InventoryReserved).goto(awaiting_shipment)
    async def ship(self, event: InventoryReserved, ctx: Context) -> None:
        """Ask for the shipment."""
        self.reservation_id = event.reservation_id
        ctx.send(CreateShipment(event.order_id))

    @during(awaiting_shipment).on(OrderShipped).goto(completed)
    async def finish(self, event: OrderShipped, ctx: Context) -> None:
        """Note where the parcel is."""
        self.tracking_code = event.tracking_code


@define
class OrderData:
    """The data of an order, for contestants that have no sagas."""

    order_id: str | None = None
    total: Decimal = Decimal(0)
    transaction_id: str | None = None
    reservation_id: str | None = None
    tracking_code: str | None = None
    notes: list[str] = field(factory=list)


@frozen
class Order:
    """One run of the flow: what happens, under which message ids."""

    order_id: str
    events: tuple[object, ...]
    message_ids: tuple[str, ...]


def orders(number: int, *, prefix: str = "order") -> list[Order]:
    """Make the events of *number* orders beforehand, so that no contestant is timed making them."""
    return [_order(f"{prefix}-{index}") for index in range(number)]


def _order(order_id: str) -> Order:
    events = (
        OrderPlaced(order_id, TOTAL),
        PaymentProcessed(order_id, "transaction"),
        InventoryReserved(order_id, "reservation"),
        OrderShipped(order_id, "tracking code"),
    )
    ids = tuple(f"{order_id}-{number}" for number in range(len(events)))
    return Order(order_id, events, ids)


async def measure_orders(run: Callable[[Order], Awaitable[None]], number: int) -> Measurement:
    """Time *number* orders, one event after another."""
    warm_up = max(number // 10, 1)
    timing = await one_at_a_time(run, orders(number + warm_up), warm_up=warm_up)
    return Measurement(timing.per(number * EVENTS_PER_ORDER))


def command_bus() -> MemoryBus:
    """Return a bus on which somebody takes every command, and does nothing."""
    bus = MemoryBus()
    for command in COMMANDS:
        bus.subscribe(command, _take)
    return bus


async def run_order(orchestrator: Orchestrator, order: Order) -> None:
    """Have a saga take the events of an order.

    :raises RuntimeError: if the order is not completed then.
    """
    outcome = None
    for event, message_id in zip(order.events, order.message_ids, strict=True):
        outcome = await orchestrator.handle(event, message_id=message_id)
    if (
        outcome is None
        or outcome.kind is not OutcomeKind.TRANSITIONED
        or outcome.state != OrderSaga.completed
    ):
        raise RuntimeError(f"{order.order_id} was not completed: {outcome}")


def check_completed(order_id: object, state: object) -> None:
    """Raise RuntimeError unless an order ended as it should; a fast wrong run is worth nothing."""
    if state != "completed":
        raise RuntimeError(f"order {order_id} was not completed: {state}")


def _take(command: object) -> None:
    """Accept a command."""
