"""The command line: ``sagaflow``."""

from __future__ import annotations

import errno
import json
import logging
import math
import secrets
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO, Any, Final

import click
from click.core import ParameterSource

from sagaflow.exceptions import SagaflowError

_INTERRUPTED: Final = 130
_LOG_LINES: Final = 5


class _Error(click.ClickException):
    """An error in one line."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"error: {_one_line(self.format_message())}", file=file, err=True)


class _Commands(click.Group):
    """Commands whose errors are one line each: no usage, no traceback."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        with _plain_errors():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _plain_errors(), _plain_warnings(), _plain_log():
            return super().invoke(ctx)


def _share(ctx: click.Context, parameter: click.Parameter, value: float) -> float:
    """Refuse what a range lets pass."""
    if math.isnan(value):
        raise click.BadParameter("it is not a number between 0 and 1.", ctx, parameter)
    return value


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="sagaflow", prog_name="sagaflow", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Sagas as plain Python classes, run so that nothing is lost and nothing is half done."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@main.command(context_settings={"show_default": True})
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
    help="Do the work in a process that is killed several times on the way and started again.",
)
@click.option(
    "--runtime", default="asyncio", type=click.Choice(["asyncio", "trio"]), help="What it runs on."
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
    # Takes half a second, which --help and a wrong option need not wait for.
    from rich.console import Console  # noqa: PLC0415

    from sagaflow.demo.report import Terminal, as_json, show  # noqa: PLC0415
    from sagaflow.demo.run import run  # noqa: PLC0415
    from sagaflow.demo.settings import Settings, Watcher  # noqa: PLC0415

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
        result = run(settings, Watcher())
        click.echo(json.dumps(as_json(result), indent=2))
    else:
        console = Console(highlight=False)
        terminal = Terminal(console, settings)
        with terminal.showing():
            result = run(settings, terminal)
        show(console, result)
    ctx.exit(0 if result.reconciles else 1)


@contextmanager
def _plain_errors() -> Generator[None]:
    try:
        yield
    except click.UsageError as exc:
        command = "sagaflow" if exc.ctx is None else exc.ctx.command_path
        raise _Error(f"{exc.format_message().rstrip('.')}; see {command} --help") from None
    except SagaflowError as exc:
        raise _Error(str(exc)) from None
    except OSError as exc:
        if exc.errno == errno.EPIPE:
            raise  # whoever reads the output has had enough: click ends in silence
        raise _Error(str(exc)) from None
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        raise SystemExit(_INTERRUPTED) from None


@contextmanager
def _plain_warnings() -> Generator[None]:
    """Show each warning, such as the driver's about an unknown option in a URI, as one line."""

    def show_line(message: Warning | str, *_: object, **__: object) -> None:
        click.echo(f"warning: {_one_line(str(message))}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show_line
        yield


@contextmanager
def _plain_log() -> Generator[None]:
    """Show what sagaflow logs as lines without tracebacks, and not hundreds of them."""
    lines = _Lines()
    logger = logging.getLogger("sagaflow")
    logger.addHandler(lines)
    try:
        yield
    finally:
        logger.removeHandler(lines)
        if lines.count > _LOG_LINES:
            click.echo(f"and {lines.count - _LOG_LINES:,} messages more", err=True)


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1
        if self.count <= _LOG_LINES:
            text = _one_line(record.getMessage())
            click.echo(f"{record.levelname.lower()}: {text}", err=True)


def _one_line(text: str) -> str:
    return " ".join(text.split())
