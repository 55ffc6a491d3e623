"""A scratch PostgreSQL over files that pgBackRest has restored: a socket in a private folder, nothing else.

A physical copy brings the live server's settings along, and would act by them: archive into the live repository, follow
the live primary, use up a publisher's slot, run what is preloaded. So the copy gets configuration files of its own, and
what `ALTER SYSTEM` left in the data folder is overruled on the command line, which has the last word.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from ops.core.errors import SourceError, ToolError
from ops.pgbackrest.driver import Pgbackrest, as_account
from ops.sources.postgres.scratch_server import bare_environment
from ops.sources.postgres.tools import Endpoint, Tool, find_tool

SOCKET_LENGTH = 90
"""A socket's path may have 107 bytes; its name takes some of them."""

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": "5432",
    "ssl": "off",
    "cluster_name": "ancla-drill",
    "external_pid_file": "",
    # nothing of the live server's doing
    "archive_mode": "off",
    "archive_command": "",
    "archive_cleanup_command": "",
    "recovery_end_command": "",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "synchronous_standby_names": "",
    "max_logical_replication_workers": "0",
    "shared_preload_libraries": "",
    "session_preload_libraries": "",
    "local_preload_libraries": "",
    "autovacuum": "off",
    # opened only when the replay is done; limits of the primary are not needed until then
    "hot_standby": "off",
    # to be thrown away
    "fsync": "off",
    "synchronous_commit": "off",
    "shared_buffers": "128MB",
    "huge_pages": "off",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_timezone": "UTC",
    "client_encoding": "UTF8",  # of a SQL_ASCII database, text would come as bytes
    "default_transaction_read_only": "off",
}
_OF_PGBACKREST = ("PGBACKREST_", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE")
_LIMITS = {"max_connections": 100, "max_prepared_transactions": 0, "max_locks_per_transaction": 64}
_CONTROL = {
    "max_connections": "max_connections setting",
    "max_prepared_transactions": "max_prepared_xacts setting",
    "max_locks_per_transaction": "max_locks_per_xact setting",
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """A private folder of the server's account: `data` is restored into, tablespaces go beside it."""

    folder: Path

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / "data"

    @property
    def tablespaces(self) -> Path:
        """Where every tablespace goes: never to the live one's place, which is in the backup by its path."""
        return self.folder / "tablespaces"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.folder / "log"

    def why(self) -> str:
        """Return what the server's log says went wrong; its last line when nothing does."""
        said = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        lines = [
            line for line in said if "the database system is " not in line
        ]  # its answer to our own attempts to connect
        telling = [line for line in lines if "FATAL:" in line or "PANIC:" in line or "ERROR: [" in line]
        return (telling or lines or ["no message"])[-1]


def scratch_place(pgbackrest: Pgbackrest, parent: Path) -> Place:
    """Make a place in a drill's own folder, with which it is removed.

    Raises:
        ToolError: the path is too long for a socket, or the folder is not usable.
    """
    place = Place(folder=parent / "copy")
    if len(str(place.folder)) > SOCKET_LENGTH:
        raise ToolError(f"{place.folder}: too long a path for a socket; give --spool a short one, such as /tmp")
    try:
        for path in (place.folder, place.data, place.tablespaces):
            path.mkdir(mode=0o700)
        for file, text in {"postgresql.conf": "", "pg_ident.conf": "", "pg_hba.conf": "local all all trust\n"}.items():
            (place.folder / file).write_text(text)  # who may enter the folder may read the data in it
        place.log.touch()
        if pgbackrest.account is not None:
            for path in (place.folder, *place.folder.iterdir()):
                os.chown(path, pgbackrest.account.pw_uid, pgbackrest.account.pw_gid)
    except OSError as error:
        raise ToolError(f"{parent}: cannot be used for the restore: {error.strerror}; give --spool") from None
    return place


def exact_tool(name: str, version: str) -> Tool:
    """Find a program of this very major version: another one does not open the files.

    Raises:
        ToolError: it is not here.
    """
    major = version.partition(".")[0]
    tool = find_tool(name, at_least=major)
    if str(tool.major) != major:
        raise ToolError(
            f"{name}: found {tool.version}, the backup is of PostgreSQL {version}: install postgresql-{major}"
        )
    return tool


@contextmanager
def running(pgbackrest: Pgbackrest, place: Place, version: str, user: str, wait_seconds: float) -> Generator[Endpoint]:
    """Start a server over `place.data`, and yield its superuser's way in once recovery is done.

    Raises:
        SourceError: recovery failed, or took longer; the log's own line is in the message.
        ToolError: the server's programs are not here.
    """
    postgres = exact_tool("postgres", version)
    settings = SETTINGS | _limits(pgbackrest, place, version)
    own = {
        "config_file": place.folder / "postgresql.conf",
        "hba_file": place.folder / "pg_hba.conf",
        "ident_file": place.folder / "pg_ident.conf",
        "unix_socket_directories": place.folder,
    }
    options = [part for name, value in {**settings, **own}.items() for part in ("-c", f"{name}={value}")]
    with ExitStack() as stack:
        log = stack.enter_context(place.log.open("ab"))
        become = [part.replace("TERM", "QUIT") for part in pgbackrest.become()]  # QUIT: PostgreSQL's immediate shutdown
        process = subprocess.Popen(
            [*become, postgres.path, "-D", place.data, *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=place.folder,
            env=_environment(pgbackrest, place),
            start_new_session=True,  # Ctrl-C is for us; we end the server
        )
        stack.callback(_stop, process)
        endpoint = Endpoint(
            host=str(place.folder), port=5432, user=user, password=SecretStr("unused"), database="postgres"
        )
        _wait(endpoint, process, place, wait_seconds)
        yield endpoint


def _environment(pgbackrest: Pgbackrest, place: Place) -> dict[str, str]:
    """Return what the server may see: beside the usual only what its restore_command needs to fetch WAL."""
    needed = {name: value for name, value in pgbackrest.environment().items() if name.startswith(_OF_PGBACKREST)}
    return bare_environment(place.folder) | needed


def _limits(pgbackrest: Pgbackrest, place: Place, version: str) -> dict[str, str]:
    """Set the limits that replay needs (prepared transactions, locks) as the live server had them."""
    tool = exact_tool("pg_controldata", version)
    done = as_account([tool.path, "-D", place.data], pgbackrest)
    if done.returncode != 0:
        raise SourceError(f"pg_controldata: {' '.join(done.stderr.split()) or 'no answer'}")
    found: dict[str, str] = {}
    for name, least in _LIMITS.items():
        match = re.search(rf"^{_CONTROL[name]}:\s+(\d+)$", done.stdout, re.MULTILINE)
        found[name] = str(max(least, int(match[1]) if match else 0))
    return found


def _wait(endpoint: Endpoint, process: subprocess.Popen[bytes], place: Place, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        if process.poll() is not None:
            raise SourceError(place.why())
        try:
            with endpoint.connect():
                return
        except SourceError as error:
            if "does not exist" in str(error):
                raise SourceError(f"{error}; name the server's superuser with --user") from None
            if time.monotonic() > deadline:
                raise SourceError(f"no end of recovery after {seconds:g} s: {place.why()}") from None
        time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGQUIT)  # immediate shutdown, the data is thrown away
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
