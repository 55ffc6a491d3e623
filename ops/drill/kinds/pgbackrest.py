"""A drill of pgBackRest's backups: restore, recover to a moment, read everything, stop and remove it all.

The live server is not asked anything, and no file of its is written: the restore goes into a new folder, tablespaces
included, and without `--delta`, so that pgBackRest itself refuses a folder that is not empty.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

import psycopg

from ops.core.errors import BackupNotFoundError, OpsError, SourceError, SpoolError, ToolError
from ops.core.formatting import duration, size
from ops.core.messages import Message, say
from ops.drill.context import Drill, Findings, Plan
from ops.drill.evidence.details import PgbackrestDetail, Recovered, RecoveredDatabase
from ops.drill.evidence.document import Questions
from ops.drill.scratch.pgbackrest import Place, exact_tool, running, scratch_place
from ops.pgbackrest import info
from ops.pgbackrest.driver import NOT_OF_THE_BACKUP, Pgbackrest, as_account, as_error
from ops.pgbackrest.info import Backup, Server, Stanza
from ops.repository.freshness import Freshness
from ops.sources.postgres.identity import identity
from ops.sources.postgres.source import PostgresDatabase
from ops.sources.postgres.tools import Connection, Endpoint, find_tool, one_line

QUESTIONS = Questions(
    backup="Is there a valid backup within the age budget?",
    restore="Did pgBackRest restore every file with its checksum?",
    recovery="Did the server replay its WAL to the requested end, and open?",
    identity="Is it the stanza's server, on a new timeline?",
    moment="Does it contain nothing later than the requested time?",
    databases="Is every database readable to its last row?",
    rows="Does it contain any rows?",
    amcheck="Does pg_amcheck find heap and B-tree indexes in order?",
    time="Was it restored within the recovery time objective (RTO)?",
    clean="Is the scratch server stopped and its folder removed?",
)
OLDEST_MAJOR = 13
HEADROOM = 1.2
"""Free space asked for, as a share of the server's size: WAL is replayed beside it."""


@dataclass(frozen=True, kw_only=True)
class BackrestDrill(Drill):
    """The drill's arguments. `at` None is the end of the archived WAL; `user` is the server's superuser."""

    questions: ClassVar[Questions] = QUESTIONS
    always: ClassVar[Collection[str]] = QUESTIONS.keys() - {"moment", "amcheck", "time"}

    pgbackrest: Pgbackrest
    stanza: str
    environment: str | None = None
    at: datetime | None = None
    repository: int | None = None
    user: str = "postgres"
    max_age_hours: float
    wait_minutes: int = 60

    def plan(self) -> Plan:
        """Choose the backup and look for the programs; nothing is restored.

        Raises:
            BackupNotFoundError: nothing to drill, or nothing as old as that.
            ToolError: the programs of that major version are not here.
            OpsError: pgBackRest could not be asked; see `ops.pgbackrest.driver`.
        """
        stanza, backup, server = _chosen(self, datetime.now(UTC))
        return {
            "stanza": stanza.name,
            "repository": backup.database.repository,
            "backup": backup.label,
            "backup_type": backup.type,
            "backup_stopped_at": f"{backup.stopped_at:%Y-%m-%dT%H:%M:%SZ}",
            "asked_for": self.at and self.at.isoformat(),
            "server_version": server.version,
            "size_bytes": backup.info.size,
            "scratch_bytes": int(backup.info.size * HEADROOM),
        }

    def run(self, found: Findings) -> None:
        """Restore into a scratch server, recover, and read everything.

        Raises:
            BackupNotFoundError: nothing to drill, or nothing as old as that.
            ToolError: the programs of that major version are not here.
            SpoolError: not enough free space for the restore.
            OpsError: pgBackRest could not be asked, or did not begin; see `ops.pgbackrest.driver`.
        """
        stanza, backup, server = _chosen(self, found.started)
        detail = PgbackrestDetail(
            repository=backup.database.repository,
            backup_type=backup.type,
            backup_stopped_at=backup.stopped_at,
            wal_start=backup.archive.start if backup.archive else None,
            wal_stop=backup.archive.stop if backup.archive else None,
            system=str(server.system),
            server_version=server.version,
            asked_for=self.at,
            size=backup.info.size,
        )
        found.about(detail, name=stanza.name, backup=backup.label, environment=self.environment)
        found.stored_bytes = backup.info.repository.size or 0
        postgres = exact_tool("postgres", server.version)
        found.tools = {"pgbackrest": self.pgbackrest.version(), "postgres": postgres.version}
        looked = info.freshness(stanza, self.max_age_hours, found.started)
        found.answer("backup", _age(looked[0]), [_age(item) for item in looked if not item.fresh])
        place = scratch_place(self.pgbackrest, found.folder)
        _need_space(place, backup)
        begun = time.monotonic()
        if _restore(self, backup, place, found):
            _recover(self, place, found, detail)
        if detail.recovered is not None:
            found.recovered(begun)


def choose(stanza: Stanza, at: datetime | None, repository: int | None, now: datetime) -> Backup:
    """Return the newest backup that counts and was complete at `at`.

    Raises:
        BackupNotFoundError: there is none.
        OpsError: the time is in the future.
    """
    known = info.counted(stanza, now, repository)
    if not known:
        raise BackupNotFoundError(f"stanza {stanza.name}: no backup that counts; run `ops backrest backup --type full`")
    if at is not None and at > now:
        raise OpsError(f"--at {at:%Y-%m-%dT%H:%M:%SZ}: is in the future")
    fitting = [backup for backup in known if at is None or backup.stopped_at <= at]
    if not fitting:
        raise BackupNotFoundError(
            f"--at {at:%Y-%m-%dT%H:%M:%SZ}: the oldest backup of {stanza.name} is complete only at "
            f"{known[0].stopped_at:%Y-%m-%dT%H:%M:%SZ}: no time before that can be recovered"
        )
    return fitting[-1]


def _chosen(job: BackrestDrill, now: datetime) -> tuple[Stanza, Backup, Server]:
    stanza = info.read(job.pgbackrest, job.stanza)
    backup = choose(stanza, job.at, job.repository, now)
    server = stanza.server(backup)
    if server is None:
        raise BackupNotFoundError(f"stanza {stanza.name}: {backup.label} is of no server that the repository knows")
    if int(server.version.partition(".")[0]) < OLDEST_MAJOR:
        raise ToolError(f"{backup.label} is of PostgreSQL {server.version}; drills know {OLDEST_MAJOR} and later")
    exact_tool("postgres", server.version)
    return stanza, backup, server


def _age(found: Freshness) -> Message:
    why = f" ({'; '.join(found.passed_over)})" if found.passed_over else ""
    if found.age is None:
        return say("{store} has no complete backup of {stanza}{why}", store=found.store, stanza=found.name, why=why)
    return say(
        "the newest complete backup of {stanza} in {store} is {age} old, budget {budget}{why}",
        stanza=found.name,
        store=found.store,
        age=duration(found.age),
        budget=duration(found.budget),
        why=why,
    )


def _exact(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S.%f} UTC"


def _need_space(place: Place, backup: Backup) -> None:
    free, need = shutil.disk_usage(place.folder).free, int(backup.info.size * HEADROOM)
    if free < need:
        raise SpoolError(
            f"{place.folder.parent.parent}: {free >> 20} MiB free, the restore needs {need >> 20} MiB; give --spool"
        )


def _restore(job: BackrestDrill, backup: Backup, place: Place, found: Findings) -> bool:
    found.report(f"restoring {backup.label} into {place.data}")
    options = [
        f"--repo={backup.database.repository}",
        f"--set={backup.label}",
        f"--pg1-path={place.data}",
        f"--tablespace-map-all={place.tablespaces}",
        "--archive-mode=off",  # the copy must never archive into the live repository
    ]
    if job.at is not None:
        options += ["--type=time", f"--target={job.at:%Y-%m-%d %H:%M:%S.%f}+00", "--target-action=promote"]
    with found.phase("restore"):
        done = job.pgbackrest.run("restore", *options, stanza=job.stanza, report=found.report, check=False)
    if done.returncode in NOT_OF_THE_BACKUP:
        raise as_error(done, "restore", job.stanza)
    if done.returncode:
        found.answer("restore", say("pgBackRest restore failed"), [str(as_error(done, "restore", job.stanza))])
        return False
    found.answer("restore", say("{backup}, {size}", backup=backup.label, size=size(backup.info.size)))
    return True


def _recover(job: BackrestDrill, place: Place, found: Findings, detail: PgbackrestDetail) -> None:
    until = f"until {job.at:%Y-%m-%d %H:%M:%S.%f} UTC" if job.at else "to the end of the archive"
    found.report(f"replaying WAL {until}")
    begun, open_since = time.monotonic(), None
    try:
        with running(job.pgbackrest, place, detail.server_version, job.user, job.wait_minutes * 60) as endpoint:
            open_since = time.monotonic()
            found.note_phase("replay", begun, open_since)
            with found.phase("check"):
                found.report("reading all of it")
                _look(job, place, endpoint, found, detail)
    except (SourceError, psycopg.Error) as error:
        if open_since is None:
            found.answer("recovery", say("recovery failed"), [one_line(error)])
        else:
            found.answer("databases", say("not every database could be read"), [one_line(error)])


def _look(job: BackrestDrill, place: Place, endpoint: Endpoint, found: Findings, detail: PgbackrestDetail) -> None:
    with endpoint.connect() as connection:
        recovered = detail.recovered = _recovered(connection, place)
        databases = [str(row[0]) for row in connection.execute(_DATABASES).fetchall()]
    ended, last = recovered.ended, recovered.last_transaction
    if last is None:
        found.answer("recovery", say("recovery ended: {reason}", reason=ended))
    else:
        answer = say("recovery ended: {reason}; last transaction {time}", reason=ended, time=_exact(last))
        found.answer("recovery", answer)
    problems: list[str] = []
    if recovered.system != detail.system:
        problems.append(
            say("it is system {found}, the stanza's is {stanza}", found=recovered.system, stanza=detail.system)
        )
    if recovered.parent_timeline is None:
        problems.append(say("timeline {timeline} has no parent: nothing was recovered", timeline=recovered.timeline))
    found.answer(
        "identity",
        say(
            "system {system}, timeline {timeline} from {parent}",
            system=recovered.system,
            timeline=recovered.timeline,
            parent=str(recovered.parent_timeline),
        ),
        problems,
    )
    _moment(job, recovered, found)
    unreadable: list[str] = []
    for name in databases:
        try:
            record = PostgresDatabase(endpoint=endpoint.on(name)).fingerprint()
        except SourceError as error:
            unreadable.append(f"{name}: {error}")
            continue
        detail.databases.append(
            RecoveredDatabase(
                database=name,
                rows=record.rows,
                tables=list(record.tables),
                unsound=list(record.unsound),
                not_compared=list(record.not_compared),
            )
        )
    tables, found.rows = (sum(len(d.tables) for d in detail.databases), sum(d.rows for d in detail.databases))
    found.answer(
        "databases",
        say(
            "{databases} databases, {tables} tables, each read to its last row",
            databases=len(detail.databases),
            tables=tables,
        ),
        unreadable,
    )
    found.answer_rows(found.rows)
    _amcheck(job, detail.server_version, endpoint, found)


_DATABASES = "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1"


def _recovered(connection: Connection, place: Place) -> Recovered:
    who = identity(connection)
    row = connection.execute("SELECT pg_catalog.pg_last_xact_replay_timestamp()").fetchone()
    parent, ended = None, "no history"
    history = place.data / "pg_wal" / f"{who.timeline:08X}.history"
    if history.exists():
        last = history.read_text().strip().splitlines()[-1].split("\t", 2)
        parent, ended = int(last[0]), last[2] if len(last) > 2 else "no reason given"
    return Recovered(
        system=who.system,
        timeline=who.timeline,
        parent_timeline=parent,
        ended=ended,
        last_transaction=row[0].astimezone(UTC) if row and row[0] else None,
    )


def _moment(job: BackrestDrill, recovered: Recovered, found: Findings) -> None:
    if job.at is None:
        found.skip("moment", say("the latest was asked for"))
        return
    last = recovered.last_transaction
    late = [say("it contains a transaction of {time}", time=_exact(last))] if last and last > job.at else None
    found.answer("moment", say("nothing after {time}", time=_exact(job.at)), late)


def _amcheck(job: BackrestDrill, version: str, endpoint: Endpoint, found: Findings) -> None:
    try:
        tool = find_tool("pg_amcheck", at_least=version.partition(".")[0])
    except ToolError as error:
        found.skip("amcheck", str(error))
        return
    with endpoint.connect() as connection:
        known = connection.execute("SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'amcheck'").fetchone()
    if known is None:
        found.skip(
            "amcheck",
            say(
                "the extension is not installed here: {command}",
                command=f"apt-get install postgresql-contrib-{tool.major}",
            ),
        )
        return
    options = ["--all", "--install-missing", "--heapallindexed", "--no-password"]
    done = as_account(
        [tool.path, "--host", endpoint.host, "--port", str(endpoint.port), "--username", endpoint.user, *options],
        job.pgbackrest,
    )
    said = [" ".join(line.split()) for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    found.answer(
        "amcheck",
        say("pg_amcheck {version}, every heap and index", version=tool.version),
        (said[:5] or [say("exit {code}", code=done.returncode)]) if done.returncode else None,
    )
