"""The questions a drill of a backup of ours asks, each a small function from what was found to a `Check`."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Sequence
from datetime import datetime

from ops.core.messages import say
from ops.drill.evidence.document import Check, Questions, TableComparison
from ops.repository.catalog import CLOCK_WRONG
from ops.repository.manifest import Manifest
from ops.repository.records import TableFingerprint
from ops.sources.base import Difference, Skipped

QUESTIONS = Questions(
    backup="Is there a complete backup, and is its manifest the one that was written?",
    origin="Did this environment make it? Is its manifest signed by the environment's key?",
    age="Is the newest backup within the age budget?",
    objects="Is every object in the store, with its recorded size?",
    key="Can the escrow identity decrypt it?",
    digests="Is every byte as it was written (SHA-256)?",
    rows="Does it contain any rows?",
    identity="Is the scratch server the one this drill started, not a live one?",
    restore="Does it restore?",
    content="Is the copy equal to the snapshot: rows, content and everything else that was counted?",
    integrity="Are all constraints validated and all indexes valid?",
    assertions="Do the app's assertions about its data hold?",
    rpo="Is the possible data loss within the recovery point objective (RPO)?",
    time="Was it restored within the recovery time objective (RTO)?",
    clean="Is the scratch copy removed, or kept on purpose?",
)


ALWAYS = ("backup", "age", "objects", "digests", "rows", "restore", "content", "rpo", "time", "clean")
"""The questions every drill of a backup asks; others are asked where there is something to ask."""

passed, failed = QUESTIONS.passed, QUESTIONS.failed


def check_known(manifest: Manifest, known: Collection[str]) -> Check:
    """Compare the manifest's digest with those that earlier drills have seen under its id."""
    if others := sorted(set(known) - {manifest.digest}):
        earlier, now = others[0][:16], manifest.digest[:16]
        return failed(
            "backup",
            say("rewritten: an earlier drill saw manifest {earlier}…, now it is {now}…", earlier=earlier, now=now),
            [
                say(
                    "backup {backup} was rewritten: an earlier drill saw manifest {earlier}…, now it is {now}…",
                    backup=manifest.id,
                    earlier=earlier,
                    now=now,
                )
            ],
        )
    return passed("backup", say("{backup}, manifest {digest}…", backup=manifest.id, digest=manifest.digest[:16]))


def check_origin(manifest: Manifest, signer: str) -> Check:
    """Check the manifest's signature with the environment's key (one OpenSSH line)."""
    if manifest.signed_by(signer):
        return passed("origin", say("signed by {key}", key=key_name(signer)))
    claimed = manifest.stored.claimed_key
    if claimed is None:
        wrong = say("the manifest is not signed")
    else:
        wrong = say(
            "the manifest is not signed by {key}, but by {other}", key=key_name(signer), other=key_name(claimed)
        )
    return failed("origin", wrong, [say("backup {backup}: {problem}", backup=manifest.id, problem=wrong)])


def check_age(newest: Manifest, now: datetime, max_age_hours: int) -> Check:
    """Compare the newest snapshot's age with the budget; a snapshot dated in the future fails too."""
    hours = (now - newest.snapshot_at).total_seconds() / 3600
    answer = say("{hours:.1f} h old, budget {budget} h", hours=hours, budget=max_age_hours)
    ahead = max(newest.snapshot_at, newest.started_at) - now
    if ahead > CLOCK_WRONG:
        hours = ahead.total_seconds() / 3600
        return failed(
            "age",
            say("dated {hours:.1f} h in the future: a clock or the manifest is wrong", hours=hours),
            [
                say(
                    "backup {backup} is dated {hours:.1f} h in the future: a clock is wrong; it may hide newer ones",
                    backup=newest.id,
                    hours=hours,
                )
            ],
        )
    if hours > max_age_hours:
        return failed("age", answer, [say("backup {backup} is too old: {age}", backup=newest.id, age=answer)])
    return passed("age", answer)


def check_loss(seconds: float, basis: str, budget_seconds: int) -> Check:
    """Compare the possible data loss with the budget."""
    basis = say("measured") if basis == "measured" else say("computed")
    answer = say(
        "{hours:.1f} h, {basis}, budget {budget:.1f} h",
        hours=seconds / 3600,
        basis=basis,
        budget=budget_seconds / 3600,
    )
    if seconds < -CLOCK_WRONG.total_seconds():
        wrong = say("it is counted from {hours:.1f} h in the future: a clock is wrong", hours=-seconds / 3600)
        return failed("rpo", wrong, [wrong])
    return passed("rpo", answer) if seconds <= budget_seconds else failed("rpo", answer, [answer])


def check_key(manifest: Manifest, problems: list[str]) -> Check:
    """Check that the fetched objects could be decrypted."""
    if problems:
        return failed(
            "key",
            say("{wrong} of {all} objects cannot be decrypted", wrong=len(problems), all=len(manifest.objects)),
            problems,
        )
    return passed("key", say("yes, encrypted for {count} recipients", count=len(manifest.recipients)))


def check_assertions(asked: int, problems: list[str]) -> Check:
    """Check the app's assertions about its data."""
    if problems:
        return failed("assertions", say("{wrong} of {all} assertions fail", wrong=len(problems), all=asked), problems)
    return passed("assertions", say("all {all} assertions hold", all=asked))


def check_identity(found: str, problems: list[str]) -> Check:
    """Check which server the scratch server says it is."""
    answer = say("it is {server}", server=found)
    return failed("identity", answer, problems) if problems else passed("identity", answer)


def check_restore(done: str, skipped: Sequence[Skipped]) -> Check:
    """Check the restore; skipped objects are named, and are no failure."""
    if not skipped:
        return passed("restore", say("no error: {done}", done=done) if done else say("no error"))
    return passed("restore", say("in part, without {skipped}", skipped="; ".join(str(each) for each in skipped)))


def key_name(line: str) -> str:
    """Return the name of an OpenSSH key as `ssh-keygen -l` gives it."""
    try:
        raw = base64.b64decode(line.split()[1])
    except (ValueError, IndexError):
        return "a text that is no key"
    return "SHA256:" + base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")


def check_objects(manifest: Manifest, problems: list[str]) -> Check:
    """Check the listing of the store."""
    if problems:
        return failed(
            "objects",
            say("{wrong} of {all} objects are missing or damaged", wrong=len(problems), all=len(manifest.objects)),
            problems,
        )
    return passed("objects", say("all {all} objects", all=len(manifest.objects)))


def check_digests(manifest: Manifest, problems: list[str]) -> Check:
    """Check the digests of the fetched objects."""
    if problems:
        return failed(
            "digests",
            say("{wrong} of {all} objects are missing or damaged", wrong=len(problems), all=len(manifest.objects)),
            problems,
        )
    return passed("digests", say("{size} bytes, SHA-256 as stored and as dumped", size=manifest.stored_bytes))


def check_content(compared: str, found: list[Difference]) -> Check:
    """Check the comparison with the snapshot."""
    if found:
        return failed(
            "content", say("{count} differences", count=len(found)), [str(difference) for difference in found]
        )
    return passed("content", compared)


def check_integrity(problems: list[str]) -> Check:
    """Check the constraints and indexes of the restored copy."""
    if problems:
        return failed("integrity", say("{count} invalid constraints or indexes", count=len(problems)), problems)
    return passed("integrity", say("all constraints and indexes are valid"))


def compare_tables(expected: Sequence[TableFingerprint], found: Sequence[TableFingerprint]) -> list[TableComparison]:
    """Pair each table of the snapshot with that of the copy."""
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
