"""The kit of the ops tests: a real PostgreSQL with a managed administrator, and a real S3 server."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import boto3
import paramiko
import pytest
from pydantic import SecretStr

from blueprint.keys import public_line
from blueprint.outputs import BucketKey, BucketOutput
from ops.core.errors import ToolError
from ops.repository.stores.folder import FolderStore
from ops.repository.stores.s3 import S3Store
from ops.sources.postgres.source import PostgresDatabase
from ops.sources.postgres.tools import Endpoint, find_tool
from ops.stack import ssh
from ops.stack.init import make_key
from sandbox.parts.authority import cache_folder
from tests.ops.pg_server import as_role, free_port, serving


@pytest.fixture(autouse=True)
def runtime(tmp_path_factory, monkeypatch):
    """Locks of this test alone, whatever runs beside it."""
    monkeypatch.setenv("ANCLA_RUNTIME", str(tmp_path_factory.mktemp("runtime")))


@pytest.fixture(scope="session", autouse=True)
def sessions_of_tests():
    """Give a session that a test opens the `search_path` of the database, as an app has it; ours have a fixed one."""
    real = Endpoint.connect

    def connect(self, **more):
        ours = f"{os.sep}tests{os.sep}" not in sys._getframe(1).f_code.co_filename
        return real(self, **({} if ours else {"own_search_path": True}) | more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Endpoint, "connect", connect)
        yield


@pytest.fixture(scope="session")
def cluster():
    """A PostgreSQL server of this machine's own version; see `tests.ops.pg_server.serving`."""
    try:
        initdb, postgres = find_tool("initdb", at_least="14"), find_tool("postgres", at_least="14")
        find_tool("pg_dump", at_least="14")
    except ToolError as error:
        pytest.skip(f"no PostgreSQL server programs: {error}")
    with serving(initdb, postgres) as endpoint:
        yield endpoint


@pytest.fixture
def admin(cluster):
    return as_role(cluster, "doadmin")


@pytest.fixture
def app(cluster):
    return as_role(cluster, "app")


SHOP = """
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TABLE customers (
    id bigserial PRIMARY KEY, name text NOT NULL, feels mood DEFAULT 'glad', data jsonb, at timestamptz
);
CREATE TABLE orders (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), customer bigint REFERENCES customers, total numeric(10,2), note bytea
);
CREATE TABLE events (day date NOT NULL, n int) PARTITION BY RANGE (day);
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE "Odd name; x" ("x" int, "ancla:row" text);
CREATE TABLE empty (a int);
CREATE TABLE audit.log (line text);
CREATE VIEW totals AS SELECT customer, sum(total) FROM orders GROUP BY 1;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM customers;
CREATE FUNCTION answer() RETURNS int LANGUAGE sql AS 'SELECT 42';
CREATE INDEX ON orders (customer);
INSERT INTO customers (name, data, at)
    SELECT 'n' || i, jsonb_build_object('i', i), now() - i * interval '1 hour' FROM generate_series(1, 500) i;
INSERT INTO orders (customer, total, note)
    SELECT 1 + i % 500, i / 7.0, decode(md5(i::text), 'hex') FROM generate_series(1, 3000) i;
INSERT INTO events SELECT '2026-01-01'::date + i % 300, i FROM generate_series(1, 1000) i;
INSERT INTO "Odd name; x" VALUES (1, 'a'), (2, NULL);
INSERT INTO audit.log SELECT repeat('log ', i) FROM generate_series(1, 50) i;
SELECT lo_from_bytea(0, '\\x00ff00ff');
GRANT SELECT ON customers TO reporting;
"""


TEMPLATE = "template_of_shop"


@pytest.fixture
def shop_template(cluster, admin, app):
    """The database of `shop`, made once on each server; each test gets a copy of its files."""
    with admin.connect() as connection:
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", [TEMPLATE]).fetchone() is not None:
            return TEMPLATE
        connection.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'")
    with admin.on(TEMPLATE).connect() as connection:
        connection.execute("GRANT USAGE, CREATE ON SCHEMA public TO app")
        connection.execute("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT ON TABLES TO app")
        connection.execute("CREATE SCHEMA audit")
        connection.execute("GRANT USAGE, CREATE ON SCHEMA audit TO app")
        connection.execute("GRANT USAGE ON SCHEMA audit TO reporting")
    with app.on(TEMPLATE).connect() as connection:
        connection.execute("SET search_path TO public")
        connection.execute(SHOP)
    return TEMPLATE


def _copied(admin, template, name):
    """Copy the template, with the settings of a database, which a copy of it does not get."""
    with admin.connect() as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        connection.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
        connection.execute(f"GRANT CONNECT, TEMPORARY ON DATABASE {name} TO app")
        connection.execute(f"ALTER DATABASE {name} SET search_path TO public, audit")


def _dropped(cluster):
    with cluster.connect() as connection:
        names = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'shop%'").fetchall()
        for (found,) in names:
            connection.execute(f'DROP DATABASE "{found}" WITH (FORCE)')


@pytest.fixture
def shop(cluster, admin, shop_template):
    """A database `shop` owned by doadmin whose objects the app made, as after a deploy. Yields its name."""
    _copied(admin, shop_template, "shop")
    yield "shop"
    _dropped(cluster)


@pytest.fixture
def source(app, shop):
    return PostgresDatabase(endpoint=app.on(shop))


def cached_gateway():
    """The one that tools/ built for the sandbox."""
    return next(iter(sorted(map(str, cache_folder().glob("tools/versitygw-*/versitygw")), reverse=True)), None)


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory):
    """A real S3 server: versitygw with real signatures where it is installed, else moto's server."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    gateway = os.environ.get("ANCLA_VERSITYGW") or shutil.which("versitygw") or cached_gateway()
    if gateway:
        root = tmp_path_factory.mktemp("s3")
        command = [
            gateway,
            "--port",
            f"127.0.0.1:{port}",
            "--quiet",
            "posix",
            "--sidecar",
            tmp_path_factory.mktemp("meta"),
            root,
        ]
        environment = {**os.environ, "ROOT_ACCESS_KEY": "AKIATEST", "ROOT_SECRET_KEY": "secret-of-the-test"}
    else:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        environment = dict(os.environ)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, "the S3 server ended"
                assert time.monotonic() < deadline, "the S3 server does not listen"
                time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=60)


KEY = BucketKey(access_key="AKIATEST", secret_key=SecretStr("secret-of-the-test"))


@pytest.fixture
def bucket(s3_endpoint, request):
    """A new bucket's output, with a prefix."""
    name = f"backups-{uuid4().hex[:12]}"
    client = boto3.client(
        "s3",
        endpoint_url=s3_endpoint,
        region_name="us-east-1",
        aws_access_key_id=KEY.access_key,
        aws_secret_access_key=KEY.secret_key.get_secret_value(),
    )
    client.create_bucket(Bucket=name)
    return BucketOutput(name=name, region="us-east-1", endpoint=s3_endpoint, prefix="staging")


@pytest.fixture
def s3(bucket):
    return S3Store(bucket, KEY)


@pytest.fixture
def folder(tmp_path: Path):
    return FolderStore(tmp_path / "store")


@pytest.fixture
def key():
    return KEY


class Machine(paramiko.ServerInterface):
    """A login that runs what it is told, here, and forwards ports: enough of sshd to try OpenSSH's client on."""

    def __init__(self, transport, allowed):
        self._transport, self._allowed, self._destinations = transport, allowed, {}

    def get_allowed_auths(self, username):
        return "publickey"

    def check_auth_publickey(self, username, key):
        fits = username == "deploy" and key.get_base64() == self._allowed
        return paramiko.AUTH_SUCCESSFUL if fits else paramiko.AUTH_FAILED

    def check_channel_request(self, kind, channel_id):
        return paramiko.OPEN_SUCCEEDED

    def check_channel_direct_tcpip_request(self, channel_id, origin, destination):
        self._destinations[channel_id] = destination
        return paramiko.OPEN_SUCCEEDED

    def forward(self):
        """Carry each tunnelled connection to where it was sent, until the login ends."""
        while self._transport.is_active():
            channel = self._transport.accept(0.2)
            if channel is not None and channel.get_id() in self._destinations:
                destination = self._destinations.pop(channel.get_id())
                threading.Thread(target=_pump, args=(channel, destination), daemon=True).start()

    def check_channel_exec_request(self, channel, command):
        def work():
            stdin = b"".join(iter(lambda: channel.recv(65536), b""))
            done = subprocess.run(command.decode(), shell=True, input=stdin, capture_output=True, check=False)
            channel.sendall(done.stdout)
            channel.sendall_stderr(done.stderr)
            channel.send_exit_status(done.returncode)
            channel.close()

        threading.Thread(target=work, daemon=True).start()
        return True


def _pump(channel, destination):
    with suppress(OSError, EOFError), closing(socket.create_connection(destination)) as there:
        back = threading.Thread(target=_copy, args=(there.recv, channel.sendall), daemon=True)
        back.start()
        _copy(channel.recv, there.sendall)
        there.shutdown(socket.SHUT_WR)
        back.join()
    with suppress(OSError, EOFError):
        channel.close()


def _copy(read, write):
    with suppress(OSError, EOFError):  # the other side went away
        while block := read(65536):
            write(block)


@contextmanager
def login_server():
    """A machine that answers ssh, and what it needs to be logged in to: `target`, the keys, and what it saw."""
    host_key, deploy_key = make_key(), make_key()
    host = paramiko.Ed25519Key.from_private_key(io.StringIO(host_key.get_secret_value()))
    allowed = public_line(deploy_key).split()[1]
    listener = socket.create_server(("127.0.0.1", 0))
    transports = []

    def login(connection):
        transport = paramiko.Transport(connection)
        transports.append(transport)
        transport.add_server_key(host)
        server = Machine(transport, allowed)
        with suppress(EOFError, OSError, paramiko.SSHException):  # the client did not like our host key, or went away
            transport.start_server(server=server)
            server.forward()

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            # on its own: a client that is slow, or that breaks off, keeps no other one from being answered
            threading.Thread(target=login, args=(connection,), daemon=True).start()

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    target = ssh.SshTarget(
        address="127.0.0.1",
        port=listener.getsockname()[1],
        host_key=public_line(host_key),
        deploy_key=deploy_key,
    )
    yield SimpleNamespace(target=target, transports=transports)
    # `close` alone does not wake `accept`: the socket would go on listening, with this test's host key, and answer the
    # clients of a later test that was given the same port.
    listener.shutdown(socket.SHUT_RDWR)
    server.join(timeout=10)
    listener.close()
    assert not server.is_alive()
    for transport in transports:
        transport.close()


@pytest.fixture
def machine():
    with login_server() as server:
        yield server


@pytest.fixture
def target(machine):
    return machine.target
