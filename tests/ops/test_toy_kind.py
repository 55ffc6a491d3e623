"""A kind of backup is one module and one entry: this one is a note, and goes through backup, drill and restore."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import pytest

from ops.core.errors import RestoreRefusedError
from ops.drill.kinds.backup import controls
from ops.repository.records import KindRecord
from ops.restore.restore import RestoreJob, run
from ops.sources.base import Difference, Dump, Examination, ScratchFacts, ScratchTarget, Skipped, SourcePlan, TargetPlan
from ops.targets.kinds import KINDS
from tests.kits.messages import silent
from tests.ops.drill_kit import drill, identity, job, make

__all__ = ["identity"]


class NoteRecord(KindRecord):
    kind: Literal["note"] = "note"
    words: tuple[str, ...]

    @property
    def rows(self):
        return len(self.words)

    def falsified(self):
        return self.model_copy(update={"words": (*self.words, "more")})


@dataclass
class Note(ScratchTarget[NoteRecord]):
    """A source and a target. A word in capitals cannot be restored."""

    words: list[str] = field(default_factory=list)
    name: str = "a note"
    partial: str = "a note"
    done: bool = False

    def plan(self):
        return SourcePlan(what="note", bytes_estimate=1000, details={})

    def dump(self, folder, outbox):
        del outbox
        folder.mkdir()
        (folder / "note").write_text(" ".join(self.words))
        return Dump(files={folder / "note": "the note"}, record=self.fingerprint(), snapshot_at=datetime.now(UTC))

    def fingerprint(self):
        return NoteRecord(words=tuple(self.words))

    def plan_restore(self, record):
        if self.words:
            raise RestoreRefusedError("a note: is not empty")
        return TargetPlan(target=self.name)

    def restore(self, download, record, progress):
        words = (download.wait() / "note").read_text().split()
        self.words = [word for word in words if not word.isupper()]
        return [Skipped(what=word, why="is too loud", mend="say it again, softly") for word in words if word.isupper()]

    def compare(self, record, skipped):
        expected = [word for word in record.words if word not in {each.what for each in skipped}]
        return [] if self.words == expected else [Difference(what="words", found="others", expected="these")]

    def commit(self, skipped):
        self.done = True

    def facts(self):
        return ScratchFacts(profile="in memory")

    def examine(self, record, skipped):
        return Examination(compared=f"{record.rows} words")


class NoteKind:
    unit, new = "words", "a file"

    def left_out(self, record):
        return None

    def last_steps(self, manifest, steps):
        return ['mv note "$NEW"']

    @contextmanager
    def scratch(self, record, where):
        yield Note()

    def scratch_bytes(self, record, dumped):
        return 0


@pytest.fixture(autouse=True)
def entry(monkeypatch):
    monkeypatch.setitem(KINDS, "note", NoteKind())


def test_a_toy_kind_goes_through_backup_drill_and_restore(folder, identity):
    manifest = make(Note(words=["soft", "words"]), identity, folder, recipients=())
    assert (folder.root / "shop" / manifest.id / "RESTORE.md").read_text().count('mv note "$NEW"') == 1
    assert drill(folder, identity).verdict == "green"
    assert {each.verdict for each in controls(job(folder, identity), silent)} == {"red"}
    target = Note()
    report = run(RestoreJob(store=folder, manifest=manifest, target=target), silent)
    assert (report.skipped, target.words, target.done) == ([], ["soft", "words"], True)
    with pytest.raises(RestoreRefusedError, match="is not empty"):
        run(RestoreJob(store=folder, manifest=manifest, target=target), silent)


def test_what_a_kind_skips_is_named_by_restore_and_drill(folder, identity):
    manifest = make(Note(words=["soft", "LOUD"]), identity, folder, recipients=())
    evidence = drill(folder, identity)
    assert (evidence.verdict, [each.what for each in evidence.skipped]) == ("in part", ["LOUD"])
    report = run(RestoreJob(store=folder, manifest=manifest, target=Note()), silent)
    assert report.document["result"] == "in part"
    assert report.document["skipped"] == [{"what": "LOUD", "why": "is too loud", "mend": "say it again, softly"}]
