"""What the verbs of `ops.backup` and `ops.drill` tell the watch: one call each, which never fails the work itself."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from ops import reach
from ops.drill.evidence import Evidence
from ops.errors import OpsError, StoreError
from ops.stack import LoadedStack
from ops.watch.alerts import unattended, watching
from ops.watch.state import DrillState, SetState
from ops.watch.units import BACKUP_UNIT


@contextmanager
def backup_run(stack: LoadedStack, name: str | None, made: Sequence[dict[str, Any]]) -> Generator[dict[str, OpsError]]:
    """Watch the making of backups. Yields where failures go by set: they are raised when the block ends, as one.

    Args:
        stack: whose.
        name: the one set that was asked for; None for all.
        made: filled inside the block, one item a complete backup: id, name, stores, bytes, rows, seconds.
    """
    wanted = [name] if name is not None else reach.names(stack)
    if name is not None and name not in reach.names(stack):  # a wrong command line is nothing to raise an alert about
        yield {}
        return
    failures: dict[str, OpsError] = {}
    try:
        yield failures
        _raise(failures)
    except BaseException as error:  # an interrupt too: systemd ends a run that takes too long
        _note(stack, made, {each: failures.get(each, error) for each in wanted if each not in _names(made)})
        raise
    _note(stack, made, {})
    if name is None and unattended(stack) and (address := stack.secrets.heartbeat) is not None:
        from ops.watch.heartbeat import ping  # noqa: PLC0415  # httpx, for the one run a day that has where to ask

        ping(address)


def drilled(stack: LoadedStack, name: str, evidence: Evidence) -> None:
    """Take note of a drill's verdict. A negative control, which has to be red, says nothing of the backup."""
    if evidence.damage is not None:
        return
    green = evidence.verdict == "green"
    with watching(stack) as watch:
        watch.state.drills[name] = DrillState(
            green=green,
            finished_at=evidence.finished_at,
            rto_seconds=evidence.rto_seconds,
            rpo_seconds=evidence.rpo_seconds,
        )
        if green:
            watch.fine(f"drill/{name}")
        else:
            watch.wrong(f"drill/{name}", f"the drill of {name} is red: {evidence.summary()}", "drill-red")


def evidence_checked(stack: LoadedStack, problem: str | None) -> None:
    """Take note of whether the evidence of drills verifies; `problem` says in one line what does not."""
    with watching(stack) as watch:
        if problem is None:
            watch.fine("evidence")
        else:
            watch.wrong("evidence", f"the evidence of drills does not verify: {problem}", "evidence-broken")


def _raise(failures: dict[str, OpsError]) -> None:
    if len(failures) == 1:
        raise next(iter(failures.values()))
    if failures:
        raise OpsError("; ".join(f"{name}: {error}" for name, error in failures.items()))


def _names(made: Sequence[dict[str, Any]]) -> set[str]:
    return {item["name"] for item in made}


def _note(stack: LoadedStack, made: Sequence[dict[str, Any]], failed: dict[str, BaseException]) -> None:
    with watching(stack) as watch:
        watch.forget("backup/", reach.names(stack))
        for item in made:
            known = watch.state.sets.get(item["name"])
            watch.state.sets[item["name"]] = SetState(
                last_success=datetime.now(UTC),
                backup=item["id"],
                seconds=item.get("seconds"),
                stored_bytes=item["bytes"],
                rows=item["rows"],
                failures=known.failures if known else 0,
            )
            watch.fine(f"backup/{item['name']}", *(f"fresh/{item['name']}/{store}" for store in item["stores"]))
        for name, error in failed.items():
            watch.state.sets.setdefault(name, SetState()).failures += 1
            runbook = "store-unreachable" if isinstance(error, StoreError) else "backup-failed"
            watch.wrong(f"backup/{name}", f"no backup of {name} was made: {_reason(error)}", runbook)
        if not failed:
            watch.fine(f"unit/{BACKUP_UNIT}")


def _reason(error: BaseException) -> str:
    if isinstance(error, OpsError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "the run was interrupted"
    return f"an error that ops does not know ({type(error).__name__}); `journalctl -u {BACKUP_UNIT}` has it"
