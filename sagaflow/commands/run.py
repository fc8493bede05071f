"""``sagaflow run``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, Literal

import click

from sagaflow._model.errors import SagaflowError
from sagaflow._model.log import about, get_logger
from sagaflow.bus.bus_settings import check_service
from sagaflow.commands.options import as_span, on_bus, stored
from sagaflow.commands.plain_log import leave_log_alone
from sagaflow.commands.running.buses import MONGODB, check_bus
from sagaflow.commands.running.health import Address, answering
from sagaflow.commands.running.logs import LEVELS
from sagaflow.commands.running.owners import check_owner, default_owner
from sagaflow.commands.running.process import logged, run_worker
from sagaflow.commands.running.settings import Settings
from sagaflow.commands.running.supervising import supervise
from sagaflow.mongo.uris import hosts

logger = get_logger("sagaflow.worker")

_SCHEMES: Final = ("mongodb://", "mongodb+srv://")
_UNHANDLED: Final[dict[str, Literal["dead_letter", "accept"]]] = {
    "dead-letter": "dead_letter",
    "accept": "accept",
}


def _more_than_nothing(
    ctx: click.Context, parameter: click.Parameter, value: str | None
) -> timedelta | None:
    found = as_span(ctx, parameter, value)
    if found is not None and not found:
        raise click.BadParameter("it must be more than nothing.", ctx, parameter)
    return found


def _address(_: click.Context, __: click.Parameter, value: str | None) -> Address | None:
    return None if value is None else Address.of(value)


@click.command()
@click.argument("target", metavar="MODULE[:FACTORY]")
@on_bus
@stored(required=False)
@click.option(
    "--owner",
    metavar="NAME",
    envvar="SAGAFLOW_OWNER",
    help="The name of this worker, the same when it is started again, and of no other at the same "
    "time.  [env: SAGAFLOW_OWNER; default: the service and the name of the machine]",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="How many processes. One is this process itself; several are its children, which are "
    "started again when they end by themselves.",
)
@click.option(
    "--health",
    metavar="HOST:PORT",
    callback=_address,
    help="Answer GET /live and GET /ready there.",
)
@click.option("--log-json", is_flag=True, help="Log one JSON object a line.")
@click.option(
    "--log-level",
    type=click.Choice(LEVELS),
    default="info",
    show_default=True,
    help="What is logged: this and what is worse.",
)
@click.option(
    "--runtime",
    type=click.Choice(["asyncio", "trio"]),
    default="asyncio",
    show_default=True,
    help="What it runs on.",
)
@click.option(
    "--messages",
    metavar="MODULE:NAME",
    help="The message classes that travel: a collection, or a mapping of names to them.  [default: "
    "what the sagas take and mention]",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="How many messages each process handles, and of how many sagas it does what is due, at "
    "the same time.",
)
@click.option(
    "--handler-timeout",
    metavar="SPAN",
    default="5m",
    show_default=True,
    callback=_more_than_nothing,
    help="How long handling one message may take.",
)
@click.option(
    "--retry-for",
    metavar="SPAN",
    default="1h",
    show_default=True,
    callback=_more_than_nothing,
    help="How long a message that fails is tried again before it is a dead letter.",
)
@click.option(
    "--unhandled",
    type=click.Choice(tuple(_UNHANDLED)),
    default="dead-letter",
    show_default=True,
    help="What becomes of a message that no saga has a use for.",
)
@click.option(
    "--shutdown-timeout",
    metavar="SPAN",
    default="10s",
    show_default=True,
    callback=_more_than_nothing,
    help="How long handlers, and then what is being sent, have to end when it is told to stop.",
)
@click.pass_context
def run(
    ctx: click.Context,
    /,
    *,
    processes: int,
    health: Address | None,
    owner: str | None,
    unhandled: str,
    **options: Any,
) -> None:
    """Run a worker: it takes messages from the bus, and does for the sagas what is due.

    MODULE alone runs every saga in it, MODULE:CLASS one. FACTORY is a function that takes a
    sagaflow.worker.Worker and sets it up: its sagas, participants, services and observers. It may
    be async, and may return a context manager that is left when the worker ends.

    A database or broker that is away is waited for, with growing pauses. SIGTERM or Ctrl-C has the
    worker end in good order: it takes no more messages and ends what it has begun. A second one
    ends it at once; what it had begun is done again by others.

    The exit status is 0 after it was told to stop; 1 if it failed; 2 after an error, such as a
    module that is not there; 130 or 143 if it was told twice.
    """
    settings = Settings(
        owner=default_owner(options["service"]) if owner is None else owner,
        unhandled=_UNHANDLED[unhandled],
        **options,
    )
    _check(settings)
    leave_log_alone()
    with logged(settings, settings.owner):
        try:
            if processes > 1:
                supervise(settings, processes, health)
            else:
                run_worker(
                    settings,
                    settings.owner,
                    lambda serving: answering(health, serving.progress.report),
                )
        except SagaflowError as exc:
            if not settings.log_json:
                raise
            logger.error("%s", exc, extra=about())  # noqa: TRY400 - it is one line
            ctx.exit(2)
        except Exception:
            logger.exception("%s has failed", settings.owner, extra=about())
            ctx.exit(1)


def _check(settings: Settings) -> None:
    """Refuse at once what cannot be, before anything is waited for.

    :raises SagaflowError: if something cannot be.
    """
    check_service(settings.service)
    check_owner(settings.owner)
    check_bus(settings.bus)
    if settings.mongodb is not None:
        if not settings.mongodb.startswith(_SCHEMES):
            raise SagaflowError("--mongodb is no URI of a server, such as mongodb://HOST")
        hosts(settings.mongodb)
    if (settings.mongodb is None) != (settings.database is None):
        missing = "--mongodb" if settings.mongodb is None else "--database"
        raise click.UsageError(f"Missing option '{missing}'.")
    if settings.bus == MONGODB and settings.mongodb is None:
        raise click.UsageError("Missing option '--mongodb': the bus mongodb is in the database.")
