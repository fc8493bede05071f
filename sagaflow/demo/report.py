"""What people and programs see of a run."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from sagaflow.demo.books import Books
from sagaflow.demo.brokers import MEMORY, Broker
from sagaflow.demo.plan import refusals
from sagaflow.demo.reconcile import Equation, Number
from sagaflow.demo.run import Result
from sagaflow.demo.server import Server
from sagaflow.demo.settings import Settings, Watcher

_FAULTS_SHOWN: Final = 5


class Terminal(Watcher):
    """Tells a person how the run gets on: with a progress bar, if there is a terminal for it."""

    def __init__(self, console: Console, settings: Settings) -> None:
        self._console = console
        self._kills = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.file.isatty(),  # also where FORCE_COLOR calls a pipe a terminal
        )
        beginning = "starting a server" if settings.mongodb is None else "connecting"
        self._task = self._progress.add_task(beginning, total=None)

    @contextmanager
    def showing(self) -> Generator[None]:
        """Show the progress bar meanwhile."""
        try:
            # Not by `with`: what interrupts the start must find the terminal put right again, too.
            self._progress.start()
            yield
        finally:
            self._progress.stop()

    def begun(self, settings: Settings, server: Server, placed: int) -> None:
        """Say what begins, and where."""
        refused = refusals(settings.orders, settings.failures)
        _say(
            self._console,
            f"{settings.orders:,} orders, {refused:,} of them to be refused, "
            f"{settings.concurrency:,} at a time; seed {settings.seed}, on {settings.runtime}",
        )
        _say(self._console, server.name)
        if server.kept:
            _say(
                self._console,
                f"the sagas stay there in the database {server.database}; if this is interrupted, "
                f"--database {server.database} --resume continues it",
            )
        if settings.resume:
            _say(self._console, f"{placed:,} of the orders have been placed before")
        self._progress.update(
            self._task, description="orders", total=settings.orders, completed=placed
        )

    def carried_by(self, broker: Broker) -> None:
        """Say what carries the messages."""
        _say(self._console, broker.name)

    def order_done(self) -> None:
        """Move the progress bar on."""
        self._progress.advance(self._task)

    def killed(self) -> None:
        """Count the kills."""
        self._kills += 1
        self._progress.update(self._task, description=f"orders, killed {_times(self._kills)}")


def show(console: Console, result: Result) -> None:
    """Print the tables for people."""
    for table in (_states(result), _books(result.books), _reconciliation(result.equations)):
        console.print()
        console.print(table)
    console.print()
    for equation in result.equations:
        for fault in equation.faults[:_FAULTS_SHOWN]:
            _say(console, f"  {equation.name}: {fault}", "red")
        if (more := len(equation.faults) - _FAULTS_SHOWN) > 0:
            _say(console, f"  {equation.name}: {more:,} more orders", "red")
    crashes = result.crashes
    if result.settings.crash:
        what = (
            "The process that does the work was"
            if result.settings.bus == MEMORY
            else "What the demo runs on was"
        )
        _say(console, f"{what} killed {_times(crashes.kills)} and started again.")
    if crashes.leftovers:
        _say(console, f"Sagas that were left half done, and then finished: {crashes.leftovers:,}")
    seconds = result.elapsed.total_seconds()
    _say(
        console,
        f"{result.placed:,} orders in {seconds:.1f} s: {_rate(result):,.0f} orders/s"
        + ("" if result.settings.bus == MEMORY else ", with the time that the processes start"),
    )
    wrong = sum(not equation.holds for equation in result.equations)
    if wrong:
        text = f"It does not add up: {wrong} of {len(result.equations)} equations are wrong."
        _say(console, text, "bold red")
    else:
        _say(console, "Everything adds up.", "bold green")


def as_json(result: Result) -> dict[str, Any]:
    """Return the report for programs. Money is a string, so that nobody reads it as a float."""
    settings, server = result.settings, result.server
    payment, inventory = result.books.payment, result.books.inventory
    return {
        "orders": settings.orders,
        "failures": settings.failures,
        "concurrency": settings.concurrency,
        "seed": settings.seed,
        "runtime": settings.runtime,
        "bus": settings.bus.partition(":")[0],
        "server": server.name,
        "database": server.database if server.kept else None,
        "resumed": settings.resume,
        "placed": result.placed,
        "kills": result.crashes.kills,
        "leftovers": result.crashes.leftovers,
        "seconds": round(result.elapsed.total_seconds(), 3),
        "orders_per_second": round(_rate(result), 1),
        "sagas": dict(result.states),
        "books": {
            "payment": {
                "charged": str(sum(payment.charged.values(), Decimal(0))),
                "refunded": str(sum(payment.refunded.values(), Decimal(0))),
                "orders_charged": len(payment.charged),
                "orders_refunded": len(payment.refunded),
                "orders_declined": len(payment.declined),
                "orders_cancelled": len(payment.cancelled),
            },
            "inventory": {
                "reserved": inventory.reserved.total(),
                "released": inventory.released.total(),
                "shipped": inventory.shipped.total(),
                "orders_out_of_stock": len(inventory.out_of_stock),
            },
            "shipping": {
                "parcels": result.books.shipping.parcels.total(),
                "orders_refused": len(result.books.shipping.refused),
            },
        },
        "reconciliation": [
            {
                "equation": equation.name,
                "terms": [_plain(term) for term in equation.terms],
                "expected": _plain(equation.expected),
                "holds": equation.holds,
                "faults": list(equation.faults),
            }
            for equation in result.equations
        ],
        "reconciles": result.reconciles,
    }


def _states(result: Result) -> Table:
    table = _table("Sagas by state")
    table.add_column("state")
    table.add_column("sagas", justify="right")
    for state, number in result.states.items():
        table.add_row(state, f"{number:,}", style="" if number else "dim")
    table.add_section()
    table.add_row("all", f"{sum(result.states.values()):,}")
    return table


def _books(books: Books) -> Table:
    table = _table("Books of the participants")
    table.add_column("participant")
    table.add_column("entry")
    table.add_column("orders", justify="right")
    table.add_column("amount", justify="right")
    payment, inventory, shipping = books.payment, books.inventory, books.shipping
    rows = [
        ("payment", "charged", payment.charged, sum(payment.charged.values(), Decimal(0))),
        ("", "refunded", payment.refunded, sum(payment.refunded.values(), Decimal(0))),
        ("", "declined", payment.declined, None),
        ("", "cancelled", payment.cancelled, None),
        ("inventory", "reserved", inventory.reserved, inventory.reserved.total()),
        ("", "released", inventory.released, inventory.released.total()),
        ("", "shipped", inventory.shipped, inventory.shipped.total()),
        ("", "out of stock", inventory.out_of_stock, None),
        ("shipping", "parcels", shipping.parcels, shipping.parcels.total()),
        ("", "refused", shipping.refused, None),
    ]
    for participant, entry, orders, amount in rows:
        if participant:
            table.add_section()
        shown = "" if amount is None else f"{amount:,}"
        table.add_row(participant, entry, f"{len(orders):,}", shown)
    return table


def _reconciliation(equations: tuple[Equation, ...]) -> Table:
    table = _table("Reconciliation")
    table.add_column("equation")
    table.add_column("numbers", justify="right", no_wrap=True)
    table.add_column("")
    for equation in equations:
        verdict = Text("OK", "green") if equation.holds else Text("WRONG", "bold red")
        table.add_row(equation.name, numbers(equation), verdict)
    return table


def numbers(equation: Equation) -> str:
    """Return the equation in numbers, such as ``12 - 2 = 10``."""
    left = " - ".join(f"{term:,}" for term in equation.terms)
    if equation.result == equation.expected:
        return f"{left} = {equation.expected:,}"
    if len(equation.terms) > 1:
        left = f"{left} = {equation.result:,}"
    return f"{left}, not {equation.expected:,}"


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )


def _rate(result: Result) -> float:
    return result.placed / max(result.elapsed.total_seconds(), 0.001)


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _plain(number: Number) -> int | str:
    return str(number) if isinstance(number, Decimal) else number


def _say(console: Console, text: str, style: str = "") -> None:
    """Print *text* as it is: not as markup, and not broken by the width of a pipe."""
    console.print(Text(text, style), soft_wrap=True)
