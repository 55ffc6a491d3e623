"""A drill of pgBackRest's backups: restore, recover to a moment, read everything, stop and remove it all.

The live server is not asked anything, and no file of its is written: the restore goes into a new folder, tablespaces
included, and without `--delta`, so that pgBackRest itself refuses a folder that is not empty.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import psycopg

from ops.core.errors import BackupNotFoundError, OpsError, SourceError, SpoolError, ToolError
from ops.core.formatting import duration, size
from ops.core.messages import Message, say
from ops.drill.context import Asked
from ops.drill.evidence.document import Phase, Questions
from ops.drill.kinds.pgbackrest_evidence import (
    QUESTIONS,
    BackrestEvidence,
    BackrestPlan,
    Recovered,
    RecoveredDatabase,
    answered,
)
from ops.drill.scratch.pgbackrest import Place, exact_tool, running, scratch_place
from ops.pgbackrest import info
from ops.pgbackrest.driver import NOT_OF_THE_BACKUP, Pgbackrest, Report, as_account, as_error
from ops.pgbackrest.info import Backup, Server, Stanza
from ops.repository.freshness import Freshness
from ops.sources.postgres.identity import identity
from ops.sources.postgres.source import PostgresDatabase
from ops.sources.postgres.tools import Connection, Endpoint, find_tool, one_line

OLDEST_MAJOR = 13
HEADROOM = 1.2
"""Free space asked for, as a share of the server's size: WAL is replayed beside it."""


@dataclass(frozen=True, kw_only=True)
class BackrestDrill:
    """The drill's arguments. `at` None is the end of the archived WAL; `user` is the server's superuser."""

    pgbackrest: Pgbackrest
    stanza: str
    environment: str | None = None
    at: datetime | None = None
    repository: int | None = None
    user: str = "postgres"
    max_age_hours: float
    rto_minutes: float | None = None
    wait_minutes: int = 60
    may_be_empty: bool = False
    spool: Path | None = None


@dataclass(kw_only=True)
class _Found(Asked):
    """What a drill has found so far."""

    questions: ClassVar[Questions] = QUESTIONS
    databases: list[RecoveredDatabase] = field(default_factory=list[RecoveredDatabase])
    tools: dict[str, str] = field(default_factory=dict[str, str])
    recovered: Recovered | None = None
    rto: float | None = None


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


def plan(job: BackrestDrill) -> BackrestPlan:
    """Choose the backup and look for the programs; nothing is restored.

    Raises:
        BackupNotFoundError: nothing to drill, or nothing as old as that.
        ToolError: the programs of that major version are not here.
        OpsError: pgBackRest could not be asked; see `ops.pgbackrest.driver`.
    """
    stanza = info.read(job.pgbackrest, job.stanza)
    backup = choose(stanza, job.at, job.repository, datetime.now(UTC))
    server = _known_server(stanza, backup)
    exact_tool("postgres", server.version)
    return BackrestPlan(
        stanza=stanza.name,
        repository=backup.database.repository,
        backup=backup.label,
        backup_type=backup.type,
        backup_stopped_at=backup.stopped_at,
        asked_for=job.at,
        server_version=server.version,
        size=backup.info.size,
        scratch_bytes=int(backup.info.size * HEADROOM),
    )


def run(job: BackrestDrill, report: Report) -> BackrestEvidence:
    """Drill, and return the evidence; a red verdict is a result, not an exception.

    Raises:
        BackupNotFoundError: nothing to drill, or nothing as old as that.
        ToolError: the programs of that major version are not here.
        SpoolError: not enough free space for the restore.
        OpsError: pgBackRest could not be asked, or did not begin; see `ops.pgbackrest.driver`.
    """
    started, found = datetime.now(UTC), _Found()
    stanza = info.read(job.pgbackrest, job.stanza)
    backup = choose(stanza, job.at, job.repository, started)
    server = _known_server(stanza, backup)
    found.tools = {"pgbackrest": job.pgbackrest.version(), "postgres": exact_tool("postgres", server.version).version}
    looked = info.freshness(stanza, job.max_age_hours, started)
    found.add("backup", _age(looked[0]), [_age(item) for item in looked if not item.fresh])
    with scratch_place(job.pgbackrest, job.spool) as place:
        _need_space(place, backup)
        begun = time.monotonic()
        if _restore(job, backup, place, found, report):
            _recover(job, server, place, found, report)
        if found.recovered is not None:
            found.rto = round(time.monotonic() - begun, 3)
            _time(job, found)
        folder = place.folder
    if folder.exists():
        found.add("clean", say("folder not removed"), [say("{folder} was not removed; remove it", folder=str(folder))])
    else:
        found.add("clean", say("server stopped, folder removed"))
    checks = QUESTIONS.in_full(found.checks)
    return BackrestEvidence(
        verdict="green" if all(map(answered, checks)) else "red",
        environment=job.environment,
        stanza=stanza.name,
        repository=backup.database.repository,
        backup=backup.label,
        backup_type=backup.type,
        backup_stopped_at=backup.stopped_at,
        wal_start=backup.archive.start if backup.archive else None,
        wal_stop=backup.archive.stop if backup.archive else None,
        system=str(server.system),
        server_version=server.version,
        asked_for=job.at,
        started_at=started,
        finished_at=datetime.now(UTC),
        rto_seconds=found.rto,
        rto_budget_seconds=round(job.rto_minutes * 60) if job.rto_minutes else None,
        size=backup.info.size,
        stored=backup.info.repository.size,
        recovered=found.recovered,
        databases=found.databases,
        tools=found.tools,
        checks=checks,
        phases=found.phases,
    )


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


def _known_server(stanza: Stanza, backup: Backup) -> Server:
    server = stanza.server(backup)
    if server is None:
        raise BackupNotFoundError(f"stanza {stanza.name}: {backup.label} is of no server that the repository knows")
    if int(server.version.partition(".")[0]) < OLDEST_MAJOR:
        raise ToolError(f"{backup.label} is of PostgreSQL {server.version}; drills know {OLDEST_MAJOR} and later")
    return server


def _need_space(place: Place, backup: Backup) -> None:
    free, need = shutil.disk_usage(place.folder).free, int(backup.info.size * HEADROOM)
    if free < need:
        raise SpoolError(
            f"{place.folder.parent}: {free >> 20} MiB free, the restore needs {need >> 20} MiB; give --spool"
        )


def _restore(job: BackrestDrill, backup: Backup, place: Place, found: _Found, report: Report) -> bool:
    report(f"restoring {backup.label} into {place.data}")
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
        done = job.pgbackrest.run("restore", *options, stanza=job.stanza, report=report, check=False)
    if done.returncode in NOT_OF_THE_BACKUP:
        raise as_error(done, "restore", job.stanza)
    if done.returncode:
        found.add("restore", say("pgBackRest restore failed"), [str(as_error(done, "restore", job.stanza))])
        return False
    found.add("restore", say("{backup}, {size}", backup=backup.label, size=size(backup.info.size)))
    return True


def _recover(job: BackrestDrill, server: Server, place: Place, found: _Found, report: Report) -> None:
    report("replaying WAL" + (f" until {job.at:%Y-%m-%d %H:%M:%S.%f} UTC" if job.at else " to the end of the archive"))
    begun, open_since = time.monotonic(), None
    try:
        with running(job.pgbackrest, place, server.version, job.user, job.wait_minutes * 60) as endpoint:
            open_since = time.monotonic()
            found.phases.append(
                Phase(name="replay", begin=round(begun - found.began, 3), seconds=round(open_since - begun, 3))
            )
            with found.phase("check"):
                report("reading all of it")
                _look(job, server, place, endpoint, found)
    except (SourceError, psycopg.Error) as error:
        if open_since is None:
            found.add("recovery", say("recovery failed"), [one_line(error)])
        else:
            found.add("databases", say("not every database could be read"), [one_line(error)])


def _look(job: BackrestDrill, server: Server, place: Place, endpoint: Endpoint, found: _Found) -> None:
    with endpoint.connect() as connection:
        recovered = found.recovered = _recovered(connection, place)
        databases = [str(row[0]) for row in connection.execute(_DATABASES).fetchall()]
    ended, last = recovered.ended, recovered.last_transaction
    if last is None:
        found.add("recovery", say("recovery ended: {reason}", reason=ended))
    else:
        found.add("recovery", say("recovery ended: {reason}; last transaction {time}", reason=ended, time=_exact(last)))
    problems: list[str] = []
    if recovered.system != str(server.system):
        problems.append(
            say("it is system {found}, the stanza's is {stanza}", found=recovered.system, stanza=str(server.system))
        )
    if recovered.parent_timeline is None:
        problems.append(say("timeline {timeline} has no parent: nothing was recovered", timeline=recovered.timeline))
    found.add(
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
        found.databases.append(
            RecoveredDatabase(
                database=name,
                rows=record.rows,
                tables=list(record.tables),
                unsound=list(record.unsound),
                not_compared=list(record.not_compared),
            )
        )
    tables, rows = (sum(len(d.tables) for d in found.databases), sum(d.rows for d in found.databases))
    found.add(
        "databases",
        say(
            "{databases} databases, {tables} tables, each read to its last row",
            databases=len(found.databases),
            tables=tables,
        ),
        unreadable,
    )
    found.add_rows(rows, may_be_empty=job.may_be_empty)
    _amcheck(job, server, endpoint, found)


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


def _moment(job: BackrestDrill, recovered: Recovered, found: _Found) -> None:
    if job.at is None:
        found.skip("moment", say("the latest was asked for"))
        return
    last = recovered.last_transaction
    late = [say("it contains a transaction of {time}", time=_exact(last))] if last and last > job.at else None
    found.add("moment", say("nothing after {time}", time=_exact(job.at)), late)


def _amcheck(job: BackrestDrill, server: Server, endpoint: Endpoint, found: _Found) -> None:
    try:
        tool = find_tool("pg_amcheck", at_least=server.version.partition(".")[0])
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
    found.add(
        "amcheck",
        say("pg_amcheck {version}, every heap and index", version=tool.version),
        (said[:5] or [say("exit {code}", code=done.returncode)]) if done.returncode else None,
    )


def _time(job: BackrestDrill, found: _Found) -> None:
    if job.rto_minutes is None or found.rto is None:
        found.skip("time", say("no budget was given"))
        return
    answer = say("{seconds:.0f} s, budget {budget:g} s", seconds=found.rto, budget=job.rto_minutes * 60)
    found.add("time", answer, [answer] if found.rto > job.rto_minutes * 60 else None)
