"""What several commands are told in the same words."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeVar

import click

from sagaflow.commands.ids import KINDS
from sagaflow.commands.secrets import hide

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def hidden(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Keep what is secret in a URI out of errors."""
    hide(value)
    return value


def as_span(ctx: click.Context, parameter: click.Parameter, value: str | None) -> timedelta | None:
    """Return the span of time that was typed, such as ``90s``, ``15m``, ``2h`` or ``7d``."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,9})([smhd])", value)
    if found is None:
        raise click.BadParameter("a span of time is such as 90s, 15m, 2h or 7d.", ctx, parameter)
    try:
        return timedelta(**{_UNITS[found[2]]: int(found[1])})
    except OverflowError:
        raise click.BadParameter(f"{value} is too long.", ctx, parameter) from None


def stored(*, required: bool = True) -> Callable[[FunctionT], FunctionT]:
    """Return what adds the options that say where sagas are stored."""

    def add(function: FunctionT) -> FunctionT:
        function = click.option(
            "--database",
            metavar="NAME",
            envvar="SAGAFLOW_DATABASE",
            required=required,
            help="The database on that server.  [env: SAGAFLOW_DATABASE]",
        )(function)
        return click.option(
            "--mongodb",
            metavar="URI",
            envvar="SAGAFLOW_MONGODB_URI",
            required=required,
            callback=hidden,
            help="The MongoDB server.  [env: SAGAFLOW_MONGODB_URI]",
        )(function)

    return add


def on_bus(function: FunctionT) -> FunctionT:
    """Add the options that say on which bus, and as which service."""
    function = click.option(
        "--service",
        metavar="NAME",
        envvar="SAGAFLOW_SERVICE",
        required=True,
        help="The name of the program on the bus.  [env: SAGAFLOW_SERVICE]",
    )(function)
    return click.option(
        "--bus",
        metavar="URL",
        envvar="SAGAFLOW_BUS",
        default="mongodb",
        callback=hidden,
        help="mongodb, for a bus in the database; or the URL of a broker, such as nats://HOST.  "
        "[env: SAGAFLOW_BUS; default: mongodb]",
    )(function)


def one_saga(function: FunctionT) -> FunctionT:
    """Add the arguments and options that name one stored saga."""
    function = id_type(function)
    function = click.argument("correlation_id", metavar="ID")(function)
    return saga(function)


def id_type(function: FunctionT) -> FunctionT:
    """Add the option that says what kind of id is meant."""
    return click.option(
        "--id-type",
        type=click.Choice(tuple(KINDS)),
        help="What kind of id it is, instead of a prefix such as int:7; a str by default.",
    )(function)


def saga(function: FunctionT) -> FunctionT:
    """Add the argument that names a saga class."""
    return click.argument("target", metavar="MODULE:CLASS")(function)


def in_json(function: FunctionT) -> FunctionT:
    """Add the flag that asks for the output for programs."""
    return click.option(
        "--json", "in_json", is_flag=True, help="Print one JSON document and nothing else."
    )(function)
