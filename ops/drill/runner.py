"""Hold a drill of any kind: its folder, its times, its verdict and its document are made here, its steps by the kind.

A drill is given no way to anything live but what its kind reads there. It goes on after a failure as far as it can, so
that the report names all that is wrong and not only the first. What a killed drill left is removed by the next one.
"""

from __future__ import annotations

import platform
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

from ops.core.messages import say
from ops.core.progress import ProgressFactory, no_progress
from ops.drill.context import Drill, Findings, Report
from ops.drill.evidence.document import Document, SkippedObject, Status, Verdict
from ops.drill.workdir import Kept, drill_folder, keep, sweep


def run(drill: Drill, report: Report, *, meter: ProgressFactory = no_progress) -> Document:
    """Drill, and return the evidence; a red verdict is a result, not an exception.

    Args:
        drill: the kind with its arguments.
        report: called with a line for each step.
        meter: shown how much was fetched, and loaded.

    Raises:
        OpsError: the drill could not be held, by this host or by the store or provider: nothing can be said about the
            backup. See the kind's `run`.
        SpoolError: no scratch folder can be made.
    """
    for gone in sweep(drill.spool):
        report(f"removed {gone}: what a killed drill had left, or a red one past its time")
    kept = False
    with drill_folder(drill.spool) as folder, ExitStack() as scratch:
        found = Findings(
            questions=drill.questions,
            asks=set(drill.always),
            folder=folder,
            scratch=scratch,
            may_be_empty=drill.may_be_empty,
            report=report,
            meter=meter,
        )
        drill.run(found)
        if not found.enough:
            _check_time(drill, found)
            kept = _keep(drill, found)  # before the scratch server is stopped, which asks whether its files stay
    if not found.enough and "clean" not in {check.name for check in found.checks}:
        if kept:
            found.answer("clean", say("kept for {hours:g} h, because the drill is red", hours=drill.keep_hours))
        elif folder.exists():
            found.answer("clean", say("not removed"), [str(folder)])
        else:
            found.answer("clean", say("removed"))
    return _document(drill, found)


def _check_time(drill: Drill, found: Findings) -> None:
    if "time" not in found.questions:
        return
    if drill.rto_minutes is None:
        found.skip("time", say("no budget was given"))
    elif found.rto is not None:
        answer = say("{seconds:.1f} s, budget {budget} min", seconds=found.rto, budget=drill.rto_minutes)
        found.answer("time", answer, [answer] if found.rto > drill.rto_minutes * 60 else None)


def _keep(drill: Drill, found: Findings) -> bool:
    """Let the scratch of a red drill stay for a while, for a person to look into it; return True if it stays."""
    if not (found.red and found.look and drill.keep_hours):
        return False
    until = datetime.now(UTC) + timedelta(hours=drill.keep_hours)
    why = "; ".join(f"{check.name}: {check.answer}" for check in found.red)
    removal = keep(found.folder, Kept(backup=found.backup or "", why=why, expires_at=until, look=found.look))
    found.report(
        f"kept unencrypted until {until:%Y-%m-%d %H:%M} UTC: {found.folder} (kept.json says how to look into it); "
        f"{removal}"
    )
    return True


def _document(drill: Drill, found: Findings) -> Document:
    assert found.detail is not None  # noqa: S101  # each kind's `run` says first what it drills
    checks = found.questions.in_full(found.checks, found.asks)
    open_ones = {check.name for check in checks if check.status is Status.SKIPPED} & found.asks
    if found.stop_after is not None:  # a negative control stops early
        open_ones = set()
    verdict: Verdict = "red" if found.red or open_ones else "in part" if found.skipped else "green"
    return Document(
        environment=found.environment,
        project=found.project,
        name=found.name,
        backup=found.backup,
        damage=found.damage,
        verdict=verdict,
        proves=found.detail.proves,
        started_at=found.started,
        finished_at=datetime.now(UTC),
        rto_seconds=found.rto,
        rto_budget_seconds=None if drill.rto_minutes is None else drill.rto_minutes * 60,
        rpo_seconds=found.rpo,
        rpo_basis=found.rpo_basis,
        rpo_budget_seconds=found.rpo_budget,
        profile=found.profile,
        rows=found.rows,
        stored_bytes=found.stored_bytes,
        checks=checks,
        phases=found.phases,
        skipped=[SkippedObject(what=each.what, why=each.why, mend=each.mend) for each in found.skipped],
        not_compared=found.not_compared,
        tools=found.tools,
        runner=platform.node(),
        detail=found.detail,
    )
