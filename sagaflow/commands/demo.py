"""``sagaflow demo``: orders done and undone, and the books balanced."""

from __future__ import annotations

import json
import math
import secrets
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console

from sagaflow.commands.options import hidden
from sagaflow.commands.running.buses import MakeBus, bus_at, check_bus
from sagaflow.demo.brokers import BUSES, MEMORY
from sagaflow.demo.report import Terminal, as_json, show
from sagaflow.demo.run import run
from sagaflow.demo.settings import Settings, Watcher


def _share(ctx: click.Context, parameter: click.Parameter, value: float) -> float:
    """Refuse "not a number", which `click.FloatRange` lets pass."""
    if math.isnan(value):
        raise click.BadParameter("it is not a number between 0 and 1.", ctx, parameter)
    return value


def _bus(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    """Refuse a word that names no bus."""
    hidden(ctx, parameter, value)
    if value not in BUSES and "://" not in value:
        raise click.BadParameter(f"it is one of {', '.join(BUSES)}, or a URL.", ctx, parameter)
    return value


@click.command(context_settings={"show_default": True})
@click.option("--orders", default=200, type=click.IntRange(1, 1_000_000), help="How many orders.")
@click.option(
    "--failures",
    default=0.2,
    type=click.FloatRange(0, 1),
    callback=_share,
    help="The share of orders in which payment, stock or shipping refuses.",
)
@click.option(
    "--concurrency",
    default=50,
    type=click.IntRange(1, 10_000),
    help="How many orders are placed at a time.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    help="Draws the orders and who refuses them; the same seed draws the same.  [default: random]",
)
@click.option(
    "--mongodb",
    metavar="URI",
    callback=hidden,
    help="Use this MongoDB server; the sagas stay there.  [default: start an embedded one]",
)
@click.option(
    "--database",
    metavar="NAME",
    help="The database on that server.  [default: a new one]",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue the demo in that database, which was interrupted or killed. It knows its "
    "orders, failures and seed.",
)
@click.option(
    "--crash",
    is_flag=True,
    help="Do the work in a process that is killed several times on the way and started again; "
    "with --bus, kill each process once, and the broker if the demo has started it.",
)
@click.option(
    "--runtime", default="asyncio", type=click.Choice(["asyncio", "trio"]), help="What it runs on."
)
@click.option(
    "--bus",
    default=MEMORY,
    metavar="|".join((*BUSES, "URL")),
    callback=_bus,
    help="Run workers and participants in processes of their own, which share this bus. For nats a "
    "server is started, if nats-server is installed, and for kafka one in memory; the others are "
    "looked for on this machine.",
)
@click.option("--json", "in_json", is_flag=True, help="Print one JSON object and nothing else.")
@click.pass_context
def demo(ctx: click.Context, /, *, seed: int | None, in_json: bool, **options: Any) -> None:
    """Run orders through payment, inventory and shipping, and check that it adds up.

    Each order is a saga: charge the customer, reserve the stock, ship the parcel; or undo all of
    it, where somebody refuses. The participants keep books of their own. At the end these are
    compared with the sagas in the database.

    The exit status is 0 when everything adds up, 1 when it does not, 2 when the demo could not
    run, 130 when it was interrupted.
    """
    if options["database"] is not None and options["mongodb"] is None:
        raise click.UsageError("--database needs --mongodb: an embedded server is gone at the end")
    if options["resume"] and options["database"] is None:
        raise click.UsageError("--resume needs --mongodb and --database: where the demo is")
    if options["bus"] != MEMORY:
        if options["resume"]:
            raise click.UsageError("--resume continues a demo without --bus")
        check_bus(BUSES.get(options["bus"], options["bus"]))
    settings = Settings(
        seed=secrets.randbelow(2**32) if seed is None else seed,
        given=frozenset(
            name
            for name in ctx.params
            if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
        ),
        **options,
    )
    if in_json:
        result = run(settings, Watcher(), _bus_at)
        click.echo(json.dumps(as_json(result), indent=2))
    else:
        console = Console(highlight=False)
        terminal = Terminal(console, settings)
        with terminal.showing():
            result = run(settings, terminal, _bus_at)
        show(console, result)
    ctx.exit(0 if result.reconciles else 1)


def _bus_at(url: str) -> MakeBus:
    return bus_at(url, None)
