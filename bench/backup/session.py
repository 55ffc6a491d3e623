"""One run of the whole comparison: servers up, data made, rows measured phase by phase, everything thrown away."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import psycopg
from psycopg import sql

from bench.backup import data, machine, servers
from bench.backup.measure import Command, CommandFailedError, Sample, file_bytes, measure
from bench.backup.place import Place, make_keys
from bench.backup.results import Results, RowResult, Run
from bench.backup.rows import KEPT, OPS, OURS, ROWS, Phase, Row
from bench.backup.variables import variables

HELD_RATE = 30_000_000
"""Bytes per second and database connection in the phase `held`."""

MAJOR = 15
ROOT = Path(__file__).resolve().parents[2]
SHARES = {
    Phase.BACKUP: 0.36,
    Phase.RESTORE: 0.66,
    Phase.HELD: 0.78,
    Phase.PHYSICAL: 0.81,
    Phase.CHANGED: 0.85,
    Phase.SCALE: 1.0,
}
"""By which part of the time each phase should have ended: rows are repeated while there is time, never left out."""

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a run is asked for. `size` in bytes of rows, `minutes` the time to keep within, `only` row ids."""

    size: int
    runs: int
    minutes: float
    seed: int
    level: int
    work: Path | None
    only: frozenset[str]

    def wants(self, row: Row) -> bool:
        """Say whether a row was asked for, or one that continues it was."""
        sources = {other.source for other in ROWS if other.id in self.only}
        return not self.only or row.id in self.only | sources


@dataclass(kw_only=True)
class Session:
    """A run while it goes on. `buckets` has that of the last good backup of each row."""

    options: Options
    place: Place
    results: Results
    report: Report
    began: float
    expected: list[str]
    buckets: dict[str, str] = field(default_factory=dict)

    def run_phase(self, phase: Phase, runs: int) -> None:
        """Measure every row of a phase, interleaved: in each round in another order, drawn from the seed."""
        rows = [row for row in ROWS if row.phase is phase and self.options.wants(row)]
        end = self.began + self.options.minutes * 60 * SHARES[phase]
        took: dict[str, float] = {}
        for number in range(runs):
            order = rows.copy()
            Random(f"{self.options.seed}:{phase}:{number}").shuffle(order)  # noqa: S311  # an order, not a secret
            if phase is Phase.BACKUP:
                order.sort(key=lambda row: row.source != "")  # steps that work on the bytes of another row
            for row in order:
                now = time.monotonic()
                may_be_left_out = number > 0 and (not row.headline or now > end)
                if may_be_left_out and now + took.get(row.id, 0) > end:
                    continue
                self.measure(row, number)
                took[row.id] = time.monotonic() - now

    def scale(self) -> None:
        """Double the data, measure; double it again, measure."""
        end = self.began + self.options.minutes * 60
        for row in (row for row in ROWS if row.phase is Phase.SCALE and self.options.wants(row)):
            self.report(f"doubling the data for {row.title}")
            data.double(self.place.server.connect)
            begun = time.monotonic()
            self.measure(row, 0)
            took = time.monotonic() - begun
            still_to_come = 0 if row.id.endswith("4x") else 6 * took  # doubling again, and twice the time
            if time.monotonic() + took + still_to_come < end:
                self.measure(row, 1)

    def measure(self, row: Row, number: int) -> None:
        """Measure one row once, and record it; what fails is recorded as failed, without a number."""
        result = self.results.rows.setdefault(row.id, RowResult(row.id, row.phase, row.title, row.command, row.note))
        absent = next((tool for tool in row.tools if shutil.which(tool) is None), None)
        if absent is not None:
            result.problem = f"{absent} is not installed"
            return
        if row.source and row.source not in self.buckets:
            result.problem = f"no backup of {row.source} to work on"
            return
        place, store = self.place, self.place.store_of(row)
        bucket, target = f"{row.id.lower()}-{number}", f"restored_{number}"
        store.make_bucket(bucket, place.server.certificate if store is place.tls_store else None)
        spool = place.work / "spool"
        spool.mkdir(mode=0o711)
        command = Command(
            environment=variables(place, row, bucket=bucket, buckets=self.buckets, target=target),
            spool=spool,
            servers={"database": place.server.pid, "store": store.pid, "proxy": place.proxy[1]},
            log=place.work / "logs" / f"{row.id}-{number}",
            folder=ROOT,
        )
        try:
            if row.prepare:
                measure(row.prepare, command)
            objects = store.root / (self.buckets[row.source] if row.phase is Phase.CHANGED and row.source else bucket)
            stored, requests = file_bytes(objects), store.requests()
            place.server.settle()
            sample = measure(row.command, command)
            self._check(row, target)
            result.runs.append(
                _run(sample, file_bytes(objects) - stored, store.requests() - requests, _details(row, command.output))
            )
            self.report(f"{row.id:>12}  {sample.wall:7.2f} s  {row.title}")
        except CommandFailedError as error:
            result.problem = f"failed: {error}"
            self.report(f"{row.id:>12}  {result.problem}")
        finally:
            shutil.rmtree(spool, ignore_errors=True)
            shutil.rmtree(place.memory / "dump", ignore_errors=True)
            with place.server.connect() as connection:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(target)))
            if any(other.source == row.id for other in ROWS) and not result.problem:
                bucket, self.buckets[row.id] = self.buckets.get(row.id, ""), bucket
            if bucket:  # the disk is not endless
                store.drop_bucket(bucket)

    def _check(self, row: Row, target: str) -> None:
        """Hold a restored database against the source; a restore that lost something has no time."""
        if row.phase is not Phase.RESTORE or "$INTO" not in row.command:
            return
        try:
            found = data.fingerprint(self.place.server.connect, target)
        except psycopg.Error as error:
            raise CommandFailedError(f"the restored database cannot be read: {error}") from None
        wrong = set(found) ^ set(self.expected)
        if wrong:
            raise CommandFailedError(f"the restored database differs from the source: {min(wrong)}")


def run(options: Options, report: Report) -> Results:
    """Make the whole comparison.

    Raises:
        servers.MissingError: a server's programs are not on this machine, or there is no room.
    """
    with _session(options, report) as session:
        for phase in Phase:
            if phase is Phase.CHANGED:
                data.change(session.place.server.connect)
            if phase is Phase.SCALE:
                session.scale()
            else:
                session.run_phase(phase, 1 if phase is Phase.CHANGED else options.runs)
        session.results.seconds = time.monotonic() - session.began
        session.results.load_after = machine.load()
        return session.results


@contextmanager
def _session(options: Options, report: Report) -> Generator[Session]:
    began, load = time.monotonic(), machine.load()
    with ExitStack() as stack:

        def folder(parent: Path | None) -> Path:
            return Path(
                stack.enter_context(TemporaryDirectory(prefix="bench-", dir=parent, ignore_cleanup_errors=True))
            )

        work, memory = folder(options.work), folder(machine.memory_folder(options.size))
        work.chmod(0o711)  # PostgreSQL's user passes through
        machine.require_room(work, options.size)
        certificate, key = servers.certificate(work)
        flag, config = work / "pg" / "archiving", work / "pgbackrest.conf"
        archive = f"test ! -e {flag} || pgbackrest --config={config} --stanza=bench archive-push %p"
        server = stack.enter_context(servers.postgres(work, MAJOR, certificate, key, archive))
        place = Place(
            work=work,
            memory=memory,
            server=server,
            store=stack.enter_context(servers.s3(work, "s3")),
            tls_store=stack.enter_context(servers.s3(work, "s3-tls", (certificate, key))),
            proxy=stack.enter_context(servers.held_connections(server.port, HELD_RATE)),
            keys=make_keys(work),
            level=options.level,
        )
        results = Results(
            at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            commit=machine.commit(ROOT),
            machine=machine.describe(),
            versions=machine.versions(server),
            options={
                "size_mb": options.size // data.MIB,
                "runs": options.runs,
                "minutes": options.minutes,
                "seed": options.seed,
                "level": options.level,
                "held_rate": HELD_RATE,
            },
            load_before=load,
        )
        report(f"generating {options.size // data.MIB} MiB of rows")
        _prepare(place, results)
        expected = data.fingerprint(server.connect, data.DATABASE)
        yield Session(options=options, place=place, results=results, report=report, began=began, expected=expected)


def _prepare(place: Place, results: Results) -> None:
    """Make roles, data, files of passwords, and the dump that single steps work on. Nothing of it is measured."""
    work, server = place.work, place.server
    with server.connect() as connection:
        for role, rights in (
            (data.ADMIN, sql.SQL("LOGIN CREATEDB CREATEROLE BYPASSRLS")),  # as at a managed cluster: no superuser
            (data.OWNER, sql.SQL("LOGIN CREATEDB")),
        ):
            made = sql.SQL("CREATE ROLE {} {} PASSWORD {}")
            connection.execute(made.format(sql.Identifier(role), rights, sql.Literal(server.password)))
    for name, text in (("pgpass", f"*:*:*:*:{server.password}\n"), ("restic.password", server.password)):
        (work / name).touch(mode=0o600)
        (work / name).write_text(text)
    for name in ("logs", "scripts", "restic-cache", "spool"):
        (work / name).mkdir()
    (work / "rclone.conf").touch()
    options = results.options
    results.data = data.generate(server.connect, size=int(options["size_mb"]) * data.MIB, seed=int(options["seed"]))
    for number, script in enumerate(data.fingerprint_scripts(server.connect, data.DATABASE)):
        (work / "scripts" / f"{number}.sql").write_text(script)
    environment = variables(place, KEPT, bucket="", buckets={}, target="")
    command = Command(
        environment=environment, spool=work / "spool", servers={}, log=work / "logs" / "kept", folder=ROOT
    )
    measure(KEPT.command, command)
    measure(f"{OPS} --help", command)  # so that Python's compiled files are there, as on a machine that is in use
    shutil.rmtree(work / "spool")
    results.dump_bytes = file_bytes(work / "kept")


def _run(sample: Sample, stored: int, requests: int, details: dict[str, float]) -> Run:
    return Run(
        wall=sample.wall,
        cpu=sample.cpu,
        cpu_database=sample.servers["database"],
        cpu_store=sample.servers["store"],
        cpu_foreign=sample.foreign,
        cpu_stolen=sample.stolen,
        cpu_sampler=sample.sampler,
        peak_memory=sample.peak_memory,
        peak_spool=sample.peak_spool,
        stored=stored,
        requests=requests,
        details=details,
    )


def _details(row: Row, output: Path) -> dict[str, float]:
    """Return what a report of ours says of its own time: by phase, and the restore that a drill contains."""
    if OPS not in row.command or row.phase is not Phase.RESTORE:
        return {}
    document = json.loads(output.read_text())
    found: dict[str, float] = {}
    with contextlib.suppress(
        KeyError, TypeError
    ):  # a report of another version: the wall time is measured all the same
        if row.source == OURS and "rto_seconds" in document:
            found["contained"] = float(document["rto_seconds"])
        if "phases" in document:
            return found | {f"phase {phase['name']}": float(phase["seconds"]) for phase in document["phases"]}
        found |= {f"phase {name}": float(seconds) for name, seconds in document["seconds"].items()}
    return found
