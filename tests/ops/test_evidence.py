"""The chain of evidence: one changed character anywhere, a link taken out, put in, or signed by another key is red."""

from __future__ import annotations

import json
import random
import shutil
import threading
from datetime import UTC, datetime, timedelta

import pytest

from ops.core.errors import KeyProblemError, OpsError
from ops.core.signing import Namespace, Signer, canonical, digest, seal
from ops.drill import checks
from ops.drill.evidence import chain, store
from ops.drill.evidence.document import Attachment
from ops.drill.evidence.store import write, write_signed
from ops.drill.evidence.verification import verify
from ops.drill.history import read_history
from ops.stack.init import make_key
from tests.ops.drill_kit import RUNNER, document

OTHER = Signer(make_key())
KEYS = [RUNNER.public]
HEAD = "chain-drill-staging-000006.json"


def add(folder, *documents, signer=RUNNER):
    folder.mkdir(exist_ok=True)
    made, _ = chain.append(folder, documents or [document()], log="a step\n", signer=signer)
    return made


@pytest.fixture
def drills(tmp_path):
    """Five runs, six documents."""
    folder = tmp_path / "drills"
    start = datetime(2026, 10, 1, 4, tzinfo=UTC)
    for week in range(4):
        add(folder, document(started_at=start + timedelta(weeks=week)))
    moment = start + timedelta(weeks=4)
    add(folder, document(started_at=moment), document(started_at=moment, damage="flip", verdict="red"))
    return folder


def wrong(folder, keys=KEYS, **more):
    return [(problem.file, problem.what) for problem in verify(folder, keys, **more).problems]


def files(folder, ending=".json"):
    return sorted(path for path in folder.iterdir() if path.name.startswith("drill-") and path.suffix == ending)


def test_a_sound_chain_verifies(drills):
    found = verify(drills, KEYS)
    assert found.problems == []
    assert [link.document.sequence for link in found.links] == [1, 2, 3, 4, 5, 6]
    assert found.links[0].document.previous is None
    for before, link in zip(found.links, found.links[1:], strict=False):
        assert link.document.previous == digest(before.path.read_bytes())
    assert found.heads == {"drill-staging": (6, found.links[-1].sha256)}
    assert wrong(drills, head=found.links[-1].sha256) == []


def test_a_document_is_canonical_json_and_its_own_bytes(drills):
    for path in files(drills):
        raw = path.read_bytes()
        assert raw == json.dumps(
            json.loads(raw), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()  # fmt: skip


def test_one_changed_character_anywhere_is_red_and_names_the_file(drills):
    """Every byte of the newest document, whose digest no later one holds; and samples of every other file."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    newest = files(drills)[-1]
    places = [(newest, at) for at in range(newest.stat().st_size)]
    for path in sorted(drills.iterdir()):
        size = path.stat().st_size
        places += [(path, at) for at in {0, size - 1, *(chance.randrange(size) for _ in range(12))}]
    for path, at in places:
        sound = path.read_bytes()
        other = bytearray(sound)
        other[at] ^= 1
        path.write_bytes(other)
        named = path.name.removesuffix(".sig")
        assert named in {file for file, _ in wrong(drills)}, (path.name, at, bytes(sound[at : at + 1]))
        path.write_bytes(sound)
    assert wrong(drills) == []


def test_added_space_and_another_order_are_red(drills):
    path = files(drills)[2]
    sound = path.read_bytes()
    others = [
        sound + b"\n",
        json.dumps(json.loads(sound)).encode(),
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"1" * 9,
    ]
    for other in others:
        path.write_bytes(other)
        assert path.name in {file for file, _ in wrong(drills)}, other[:40]


def test_a_removed_link_is_red_wherever_it_was(drills):
    for path in files(drills):
        sound = path.read_bytes()
        path.unlink()
        assert wrong(drills) != [], path.name
        path.write_bytes(sound)
    (drills / HEAD).unlink()
    assert wrong(drills) == [("chain-drill-staging", "the head of the chain is missing or not one")]


def test_an_end_cut_off_together_with_an_older_head_needs_the_digest_kept_elsewhere(drills, tmp_path):
    """What a folder alone cannot tell, and `--head` does."""
    older = tmp_path / "older"
    shutil.copytree(drills, older)
    head = verify(drills, KEYS).heads["drill-staging"][1]
    add(drills)
    newer = verify(drills, KEYS).heads["drill-staging"][1]
    assert wrong(older) == []
    assert wrong(older, head=head) == []
    assert wrong(older, head=newer) != []


def test_a_renamed_swapped_or_copied_link_is_red(drills):
    first, second = files(drills)[:2]
    first.rename(drills / "aside.json")
    assert "document 1 missing" in str(wrong(drills))
    (drills / "aside.json").rename(first)
    raw = first.read_bytes()
    first.write_bytes(second.read_bytes())
    assert wrong(drills) != []
    first.write_bytes(raw)
    shutil.copy(first, drills / first.name.replace("shop", "shop-again"))
    assert "a second document 1" in str(wrong(drills))


def test_a_link_that_is_forged_whole_needs_a_key_that_is_believed(drills):
    path = files(drills)[-1]
    facts = json.loads(path.read_bytes())
    facts["verdict"] = "green"
    write_signed(path, seal(canonical(facts), OTHER, Namespace.EVIDENCE))
    assert (path.name, f"signed by a key that is not trusted: {OTHER.public[:80]}") in wrong(drills)
    believed = wrong(drills, [RUNNER.public, OTHER.public])
    assert [what for _, what in believed] == ["not the document that the head of the chain names"]


def test_an_older_document_signed_anew_by_the_right_key_breaks_the_link_after_it(drills):
    path = files(drills)[1]
    facts = json.loads(path.read_bytes())
    facts["rto_seconds"] = 1.0
    write_signed(path, seal(canonical(facts), RUNNER, Namespace.EVIDENCE))
    assert wrong(drills) == [(files(drills)[2].name, "the chain is broken before it: it names another document")]


def test_what_is_not_signed_is_red(tmp_path):
    add(tmp_path / "drills", signer=None)
    assert {what for _, what in wrong(tmp_path / "drills")} == {"not signed"}


def test_logs_and_pages_are_held_to_their_digests_where_they_are(drills):
    page, log = files(drills, ".html")[0], files(drills, ".log")[1]
    page.write_text(page.read_text().replace("green", "verde"))
    log.write_text(log.read_text() + "and another\n")
    assert {file for file, _ in wrong(drills)} == {page.name, log.name}
    page.unlink()
    log.unlink()
    assert wrong(drills) == []
    assert verify(drills, KEYS).absent == [page.name, log.name]


def test_an_attachment_leads_nowhere_else(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("x")
    made = add(tmp_path / "drills")
    path = made[0].path
    outside = Attachment(file="../secret", sha256="0" * 64)
    facts = json.loads(path.read_bytes()) | {"log": outside.model_dump()}
    write_signed(path, seal(canonical(facts), RUNNER, Namespace.EVIDENCE))
    assert not any("secret" in file for file, _ in wrong(tmp_path / "drills"))


def test_one_document_alone(drills):
    path = files(drills)[3]
    assert wrong(path) == []
    path.write_bytes(path.read_bytes().replace(b"4552", b"4553"))
    assert wrong(path) == [(path.name, "changed after it was signed")]


def test_without_a_key_to_believe_or_without_evidence_nothing_is_said(drills, tmp_path):
    with pytest.raises(KeyProblemError, match="no key is trusted"):
        verify(drills, [])
    with pytest.raises(OpsError, match="no evidence"):
        verify(tmp_path, KEYS)
    with pytest.raises(OpsError, match="no such folder"):
        verify(tmp_path / "none", KEYS)


def test_a_chain_that_lost_its_end_goes_on_after_it_and_stays_red(drills):
    files(drills)[-1].unlink()
    (made,) = add(drills)
    assert made.document.sequence == 7, "no number is given twice"
    assert [what for _, what in wrong(drills)] == ["the chain is broken before it: document 6 missing"]


class Killed(BaseException):
    """As kill -9 does."""


def test_what_a_killed_drill_leaves_is_sound(drills, monkeypatch):
    """At whatever file it was killed: page, log, signature, document; signature and file of the new head; old ones."""
    before = {path.name: path.read_bytes() for path in drills.iterdir()}
    made = []

    def killed(path, content):
        made.append(path.name)
        if len(made) > allowed:
            raise Killed
        return write(path, content)

    monkeypatch.setattr(store, "write", killed)
    monkeypatch.setattr(chain, "write", killed)
    for allowed in range(7):
        made.clear()
        try:
            add(drills)
        except Killed:
            assert allowed < 6
        assert wrong(drills) == [], made
        for path in drills.iterdir():
            if path.name not in before:
                path.unlink()
        for name, content in before.items():
            (drills / name).write_bytes(content)
    assert allowed == 6
    assert made[-1] == "chain-drill-staging-000007.json"
    monkeypatch.undo()
    head = (drills / HEAD).read_bytes(), (drills / f"{HEAD}.sig").read_bytes()
    add(drills)
    (drills / HEAD).write_bytes(head[0])  # killed before the old head went
    (drills / f"{HEAD}.sig").write_bytes(head[1])
    assert wrong(drills) == []
    assert add(drills)[0].document.sequence == 8
    assert wrong(drills) == []


def test_each_environment_has_its_own_chain(drills):
    add(drills, document(environment="prod"))
    found = verify(drills, KEYS)
    assert found.problems == []
    assert {name: number for name, (number, _) in found.heads.items()} == {"drill-staging": 6, "drill-prod": 1}


def test_drills_that_end_at_once_never_fork_the_chain(tmp_path):
    folder = tmp_path / "drills"
    folder.mkdir()
    failures = []

    def one(number):
        try:
            add(folder, document(name=f"source{number}"), document(name=f"source{number}", damage="flip"))
        except Exception as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    found = verify(folder, KEYS)
    assert found.problems == []
    assert [link.document.sequence for link in found.links] == list(range(1, 25))


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(OpsError, match="the evidence cannot be written"):
        chain.append(tmp_path / "none", [document()], log="", signer=None)


def test_retention_and_the_choice_read_what_was_proved(tmp_path):
    folder = tmp_path / "drills"
    content = [checks.passed("content", "equal")]
    add(folder, document(backup="a", checks=content))
    add(folder, document(backup="b", checks=content, damage="flip"))
    add(folder, document(backup="c", verdict="red", checks=[checks.failed("content", "3 differences")]))
    history = read_history(folder, "s3://backups")["shop"]
    assert set(history.verified) == {("a", "d" * 64)}
    assert set(history.failed) == {("c", "d" * 64)}
