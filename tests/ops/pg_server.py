"""A real PostgreSQL server of any version whose programs are here, as the tests of ops want it."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from ops.sources.postgres import scratch_server as scratch_postgres
from ops.sources.postgres.tools import Endpoint, Tool

CANARY = "c4n4ry:pa\\ss'word"
"""A password with what passfiles and SQL must quote."""


def certificate(folder: Path) -> str:
    """Make a certificate for `localhost` that is its own authority; returns it as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(Encoding.PEM).decode()
    (folder / "server.crt").write_text(pem)
    (folder / "server.key").touch(mode=0o600)
    (folder / "server.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return pem


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def as_role(server: Endpoint, name: str) -> Endpoint:
    """The way of `doadmin` or `app` to a server of the kit."""
    return replace(server, user=name, password=SecretStr(CANARY))


@contextmanager
def serving(initdb: Tool, postgres: Tool, *, tls: bool = True, **settings: str) -> Generator[Endpoint]:
    """Run a PostgreSQL server with `doadmin`, who is no superuser, and `app`, as at DigitalOcean.

    Yields the superuser's endpoint. `settings` are the server's.
    """
    password = SecretStr("superuser")
    with tempfile.TemporaryDirectory(prefix="ancla-test-") as name:
        folder = Path(name)
        pem = certificate(folder)
        scratch_postgres._initialize(initdb, folder, scratch_postgres._account(), password)
        endpoint = Endpoint(
            host="localhost",
            hostaddr="127.0.0.1",
            port=free_port(),
            user=scratch_postgres.SUPERUSER,
            password=password,
            database="postgres",
            ca_certificate=pem if tls else None,
        )
        with started(postgres, folder, endpoint, **settings):
            with endpoint.connect() as connection:
                quoted = CANARY.replace("'", "''")
                connection.execute(f"CREATE ROLE doadmin LOGIN CREATEDB CREATEROLE BYPASSRLS PASSWORD '{quoted}'")
                connection.execute(f"CREATE ROLE app LOGIN PASSWORD '{quoted}'")
                connection.execute("CREATE ROLE reporting NOLOGIN")
            yield endpoint


@contextmanager
def started(postgres: Tool, folder: Path, endpoint: Endpoint, **settings: str) -> Generator[None]:
    """Run the server whose data and certificate are in `folder`; `endpoint` is its superuser's, with TLS or without."""
    account = scratch_postgres._account()
    if account is not None:
        for path in folder.rglob("*"):
            os.chown(path, account.pw_uid, account.pw_gid)
    options = {
        "listen_addresses": "127.0.0.1",
        "port": endpoint.port,
        "ssl": "on" if endpoint.ca_certificate else "off",
        "ssl_cert_file": folder / "server.crt",
        "ssl_key_file": folder / "server.key",
        "fsync": "off",
        "autovacuum": "off",  # it writes when it likes, into what a test says was not touched
        **settings,
    }
    arguments = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
    command = [*scratch_postgres._as(account, dies_with_us=True), postgres.path, "-D", folder / "data", "-k", folder]
    with (folder / "log").open("wb") as log:
        own = scratch_postgres.bare_environment(folder)
        process = subprocess.Popen([*command, *arguments], cwd=folder, env=own, stdout=log, stderr=log)
    try:
        scratch_postgres._wait(endpoint, process, folder / "log")
        yield
    finally:
        scratch_postgres._stop(process)
