"""`ops backup verify` and `ops backup fresh`: check the stored objects and the age of the newest backup."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from ops.backup.verify import Verdict, VerifyJob, verify
from ops.cli.backup_options import EachStoreOption, NameOption
from ops.cli.options import JsonOption, OutputsOption, ProgressOption, SigningKeyOption, StackOption
from ops.cli.trusted_keys import signer_of_record, trusted_keys
from ops.core import console, formatting
from ops.core.console import Progress
from ops.core.errors import StackError, StoreError, VerdictError
from ops.drill.evidence.document import EVIDENCE
from ops.drill.history import read_history
from ops.monitoring import audit
from ops.monitoring.alerts import watching
from ops.monitoring.state import CopyState, VerifyState
from ops.monitoring.units import FRESHNESS_UNIT
from ops.repository.catalog import Expected
from ops.repository.freshness import Freshness, look, stale
from ops.repository.stores.base import Store
from ops.stack.outputs import LoadedStack, load_stack
from ops.targets import backup_sets, destinations

MetricsOption = Annotated[
    Path | None,
    typer.Option("--metrics", envvar="ANCLA_METRICS", metavar="FILE", help="Prometheus text file to write."),
]


@audit.audited("backup verify")
def verify_command(
    name: NameOption = None,
    store: EachStoreOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Read every object, including those verified recently.")
    ] = False,
    sample: Annotated[
        int | None, typer.Option("--sample", min=1, metavar="N", help="Read a random sample of N objects.")
    ] = None,
    max_age: Annotated[
        float,
        typer.Option(
            "--max-age",
            min=0,
            metavar="DAYS",
            help="Read objects again that were verified more than this many days ago.",
        ),
    ] = 30,
    evidence: Annotated[
        Path,
        typer.Option(
            "--evidence", metavar="FOLDER", help="Folder of drill evidence, which records the manifests seen."
        ),
    ] = EVIDENCE,
    signing_key: SigningKeyOption = None,
    metrics: MetricsOption = None,
    progress: ProgressOption = Progress.AUTO,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check stored objects against the manifests (size, SHA-256). Exits 3 if one is damaged, lost or rewritten.

    By default reads only objects not verified in the last 30 days, and objects replaced since.
    """
    if everything and sample is not None:
        raise typer.BadParameter("cannot be combined with --all", param_hint="--sample")
    console.show_progress(progress)
    loaded = load_stack(stack, outputs)
    audit.note(stack=loaded.name)
    settings = loaded.outputs.backup
    seal = signer_of_record(loaded, signing_key)
    now = datetime.now(UTC)
    verdicts: dict[str, Verdict] = {}
    failures: dict[str, str] = {}
    for place in _places(loaded, store):
        job = VerifyJob(
            store=place,
            name=_known(loaded, name),
            expected=Expected(signer=settings.signer, recipients=settings.recipients),
            signers=trusted_keys(loaded),
            seal=seal,
            history=read_history(evidence, place.name, settings.signers),
            max_age=timedelta(days=max_age),
            everything=everything,
            sample=sample,
        )
        try:
            verdicts[place.name] = verify(job, now, console.step, console.progress)
        except StoreError as error:
            failures[place.name] = str(error)
    _note_verdicts(loaded, verdicts, failures, metrics, complete=name is None and sample is None)
    problems = [problem for verdict in verdicts.values() for problem in verdict.problems]
    if as_json:
        console.print_json({"stores": {name: _as_document(v) for name, v in verdicts.items()}, "failures": failures})
    else:
        for name_of, verdict in verdicts.items():
            _print(name_of, verdict)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise VerdictError(f"damaged: {problems[0]}{more}; see docs/runbooks/verify-damaged.md")
    if failures:
        raise StoreError("; ".join(failures.values()))


def fresh_command(
    name: NameOption = None,
    store: EachStoreOption = None,
    max_age: Annotated[
        float | None,
        typer.Option(
            "--max-age",
            envvar="ANCLA_MAX_AGE_HOURS",
            min=0,
            metavar="HOURS",
            help="Maximum age of the newest backup (default: the stack's backup.maxAge).",
        ),
    ] = None,
    metrics: MetricsOption = None,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the age of the newest complete backup of each set in each store. Exits 3 if one is too old or missing."""
    loaded = load_stack(stack, outputs)
    settings = loaded.outputs.backup
    known = _known(loaded, name)
    names = [known] if known else backup_sets.due(loaded)
    if not backup_sets.names(loaded):
        raise StackError(f"{loaded.name}: the stack has nothing that is backed up")
    budget = max_age if max_age is not None else settings.max_age_hours
    found: list[Freshness] = []
    failures: dict[str, str] = {}
    for place in _places(loaded, store):
        try:
            found += look(
                place,
                names,
                budget_hours=budget,
                signer=settings.signer,
                now=datetime.now(UTC),
                recipients=settings.recipients,
            )
        except StoreError as error:
            failures[place.name] = str(error)
    _note_freshness(loaded, found, failures, metrics)
    late = stale(found)
    if as_json:
        sets = [
            {"name": f.name, "store": f.store, "backup": f.backup, "age_seconds": f.age, "budget_seconds": f.budget}
            | {"fresh": f.fresh, "passed_over": f.passed_over}
            for f in found
        ]
        console.print_json({"fresh": not late and not failures, "sets": sets, "failures": failures})
    else:
        for item in found:
            mark = "[green]fresh[/green]" if item.fresh else "[red]LATE[/red]"
            console.out.print(f"{mark} {escape(str(item))}")
    if late:
        raise VerdictError(
            f"no backup within the budget: {'; '.join(map(str, late))}; see docs/runbooks/backup-missing.md"
        )
    if failures:
        raise StoreError("; ".join(failures.values()))


def _note_freshness(stack: LoadedStack, found: list[Freshness], failures: dict[str, str], metrics: Path | None) -> None:
    with watching(stack, metrics=metrics) as watch:
        stores = [place.name for place in destinations.stores(stack).values()]
        watch.drop("fresh/", [f"{name}/{store}" for name in backup_sets.names(stack) for store in stores])
        watch.drop("store/", stores)
        fresh = {(item.name, item.store) for item in found}
        kept = [copy for copy in watch.state.copies if (copy.name, copy.store) not in fresh]
        watch.state.copies = [
            *kept,
            *(CopyState(name=f.name, store=f.store, age=f.age, budget=f.budget) for f in found),
        ]
        for item in found:
            if item.fresh:
                watch.clear(f"fresh/{item.name}/{item.store}")
            else:
                watch.raise_alert(
                    f"fresh/{item.name}/{item.store}", f"no backup within the budget: {item}", "backup-missing"
                )
            watch.clear(f"store/{item.store}")
        if not failures and not stale(found):
            watch.clear(f"unit/{FRESHNESS_UNIT}")
        for name, text in failures.items():
            watch.raise_alert(f"store/{name}", f"cannot check for backups: {text}", "store-unreachable")


def _note_verdicts(
    stack: LoadedStack,
    verdicts: dict[str, Verdict],
    failures: dict[str, str],
    metrics: Path | None,
    *,
    complete: bool,
) -> None:
    with watching(stack, metrics=metrics) as watch:
        for name, verdict in verdicts.items():
            watch.state.verified[name] = VerifyState(
                finished_at=watch.now,
                verified=verdict.read,
                damaged=len(verdict.problems),
                oldest=verdict.oldest,
            )
            watch.clear(f"store/{name}")
            if verdict.problems:
                text = f"{len(verdict.problems)} damaged: {'; '.join(verdict.problems[:5])}"
                watch.raise_alert(f"verify/{name}", text, "verify-damaged")
            elif complete:
                watch.clear(f"verify/{name}")
        for name, text in failures.items():
            watch.raise_alert(f"store/{name}", f"the store cannot be verified: {text}", "store-unreachable")


def _places(stack: LoadedStack, store: str | None) -> list[Store]:
    return [destinations.store(stack, store)] if store else list(destinations.stores(stack).values())


def _known(stack: LoadedStack, name: str | None) -> str | None:
    known = backup_sets.names(stack)
    if name is not None and name not in known:
        raise StackError(f"{stack.name}: no {name} is backed up; there are: {', '.join(known)}")
    return name


def _print(store: str, verdict: Verdict) -> None:
    colour, word = ("red", "DAMAGED") if verdict.problems else ("green", "intact")
    console.out.print(
        f"[{colour}]{word}[/{colour}] {escape(store)}: {verdict.backups} backups, {verdict.objects} objects; "
        f"{verdict.read} read now ({formatting.size(verdict.read_bytes)}), {verdict.remembered} verified before"
        + (f", {never} not yet" if (never := verdict.objects - verdict.read - verdict.remembered) else "")
    )
    for problem in verdict.problems:
        console.out.print(f"  {escape(problem)}")


def _as_document(verdict: Verdict) -> dict[str, Any]:
    return {
        "backups": verdict.backups,
        "objects": verdict.objects,
        "read": verdict.read,
        "read_bytes": verdict.read_bytes,
        "not_read": verdict.objects - verdict.read,
        "verified_before": verdict.remembered,
        "oldest": verdict.oldest.isoformat() if verdict.oldest else None,
        "problems": verdict.problems,
    }
