"""Define the kinds of backups: how each is read, restored and drilled. A kind is one class and one entry in `KINDS`."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from pydantic import SecretStr

from blueprint.outputs import BucketKey, BucketOutput
from blueprint.settings.backup import BucketSource, PostgresqlSource, SecretsSource, SqliteSource, TableFilter
from ops.core import console
from ops.core.errors import OpsError, RestoreRefusedError
from ops.core.messages import say
from ops.core.progress import ProgressFactory
from ops.repository.incremental import base_of
from ops.repository.manifest import Manifest
from ops.repository.records import BucketRecord, PostgresRecord, SecretsRecord, SqliteRecord
from ops.repository.stores.s3 import S3Store
from ops.sources.base import (
    Difference,
    Download,
    Examination,
    RestoreTarget,
    ScratchFacts,
    ScratchTarget,
    Skipped,
    Source,
    TargetPlan,
)
from ops.sources.bucket.restore import index, read_packs
from ops.sources.bucket.source import Bucket
from ops.sources.postgres import restore_guide
from ops.sources.postgres.scratch import TIMES_THE_DUMP, scratch_database
from ops.sources.postgres.source import PostgresDatabase
from ops.sources.postgres.target import DatabaseTarget
from ops.sources.secrets import SecretFiles
from ops.sources.sqlite import SqliteFile, newly_unsound
from ops.stack.outputs import LoadedStack
from ops.targets.destinations import app_bucket, stores
from ops.targets.servers import live, own_server, server_of

NEW_FOLDER = say("a new folder on this host")


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """Location for a drill's scratch target. `files` are the fetched ones, `parent` the drill's own folder.

    `kept` is called at the end: if it returns True the restored data stays, unless it is secret.
    """

    files: Path
    parent: Path
    kept: Callable[[], bool] = lambda: False

    @contextmanager
    def folder(self, *, secret: bool = False) -> Generator[Path]:
        """Create a folder for the restored data."""
        made = Path(tempfile.mkdtemp(prefix="ancla-scratch-", dir=self.parent))
        try:
            yield made
        finally:
            if secret or not self.kept():
                shutil.rmtree(made, ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class HandSteps:
    """Lines of the page for restoring by hand that all kinds share: to check the objects, and to decode them."""

    check: str
    open: Sequence[str]


class BackupKind(Protocol):
    """One kind of backup. Its records, sources and targets are opaque to other code."""

    unit: str
    """The unit of its rows: rows, files or objects."""
    new: str
    """The target that a person who restores by hand must give."""

    def left_out(self, record: Any) -> Sequence[str] | None:
        """Return what was left out of a backup on purpose; None if nothing could be."""
        ...

    def last_steps(self, manifest: Manifest, steps: HandSteps) -> list[str]:
        """Return the last lines of the page for restoring by hand."""
        ...

    def source(self, setting: Any, stack: LoadedStack, held: ExitStack) -> Source[Any]:
        """Return the source of an entry of the stack file; `held` keeps connections open."""
        ...

    def target(
        self, manifest: Manifest, into: str | None, stack: LoadedStack, tables: Sequence[str]
    ) -> AbstractContextManager[RestoreTarget[Any]]:
        """Return the target of a restore: `into`, or a new one if None.

        Raises:
            RestoreRefusedError: `into` is not a valid target, or the kind has no tables.
        """
        ...

    def scratch(self, record: Any, where: Scratch) -> AbstractContextManager[ScratchTarget[Any]]:
        """Return the target of a drill; it is removed at the end."""
        ...

    def scratch_bytes(self, record: Any, dumped: int) -> int:
        """Return the bytes that a scratch target needs in addition to the fetched files of `dumped` bytes."""
        ...


class PostgresqlKind:
    """A PostgreSQL database."""

    unit = "rows"
    new = "the name of a database to create"

    def left_out(self, record: Any) -> Sequence[str] | None:
        """See `BackupKind`."""
        return record.left_out if record.partial else None

    def last_steps(self, manifest: Manifest, steps: HandSteps) -> list[str]:
        """See `BackupKind`."""
        del steps
        record: Any = manifest.source
        return restore_guide.last_steps(record, [entry.file for entry in manifest.objects])

    def source(self, setting: PostgresqlSource, stack: LoadedStack, held: ExitStack) -> PostgresDatabase:
        """See `BackupKind`."""
        database = PostgresDatabase(endpoint=held.enter_context(own_server(stack, setting)))
        return filtered(stack, setting.name, database)

    @contextmanager
    def target(
        self, manifest: Manifest, into: str | None, stack: LoadedStack, tables: Sequence[str]
    ) -> Generator[DatabaseTarget]:
        """See `BackupKind`."""
        complete: Any = manifest.source
        with server_of(stack, manifest.name) as (admin, owner):
            yield DatabaseTarget(
                admin=admin,
                owner=owner,
                backup=manifest.id,
                of=manifest.name,
                into=into,
                live=live(stack),
                tables=tuple(tables),
                complete=complete,
            )

    def scratch(self, record: PostgresRecord, where: Scratch) -> AbstractContextManager[ScratchTarget[PostgresRecord]]:
        """See `BackupKind`."""
        return scratch_database(record, where.files, where.parent, where.kept)

    def scratch_bytes(self, record: PostgresRecord, dumped: int) -> int:
        """Return the bytes of data and indexes, estimated from the dump's."""
        del record
        return int(dumped * (TIMES_THE_DUMP - 1))


def filtered(stack: LoadedStack, name: str, database: PostgresDatabase) -> PostgresDatabase:
    """Return a database filtered by the stack file's choice of tables."""
    tables = stack.outputs.backup.tables.get(name, TableFilter())
    return replace(database, only_tables=tables.include, without_tables=tables.exclude)


@dataclass(frozen=True, kw_only=True)
class _ScratchSqlite(SqliteFile, ScratchTarget[SqliteRecord]):
    def facts(self) -> ScratchFacts:
        return ScratchFacts(profile=NEW_FOLDER, look=f"sqlite3 -readonly {self.partial}", folders=[self.path.parent])

    def examine(self, record: SqliteRecord, skipped: Sequence[Skipped]) -> Examination:
        del skipped
        copy = self.fingerprint()
        return Examination(
            compared=say("{tables} tables, {rows} rows, quick_check ok", tables=len(record.tables), rows=record.rows),
            tables=(record.tables, copy.tables),
            invalid=newly_unsound(copy, record),
            tools={"sqlite": sqlite3.sqlite_version, "source sqlite": record.sqlite_version, **_machine()},
        )


class SqliteKind:
    """A SQLite database file."""

    unit = "rows"
    new = "the path of the restored database"

    def left_out(self, record: Any) -> Sequence[str] | None:
        """See `BackupKind`."""
        del record
        return None

    def last_steps(self, manifest: Manifest, steps: HandSteps) -> list[str]:
        """See `BackupKind`."""
        del manifest, steps
        return ["# SQLite; the app must be stopped while the file is put in its place", 'mv database.sqlite "$NEW"']

    def source(self, setting: SqliteSource, stack: LoadedStack, held: ExitStack) -> SqliteFile:
        """See `BackupKind`."""
        del stack, held
        return SqliteFile(path=Path(setting.path))

    @contextmanager
    def target(
        self, manifest: Manifest, into: str | None, stack: LoadedStack, tables: Sequence[str]
    ) -> Generator[SqliteFile]:
        """See `BackupKind`."""
        del stack
        _refuse_tables(manifest, tables)
        yield SqliteFile(path=Path(into or f"{_new_name(manifest)}.db").absolute())

    @contextmanager
    def scratch(self, record: SqliteRecord, where: Scratch) -> Generator[_ScratchSqlite]:
        """See `BackupKind`."""
        del record
        with where.folder() as folder:
            yield _ScratchSqlite(path=folder / "drill.db")

    def scratch_bytes(self, record: SqliteRecord, dumped: int) -> int:
        """Return the size of the copy."""
        del record
        return dumped


@dataclass(frozen=True, kw_only=True)
class _ScratchSecrets(SecretFiles, ScratchTarget[SecretsRecord]):
    def facts(self) -> ScratchFacts:
        owners = [say("owners of files: only root may set them")] if os.geteuid() != 0 else []
        return ScratchFacts(profile=NEW_FOLDER, not_compared=owners)

    def examine(self, record: SecretsRecord, skipped: Sequence[Skipped]) -> Examination:
        del skipped
        files, names = len(record.files), sum(len(file.names) for file in record.files)
        return Examination(
            compared=say(
                "{files} files with {names} names: modes, owners and the keyed fingerprint of all contents",
                files=files,
                names=names,
            ),
            tools=_machine(),
        )


class SecretsKind:
    """Files with secrets. A drill never keeps what it restored of them."""

    unit = "files"
    new = "a folder to create for the files"

    def left_out(self, record: Any) -> Sequence[str] | None:
        """See `BackupKind`."""
        del record
        return None

    def last_steps(self, manifest: Manifest, steps: HandSteps) -> list[str]:
        """See `BackupKind`."""
        del manifest, steps
        unpack = ['mkdir -m 0700 "$NEW"', 'tar -x --same-permissions -f secrets.tar -C "$NEW"']
        return [*unpack, 'rm "$NEW/.ancla-fingerprint-key"']

    def source(self, setting: SecretsSource, stack: LoadedStack, held: ExitStack) -> SecretFiles:
        """See `BackupKind`."""
        del stack, held
        return SecretFiles(paths=tuple(Path(path) for path in setting.paths))

    @contextmanager
    def target(
        self, manifest: Manifest, into: str | None, stack: LoadedStack, tables: Sequence[str]
    ) -> Generator[SecretFiles]:
        """See `BackupKind`."""
        del stack
        _refuse_tables(manifest, tables)
        yield SecretFiles(root=Path(into or _new_name(manifest)).absolute())

    @contextmanager
    def scratch(self, record: SecretsRecord, where: Scratch) -> Generator[_ScratchSecrets]:
        """See `BackupKind`."""
        del record
        with where.folder(secret=True) as folder:
            yield _ScratchSecrets(root=folder / "secrets")

    def scratch_bytes(self, record: SecretsRecord, dumped: int) -> int:
        """Return the size of the files."""
        del record
        return dumped


class _Packs(ScratchTarget[BucketRecord]):
    """Reads and hashes every object in its pack, also in those of earlier backups, without an S3 server."""

    @property
    def name(self) -> str:
        return "the packs"

    @property
    def partial(self) -> str:
        return self.name

    def facts(self) -> ScratchFacts:
        return ScratchFacts(
            profile=say("read from the packs, without an S3 server"),
            not_compared=[
                say("metadata and ACLs: they are in the manifest; `ops restore` compares them in the new bucket")
            ],
        )

    def plan_restore(self, record: BucketRecord) -> TargetPlan:
        del record
        return TargetPlan(target=self.name)

    def restore(self, download: Download, record: BucketRecord, progress: ProgressFactory) -> list[Skipped]:
        del progress
        self._places = index(download.wait(), record)
        return []

    def compare(self, record: BucketRecord, skipped: Sequence[Skipped]) -> list[Difference]:
        del skipped
        return read_packs(self._places, record)

    def commit(self, skipped: Sequence[Skipped]) -> None:
        """Do nothing: nothing stays."""

    def examine(self, record: BucketRecord, skipped: Sequence[Skipped]) -> Examination:
        del skipped
        backups = len({item.backup for item in record.objects} | {None})
        size = sum(item.size for item in record.objects)
        return Examination(
            restored=say("every object is in its pack, of {backups} backups", backups=backups),
            compared=say("{objects} objects, {size} bytes: sizes and SHA-256", objects=len(record.objects), size=size),
            tools=_machine(),
        )


class BucketKind:
    """The objects of a bucket."""

    unit = "objects"
    new = "a folder to create for the objects"

    def left_out(self, record: Any) -> Sequence[str] | None:
        """See `BackupKind`."""
        del record
        return None

    def last_steps(self, manifest: Manifest, steps: HandSteps) -> list[str]:
        """See `BackupKind`."""
        where = '(if .backup then "../" + .backup else "." end)'
        return [
            *[f"# it needs packs of {other}: download that folder beside this one" for other in manifest.depends_on],
            *[f"(cd ../{other} && {steps.check} && {' && '.join(steps.open)})" for other in manifest.depends_on],
            'mkdir "$NEW"',
            'jq -r \'(reduce (.source.objects[].key / "/") as $p ({}; reduce range(1; $p | length) as $n',
            '  (.; .[$p[:$n] | join("/")] = 1))) as $folders | .source.objects[] |',
            f'  [{where}, .pack, ("=" + (.key | @base64)), ($folders[.key] // 0)] | @tsv\' manifest.json |',
            "  while IFS=$'\\t' read -r d p k f; do",
            '    k=$(base64 -d <<<"${k#=}"; echo x); k=${k%x}',
            "    # a key that is not a path, or is another's folder, is stored under its SHA-256",
            '    h=.ancla-keys/$(printf %s "$k" | sha256sum | cut -c1-64)',
            '    if [ "$f" = 1 ]; then mkdir -p "$NEW/.ancla-keys"',
            '      tar -xO --no-recursion -f "$d/$p" -- "$k" 2>/dev/null >"$NEW/$h" && continue',
            '    elif [ -n "$k" ]; then',
            '      tar -x --no-recursion -f "$d/$p" -C "$NEW" -- "$k" 2>/dev/null && continue',
            "    fi",
            '    tar -xf "$d/$p" -C "$NEW" -- "$h"',
            "  done",
        ]

    def source(self, setting: BucketSource, stack: LoadedStack, held: ExitStack) -> Bucket:
        """See `BackupKind`."""
        del held
        known = tuple(stores(stack).values())
        return Bucket(
            store=app_bucket(stack, setting.name, setting.prefix),
            base=lambda: base_of(known, setting.name, signer=stack.outputs.backup.signer),
            say=console.step,
        )

    @contextmanager
    def target(
        self, manifest: Manifest, into: str | None, stack: LoadedStack, tables: Sequence[str]
    ) -> Generator[Bucket]:
        """See `BackupKind`."""
        _refuse_tables(manifest, tables)
        store, public = _bucket(stack, manifest.name, into or _new_name(manifest))
        yield Bucket(store=store, public=public, say=console.step)

    @contextmanager
    def scratch(self, record: BucketRecord, where: Scratch) -> Generator[_Packs]:
        """See `BackupKind`."""
        del record, where
        yield _Packs()

    def scratch_bytes(self, record: BucketRecord, dumped: int) -> int:
        """Return 0: the packs are read in place."""
        del record, dumped
        return 0


KINDS: dict[str, BackupKind] = {
    "postgresql": PostgresqlKind(),
    "sqlite": SqliteKind(),
    "secrets": SecretsKind(),
    "bucket": BucketKind(),
}


def kind_of(manifest: Manifest) -> BackupKind:
    """Return the kind of a backup.

    Raises:
        OpsError: this Ancla does not know the kind.
    """
    kind = KINDS.get(manifest.source.kind)
    if kind is None:
        raise OpsError(f"{manifest.id}: is a backup of {manifest.source.kind}, which this Ancla does not know")
    return kind


def _refuse_tables(manifest: Manifest, tables: Sequence[str]) -> None:
    if tables:
        raise RestoreRefusedError(
            f"{manifest.id}: --table is for PostgreSQL; this is a backup of {manifest.source.kind}"
        )


def _new_name(manifest: Manifest) -> str:
    return f"{manifest.name}_restore_{datetime.now(UTC):%Y%m%d%H%M%S}"


def _machine() -> dict[str, str]:
    return {"machine": f"{platform.system()} {platform.machine()}"}


def _bucket(stack: LoadedStack, source: str, into: str) -> tuple[S3Store, bool]:
    """Return the target of a restore of the bucket `source`, and True if everybody may read its objects."""
    known = stack.outputs.buckets
    if not into.startswith("s3://"):
        if "/" in into.strip("/") or source not in known:
            raise RestoreRefusedError(f"{into}: give s3://BUCKET/PREFIX, or one new prefix of a bucket of the stack")
        return app_bucket(stack, source, into), known[source].public
    name, _, prefix = into.removeprefix("s3://").partition("/")
    own = next((title for title, output in known.items() if output.bucket.name == name), None)
    if own is not None:
        return app_bucket(stack, own, prefix), known[own].public
    key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or next((each.bucket.endpoint for each in known.values()), None)
    if not key or not secret or not endpoint:
        raise RestoreRefusedError(
            f"{into}: is not the stack's bucket; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for it"
            " (and AWS_ENDPOINT_URL if it is at another provider)"
        )
    bucket = BucketOutput(name=name, region=os.environ.get("AWS_REGION", "auto"), endpoint=endpoint, prefix=prefix)
    return S3Store(bucket, BucketKey(access_key=key, secret_key=SecretStr(secret))), False
