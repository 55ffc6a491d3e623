"""`ops restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ops.cli import restore_target
from ops.cli.backup_options import BackupArgument, OneNameOption, SpoolOption, StoreOption, identities_of, one_name
from ops.cli.options import DryRunOption, IdentityOption, JsonOption, OutputsOption, ProgressOption, StackOption
from ops.core import console
from ops.core.console import Progress
from ops.drill.evidence.document import EVIDENCE
from ops.monitoring.audit import audited, note
from ops.repository import catalog
from ops.repository.age import refuse_closed
from ops.repository.catalog import Expected
from ops.repository.manifest import require_trusted_signature
from ops.restore.database import RestoreJob, plan, run
from ops.restore.files import PlaceJob
from ops.restore.table_subset_plan import part_of
from ops.stack.outputs import load_stack
from ops.targets import destinations, servers


@audited("restore")
def restore_command(
    backup: BackupArgument = catalog.LATEST,
    into: Annotated[
        str | None,
        typer.Option(
            "--into", metavar="NAME", help="The new database, path or s3://BUCKET/PREFIX; <name>_restore_<time> else."
        ),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table",
            "-t",
            metavar="SCHEMA.TABLE",
            help="Restore the rows of this table alone, as `backup show` names it (may be repeated). All that is "
            "defined comes too, but no foreign key from it to a table that stays empty.",
        ),
    ] = None,
    name: OneNameOption = None,
    store: StoreOption = None,
    spool: SpoolOption = None,
    identity: IdentityOption = None,
    unsigned: Annotated[
        bool, typer.Option("--unsigned", help="Restore a backup that this environment's key has not signed.")
    ] = False,
    dry_run: DryRunOption = False,
    evidence: Annotated[
        Path,
        typer.Option("--evidence", metavar="FOLDER", help="Where the evidence of drills is: a plan's time is by it."),
    ] = EVIDENCE,
    progress: ProgressOption = Progress.AUTO,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore into a NEW database (file, folder, empty bucket or prefix), and compare all of it with the backup."""
    console.show_progress(progress)
    loaded = load_stack(stack, outputs)
    place = destinations.store(loaded, store)
    settings = loaded.outputs.backup
    expected = None if unsigned else Expected(signer=settings.signer, recipients=settings.recipients)
    manifest = catalog.find(place, one_name(loaded, name), backup, expected=expected, report=console.step)
    note(stack=loaded.name, name=manifest.name, backup=manifest.id)
    identities = identities_of(identity)
    require_trusted_signature(manifest, None if unsigned else settings.signer)
    refuse_closed(manifest.recipients, identities, manifest.id, plan=dry_run)
    tables = tuple(dict.fromkeys(table or ()))
    part_of(manifest, tables)
    if target := restore_target.place_of(loaded, manifest, into):
        given = PlaceJob(
            store=place, manifest=manifest, place=target, identities=identities, spool=spool, evidence=evidence
        )
        restore_target.restore(given, dry_run=dry_run, as_json=as_json)
        return
    with servers.server_of(loaded, manifest.name) as (admin, owner):
        job = RestoreJob(
            store=place,
            manifest=manifest,
            admin=admin,
            owner=owner,
            live=servers.live(loaded),
            identities=identities,
            target=into,
            tables=tables,
            spool=spool,
            evidence=evidence,
        )
        if dry_run:
            _print_plan(job, as_json=as_json)
            return
        result = run(job, console.step, console.progress)
    if as_json:
        console.print_json(
            {
                "backup": result.backup,
                "signed_by": manifest.signer,
                "target": result.target,
                "snapshot_at": result.snapshot_at.isoformat(),
                "rows": result.rows,
                "tables": result.tables,
                "only_tables": result.only_tables,
                "left_empty": result.left_empty,
                "left_out": result.left_out,
                "seconds": result.seconds,
                "differences": [str(difference) for difference in result.differences],
            }
        )
        return
    console.out.print(
        f"[green]equal[/green] {result.target}: {result.rows} rows in {result.tables} tables as of "
        f"{result.snapshot_at:%Y-%m-%d %H:%M:%S} UTC, in {sum(result.seconds.values()):.1f} s",
    )
    if result.left_empty or result.left_out:
        empty = f"rows of {_named(result.left_empty)}" if result.left_empty else ""
        console.out.print(f"[yellow]not restored[/yellow]: {escape(', '.join([empty, *result.left_out]).lstrip(', '))}")


def _named(tables: tuple[str, ...]) -> str:
    return f"{len(tables)} other tables" if len(tables) > 5 else ", ".join(tables)


def _print_plan(job: RestoreJob, *, as_json: bool) -> None:
    planned = plan(job)
    facts = {
        "backup": planned.manifest.id,
        "signed_by": planned.manifest.signer,
        "snapshot_at": planned.manifest.snapshot_at.isoformat(),
        "target": planned.target,
        "target_exists": planned.exists,
        "only_tables": planned.only_tables,
        "left_empty": planned.left_empty,
        "left_out": planned.left_out,
        "objects_of_the_app_made_as": planned.restore_as,
        "bytes_to_fetch": planned.bytes_to_fetch,
        "spool_bytes": planned.spool_bytes,
        "time": planned.estimate,
        "pg_restore": planned.tool,
        "identity": "given" if job.identities else "needed" if planned.manifest.recipients else "not needed",
    }
    if as_json:
        del facts["time"]
        console.print_json(facts | planned.estimate.facts)
        return
    for name, value in facts.items():
        if value != ():
            text = escape(", ".join(value) if isinstance(value, tuple) else str(value))
            console.out.print(f"{name.replace('_', ' ')}: [bold]{text}[/bold]")
    if planned.only_tables:
        console.out.print("foreign keys of these tables to those left empty will be left out, and named in the end")
    console.out.print("nothing was changed")
