"""Run a PostgreSQL server for the duration of a drill: a unix socket in a private folder, no network, always removed.

It is tuned for throw-away data (no fsync, hardly any WAL), so its times are those of the profile `fast-scratch` and
not of a production server. It never runs as root; PostgreSQL refuses that.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Generator, Iterable
from contextlib import ExitStack, contextmanager
from pathlib import Path

from psycopg import sql
from pydantic import SecretStr

from ops.core.errors import SourceError, ToolError
from ops.sources.postgres.tools import Endpoint, Tool, find_tool, tool_message

PROFILE = "fast-scratch"
START_SECONDS = 60
SUPERUSER = "ancla_drill"
SOCKET_LENGTH = 90
"""A socket's path may have 107 bytes; its file name needs some of them."""

SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "autovacuum": "off",
    "shared_buffers": "128MB",
    "maintenance_work_mem": "128MB",
    "logging_collector": "off",
    "max_locks_per_transaction": "256",  # a statement may lock a table with thousands of partitions and their indexes
    "lo_compat_privileges": "on",  # large objects are readable by everybody: a non-superuser loads and compares them
}


@contextmanager
def scratch_server(  # noqa: PLR0913  # all but one have names at every call
    version: str,
    *,
    roles: Iterable[str] = (),
    taken: Collection[str] = (),
    parent: Path | None = None,
    kept: Callable[[], bool] = lambda: False,
    nonce: str = "",
) -> Generator[Endpoint]:
    """Run a new PostgreSQL of at least `version`; yields its superuser's endpoint of the database `postgres`.

    Args:
        version: of the backup's server; the lowest suitable installed one is used.
        roles: roles to create (no login), so that owners and grants can be restored.
        taken: names of roles that the superuser must not have, in addition to `roles`.
        parent: parent of its folder; the system's temporary folder if None.
        kept: called at the end; the server's folder stays if it returns True.
        nonce: the server's `cluster_name` is `ancla-<nonce>`, which proves that it is this one.

    Raises:
        ToolError: there are no server programs here, or no user to run them as.
        SourceError: the server did not start; its log's last line is in the message.
    """
    initdb, postgres = find_tool("initdb", at_least=version), find_tool("postgres", at_least=version)
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="pg-", dir=parent))
        stack.callback(_discard, folder, kept)
        if len(str(folder)) > SOCKET_LENGTH:
            raise ToolError(f"{folder}: too long a path for a socket; give a short --spool, such as /var/tmp")
        account = _account()
        password = SecretStr(secrets.token_urlsafe(24))
        roles = tuple(roles)
        superuser = free_name(SUPERUSER, {*roles, *taken})
        _initialize(initdb, folder, account, password, superuser)
        log = stack.enter_context((folder / "log").open("w+b"))
        settings = SETTINGS | {"cluster_name": f"ancla-{nonce}"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        process = subprocess.Popen(
            [*_as(account, dies_with_us=True), postgres.path, "-D", folder / "data", "-k", folder, *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=bare_environment(folder),
            start_new_session=True,  # Ctrl-C interrupts us; we end the server
        )
        stack.callback(_stop, process)
        endpoint = Endpoint(host=str(folder), port=5432, user=superuser, password=password, database="postgres")
        _wait(endpoint, process, folder / "log")
        with endpoint.connect() as connection:
            for role in roles:
                connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
        yield endpoint


def how_to_look(server: Endpoint, version: str, database: str) -> str:
    """Return a command to inspect a scratch server's remaining data, without its password."""
    account = _account()
    program = find_tool("postgres", at_least=version).path
    become = f"setpriv --reuid={account.pw_uid} --regid={account.pw_gid} --clear-groups -- " if account else ""
    return f"{become}{program} --single -D {Path(server.host) / 'data'} {database}"


def _discard(folder: Path, kept: Callable[[], bool]) -> None:
    if not kept():
        shutil.rmtree(folder, ignore_errors=True)


def _initialize(
    initdb: Tool, folder: Path, account: pwd.struct_passwd | None, password: SecretStr, superuser: str = SUPERUSER
) -> None:
    passfile = folder / "password"
    passfile.touch(mode=0o600)
    passfile.write_text(password.get_secret_value())
    if account is not None:
        for path in (folder, passfile):
            os.chown(path, account.pw_uid, account.pw_gid)
    arguments = ["-D", folder / "data", "-U", superuser, "--auth=scram-sha-256", f"--pwfile={passfile}"]
    arguments += ["--encoding=UTF8", "--locale=C", "--no-sync"]
    done = subprocess.run(
        [*_as(account, dies_with_us=True), initdb.path, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=bare_environment(folder),
        check=False,
    )
    passfile.unlink()
    if done.returncode != 0:
        raise SourceError(f"initdb: the scratch server cannot be made: {tool_message(done.stderr)}")


def _account() -> pwd.struct_passwd | None:
    """Return the user to run as, or None for the current one."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ToolError("postgres does not run as root, and there is neither a user postgres nor nobody: make one")


def _as(account: pwd.struct_passwd | None, *, dies_with_us: bool = False) -> list[str]:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        if account is None:
            return []
        raise ToolError("setpriv: not found; install util-linux, or run the drill as another user than root")
    command = [setpriv]
    if account is not None:
        command += [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    if dies_with_us:
        command.append("--pdeathsig=QUIT")  # PostgreSQL's immediate shutdown: no remains after a kill -9 of ours
    return [*command, "--"] if len(command) > 1 else []


def free_name(name: str, roles: Collection[str]) -> str:
    """Return a name for our role that no recorded role has."""
    return f"{name}_{secrets.token_hex(4)}" if name in roles else name


def bare_environment(home: Path) -> dict[str, str]:
    """Return the environment variables that a server's process may see; ours has keys and tokens."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
    return kept | {"LC_ALL": "C", "HOME": str(home)}


def _wait(endpoint: Endpoint, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            last = log.read_text(errors="replace").strip().splitlines()
            raise SourceError(f"postgres: the scratch server does not start: {last[-1] if last else 'no message'}")
        try:
            with endpoint.connect():
                return
        except SourceError:
            time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(3)  # SIGQUIT: immediate shutdown, the data is discarded
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
