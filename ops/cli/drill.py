"""`ops drill`: restore backups into scratch servers and folders, and keep the results as evidence."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

import typer

from ops.backup.drill_history import DrillHistory
from ops.cli.backup_options import BackupArgument, NameOption, SpoolOption, StoreOption, identities_of, one_name
from ops.cli.drill_options import EvidenceOption, LangOption, ready, signer_of
from ops.cli.drill_output import caught, print_plans
from ops.cli.drill_session import Session
from ops.cli.options import (
    DryRunOption,
    IdentityOption,
    JsonOption,
    OutputsOption,
    ProgressOption,
    SigningKeyOption,
    StackOption,
)
from ops.core import console
from ops.core.console import Progress
from ops.core.errors import BackupNotFoundError, OpsError, StackError, StoreUnreachableError
from ops.drill.context import Plan
from ops.drill.evidence.catalogue import Language
from ops.drill.evidence.details import Choice
from ops.drill.evidence.document import EVIDENCE
from ops.drill.history import read_history
from ops.drill.kinds import backup as of_backup
from ops.drill.kinds.backup import BackupDrill
from ops.drill.negative_controls import Damage
from ops.drill.selection import Pick, choose
from ops.monitoring.audit import audited, note
from ops.monitoring.recorder import drill_not_run, drilled, record_controls
from ops.repository import catalog
from ops.repository.stores.base import Store
from ops.sources.postgres.canary import TABLE, write_canary
from ops.stack.outputs import LoadedStack, load_stack
from ops.targets import backup_sets, destinations, servers

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(m|h|d)|0")
_HOURS = {"m": 1 / 60, "h": 1.0, "d": 24.0}
MOST_HOURS = 365 * 24
"""Longest value of --keep-failed, checked before the drill: a later date could not be written after it."""


@audited("drill")
def drill_command(
    backup: BackupArgument = catalog.LATEST,
    name: NameOption = None,
    pick: Annotated[
        Pick, typer.Option("--pick", help="Which backup of each set to drill when no BACKUP is given.")
    ] = Pick.LATEST,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed that repeats a random choice (with --pick random).")
    ] = None,
    store: StoreOption = None,
    damage: Annotated[
        Damage | None, typer.Option("--damage", help="Run one negative control: drill a copy damaged in this way.")
    ] = None,
    controls: Annotated[
        bool,
        typer.Option(
            "--controls", help="Drill, then run every negative control. Fails unless each damage is detected."
        ),
    ] = False,
    may_be_empty: Annotated[
        bool, typer.Option("--may-be-empty", help="Do not fail when the backup contains no rows.")
    ] = False,
    allow_partial: Annotated[
        bool,
        typer.Option(
            "--allow-partial", help="Count a drill restored in part as green. Skipped objects are still named."
        ),
    ] = False,
    max_age: Annotated[
        int | None,
        typer.Option(
            "--max-age", metavar="HOURS", min=1, help="Maximum age of the newest backup (default: the stack's)."
        ),
    ] = None,
    rto: Annotated[
        int | None,
        typer.Option("--rto", metavar="MINUTES", min=1, help="Maximum time to recover (default: the stack's)."),
    ] = None,
    rpo: Annotated[
        int | None, typer.Option("--rpo", metavar="MINUTES", min=1, help="Maximum data loss (default: --max-age).")
    ] = None,
    identity: IdentityOption = None,
    evidence: EvidenceOption = EVIDENCE,
    signing_key: SigningKeyOption = None,
    keep_failed: Annotated[
        str,
        typer.Option(
            "--keep-failed",
            metavar="TIME",
            help="Keep the unencrypted scratch copy of a red drill for this long: 30m, 2h, 1d (default: remove it).",
        ),
    ] = "0",
    lang: LangOption = Language.EN,
    spool: SpoolOption = None,
    dry_run: DryRunOption = False,
    progress: ProgressOption = Progress.AUTO,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore backups into scratch servers and folders, compare them with their snapshots, and keep the evidence.

    Exits 3 if a drill is red, or restored in part without --allow-partial.
    """
    console.show_progress(progress)
    _refuse_both(backup, pick, seed, damage, controls=controls)
    keep_hours = _hours(keep_failed)
    loaded = load_stack(stack, outputs)
    settings = loaded.outputs.backup
    one_name(loaded, name)  # refuse an unknown name, or a stack without backup sets
    names = backup_sets.names(loaded) if name is None else [name]
    with nullcontext() if dry_run else _held(loaded, names):
        signer = signer_of(loaded, signing_key)
        place = destinations.store(loaded, store)
        identities = identities_of(identity)
        if not dry_run:
            ready(evidence)
    base = BackupDrill(
        environment=loaded.outputs.environment,
        project=loaded.outputs.project,
        name="",
        identities=identities,
        store=place,
        max_age_hours=max_age or settings.max_age_hours,
        rto_minutes=rto or settings.rto_minutes,
        rpo_minutes=rpo,
        signer=settings.signer,
        may_be_empty=may_be_empty,
        spool=spool,
        keep_hours=keep_hours,
    )
    session = _Sets(
        stack=loaded,
        evidence=evidence,
        signer=signer,
        language=lang,
        as_json=as_json,
        controls=controls,
        allow_partial=allow_partial,
    )
    note(stack=loaded.name)
    wanted = _holding(place, names, backup)
    plans: list[Plan] = []
    with session.kept():
        for number, chosen in enumerate(wanted):
            session.left = wanted[number:]
            assertions = tuple(settings.assertions) if chosen == _asserted(loaded) else ()
            job = replace(base, name=chosen, backup=backup, damage=damage, assertions=assertions)
            history = read_history(evidence, place.name, settings.signers).get(chosen, DrillHistory())
            job = replace(job, known=history.seen)
            if backup == catalog.LATEST:
                try:
                    job = _picked(job, pick, history, seed, recipients=settings.recipients, report=session.note)
                except OpsError as error:
                    if dry_run:
                        raise
                    session.failed(chosen, error)
                    continue
                session.note(f"{chosen}: {job.backup}, {job.choice.way}" + _seed(job.choice))
            if dry_run:
                plans.append(job.plan())
            else:
                session.drill(job)
        session.left = ()
    if dry_run:
        print_plans(plans, as_json=as_json)
    else:
        session.judge()


@dataclass(kw_only=True)
class _Sets(Session):
    """The drills of a stack's backup sets. One that cannot be drilled does not stop the drills of the others."""

    stack: LoadedStack
    controls: bool

    def drill(self, job: BackupDrill) -> None:
        """Drill one backup, followed by the negative controls if requested."""
        try:
            result = self.hold(job)
            drilled(self.stack, job.name, result, allow_partial=self.allow_partial)
            if self.controls and result.backup is not None:
                made = of_backup.controls(replace(job, backup=result.backup), self.note, meter=console.progress)
                for control in made:
                    self.add(control)
                record_controls(self.stack, job.name, [str(control.damage) for control in made if not caught(control)])
        except OpsError as error:
            self.failed(job.name, error)

    def failed(self, name: str, error: OpsError) -> None:
        """Record why a drill could not be run. `judge` raises it after the evidence has been written.

        Raises:
            StoreUnreachableError: the store does not answer, and there are no results to write.
        """
        drill_not_run(self.stack, [name], error)
        if isinstance(error, StoreUnreachableError) and not self.made:
            raise error
        self.note(f"{name}: no drill: {error}")
        self.failures.append(f"{name}: {error}")


@contextmanager
def _held(stack: LoadedStack, names: list[str]) -> Generator[None]:
    """Raise an alert if no drill can be run, because of a wrong key or folder."""
    try:
        yield
    except OpsError as error:
        drill_not_run(stack, names, error)
        raise


def canary_command(
    name: Annotated[str | None, typer.Option("--name", "-n", help="Database of the cluster (default: all).")] = None,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a timestamp row into `ancla.canary` of a LIVE database, so that drills can measure data loss.

    It is never written automatically. Run it as often as you want to measure, for example hourly.
    """
    loaded = load_stack(stack, outputs)
    known = servers.databases(loaded)
    if name is not None and name not in known:
        raise StackError(f"{loaded.name}: no database {name}; there are: {', '.join(known) or 'none'}")
    written: dict[str, datetime] = {}
    with servers.database_server(loaded) as (admin, owner):
        for database in [name] if name is not None else known:
            written[database] = write_canary(admin.on(database), owner.user)
    if as_json:
        console.print_json({"canaries": {database: at.isoformat() for database, at in written.items()}})
        return
    for database, at in written.items():
        console.out.print(f"{database}: {at:%Y-%m-%d %H:%M:%S} UTC in {TABLE}")


def _holding(store: Store, names: list[str], backup: str) -> list[str]:
    """Return the backup sets to drill: all of `names`, or the one that has the given backup."""
    if backup == catalog.LATEST:
        return names
    of = [each for each in names if any(entry.id == backup for entry in catalog.entries(store, each))]
    if not of:  # a mistyped id must not count as a red drill
        raise catalog.unknown(store, names[0], backup)
    return of


def _refuse_both(backup: str, pick: Pick, seed: int | None, damage: Damage | None, *, controls: bool) -> None:
    """Reject combinations of options of which one would be silently ignored."""
    if pick is not Pick.LATEST and backup != catalog.LATEST:
        raise typer.BadParameter(f"cannot be combined with BACKUP ({backup})", param_hint="--pick")
    if seed is not None and pick is not Pick.RANDOM:
        raise typer.BadParameter("requires --pick random", param_hint="--seed")
    if damage is not None and controls:
        raise typer.BadParameter("cannot be combined with --controls, which runs all of them", param_hint="--damage")


def _asserted(stack: LoadedStack) -> str | None:
    """Return the database that backup.assertions are run against: the stack's first."""
    own = [source.name for source in stack.outputs.backup.sources if source.kind == "postgresql"]
    return next(iter([*servers.databases(stack), *own]), None)


def _picked(
    job: BackupDrill,
    pick: Pick,
    history: DrillHistory,
    seed: int | None,
    *,
    recipients: Sequence[str],
    report: Callable[[str], None],
) -> BackupDrill:
    complete = [entry.id for entry in catalog.entries(job.store, job.name) if entry.complete]
    digests = catalog.digests_of(job.store, job.name, complete)
    verified = {backup: at for (backup, digest), at in history.verified.items() if digests.get(backup) == digest}
    backup, choice = choose(complete, pick, verified, seed=seed)
    if pick is Pick.LATEST:
        expected = catalog.Expected(signer=job.signer, recipients=recipients)
        with suppress(BackupNotFoundError):  # no backup can be trusted: the drill of the newest reports it
            backup = catalog.find(job.store, job.name, expected=expected, report=report).id
    return replace(job, backup=backup, choice=choice)


def _seed(choice: Choice) -> str:
    return f", --seed {choice.seed}" if choice.seed is not None else ""


def _hours(text: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{text}: not a duration; expected 30m, 2h, 1d or 0", param_hint="--keep-failed")
    hours = float(match[1]) * _HOURS[match[2]] if match[1] else 0
    if hours > MOST_HOURS:
        raise typer.BadParameter(f"{text}: give at most {MOST_HOURS // 24}d", param_hint="--keep-failed")
    return hours
