"""Open sessions of PostgreSQL and run its programs, whose address is passed by environment and files, never by argv.

`Endpoint.connect` is the only place that opens a session.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, LiteralString

import psycopg
from pydantic import SecretStr

from ops.core.errors import DatabaseError, DatabaseLostError, DatabaseUnreachableError, RestoreError, ToolError
from ops.core.workdir import private_folder

CONNECT_SECONDS = 20
SHUTDOWN = ("57P01", "57P02", "57P03")
"""Codes of a server that is going down, has crashed, or comes up."""
DEBIAN_BINARIES = "/usr/lib/postgresql"
SESSION_PID = "SELECT pg_catalog.pg_backend_pid()"
Connection = psycopg.Connection[tuple[Any, ...]]

PINNED: LiteralString = "SET search_path = pg_catalog, pg_temp"
"""Prevents our sessions from finding a user's function or operator by its bare name, whatever the database's path."""

_TIMEOUTS: LiteralString = """
SELECT name FROM pg_catalog.pg_settings
WHERE name ~ '_timeout$' AND name !~ '^wal_|[.]' AND context = 'user' AND setting <> '0' ORDER BY 1
"""

_KEPT = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
"""Environment variables that pg_dump and pg_restore get; ours also has tokens and passphrases."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Address and credentials of one database as one role.

    `host` is the name in the certificate, or the folder of a unix socket; `hostaddr` the address to connect to if it
    differs (a tunnel's end). With `ca_certificate` (PEM) the server's name and certificate are verified;
    without one the connection must be encrypted, unless `host` is this computer or `sslmode` is set.
    """

    host: str
    port: int
    user: str
    password: SecretStr = field(repr=False)
    database: str
    hostaddr: str | None = None
    ca_certificate: str | None = field(default=None, repr=False)
    sslmode: Literal["disable", "prefer", "require"] | None = None

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}/{self.database}"

    def on(self, database: str) -> Endpoint:
        """Return the endpoint of another database of the same server."""
        return replace(self, database=database)

    @property
    def ssl(self) -> str:
        """Return the sslmode of libpq."""
        if self.ca_certificate is not None:
            return "verify-full"
        return self.sslmode or ("prefer" if _is_local(self.host) else "require")

    @contextmanager
    def environment(self) -> Generator[dict[str, str]]:
        """Yield the variables that libpq reads; the password is in a file of mode 0600, removed after the block."""
        with private_folder() as folder:
            secret = self.password.get_secret_value().replace("\\", "\\\\").replace(":", "\\:")
            passfile = folder / "pgpass"
            passfile.touch(mode=0o600)
            passfile.write_text(f"*:*:*:*:{secret}\n")
            variables = {
                "PGHOST": self.host,
                "PGPORT": str(self.port),
                "PGUSER": self.user,
                "PGDATABASE": self.database,
                "PGPASSFILE": str(passfile),
                "PGCONNECT_TIMEOUT": str(CONNECT_SECONDS),
                "PGAPPNAME": "ancla",
                "PGSSLMODE": self.ssl,
            }
            if self.hostaddr is not None:
                variables["PGHOSTADDR"] = self.hostaddr
            if self.ca_certificate is not None:
                certificate = folder / "ca.pem"
                certificate.write_text(self.ca_certificate)
                variables["PGSSLROOTCERT"] = str(certificate)
            yield {name: os.environ[name] for name in _KEPT if name in os.environ} | variables

    @contextmanager
    def session_environment(self, settings: Mapping[str, str] | None = None) -> Generator[dict[str, str]]:
        """Yield `environment` for a program that opens sessions: no timeout of the database or the role ends them.

        Args:
            settings: further settings of these sessions, without spaces.

        Raises:
            DatabaseError: the server's timeouts cannot be read.
        """
        with self.connect() as connection:
            off = dict.fromkeys(timeouts(connection), "0")
        with self.environment() as variables:
            options = " ".join(f"-c {name}={value}" for name, value in {**off, **(settings or {})}.items())
            yield {**variables, "PGOPTIONS": options}

    @contextmanager
    def connect(
        self, *, autocommit: bool = True, read_only: bool = False, own_search_path: bool = False
    ) -> Generator[Connection]:
        """Open a session with a fixed `search_path`.

        Args:
            autocommit: each statement is a transaction.
            read_only: refuse whatever writes.
            own_search_path: keep the path set by the database or the role, for statements that others wrote.

        Raises:
            DatabaseUnreachableError: no answer, a wrong password, an unverified certificate, or no such database.
            DatabaseError: the server refused a statement of the block, or the connection broke.
            SpoolError: there is no temporary folder for the certificate.
        """
        with self._authority() as certificate:
            try:
                connection = psycopg.connect(
                    host=self.host,
                    hostaddr=self.hostaddr or "",
                    port=self.port,
                    user=self.user,
                    password=self.password.get_secret_value(),
                    dbname=self.database,
                    sslmode=self.ssl,
                    sslrootcert=certificate,
                    connect_timeout=CONNECT_SECONDS,
                    application_name="ancla",
                    client_encoding="UTF8",  # text of a SQL_ASCII database would otherwise come as bytes
                    autocommit=True,
                )
            except psycopg.Error as error:
                text = one_line(error)
                if "password authentication" in text:
                    text += "; the outputs have another one: run `pulumi up --refresh`"
                raise DatabaseUnreachableError(f"{self}: {text}") from None
            try:
                with connection:  # inside: a query is cancelled by a new connection, which needs the certificate again
                    if not own_search_path:
                        connection.execute(PINNED)
                    # not by the parameter `options`: old poolers refuse that with their own message
                    connection.execute(f"SET default_transaction_read_only = {'on' if read_only else 'off'}".encode())
                    connection.autocommit = autocommit
                    yield connection
            except psycopg.Error as error:
                kind = DatabaseLostError if _is_lost(error) else DatabaseError
                raise kind(f"{self}: {one_line(error)}") from None

    @contextmanager
    def _authority(self) -> Generator[str]:
        """Yield the path of the certificate in a file; an empty text without one."""
        if self.ca_certificate is None:
            yield ""
            return
        with private_folder() as folder:
            path = folder / "ca.pem"
            path.write_text(self.ca_certificate)
            yield str(path)


def _is_local(host: str) -> bool:
    """Return True if `host` is a socket's folder or the loopback interface."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.startswith("/") or host == "localhost"


def timeouts(connection: Connection) -> list[str]:
    """Return the names of the timeouts active in this session, whatever the server's release."""
    return [name for (name,) in connection.execute(_TIMEOUTS).fetchall()]


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A program of PostgreSQL and its version."""

    path: Path
    version: str

    @property
    def major(self) -> int:
        """Return the major version, such as 15."""
        return numbers(self.version)[0]


def numbers(version: str) -> tuple[int, ...]:
    """Return a version such as 15.20 as numbers for comparison."""
    return tuple(int(part) for part in version.split("."))


def find_tool(name: str, *, at_least: str) -> Tool:
    """Find the program of the lowest major version of `at_least` this one: archives of a newer one may not load.

    The minor version counts too. A server's catalogue may contain things that only the programs of its own release
    leave out of a dump: 15.20 has column options that a pg_dump 15.18 writes and a server 15.18 refuses.

    Raises:
        ToolError: there is none; the message says what to install.
    """
    found = _tools(name)
    fitting = [tool for tool in found if numbers(tool.version) >= numbers(at_least)]
    if not fitting:
        have = f"found {', '.join(sorted({tool.version for tool in found}))}" if found else "not found"
        major = at_least.partition(".")[0]
        package = "postgresql" if name in ("postgres", "initdb") else "postgresql-client"
        raise ToolError(
            f"{name}: {have}, the server is PostgreSQL {at_least}; "
            f"run `apt-get install {package}-{major}` (from apt.postgresql.org where the system has no such package)"
        )
    lowest = min(tool.major for tool in fitting)
    return max((tool for tool in fitting if tool.major == lowest), key=lambda tool: numbers(tool.version))


@cache
def _tools(name: str) -> tuple[Tool, ...]:
    # /usr/bin/pg_dump of Debian is a wrapper that picks a version by its own rules: the real ones first
    candidates = [*sorted(Path(DEBIAN_BINARIES).glob(f"*/bin/{name}"))]
    on_path = shutil.which(name)
    if on_path is not None:
        candidates.append(Path(on_path))
    tools: list[Tool] = []
    for path in candidates:
        try:
            text = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
        except OSError:
            continue
        match = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)*)", text)
        if match:
            tools.append(Tool(path=path, version=match[1]))
    return tuple(tools)


def run_tool(
    tool: Tool, arguments: list[str], variables: Mapping[str, str], *, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; the caller reads `returncode` and `stderr`."""
    return subprocess.run(
        [*with_parent_death_signal(), tool.path, *arguments],
        env=dict(variables) | {"LC_MESSAGES": "C"},
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def watch_tool(
    tool: Tool, arguments: list[str], variables: Mapping[str, str], on_line: Callable[[str], None]
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end as `run_tool` does, and pass on each line of its stderr as it is written."""
    lines: list[str] = []
    with subprocess.Popen(
        [*with_parent_death_signal(), tool.path, *arguments],
        env=dict(variables) | {"LC_MESSAGES": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        try:
            for line in process.stderr or ():
                lines.append(line)
                on_line(line)
        except BaseException:  # on an interrupt, do not wait for the rest
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, "", "".join(lines))


def with_parent_death_signal() -> list[str]:
    """Return a command prefix that terminates the program if we are killed: on TERM it cancels its queries."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig=TERM", "--"] if setpriv else []


def script(
    tool: Tool, archive: Path, lines: Iterable[str], options: Sequence[str], variables: Mapping[str, str]
) -> str:
    """Return the SQL of some lines of an archive's list, from pg_restore (`tool`).

    Raises:
        RestoreError: it cannot read the archive.
    """
    with private_folder() as temporary:
        chosen = temporary / "list"
        chosen.write_text("".join(f"{line}\n" for line in lines))
        done = run_tool(tool, [*options, f"--use-list={chosen}", "--file=-", str(archive)], variables)
    if done.returncode != 0:
        raise RestoreError(f"the dump cannot be listed: {one_line(done.stderr)[-300:]}")
    return done.stdout


def _is_lost(error: psycopg.Error) -> bool:
    """Return True if the server, or the way to it, went away: in what it says there, or in libpq's own message."""
    code = error.sqlstate
    return code[:2] == "08" or code in SHUTDOWN if code else isinstance(error, psycopg.OperationalError)


def one_line(error: BaseException | str) -> str:
    """Return a message of libpq or of a tool as one line."""
    return " ".join(str(error).split())


def tool_message(stderr: str) -> str:
    """Return the line of a tool's output that describes the failure."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    telling = [line for line in lines if "error:" in line or "FATAL" in line or "ERROR" in line]
    return one_line((telling or lines or ["no message"])[0])
