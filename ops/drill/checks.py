"""The questions a drill asks, each a small function from what was found to a `Check`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from ops.backup.manifest import Manifest
from ops.backup.records import AnyRecord, PostgresRecord
from ops.drill.evidence import Check, Status, TableComparison
from ops.sources.base import Difference

QUESTIONS = {
    "backup": "Is there a complete backup, and is its manifest the one that was written?",
    "age": "Is the data in it young enough for the recovery point objective?",
    "objects": "Is every object there, of its size?",
    "digests": "Is every byte the byte that was written?",
    "restore": "Does PostgreSQL restore it without an error?",
    "content": "Is every table equal to the snapshot: rows, content, sequences, large objects?",
    "rows": "Is there anything in it at all?",
    "integrity": "Are all constraints validated and all indexes valid?",
    "time": "Was it back within the recovery time objective?",
    "clean": "Is the scratch server gone?",
}


def passed(name: str, answer: str) -> Check:
    """Build a check that passed."""
    return Check(name=name, question=QUESTIONS[name], status=Status.PASSED, answer=answer)


def failed(name: str, answer: str, problems: Iterable[str] = ()) -> Check:
    """Build a check that failed."""
    return Check(name=name, question=QUESTIONS[name], status=Status.FAILED, answer=answer, problems=list(problems))


def with_skipped(checks: list[Check]) -> list[Check]:
    """Return every question in its order; what was not asked is `skipped`, so that it is not taken for answered."""
    asked = {check.name: check for check in checks}
    return [
        asked.get(name) or Check(name=name, question=question, status=Status.SKIPPED, answer="not reached")
        for name, question in QUESTIONS.items()
    ]


def check_age(manifest: Manifest, now: datetime, max_age_hours: int) -> Check:
    """Hold the snapshot's age against the budget; a snapshot of the future is wrong too."""
    hours = (now - manifest.snapshot_at).total_seconds() / 3600
    answer = f"{hours:.1f} h old, budget {max_age_hours} h"
    if hours < -0.1:  # six minutes of difference between two clocks
        return failed("age", f"the snapshot is {-hours:.1f} h in the future: a clock or the manifest is wrong")
    if hours > max_age_hours:
        return failed("age", answer, [f"backup {manifest.id} is too old: {answer}"])
    return passed("age", answer)


def check_objects(manifest: Manifest, problems: list[str]) -> Check:
    """Judge the listing."""
    if problems:
        return failed("objects", f"{len(problems)} of {len(manifest.objects)} objects are not right", problems)
    return passed("objects", f"{len(manifest.objects)} objects")


def check_digests(manifest: Manifest, problems: list[str]) -> Check:
    """Judge what was fetched."""
    if problems:
        return failed("digests", f"{len(problems)} of {len(manifest.objects)} objects are not right", problems)
    return passed("digests", f"{manifest.stored_bytes} bytes, SHA-256 as stored and as dumped")


def check_content(record: PostgresRecord, found: list[Difference]) -> Check:
    """Judge the comparison with the snapshot."""
    if found:
        return failed("content", f"{len(found)} differences", [str(difference) for difference in found])
    return passed("content", f"{len(record.tables)} tables, {record.rows} rows, {len(record.sequences)} sequences")


def check_rows(record: AnyRecord, *, may_be_empty: bool) -> Check:
    """An empty database restores perfectly, and is what a backup of the wrong database looks like."""
    if record.rows:
        return passed("rows", f"{record.rows} rows")
    if may_be_empty:
        return passed("rows", "none, as was said")
    return failed("rows", "no row in any table; say --may-be-empty if that is right", ["the backup holds no row"])


def check_integrity(problems: list[str]) -> Check:
    """Judge the catalogue of the restored copy."""
    if problems:
        return failed("integrity", f"{len(problems)} are not", problems)
    return passed("integrity", "all of them")


def check_time(seconds: float, budget_minutes: int) -> Check:
    """Hold the measured time against the budget."""
    answer = f"{seconds:.1f} s, budget {budget_minutes} min"
    return passed("time", answer) if seconds <= budget_minutes * 60 else failed("time", answer, [answer])


def compare_tables(found: PostgresRecord, expected: PostgresRecord) -> list[TableComparison]:
    """Put the two sides of each table beside each other."""
    have = {table.table: table for table in found.tables}
    want = {table.table: table for table in expected.tables}
    result: list[TableComparison] = []
    for name in sorted(have.keys() | want.keys()):
        left, right = want.get(name), have.get(name)
        known = left or right
        result.append(
            TableComparison(
                table=name,
                expected_rows=left.rows if left else None,
                found_rows=right.rows if right else None,
                method=known.method if known else "",
                equal=left == right,
            )
        )
    return result
