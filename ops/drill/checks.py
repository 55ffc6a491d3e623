"""The questions a drill asks, each a small function from what was found to a `Check`."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Sequence
from datetime import datetime

from ops.drill.evidence.document import Check, Questions, TableComparison
from ops.repository.catalog import CLOCK_WRONG
from ops.repository.manifest import Manifest
from ops.repository.records import AnyRecord, TableFingerprint
from ops.sources.base import Difference, Skipped

QUESTIONS = Questions(
    backup="Is there a complete backup, and is its manifest the one that was written?",
    origin="Did this environment make it? Is its manifest signed by the environment's key?",
    age="Is the newest backup young enough?",
    objects="Is every object there, of its size?",
    key="Does the key that is kept for a bad day open it?",
    digests="Is every byte the byte that was written?",
    rows="Is there anything in it at all?",
    identity="Is the scratch server a new one, and so no live one?",
    restore="Does it restore?",
    content="Is the copy equal to the snapshot: rows, content, everything that was counted?",
    integrity="Are all constraints validated and all indexes valid?",
    assertions="Is all true that the app says of its data?",
    rpo="Would no more be lost than the recovery point objective allows?",
    time="Was it back within the recovery time objective?",
    clean="Is the scratch gone, or kept on purpose?",
)


passed, failed = QUESTIONS.passed, QUESTIONS.failed


def check_known(manifest: Manifest, known: Collection[str]) -> Check:
    """Compare the manifest's digest with those that earlier drills have seen under its id."""
    if others := sorted(set(known) - {manifest.digest}):
        wrong = f"rewritten: an earlier drill has seen manifest {others[0][:16]}…, it is {manifest.digest[:16]}… now"
        return failed("backup", wrong, [f"backup {manifest.id} was {wrong}"])
    return passed("backup", f"{manifest.id}, manifest {manifest.digest[:16]}…")


def check_origin(manifest: Manifest, signer: str) -> Check:
    """Hold the manifest's signature against the environment's key (one OpenSSH line)."""
    if manifest.signed_by(signer):
        return passed("origin", f"signed by {key_name(signer)}")
    claimed = manifest.stored.claimed_key
    if claimed is None:
        wrong = "the manifest is not signed"
    else:
        wrong = f"the manifest is not signed by {key_name(signer)}, but by {key_name(claimed)}"
    return failed("origin", wrong, [f"backup {manifest.id}: {wrong}"])


def check_age(newest: Manifest, now: datetime, max_age_hours: int) -> Check:
    """Hold the newest snapshot's age against the budget; a snapshot of the future is wrong too."""
    hours = (now - newest.snapshot_at).total_seconds() / 3600
    answer = f"{hours:.1f} h old, budget {max_age_hours} h"
    ahead = max(newest.snapshot_at, newest.started_at) - now
    if ahead > CLOCK_WRONG:
        wrong = f"it is dated {ahead.total_seconds() / 3600:.1f} h in the future: a clock or the manifest is wrong"
        return failed("age", wrong, [f"backup {newest.id}: {wrong}, and newer ones may be hidden by it"])
    if hours > max_age_hours:
        return failed("age", answer, [f"backup {newest.id} is too old: {answer}"])
    return passed("age", answer)


def check_loss(seconds: float, basis: str, budget_seconds: int) -> Check:
    """Hold what would be lost against the budget."""
    answer = f"{seconds / 3600:.1f} h, {basis}, budget {budget_seconds / 3600:.1f} h"
    if seconds < -CLOCK_WRONG.total_seconds():
        wrong = f"what it is counted from is {-seconds / 3600:.1f} h in the future: a clock is wrong"
        return failed("rpo", wrong, [wrong])
    return passed("rpo", answer) if seconds <= budget_seconds else failed("rpo", answer, [answer])


def check_key(manifest: Manifest, problems: list[str]) -> Check:
    """Judge whether what was fetched could be decrypted."""
    if problems:
        return failed("key", f"{len(problems)} of {len(manifest.objects)} objects stay closed", problems)
    return passed("key", f"for {len(manifest.recipients)} recipients")


def check_assertions(asked: int, problems: list[str]) -> Check:
    """Judge what the app says of its data."""
    if problems:
        return failed("assertions", f"{len(problems)} of {asked} are not true", problems)
    return passed("assertions", f"{asked} are true")


def check_identity(found: str, problems: list[str]) -> Check:
    """Judge the scratch server's answer to which server it is."""
    return failed("identity", found, problems) if problems else passed("identity", found)


def check_restore(done: str, skipped: Sequence[Skipped]) -> Check:
    """Judge the restore: what it skipped is named, and is no failure."""
    if not skipped:
        return passed("restore", f"{done}, no error" if "error" not in done else done)
    return passed("restore", f"in part, without {'; '.join(str(each) for each in skipped)}")


def key_name(line: str) -> str:
    """Return the name of an OpenSSH key as `ssh-keygen -l` gives it."""
    try:
        raw = base64.b64decode(line.split()[1])
    except (ValueError, IndexError):
        return "a text that is no key"
    return "SHA256:" + base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")


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


def check_content(compared: str, found: list[Difference]) -> Check:
    """Judge the comparison with the snapshot."""
    if found:
        return failed("content", f"{len(found)} differences", [str(difference) for difference in found])
    return passed("content", compared)


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


def compare_tables(expected: Sequence[TableFingerprint], found: Sequence[TableFingerprint]) -> list[TableComparison]:
    """Put the two sides of each table beside each other."""
    have = {table.table: table for table in found}
    want = {table.table: table for table in expected}
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
