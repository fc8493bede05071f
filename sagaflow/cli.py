"""The command line: ``sagaflow``."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import IO, Any, Final

import click

from sagaflow._model.errors import SagaflowError
from sagaflow.commands.plain_log import plain_log
from sagaflow.commands.secrets import keeping_secrets, redacted

_INTERRUPTED: Final = 130

# The module of each command, and what it does in one line: to list them, none is imported.
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "demo": ("demo", "Run orders through a saga, and check that it adds up."),
    "graph": ("graph", "Draw a saga, or the path of a stored one."),
    "check": ("check", "Tell what a saga leaves open, or cannot handle of what is stored."),
    "ls": ("ls", "List stored sagas: by state, age, overdue, suspended."),
    "show": ("show", "Show a stored saga: data, history, what is pending."),
    "explain": ("explain", "Say why a saga is where it is, and what comes next."),
    "stats": ("stats", "Count sagas by state, and what is due."),
    "retry": ("operate", "Have what suspended a saga tried again."),
    "resume": ("operate", "Put a suspended saga back to work."),
    "skip": ("operate", "Leave out what suspended a saga, and go on."),
    "cancel": ("operate", "Have a saga undo what it has done, and end."),
    "run": ("run", "Run a worker: sagas and participants, until it is told to stop."),
    "dead-letters": (
        "dead_letters",
        "List, show, retry or drop what a service could not deal with.",
    ),
    "indexes": ("indexes", "Verify the indexes of a database, or create them."),
}


class _Error(click.ClickException):
    """An error in one line."""

    exit_code = 2

    def __init__(self, text: str) -> None:
        super().__init__(_one_line(text))  # hidden here, where the secrets are still known

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"error: {self.format_message()}", file=file, err=True)


class _Commands(click.Group):
    """Commands that are imported when used, whose errors are one line each: no traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module = import_module(f"sagaflow.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002
        formatter: click.HelpFormatter,
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

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
        with keeping_secrets(), _plain_errors(), _plain_warnings(), plain_log(_one_line):
            return super().invoke(ctx)


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="sagaflow", prog_name="sagaflow", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Sagas as plain Python classes, run so that nothing is lost and nothing is half done.

    A saga class is named as MODULE:CLASS, such as shop.sagas:OrderSaga; the current directory is
    on the path. The server and the database are told by --mongodb and --database, or by the
    environment: SAGAFLOW_MONGODB_URI, which keeps a password out of the list of processes, and
    SAGAFLOW_DATABASE.

    The exit status is 0 when all is well, 1 when a command has something to find fault with, 2
    after an error, which is one line, and 130 after an interrupt.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


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
            raise  # the reader of the pipe has closed it: click ends in silence
        raise _Error(str(exc)) from None
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        raise SystemExit(_INTERRUPTED) from None
    except click.Abort:  # the input has ended at a question
        click.echo("\ninterrupted", err=True)
        raise SystemExit(_INTERRUPTED) from None


@contextmanager
def _plain_warnings() -> Generator[None]:
    """Show each warning, such as the driver's about an unknown option in a URI, as one line."""

    def show_line(message: Warning | str, *_: object, **__: object) -> None:
        click.echo(f"warning: {_one_line(str(message))}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show_line
        yield


def _one_line(text: str) -> str:
    return redacted(" ".join(text.split()))
