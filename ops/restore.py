"""Putting a restore point back beside what lives: into a new database, then held against the manifest."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql

from ops.backup.catalog import missing_objects, prefix_of
from ops.backup.fetch import Fetcher, Identities
from ops.backup.manifest import Manifest
from ops.backup.records import PostgresRecord
from ops.backup.spool import mebibytes, spool
from ops.errors import ObjectMissingError, OpsError, RestoreError, RestoreRefusedError
from ops.meter import Meter, unseen
from ops.sources import pg_facts
from ops.sources.base import Difference
from ops.sources.pg_arriving import Arriving, in_order
from ops.sources.pg_loading import following
from ops.sources.pg_restore import choose_role, foreign_owners
from ops.sources.pg_tools import Connection, Endpoint, find_tool, one_line
from ops.sources.postgres import PostgresDatabase, server_version
from ops.stores.base import Store

Report = Callable[[str], None]
NAME_LENGTH = 63
"""PostgreSQL cuts longer names without a word."""

_PRIVILEGES: dict[str, LiteralString] = {name: name for name in ("CONNECT", "CREATE", "TEMPORARY")}
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


@dataclass(frozen=True, kw_only=True)
class RestorePlan:
    """What a restore will do."""

    manifest: Manifest
    target: str
    exists: bool
    restore_as: str
    bytes_to_fetch: int
    spool_bytes: int
    tool: str


@dataclass(kw_only=True)
class RestoreReport:
    """What a restore did. `seconds` by phase; `differences` is empty when the copy equals the snapshot."""

    backup: str
    target: str
    snapshot_at: datetime
    rows: int
    tables: int
    seconds: dict[str, float] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class RestoreJob:
    """What to restore, from where to where. `admin` and `owner` reach the cluster; `live` is never touched."""

    store: Store
    manifest: Manifest
    admin: Endpoint
    owner: Endpoint
    live: tuple[str, ...]
    identities: Identities = ()
    target: str | None = None
    spool: Path | None = None


def postgres_of(manifest: Manifest) -> PostgresRecord:
    """Return what is recorded of a PostgreSQL backup.

    Raises:
        RestoreRefusedError: the backup is of another kind.
    """
    if not isinstance(manifest.source, PostgresRecord):
        raise RestoreRefusedError(f"{manifest.id}: is a backup of {manifest.source.kind}, not of a database")
    return manifest.source


def default_target(database: str, now: datetime) -> str:
    """Return `<database>_restore_<time>`, within PostgreSQL's length."""
    suffix = f"_restore_{now:%Y%m%d%H%M%S}"
    return database[: NAME_LENGTH - len(suffix)] + suffix


def plan(job: RestoreJob) -> RestorePlan:
    """Look and refuse; change nothing.

    Raises:
        RestoreRefusedError: the target is live or not empty, the server is older than the dump, or nobody may restore.
        ObjectMissingError: an object of the backup is not in the store.
        ToolError: no fitting pg_restore here.
    """
    record = postgres_of(job.manifest)
    target = job.target or default_target(record.database, datetime.now(UTC))
    if not _NAME.fullmatch(target):
        raise RestoreRefusedError(f"{target}: not a database name: use a-z, 0-9 and _, at most {NAME_LENGTH}")
    if target in job.live:
        raise RestoreRefusedError(
            f"{target}: is a live database of this stack; restore into a new one (leave --into out)"
        )
    problems = missing_objects(job.store, job.manifest)
    if problems:
        raise ObjectMissingError(f"{job.store.name}/{problems[0]}{_more(problems)}; choose another backup")
    with job.admin.connect() as connection:
        major, version = server_version(connection)
        if major < record.server_major:
            raise RestoreRefusedError(
                f"{job.admin}: the server is PostgreSQL {version}, the dump is of {record.server_version}; "
                "restore into the same major version or a newer one"
            )
        runner = choose_role(job.admin.on(target), foreign_owners(connection, record), job.owner)
        exists = _is_ours(connection, job.admin, target)
    if exists:
        _refuse_used(job.admin.on(target))
    return RestorePlan(
        manifest=job.manifest,
        target=target,
        exists=exists,
        restore_as=runner.user,
        bytes_to_fetch=job.manifest.stored_bytes,
        spool_bytes=sum(entry.file_size for entry in job.manifest.objects),
        tool=find_tool("pg_restore", at_least=record.readable_from).version,
    )


def run(job: RestoreJob, report: Report, meter: Meter = unseen) -> RestoreReport:
    """Restore, then compare every table with the manifest. `meter` is shown how much was fetched, and loaded.

    Raises:
        RestoreRefusedError: see `plan`; nothing was changed.
        IntegrityError: an object is not what was written; no database was made.
        RestoreError: pg_restore failed, or the copy differs. The target stays, marked by its comment.
    """
    planned = plan(job)
    manifest, record = job.manifest, postgres_of(job.manifest)
    result = RestoreReport(
        backup=manifest.id,
        target=planned.target,
        snapshot_at=manifest.snapshot_at,
        rows=record.rows,
        tables=len(record.tables),
    )
    clock = Stopwatch(result.seconds)
    mark = f"ancla: restore of {manifest.id} begun {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    target = PostgresDatabase(endpoint=job.admin.on(planned.target), owner=job.owner.on(planned.target))
    report(
        f"fetching {len(manifest.objects)} objects, {mebibytes(manifest.stored_bytes)} MiB, "
        f"and restoring into {planned.target} as {planned.restore_as}"
    )
    with spool(job.spool, needed=planned.spool_bytes, what=f"the dump of {manifest.name}") as folder:
        with _arriving(job, folder, clock, meter) as arriving:
            arriving.wait_for_archive()
            if not planned.exists:
                create_database(job.admin, planned.target, record)
            with _marked(job, planned, mark, arriving, report), clock("restore", without="fetch"):
                target.restore(folder, record, arriving.loaded.hear, arriving)
                arriving.finish()
                restore_grants(target.endpoint, record)
        report(f"fetched and restored in {sum(result.seconds.values()):.1f} s; comparing with the backup")
        with _marked(job, planned, mark, arriving, report), clock("check"):
            result.differences = _readable(target, job).check(record)
    if result.differences:
        comment(job.admin, planned.target, f"{mark}, DIFFERS from the backup")
        first = "; ".join(str(difference) for difference in result.differences[:3])
        raise RestoreError(
            f"{planned.target}: restored, but not equal to {manifest.id}: {first}; it is left for a look"
        )
    comment(job.admin, planned.target, f"{mark}, verified")
    return result


def create_database(admin: Endpoint, name: str, record: PostgresRecord, *, any_locale: bool = False) -> None:
    """Create an empty database with the encoding and locale of the source.

    Args:
        admin: a role that may create databases.
        name: the new database.
        record: what the source was like.
        any_locale: take the server's own locale where it lacks the source's (a scratch server).

    Raises:
        RestoreError: the server refused.
    """
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {}").format(
        sql.Identifier(name), sql.Literal(record.encoding)
    )
    locale = sql.SQL(" LC_COLLATE {} LC_CTYPE {}").format(sql.Literal(record.collate), sql.Literal(record.ctype))
    with admin.connect() as connection:
        try:
            connection.execute(statement + locale)
        except psycopg.Error as error:
            if not any_locale or not isinstance(
                error, psycopg.errors.WrongObjectType | psycopg.errors.InvalidParameterValue
            ):
                raise RestoreError(f"{admin}: cannot create the database {name}: {one_line(error)}") from None
            connection.execute(statement + sql.SQL(" LC_COLLATE 'C' LC_CTYPE 'C'"))


def restore_grants(target: Endpoint, record: PostgresRecord) -> None:
    """Give back what pg_dump leaves out: privileges on the database itself, and its options.

    Raises:
        RestoreError: the server refused.
    """
    database = sql.Identifier(target.database)
    with target.connect() as connection:
        try:
            connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
            for grant in record.grants:
                grantee = sql.Identifier(grant.grantee) if grant.grantee else sql.SQL("PUBLIC")
                privileges = sql.SQL(", ").join(sql.SQL(_PRIVILEGES[name]) for name in grant.privileges)
                connection.execute(sql.SQL("GRANT {} ON DATABASE {} TO {}").format(privileges, database, grantee))
            for option in record.options:
                name, _, value = option.partition("=")
                connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", [name, value])
                setting = sql.SQL(".").join(sql.Identifier(part) for part in name.split("."))
                connection.execute(sql.SQL("ALTER DATABASE {} SET {} FROM CURRENT").format(database, setting))
        except (psycopg.Error, KeyError) as error:  # KeyError: the manifest names no privilege of a database
            raise RestoreError(f"{target}: cannot give the database's grants back: {one_line(error)}") from None


def comment(admin: Endpoint, database: str, text: str, *, via: str | None = None) -> None:
    """Write a comment on a database, so that a person who finds it knows what it is; an empty text takes it away.

    Args:
        admin: its owner, or a member of that role.
        database: the name.
        text: the comment.
        via: another database to do it from, where nobody may connect to that one.
    """
    statement = sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(database), sql.Literal(text or None))
    with admin.on(via or database).connect() as connection:
        connection.execute(statement)


class Stopwatch:
    """Measures phases into a dict of seconds: `with clock("fetch"): …`."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds

    @contextlib.contextmanager
    def __call__(self, phase: str, *, without: str | None = None) -> Generator[None]:
        """Measure one phase, `without` what another takes of it meanwhile."""
        begun, other = time.monotonic(), self._seconds.get(without or "", 0)
        try:
            yield
        finally:
            spent = time.monotonic() - begun - self._seconds.get(without or "", 0) + other
            self._seconds[phase] = round(self._seconds.get(phase, 0) + spent, 3)


@contextlib.contextmanager
def _arriving(job: RestoreJob, folder: Path, clock: Stopwatch, meter: Meter) -> Generator[Arriving]:
    """Begin to fetch the backup; what is still on its way at the end is given up."""
    manifest = job.manifest
    prefix = prefix_of(manifest.name, manifest.id)
    whole = sum(entry.size + entry.file_size for entry in manifest.objects)
    with meter(f"restoring {manifest.name}", whole) as advance, following(folder, advance) as loaded:
        fetcher = Fetcher(store=job.store, prefix=prefix, identities=job.identities, advance=advance)
        with contextlib.closing(fetcher.arriving(in_order(manifest.objects), folder)) as fetched:
            yield Arriving(fetched, folder, advance, loaded, waiting=partial(clock, "fetch"))


@contextlib.contextmanager
def _marked(job: RestoreJob, planned: RestorePlan, mark: str, arriving: Arriving, report: Report) -> Generator[None]:
    """Write on the target what becomes of it, so that nobody takes a half of it for whole."""
    try:
        comment(job.admin, planned.target, f"{mark}, not finished")
        yield
    except BaseException as error:
        # what goes wrong on this side before all is there leaves nothing on the other
        if arriving.gave_up(error) and not planned.exists and _dropped(job.admin, planned.target):
            raise
        with contextlib.suppress(OpsError, psycopg.Error):  # the first error is the one to tell
            comment(job.admin, planned.target, f"{mark}, FAILED")
        if isinstance(error, KeyboardInterrupt):
            report(f"interrupted: the database {planned.target} is left as it is, do not use it")
        if isinstance(error, OpsError):
            raise RestoreError(f"{error}; the database {planned.target} is left as it is, do not use it") from None
        raise


def _dropped(admin: Endpoint, name: str) -> bool:
    """Drop a database that this restore has made; say whether it is gone."""
    try:
        with admin.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
    except (OpsError, psycopg.Error):
        return False
    return True


def _readable(target: PostgresDatabase, job: RestoreJob) -> PostgresDatabase:
    with target.endpoint.connect() as connection:
        closed = pg_facts.unreadable(connection)
    return PostgresDatabase(endpoint=job.owner.on(target.endpoint.database)) if closed else target


def _is_ours(connection: Connection, admin: Endpoint, database: str) -> bool:
    """Say whether there is a database of that name.

    Raises:
        RestoreRefusedError: it is the server's own, or somebody else's.
    """
    query = (
        "SELECT datistemplate OR datname = 'postgres', pg_has_role(datdba, 'MEMBER'), pg_get_userbyid(datdba)"
        " FROM pg_database WHERE datname = %s"
    )
    row = connection.execute(query, [database]).fetchone()
    if row is None:
        return False
    if row[0]:
        raise RestoreRefusedError(f"{database}: is the server's own database; leave --into out for a new one")
    if not row[1]:
        raise RestoreRefusedError(
            f"{database}: belongs to {row[2]}, and {admin.user} may not fill it; leave --into out for a new one"
        )
    return True


def _refuse_used(target: Endpoint) -> None:
    with target.connect() as connection:
        mark = _mark(connection)
        if mark:  # though it may be empty: another restore may be at work in it
            raise RestoreRefusedError(
                f"{target.database}: is not empty ({mark}): drop it when no restore is at work, "
                "or leave --into out for a new database"
            )
        if not pg_facts.is_empty(connection):
            raise RestoreRefusedError(f"{target.database}: is not empty; leave --into out for a new database")
        if _others(connection):
            raise RestoreRefusedError(f"{target.database}: somebody is connected to it; leave --into out for a new one")


def _mark(connection: Connection) -> str:
    """Return what a restore that came to no good end has written on the database."""
    query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
    row = connection.execute(query).fetchone()
    text = str(row[0]) if row else ""
    return text if text.startswith("ancla: restore of ") and not text.endswith("verified") else ""


def _others(connection: Connection) -> bool:
    query = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    return connection.execute(query).fetchone() is not None


def _more(problems: list[str]) -> str:
    return f" and {len(problems) - 1} more" if len(problems) > 1 else ""
