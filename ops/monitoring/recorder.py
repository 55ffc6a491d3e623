"""Record the results of backups and drills for monitoring: one call each, which never fails the work itself."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from ops.core.errors import BusyError, OpsError, StoreError
from ops.drill.evidence.document import Document
from ops.monitoring.alerts import Watch, unattended, watching
from ops.monitoring.state import DrillState, SetState
from ops.monitoring.units import BACKUP_UNIT
from ops.stack.outputs import LoadedStack
from ops.targets import backup_sets


@contextmanager
def backup_run(stack: LoadedStack, name: str | None, made: Sequence[dict[str, Any]]) -> Generator[dict[str, OpsError]]:
    """Monitor the making of backups. Yields a dict for failures by set, which are raised together when the block ends.

    Args:
        stack: the stack.
        name: the one set requested; None for all.
        made: filled inside the block, one item a complete backup: id, name, stores, bytes, rows, seconds.
    """
    wanted = [name] if name is not None else backup_sets.names(stack)
    if name is not None and name not in backup_sets.names(stack):  # a wrong command line raises no alert
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
        from ops.monitoring.heartbeat import ping  # noqa: PLC0415  # httpx, for the one run a day that has where to ask

        ping(address)


def drilled(stack: LoadedStack, name: str, evidence: Document, *, allow_partial: bool = False) -> None:
    """Record a drill's verdict. A negative control, which has to be red, says nothing about the backup."""
    if evidence.damage is not None:
        return
    green = evidence.verdict == "green" or (allow_partial and evidence.verdict == "in part")
    with watching(stack) as watch:
        watch.state.drills[name] = DrillState(
            green=green,
            finished_at=evidence.finished_at,
            rto_seconds=evidence.rto_seconds,
            rpo_seconds=evidence.rpo_seconds,
        )
        if green:
            watch.clear(f"drill/{name}")
        else:
            lacking = "; ".join(each.what for each in evidence.skipped)
            what = evidence.summary() if evidence.verdict == "red" else f"without {lacking}"
            watch.raise_alert(f"drill/{name}", f"the drill of {name} is {evidence.verdict}: {what}", "drill-red")


def drill_not_run(stack: LoadedStack, names: Iterable[str], error: OpsError) -> None:
    """Record why drills could not run: the state of those backups is then unknown."""
    with watching(stack) as watch:
        for name in names:
            watch.raise_alert(f"drill/{name}", f"no drill of {name} was held: {error}", _runbook(error, "drill-red"))


def record_controls(stack: LoadedStack, name: str, unseen: Sequence[str]) -> None:
    """Record the negative controls of a drill; `unseen` are those that did not turn red."""
    with watching(stack) as watch:
        if unseen:
            text = f"drills of {name} prove nothing, because damage was not detected: {', '.join(unseen)}"
            watch.raise_alert(f"control/{name}", text, "drill-red")
        else:
            watch.clear(f"control/{name}")


@contextmanager
def alert_on_error(
    stack: LoadedStack | None, key: str, what: str, runbook: str, *, whole: bool = True
) -> Generator[None]:
    """Alert on an error of other work, and clear that alert if there is none.

    Args:
        stack: the stack; with None nothing is recorded.
        key: subject of the alert, such as `prune`.
        what: the alert's first words.
        runbook: the page for errors other than the store's.
        whole: whether all of the work was done, so that no error means that everything is right.
    """
    try:
        yield
    except OpsError as error:
        if stack is not None:
            with watching(stack) as watch:
                watch.raise_alert(key, f"{what}: {error}", _runbook(error, runbook))
        raise
    if stack is not None and whole:
        with watching(stack) as watch:
            watch.clear(key)


def evidence_checked(stack: LoadedStack, problem: str | None) -> None:
    """Record whether the evidence of drills verifies; `problem` describes a failure in one line."""
    with watching(stack) as watch:
        if problem is None:
            watch.clear("evidence")
        else:
            watch.raise_alert("evidence", f"the evidence of drills does not verify: {problem}", "evidence-broken")


def _runbook(error: BaseException, otherwise: str) -> str:
    return "store-unreachable" if isinstance(error, StoreError) else otherwise


def _raise(failures: dict[str, OpsError]) -> None:
    if len(failures) == 1:
        raise next(iter(failures.values()))
    if failures:
        raise OpsError("; ".join(f"{name}: {error}" for name, error in failures.items()))


def _names(made: Sequence[dict[str, Any]]) -> set[str]:
    return {item["name"] for item in made}


def _note(stack: LoadedStack, made: Sequence[dict[str, Any]], failed: dict[str, BaseException]) -> None:
    with watching(stack) as watch:
        _forget_the_gone(watch, backup_sets.names(stack))
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
            watch.clear(f"backup/{item['name']}", *(f"fresh/{item['name']}/{store}" for store in item["stores"]))
        for name, error in failed.items():
            if isinstance(error, BusyError):  # the running one records its result
                watch.state.busy_at = watch.now
                continue
            watch.state.sets.setdefault(name, SetState()).failures += 1
            text = f"no backup of {name} was made: {_reason(error)}"
            watch.raise_alert(f"backup/{name}", text, _runbook(error, "backup-failed"))
        if not failed:
            watch.clear(f"unit/{BACKUP_UNIT}")


def _forget_the_gone(watch: Watch, names: list[str]) -> None:
    """Drop alerts and figures of sets that the stack no longer has."""
    for prefix in ("backup/", "drill/", "control/"):
        watch.drop(prefix, names)
    state = watch.state
    state.sets = {name: item for name, item in state.sets.items() if name in names}
    state.drills = {name: item for name, item in state.drills.items() if name in names}
    state.copies = [copy for copy in state.copies if copy.name in names]


def _reason(error: BaseException) -> str:
    if isinstance(error, OpsError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "the run was interrupted"
    return f"an unexpected error ({type(error).__name__}); see `journalctl -u {BACKUP_UNIT}`"
