"""Files that hold secrets, as a source and as a target: one tar, which leaves this machine encrypted alone.

The archive begins with a random key. The manifest's fingerprint is keyed by it, and so tells nothing to who cannot
decrypt, while a restored copy is held to it byte for byte. No value, size or plain digest leaves the archive.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import re
import secrets
import shutil
import tarfile
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ops.core.errors import RestoreError, RestoreRefusedError, SourceError
from ops.core.progress import Meter
from ops.repository.records import SecretFile, SecretsRecord
from ops.sources.base import Difference, Download, Dump, Outbox, RestoreTarget, Skipped, SourcePlan, TargetPlan

ARCHIVE = "secrets.tar"
KEY_MEMBER = ".ancla-fingerprint-key"
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)", re.DOTALL)
_DOTENV = re.compile(r"\.env(\..+)?|.+\.env")
LIMIT = 16 << 20
"""Bytes of one file. What is larger holds no secrets but data, and is read into memory here."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """A file as it was read. Never shown: `content` is the secret."""

    path: str
    mode: int
    uid: int
    gid: int
    modified: int
    content: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class SecretFiles(RestoreTarget[SecretsRecord]):
    """The files at `paths` (a folder stands for the files under it).

    A backup of them is restored into the new folder `root`, under which each file lies as it lay under `/`.
    """

    paths: tuple[Path, ...] = ()
    root: Path = Path("/")

    def plan(self) -> SourcePlan:
        """Look whether each file can be read. A link stands for what it leads to, be it a file or a folder.

        Raises:
            SourceError: one is missing, may not be read, has a name that is no UTF-8, or a link leads nowhere.
        """
        files = self._read()
        return SourcePlan(
            what=f"secrets in {len(files)} files",
            bytes_estimate=sum(len(file.content) + 2048 for file in files),
            details={"names": str(sum(len(names_in(file.path, file.content)) for file in files))},
            must_be_encrypted=True,
        )

    def dump(self, folder: Path, outbox: Outbox) -> Dump[SecretsRecord]:
        """Write the archive. See `plan` for errors."""
        folder.mkdir(mode=0o700)
        snapshot_at = datetime.now(UTC)
        files, key = self._read(), secrets.token_bytes(32)
        archive = folder / ARCHIVE
        archive.touch(mode=0o600)
        with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
            _put(tar, Held(path="/" + KEY_MEMBER, mode=0o600, uid=0, gid=0, modified=0, content=key))
            for file in files:
                _put(tar, file)
        outbox.begin(archive)
        outbox.finish(archive)
        return Dump(files={archive: f"{len(files)} files"}, record=_record(files, key), snapshot_at=snapshot_at)

    def fingerprint(self) -> SecretsRecord:
        """Describe the files as they are now. Keyed anew, so that only paths, modes, owners and names compare."""
        return _record(self._read(), secrets.token_bytes(32))

    def _read(self) -> list[Held]:
        found: dict[str, Held] = {}
        for path in self.paths:
            for file in _files(path, ()):
                found[str(file)] = _hold(file)
        if not found:
            raise SourceError(f"{', '.join(map(str, self.paths))}: no file there; see backup.sources of the stack file")
        return [found[name] for name in sorted(found)]

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.root)

    @property
    def partial(self) -> str:
        """Where a restore that did not finish has left what it made."""
        return str(self._partial)

    def plan_restore(self, record: SecretsRecord) -> TargetPlan:
        """Refuse a folder that exists.

        Raises:
            RestoreRefusedError: the folder, or the one it is made in first, is there already.
        """
        for path in (self.root, self._partial):
            if path.exists() or path.is_symlink():
                raise RestoreRefusedError(f"{path}: is there already; restore into a new folder with --into")
        del record
        above = next(path for path in self.root.absolute().parents if path.is_dir())
        return TargetPlan(target=self.name, free=shutil.disk_usage(above).free)

    def restore(self, download: Download, record: SecretsRecord, progress: Meter) -> list[Skipped]:
        """Extract the archive into PATH.partial, with modes and (as root) owners.

        Raises:
            RestoreError: it cannot be read as a tar, names other files than the manifest, or cannot be written.
        """
        del progress
        folder = download.wait()
        _, files = open_archive(folder / ARCHIVE)
        if (wrong := {file.path for file in files} ^ {file.path for file in record.files}) or not files:
            raise RestoreError(
                f"{self.name}: archive and manifest name different files: {', '.join(sorted(wrong)[:3])}"
            )
        try:
            self._partial.mkdir(mode=0o700, parents=True)
            for file in files:
                self._write(file)
        except OSError as error:
            raise RestoreError(f"{self._partial}: cannot be written: {error.strerror}") from None
        (self._partial / KEY_MEMBER).touch(mode=0o600)
        (self._partial / KEY_MEMBER).write_bytes(open_archive(folder / ARCHIVE)[0])
        return []

    def compare(self, record: SecretsRecord, skipped: Sequence[Skipped]) -> list[Difference]:
        """Read what is on the disk, and compare names, modes, owners and the fingerprint. Says no value.

        Who is not root cannot give files to another owner; then owners are not compared.
        """
        del skipped  # this kind skips nothing yet
        key = (self._partial / KEY_MEMBER).read_bytes()
        owners = {file.path: (file.uid, file.gid) for file in record.files}
        found: list[Held] = []
        for path in sorted(item for item in self._partial.rglob("*") if item.is_file()):
            name = "/" + path.relative_to(self._partial).as_posix()
            if name != "/" + KEY_MEMBER:
                held = _hold(path, name=name)
                uid, gid = (held.uid, held.gid) if os.geteuid() == 0 else owners.get(name, (held.uid, held.gid))
                found.append(
                    Held(path=name, mode=held.mode, uid=uid, gid=gid, modified=held.modified, content=held.content)
                )
        found.sort(key=lambda file: file.path)
        return differences(_record(found, key), record)

    def commit(self, skipped: Sequence[Skipped]) -> None:
        """Give the restored folder its name.

        Raises:
            RestoreRefusedError: something was made there meanwhile.
        """
        del skipped
        (self._partial / KEY_MEMBER).unlink()
        try:
            self._partial.rename(self.root)  # onto an empty folder at most: the system refuses another
        except OSError:
            raise RestoreRefusedError(
                f"{self.root}: was made in the meantime; the verified copy is {self._partial}"
            ) from None

    @property
    def _partial(self) -> Path:
        return self.root.with_name(self.root.name + ".partial")

    def _write(self, file: Held) -> None:
        place = (self._partial / file.path.lstrip("/")).resolve()
        if not place.is_relative_to(self._partial.resolve()):
            raise RestoreError(f"{file.path}: leads out of {self._partial}")
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
            target.write(file.content)
        if os.geteuid() == 0:
            os.chown(place, file.uid, file.gid)
        place.chmod(file.mode)
        os.utime(place, (file.modified, file.modified))


def open_archive(archive: Path) -> tuple[bytes, list[Held]]:
    """Read an archive into memory: its key, and its files.

    Raises:
        RestoreError: it is not one of ours.
    """
    files: list[Held] = []
    key = b""
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                content = tar.extractfile(member)
                if not member.isreg() or content is None:
                    raise RestoreError(f"{archive.name}: {member.name}: is no file")
                if member.name == KEY_MEMBER:
                    key = content.read()
                    continue
                files.append(
                    Held(
                        path="/" + member.name,
                        mode=member.mode,
                        uid=member.uid,
                        gid=member.gid,
                        modified=int(member.mtime),
                        content=content.read(),
                    )
                )
    except (tarfile.TarError, OSError) as error:
        raise RestoreError(f"{archive.name}: is no archive of secrets: {error}") from None
    if not key:
        raise RestoreError(f"{archive.name}: holds no fingerprint key")
    return key, files


def differences(found: SecretsRecord, expected: SecretsRecord) -> list[Difference]:
    """Name each file that is not as it was recorded, by its path, and say whether the contents are; show no value."""
    have, want = ({file.path: file for file in record.files} for record in (found, expected))
    result: list[Difference] = []
    for path in sorted(have.keys() | want.keys()):
        left, right = have.get(path), want.get(path)
        if left is None or right is None:
            result.append(Difference(what=path, found=_there(left), expected=_there(right)))
        elif left != right:
            result.append(Difference(what=path, found=_facts(left), expected=_facts(right)))
    if not hmac.compare_digest(found.fingerprint, expected.fingerprint):
        result.append(
            Difference(what="contents", found="another keyed fingerprint", expected="the one of the manifest")
        )
    return result


def names_in(path: str, content: bytes) -> tuple[str, ...]:
    """Return the names of the variables of a dotenv file; none where a line does not read as one."""
    return tuple(name for name, _ in assignments(path, content))


def assignments(path: str, content: bytes) -> list[tuple[str, str]]:
    """Return each variable of a dotenv file with the text after its `=`, quotes and all. Values are not to be shown.

    A line that does not fit could be part of a value, and what stands before its `=` a piece of a secret. So a file is
    read by names whole or not at all, and only one that is called `.env`, `.env.NAME` or `NAME.env`.
    """
    if not _DOTENV.fullmatch(Path(path).name):
        return []
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        return []
    found: list[tuple[str, str]] = []
    while lines:
        line = lines.pop(0)
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        assignment = _ASSIGNMENT.fullmatch(line)
        if assignment is None:
            return []
        value = assignment[2].lstrip()
        if value[:1] in ("'", '"'):
            while not _closed(value):
                if not lines:
                    return []
                value += "\n" + lines.pop(0)
        found.append((assignment[1], value))
    return found


def _closed(value: str) -> bool:
    quote, rest = value[0], value[1:]
    if quote == '"':
        rest = re.sub(r"\\.", "", rest, flags=re.DOTALL)
    return quote in rest


def _files(path: Path, above: tuple[Path, ...]) -> Generator[Path]:
    """Yield a file, or the files under a folder; `above` are the real folders that the walk came through."""
    try:
        if not path.is_dir():
            yield path
            return
        real = path.resolve()
        if real in above:
            raise SourceError(f"{path}: the link leads back to a folder that it is in; name the folders one by one")
        for item in sorted(path.iterdir()):
            if item.is_symlink() and not item.exists():
                raise SourceError(f"{item}: is a link to {item.readlink()}, and there is nothing; remove or mend it")
            if item.is_dir() or item.is_file():  # sockets, pipes and devices hold nothing
                yield from _files(item, (*above, real))
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}; see backup.sources of the stack file") from None


def _hold(path: Path, name: str | None = None) -> Held:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise SourceError(f"{shown}: a name that is no UTF-8 cannot be written down; rename the file") from None
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(LIMIT + 1)
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise SourceError(f"{path}: {reason}; see backup.sources of the stack file") from None
    if len(content) > LIMIT:
        raise SourceError(f"{path}: is larger than {LIMIT >> 20} MiB; a source of secrets is for small files")
    return Held(
        path=name or str(path),
        mode=status.st_mode & 0o7777,
        uid=status.st_uid,
        gid=status.st_gid,
        modified=int(status.st_mtime),
        content=content,
    )


def _put(tar: tarfile.TarFile, file: Held) -> None:
    member = tarfile.TarInfo(file.path.lstrip("/"))
    member.mode, member.uid, member.gid, member.mtime = file.mode, file.uid, file.gid, file.modified
    member.size = len(file.content)
    tar.addfile(member, io.BytesIO(file.content))


def _record(files: Sequence[Held], key: bytes) -> SecretsRecord:
    return SecretsRecord(
        files=tuple(
            SecretFile(
                path=file.path, mode=file.mode, uid=file.uid, gid=file.gid, names=names_in(file.path, file.content)
            )
            for file in files
        ),
        fingerprint=_fingerprint(files, key),
    )


def _fingerprint(files: Iterable[Held], key: bytes) -> str:
    facts = [[f.path, f.mode, f.uid, f.gid, hashlib.sha256(f.content).hexdigest()] for f in files]
    return hmac.new(key, json.dumps(facts).encode(), hashlib.sha256).hexdigest()


def _there(file: SecretFile | None) -> str:
    return "no such file" if file is None else "a file"


def _facts(file: SecretFile) -> str:
    return f"mode {file.mode:04o}, owner {file.uid}:{file.gid}, {len(file.names)} names"
