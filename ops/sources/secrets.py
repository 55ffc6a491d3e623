"""Back up and restore files with secrets: one tar, which leaves this host only encrypted.

The archive begins with a random key. The manifest's fingerprints are keyed by it, so they reveal nothing to those who
cannot decrypt, while a restored copy is compared byte for byte. No value, size or plain digest leaves the archive.
A link is kept as a link. A link that is itself a configured path is followed too, since its content was requested.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import io
import json
import os
import re
import secrets
import shutil
import stat
import tarfile
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from dotenv.parser import parse_stream

from ops.core.errors import RestoreError, RestoreRefusedError, SourceError
from ops.core.progress import ProgressFactory
from ops.repository.records import SecretFile, SecretFolder, SecretLink, SecretsRecord, shown_name
from ops.sources.base import Difference, Download, Dump, Outbox, RestoreTarget, Skipped, SourcePlan, TargetPlan

ARCHIVE = "secrets.tar"
KEY_MEMBER = ".ancla-fingerprint-key"
LIMIT = 16 << 20
"""Maximum bytes of a file. Larger files hold data rather than secrets, and files are read into memory here."""

LINKS = 40
"""Maximum links from a configured path to its file, as in Linux."""

READS = 3
"""How often a file that changes while it is being read is read again."""

_DOTENV = re.compile(r"\.env(\..+)?|.+\.env")
_NAME = re.compile(r"[\w.\[\]-]+")
"""Pattern of variable names that compose accepts."""

_ENDS_ALL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""Errors of a target that would affect every other file too."""

Kind = Literal["folder", "file", "hard link", "link"]
_MEMBERS: dict[Kind, bytes] = {
    "folder": tarfile.DIRTYPE,
    "file": tarfile.REGTYPE,
    "hard link": tarfile.LNKTYPE,
    "link": tarfile.SYMTYPE,
}
"""Order of creation: links last, so that nothing is written through one."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """A file, folder or link that was read. Never shown: `content` is the secret.

    `path` may have bytes that are not UTF-8, as surrogates. `target` is a link's, or the other path of a hard link.
    """

    path: str
    kind: Kind
    mode: int
    uid: int
    gid: int
    modified: int
    content: bytes = field(default=b"", repr=False)
    target: str = ""


@dataclass(frozen=True, kw_only=True)
class SecretFiles(RestoreTarget[SecretsRecord]):
    """The files at `paths` (a folder includes everything under it).

    A backup of them is restored into the new folder `root`, which contains each file at its original path below `/`.
    """

    paths: tuple[Path, ...] = ()
    root: Path = Path("/")

    def plan(self) -> SourcePlan:
        """Read each file, and list what would not be kept.

        Raises:
            SourceError: one is missing, may not be read or is too large, or a configured link leads nowhere.
        """
        found = self._read()
        files = [held for held in found.held if held.kind == "file"]
        details = {"names": str(sum(len(names_in(file.path, file.content)) for file in files))}
        if found.not_kept:
            more = f"; and {len(found.not_kept) - 3} more" if len(found.not_kept) > 3 else ""
            details["not kept"] = "; ".join(found.not_kept[:3]) + more
        return SourcePlan(
            what=f"secrets in {len(files)} files",
            bytes_estimate=sum(len(held.content) + 2048 for held in found.held),
            details=details,
            must_be_encrypted=True,
        )

    def dump(self, folder: Path, outbox: Outbox) -> Dump[SecretsRecord]:
        """Write the archive. See `plan` for errors."""
        folder.mkdir(mode=0o700)
        snapshot_at = datetime.now(UTC)
        found, key = self._read(), secrets.token_bytes(32)
        archive = folder / ARCHIVE
        archive.touch(mode=0o600)
        with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT, encoding="utf-8") as tar:
            _put(tar, Held(path="/" + KEY_MEMBER, kind="file", mode=0o600, uid=0, gid=0, modified=0, content=key))
            for kind in _MEMBERS:
                for held in found.held:
                    if held.kind == kind:
                        _put(tar, held)
        outbox.begin(archive)
        outbox.finish(archive)
        record = _record(found.held, key, found.not_kept)
        return Dump(files={archive: f"{len(record.files)} files"}, record=record, snapshot_at=snapshot_at)

    def fingerprint(self) -> SecretsRecord:
        """Describe the current files. The key is new, so only paths, modes, owners and names can be compared."""
        found = self._read()
        return _record(found.held, secrets.token_bytes(32), found.not_kept)

    def _read(self) -> _Reader:
        reader = _Reader()
        for path in self.paths:
            reader.configured(path)
        reader.finish()
        if not any(held.kind == "file" for held in reader.held):
            raise SourceError(
                f"{', '.join(map(str, self.paths))}: no file there; see backup.sources of the stack file "
                "(the first `ops deploy` writes the app's .env)"
            )
        return reader

    @property
    def name(self) -> str:
        """Return its name in messages."""
        return str(self.root)

    @property
    def partial(self) -> str:
        """Return where an unfinished restore has left its content."""
        return str(self._partial)

    def plan_restore(self, record: SecretsRecord) -> TargetPlan:
        """Refuse a folder that exists.

        Raises:
            RestoreRefusedError: the folder, or the temporary one it is made in, exists.
        """
        for path in (self.root, self._partial):
            if path.exists() or path.is_symlink():
                raise RestoreRefusedError(f"{path}: is there already; restore into a new folder with --into")
        del record
        above = next(path for path in self.root.absolute().parents if path.is_dir())
        return TargetPlan(target=self.name, free=shutil.disk_usage(above).free)

    def restore(self, download: Download, record: SecretsRecord, progress: ProgressFactory) -> list[Skipped]:
        """Extract the archive into PATH.partial, with modes and (as root) owners; no link is followed.

        Raises:
            RestoreError: it cannot be read as a tar, names other files than the manifest, or no file can be written.
        """
        del progress
        key, held = open_archive(download.wait() / ARCHIVE)
        recorded = {*_paths(record.files), *_paths(record.folders), *_paths(record.links)}
        if wrong := {shown_name(item.path) for item in held} ^ recorded:
            raise RestoreError(
                f"{self.name}: archive and manifest name different files: {', '.join(sorted(wrong)[:3])}"
            )
        held.sort(key=lambda item: (list(_MEMBERS).index(item.kind), item.path))
        skipped: list[Skipped] = []
        try:
            self._partial.mkdir(mode=0o700, parents=True)
            root = os.open(self._partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                _write_file(root, KEY_MEMBER, key)
                for item in held:
                    _make(root, item, skipped)
                for item in reversed([item for item in held if item.kind == "folder"]):
                    _finish_folder(root, item, skipped)
            finally:
                os.close(root)
        except OSError as error:
            raise RestoreError(f"{self._partial}: cannot be written: {error.strerror}") from None
        if {file.path for file in record.files} <= {item.what for item in skipped}:
            raise RestoreError(f"{self._partial}: no file can be restored: {skipped[0]}")
        return skipped

    def compare(self, record: SecretsRecord, skipped: Sequence[Skipped]) -> list[Difference]:
        """Read the restored files, and compare names, modes, owners, links and the fingerprint. Reveals no value.

        A non-root user cannot give files to another owner; then owners are not compared.
        """
        key = (self._partial / KEY_MEMBER).read_bytes()
        reader = _Reader(base=self._partial)
        reader.configured(self._partial)
        reader.finish()
        without = {item.what for item in skipped}
        recorded = (*record.files, *record.folders, *record.links)
        owners = {item.path: (item.uid, item.gid) for item in recorded}
        above = {str(parent) for item in recorded for parent in Path(item.path).parents} - set(_paths(recorded))
        found: list[Held] = []
        for held in reader.held:
            name = shown_name(held.path)
            if name in without or name == "/" + KEY_MEMBER or (held.kind == "folder" and name in above):
                continue
            uid, gid = (held.uid, held.gid) if os.geteuid() == 0 else owners.get(name, (held.uid, held.gid))
            found.append(replace(held, uid=uid, gid=gid))
        return differences(_record(found, key, ()), record, key, without)

    def commit(self, skipped: Sequence[Skipped]) -> None:
        """Rename the restored folder to its name.

        Raises:
            RestoreRefusedError: something was created there meanwhile.
        """
        del skipped
        (self._partial / KEY_MEMBER).unlink()
        try:
            self._partial.rename(self.root)  # at most an empty folder is replaced: the system refuses others
        except OSError:
            raise RestoreRefusedError(
                f"{self.root}: was made in the meantime; the verified copy is {self._partial}"
            ) from None

    @property
    def _partial(self) -> Path:
        return self.root.with_name(self.root.name + ".partial")


class _Reader:
    """Collects files, folders and links into `held` by path, and what cannot be kept into `not_kept`.

    With `base`, it reads what a restore created there: paths are those under it, and modes are complete.
    """

    def __init__(self, base: Path | None = None) -> None:
        self.held: list[Held] = []
        self.not_kept: list[str] = []
        self._base = Path(_plain(base.absolute())) if base else None
        self._found: dict[str, Held] = {}
        self._inodes: dict[tuple[int, int], list[str]] = {}

    def configured(self, path: Path) -> None:
        """Read a configured path; links on the way are kept and followed. Raises `SourceError`."""
        place = _plain(path.absolute())
        for _ in range(LINKS):
            status = self._status(place)
            if status is None:
                raise SourceError(f"{shown_name(place)}: there is no such file; see backup.sources of the stack file")
            if not stat.S_ISLNK(status.st_mode):
                return self._take(place, status)
            target = self._link(place, status)
            place = _plain(Path(os.path.realpath(Path(place).parent), target))
            if not os.path.lexists(place):
                raise SourceError(f"{path}: is a link to {shown_name(target)}, and there is nothing; remove or mend it")
        raise SourceError(f"{path}: the link leads back to itself; name the file that is meant")

    def finish(self) -> None:
        """Sort, detect hard links, and name the links to targets that are not kept."""
        for paths in self._inodes.values():
            first, *others = sorted(paths)
            for path in others:
                self._found[path] = replace(self._found[path], kind="hard link", target=first)
        self.held = [self._found[path] for path in sorted(self._found)]
        kept = {os.path.realpath(held.path) for held in self.held if held.kind != "link"} if not self._base else set()
        for held in self.held:
            if held.kind == "link" and not self._base and (real := os.path.realpath(held.path)) not in kept:
                said = f"{shown_name(held.path)}: what the link leads to, {shown_name(held.target)}"
                mend = f"add {shown_name(real)} to paths" if Path(real).exists() else "nothing is there"
                self.not_kept.append(f"{said}: {mend}")

    def _take(self, path: str, status: os.stat_result) -> None:
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            self._folder(path, status)
        elif stat.S_ISREG(mode):
            self._file(path)
        elif stat.S_ISLNK(mode):
            self._link(path, status)
        else:
            kinds = {stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a pipe"}
            self._not_kept(path, kinds.get(stat.S_IFMT(mode), "a device"))

    def _folder(self, path: str, status: os.stat_result) -> None:
        try:
            with self._permitted(path, status, 0o500):
                items = sorted(map(str, Path(path).iterdir()))
                self._hold(path, "folder", status)
                for item in items:
                    if (inner := self._status(item)) is not None:
                        self._take(item, inner)
                    else:
                        self._not_kept(item, "it vanished while it was read")
        except OSError as error:
            raise self._unreadable(path, error) from None

    def _file(self, path: str) -> None:
        try:
            content, status = self._bytes(path)
        except FileNotFoundError:
            self._not_kept(path, "it vanished while it was read")
            return
        except OSError as error:
            raise self._unreadable(path, error) from None
        if len(content) > LIMIT:
            raise SourceError(
                f"{shown_name(path)}: is larger than {LIMIT >> 20} MiB; a source of secrets is for small files: "
                "name the others one by one in paths"
            )
        self._hold(path, "file", status, content=content)
        if status.st_nlink > 1:
            self._inodes.setdefault((status.st_dev, status.st_ino), []).append(self._name(path))

    def _bytes(self, path: str, again: int = READS) -> tuple[bytes, os.stat_result]:
        with self._permitted(path, os.lstat(path), 0o400):
            # a pipe that has replaced it would block forever
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            content = file.read(LIMIT + 1)
            after = os.fstat(descriptor)
        if (status.st_size, status.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            if again > 1:
                return self._bytes(path, again - 1)
            self._not_kept(path, f"one state of it: it changed {READS} times while it was read")
        return content, status

    def _link(self, path: str, status: os.stat_result) -> str:
        target = str(Path(path).readlink())
        self._hold(path, "link", status, target=target)
        return target

    def _hold(self, path: str, kind: Kind, status: os.stat_result, *, content: bytes = b"", target: str = "") -> None:
        mode = status.st_mode & 0o7777
        if kind == "file" and not self._base and mode & 0o6000:
            self._not_kept(path, "its set-user-ID or set-group-ID bit")
            mode &= 0o1777
        if kind != "link" and not self._base:
            self._attributes(path)
        name = self._name(path)
        if name == "/":
            return
        self._found[name] = Held(
            path=name,
            kind=kind,
            mode=mode,
            uid=status.st_uid,
            gid=status.st_gid,
            modified=int(status.st_mtime),
            content=content,
            target=target,
        )

    def _attributes(self, path: str) -> None:
        names: list[str] = []
        if hasattr(os, "listxattr"):  # only on Linux
            with suppress(OSError):
                names = os.listxattr(path, follow_symlinks=False)
        # a label of SELinux comes from the policy of the host that a file is restored on
        lost = [name for name in names if name != "security.selinux" and not name.startswith("system.posix_acl")]
        if len(lost) < len([name for name in names if name != "security.selinux"]):
            self._not_kept(path, "its access control list")
        if lost:
            self._not_kept(path, f"its extended attributes {', '.join(sorted(map(shown_name, lost)))}")

    def _name(self, path: str) -> str:
        if self._base is None:
            return path
        below = str(Path(path).relative_to(self._base))
        return "/" if below == "." else f"/{below}"

    def _not_kept(self, path: str, what: str) -> None:
        self.not_kept.append(f"{shown_name(path)}: {what}")

    def _status(self, path: str) -> os.stat_result | None:
        try:
            return os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._unreadable(path, error) from None

    @contextmanager
    def _permitted(self, path: str, status: os.stat_result, needed: int) -> Generator[None]:
        """Let a non-root user read back a restored file whose own mode forbids it."""
        mode = status.st_mode & 0o7777
        if self._base is None or os.geteuid() == 0 or mode & needed == needed or stat.S_ISLNK(status.st_mode):
            yield
            return
        Path(path).chmod(mode | needed)
        try:
            yield
        finally:
            Path(path).chmod(mode)

    @staticmethod
    def _unreadable(path: str, error: OSError) -> SourceError:
        return SourceError(
            f"{shown_name(path)}: {error.strerror}; run it as root, or name other paths in backup.sources of the stack "
            "file"
        )


def _plain(path: Path) -> str:
    """Return a path without `..`, as the system resolves it: the part before may be a link. A final link is kept."""
    if ".." not in path.parts:
        return str(path)
    return os.path.realpath(path) if path.name == ".." else str(Path(os.path.realpath(path.parent), path.name))


@contextmanager
def _parent(root: int, path: str) -> Generator[tuple[int, str]]:
    """Open the folder of a path below `root`, created if missing, with no link among its parts."""
    *folders, name = path.strip("/").split("/")
    if any(part in ("", ".", "..") for part in (*folders, name)):
        raise RestoreError(f"{shown_name(path)}: leads out of the folder that is restored")
    place = os.dup(root)
    try:
        for folder in folders:
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700, dir_fd=place)
            inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place)
            os.close(place)
            place = inner
        yield place, name
    finally:
        os.close(place)


def _make(root: int, held: Held, skipped: list[Skipped]) -> None:
    """Make one file, folder or link; one that this target refuses is skipped."""
    try:
        with _parent(root, held.path) as (place, name):
            match held.kind:
                case "folder":
                    with suppress(FileExistsError):
                        os.mkdir(name, 0o700, dir_fd=place)
                case "file":
                    _write_file(place, name, held.content, held)
                case "hard link":
                    with _parent(root, held.target) as (other, first):
                        os.link(first, name, src_dir_fd=other, dst_dir_fd=place, follow_symlinks=False)
                case "link":
                    os.symlink(held.target, name, dir_fd=place)
                    if os.geteuid() == 0:
                        os.chown(name, held.uid, held.gid, dir_fd=place, follow_symlinks=False)
    except OSError as error:
        _skip(held, error, skipped)


def _finish_folder(root: int, held: Held, skipped: list[Skipped]) -> None:
    try:
        with _parent(root, held.path) as (place, name):
            descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place)
        try:
            _own(descriptor, held)
        finally:
            os.close(descriptor)
    except OSError as error:
        _skip(held, error, skipped)


def _skip(held: Held, error: OSError, skipped: list[Skipped]) -> None:
    if error.errno in _ENDS_ALL:
        raise error
    what, why = shown_name(held.path), error.strerror or str(error)
    if what not in {item.what for item in skipped}:
        skipped.append(Skipped(what=what, why=why, mend="take it out of the archive into a place that allows it"))


def _write_file(place: int, name: str, content: bytes, held: Held | None = None) -> None:
    """Write a new file through one descriptor: no link is followed, and its name is not used afterwards."""
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=place)
    with os.fdopen(descriptor, "wb") as target:
        target.write(content)
        target.flush()
        if held:
            _own(descriptor, held)


def _own(descriptor: int, held: Held) -> None:
    if os.geteuid() == 0:
        os.fchown(descriptor, held.uid, held.gid)
    os.fchmod(descriptor, held.mode if held.kind == "folder" else held.mode & 0o1777)
    os.utime(descriptor, (held.modified, held.modified))


def open_archive(archive: Path) -> tuple[bytes, list[Held]]:
    """Read an archive into memory: its key, and its files, folders and links.

    Raises:
        RestoreError: it is not one of Ancla's.
    """
    held: list[Held] = []
    key = b""
    kinds: dict[bytes, Kind] = {member: kind for kind, member in _MEMBERS.items()}
    try:
        with tarfile.open(archive, "r:", encoding="utf-8") as tar:
            for member in tar:
                if member.type not in kinds:
                    raise RestoreError(f"{archive.name}: {shown_name(member.name)}: is no file, folder or link")
                kind = kinds[member.type]
                content = b""
                if kind == "file" and (file := tar.extractfile(member)) is not None:
                    with closing(file):
                        content = file.read()
                if member.name == KEY_MEMBER:
                    key = content
                    continue
                held.append(
                    Held(
                        path="/" + member.name,
                        kind=kind,
                        mode=member.mode,
                        uid=member.uid,
                        gid=member.gid,
                        modified=int(member.mtime),
                        content=content,
                        target="/" + member.linkname if kind == "hard link" else member.linkname,
                    )
                )
    except (tarfile.TarError, OSError) as error:
        raise RestoreError(f"{archive.name}: is no archive of secrets: {error}") from None
    if not key:
        raise RestoreError(f"{archive.name}: holds no fingerprint key")
    return key, held


def differences(
    found: SecretsRecord, expected: SecretsRecord, key: bytes, without: Iterable[str] = ()
) -> list[Difference]:
    """List each file, folder and link that differs from the record, by its path; reveal no value."""
    have, want = ({item.path: item for item in (*r.files, *r.folders, *r.links)} for r in (found, expected))
    left_out = {path: item for path, item in want.items() if path in set(without)}
    result: list[Difference] = []
    for path in sorted((have.keys() | want.keys()) - left_out.keys()):
        left, right = have.get(path), want.get(path)
        if left is None or right is None or _facts(left) != _facts(right):
            result.append(Difference(what=path, found=_shown(left, right), expected=_shown(right, left)))
    if not hmac.compare_digest(_seal([*have.values(), *left_out.values()], key), expected.fingerprint):
        result.append(
            Difference(what="contents", found="another keyed fingerprint", expected="the one of the manifest")
        )
    return result


def names_in(path: str, content: bytes) -> tuple[str, ...]:
    """Return the names of the variables of a dotenv file; none if a line cannot be parsed."""
    return tuple(dict.fromkeys(name for name, _ in assignments(path, content)))


def assignments(path: str, content: bytes) -> list[tuple[str, str]]:
    """Return each variable of a dotenv file with its value. Values must not be shown.

    A line that cannot be parsed could be part of a value, and the text before its `=` a piece of a secret. So a file
    yields either all of its names or none, and only one named `.env`, `.env.NAME` or `NAME.env` is read.
    """
    if not _DOTENV.fullmatch(Path(path).name):
        return []
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return []
    found: list[tuple[str, str]] = []
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            return []
        if binding.key is None:
            continue
        # a bare word, or one before the padding of Base64, may be a line of a key
        if binding.value is None or binding.value.startswith("=") or not _NAME.fullmatch(binding.key):
            return []
        found.append((binding.key, binding.value))
    # for compose, a lone carriage return does not end a line
    return [] if "\r" in text else found


def _put(tar: tarfile.TarFile, held: Held) -> None:
    member = tarfile.TarInfo(held.path.lstrip("/"))
    member.type = _MEMBERS[held.kind]
    member.mode, member.uid, member.gid, member.mtime = held.mode, held.uid, held.gid, held.modified
    member.linkname = held.target.lstrip("/") if held.kind == "hard link" else held.target
    if held.kind == "file":
        member.size = len(held.content)
        tar.addfile(member, io.BytesIO(held.content))
    else:
        tar.addfile(member)


def _record(held: Sequence[Held], key: bytes, not_kept: Sequence[str]) -> SecretsRecord:
    files: list[SecretFile] = []
    folders: list[SecretFolder] = []
    links: list[SecretLink] = []
    for item in held:
        path = shown_name(item.path)
        if item.kind == "folder":
            folders.append(SecretFolder(path=path, mode=item.mode, uid=item.uid, gid=item.gid))
        elif item.kind == "link":
            links.append(SecretLink(path=path, target=shown_name(item.target), uid=item.uid, gid=item.gid))
        else:
            files.append(
                SecretFile(
                    path=path,
                    mode=item.mode,
                    uid=item.uid,
                    gid=item.gid,
                    names=names_in(item.path, item.content),
                    mac=hmac.new(key, path.encode() + b"\0" + item.content, hashlib.sha256).hexdigest(),
                    same_as=shown_name(item.target) if item.kind == "hard link" else None,
                )
            )
    return SecretsRecord(
        files=tuple(files),
        folders=tuple(folders),
        links=tuple(links),
        fingerprint=_seal([*files, *folders, *links], key),
        not_kept=tuple(sorted(not_kept)),
    )


def _paths(items: Iterable[SecretFile | SecretFolder | SecretLink]) -> list[str]:
    return [item.path for item in items]


def _facts(item: SecretFile | SecretFolder | SecretLink) -> dict[str, Any]:
    """Return the compared facts: not the names, which another version of the parser may read differently."""
    return {"is": type(item).__name__, **item.model_dump(exclude={"names"})}


def _seal(items: Iterable[SecretFile | SecretFolder | SecretLink], key: bytes) -> str:
    facts = sorted((_facts(item) for item in items), key=lambda fact: str(fact["path"]))
    return hmac.new(key, json.dumps(facts, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def _shown(
    item: SecretFile | SecretFolder | SecretLink | None, other: SecretFile | SecretFolder | SecretLink | None
) -> str:
    match item:
        case None:
            return "no such file"
        case SecretLink():
            return f"a link to {item.target}, owner {item.uid}:{item.gid}"
        case SecretFolder():
            return f"a folder, mode {item.mode:04o}, owner {item.uid}:{item.gid}"
        case SecretFile():
            kind = f"a hard link of {item.same_as}" if item.same_as else "a file"
            changed = isinstance(other, SecretFile) and other.mac != item.mac
            content = f", content {item.mac[:8]} (keyed)" if changed else ""
            return f"{kind}, mode {item.mode:04o}, owner {item.uid}:{item.gid}{content}"
