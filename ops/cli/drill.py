"""`ops drill`: restore backups into a place of their own, and keep what was found as evidence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ops.backup.drill_history import DrillHistory
from ops.cli.backup_options import BackupArgument, SpoolOption, StoreOption, identities_of, one_name
from ops.cli.drill_options import EvidenceOption, LangOption, SigningKeyOption, ready, signer_of
from ops.cli.drill_output import print_drill, print_place
from ops.cli.options import IdentityOption, JsonOption, OutputsOption, ProgressOption, StackOption
from ops.core import console
from ops.core.console import Progress
from ops.core.errors import BackupNotFoundError, OpsError, StackError, StoreUnreachableError, VerdictError
from ops.core.signing import Signer
from ops.drill import runner as drilling
from ops.drill.evidence import chain, report
from ops.drill.evidence.catalogue import Language
from ops.drill.evidence.document import EVIDENCE, Choice, Evidence
from ops.drill.history import read_history
from ops.drill.negative_controls import CAUGHT_BY, EXPLAINED, Damage
from ops.drill.runner import DrillJob
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
"""How long a red drill's scratch may stay; a date beyond what can be written would be found out after a long drill."""


@audited("drill")
def drill_command(
    backup: BackupArgument = catalog.LATEST,
    name: Annotated[
        str | None,
        typer.Option("--name", "-n", help="What is backed up, as the stack names it; all when left out."),
    ] = None,
    pick: Annotated[
        Pick, typer.Option("--pick", help="Which backup of each, where none is named. The others prove older ones.")
    ] = Pick.LATEST,
    seed: Annotated[int | None, typer.Option("--seed", help="Repeat a random choice.")] = None,
    store: StoreOption = None,
    damage: Annotated[
        Damage | None, typer.Option("--damage", help="A negative control: drill a copy that is damaged in this way.")
    ] = None,
    controls: Annotated[
        bool, typer.Option("--controls", help="Drill, then every negative control; red unless each control is caught.")
    ] = False,
    may_be_empty: Annotated[
        bool, typer.Option("--may-be-empty", help="Do not fail when the backup contains no rows.")
    ] = False,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Count a restore in part as green: what was skipped is named.")
    ] = False,
    max_age: Annotated[
        int | None,
        typer.Option("--max-age", metavar="HOURS", min=1, help="Budget of the newest backup's age; the stack's else."),
    ] = None,
    rto: Annotated[
        int | None,
        typer.Option("--rto", metavar="MINUTES", min=1, help="Budget of the time to recover; the stack's else."),
    ] = None,
    rpo: Annotated[
        int | None, typer.Option("--rpo", metavar="MINUTES", min=1, help="Budget of what may be lost; the age's else.")
    ] = None,
    identity: IdentityOption = None,
    evidence: EvidenceOption = EVIDENCE,
    signing_key: SigningKeyOption = None,
    keep_failed: Annotated[
        str,
        typer.Option(
            "--keep-failed",
            metavar="TIME",
            help="Keep a red drill's scratch copy, unencrypted, for so long: 30m, 2h, 1d (default: remove it).",
        ),
    ] = "0",
    lang: LangOption = Language.EN,
    spool: SpoolOption = None,
    progress: ProgressOption = Progress.AUTO,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore backups into scratch places, compare them with their snapshots, and keep the evidence.

    Red exits 3, and so does a restore in part, unless --allow-partial is given.
    """
    console.show_progress(progress)
    _refuse_both(backup, pick, seed, damage, controls=controls)
    keep_hours = _hours(keep_failed)
    loaded = load_stack(stack, outputs)
    settings = loaded.outputs.backup
    one_name(loaded, name)  # there is something, and that too
    names = backup_sets.names(loaded) if name is None else [name]
    with _held(loaded, names):
        signer = signer_of(loaded, signing_key)
        place = destinations.store(loaded, store)
        identities = identities_of(identity)
        ready(evidence)
    base = DrillJob(
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
    session = _Session(stack=loaded, controls=controls, allow_partial=allow_partial)
    wanted = _holding(place, names, backup)
    try:
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
                    session.failed(chosen, error)
                    continue
                session.note(f"{chosen}: {job.backup}, {job.choice.way}" + _seed(job.choice))
            session.drill(job)
        session.left = []
    finally:  # an interrupt too: what was found until then is kept, and red stays red
        if session.made:
            session.keep(evidence, signer, lang, as_json=as_json)
    session.judge()


@dataclass(kw_only=True)
class _Session:
    """All drills of one run of the command. A source whose drill cannot be held does not keep the others from it."""

    stack: LoadedStack
    controls: bool
    allow_partial: bool = False
    made: list[Evidence] = field(default_factory=list[Evidence])
    log: list[str] = field(default_factory=list[str])
    failures: list[str] = field(default_factory=list[str])
    left: list[str] = field(default_factory=list[str])
    """What is being drilled, and what is to be drilled after it."""

    def keep(self, evidence: Path, signer: Signer | None, language: Language, *, as_json: bool) -> None:
        """Write down what was found, and print it where all was drilled.

        Raises:
            OpsError: the folder cannot be written.
        """
        if self.left:
            rest = f"; not drilled: {', '.join(self.left[1:])}" if self.left[1:] else ""
            self.note(f"broken off at {self.left[0]}{rest}")
        note(stack=self.stack.name, backups=[made.backup for made in self.made if made.damage is None])
        links, html = chain.append(
            evidence,
            self.made,
            log="".join(f"{line}\n" for line in self.log),
            render=partial(report.render, language=language, signer=signer.public if signer else None),
            signer=signer,
        )
        documents = [json.loads(link.stored.content) for link in links]
        if self.left:
            console.step(f"evidence until then: {html}")
        elif as_json:
            console.print_json(documents[0] if len(documents) == 1 else documents)
        else:
            _print(self.made, html, signed=signer is not None)

    def note(self, text: str) -> None:
        """Tell a step, and write it down."""
        console.step(text)
        self.log.append(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z {text}")

    def drill(self, job: DrillJob) -> None:
        """Drill one backup, with its controls where they are wanted."""
        try:
            complete = [entry.id for entry in catalog.entries(job.store, job.name) if entry.complete]
            present = catalog.digests_of(job.store, job.name, complete)
            result = drilling.run(job, self.note, meter=console.progress)
            result = result.model_copy(update={"present": present})
            self._add(result)
            drilled(self.stack, job.name, result, allow_partial=self.allow_partial)
            if self.controls and result.backup is not None:
                made = drilling.controls(replace(job, backup=result.backup), self.note, meter=console.progress)
                for control in made:
                    self._add(control)
                record_controls(self.stack, job.name, [str(control.damage) for control in made if not caught(control)])
        except OpsError as error:
            self.failed(job.name, error)

    def failed(self, name: str, error: OpsError) -> None:
        """Keep why a drill could not be held, for `judge` to raise when what was proved is written down.

        Raises:
            StoreUnreachableError: the store does not answer, and there is nothing to write down.
        """
        drill_not_run(self.stack, [name], error)
        if isinstance(error, StoreUnreachableError) and not self.made:
            raise error
        self.note(f"{name}: no drill: {error}")
        self.failures.append(f"{name}: {error}")

    def _add(self, result: Evidence) -> None:
        for check in result.checks:
            self.log.append(f"  {check.status} {check.name}: {'; '.join([check.answer, *check.problems])}")
        self.made.append(result)

    def judge(self) -> None:
        """Raise what is wrong.

        Raises:
            VerdictError: a drill is red, or a negative control was not caught.
            OpsError: a drill could not be held.
        """
        drills = [r for r in self.made if r.damage is None]
        red = [r for r in drills if r.verdict == "red"]
        in_part = [r for r in drills if r.verdict == "in part"]
        unseen = [r for r in self.made if r.damage is not None and not caught(r)]
        if unseen:
            what = ", ".join(f"{r.damage} of {r.backup}" for r in unseen)
            raise VerdictError(f"damage that was NOT seen, so that drills prove nothing: {what}")
        if red:
            texts = [f"drill of {r.backup or r.name} is red: {r.summary()}" for r in red]
            raise VerdictError(" — ".join([*texts, *self.failures]))
        if self.failures:
            raise OpsError("; ".join(self.failures))
        if in_part and not self.allow_partial:
            texts = [
                f"drill of {r.backup} restored in part, without {', '.join(s.what for s in r.skipped)}" for r in in_part
            ]
            raise VerdictError(" — ".join(texts))
        controls = [r for r in self.made if r.damage is not None]
        if controls and not self.controls:
            raise VerdictError(
                f"negative control {controls[0].damage} of {controls[0].backup}: {controls[0].summary()}"
            )


@contextmanager
def _held(stack: LoadedStack, names: list[str]) -> Generator[None]:
    """Tell what keeps all drills from being held: a key or a folder that is wrong."""
    try:
        yield
    except OpsError as error:
        drill_not_run(stack, names, error)
        raise


def canary_command(
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="One database of the cluster; each of them when left out.")
    ] = None,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write one row with the time into `ancla.canary` of a LIVE database, so that drills measure what would be lost.

    Nothing writes it unasked. Run it as often as you want to measure, for example hourly.
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


def caught(control: Evidence) -> bool:
    """Say whether a negative control turned the check red that is there for it."""
    return CAUGHT_BY[Damage(control.damage)] in {check.name for check in control.red}


def _holding(store: Store, names: list[str], backup: str) -> list[str]:
    """Return what to drill: all of these, or the one whose backup is named."""
    if backup == catalog.LATEST:
        return names
    of = [each for each in names if any(entry.id == backup for entry in catalog.entries(store, each))]
    if not of:  # an id mistyped is no red drill
        raise catalog.unknown(store, names[0], backup)
    return of


def _refuse_both(backup: str, pick: Pick, seed: int | None, damage: Damage | None, *, controls: bool) -> None:
    """Refuse options of which one would be passed over without a word."""
    if pick is not Pick.LATEST and backup != catalog.LATEST:
        raise typer.BadParameter(f"chooses a backup, and {backup} is named; give one of them", param_hint="--pick")
    if seed is not None and pick is not Pick.RANDOM:
        raise typer.BadParameter("repeats a random choice; give it with --pick random", param_hint="--seed")
    if damage is not None and controls:
        raise typer.BadParameter("is one of those that --controls runs; give one of them", param_hint="--damage")


def _asserted(stack: LoadedStack) -> str | None:
    """Return the database that the app's assertions are asked of: the stack's first."""
    own = [source.name for source in stack.outputs.backup.sources if source.kind == "postgresql"]
    return next(iter([*servers.databases(stack), *own]), None)


def _picked(
    job: DrillJob,
    pick: Pick,
    history: DrillHistory,
    seed: int | None,
    *,
    recipients: Sequence[str],
    report: Callable[[str], None],
) -> DrillJob:
    complete = [entry.id for entry in catalog.entries(job.store, job.name) if entry.complete]
    digests = catalog.digests_of(job.store, job.name, complete)
    verified = {backup: at for (backup, digest), at in history.verified.items() if digests.get(backup) == digest}
    backup, choice = choose(complete, pick, verified, seed=seed)
    if pick is Pick.LATEST:
        expected = catalog.Expected(signer=job.signer, recipients=recipients)
        with suppress(BackupNotFoundError):  # none can be trusted: the drill of the newest says so
            backup = catalog.find(job.store, job.name, expected=expected, report=report).id
    return replace(job, backup=backup, choice=choice)


def _seed(choice: Choice) -> str:
    return f", --seed {choice.seed}" if choice.seed is not None else ""


def _hours(text: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{text}: not a time: give 30m, 2h, 1d or 0", param_hint="--keep-failed")
    hours = float(match[1]) * _HOURS[match[2]] if match[1] else 0
    if hours > MOST_HOURS:
        raise typer.BadParameter(f"{text}: give at most {MOST_HOURS // 24}d", param_hint="--keep-failed")
    return hours


def _print(made: list[Evidence], html: Path, *, signed: bool) -> None:
    for result in (r for r in made if r.damage is None):
        print_drill(result)
    damaged = [r for r in made if r.damage is not None]
    if damaged:
        table = Table("", "negative control", "must turn red", title_justify="left", title="Damaged on purpose")
        for result in damaged:
            kind = Damage(result.damage)
            word = "[green]caught[/green]" if caught(result) else "[bold red]NOT SEEN[/bold red]"
            table.add_row(word, escape(f"{result.name}: {EXPLAINED[kind]}"), CAUGHT_BY[kind])
        console.out.print(table)
    print_place(html, signed=signed)
