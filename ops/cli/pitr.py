"""`ops pitr`: list, drill and clean up restore points of the provider."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ops.cli.drill_options import EvidenceOption, LangOption, ready, signer_of
from ops.cli.drill_output import print_plans
from ops.cli.drill_session import Session
from ops.cli.options import (
    DryRunOption,
    JsonOption,
    OutputsOption,
    SigningKeyOption,
    StackOption,
    point_in_time,
)
from ops.core import console
from ops.core.errors import OpsError, VerdictError
from ops.drill.evidence.catalogue import Language
from ops.drill.evidence.document import EVIDENCE
from ops.drill.kinds.provider_fork import DESTROY_SECONDS, ForkDrill
from ops.managed_postgres import forks, provider
from ops.managed_postgres.forks import Patience
from ops.managed_postgres.provider import Cluster
from ops.monitoring.audit import audited, note
from ops.monitoring.recorder import alert_on_error
from ops.stack.cloud import Cloud, cloud_from_environment
from ops.stack.outputs import load_stack

pitr_app = typer.Typer(no_args_is_help=True)


@pitr_app.command("list")
def pitr_list(stack: StackOption = None, outputs: OutputsOption = None, as_json: JsonOption = False) -> None:
    """List the provider's backups of the stack's cluster. It can be forked at any time after the first."""
    loaded, cloud = load_stack(stack, outputs), cloud_from_environment()
    live = provider.live_cluster(cloud, loaded)
    points, now = provider.restore_points(cloud, live), datetime.now(UTC)
    if as_json:
        listed = [{"created_at": provider.written(p.created_at), "size_gigabytes": p.gigabytes} for p in points]
        console.print_json({"cluster": live.id, "name": live.name, "restore_points": listed})
        return
    table = Table("created (UTC)", "age", "size", title=f"{live.name}, by the provider", title_justify="left")
    for point in points:
        hours = (now - point.created_at).total_seconds() / 3600
        table.add_row(f"{point.created_at:%Y-%m-%d %H:%M:%S}", f"{hours:.1f} h", f"{point.gigabytes:.3f} GB")
    console.out.print(table if points else f"{live.name}: the provider has no backup yet")


@pitr_app.command("drill")
@audited("pitr drill")
def pitr_drill(
    at: Annotated[
        str,
        typer.Option(
            "--at", metavar="TIME", help="Restore point: `latest`, `oldest`, or a time such as 2026-11-23T03:00:00Z."
        ),
    ] = provider.LATEST,
    max_cost: Annotated[
        float, typer.Option("--max-cost", metavar="USD", min=0, help="Refuse to start a drill that may cost more.")
    ] = 1.0,
    cluster_limit: Annotated[
        int,
        typer.Option(
            "--cluster-limit",
            metavar="COUNT",
            min=1,
            help="Database clusters that the team may have: a fork is one more.",
        ),
    ] = forks.CLUSTER_LIMIT,
    wait: Annotated[
        int, typer.Option("--wait", metavar="MINUTES", min=1, help="Time limit for the fork to come online.")
    ] = 60,
    may_be_empty: Annotated[
        bool, typer.Option("--may-be-empty", help="Do not fail when the backup contains no rows.")
    ] = False,
    schema_may_differ: Annotated[
        bool, typer.Option("--schema-may-differ", help="Do not fail when the schema has changed since TIME.")
    ] = False,
    evidence: EvidenceOption = EVIDENCE,
    signing_key: SigningKeyOption = None,
    lang: LangOption = Language.EN,
    dry_run: DryRunOption = False,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fork the cluster from a restore point, read every row, and destroy the fork. Costs money. Exits 3 if red."""
    point_in_time(at, provider.LATEST, provider.OLDEST)
    loaded, cloud = load_stack(stack, outputs), cloud_from_environment()
    job = ForkDrill(
        stack=loaded,
        cloud=cloud,
        at=at,
        max_cost=max_cost,
        cluster_limit=cluster_limit,
        wait_minutes=wait,
        may_be_empty=may_be_empty,
        schema_may_differ=schema_may_differ,
        pause=_pause(cloud),
    )
    if dry_run:
        print_plans(job.plan(), as_json=as_json)
        return
    signer = signer_of(loaded, signing_key)
    ready(evidence)
    note(stack=loaded.name)
    session = Session(evidence=evidence, signer=signer, language=lang, as_json=as_json)
    with alert_on_error(loaded, "pitr", "the provider's backups are not proved", "drill-red"):
        with session.kept():
            session.hold(job)
        session.judge()


@pitr_app.command("sweep")
@audited("pitr sweep")
def pitr_sweep(
    older_than: Annotated[
        float,
        typer.Option(
            "--older-than",
            metavar="HOURS",
            min=0,
            help="Minimum age of a fork: younger ones may belong to a running drill.",
        ),
    ] = 3.0,
    dry_run: DryRunOption = False,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Destroy forks left by killed drills of this cluster. Exits 3 if a cluster only resembles one; it is kept."""
    loaded, cloud = load_stack(stack, outputs), cloud_from_environment()
    live = provider.live_cluster(cloud, loaded)
    result = forks.sweep(
        cloud,
        live,
        timedelta(hours=older_than),
        None if dry_run else Patience(seconds=DESTROY_SECONDS, pause=_pause(cloud)),
    )
    note(stack=loaded.name, destroyed=[cluster.name for cluster in result.destroyed])
    done = "would be destroyed" if dry_run else "destroyed"
    rows: list[tuple[str, Cluster, str]] = [(done, cluster, "") for cluster in result.destroyed]
    rows += [("too young", cluster, f"made {cluster.created_at:%Y-%m-%d %H:%M:%S} UTC") for cluster in result.young]
    rows += [("kept", cluster, reason) for cluster, reason in result.refused]
    rows += [("LEFT", cluster, reason) for cluster, reason in result.failed]
    if as_json:
        listed = [{"id": c.id, "name": c.name, "state": state, "reason": reason} for state, c, reason in rows]
        console.print_json({"cluster": live.id, "forks": listed})
    for state, cluster, reason in () if as_json else rows:
        console.out.print(f"[bold]{state}[/bold] {escape(cluster.name)} ({cluster.id}) {escape(reason)}".rstrip())
    if not rows and not as_json:
        console.out.print(f"{live.name}: no fork to destroy")
    if result.failed:
        raise OpsError(f"{live.name}: not destroyed: {'; '.join(reason for _, reason in result.failed)}")
    if result.refused:
        reasons = "; ".join(f"{cluster.name}: {reason}" for cluster, reason in result.refused)
        raise VerdictError(f"{live.name}: resembles a fork of a drill and was kept: {reasons}; check it yourself")


def _pause(cloud: Cloud) -> float:
    return 10.0 if cloud.is_real else 0.5
