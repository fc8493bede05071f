"""xstate-statemachine with its asynchronous interpreter, bare and with its memory store."""

# pyright: reportMissingImports=false

from __future__ import annotations

import logging
from typing import Any

import anyio
from xstate_statemachine import Interpreter, MachineLogic, create_machine
from xstate_statemachine.persistence import MemoryStore, apersisted, as_async

from benchmarks.measuring import Measurement
from benchmarks.orders import Order, check_completed, measure_orders

_TRIGGERS = ("PLACE", "RESERVE", "SHIP", "FINISH")
_CONFIGURATION = {
    "id": "order",
    "initial": "new",
    # A snapshot is JSON.
    "context": {
        "order_id": None,
        "total": None,
        "transaction_id": None,
        "reservation_id": None,
        "tracking_code": None,
        "notes": [],
        "out": [],
    },
    "states": {
        "new": {"on": {"PLACE": {"target": "awaiting_payment", "actions": "place"}}},
        "awaiting_payment": {
            "on": {"RESERVE": {"target": "awaiting_inventory", "actions": "reserve"}}
        },
        "awaiting_inventory": {"on": {"SHIP": {"target": "awaiting_shipment", "actions": "ship"}}},
        "awaiting_shipment": {"on": {"FINISH": {"target": "completed", "actions": "finish"}}},
        "completed": {"type": "final"},
    },
}


async def _place(_: Any, context: dict[str, Any], event: Any, __: Any) -> None:
    context["order_id"], context["total"] = event.payload["order_id"], event.payload["total"]
    context["out"].append("ProcessPayment")


async def _reserve(_: Any, context: dict[str, Any], event: Any, __: Any) -> None:
    context["transaction_id"] = event.payload["transaction_id"]
    context["out"].append("ReserveInventory")


async def _ship(_: Any, context: dict[str, Any], event: Any, __: Any) -> None:
    context["reservation_id"] = event.payload["reservation_id"]
    context["out"].append("CreateShipment")


async def _finish(_: Any, context: dict[str, Any], event: Any, __: Any) -> None:
    context["tracking_code"] = event.payload["tracking_code"]


def _machine() -> Any:
    logging.getLogger("xstate_statemachine").setLevel(logging.ERROR)
    actions = {"place": _place, "reserve": _reserve, "ship": _ship, "finish": _finish}
    return create_machine(_CONFIGURATION, logic=MachineLogic(actions=actions))


def _events(order: Order) -> list[dict[str, Any]]:
    fields: tuple[dict[str, Any], ...] = (
        {"order_id": order.order_id, "total": "99.50"},
        {"transaction_id": "transaction"},
        {"reservation_id": "reservation"},
        {"tracking_code": "tracking code"},
    )
    return [{"type": name, **data} for name, data in zip(_TRIGGERS, fields, strict=True)]


def bare(*, number: int) -> Measurement:
    """Time the flow with an interpreter for each order."""
    machine = _machine()

    async def run(order: Order) -> None:
        interpreter = await Interpreter(machine).start()
        for event in _events(order):
            await interpreter.send(event, wait=True)
        check_completed(order.order_id, _state(interpreter))
        await interpreter.stop()

    return anyio.run(measure_orders, run, number)


def with_store(*, number: int) -> Measurement:
    """Time the flow with the interpreter loaded and saved for each event."""
    machine, store = _machine(), as_async(MemoryStore())

    async def run(order: Order) -> None:
        state = ""
        for event in _events(order):
            async with apersisted(store, order.order_id, machine) as interpreter:
                await interpreter.send(event, wait=True)
                state = _state(interpreter)
        check_completed(order.order_id, state)

    return anyio.run(measure_orders, run, number)


def _state(interpreter: Any) -> str:
    (state,) = interpreter.current_state_ids
    name: str = state.rpartition(".")[2]
    return name
