"""Draw the way of one event through the code: ``python tools/way_of_an_event.py``.

An order is paid, in memory, and each call from one module of the package into another is written
down meanwhile: the picture is made from the code as it runs. Each module is drawn below the module
that called it first, with the function that was called and the first line of what the module says
of itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html import escape
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, Final

import anyio
from attrs import frozen

from sagaflow import (
    Context,
    MemoryBus,
    MemoryRepository,
    Orchestrator,
    Saga,
    State,
    during,
    initially,
)

PICTURE: Final = Path(__file__).parent.parent / "docs" / "images" / "way-of-an-event.svg"
ROOMS: Final = {
    "sagaflow": "#4c6ef5",
    "_runtime": "#1c7ed6",
    "_engine": "#2f9e44",
    "_codec": "#e8590c",
    "bus": "#9c36b5",
    "memory": "#9c36b5",
}
"""The rooms that are drawn, and their colours; what they all use is left out."""
ROW, STEP, WIDTH = 34, 26, 1100


@frozen
class Placed:
    """Starts an order."""

    order_id: str


@frozen
class Paid:
    """Takes an order to its end."""

    order_id: str


@frozen
class Ship:
    """What an order sends."""

    order_id: str


class Order(Saga, correlate_by="order_id"):
    """What the event belongs to."""

    waiting = State()
    shipped = State(final=True)
    order_id: str = ""

    @initially.on(Placed).goto(waiting)
    async def place(self, event: Placed, _ctx: Context) -> None:
        """Wait for the payment."""
        self.order_id = event.order_id

    @during(waiting).on(Paid).goto(shipped)
    async def ship(self, event: Paid, ctx: Context) -> None:
        """Have the parcel shipped."""
        ctx.send(Ship(event.order_id))


@frozen
class Visit:
    """The first call into a module, or the way back to one that calls another module then.

    :ivar depth: how many of the visited modules it was called through.
    """

    module: str
    function: str
    depth: int


def _room_of(module: str) -> str:
    """Return the room of a module: a folder, or the file itself at the top of the package."""
    first, *rest = module.removeprefix("sagaflow.").split(".")
    return first if rest or first in ROOMS else "sagaflow"


def _is_drawn(module: str) -> bool:
    return module.startswith("sagaflow.") and (
        _room_of(module) in ROOMS and (_room_of(module) != "sagaflow" or module.count(".") == 1)
    )


def _module_of(frame: FrameType) -> str:
    name: str = frame.f_globals.get("__name__", "")
    return name


def _function_of(frame: FrameType) -> str:
    return frame.f_code.co_qualname.split(".<locals>")[0]


async def visits() -> list[Visit]:
    """Return which modules an event visits, in the order of the first visit."""
    depths: dict[str, int] = {}
    found: list[Visit] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        module = _module_of(frame)
        if event != "call" or module in depths or not _is_drawn(module):
            return
        if frame.f_code.co_filename.startswith("<"):  # the class is made, not its author's code run
            return
        caller = frame.f_back
        while caller is not None and _module_of(caller) not in depths:
            caller = caller.f_back
        depth = 0
        if caller is not None:
            above = _module_of(caller)
            depth = depths[above] + 1
            drawn = next(visit for visit in reversed(found) if visit.depth == depth - 1)
            if drawn.module != above:  # the way comes back to it
                found.append(Visit(above, _function_of(caller), depth - 1))
        depths[module] = depth
        found.append(Visit(module, _function_of(frame), depth))

    bus = MemoryBus()
    bus.subscribe(Ship, lambda _: None)
    async with Orchestrator([Order], MemoryRepository(), bus=bus) as orchestrator:
        await orchestrator.handle(Placed("o-1"), message_id="m-1")
        sys.setprofile(note)
        try:
            await orchestrator.handle(Paid("o-1"), message_id="m-2")
        finally:
            sys.setprofile(None)
    return found


def _lines(visited: list[Visit]) -> Iterator[str]:
    height = ROW * len(visited) + 20
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="ui-sans-serif, system-ui, sans-serif" font-size="13" role="img">'
    )
    yield "<title>The way of an event through the modules of sagaflow</title>"
    yield f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    last_at: dict[int, int] = {}
    for number, visit in enumerate(visited):
        x, y = 10 + STEP * visit.depth, 10 + ROW * number
        middle = y + ROW // 2 - 3
        if visit.depth:
            corner = x - STEP + 10
            top = last_at[visit.depth - 1] + ROW - 6
            yield (
                f'<path d="M{corner} {top}V{middle}H{x}" fill="none" stroke="#adb5bd" '
                'stroke-width="1.5"/>'
            )
        last_at[visit.depth] = y
        colour = ROOMS[_room_of(visit.module)]
        name = visit.module.removeprefix("sagaflow.").replace(".", " / ")
        says = (import_module(visit.module).__doc__ or "").splitlines()[0]
        text = f"{name}   {visit.function}"
        wide = round(7.6 * len(text)) + 20
        yield f'<rect x="{x}" y="{y}" width="{wide}" height="{ROW - 6}" rx="6" fill="{colour}"/>'
        yield (
            f'<text x="{x + 8}" y="{middle + 4}" fill="#ffffff"><tspan font-weight="600">'
            f"{escape(name)}</tspan>   <tspan>{escape(visit.function)}</tspan></text>"
        )
        yield (
            f'<text x="{x + wide + 10}" y="{middle + 4}" fill="#495057" font-size="12">'
            f"{escape(says)}</text>"
        )
    yield "</svg>"


def picture() -> str:
    """Return the picture as SVG."""
    return "\n".join(_lines(anyio.run(visits))) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    print(f"{PICTURE.name} is drawn")
