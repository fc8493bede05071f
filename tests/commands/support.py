"""What the tests of the commands share: stored sagas, and the command as it is typed."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pymongo
import pymongo.collection
from attrs import frozen
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from click.testing import CliRunner, Result

from sagaflow import SagaId, Status
from sagaflow._codec.documents import encode_record
from sagaflow._model.record import (
    Failing,
    HistoryEntry,
    HistoryKind,
    OutgoingMessage,
    ParkedEvent,
    RecordedCompensation,
    SagaRecord,
    StoredMessage,
    Suspension,
    SuspensionReason,
    Timer,
    TimerKind,
)
from sagaflow.cli import main
from tests.contract.records import record as plain_record

LOAN = "tests.commands.sagas:Loan"
NOW = datetime.now(UTC).replace(microsecond=0)
AGO = NOW - timedelta(hours=2)
ERROR = "Traceback (most recent call last):\n  File ...\nOSError: the till is jammed"
GRANTED = StoredMessage(type="Granted", body={"number": "l-1"})


@frozen
class Stored:
    """A database with sagas in it, and the commands upon it."""

    uri: str
    database: str
    client: pymongo.MongoClient[dict[str, Any]]

    def put(self, *records: SagaRecord) -> None:
        """Store sagas."""
        for record in records:
            self._collection.insert_one(encode_record(record))

    def put_documents(self, *documents: dict[str, Any]) -> None:
        """Store what may be no sagas."""
        self._collection.insert_many(documents)

    def get(self, correlation_id: SagaId) -> dict[str, Any]:
        """Return a document."""
        found = self._collection.find_one({"_id": correlation_id})
        assert found is not None
        return found

    @property
    def _collection(self) -> pymongo.collection.Collection[dict[str, Any]]:
        options: CodecOptions[dict[str, Any]] = CodecOptions(
            uuid_representation=UuidRepresentation.STANDARD
        )
        return self.client[self.database].get_collection("Loan", codec_options=options)

    def run(self, *arguments: str, **given: Any) -> Result:
        """Run a command on this database."""
        environment = {"SAGAFLOW_MONGODB_URI": self.uri, "SAGAFLOW_DATABASE": self.database}
        return invoke(*arguments, env=environment, **given)


@contextmanager
def database(uri: str, client: pymongo.MongoClient[dict[str, Any]]) -> Generator[Stored]:
    """Yield an empty database."""
    name = f"test_{uuid4().hex}"
    yield Stored(uri, name, client)
    client.drop_database(name)


def invoke(*arguments: str, env: dict[str, str] | None = None, **given: Any) -> Result:
    """Run the command in this process."""
    environment = {"SAGAFLOW_MONGODB_URI": None, "SAGAFLOW_DATABASE": None, **(env or {})}
    return CliRunner().invoke(main, arguments, prog_name="sagaflow", env=environment, **given)


def good(result: Result) -> list[str]:
    """Check that a command did what it was asked to, and return what it printed."""
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output
    return result.stdout.splitlines()


def refused(result: Result) -> str:
    """Check that *result* is one error in one line, and return it."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    (line,) = result.output.splitlines()
    assert line.startswith("error: ")
    return line


def loan(correlation_id: SagaId = "l-1", **given: Any) -> SagaRecord:
    """Return a saga that holds something."""
    fields: dict[str, Any] = {
        "incarnation": "i-1",
        "version": 2,
        "token": "t-2",
        "state": "held",
        "data": {"number": "l-1", "amount": 7},
        "created_at": AGO,
        "updated_at": AGO + timedelta(minutes=1),
        "history": (
            past("Asked", "ask", None, "open", 1),
            past("Granted", "hold", "open", "held", 2),
        ),
        "compensations": (
            RecordedCompensation(
                id="2.1", step="hold", method="release", event=GRANTED, message_id="m-2"
            ),
        ),
    }
    return plain_record(correlation_id, **(fields | given))


def opened(correlation_id: SagaId = "l-2", **given: Any) -> SagaRecord:
    """Return a saga that waits, with a timeout."""
    timer = Timer(
        id="i-1-1-timer-1",
        name="late",
        due=NOW + timedelta(hours=3),
        kind=TimerKind.TIMEOUT,
        delay=timedelta(minutes=5),
        causation_id="m-1",
    )
    fields: dict[str, Any] = {
        "state": "open",
        "version": 1,
        "history": (past("Asked", "ask", None, "open", 1),),
        "compensations": (),
        "timers": (timer,),
        "wake": timer.due,
    }
    return loan(correlation_id, **(fields | given))


def failed_event(correlation_id: SagaId = "l-3", **given: Any) -> SagaRecord:
    """Return a saga that is suspended, since the handler of a parked event kept failing."""
    parked = ParkedEvent(
        id="m-9",
        message=GRANTED,
        parked_at=AGO,
        failing=Failing(attempts=7, since=AGO, due=AGO, error=ERROR),
    )
    suspension = Suspension(reason=SuspensionReason.HANDLER, subject="m-9", error=ERROR, since=AGO)
    fields: dict[str, Any] = {
        "status": Status.SUSPENDED,
        "suspension": suspension,
        "parked": (parked,),
        "wake": None,
    }
    return opened(correlation_id, **(fields | given))


def past(
    event: str,
    step: str,
    source: str | None,
    target: str,
    version: int,
    kind: HistoryKind = HistoryKind.EVENT,
) -> HistoryEntry:
    """Return what was done to make this version."""
    return HistoryEntry(
        at=AGO + timedelta(seconds=version),
        event=event,
        step=step,
        source=source,
        target=target,
        message_id=f"m-{version}",
        version=version,
        token=f"t-{version}",
        kind=kind,
    )


def outgoing(sequence: int, **given: Any) -> OutgoingMessage:
    """Return a message that waits to be sent."""
    fields: dict[str, Any] = {
        "id": f"i-1-{sequence}",
        "sequence": sequence,
        "kind": "command",
        "message": StoredMessage(type="Remind", body={"number": "l-1"}),
        "causation_id": "m-1",
        "created_at": AGO,
    }
    return OutgoingMessage(**(fields | given))
