"""`ops backrest`: physical backups of your own PostgreSQL server, made and restored by pgBackRest."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import BaseModel, RootModel

from ops.cli.backrest_output import print_info
from ops.cli.drill_options import EvidenceOption, LangOption, ready, signer_of
from ops.cli.drill_output import print_plans
from ops.cli.drill_session import Session
from ops.cli.options import (
    DryRunOption,
    JsonOption,
    OutputsOption,
    ProgressOption,
    SigningKeyOption,
    StackOption,
    point_in_time,
)
from ops.core import console
from ops.core.console import Progress
from ops.core.errors import OpsError, VerdictError
from ops.core.formatting import size
from ops.drill.evidence.catalogue import Language
from ops.drill.evidence.document import EVIDENCE, Document
from ops.drill.kinds.pgbackrest import BackrestDrill
from ops.monitoring.audit import audited, note
from ops.monitoring.recorder import alert_on_error
from ops.pgbackrest import driver, info
from ops.pgbackrest.report import Answer, NewBackup, StanzaReport
from ops.pgbackrest.target import Target, target
from ops.stack.outputs import load_stack
from ops.stack.remote_ops import PROGRESS, run_ops

backrest_app = typer.Typer(no_args_is_help=True)
DEFAULT_AGE = 26
StanzaOption = Annotated[
    str | None,
    typer.Option("--stanza", metavar="NAME", help="pgBackRest stanza (default: the stack's, if it has exactly one)."),
]
HereOption = Annotated[
    bool, typer.Option("--here", help="The server runs on this host: read no stack. Requires --stanza.")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="PGBACKREST_CONFIG",
        metavar="FILE",
        help="pgBackRest configuration file (default: pgBackRest's own).",
    ),
]
AgeOption = Annotated[
    float | None,
    typer.Option(
        "--max-age",
        metavar="HOURS",
        min=0,
        help=f"Maximum age of the newest backup (default: the stack's, or {DEFAULT_AGE}).",
    ),
]
RepoOption = Annotated[
    int | None, typer.Option("--repo", metavar="KEY", min=1, help="Repository to use, if there are several.")
]


class Type(StrEnum):
    """Type of a pgBackRest backup: full, differential (since the last full one) or incremental (since the last)."""

    FULL = "full"
    DIFF = "diff"
    INCR = "incr"


@backrest_app.command("info")
def backrest_info(
    stanza: StanzaOption = None,
    max_age: AgeOption = None,
    here: HereOption = False,
    config: ConfigOption = None,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    progress: ProgressOption = Progress.AUTO,
    as_json: JsonOption = False,
) -> None:
    """List the backups of a stanza. Exits 3 if none is recent enough, or a repository has a problem."""
    console.show_progress(progress)
    chosen = _target(here, stack, outputs, stanza)
    budget = max_age if max_age is not None else _budget(chosen)
    if chosen.here:
        report = StanzaReport.of(info.read(driver.find(config), chosen.stanza), budget, datetime.now(UTC))
    else:
        report = _on_droplet(chosen, StanzaReport, ["info", f"--max-age={budget}"], config)
    if as_json:
        console.print_json(report.model_dump(mode="json"))
    else:
        print_info(report)
    if report.problems:
        raise VerdictError(f"stanza {chosen.stanza}: {'; '.join(report.problems)}")


@backrest_app.command("backup")
@audited("backrest backup")
def backrest_backup(
    kind: Annotated[
        Type, typer.Option("--type", help="Type of backup. Without an earlier full backup, it is made full.")
    ] = Type.INCR,
    stanza: StanzaOption = None,
    repo: RepoOption = None,
    here: HereOption = False,
    config: ConfigOption = None,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    progress: ProgressOption = Progress.AUTO,
    as_json: JsonOption = False,
) -> None:
    """Make a backup now. pgBackRest applies its own retention (repo1-retention-full)."""
    console.show_progress(progress)
    chosen = _target(here, stack, outputs, stanza)
    note(name=chosen.stanza)
    options = [f"--repo={repo}"] if repo else []
    if chosen.here:
        made = _make(driver.find(config), chosen.stanza, kind, options)
    else:
        made = _on_droplet(chosen, NewBackup, ["backup", f"--type={kind}", *options], config)
    note(backup=made.label)
    if as_json:
        console.print_json(made.model_dump(mode="json"))
        return
    stored = "" if made.stored is None else f", {size(made.stored)} stored"
    console.out.print(
        f"[green]complete[/green] {made.label} of {made.stanza}: {made.type}, "
        f"{size(made.size)}{stored}, {made.seconds:.0f} s"
    )


@backrest_app.command("check")
def backrest_check(
    stanza: StanzaOption = None,
    here: HereOption = False,
    config: ConfigOption = None,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    progress: ProgressOption = Progress.AUTO,
    as_json: JsonOption = False,
) -> None:
    """Check WAL archiving: switch a WAL segment and wait until it is in the archive."""
    console.show_progress(progress)
    chosen = _target(here, stack, outputs, stanza)
    if chosen.here:
        begun = datetime.now(UTC)
        driver.find(config).run("check", stanza=chosen.stanza, report=_warn)
        answer = Answer(stanza=chosen.stanza, problems=(), seconds=_since(begun))
    else:
        answer = _on_droplet(chosen, Answer, ["check"], config)
    if as_json:
        console.print_json(answer.model_dump(mode="json"))
    else:
        console.out.print(f"[green]in order[/green] {answer.stanza}: WAL reaches the archive ({answer.seconds:.0f} s)")


@backrest_app.command("verify")
def backrest_verify(
    stanza: StanzaOption = None,
    repo: RepoOption = None,
    here: HereOption = False,
    config: ConfigOption = None,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    progress: ProgressOption = Progress.AUTO,
    as_json: JsonOption = False,
) -> None:
    """Check every file of the repository against its checksum. Exits 3 if one is damaged or missing."""
    console.show_progress(progress)
    chosen = _target(here, stack, outputs, stanza)
    options = [f"--repo={repo}"] if repo else []
    if chosen.here:
        begun = datetime.now(UTC)
        pgbackrest = driver.find(config)
        empty = [] if info.read(pgbackrest, chosen.stanza).backup else ["there is no backup to verify"]
        problems = empty or driver.verify(pgbackrest, chosen.stanza, options)
        answer = Answer(stanza=chosen.stanza, problems=tuple(problems), seconds=_since(begun))
    else:
        answer = _on_droplet(chosen, Answer, ["verify", *options], config)
    if as_json:
        console.print_json(answer.model_dump(mode="json"))
    elif not answer.problems:
        console.out.print(
            f"[green]intact[/green] {answer.stanza}: every file matches its checksum ({answer.seconds:.0f} s)"
        )
    if answer.problems:
        problems = "; ".join(answer.problems[:3]) + (
            f"; and {len(answer.problems) - 3} more" if answer.problems[3:] else ""
        )
        raise VerdictError(f"stanza {answer.stanza}: {problems}; make a full backup")


@backrest_app.command("drill")
@audited("backrest drill")
def backrest_drill(
    at: Annotated[
        str,
        typer.Option("--at", metavar="TIME", help="Recovery target: `latest`, or a time such as 2026-11-23T03:00:00Z."),
    ] = "latest",
    stanza: StanzaOption = None,
    repo: RepoOption = None,
    max_age: AgeOption = None,
    rto: Annotated[
        int | None,
        typer.Option("--rto", metavar="MINUTES", min=1, help="Maximum time to recover (default: the stack's)."),
    ] = None,
    wait: Annotated[int, typer.Option("--wait", metavar="MINUTES", min=1, help="Time limit for replaying WAL.")] = 60,
    user: Annotated[str, typer.Option("--user", metavar="ROLE", help="Superuser of the server.")] = "postgres",
    spool: Annotated[
        Path | None, typer.Option("--spool", metavar="FOLDER", help="Folder to restore into (default: $TMPDIR).")
    ] = None,
    may_be_empty: Annotated[
        bool, typer.Option("--may-be-empty", help="Do not fail when the backup contains no rows.")
    ] = False,
    evidence: EvidenceOption = EVIDENCE,
    signing_key: SigningKeyOption = None,
    lang: LangOption = Language.EN,
    dry_run: DryRunOption = False,
    report_only: Annotated[
        bool,
        typer.Option("--report-only", hidden=True, help="Print the report and write no evidence: the caller keeps it."),
    ] = False,
    here: HereOption = False,
    config: ConfigOption = None,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    progress: ProgressOption = Progress.AUTO,
    as_json: JsonOption = False,
) -> None:
    """Restore into a scratch server, recover to a time, read every row, and remove the server. Exits 3 if red."""
    console.show_progress(progress)
    moment, chosen = point_in_time(at, "latest"), _target(here, stack, outputs, stanza)
    note(name=chosen.stanza, **({"stack": chosen.stack.name} if chosen.stack else {}))
    signer = signer_of(chosen.stack, signing_key)
    budget = max_age if max_age is not None else _budget(chosen)
    rto = rto if rto is not None or chosen.stack is None else chosen.stack.outputs.backup.rto_minutes
    arguments = ["drill", f"--at={at}", f"--max-age={budget}", f"--wait={wait}", f"--user={user}"]
    arguments += [f"--repo={repo}"] if repo else []
    arguments += [f"--rto={rto}"] if rto else []
    arguments += [f"--spool={spool}"] if spool else []
    arguments += ["--may-be-empty"] if may_be_empty else []

    def job() -> BackrestDrill:
        return BackrestDrill(
            pgbackrest=driver.find(config),
            stanza=chosen.stanza,
            environment=chosen.stack.outputs.environment if chosen.stack else None,
            at=moment,
            repository=repo,
            user=user,
            max_age_hours=budget,
            rto_minutes=rto,
            wait_minutes=wait,
            may_be_empty=may_be_empty,
            spool=spool,
        )

    if dry_run:
        there = None if chosen.here else _on_droplet(chosen, _RemotePlan, [*arguments, "--dry-run"], config)
        print_plans(job().plan() if there is None else there.root, as_json=as_json)
        return
    if not report_only:
        ready(evidence)
    session = Session(evidence=None if report_only else evidence, signer=signer, language=lang, as_json=as_json)
    with alert_on_error(
        chosen.stack, f"backrest/{chosen.stanza}", f"stanza {chosen.stanza} is not proved", "drill-red"
    ):
        with session.kept():
            if chosen.here:
                session.hold(job())
            else:
                # the document is kept and signed here, in one chain
                session.add(_on_droplet(chosen, Document, [*arguments, "--report-only"], config))
        session.judge()


def _target(here: bool, stack: str | None, outputs: Path | None, stanza: str | None) -> Target:
    return target(None if here else load_stack(stack, outputs), stanza)


def _budget(chosen: Target) -> float:
    return chosen.stack.outputs.backup.max_age_hours if chosen.stack else DEFAULT_AGE


_RemotePlan = RootModel[dict[str, int | float | str | None]]
_Model = TypeVar("_Model", bound=BaseModel)


def _on_droplet(chosen: Target, model: type[_Model], arguments: list[str], config: Path | None) -> _Model:
    """Run the same command on the droplet that runs the stanza's server. A report is also returned with exit code 3."""
    if chosen.stack is None:
        raise AssertionError("without a stack the server runs on this host")
    where = [f"--stanza={chosen.stanza}", *([f"--config={config}"] if config else [])]
    return run_ops(chosen.stack, ["backrest", *arguments, *where, "--json", PROGRESS], model, reported=(0, 3))


def _make(pgbackrest: driver.Pgbackrest, stanza: str, kind: Type, options: list[str]) -> NewBackup:
    before = {(b.label, b.database.repository) for b in info.read(pgbackrest, stanza).backup}
    begun = datetime.now(UTC)
    console.step(f"pgbackrest {kind} backup of {stanza}")
    done = pgbackrest.run("backup", f"--type={kind}", *options, stanza=stanza, report=_warn)
    after = info.read(pgbackrest, stanza).backup
    new = [b for b in after if (b.label, b.database.repository) not in before]
    if not new:
        raise OpsError(f"stanza {stanza}: pgbackrest reported success, but lists no new backup")
    made = new[-1]
    if made.error:
        raise VerdictError(
            f"stanza {stanza}: {made.label} was made, but pages of the server have wrong checksums: "
            f"{'; '.join(done.warnings[:3])}"
        )
    return NewBackup(
        stanza=stanza,
        label=made.label,
        type=made.type,
        seconds=_since(begun),
        size=made.info.size,
        stored=made.info.repository.delta,
        warnings=done.warnings,
    )


def _warn(text: str) -> None:
    console.step(text)


def _since(begun: datetime) -> float:
    return round((datetime.now(UTC) - begun).total_seconds(), 3)
