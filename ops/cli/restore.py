"""`ops restore`: restore a backup into a new target and compare it with the backup."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer
from rich.markup import escape

from ops.cli.backup_options import BackupArgument, OneNameOption, SpoolOption, StoreOption, identities_of, one_name
from ops.cli.options import DryRunOption, IdentityOption, JsonOption, OutputsOption, ProgressOption, StackOption
from ops.core import console
from ops.core.console import Progress
from ops.core.errors import RestoreError, VerdictError
from ops.drill.evidence.document import EVIDENCE
from ops.monitoring.audit import audited, note
from ops.repository import catalog
from ops.repository.age import require_identity
from ops.repository.catalog import Expected
from ops.repository.manifest import Manifest, require_trusted_signature
from ops.restore.restore import RestoreJob, RestorePlan, RestoreReport, plan, run
from ops.restore.table_subset_plan import part_of
from ops.stack.outputs import load_stack
from ops.targets import destinations
from ops.targets.kinds import kind_of


@audited("restore")
def restore_command(
    backup: BackupArgument = catalog.LATEST,
    into: Annotated[
        str | None,
        typer.Option(
            "--into",
            metavar="NAME",
            help="New database, path or s3://BUCKET/PREFIX (default: <name>_restore_<time>).",
        ),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table",
            "-t",
            metavar="SCHEMA.TABLE",
            help="Restore the rows of this table only, named as in `backup show` (repeatable). All definitions are "
            "restored too, except foreign keys from it to tables that stay empty.",
        ),
    ] = None,
    name: OneNameOption = None,
    store: StoreOption = None,
    spool: SpoolOption = None,
    identity: IdentityOption = None,
    unsigned: Annotated[
        bool, typer.Option("--unsigned", help="Allow a backup that is not signed by this environment's key.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail (exit 1, not 3) if something could not be restored.")
    ] = False,
    dry_run: DryRunOption = False,
    evidence: Annotated[
        Path,
        typer.Option("--evidence", metavar="FOLDER", help="Folder of drill evidence, used to estimate the time."),
    ] = EVIDENCE,
    progress: ProgressOption = Progress.AUTO,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore into a NEW database (file, folder, empty bucket or prefix), and compare all of it with the backup.

    An object that cannot be restored is skipped and named, with the statement that would fix it; everything else is
    restored, and the command exits 3 (1 with --strict).
    """
    console.show_progress(progress)
    loaded = load_stack(stack, outputs)
    place = destinations.store(loaded, store)
    settings = loaded.outputs.backup
    expected = None if unsigned else Expected(signer=settings.signer, recipients=settings.recipients)
    manifest = catalog.find(place, one_name(loaded, name), backup, expected=expected, report=console.step)
    note(stack=loaded.name, name=manifest.name, backup=manifest.id)
    identities = identities_of(identity)
    require_trusted_signature(manifest, None if unsigned else settings.signer)
    require_identity(manifest.recipients, identities, manifest.id, plan=dry_run)
    tables = tuple(dict.fromkeys(table or ()))
    part_of(manifest, tables)  # reject an unknown table before anything is downloaded
    kind = kind_of(manifest)
    with kind.target(manifest, into, loaded, tables) as target:
        job = RestoreJob(
            store=place,
            manifest=part_of(manifest, tables),
            target=target,
            identities=identities,
            spool=spool,
            evidence=evidence,
        )
        if dry_run:
            _print_plan(plan(job), manifest, identified=bool(identities), as_json=as_json)
            return
        result = run(job, console.step, console.progress)
    if as_json:
        console.print_json(result.document | {"signed_by": manifest.signer})
    else:
        _print(result, kind.unit)
    if result.in_part:
        text = f"{result.target}: restored in part: {len(result.skipped)} skipped; everything else was compared"
        raise RestoreError(text) if strict else VerdictError(text)


def _print(result: RestoreReport, unit: str) -> None:
    verdict = "[yellow]restored in part[/yellow]" if result.in_part else "[green]equal[/green]"
    tables = result.facts.get("tables")
    rows = f"{result.rows} {unit}" + (f" in {tables} tables" if tables is not None else "")
    console.out.print(
        f"{verdict} {escape(result.target)}: {rows} as of {result.snapshot_at:%Y-%m-%d %H:%M:%S} UTC, "
        f"in {sum(result.seconds.values()):.1f} s",
    )
    for each in result.skipped:
        console.out.print(f"[yellow]skipped[/yellow]: {escape(each.what)}: {escape(each.why)}")
        if each.mend:
            console.out.print(f"    to fix it: {escape(each.mend)}")
    if opened := result.facts.get("made_public"):
        console.out.print(f"made public: {opened} objects, because the backup does not know who could read them")
    left_empty = cast("tuple[str, ...]", result.facts.get("left_empty", ()))
    rest = [*([f"rows of {_named(left_empty)}"] if left_empty else []), *result.left_out]
    if rest:
        console.out.print(f"[yellow]not restored[/yellow]: {escape(', '.join(rest))}")


def _named(tables: tuple[str, ...]) -> str:
    return f"{len(tables)} other tables" if len(tables) > 5 else ", ".join(tables)


def _print_plan(planned: RestorePlan, manifest: Manifest, *, identified: bool, as_json: bool) -> None:
    facts = planned.document | {
        "signed_by": manifest.signer,
        "snapshot_at": manifest.snapshot_at.isoformat(),
        "identity": "given" if identified else "needed" if manifest.recipients else "not needed",
    }
    if as_json:
        console.print_json(facts)
        return
    shown = {name: value for name, value in facts.items() if name not in planned.estimate.facts and name != "skipped"}
    for name, value in {**shown, "time": planned.estimate}.items():
        if value not in ((), None):
            text = escape(", ".join(map(str, value)) if isinstance(value, tuple) else str(value))
            console.out.print(f"{name.replace('_', ' ')}: [bold]{text}[/bold]")
    for each in planned.skipped:
        console.out.print(f"[yellow]will be skipped[/yellow]: {escape(str(each))}")
    if facts.get("only_tables"):
        console.out.print("foreign keys of these tables to tables left empty will be left out, and named at the end")
    console.out.print("nothing was changed")
