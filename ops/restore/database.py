"""Putting a restore point back beside what lives: into a new database, then held against the manifest."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Container, Generator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psycopg
from psycopg import sql

from ops.core.errors import (
    IntegrityError,
    KeyProblemError,
    ObjectMissingError,
    OpsError,
    RestoreError,
    RestoreRefusedError,
    SpoolError,
    StoreError,
)
from ops.core.progress import Meter, unseen
from ops.core.workdir import mebibytes, spool
from ops.repository.catalog import missing_objects, prefix_of
from ops.repository.download import Fetcher, Identities
from ops.repository.manifest import Manifest
from ops.repository.records import PostgresRecord
from ops.repository.stores.base import Store
from ops.restore.estimate import Estimate, estimate
from ops.restore.table_subset_plan import left_empty, left_out, part_of
from ops.sources.base import Difference
from ops.sources.postgres import catalog_queries, database
from ops.sources.postgres.restore import choose_role, foreign_owners
from ops.sources.postgres.restore_progress import following
from ops.sources.postgres.source import PostgresDatabase, server_version
from ops.sources.postgres.streaming_download import Coming, goes_straight
from ops.sources.postgres.table_subset import Part
from ops.sources.postgres.tools import Connection, Endpoint, find_tool

Report = Callable[[str], None]
LEAVING_SECONDS = 5
"""How long a session that was closed may take to be gone; PostgreSQL waits as long before it renames or drops."""
NAME_LENGTH = 63
"""PostgreSQL cuts longer names without a word."""

_OURS = (IntegrityError, KeyProblemError, StoreError, SpoolError, OSError)
"""What is wrong with the backup, or with the way to it, or with this machine's disk."""
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


@dataclass(frozen=True, kw_only=True)
class RestorePlan:
    """What a restore will do. `left_empty` are the tables that get no rows: they were not chosen, or not backed up."""

    manifest: Manifest
    only_tables: tuple[str, ...]
    left_empty: tuple[str, ...]
    left_out: tuple[str, ...]
    target: str
    exists: bool
    restore_as: str
    bytes_to_fetch: int
    spool_bytes: int
    estimate: Estimate
    tool: str


@dataclass(kw_only=True)
class RestoreReport:
    """What a restore did. `seconds` by phase; `differences` is empty when the copy equals the snapshot.

    Where tables were chosen, `rows` and `tables` count those; `left_out` says what else than other tables' rows is not
    there, or is not as it was.
    """

    backup: str
    target: str
    snapshot_at: datetime
    rows: int
    tables: int
    seconds: dict[str, float] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    only_tables: tuple[str, ...] = ()
    left_empty: tuple[str, ...] = ()
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class RestoreJob:
    """What to restore, from where to where. `admin` and `owner` reach the cluster; `live` is never touched.

    `tables` are those whose rows are restored, as fingerprints name them; none means all. `evidence` is of drills, for
    the plan's estimate.
    """

    store: Store
    manifest: Manifest
    admin: Endpoint
    owner: Endpoint
    live: tuple[str, ...]
    identities: Identities = ()
    target: str | None = None
    tables: tuple[str, ...] = ()
    spool: Path | None = None
    evidence: Path | None = None

    @property
    def part(self) -> RestoreJob:
        """The same with a manifest of the chosen tables alone. Raises `RestoreRefusedError`."""
        return replace(self, manifest=part_of(self.manifest, self.tables))


def postgres_of(manifest: Manifest) -> PostgresRecord:
    """Return what is recorded of a PostgreSQL backup.

    Raises:
        RestoreRefusedError: the backup is of another kind.
    """
    if not isinstance(manifest.source, PostgresRecord):
        raise RestoreRefusedError(f"{manifest.id}: is a backup of {manifest.source.kind}, not of a database")
    return manifest.source


def default_target(database: str, now: datetime, taken: Container[str] = ()) -> str:
    """Return `<database>_restore_<time>`, within PostgreSQL's length, or that and a number where it is `taken`."""
    suffix = f"_restore_{now:%Y%m%d%H%M%S}"
    endings = (suffix, *(f"{suffix}_{number}" for number in range(2, 100)))
    return next(name for end in endings if (name := database[: NAME_LENGTH - len(end)] + end) not in taken)


def plan(job: RestoreJob) -> RestorePlan:
    """Look and refuse; change nothing.

    Raises:
        RestoreRefusedError: the target is live or not empty, the server is older than the dump or lacks a role, nobody
            may restore, or the backup has no such table.
        ObjectMissingError: an object of the backup is not in the store.
        ToolError: no fitting pg_restore here.
    """
    whole, job = job.manifest, job.part
    record = postgres_of(job.manifest)
    now = datetime.now(UTC)
    target = job.target or default_target(record.database, now)
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
        if not job.target:
            taken = {name for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall()}
            target = default_target(record.database, now, taken)
        major, version = server_version(connection)
        if major < record.server_major:
            raise RestoreRefusedError(
                f"{job.admin}: the server is PostgreSQL {version}, the dump is of {record.server_version}; "
                "restore into the same major version or a newer one"
            )
        runner = choose_role(job.admin.on(target), foreign_owners(connection, record), job.owner)
        _refuse_lacking(connection, job.admin, record)
        lost = [*record.not_restored, *database.left_out(connection, record)]
        exists = _is_ours(connection, job.admin, target)
    if exists:
        lost += _refuse_used(job.admin.on(target), record)
    return RestorePlan(
        manifest=whole,
        only_tables=job.tables,
        left_empty=left_empty(record, job.tables),
        left_out=(*(left_out(postgres_of(whole)) if job.tables else ()), *lost),
        target=target,
        exists=exists,
        restore_as=runner.user,
        bytes_to_fetch=job.manifest.stored_bytes,
        spool_bytes=sum(entry.file_size for entry in job.manifest.objects if not goes_straight(entry)),
        estimate=estimate(
            job.manifest,
            job.evidence,
            stored=job.manifest.stored_bytes,
            dumped=sum(entry.file_size for entry in job.manifest.objects),
        ),
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
    job = job.part
    manifest, record = job.manifest, postgres_of(job.manifest)
    part = Part(tables=record.leaves_of(job.tables)) if job.tables else None
    result = RestoreReport(
        backup=manifest.id,
        target=planned.target,
        snapshot_at=manifest.snapshot_at,
        rows=record.rows,
        tables=len(job.tables or record.tables),
        only_tables=planned.only_tables,
        left_empty=planned.left_empty,
    )
    clock = Stopwatch(result.seconds)
    mark = f"ancla: restore of {manifest.id} ({manifest.name}) begun {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    target = PostgresDatabase(endpoint=job.admin.on(planned.target), owner=job.owner.on(planned.target))
    report(
        f"fetching {len(manifest.objects)} objects, {mebibytes(manifest.stored_bytes)} MiB, "
        f"and restoring into {planned.target} as {planned.restore_as}"
    )
    with spool(job.spool, needed=planned.spool_bytes, what=f"the dump of {manifest.name}") as folder:
        with _coming(job, folder, clock, meter) as coming:
            if not planned.exists:
                database.create_database(job.admin, planned.target, record)
            with _marked(job, planned, mark, report), clock("restore", without="fetch"):
                comment(job.admin, planned.target, f"{mark}, not finished")
                target.restore(folder, record, coming.loaded.hear, coming, part)
                result.left_out += [*planned.left_out, *database.restore_grants(target.endpoint, record)]
                coming.loaded.finish()
        report(f"fetched and restored in {sum(result.seconds.values()):.1f} s; comparing with the backup")
        with _marked(job, planned, mark, report), clock("check"):
            result.differences = _readable(target, job).check(record)
    result.left_out += part.left_out if part else ()
    if result.differences:
        comment(job.admin, planned.target, f"{mark}, DIFFERS from the backup")
        first = "; ".join(str(difference) for difference in result.differences[:3])
        raise RestoreError(
            f"{planned.target}: restored, but not equal to {manifest.id}: {first}; it is left for a look"
        )
    with _marked(job, planned, mark, report):
        database.restore_limit(target.endpoint, record)
    verified = f"verified in part: rows of {', '.join(job.tables)} alone" if job.tables else "verified"
    comment(job.admin, planned.target, f"{mark}, {verified}")
    return result


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
def _coming(job: RestoreJob, folder: Path, clock: Stopwatch, meter: Meter) -> Generator[Coming]:
    """Begin to fetch the backup; what is still on its way at the end is given up."""
    manifest = job.manifest
    whole = sum(entry.size + entry.file_size for entry in manifest.objects)
    with meter(f"restoring {manifest.name}", whole) as advance, following(folder, advance) as loaded:
        fetcher = Fetcher(
            store=job.store,
            prefix=prefix_of(manifest.name, manifest.id),
            identities=job.identities,
            advance=advance,
        )
        with Coming(fetcher, manifest.objects, folder, loaded, waiting=partial(clock, "fetch")) as coming:
            yield coming


@contextlib.contextmanager
def _marked(job: RestoreJob, planned: RestorePlan, mark: str, report: Report) -> Generator[None]:
    """Write on the target when it fails, so that nobody takes a half of it for whole."""
    try:
        yield
    except BaseException as error:
        # what goes wrong on this side leaves nothing on the other
        if isinstance(error, _OURS) and not planned.exists and _dropped(job.admin, planned.target):
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
        closed = catalog_queries.unreadable(connection)
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


def _refuse_lacking(connection: Connection, admin: Endpoint, record: PostgresRecord) -> None:
    """Refuse where a role is missing that grants name; the owner of the database may be missing, which is said."""
    lacking = database.missing_roles(connection, {*record.named_roles} - ({record.owner} - {*record.roles}))
    if lacking:
        raise RestoreRefusedError(
            f"{admin}: there is no role {', '.join(lacking)}, which grants in the backup name; "
            + "; ".join(f"run `CREATE ROLE {role}`" for role in lacking)
        )


def _refuse_used(target: Endpoint, record: PostgresRecord) -> list[str]:
    """Refuse unless it is empty and nobody's; return in what it cannot be like the source."""
    with target.connect() as connection:
        mark = _mark(connection)
        if mark:  # though it may be empty: another restore may be at work in it
            raise RestoreRefusedError(
                f"{target.database}: is not empty ({mark}): drop it when no restore is at work, "
                "or leave --into out for a new database"
            )
        if not catalog_queries.is_empty(connection):
            raise RestoreRefusedError(f"{target.database}: is not empty; leave --into out for a new database")
        if _others(connection):
            raise RestoreRefusedError(f"{target.database}: somebody is connected to it; leave --into out for a new one")
        return database.unlike(connection, record)


def _mark(connection: Connection) -> str:
    """Return what a restore that came to no good end has written on the database."""
    query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
    row = connection.execute(query).fetchone()
    text = str(row[0]) if row else ""
    return text if text.startswith("ancla: restore of ") and not text.endswith("verified") else ""


def _others(connection: Connection) -> bool:
    query = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    deadline = time.monotonic() + LEAVING_SECONDS
    while connection.execute(query).fetchone() is not None:
        if time.monotonic() > deadline:
            return True
        time.sleep(0.05)
    return False


def _more(problems: list[str]) -> str:
    return f" and {len(problems) - 1} more" if len(problems) > 1 else ""
