"""What a message costs from `publish` to its acknowledgement, on a bus and by the client alone."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import anyio

from benchmarks.buses.bare import BARE, Connection
from benchmarks.buses.messages import MESSAGES
from benchmarks.buses.places import Place, bus_at, fresh_place
from benchmarks.buses.team import PATIENCE
from benchmarks.measuring import Measurement, Timing, share, timed
from benchmarks.orders import ProcessPayment
from sagaflow._model.envelope import Envelope
from sagaflow.bus.transport import Outgoing
from sagaflow.bus.wire import Binding, Wire

PUBLISHERS: Final = 20
_SERVICE: Final = "participants"


def by_bus(*, bus: str, number: int, uri: str = "", broker: str = "") -> Measurement:
    """Publish messages on a bus and handle them, all in this process."""
    with fresh_place(bus=bus, broker=broker, uri=uri) as place:
        timing = anyio.run(_through_bus, place, number)
    return Measurement(_per_message(timing, number))


def by_client(*, bus: str, number: int, broker: str) -> Measurement:
    """Publish messages of the same bytes with the client of the broker alone, and take them."""
    with fresh_place(bus=bus, broker=broker) as place:
        timing = anyio.run(_through_client, place, number)
    return Measurement(_per_message(timing, number))


async def _through_bus(place: Place, number: int) -> Timing:
    warm_up, handled, all_handled = max(number // 10, 1), 0, anyio.Event()
    async with bus_at(place, _SERVICE) as bus:

        async def publish(index: int) -> None:
            await bus.publish(
                _message(index), correlation_id=f"order-{index}", message_id=f"m-{index}"
            )

        async def take(command: ProcessPayment) -> None:
            nonlocal handled
            handled += 1
            if handled in {warm_up, warm_up + number}:
                all_handled.set()

        bus.subscribe(ProcessPayment, take)
        async with bus:
            with anyio.fail_after(PATIENCE):
                await share(PUBLISHERS, publish, range(warm_up))
                await all_handled.wait()
            all_handled = anyio.Event()
            with anyio.fail_after(PATIENCE), timed() as timing:
                await share(PUBLISHERS, publish, range(warm_up, warm_up + number))
                await all_handled.wait()
    return timing


async def _through_client(place: Place, number: int) -> Timing:
    bare = BARE[place.bus]
    messages = _written(bare.binding, number + max(number // 10, 1))
    async with bare.connected(place.broker, place.prefix) as connection:
        with anyio.fail_after(PATIENCE):
            await _both(connection, messages[number:])
        with anyio.fail_after(PATIENCE), timed() as timing:
            await _both(connection, messages[:number])
    return timing


async def _both(connection: Connection, messages: list[Outgoing]) -> None:
    """Publish, each message once another one of those before it is confirmed, and take them."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(connection.take, len(messages))
        await share(PUBLISHERS, connection.publish, messages)


def _message(index: int) -> ProcessPayment:
    return ProcessPayment(f"order-{index}", Decimal("99.50"))


def _written(binding: Binding, number: int) -> list[Outgoing]:
    """Return the messages as the bus gives them to its transport."""
    wire = Wire(MESSAGES, binding=binding, source=f"/{_SERVICE}")
    found: list[Outgoing] = []
    for index in range(number):
        key, message_id = f"order-{index}", f"m-{index}"
        one = wire.encode(Envelope(body=_message(index), id=message_id, correlation_id=key))
        found.append(
            Outgoing(
                name=wire.name_of(ProcessPayment),
                id=message_id,
                key=key,
                headers=one.headers,
                body=one.body,
            )
        )
    return found


def _per_message(timing: Timing, number: int) -> dict[str, float]:
    found = timing.per(number)
    return {"message_wall": found["wall"], "message_cpu": found["cpu"]}
