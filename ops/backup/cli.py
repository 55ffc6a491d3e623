"""`ops backup` and `ops restore`."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from ops import amounts, console, reach
from ops.backup import catalog, places
from ops.backup.fetch import Identities
from ops.backup.keys import Signer, make_identity, read_identities, recipient_of, refuse_closed
from ops.backup.manifest import refuse_stranger
from ops.backup.records import PostgresRecord, SqliteRecord
from ops.backup.remote import create_there
from ops.backup.run import BackupJob, create
from ops.console import Progress
from ops.drill.evidence import EVIDENCE
from ops.errors import OpsError, StackError
from ops.options import DryRunOption, IdentityOption, JsonOption, OutputsOption, ProgressOption, StackOption
from ops.restore import RestoreJob, plan, run
from ops.restore_files import PlaceJob
from ops.restore_part import part_of
from ops.sources.postgres import PostgresDatabase
from ops.stack import LoadedStack, load_stack
from ops.watch.audit import audited, note
from ops.watch.runs import backup_run

NameOption = Annotated[
    str | None,
    typer.Option("--name", "-n", help="What is backed up, as the stack names it; all of it when left out."),
]
OneNameOption = Annotated[
    str | None, typer.Option("--name", "-n", help="What is backed up, as the stack names it; the first when left out.")
]
StoreOption = Annotated[
    str | None, typer.Option("--store", metavar="BUCKET", help="The destination; the stack's first when left out.")
]
SpoolOption = Annotated[
    Path | None,
    typer.Option("--spool", envvar="ANCLA_SPOOL", metavar="FOLDER", help="Where the dump passes through; TMPDIR else."),
]
BackupArgument = Annotated[str, typer.Argument(metavar="[BACKUP]", help="A backup's id, as `backup list` shows it.")]


@audited("backup create")
def create_command(
    name: NameOption = None,
    spool: SpoolOption = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Databases as one stream over one connection: slower, and needs no spool.")
    ] = False,
    progress: ProgressOption = Progress.AUTO,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Dump, compress and upload; the manifest last. What fails leaves nothing in the bucket, and hinders no other."""
    console.show_progress(progress)
    loaded = load_stack(stack, outputs)
    made: list[dict[str, Any]] = []
    with backup_run(loaded, name, made) as failures, reach.sources(loaded) as sources:
        wanted = reach.chosen(loaded, name)
        for chosen in wanted:
            try:
                made += _create(loaded, chosen, sources, spool, stream=stream)
            except Exception as error:  # noqa: BLE001  # whatever is wrong with one set, the others are backed up
                failures[chosen] = error if isinstance(error, OpsError) else _defect(error)
                if len(wanted) > 1:  # of one alone the command's end tells
                    console.step(f"{chosen}: {failures[chosen]}")
            note(stack=loaded.name, backup=" ".join(item["id"] for item in made))
        if as_json:
            console.print_json({"backups": made} | ({"failures": failures} if failures else {}))
            return
        for item in made:
            console.out.print(
                f"[green]complete[/green] {item['id']} of {item['name']}: {item['rows']} rows, "
                f"{amounts.size(item['bytes'])} in {item['objects']} objects",
            )


def _defect(error: Exception) -> OpsError:
    """Say what nobody foresaw by its type and place alone: its text may have a piece of what is backed up."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(last.filename).name}:{last.lineno}"
    return OpsError(f"{type(error).__name__} in {where}: a defect of Ancla; please report it with these words")


def _create(
    loaded: LoadedStack, name: str, sources: Mapping[str, reach.SourceMaker], spool: Path | None, *, stream: bool
) -> list[dict[str, Any]]:
    """Back one set up, here or where its files are; return the report, one item a backup."""
    if reach.elsewhere(loaded, name):
        return create_there(loaded, name, console.step)
    settings, key = loaded.outputs.backup, loaded.secrets.backup_signing_key
    source = sources[name]()
    job = BackupJob(
        environment=loaded.outputs.environment,
        project=loaded.outputs.project,
        name=name,
        source=replace(source, stream=stream) if isinstance(source, PostgresDatabase) else source,
        stores=tuple(reach.stores(loaded).values()),
        recipients=tuple(settings.recipients),
        signer=Signer(key) if key else None,
        level=settings.level,
        spool=spool,
    )
    manifest = create(job, console.step, console.progress)
    return [
        {
            "id": manifest.id,
            "name": name,
            "kind": manifest.source.kind,
            "snapshot_at": manifest.snapshot_at.isoformat(),
            "objects": len(manifest.objects),
            "bytes": manifest.stored_bytes,
            "rows": manifest.source.rows,
            "seconds": (manifest.finished_at - manifest.started_at).total_seconds(),
            "stores": [store.name for store in job.stores],
        }
    ]


def list_command(
    name: NameOption = None,
    store: StoreOption = None,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the restore points, oldest first. Without a manifest one is incomplete: it failed, or is being made."""
    loaded = load_stack(stack, outputs)
    place = reach.store(loaded, store)
    found = catalog.entries(place, name)
    if not found:  # what the stack no longer names may still be stored
        reach.chosen(loaded, name)
    if as_json:
        console.print_json(
            {
                "store": place.name,
                "backups": [
                    {
                        "id": entry.id,
                        "name": entry.name,
                        "begun_at": entry.begun_at.isoformat(),
                        "complete": entry.complete,
                        "objects": entry.objects,
                        "bytes": entry.size,
                    }
                    for entry in found
                ],
            }
        )
        return
    table = Table(title=place.name, title_justify="left", box=None, pad_edge=False)
    table.add_column("backup", no_wrap=True, min_width=catalog.ID_LENGTH)  # it is what other commands are given
    for column in ("name", "begun (UTC)", "state", "objects", "size"):
        table.add_column(column, overflow="fold")
    for entry in found:
        state = "[green]complete[/green]" if entry.complete else "[yellow]incomplete[/yellow]"
        begun = f"{entry.begun_at:%Y-%m-%d %H:%M}"
        table.add_row(entry.id, entry.name, begun, state, str(entry.objects), amounts.size(entry.size))
    console.out.print(table if found else f"{place.name}: no backups yet; run `ops backup create`")


def show_command(
    backup: BackupArgument = catalog.LATEST,
    name: OneNameOption = None,
    store: StoreOption = None,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what one restore point holds, by its manifest."""
    loaded = load_stack(stack, outputs)
    manifest = catalog.find(reach.store(loaded, store), one_name(loaded, name), backup)
    if as_json:
        console.print_json(manifest.model_dump(mode="json"))
        return
    record = manifest.source
    console.out.print(
        f"[bold]{manifest.id}[/bold]  {manifest.environment}/{manifest.name}, {record.kind}, "
        f"as of {manifest.snapshot_at:%Y-%m-%d %H:%M:%S} UTC",
    )
    if isinstance(record, PostgresRecord | SqliteRecord):
        table = Table("table", "rows", "hash", "method")
        left_out = record.left_out if isinstance(record, PostgresRecord) else ()
        for item in record.tables:
            rows = "left out" if item.table in left_out else amounts.count(item.rows)
            table.add_row(item.table, rows, item.hash, item.method)
        console.out.print(table)
    objects = Table("object", "holds", "stored", "dumped", "sha256 as stored")
    for entry in manifest.objects:
        objects.add_row(
            entry.key, entry.holds, amounts.size(entry.size), amounts.size(entry.file_size), entry.sha256[:16]
        )
    console.out.print(objects)
    console.out.print("by hand: RESTORE.md in its folder")


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
    place = reach.store(loaded, store)
    manifest = catalog.find(place, one_name(loaded, name), backup)
    note(stack=loaded.name, name=manifest.name, backup=manifest.id)
    identities = identities_of(identity)
    refuse_stranger(manifest, None if unsigned else loaded.outputs.backup.signer)
    refuse_closed(manifest.recipients, identities, manifest.id, plan=dry_run)
    tables = tuple(dict.fromkeys(table or ()))
    part_of(manifest, tables)
    if target := places.place_of(loaded, manifest, into):
        given = PlaceJob(
            store=place, manifest=manifest, place=target, identities=identities, spool=spool, evidence=evidence
        )
        places.restore(given, dry_run=dry_run, as_json=as_json)
        return
    with reach.server_of(loaded, manifest.name) as (admin, owner):
        job = RestoreJob(
            store=place,
            manifest=manifest,
            admin=admin,
            owner=owner,
            live=reach.live(loaded),
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


def identities_of(file: Path | None) -> Identities:
    """Read the identities of a file, where one is given."""
    return read_identities(file) if file else ()


def one_name(stack: LoadedStack, name: str | None) -> str:
    """Return the name of what is meant.

    Raises:
        StackError: nothing by that name is backed up.
    """
    known = reach.names(stack)
    if not known:
        raise StackError(f"{stack.name}: the stack has nothing that is backed up")
    if name is not None and name not in known:
        raise StackError(f"{stack.name}: no {name} is backed up; there are: {', '.join(known)}")
    return name or known[0]


def keygen_command(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the identity goes (mode 0600).")],
) -> None:
    """Make an age identity: keep the file off the machines, and put the printed recipient in the stack file."""
    text = make_identity()
    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except OSError as error:
        raise OpsError(f"{out}: {error.strerror}; choose another --out") from None
    console.err.print(f"{out}: keep a second copy in escrow: without it the backups are lost.")
    console.err.print("For `ancla:backup.recipients` of the stack file:")
    console.out.print(recipient_of(text))


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
