"""The rehearsal of a PostgreSQL backup: a scratch server, the dump restored into it, every table compared."""

from __future__ import annotations

import contextlib
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from ops.core.errors import OpsError, SpoolError
from ops.core.workdir import full, says_full
from ops.drill import checks
from ops.drill.assertions import ask
from ops.drill.canary import read_canary
from ops.drill.context import Findings, Report
from ops.drill.restore_timing import Loading
from ops.drill.scratch.postgres import PROFILE, how_to_look, scratch_server
from ops.drill.scratch.restricted_role import ADVICE, LIMITS, make_loader, restorable, script_of
from ops.repository.manifest import Manifest
from ops.repository.records import PostgresRecord
from ops.restore.database import postgres_of
from ops.sources.postgres.database import create_database, not_in_scratch, restore_grants
from ops.sources.postgres.identity import identity
from ops.sources.postgres.restore import restore_archive
from ops.sources.postgres.restore_progress import loading
from ops.sources.postgres.small_file_batches import unpack
from ops.sources.postgres.source import JOBS, PostgresDatabase, differences
from ops.sources.postgres.tools import Endpoint, find_tool

SCRATCH_DATABASE = "drill"


def rehearse(found: Findings, folder: Path, manifest: Manifest, stack: contextlib.ExitStack, report: Report) -> bool:
    """Restore and compare; see `ops.drill.context.Rehearsal`."""
    record = postgres_of(manifest)
    found.profile = PROFILE
    found.asks |= {"identity", "integrity"} | ({"assertions"} if found.assertions else set())
    found.not_compared = [*record.not_compared, *record.not_restored, *not_in_scratch(record)]
    began = datetime.now(UTC)
    with found.phase("start scratch server"):
        scratch = scratch_server(record.server_version, roles=record.named_roles, parent=folder.parent)
        server = stack.enter_context(scratch)
    found.scratch.append(Path(server.host))
    found.look = how_to_look(server, record.server_version, SCRATCH_DATABASE)
    with server.connect() as connection:
        system = identity(connection).system
    if not found.add(checks.check_identity(system, began)):
        return False
    report("restoring into a scratch PostgreSQL")
    return _restore(found, server, folder, record, report)


def _restore(found: Findings, server: Endpoint, folder: Path, record: PostgresRecord, report: Report) -> bool:
    loader = make_loader(server, SCRATCH_DATABASE, record.named_roles)
    target = PostgresDatabase(endpoint=loader.endpoint)
    begin, work = time.monotonic(), Loading()

    def prepare(lines: list[str]) -> list[str]:
        kept, left_out = restorable(lines)
        loader.prepare(script_of(folder, record, lines), record.extensions)
        found.not_compared += left_out
        return kept

    try:
        unpack(folder)
        found.not_compared += create_database(server, SCRATCH_DATABASE, record, any_locale=True)
        loader.take()
        with loading(folder, found.meter, f"loading {record.database}") as seen:

            def watch(line: str) -> None:
                work(line)
                seen(line)

            restore_archive(target.endpoint, folder, record, jobs=JOBS, watch=watch, prepare=prepare)
        found.not_compared += restore_grants(target.endpoint, record, by=server)
        loader.close()
    except OpsError as error:
        if says_full(str(error), 0):  # of the scratch server: that says nothing of the backup
            raise SpoolError(full(folder.parent)) from None
        found.note_phase("load", begin, time.monotonic())
        text = str(error) + (f"; {ADVICE}" if any(limit in str(error) for limit in LIMITS) else "")
        found.add(checks.failed("restore", "it does not", [text]))
        return False
    end = time.monotonic()  # workers load and index at once: the stretch is divided as their own time was
    found.note_phase("load", begin, begin + (end - begin) * work.share)
    found.note_phase("index", begin + (end - begin) * work.share, end)
    report(f"restored in {end - begin:.1f} s; comparing with the snapshot")
    tool = find_tool("pg_restore", at_least=record.readable_from)
    found.add(checks.passed("restore", f"pg_restore {tool.version}, no error"))
    with found.phase("check"):
        copy = target.fingerprint(record)
        found.tables = checks.compare_tables(copy, record)
        found.add(checks.check_content(record, differences(copy, record)))
        known = set(record.unsound)  # what was NOT VALID in the source already is so in the copy
        found.add(checks.check_integrity([problem for problem in copy.unsound if problem not in known]))
        with target.endpoint.connect(own_search_path=True) as connection:  # assertions are the app's
            found.newest_row = read_canary(connection)
            if found.assertions:
                found.add(checks.check_assertions(len(found.assertions), ask(connection, found.assertions)))
    found.tools |= {
        "scratch server": copy.server_version,
        "source server": record.server_version,
        "pg_dump": record.dump_tool,
        "pg_restore": tool.version,
        "psycopg": psycopg.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
    }
    return True
