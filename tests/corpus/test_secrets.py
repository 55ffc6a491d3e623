"""Trees of secrets and dotenv files that are odd and sound: all comes back as it was, or is named as not kept.

The oracle of a tree is what `os.walk` and `lstat` see; that of a dotenv file is what compose reads in it, or
python-dotenv where compose is not installed.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import json
import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import HealthCheck, Phase, given, seed, settings

from ops.core.errors import RestoreError, SourceError
from ops.drill.kinds.backup import BackupDrill
from ops.drill.runner import run
from ops.repository.records import notes
from ops.repository.stores.folder import FolderStore
from ops.sources import secrets
from ops.sources.secrets import ARCHIVE, KEY_MEMBER, SecretFiles, assignments, names_in
from tests.corpus.generate_dotenv import CANARY, dotenv_files
from tests.ops.source_kit import backup, by_hand, filled, keys, restore, silent

SEED = int(os.environ["ANCLA_SEED"])
HERE = Path(__file__).parent / "secrets"
NAMES = json.loads((HERE / "names.json").read_text())


def seen(top):
    """All below a folder: path → kind, mode, owner, and content or target. The folder's own is under the empty path."""
    found = {}
    for folder, folders, files in os.walk(os.fsencode(top)):
        for name in [b".", *folders, *files]:
            path = os.path.normpath(folder + b"/" + name)
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            what = Path(os.fsdecode(path)).readlink() if stat.S_ISLNK(status.st_mode) else None
            if stat.S_ISREG(status.st_mode):
                what = Path(os.fsdecode(path)).read_bytes()
            mode = None if stat.S_ISLNK(status.st_mode) else stat.S_IMODE(status.st_mode)
            below = os.path.relpath(path, os.fsencode(top))
            found[below] = (kind, mode, status.st_uid, status.st_gid, what)
    return found


@pytest.fixture
def through(tmp_path):
    """Back up, drill and restore folders; returns (the manifest, the folder it came back in, the skipped)."""

    def go(*paths):
        recipients, identities = keys(tmp_path)
        store = FolderStore(tmp_path / "store")
        SecretFiles(paths=paths).plan()
        made = backup(SecretFiles(paths=paths), store, recipients=recipients)
        (tmp_path / "spool").mkdir()
        job = BackupDrill(
            environment="staging",
            project="test",
            name="thing",
            store=store,
            max_age_hours=26,
            rto_minutes=15,
            identities=identities,
            spool=tmp_path / "spool",
        )
        assert run(job, silent).summary() == ""
        report = restore(store, SecretFiles(root=tmp_path / "back"), identities=identities)
        assert not (tmp_path / "back" / KEY_MEMBER).exists()
        return made, tmp_path / "back", report.skipped

    return go


def below(back, path):
    return back / str(path).lstrip("/")


@pytest.fixture
def certbot(tmp_path):
    """A tree as certbot has it."""
    top = tmp_path / "letsencrypt"
    for name in ("archive/example.org", "live/example.org", "renewal"):
        (top / name).mkdir(parents=True)
    for name, mode in (("cert1.pem", 0o644), ("privkey1.pem", 0o600)):
        path = top / "archive" / "example.org" / name
        path.write_text(f"c4n4ry {name}")
        path.chmod(mode)
        (top / "live" / "example.org" / name.replace("1", "")).symlink_to(f"../../archive/example.org/{name}")
    (top / "renewal" / "example.org.conf").write_text("archive_dir = /etc/letsencrypt/archive/example.org\n")
    (top / "live").chmod(0o700)
    return top


def test_links_inside_of_the_tree_come_back_as_links(certbot, through, tmp_path):
    made, back, skipped = through(certbot)
    assert seen(below(back, certbot)) == seen(certbot)
    assert [link.target for link in made.source.links] == [
        "../../archive/example.org/cert1.pem",
        "../../archive/example.org/privkey1.pem",
    ]
    assert (below(back, certbot) / "live/example.org/privkey.pem").read_text() == "c4n4ry privkey1.pem"
    assert (made.source.not_kept, skipped) == ((), [])


def test_by_hand_too(certbot, tmp_path):
    recipients, _ = keys(tmp_path)
    store = FolderStore(tmp_path / "store")
    made = backup(SecretFiles(paths=(certbot,)), store, recipients=recipients)
    done = by_hand(store.root / "thing" / made.id, IDENTITY=tmp_path / "operator", NEW=tmp_path / "new")
    assert done.returncode == 0, done.stderr
    assert seen(below(tmp_path / "new", certbot)) == seen(certbot)


def test_odd_names_modes_owners_hard_links_empty_folders_and_every_kind_of_link(tmp_path, through):
    top = tmp_path / "odd"
    top.mkdir()
    for name in [
        b"caf\xe9.key",
        b"a\nb",
        b" ",
        b"-rf",
        b"back\\slash",
        b"back\\xe9",
        b"x" * 255,
        "ñ 🙂".encode(),
        b"*",
    ]:
        Path(top, os.fsdecode(name)).write_bytes(name)
    Path(top, os.fsdecode(b"folder\xff")).mkdir()
    (top / "empty").mkdir(mode=0o750)
    (top / "shared").mkdir()
    (top / "shared").chmod(0o3770)
    (top / "closed").mkdir()
    (top / "closed" / "key").write_text("k")
    (top / "closed" / "key").chmod(0)
    (top / "closed").chmod(0o500)
    (top / "one").write_text("same")
    os.link(top / "one", top / "closed" / "two")
    (top / "deep").mkdir()
    os.link(top / "one", top / "deep" / "three")
    (top / "relative").symlink_to("one")
    (top / "absolute").symlink_to(top / "one")
    (top / "to folder").symlink_to("deep")
    (top / "up").symlink_to(".")
    (top / "loop").symlink_to("loop")
    (top / "dangling").symlink_to("nowhere")
    (top / "odd target").symlink_to(os.fsdecode(b"caf\xe9.key"))
    Path(top, os.fsdecode(b"link\xe9")).symlink_to(os.fsdecode(b"caf\xe9.key"))
    (tmp_path / "outside").write_text("c4n4ry outside")
    (top / "out").symlink_to("../outside")
    if os.geteuid() == 0:
        os.chown(top / "one", 1234, 2345)
        os.chown(top / "dangling", 1234, 2345, follow_symlinks=False)
    made, back, skipped = through(top)
    assert skipped == []
    assert seen(below(back, top)) == seen(top)
    assert (below(back, top) / "one").stat().st_ino == (below(back, top) / "closed" / "two").stat().st_ino
    assert made.source.not_kept == (
        f"{top}/dangling: what the link leads to, nowhere: nothing is there",
        f"{top}/loop: what the link leads to, loop: nothing is there",
        f"{top}/out: what the link leads to, ../outside: add {tmp_path}/outside to paths",
    )
    assert b"c4n4ry outside" not in b"".join(
        path.read_bytes() for path in back.rglob("*") if path.is_file() and not path.is_symlink()
    )
    assert rf"{top}/caf\xe9.key" in {file.path for file in made.source.files}
    assert notes(made.source)[0].startswith("not kept: ")


def test_a_configured_link_is_kept_and_what_it_leads_to_as_well(tmp_path, through):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "prod.env").write_text("TOKEN=c4n4ry\n")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / ".env").symlink_to("../real/current")
    (tmp_path / "real" / "current").symlink_to(tmp_path / "real" / "prod.env")
    made, back, _ = through(tmp_path / "app" / ".env")
    assert below(back, tmp_path / "app" / ".env").readlink() == Path("../real/current")
    assert below(back, tmp_path / "real" / "prod.env").read_text() == "TOKEN=c4n4ry\n"
    assert made.source.not_kept == ()


def test_paths_with_dots_mean_what_the_system_reads(tmp_path, through, monkeypatch):
    """Past a link, `..` is the folder above the link's target, not the one that the link is in."""
    (tmp_path / "far" / "in").mkdir(parents=True)
    (tmp_path / "far" / "key").write_text("c4n4ry")
    (tmp_path / "near").symlink_to("far/in")
    made, back, _ = through(tmp_path / "near" / ".." / "key")
    assert [file.path for file in made.source.files] == [f"{tmp_path}/far/key"]
    assert below(back, tmp_path / "far" / "key").read_text() == "c4n4ry"
    monkeypatch.chdir(tmp_path / "far")
    dump = SecretFiles(paths=(Path("key"),)).dump(tmp_path / "dump", Kept())
    place = SecretFiles(root=tmp_path / "near" / ".." / "other")
    assert filled(place, tmp_path / "dump", dump.record) == []
    assert place.compare(dump.record, ()) == []


def test_what_a_file_has_beside_content_mode_and_owner_is_named(tmp_path, through):
    top = tmp_path / "more"
    top.mkdir()
    (top / "key").write_text("k")
    (top / "tool").write_text("t")
    (top / "tool").chmod(0o6755)
    os.mkfifo(top / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        with contextlib.chdir(top):  # the path of a socket may have 107 bytes
            server.bind("socket")
        lines = [f"{top}/pipe: a pipe", f"{top}/socket: a socket", f"{top}/tool: its set-user-ID or set-group-ID bit"]
        try:
            os.setxattr(top / "key", "user.note", b"x")
            lines.append(f"{top}/key: its extended attributes user.note")
            acl = bytes.fromhex(
                "0200000001000600ffffffff02000600d204000004000400ffffffff10000600ffffffff20000400ffffffff"
            )
            os.setxattr(top / "tool", "system.posix_acl_access", acl)
            lines.append(f"{top}/tool: its access control list")
        except OSError as error:
            print(f"not tried: {error}")
        made, back, _ = through(top)
    assert sorted(made.source.not_kept) == sorted(lines)
    assert below(back, top / "tool").stat().st_mode & 0o7000 == 0


def test_a_file_that_vanishes_or_changes_while_it_is_read_is_named(tmp_path, monkeypatch):
    for name in ("gone", "kept", "log"):
        (tmp_path / name).write_text("x")
    real = os.open

    def opened(path, *more, **keywords):
        if str(path).endswith("/gone"):
            (tmp_path / "gone").unlink(missing_ok=True)
        return real(path, *more, **keywords)

    looked, grown = os.fstat, []

    def fstat(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == "log":
            with (tmp_path / "log").open("a") as file:
                file.write("more")
            grown.append(descriptor)
        return looked(descriptor)

    monkeypatch.setattr(secrets.os, "open", opened)
    monkeypatch.setattr(secrets.os, "fstat", fstat)
    record = SecretFiles(paths=(tmp_path,)).fingerprint()
    assert [file.path for file in record.files] == [f"{tmp_path}/kept", f"{tmp_path}/log"]
    assert record.not_kept == (
        f"{tmp_path}/gone: it vanished while it was read",
        f"{tmp_path}/log: one state of it: it changed 3 times while it was read",
    )


def test_what_cannot_be_read_is_refused_by_the_plan_with_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "key").write_text("x")
    real = os.open

    def opened(path, *more, **keywords):
        if str(path).endswith("/key"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *more, **keywords)

    monkeypatch.setattr(secrets.os, "open", opened)
    with pytest.raises(SourceError, match=r"/key: Permission denied; run it as root, or name other paths"):
        SecretFiles(paths=(tmp_path,)).plan()


def test_one_file_that_the_target_refuses_is_skipped_and_the_rest_is_compared(certbot, tmp_path, monkeypatch):
    recipients, identities = keys(tmp_path)
    store = FolderStore(tmp_path / "store")
    backup(SecretFiles(paths=(certbot,)), store, recipients=recipients)
    real, refused = os.open, {"cert1.pem"}

    def opened(path, flags, *more, **keywords):
        if path in refused and flags & os.O_CREAT:
            raise OSError(errno.EILSEQ, "Invalid or incomplete multibyte or wide character")
        return real(path, flags, *more, **keywords)

    monkeypatch.setattr(secrets.os, "open", opened)
    report = restore(store, SecretFiles(root=tmp_path / "back"), identities=identities)
    assert [(item.what, item.why) for item in report.skipped] == [
        (f"{certbot}/archive/example.org/cert1.pem", "Invalid or incomplete multibyte or wide character")
    ]
    without = {path: facts for path, facts in seen(certbot).items() if not path.endswith(b"/cert1.pem")}
    assert seen(below(tmp_path / "back", certbot)) == without
    refused |= {"privkey1.pem", "example.org.conf"}
    with pytest.raises(RestoreError, match="no file can be restored"):
        restore(store, SecretFiles(root=tmp_path / "other"), identities=identities)


def test_what_is_wrong_beside_a_skipped_file_is_still_seen(certbot, tmp_path, monkeypatch):
    """The other side: skipping one file must not hide another that is wrong."""
    dump = SecretFiles(paths=(certbot,)).dump(tmp_path / "dump", Kept())
    place = SecretFiles(root=tmp_path / "back")
    assert filled(place, tmp_path / "dump", dump.record) == []
    skipped = [secrets.Skipped(what=f"{certbot}/archive/example.org/cert1.pem", why="made up")]
    assert place.compare(dump.record, skipped) == []
    key = below(tmp_path / "back.partial", certbot) / "archive/example.org/privkey1.pem"
    key.write_text("c4n4ry")
    assert [item.what for item in place.compare(dump.record, skipped)] == [
        f"{certbot}/archive/example.org/privkey1.pem",
        "contents",
    ]
    assert "c4n4ry" not in str(place.compare(dump.record, skipped))


class Kept:
    """An outbox that leaves the files where they are."""

    def begin(self, path):
        pass

    def finish(self, path):
        pass

    def check(self):
        pass


@pytest.mark.parametrize("trap", ["link first", "dots"])
def test_an_archive_never_writes_through_a_link_or_out_of_its_folder(tmp_path, trap):
    """An archive that somebody else has made: a link, and a file below it."""
    (tmp_path / "victim").mkdir()
    outside = {
        "link first": [("/a", "link", str(tmp_path / "victim")), ("/a/key", "file", "")],
        "dots": [("/../victim/key", "file", "")],
    }[trap]
    held = [
        secrets.Held(path=path, kind=kind, mode=0o600, uid=0, gid=0, modified=0, content=b"x", target=target)
        for path, kind, target in [*outside, ("/fine", "file", "")]
    ]
    archive = tmp_path / "dump" / ARCHIVE
    archive.parent.mkdir()
    key = secrets.Held(path="/" + KEY_MEMBER, kind="file", mode=0, uid=0, gid=0, modified=0, content=b"k" * 32)
    with secrets.tarfile.open(archive, "w", format=secrets.tarfile.GNU_FORMAT, encoding="utf-8") as tar:
        for item in [key, *held]:
            secrets._put(tar, item)
    place = SecretFiles(root=tmp_path / "back")
    record = secrets._record(held, b"k" * 32, ())
    if trap == "dots":
        with pytest.raises(RestoreError, match="leads out of the folder"):
            filled(place, archive.parent, record)
    else:
        assert [item.what for item in filled(place, archive.parent, record)] == ["/a"]
    assert list((tmp_path / "victim").iterdir()) == []


def test_who_is_not_root_reads_back_what_its_own_mode_closes(tmp_path):
    """Restored on a workstation: a file of mode 0000 in a folder of mode 0300 is compared, and stays so."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    top = tmp_path / "closed"
    (top / "in").mkdir(parents=True)
    (top / "in" / "key").write_text("k")
    (top / "in" / "key").chmod(0)
    (top / "in").chmod(0o300)
    dump = SecretFiles(paths=(top,)).dump(tmp_path / "dump", Kept())
    home = Path("/tmp") / f"ancla-nobody-{os.getpid()}"
    home.mkdir()
    os.chown(home, 65534, 65534)
    shutil.copytree(tmp_path / "dump", home / "dump")
    for path in (home / "dump", home / "dump" / ARCHIVE):
        os.chown(path, 65534, 65534)
    try:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.setgid(65534)
                os.setuid(65534)
                place = SecretFiles(root=home / "back")
                skipped = filled(place, home / "dump", dump.record)
                code = 0 if (skipped, place.compare(dump.record, ())) == ([], []) else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert below(home / "back.partial", top / "in").stat().st_mode & 0o777 == 0o300
    finally:
        shutil.rmtree(home)


def compose_names(content, folder):
    """The names that compose reads in a file; None where it refuses it."""
    compose = os.environ.get("ANCLA_COMPOSE")
    (folder / "app.env").write_bytes(content)
    if not compose or not Path(compose).exists():
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            return None
        return set(dotenv_values(stream=io.StringIO(text), interpolate=False))
    (folder / "compose.yaml").write_text("services: {app: {image: x, env_file: [app.env]}}\n")
    command = [compose, "-p", "corpus", "-f", folder / "compose.yaml", "config", "--format", "json"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "COMPOSE_DISABLE_ENV_FILE": "1"}
    done = subprocess.run(command, capture_output=True, env=environment, check=False, cwd=folder)
    if done.returncode:
        return None
    return set(json.loads(done.stdout)["services"]["app"].get("environment") or {})


@pytest.mark.parametrize("name", sorted(NAMES))
def test_an_odd_dotenv_file_gives_its_names_or_none(name, tmp_path):
    content = (HERE / name).read_bytes()
    assert list(names_in(f"/x/{name}", content)) == NAMES[name]
    read = compose_names(content, tmp_path)
    if read is not None and NAMES[name]:
        assert set(NAMES[name]) == read


def drawn(count, tmp_path):
    numbers, equal, accepted = itertools.count(), [], []
    asked = max(1, count // 100)  # a process each

    @seed(SEED)
    @settings(
        database=None,
        deadline=None,
        max_examples=count,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(dotenv_files())
    def each(content):
        number = next(numbers)
        home = tmp_path / str(number)
        home.mkdir()
        names = names_in("/x/.env", content)
        assert not any(CANARY in name for name in names), "a piece of a value is shown as a name"
        assert list(dict(assignments("/x/.env", content))) == list(names)
        if number % asked == 0 and (read := compose_names(content, home)) is not None:
            assert not names or set(names) == read
            accepted.append(content)
            equal.append(set(names) == read)
        (home / ".env").write_bytes(content)
        source, place = SecretFiles(paths=(home / ".env",)), SecretFiles(root=home / "back")
        dump = source.dump(home / "dump", Kept())
        assert CANARY not in dump.record.model_dump_json()
        assert filled(place, home / "dump", dump.record) == []
        assert place.compare(dump.record, ()) == []
        place.commit(())
        assert below(home / "back", home / ".env").read_bytes() == content
        shutil.rmtree(home)

    each()
    print(f"ANCLA_SEED={SEED}: {next(numbers)} dotenv files; took {len(accepted)}, {sum(equal)} with the same names")
    if len(accepted) >= 200:  # of a few, a share says nothing
        assert sum(equal) >= len(accepted) * 0.5


def test_drawn_dotenv_files_are_carried_and_name_no_value(tmp_path):
    drawn(40, tmp_path)


@pytest.mark.all
@pytest.mark.timeout(1800)
def test_a_thousand_drawn_dotenv_files_are_carried_and_name_no_value(tmp_path):
    drawn(1000, tmp_path)
