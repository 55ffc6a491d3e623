"""A drill of the provider's backups: fork the cluster, look at all that is in it, destroy it, whatever happens.

Live is only read: its identity, and how its tables are defined. The fork is destroyed by its tag and name, never by an
id alone; what a killed drill leaves is found by the sweep.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import psycopg

from ops.core.errors import CloudError, OpsError, SourceError, SshError
from ops.core.formatting import utc
from ops.core.messages import say
from ops.core.signals import defer_interrupts
from ops.drill.context import Asked
from ops.drill.evidence.document import Questions, Status
from ops.drill.kinds.provider_fork_evidence import QUESTIONS, ForkedDatabase, ForkEvidence, IdentityFacts
from ops.managed_postgres import forks, provider
from ops.managed_postgres.connect import fork_server
from ops.managed_postgres.cost import ForkCost, fork_cost
from ops.managed_postgres.forks import Patience
from ops.managed_postgres.provider import Cluster, RestorePoint
from ops.sources.postgres import catalog_queries
from ops.sources.postgres.canary import read_canary
from ops.sources.postgres.identity import identity, marked, newest_commit, schema, schema_differences
from ops.sources.postgres.tools import Endpoint, find_tool, one_line
from ops.stack.cloud import Cloud, NoAnswerError
from ops.stack.outputs import LoadedStack
from ops.targets import servers

Report = Callable[[str], None]
Servers = AbstractContextManager[tuple[Endpoint, Endpoint]]
DESTROY_SECONDS = 600
"""How long to go on asking that a fork be destroyed, when the API does not answer."""
TOLERANCE = timedelta(seconds=1)
"""Of a time that an API or a server may have rounded."""


@dataclass(frozen=True, kw_only=True)
class ForkDrill:
    """What to fork, and the limits. `pause` is the seconds between two looks at the API."""

    stack: LoadedStack
    cloud: Cloud
    at: str = provider.LATEST
    max_cost: float
    cluster_limit: int = forks.CLUSTER_LIMIT
    wait_minutes: int
    may_be_empty: bool = False
    schema_may_differ: bool = False
    pause: float = 5.0
    open_live: Callable[[LoadedStack], Servers] = servers.database_server
    open_fork: Callable[[Cloud, LoadedStack, Cluster], Servers] = fork_server


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a drill would do."""

    live: Cluster
    points: list[RestorePoint]
    moment: datetime
    name: str
    droplets: list[str]
    cost: ForkCost


@dataclass(kw_only=True)
class _Found(Asked):
    """What a drill has found so far."""

    questions: ClassVar[Questions] = QUESTIONS
    databases: list[ForkedDatabase] = field(default_factory=list)
    identity: IdentityFacts | None = None
    data_of: datetime | None = None
    fork: str | None = None
    version: str | None = None
    fork_seconds: float | None = None
    rto_seconds: float | None = None


def plan(job: ForkDrill, now: datetime) -> Plan:
    """Look and refuse; nothing is made.

    Raises:
        StackError: no managed database, no droplet, or a token of another account.
        ToolError: PostgreSQL's programs are missing here, or older than the server.
        OpsError: no restore point, a time that cannot be restored, a cost above the limit, or no room for a cluster.
        CloudError: the API refuses, or does not answer.
    """
    droplets = [droplet.id for droplet in job.stack.outputs.droplets]
    live = provider.live_cluster(job.cloud, job.stack)
    if not droplets:
        raise OpsError(f"{job.stack.name}: the stack has no droplet to reach a fork from")
    find_tool("pg_restore", at_least=live.version)  # found out now, not beside a fork that costs money
    points = provider.restore_points(job.cloud, live)
    forks.refuse_full(job.cloud, job.cluster_limit)
    return Plan(
        live=live,
        points=points,
        moment=provider.choose(points, job.at, now),
        name=forks.fork_name(live, now),
        droplets=droplets,
        cost=fork_cost(live, job.wait_minutes, job.max_cost),
    )


def run(job: ForkDrill, report: Report) -> ForkEvidence:
    """Drill, and return the evidence; a red verdict is a result, not an exception.

    Raises:
        OpsError: as `plan`; or the API refused the fork.
        CloudError: the fork may be left; the message names it.
    """
    started = datetime.now(UTC)
    planned = plan(job, started)
    found = _Found()
    _check_points(job, planned, found, started)
    report(
        f"forking {planned.live.name} as of {provider.written(planned.moment)} into {planned.name}: "
        f"at most {planned.cost.total:.2f} US dollars"
    )
    begun, refused = time.monotonic(), False
    try:
        with defer_interrupts(report, "the fork that was asked for has to be known"), found.phase("fork"):
            try:
                found.fork = forks.create_fork(job.cloud, planned.live, planned.name, planned.moment, planned.droplets)
            except NoAnswerError:
                raise
            except CloudError:
                refused = True
                raise
        with found.phase("wait"):
            patience = Patience(seconds=job.wait_minutes * 60, pause=job.pause)
            fork, seen = forks.wait_online(job.cloud, found.fork, patience, report)
        if fork is None:
            found.add("online", say("the fork did not come online"), [seen])
        else:
            found.fork_seconds = round(time.monotonic() - begun, 3)
            found.add(
                "online",
                say("{seconds:.0f} s, at most {minutes} min", seconds=found.fork_seconds, minutes=job.wait_minutes),
            )
            _look(job, planned, fork, found, report)
            if found.databases:
                found.rto_seconds = round(time.monotonic() - begun, 3)
    finally:
        if not refused:
            with defer_interrupts(report, "the fork is destroyed"), found.phase("destroy"):
                report(f"destroying {planned.name}")
                patience = Patience(seconds=DESTROY_SECONDS, pause=job.pause)
                gone = forks.destroy_fork(job.cloud, planned.live, planned.name, found.fork, patience)
                found.add("clean", say("fork destroyed") if gone else say("no fork was made"))
                forks.forget_tag(job.cloud)
    return _evidence(job, planned, found, started)


def _check_points(job: ForkDrill, planned: Plan, found: _Found, now: datetime) -> None:
    newest = planned.points[-1].created_at
    budget = job.stack.outputs.backup.max_age_hours
    hours = (now - newest).total_seconds() / 3600
    answer = say(
        "{count} restore points, the newest {hours:.1f} h old, budget {budget:g} h",
        count=len(planned.points),
        hours=hours,
        budget=budget,
    )
    found.add("points", answer, [answer] if hours > budget else None)


def _look(job: ForkDrill, planned: Plan, fork: Cluster, found: _Found, report: Report) -> None:
    """Ask the fork everything. That it cannot be asked is an answer too, unless it is live that does not answer."""
    strangers = forks.close_to(job.cloud, fork.id, planned.droplets)
    found.add("closed", say("only droplet {droplets}", droplets=", ".join(planned.droplets)), strangers)
    with ExitStack() as opened:
        live = opened.enter_context(job.open_live(job.stack))
        try:
            with found.phase("reach"):
                report("reaching the fork over the droplet")
                copy = opened.enter_context(job.open_fork(job.cloud, job.stack, fork))
            with found.phase("check"):
                report("reading all of it")
                if _check_identity(live[0], copy[0], found):
                    _check_databases(job, live, copy, found)
                    _check_moment(planned, copy[0], found)
        except (CloudError, SourceError, SshError, psycopg.Error) as error:
            found.add("databases", say("not every database could be read"), [one_line(error)])


def _check_identity(live: Endpoint, copy: Endpoint, found: _Found) -> bool:
    """See that it is a copy of live, and not live itself."""
    with live.connect() as ours, marked(ours) as is_live, copy.connect() as theirs:
        source, fork, same = identity(ours), identity(theirs), is_live(theirs)
        version = theirs.info.server_version
    found.version = f"{version // 10000}.{version % 10000}"
    found.identity = IdentityFacts(
        system=source.system, live_timeline=source.timeline, fork_system=fork.system, fork_timeline=fork.timeline
    )
    problems: list[str] = []
    if same:
        problems.append(say("it is the live server itself: a lock taken there is seen here"))
    elif fork.system != source.system:
        problems.append(
            say("it is another system ({found}) than the live one ({live})", found=fork.system, live=source.system)
        )
    elif fork.timeline == 1:
        problems.append(say("it is on timeline 1: it was not recovered from a backup"))
    found.add(
        "identity",
        say(
            "system {system}, timeline {timeline}, live on timeline {live}",
            system=fork.system,
            timeline=fork.timeline,
            live=source.timeline,
        ),
        problems,
    )
    return not problems


def _check_moment(planned: Plan, copy: Endpoint, found: _Found) -> None:
    """Ask the data of which time it is: the provider may have rounded the time that was asked for to a backup's.

    The times of backups are the provider's own, and a backup takes a while: only a time between two is compared.
    """
    with copy.connect() as connection:
        seen = [newest_commit(connection), *(database.canary for database in found.databases)]
    found.data_of = max((moment for moment in seen if moment), default=None)
    asked, backups = planned.moment, [point.created_at for point in planned.points]
    answer = say("it does not tell: no commit was replayed since its server started, and it has no canary")
    if found.data_of is not None:
        answer = say(
            "the newest commit in it is of {found}, asked for {asked}", found=utc(found.data_of), asked=utc(asked)
        )
    problems: list[str] = []
    if asked not in backups:
        before = max(moment for moment in backups if moment < asked)
        if found.data_of is None or found.data_of <= before:
            problems.append(
                say(
                    "nothing in it is newer than the backup of {backup}, which the provider may have given instead: "
                    "let `ops backup canary` write a row before the time that is asked for",
                    backup=utc(before),
                )
            )
        elif found.data_of > asked + TOLERANCE:
            problems.append(answer)
    found.add("moment", answer, problems)


def _check_databases(
    job: ForkDrill, live: tuple[Endpoint, Endpoint], copy: tuple[Endpoint, Endpoint], found: _Found
) -> None:
    """Read every database to its last row, and compare its schema with the live one."""
    assert job.stack.outputs.database is not None  # noqa: S101  # `live_cluster` refused such a stack
    absent: list[str] = []
    unsound: list[str] = []
    for name in job.stack.outputs.database.databases:
        try:
            facts, bad = _read(live, copy, name)
        except SourceError as error:
            absent.append(f"{name}: {error}")
            continue
        found.databases.append(facts)
        unsound += [f"{name}: {problem}" for problem in bad]
    tables = sum(len(database.tables) for database in found.databases)
    rows = sum(database.rows for database in found.databases)
    found.add(
        "databases",
        say(
            "{databases} databases, {tables} tables, each read to its last row",
            databases=len(found.databases),
            tables=tables,
        ),
        absent,
    )
    if not found.databases:
        return
    changed = [f"{each.database}: {problem}" for each in found.databases for problem in each.schema_differences]
    accepted = job.schema_may_differ and changed
    if accepted:
        answer = say("{count} differences (allowed by --schema-may-differ)", count=len(changed))
    else:
        answer = say("{count} differences", count=len(changed)) if changed else say("no differences")
    found.add("schema", answer, [] if accepted else changed)
    found.add_rows(rows, may_be_empty=job.may_be_empty)
    valid = say("all constraints and indexes are valid")
    found.add(
        "integrity", say("{count} invalid constraints or indexes", count=len(unsound)) if unsound else valid, unsound
    )


def _read(
    live: tuple[Endpoint, Endpoint], copy: tuple[Endpoint, Endpoint], name: str
) -> tuple[ForkedDatabase, list[str]]:
    with live[0].on(name).connect() as connection:
        shape, known = schema(connection), set(catalog_queries.unsound(connection))
    source = servers.readable_database(*copy, name)
    with source.endpoint.connect() as connection:
        if closed := catalog_queries.unreadable(connection):
            raise SourceError(f"{source.endpoint.user} may not read {', '.join([*closed][:3])}")
        differences = schema_differences(shape, schema(connection))
        canary = read_canary(connection)
    record = source.fingerprint()
    facts = ForkedDatabase(
        database=name,
        rows=record.rows,
        tables=list(record.tables),
        schema_differences=differences,
        canary=canary,
    )
    return facts, [problem for problem in record.unsound if problem not in known]


def _evidence(job: ForkDrill, planned: Plan, found: _Found, started: datetime) -> ForkEvidence:
    asked = QUESTIONS.in_full(found.checks)
    return ForkEvidence(
        verdict="green" if all(check.status is Status.PASSED for check in asked) else "red",
        environment=job.stack.outputs.environment,
        project=job.stack.outputs.project,
        cluster=planned.live.id,
        cluster_name=planned.live.name,
        region=planned.live.region,
        server_version=found.version,
        fork=found.fork,
        fork_name=planned.name,
        asked_for=planned.moment,
        data_of=found.data_of,
        first_restore_point=planned.points[0].created_at,
        newest_restore_point=planned.points[-1].created_at,
        newest_budget_hours=job.stack.outputs.backup.max_age_hours,
        started_at=started,
        finished_at=datetime.now(UTC),
        fork_seconds=found.fork_seconds,
        rto_seconds=found.rto_seconds,
        cost_at_most=planned.cost.total,
        cost_limit=job.max_cost,
        prices_read=planned.cost.prices_read,
        identity=found.identity,
        databases=found.databases,
        checks=asked,
        phases=found.phases,
    )
