"""Secrets: whole and equal for who can decrypt them, and nothing at all for who cannot."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
from pathlib import Path

import pytest

from ops.core.errors import IntegrityError, KeyProblemError, RestoreError, RestoreRefusedError, SourceError
from ops.repository.stores.folder import FolderStore
from ops.sources import secrets
from ops.sources.secrets import SecretFiles, names_in
from tests.ops.source_kit import backup, by_hand, everything_in, keys, lose, restore

CANARIES = ["c4n4ry-one", "c4n4ry two\nlines=of it", "c4n4ry$three"]
DOTENV = f"""# c4n4ry-comment
PASSWORD="{CANARIES[0]}"
export KEY='{CANARIES[1]}'

lower_case = {CANARIES[2]}
EMPTY=
"""


@pytest.fixture
def files(tmp_path):
    root = tmp_path / "machine"
    (root / "keys").mkdir(parents=True)
    (root / ".env").write_text(DOTENV)
    (root / ".env").chmod(0o600)
    (root / "keys" / "jwt.pem").write_bytes(b"-----BEGIN KEY-----\nYzRuNHJ5a2V5\nc4n4ryend==\n-----END KEY-----\n")
    (root / "keys" / "jwt.pem").chmod(0o440)
    if os.geteuid() == 0:
        os.chown(root / "keys" / "jwt.pem", 1234, 2345)
    return SecretFiles(paths=(root / ".env", root / "keys"))


def test_encrypted_to_two_stores_and_back_from_the_second_with_the_first_gone(files, s3, tmp_path):
    recipients, identities = keys(tmp_path)
    first = FolderStore(tmp_path / "first")
    made = backup(files, first, s3, recipients=recipients)
    assert [item.names for item in made.source.files] == [("PASSWORD", "KEY", "lower_case", "EMPTY"), ()]
    lose(first)
    restore(s3, SecretFiles(root=tmp_path / "back"), identities=identities)
    for path in (files.paths[0], files.paths[1] / "jwt.pem"):
        copy = tmp_path / "back" / str(path).lstrip("/")
        assert copy.read_bytes() == path.read_bytes()
        assert (copy.stat().st_mode, copy.stat().st_uid, copy.stat().st_gid) == (
            path.stat().st_mode,
            path.stat().st_uid,
            path.stat().st_gid,
        )
    assert sorted(item.name for item in (tmp_path / "back").rglob("*") if item.is_file()) == [".env", "jwt.pem"]
    assert (tmp_path / "back").stat().st_mode & 0o777 == 0o700


def test_no_value_and_no_plain_digest_leaves_the_archive(files, tmp_path):
    recipients, identities = keys(tmp_path)
    store, said = FolderStore(tmp_path / "store"), []
    made = backup(files, store, recipients=recipients, report=said.append)
    report = restore(store, SecretFiles(root=tmp_path / "back"), identities=identities)
    shown = everything_in(store.root) + repr((made, report, said, files._read().held)).encode()
    for path in (files.paths[0], files.paths[1] / "jwt.pem"):
        content = path.read_bytes()
        for digest in (hashlib.sha256, hashlib.sha1, hashlib.md5):
            assert digest(content).hexdigest().encode() not in shown
    for line in DOTENV.splitlines():
        value = line.partition("=")[2].strip().strip("\"'")
        if value:
            assert hashlib.sha256(value.encode()).hexdigest().encode() not in shown
            assert base64.b64encode(value.encode()) not in shown
    assert b"c4n4ry" not in shown
    assert b"PASSWORD" in shown, "the names are there to be seen, or nothing was looked at"


@pytest.mark.parametrize(
    ("name", "target", "said"),
    [
        ("tls.key", "/nowhere/key.pem", "/nowhere/key.pem, and there is nothing"),
        ("self", "self", "leads back to itself"),
    ],
)
def test_a_configured_link_that_leads_nowhere_or_in_a_circle_is_refused_by_name(files, name, target, said):
    link = files.paths[1] / name
    link.symlink_to(target)
    with pytest.raises(SourceError, match=said) as caught:
        SecretFiles(paths=(link,)).plan()
    assert f"/{name}" in str(caught.value)


def test_a_folder_that_cannot_be_read_is_refused_by_name(files, monkeypatch):
    closed = files.paths[1] / "closed"
    closed.mkdir()
    listed = Path.iterdir

    def iterdir(path):
        if path == closed:
            raise PermissionError(errno.EACCES, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)  # root may read everything
    with pytest.raises(SourceError, match=f"{closed}: Permission denied"):
        files.plan()


def test_the_same_files_twice_have_nothing_in_common_to_compare(files, tmp_path):
    recipients, _ = keys(tmp_path)
    one, two = (backup(files, FolderStore(tmp_path / "store"), recipients=recipients) for _ in range(2))
    assert one.source.fingerprint != two.source.fingerprint
    assert one.objects[0].file_sha256 != two.objects[0].file_sha256
    assert [(file.path, file.names) for file in one.source.files] == [
        (file.path, file.names) for file in two.source.files
    ]
    assert not {file.mac for file in one.source.files} & {file.mac for file in two.source.files}


def test_without_recipients_nothing_is_written(files, folder):
    with pytest.raises(KeyProblemError, match=r"backup\.recipients"):
        backup(files, folder)
    assert list(folder.list("")) == []


def test_one_recipient_is_a_warning(files, folder, tmp_path):
    recipients, _ = keys(tmp_path)
    said = []
    backup(files, folder, recipients=recipients[:1], report=said.append)
    assert any("one recipient" in line for line in said)
    said.clear()
    backup(files, folder, recipients=recipients, report=said.append)
    assert not any("one recipient" in line for line in said)


def test_who_is_no_recipient_and_a_flipped_bit_restore_nothing(files, folder, tmp_path):
    recipients, identities = keys(tmp_path)
    (tmp_path / "other").mkdir()
    _, strangers = keys(tmp_path / "other")
    made = backup(files, folder, recipients=recipients)
    with pytest.raises(KeyProblemError):
        restore(folder, SecretFiles(root=tmp_path / "back"), identities=strangers)
    stored = folder.root / "thing" / made.id / made.objects[0].key
    content = stored.read_bytes()
    stored.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    with pytest.raises(IntegrityError):
        restore(folder, SecretFiles(root=tmp_path / "back"), identities=identities)
    assert not list(tmp_path.glob("back*"))


@pytest.mark.parametrize("change", ["content", "mode", "missing", "more", "folder", "link"])
def test_a_restored_copy_that_differs_is_red_and_says_no_value(files, folder, tmp_path, monkeypatch, change):
    recipients, identities = keys(tmp_path)
    backup(files, folder, recipients=recipients)
    real = SecretFiles.restore

    def wrong(self, place, record, progress):
        skipped = real(self, place, record, progress)
        env = next(path for path in self.root.with_name("back.partial").rglob(".env"))
        match change:
            case "content":
                env.write_text(DOTENV.replace("c4n4ry-one", "c4n4ry-two"))
            case "mode":
                env.chmod(0o644)
            case "missing":
                env.unlink()
            case "folder":
                (env.parent / "keys").chmod(0o711)
            case "link":
                (env.parent / "keys" / "jwt.pem").unlink()
                (env.parent / "keys" / "jwt.pem").symlink_to(env)
            case _:
                env.with_name("more").touch()
        return skipped

    monkeypatch.setattr(SecretFiles, "restore", wrong)
    with pytest.raises(RestoreError, match="not equal to") as caught:
        restore(folder, SecretFiles(root=tmp_path / "back"), identities=identities)
    assert "c4n4ry" not in str(caught.value)
    assert not (tmp_path / "back").exists()


def test_a_place_where_something_is_is_refused(files, folder, tmp_path):
    recipients, identities = keys(tmp_path)
    backup(files, folder, recipients=recipients)
    (tmp_path / "back").mkdir()
    with pytest.raises(RestoreRefusedError, match="is there already"):
        restore(folder, SecretFiles(root=tmp_path / "back"), identities=identities)


def test_a_file_that_is_not_there_or_is_no_small_file_is_named(files, tmp_path, monkeypatch):
    with pytest.raises(SourceError, match=r"absent: there is no such file; see backup\.sources"):
        SecretFiles(paths=(*files.paths, tmp_path / "absent")).plan()
    (tmp_path / "none").mkdir()
    with pytest.raises(SourceError, match="no file there"):
        SecretFiles(paths=(tmp_path / "none",)).plan()
    monkeypatch.setattr(secrets, "LIMIT", 10)
    with pytest.raises(SourceError, match="for small files"):
        files.plan()


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN KEY-----\nAbCdEf==\n",
        "GOOD=1\nno assignment\n",
        'OPEN="never closed\nAbCd==\n',
        "A=1\n  continued secret\n",
        "A=1\nYzRuNHJ5\n",
        "KEY=abc\nAbCd==\n",
        "A=x\rB=y\n",
        "A: 1\n",
    ],
)
def test_a_file_that_does_not_read_as_dotenv_throughout_gives_no_names(text):
    assert names_in("/x/.env", text.encode()) == ()


def test_names_are_read_past_quotes_and_only_where_they_are_expected():
    text = b'A="x\nB=no\\"\nC=no"\nD=\'y\nE=no\'\nexport F=1 # and "more\n'
    assert names_in("/x/.env", text) == ("A", "D", "F")
    assert names_in("/x/.env.production", text) == names_in("/x/app.env", text) == ("A", "D", "F")
    assert names_in("/x/token", b"c2VjcmV0==") == ()
    names = "\ufeffhttp_proxy=\r\nspring.datasource.url=x\r\nConnectionStrings__Default=y\r\nhttp_proxy=z\r\n"
    assert names_in("/x/.env", names.encode()) == ("http_proxy", "spring.datasource.url", "ConnectionStrings__Default")


def test_a_person_restores_with_stock_tools_alone(files, folder, tmp_path):
    recipients, _ = keys(tmp_path)
    made = backup(files, folder, recipients=recipients)
    done = by_hand(folder.root / "thing" / made.id, IDENTITY=tmp_path / "operator", NEW=tmp_path / "new")
    assert done.returncode == 0, done.stderr
    copy = tmp_path / "new" / str(files.paths[0]).lstrip("/")
    assert (copy.read_text(), copy.stat().st_mode & 0o777) == (DOTENV, 0o600)
    assert len([path for path in (tmp_path / "new").rglob("*") if path.is_file()]) == 2
