"""A drill of the provider's backups: fork the cluster, look at all that is in it, destroy it, whatever happens.

Live is only read: its identity, and how its tables are defined. The fork is destroyed by its tag and name, never by an
id alone; what a killed drill leaves is found by the sweep.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import psycopg

from ops.core.errors import CloudError, OpsError, SourceError, SshError
from ops.core.formatting import utc
from ops.core.messages import say
from ops.drill.context import Drill, Findings, Plan
from ops.drill.evidence.details import ForkDetail, ForkedDatabase, IdentityFacts
from ops.drill.evidence.document import Questions
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

QUESTIONS = Questions(
    points="Does the provider list restore points, the newest within the age budget?",
    online="Did the provider make a cluster from it in time?",
    closed="Can only the stack's own droplets reach it?",
    identity="Is it this cluster's data, recovered into another server?",
    moment="Is its data of the time asked for?",
    databases="Is every database of the stack in it, readable to the last row?",
    schema="Are its tables, columns, constraints and indexes those of the live databases?",
    rows="Does it contain any rows?",
    integrity="Are all constraints validated and all indexes valid, as in the live databases?",
    clean="Is the fork destroyed?",
)
Servers = AbstractContextManager[tuple[Endpoint, Endpoint]]
DESTROY_SECONDS = 600
"""How long to go on asking that a fork be destroyed, when the API does not answer."""
TOLERANCE = timedelta(seconds=1)
"""Of a time that an API or a server may have rounded."""


@dataclass(frozen=True, kw_only=True)
class ForkPlan:
    """What a drill would do."""

    live: Cluster
    points: list[RestorePoint]
    moment: datetime
    name: str
    droplets: list[str]
    cost: ForkCost


@dataclass(frozen=True, kw_only=True)
class ForkDrill(Drill):
    """What to fork, and the limits. `pause` is the seconds between two looks at the API."""

    questions: ClassVar[Questions] = QUESTIONS
    always: ClassVar[Collection[str]] = QUESTIONS.keys()

    stack: LoadedStack
    cloud: Cloud
    at: str = provider.LATEST
    max_cost: float
    cluster_limit: int = forks.CLUSTER_LIMIT
    wait_minutes: int
    schema_may_differ: bool = False
    pause: float = 5.0
    open_live: Callable[[LoadedStack], Servers] = servers.database_server
    open_fork: Callable[[Cloud, LoadedStack, Cluster], Servers] = fork_server

    def plan(self) -> Plan:
        """Look and refuse, as `planned`; nothing is made."""
        planned = self.planned(datetime.now(UTC))
        return {
            "cluster": planned.live.name,
            "restore_points": len(planned.points),
            "as_of": provider.written(planned.moment),
            "fork": planned.name,
            "plan": planned.live.size,
            "reached_from_droplets": ", ".join(planned.droplets),
            "cost_at_most_usd": planned.cost.total,
            "hours_at_most": planned.cost.hours,
            "prices_read": planned.cost.prices_read,
        }

    def planned(self, now: datetime) -> ForkPlan:
        """Look and refuse; nothing is made.

        Raises:
            StackError: no managed database, no droplet, or a token of another account.
            ToolError: PostgreSQL's programs are missing here, or older than the server.
            OpsError: no restore point, a time that cannot be restored, too high a cost, or no room for a cluster.
            CloudError: the API refuses, or does not answer.
        """
        droplets = [droplet.id for droplet in self.stack.outputs.droplets]
        live = provider.live_cluster(self.cloud, self.stack)
        if not droplets:
            raise OpsError(f"{self.stack.name}: the stack has no droplet to reach a fork from")
        find_tool("pg_restore", at_least=live.version)  # found out now, not beside a fork that costs money
        points = provider.restore_points(self.cloud, live)
        forks.refuse_full(self.cloud, self.cluster_limit)
        return ForkPlan(
            live=live,
            points=points,
            moment=provider.choose(points, self.at, now),
            name=forks.fork_name(live, now),
            droplets=droplets,
            cost=fork_cost(live, self.wait_minutes, self.max_cost),
        )

    def run(self, found: Findings) -> None:
        """Fork, look at everything, and destroy the fork.

        Raises:
            OpsError: as `planned`; or the API refused the fork.
            CloudError: the fork may be left; the message names it.
        """
        planned, outputs = self.planned(found.started), self.stack.outputs
        detail = ForkDetail(
            cluster=planned.live.id,
            region=planned.live.region,
            asked_for=planned.moment,
            first_restore_point=planned.points[0].created_at,
            newest_restore_point=planned.points[-1].created_at,
            newest_budget_hours=outputs.backup.max_age_hours,
            cost_at_most=planned.cost.total,
            cost_limit=self.max_cost,
            prices_read=planned.cost.prices_read,
        )
        found.about(
            detail,
            name=planned.live.name,
            backup=planned.name,
            environment=outputs.environment,
            project=outputs.project,
        )
        _check_points(self, planned, found)
        found.report(
            f"forking {planned.live.name} as of {provider.written(planned.moment)} into {planned.name}: "
            f"at most {planned.cost.total:.2f} US dollars"
        )
        begun, refused = time.monotonic(), False
        try:
            with found.uninterrupted("fork", "the fork that was asked for has to be known"):
                try:
                    detail.fork = forks.create_fork(
                        self.cloud, planned.live, planned.name, planned.moment, planned.droplets
                    )
                except NoAnswerError:
                    raise
                except CloudError:
                    refused = True
                    raise
            with found.phase("wait"):
                patience = Patience(seconds=self.wait_minutes * 60, pause=self.pause)
                fork, seen = forks.wait_online(self.cloud, detail.fork, patience, found.report)
            if fork is None:
                found.answer("online", say("the fork did not come online"), [seen])
            else:
                seconds = detail.fork_seconds = round(time.monotonic() - begun, 3)
                found.answer(
                    "online", say("{seconds:.0f} s, at most {minutes} min", seconds=seconds, minutes=self.wait_minutes)
                )
                _look(self, planned, fork, found, detail)
                if detail.databases:
                    found.recovered(begun)
        finally:
            if not refused:
                with found.uninterrupted("destroy", "the fork is destroyed"):
                    found.report(f"destroying {planned.name}")
                    patience = Patience(seconds=DESTROY_SECONDS, pause=self.pause)
                    gone = forks.destroy_fork(self.cloud, planned.live, planned.name, detail.fork, patience)
                    found.answer("clean", say("fork destroyed") if gone else say("no fork was made"))
                    forks.forget_tag(self.cloud)


def _check_points(job: ForkDrill, planned: ForkPlan, found: Findings) -> None:
    newest = planned.points[-1].created_at
    budget = job.stack.outputs.backup.max_age_hours
    hours = (found.started - newest).total_seconds() / 3600
    answer = say(
        "{count} restore points, the newest {hours:.1f} h old, budget {budget} h",
        count=len(planned.points),
        hours=hours,
        budget=budget,
    )
    found.answer("points", answer, [answer] if hours > budget else None)


def _look(job: ForkDrill, planned: ForkPlan, fork: Cluster, found: Findings, detail: ForkDetail) -> None:
    """Ask the fork everything. That it cannot be asked is an answer too, unless it is live that does not answer."""
    strangers = forks.close_to(job.cloud, fork.id, planned.droplets)
    found.answer("closed", say("only droplet {droplets}", droplets=", ".join(planned.droplets)), strangers)
    with ExitStack() as opened:
        live = opened.enter_context(job.open_live(job.stack))
        try:
            with found.phase("reach"):
                found.report("reaching the fork over the droplet")
                copy = opened.enter_context(job.open_fork(job.cloud, job.stack, fork))
            with found.phase("check"):
                found.report("reading all of it")
                if _check_identity(live[0], copy[0], found, detail):
                    _check_databases(job, live, copy, found, detail)
                    _check_moment(planned, copy[0], found, detail)
        except (CloudError, SourceError, SshError, psycopg.Error) as error:
            found.answer("databases", say("not every database could be read"), [one_line(error)])


def _check_identity(live: Endpoint, copy: Endpoint, found: Findings, detail: ForkDetail) -> bool:
    """See that it is a copy of live, and not live itself."""
    with live.connect() as ours, marked(ours) as is_live, copy.connect() as theirs:
        source, fork, same = identity(ours), identity(theirs), is_live(theirs)
        version = theirs.info.server_version
    detail.server_version = f"{version // 10000}.{version % 10000}"
    detail.identity = IdentityFacts(
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
    found.answer(
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


def _check_moment(planned: ForkPlan, copy: Endpoint, found: Findings, detail: ForkDetail) -> None:
    """Ask the data of which time it is: the provider may have rounded the time that was asked for to a backup's.

    The times of backups are the provider's own, and a backup takes a while: only a time between two is compared.
    """
    with copy.connect() as connection:
        seen = [newest_commit(connection), *(database.canary for database in detail.databases)]
    detail.data_of = max((moment for moment in seen if moment), default=None)
    asked, backups = planned.moment, [point.created_at for point in planned.points]
    answer = say("it does not tell: no commit was replayed since its server started, and it has no canary")
    if detail.data_of is not None:
        answer = say(
            "the newest commit in it is of {found}, asked for {asked}", found=utc(detail.data_of), asked=utc(asked)
        )
    problems: list[str] = []
    if asked not in backups:
        before = max(moment for moment in backups if moment < asked)
        if detail.data_of is None or detail.data_of <= before:
            problems.append(
                say(
                    "nothing in it is newer than the backup of {backup}, which the provider may have given instead: "
                    "let `ops backup canary` write a row before the time that is asked for",
                    backup=utc(before),
                )
            )
        elif detail.data_of > asked + TOLERANCE:
            problems.append(answer)
    found.answer("moment", answer, problems)


def _check_databases(
    job: ForkDrill,
    live: tuple[Endpoint, Endpoint],
    copy: tuple[Endpoint, Endpoint],
    found: Findings,
    detail: ForkDetail,
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
        detail.databases.append(facts)
        unsound += [f"{name}: {problem}" for problem in bad]
    tables = sum(len(database.tables) for database in detail.databases)
    found.rows = sum(database.rows for database in detail.databases)
    found.answer(
        "databases",
        say(
            "{databases} databases, {tables} tables, each read to its last row",
            databases=len(detail.databases),
            tables=tables,
        ),
        absent,
    )
    if not detail.databases:
        return
    changed = [f"{each.database}: {problem}" for each in detail.databases for problem in each.schema_differences]
    accepted = job.schema_may_differ and changed
    if accepted:
        answer = say("{count} differences (allowed by --schema-may-differ)", count=len(changed))
    else:
        answer = say("{count} differences", count=len(changed)) if changed else say("no differences")
    found.answer("schema", answer, [] if accepted else changed)
    found.answer_rows(found.rows)
    valid = say("all constraints and indexes are valid")
    found.answer(
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
