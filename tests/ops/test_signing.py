"""Signatures: OpenSSH checks them with no line of ours, and a document outlives the model that wrote it."""

from __future__ import annotations

import json
import random
import subprocess
from datetime import UTC, datetime

import pytest
from pydantic import create_model

from ops.backup import override, verification_log
from ops.backup.override import Override, is_overridden, write_override
from ops.backup.verification_log import Seen, VerificationLog, read_log, write_log
from ops.core.errors import ManifestError
from ops.core.signing import Namespace, Signed, Signer, digest, seal
from ops.drill.evidence import chain, details, store
from ops.drill.evidence.details import BackupDetail
from ops.drill.evidence.document import DETAILS, Document
from ops.drill.evidence.store import read_stored
from ops.drill.evidence.verification import verify
from ops.drill.history import read_history
from ops.repository import catalog
from ops.repository import manifest as manifests
from ops.repository.manifest import SIGNATURE_NAME
from ops.stack.init import make_key
from tests.ops.drill_kit import RUNNER, document
from tests.ops.prune_kit import NOW, put

KEY, OTHER = make_key(), Signer(make_key())
OURS = Signer(KEY)


def checked_by_openssh(folder, content, signature, namespace, *, key=OURS.public):
    """Return whether `ssh-keygen -Y verify` takes it, and what it says."""
    (folder / "allowed_signers").write_text(f'ancla namespaces="{namespace}" {key}\n')
    (folder / "document.sig").write_bytes(signature)
    done = subprocess.run(
        ["ssh-keygen", "-Y", "verify", "-f", "allowed_signers", "-I", "ancla", "-n", namespace, "-s", "document.sig"],
        cwd=folder,
        input=content,
        capture_output=True,
        check=False,
    )
    return done.returncode == 0, (done.stdout + done.stderr).decode()


def test_openssh_checks_a_manifest_and_refuses_a_changed_byte(tmp_path, folder):
    prefix = f"shop/{put(folder, 1, signer=OURS)}"
    content, signature = ((folder.root / prefix / name).read_bytes() for name in ("manifest.json", SIGNATURE_NAME))
    good, said = checked_by_openssh(tmp_path, content, signature, "ancla-manifest")
    assert good, said
    assert 'Good "ancla-manifest" signature for ancla with ED25519 key' in said
    assert not checked_by_openssh(tmp_path, content.replace(b"shop", b"shoq", 1), signature, "ancla-manifest")[0]
    assert not checked_by_openssh(tmp_path, content, signature, "ancla-manifest", key=OTHER.public)[0]
    assert not checked_by_openssh(tmp_path, content, signature, "ancla-evidence")[0]


def test_jq_and_sha256sum_find_the_digest_that_evidence_names(tmp_path, folder):
    backup = put(folder, 1, signer=OURS)
    file = folder.root / "shop" / backup / "manifest.json"
    done = subprocess.run(["jq", "-cSj", "del(.digest)", file], capture_output=True, check=True)
    assert digest(done.stdout) == catalog.read_manifest(folder, "shop", backup).digest


def test_openssh_checks_evidence_and_its_head_and_refuses_a_changed_byte(tmp_path):
    drills = tmp_path / "drills"
    drills.mkdir()
    (link,), _ = chain.append(drills, [document()], signer=OURS)
    (head,) = drills.glob("chain-*.json")
    for path in (link.path, head):
        stored = read_stored(path)
        good, said = checked_by_openssh(tmp_path, stored.content, stored.signature, "ancla-evidence")
        assert good, said
        assert not checked_by_openssh(tmp_path, stored.content + b" ", stored.signature, "ancla-evidence")[0]


def test_what_openssh_signs_is_trusted_here(tmp_path):
    """Such as what a person signs by hand, with a key that has a comment."""
    (tmp_path / "key").write_text(KEY.get_secret_value())
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "document").write_bytes(b"content\n")
    command = ["ssh-keygen", "-Y", "sign", "-f", "key", "-n", "ancla-evidence", "document"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    signature = (tmp_path / "document.sig").read_bytes()
    assert signature == OURS.sign(b"content\n", Namespace.EVIDENCE), "ed25519 signs alike every time"
    signed = Signed(content=b"content\n", signature=signature)
    assert signed.signed_by(f"{OURS.public} me@here", Namespace.EVIDENCE)
    assert not signed.signed_by(OURS.public, Namespace.MANIFEST)


def test_one_changed_character_of_a_signature_or_of_what_it_covers_is_refused():
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    sound = seal(b"content", OURS, Namespace.MANIFEST)
    assert sound.problem([OURS.public], Namespace.MANIFEST) == ""
    for at in range(len(sound.signature)):
        changed = bytearray(sound.signature)
        changed[at] ^= 1 << chance.randrange(7)
        problem = Signed(content=sound.content, signature=bytes(changed)).problem([OURS.public], Namespace.MANIFEST)
        assert problem, (at, bytes(changed))
    for signature, told in {
        None: "not signed",
        b"": "changed: its signature is not in OpenSSH's format",
        b"\xff": "changed: its signature",
        b"x" * 20000: "changed: its signature",
        OTHER.sign(b"content", Namespace.MANIFEST): "signed by a key that is not trusted: ssh-ed25519",
        OURS.sign(b"kontent", Namespace.MANIFEST): "changed after it was signed",
        OURS.sign(b"content", Namespace.OVERRIDE): "changed after it was signed",
        sound.signature + b"\n": "changed",
        sound.signature.replace(b"\n", b"\r\n"): "changed",
    }.items():
        found = Signed(content=b"content", signature=signature).problem([OURS.public], Namespace.MANIFEST)
        assert found.startswith(told), found


def with_field(model):
    """The same model, of a later Ancla: one optional field more."""
    return create_model(model.__name__, __base__=model, later=(str, "new"))


def test_a_manifest_from_before_an_optional_field_is_still_trusted(folder, monkeypatch):
    backup = put(folder, 1, signer=OURS)
    before = catalog.read_manifest(folder, "shop", backup)
    monkeypatch.setattr(manifests, "Manifest", with_field(manifests.Manifest))
    after = catalog.read_manifest(folder, "shop", backup)
    assert after.later == "new"
    assert after.digest == before.digest
    assert after.signed_by(OURS.public)
    assert catalog.find(folder, "shop", expected=catalog.Expected(signer=OURS.public)).id == backup


def test_a_manifest_of_a_newer_ancla_is_refused_as_that_and_never_called_forged(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("tests.ops.prune_kit.Manifest", with_field(manifests.Manifest))
        backup = put(folder, 1, signer=OURS)
    with pytest.raises(ManifestError, match="written by a newer Ancla, which knows later; use that version"):
        catalog.read_manifest(folder, "shop", backup)


def test_a_verification_log_and_an_override_outlive_a_new_field_both_ways(folder, monkeypatch):
    backup, digest = put(folder, 1), "d" * 64
    facts = {"name": "shop", "backup": backup, "manifest": digest, "accepted_at": NOW, "accepted_by": "kim"}
    write_log(folder, VerificationLog(verified_at=NOW, objects={"a": Seen(at=NOW, sha256=digest)}), OURS)
    write_override(folder, Override(**facts, warnings=()), OURS)
    newer_log, newer_override = with_field(VerificationLog), with_field(Override)
    with monkeypatch.context() as patch:
        patch.setattr(verification_log, "VerificationLog", newer_log)
        patch.setattr(override, "Override", newer_override)
        assert read_log(folder, [OURS.public]).objects.keys() == {"a"}
        assert is_overridden(folder, "shop", backup, digest, [OURS.public])
    write_log(folder, newer_log(verified_at=NOW, objects={"b": Seen(at=NOW, sha256=digest)}), OURS)
    write_override(folder, newer_override(**facts, warnings=()), OURS)
    assert read_log(folder, [OURS.public]).objects.keys() == {"b"}
    assert is_overridden(folder, "shop", backup, digest, [OURS.public])
    assert not is_overridden(folder, "shop", backup, digest, [OTHER.public])
    assert not is_overridden(folder, "shop", backup, "e" * 64, [OURS.public]), "rewritten since"


def test_evidence_outlives_a_new_field_both_ways(tmp_path, monkeypatch):
    checks = [document().checks[0].model_copy(update={"name": "content"})]
    chain.append(tmp_path, [document(backup="a", checks=checks)], signer=RUNNER)
    with monkeypatch.context() as patch:  # fields more in the document and in the part of its kind
        patch.setitem(DETAILS, "backup", BackupDetail)
        detail = with_field(BackupDetail)
        patch.setattr(details, "Document", with_field(Document))
        (link,) = store.documents(tmp_path)
        assert (link.document.later, link.document.detail.later) == ("new", "new")
        assert verify(tmp_path, [RUNNER.public]).problems == []
        of_kind = detail(**document().detail.model_dump())
        newer = with_field(Document)(**document(backup="b", checks=checks).model_dump() | {"detail": of_kind})
        (link,), _ = chain.append(tmp_path, [newer], signer=RUNNER)
        assert link.stored.content.count(b'"later":"new"') == 2
    assert verify(tmp_path, [RUNNER.public]).problems == []
    verified = read_history(tmp_path, "s3://backups", [RUNNER.public])["shop"].verified
    assert {backup for backup, _ in verified} == {"a", "b"}
    assert all(at <= datetime.now(UTC) for at in verified.values())


def test_evidence_of_another_version_that_cannot_be_read_is_not_called_forged(tmp_path):
    (link,), _ = chain.append(tmp_path, [document()], signer=RUNNER)
    strange = {**json.loads(link.stored.content), "checks": "none"}
    store.write_signed(link.path, seal(json.dumps(strange).encode(), RUNNER, Namespace.EVIDENCE))
    problem = next(p.what for p in verify(tmp_path, [RUNNER.public]).problems if p.file == link.path.name)
    assert problem.startswith("written by another version of Ancla: checks")
