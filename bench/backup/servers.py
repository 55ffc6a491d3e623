"""The servers of a run, made for it and thrown away: PostgreSQL, S3, and the proxy that holds connections."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import psycopg
from botocore.config import Config

SUPERUSER = "bench"
START_SECONDS = 60

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "ssl": "on",
    "shared_buffers": "512MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "autovacuum": "off",  # it would start in the middle of somebody's run
    "jit": "off",
    "archive_mode": "on",
}
"""Durable as in production (fsync, full_page_writes and synchronous_commit are on); the same for every tool."""


class MissingError(Exception):
    """Something that the run cannot do without is not on this machine."""


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """A running server. `folder` holds its socket; `binaries` its programs; `archive_flag` turns archiving on."""

    folder: Path
    binaries: Path
    port: int
    pid: int
    version: str
    password: str = field(repr=False)
    certificate: Path
    account: pwd.struct_passwd | None

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """Connect as the superuser, by the socket."""
        return psycopg.connect(host=str(self.folder), port=self.port, user=SUPERUSER, dbname=database, autocommit=True)

    def settle(self) -> None:
        """Write out what earlier work left, so that nobody pays for another's dirty pages."""
        with self.connect() as connection:
            connection.execute("CHECKPOINT")
        os.sync()


@dataclass(frozen=True, kw_only=True)
class S3:
    """A running S3 server over a folder."""

    endpoint: str
    root: Path
    sidecar: Path
    log: Path
    pid: int
    access_key: str
    secret_key: str = field(repr=False)

    def make_bucket(self, name: str, certificate: Path | None = None) -> Path:
        """Make an empty bucket; returns the folder where its objects are."""
        boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            verify=str(certificate) if certificate else None,
            config=Config(s3={"addressing_style": "path"}),
        ).create_bucket(Bucket=name)
        return self.root / name

    def drop_bucket(self, name: str) -> None:
        """Remove a bucket and what is in it, behind the server's back: thousands of requests would take long."""
        for parent in (self.root, self.sidecar):
            shutil.rmtree(parent / name, ignore_errors=True)

    def requests(self) -> int:
        """Return how many requests its access log has."""
        with self.log.open("rb") as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for localhost that is its own authority; returns (certificate, key)."""
    pem, key = folder / "localhost.crt", folder / "localhost.key"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(pem)], check=True, capture_output=True)
    return pem, key


@contextmanager
def postgres(work: Path, major: int, pem: Path, key: Path, archive_command: str) -> Generator[Postgres]:
    """Run a new server of `major` in `work`/pg.

    Raises:
        MissingError: its programs are not here.
    """
    binaries = Path(f"/usr/lib/postgresql/{major}/bin")
    if not (binaries / "initdb").exists():
        raise MissingError(f"PostgreSQL {major}: not installed; run `apt-get install postgresql-{major}`")
    account = next((user for user in pwd.getpwall() if user.pw_name == "postgres"), None) if os.geteuid() == 0 else None
    if os.geteuid() == 0 and account is None:
        raise MissingError("postgres: no such user, and PostgreSQL does not run as root: make one")
    folder, password, port = work / "pg", secrets.token_urlsafe(18), free_port()
    folder.mkdir()
    passfile = folder / "password"
    passfile.write_text(password)
    shutil.copy(pem, folder / "server.crt")
    shutil.copy(key, folder / "server.key")
    (folder / "server.key").chmod(0o600)
    if account is not None:
        for path in (folder, *folder.iterdir()):
            os.chown(path, account.pw_uid, account.pw_gid)
    arguments = ["-D", folder / "data", "-U", SUPERUSER, "--auth-host=scram-sha-256", "--auth-local=trust"]
    arguments += [f"--pwfile={passfile}", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
    environment = {"PATH": f"{binaries}:{os.environ['PATH']}", "LC_ALL": "C"}
    subprocess.run([*as_account(account), binaries / "initdb", *arguments], check=True, env=environment, cwd=folder,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    passfile.unlink()
    settings = SETTINGS | {
        "port": str(port),
        "ssl_cert_file": str(folder / "server.crt"),
        "ssl_key_file": str(folder / "server.key"),
        "archive_command": archive_command,
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log, _running(
        [str(binaries / "postgres"), "-D", str(folder / "data"), "-k", str(folder), *options],
        environment, log=log.fileno(), stop=signal.SIGQUIT, account=account,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                with psycopg.connect(host=str(folder), port=port, user=SUPERUSER, dbname="postgres") as connection:
                    number = connection.info.server_version
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise MissingError(f"PostgreSQL does not start: {(folder / 'log').read_text()[-300:]}")
            time.sleep(0.1)
        yield Postgres(
            folder=folder,
            binaries=binaries,
            port=port,
            pid=process.pid,
            version=f"{number // 10000}.{number % 10000}",
            password=password,
            certificate=pem,
            account=account,
        )


@contextmanager
def s3(work: Path, name: str, tls: tuple[Path, Path] | None = None) -> Generator[S3]:
    """Run versitygw over `work`/`name`; with `tls` (certificate, key) it speaks HTTPS.

    Raises:
        MissingError: versitygw is not here.
    """
    cache = Path(os.environ.get("ANCLA_CACHE", Path.home() / ".cache" / "ancla"))
    built = sorted(map(str, cache.glob("tools/versitygw-*/versitygw")), reverse=True)
    program = shutil.which("versitygw") or next(iter(built), None)
    if program is None:
        raise MissingError("versitygw: not found; `make bench` builds it (or `tools/run true`, once)")
    folder, port = work / name, free_port()
    for part in ("objects", "sidecar"):
        (folder / part).mkdir(parents=True)
    access, secret, log = "AKIABENCH", secrets.token_urlsafe(18), folder / "access.log"
    log.touch()
    flags = ["--cert", str(tls[0]), "--key", str(tls[1])] if tls else []
    command = [program, "--port", f"127.0.0.1:{port}", "--quiet", "--keep-alive", "--access-log", str(log)]
    command += [*flags, "posix", "--sidecar", str(folder / "sidecar"), str(folder / "objects")]
    environment = {**os.environ, "ROOT_ACCESS_KEY": access, "ROOT_SECRET_KEY": secret}
    with _running(command, environment) as process:
        wait_for_port(port, process)
        yield S3(
            endpoint=f"{'https://localhost' if tls else 'http://127.0.0.1'}:{port}",
            root=folder / "objects",
            sidecar=folder / "sidecar",
            log=log,
            pid=process.pid,
            access_key=access,
            secret_key=secret,
        )


@contextmanager
def held_connections(to_port: int, rate: int) -> Generator[tuple[int, int]]:
    """Run the proxy before `to_port`; yields (port, process id)."""
    port = free_port()
    command = [sys.executable, "-m", "bench.backup.held", str(port), str(to_port), str(rate)]
    with _running(command, dict(os.environ)) as process:
        wait_for_port(port, process)
        yield port, process.pid


def as_account(account: pwd.struct_passwd | None) -> list[str]:
    """Return what goes before a command so that it runs as `account`."""
    return ["setpriv", *_become(account), "--"] if account is not None else []


def _become(account: pwd.struct_passwd | None) -> list[str]:
    return [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"] if account is not None else []


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until something listens.

    Raises:
        MissingError: the process ended, or took too long.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise MissingError(f"{process.args}: does not listen on port {port}")
        time.sleep(0.05)


@contextmanager
def _running(
    command: list[str],
    environment: dict[str, str],
    *,
    log: int = subprocess.DEVNULL,
    stop: signal.Signals = signal.SIGTERM,
    account: pwd.struct_passwd | None = None,
) -> Generator[subprocess.Popen[bytes]]:
    dies_with_us = ["setpriv", f"--pdeathsig={stop.name.removeprefix('SIG')}"]  # also after a kill -9 of ours
    process = subprocess.Popen(
        [*dies_with_us, *_become(account), "--", *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
