"""`ops backup prune`: delete the backups that retention does not keep, with a reason for each decision."""

from __future__ import annotations

import getpass
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from ops.backup.drill_history import DrillHistory
from ops.backup.override import Override, write_override
from ops.backup.prune import Deletion, Outcome, PruneJob, PrunePlan, act, make_plan
from ops.backup.verification_log import is_trusted
from ops.cli.backup_options import EachStoreOption, NameOption
from ops.cli.options import (
    GIVEN,
    DryRunOption,
    JsonOption,
    OutputsOption,
    SigningKeyOption,
    StackOption,
    YesOption,
)
from ops.cli.trusted_keys import signer_of_record, trusted_keys
from ops.core import console, formatting
from ops.core.errors import BackupNotFoundError, KeyProblemError, OpsError, StoreError, VerdictError
from ops.core.signing import Signer
from ops.drill.evidence.document import EVIDENCE
from ops.drill.history import read_history
from ops.monitoring.audit import audited, note
from ops.monitoring.recorder import alert_on_error
from ops.repository import catalog
from ops.repository.catalog import Expected
from ops.repository.stores.base import Store
from ops.stack.outputs import LoadedStack, load_stack
from ops.targets import destinations


def _look_for(context: typer.Context, parameter: typer.CallbackParam, value: Path) -> Path:
    """Reject an --evidence folder that does not exist: without it, drill-verified backups would be unprotected."""
    source = context.get_parameter_source(str(parameter.name))
    if source is not None and source.name in GIVEN and not value.is_dir():
        raise OpsError(f"{value}: no such folder; give the folder of drill evidence with --evidence")
    return value


AcceptOption = Annotated[
    list[str] | None,
    typer.Option(
        "--accept",
        metavar="ID",
        help="Mark a suspicious backup as good, or a vanished one as lost. Stored in the bucket. Repeatable.",
    ),
]


@dataclass(kw_only=True)
class _Run:
    """One backup set in one store: the plan and the deletions made."""

    plan: PrunePlan
    done: list[Deletion] = field(default_factory=list[Deletion])

    def delete(self) -> None:
        """Execute the plan, recording each deletion as it is made, so that a later failure loses none."""
        for deletion in act(self.plan, datetime.now(UTC), console.step):
            self.done.append(deletion)


@audited("backup prune")
def prune_command(
    dry_run: DryRunOption = False,
    accept: AcceptOption = None,
    name: NameOption = None,
    store: EachStoreOption = None,
    evidence: Annotated[
        Path,
        typer.Option(
            "--evidence",
            metavar="FOLDER",
            callback=_look_for,
            help="Folder of drill evidence, which protects verified backups.",
        ),
    ] = EVIDENCE,
    signing_key: SigningKeyOption = None,
    yes: YesOption = False,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete the backups that retention does not keep. While any backup has a problem, delete nothing and exit 3."""
    if as_json and not (yes or dry_run):
        raise typer.BadParameter("does not ask for confirmation; give --yes or --dry-run too", param_hint="--json")
    loaded = load_stack(stack, outputs)
    note(stack=loaded.name)
    accepting = set(accept or ())
    seal = signer_of_record(loaded, signing_key)
    now = datetime.now(UTC)
    runs: list[_Run] = []
    failures: list[str] = []
    for place in [destinations.store(loaded, store)] if store else destinations.stores(loaded).values():
        with _noted(failures):
            runs += [_Run(plan=make_plan(job, now)) for job in _jobs(loaded, place, name, accepting, evidence, seal)]
    if not failures:
        _refuse_unknown(runs, name, accepting)
    if not as_json:
        for run in runs:
            _print_plan(run.plan)
    if not dry_run:
        doomed = sum(len(run.plan.doomed) for run in runs)
        if doomed and not yes:
            console.confirm(f"Delete {doomed} backups for good?")
        for run in runs:
            with _noted(failures):
                _accept(run.plan, accepting, now)
                run.delete()
    note(
        accepted=sorted(accepting),
        deleted=[deletion.id for run in runs for deletion in run.done if deletion.outcome is Outcome.DELETED],
    )
    if as_json:
        console.print_json({"dry_run": dry_run, "sets": [_as_document(run) for run in runs], "failures": failures})
    else:
        _print_outcome(runs, dry_run=dry_run, seen=not failures)
    whole = name is None and store is None
    with alert_on_error(None if dry_run else loaded, "prune", "retention", "backup-in-doubt", whole=whole):
        _judge(runs, failures)


def _refuse_unknown(runs: list[_Run], name: str | None, accepting: set[str]) -> None:
    if name and not runs:
        raise BackupNotFoundError(f"no backup of {name} in any store; `ops backup list` shows all")
    known = {c.id for run in runs for c, _ in run.plan.steps if c.complete or c.doubts}
    if unknown := accepting - known - {each for run in runs for each in run.plan.given_up}:
        raise BackupNotFoundError(f"--accept: no complete backup {', '.join(sorted(unknown))} in any store")


@contextmanager
def _noted(failures: list[str]) -> Generator[None]:
    """Note that a store failed: the others are pruned all the same."""
    try:
        yield
    except StoreError as error:
        failures.append(str(error))


def _jobs(
    stack: LoadedStack, place: Store, name: str | None, accepting: set[str], evidence: Path, seal: Signer | None
) -> list[PruneJob]:
    backup = stack.outputs.backup
    drilled = read_history(evidence, place.name, backup.signers)
    names = {entry.name for entry in catalog.entries(place, name)} | {each for each in drilled if name in (None, each)}
    return [
        PruneJob(
            store=place,
            name=each,
            policy=destinations.retention(stack, place),
            environment=stack.outputs.environment,
            project=stack.outputs.project,
            expected=Expected(signer=backup.signer, recipients=backup.recipients),
            signers=trusted_keys(stack),
            seal=seal,
            history=drilled.get(each, DrillHistory()),
            accepted=accepting,
        )
        for each in sorted(names)
    ]


def _accept(plan: PrunePlan, accepting: set[str], now: datetime) -> None:
    if accepting and not is_trusted(plan.job.seal, plan.job.signers):
        raise KeyProblemError("--accept: must be signed by a key of backup.signers; give --signing-key")
    for candidate, decision in plan.steps:
        if candidate.id in accepting and decision.keep and candidate.id in plan.digests:
            override = Override(
                name=plan.name,
                backup=candidate.id,
                manifest=plan.digests[candidate.id],
                accepted_at=now,
                accepted_by=getpass.getuser(),
                warnings=decision.warnings,
            )
            write_override(plan.store, override, plan.job.seal)


def _print_plan(plan: PrunePlan) -> None:
    table = Table(title=f"{plan.store.name}: {plan.name}", title_justify="left")
    for column in ("backup", "size", ""):
        table.add_column(column, no_wrap=True)
    table.add_column("why", overflow="fold")
    for candidate, decision in plan.steps:
        word = "[green]keep[/green]" if decision.keep else "[red]delete[/red]"
        why = [*(f"[yellow]{escape(text)}[/yellow]" for text in decision.warnings), *map(escape, decision.reasons)]
        table.add_row(candidate.id, formatting.size(candidate.stored_bytes), word, "\n".join(why))
    console.out.print(table)
    for backup, what in plan.vanished.items():
        console.out.print(f"[red]{escape(backup)}[/red] {escape(what)}")


def _print_outcome(runs: list[_Run], *, dry_run: bool, seen: bool) -> None:
    if not runs:
        if seen:  # every store answered
            console.out.print("no backups")
        return
    doomed = [candidate for run in runs for candidate in run.plan.doomed]
    if dry_run:
        size = formatting.size(sum(candidate.stored_bytes for candidate in doomed))
        console.out.print(f"{len(doomed)} would be deleted, {size}; nothing was changed")
        return
    done = [deletion for run in runs for deletion in run.done]
    console.out.print(f"{sum(deletion.outcome is Outcome.DELETED for deletion in done)} deleted")
    for deletion in done:
        if deletion.outcome is Outcome.NOT_YET:
            console.out.print(f"[yellow]not yet[/yellow] {deletion.id}: {escape(deletion.reason)}")


def _as_document(run: _Run) -> dict[str, Any]:
    done = {deletion.id: deletion for deletion in run.done}
    return {
        "store": run.plan.store.name,
        "name": run.plan.name,
        "vanished": dict(run.plan.vanished),
        "backups": [
            {
                "id": candidate.id,
                "at": candidate.at.isoformat(),
                "complete": candidate.complete,
                "bytes": candidate.stored_bytes,
                "decision": "keep" if decision.keep else "delete",
                "reasons": decision.reasons,
                "warnings": decision.warnings,
                "accepted": candidate.accepted,
                "outcome": done[candidate.id].outcome if candidate.id in done else None,
                "refusal": done[candidate.id].reason or None if candidate.id in done else None,
            }
            for candidate, decision in run.plan.steps
        ],
    }


def _judge(runs: list[_Run], failures: list[str]) -> None:
    if failures:
        raise StoreError(f"{'; '.join(failures)}; run it again to continue")
    problems = [f"{backup} of {run.plan.name} ({what})" for run in runs for backup, what in run.plan.problems.items()]
    if problems:
        raise VerdictError(
            f"nothing is deleted because of problems: {', '.join(problems)}; "
            "look at each, then `ops backup prune --accept ID`"
        )
