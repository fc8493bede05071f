"""The participant: carries out commands once for each id, and answers until it is heard."""

from __future__ import annotations

import json
import random
import socketserver
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

from tests.chaos.plan import WORKERS, Fate, Plan
from tests.chaos.wire import LEDGER, Paper, Sender, participant_socket

_SENDERS: Final = 4


class Participant:
    """Commands in, answers out; all of it on paper first.

    :param path: the directory of the run.
    """

    def __init__(self, path: Path, plan: Plan, life: int) -> None:
        self._path = path
        self._fates = {errand.id: errand.fate for errand in plan.errands}
        self._chance = random.Random(f"participant {plan.seed} {life}")
        self._paper = Paper(path / "ledger.db", LEDGER)
        self._sender = Sender(path, self._paper, WORKERS)
        self._waiting = deque(
            (message, json.loads(said))
            for message, said in self._paper.read(
                "SELECT message, said FROM answers WHERE message NOT IN "
                "(SELECT message FROM accepted)"
            )
        )
        self._changed = threading.Condition()

    def serve(self) -> None:
        """Work until killed."""
        for _ in range(_SENDERS):
            threading.Thread(target=self._send, daemon=True).start()
        participant = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for line in self.rfile:
                    participant.take(json.loads(line))
                    self.wfile.write(b'{"ok": true}\n')

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Whoever has called is gone."""

        where = participant_socket(self._path)
        where.unlink(missing_ok=True)
        with Server(str(where), Handler) as server:
            server.serve_forever()

    def take(self, said: dict[str, Any]) -> None:
        """Carry a command out, if it has not been; return once that is durable."""
        message, command, fields = said["id"], said["command"], said["fields"]
        undoes = fields.get("charge") or fields.get("reservation")
        row = (message, fields["errand"], command, fields["number"], undoes)
        columns = "(message, errand, command, place, undoes)"
        statements: list[tuple[str, tuple[object, ...]]] = [
            (f"INSERT INTO deliveries {columns} VALUES (?, ?, ?, ?, ?)", row),  # noqa: S608
            (f"INSERT OR IGNORE INTO effects {columns} VALUES (?, ?, ?, ?, ?)", row),  # noqa: S608
        ]
        answer = self._answer(message, command, fields["errand"])
        if answer is not None:
            to_be_sent = (answer["id"], json.dumps(answer))
            statements.append(("INSERT OR IGNORE INTO answers VALUES (?, ?)", to_be_sent))
        self._paper.note(*statements)
        if answer is not None:
            # Once more if the command has come once more: the saga knows the id of the answer.
            with self._changed:
                self._waiting.append((answer["id"], answer))
                self._changed.notify()

    def _answer(self, message: str, command: str, errand: str) -> dict[str, Any] | None:
        fate = self._fates[errand]
        event: str
        fields: dict[str, object] = {"errand": errand}
        match command:
            case "Charge":
                event, fields["charge"] = "Charged", message
            case "Reserve" if fate is Fate.REFUSED:
                event = "Refused"
            case "Reserve":
                event, fields["reservation"] = "Reserved", message
            case "Deliver" if fate is not Fate.OVERDUE:
                event = "Delivered"
            case _:
                return None
        return {"id": f"answer to {message}", "event": event, "fields": fields}

    def _send(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                message, said = self._waiting.popleft()
                count = 2 if self._chance.random() < 0.2 else 1
                to = self._chance.sample(range(WORKERS), count)
            if not self._sender.deliver(said, said["fields"]["errand"], to):
                time.sleep(0.01)
                with self._changed:
                    self._waiting.append((message, said))
                    self._changed.notify()
