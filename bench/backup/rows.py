"""What is compared: each row is a shell command that a person could type, in an environment that `session` prepares.

The environment of every command: the PG* variables of libpq (TLS, verify-full, role `app`), `RCLONE_*` and `AWS_*` of
the S3 server, and

    SPOOL      an empty folder           BUCKET     an empty bucket           LEVEL     the level of zstd
    RECIPIENT  an age public key         IDENTITY   the file of its identity  OUTPUTS   what `ops` reads
    KEPT       a dump, made beforehand   FROM       the bucket of the backup to restore
    INTO       a database that is not there
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

OURS = "ours"
OPS = "python -m ops"


class Phase(StrEnum):
    """Rows of one phase are interleaved with one another."""

    BACKUP = "backup"
    RESTORE = "restore"
    HELD = "held"
    PHYSICAL = "physical"
    CHANGED = "changed"
    SCALE = "scale"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One thing to measure.

    `headline` rows run in every round, the others once, and again while there is time. `prepare` is not measured.
    `source` is the row whose last backup is restored, or continued. `single` rows are a step measured alone.
    """

    id: str
    phase: Phase
    title: str
    command: str
    tools: tuple[str, ...] = ()
    headline: bool = False
    prepare: str = ""
    source: str = ""
    single: bool = False
    note: str = ""


_AGE = 'age -r "$RECIPIENT"'
_PUT = 'rclone rcat "s3:$BUCKET/dump"'
_CAT = 'rclone cat "s3:$FROM/dump"'
_RESTIC = 'restic -r "s3:$S3/$BUCKET/repo"'
_RESTIC_FROM = 'restic -r "s3:$S3/$FROM/repo"'
_NEW = 'createdb -T template0 "$INTO"'
_LOAD = 'pg_restore --exit-on-error --no-owner --no-acl -d "$INTO"'
_CREATE = f'{OPS} backup create --outputs "$OUTPUTS" --spool "$SPOOL" --json'
_READ = '--outputs "$OUTPUTS" --identity "$IDENTITY" --spool "$SPOOL" --json'
_STREAM = f"pg_dump -Fc -Z0 | zstd -q -$LEVEL -T2 | {_AGE} | {_PUT}"
_S = ("age", "rclone", "zstd")

_BACKUPS = (
    Row(
        id=OURS,
        phase=Phase.BACKUP,
        title="Ancla: ops backup create",
        command=_CREATE,
        headline=True,
        note="with the fingerprints of every table, SHA-256 and the manifest",
    ),
    Row(
        id="A",
        phase=Phase.BACKUP,
        title="pg_dump -Fc (gzip 6) → age → file, then upload",
        command=f'pg_dump -Fc | {_AGE} -o "$SPOOL/dump" && rclone copyto "$SPOOL/dump" "s3:$BUCKET/dump"',
        tools=("age", "rclone"),
        headline=True,
    ),
    Row(
        id="B",
        phase=Phase.BACKUP,
        title="pg_dump -Fc -Z0 → zstd -T2 → age → upload, one stream",
        command=_STREAM,
        tools=_S,
        headline=True,
    ),
    Row(
        id="B1",
        phase=Phase.BACKUP,
        title="the same stream at zstd -1",
        command=_STREAM.replace("-$LEVEL", "-1"),
        tools=_S,
        note="another level: not compared",
    ),
    Row(
        id="C0",
        phase=Phase.BACKUP,
        title="pg_dump -Fd -j2 -Z0, then tar → zstd -T2 → age → upload",
        command='pg_dump -Fd -j2 -Z0 -f "$SPOOL/dump" && '
        f'tar -C "$SPOOL" -c dump | zstd -q -$LEVEL -T2 | {_AGE} | {_PUT}',
        tools=_S,
    ),
    Row(
        id="C1",
        phase=Phase.BACKUP,
        title="pg_dump -Fd -j2 -Z1, then tar → age → upload",
        command=f'pg_dump -Fd -j2 -Z1 -f "$SPOOL/dump" && tar -C "$SPOOL" -c dump | {_AGE} | {_PUT}',
        tools=("age", "rclone"),
    ),
    Row(
        id="D",
        phase=Phase.BACKUP,
        title="pg_dump -Fc -Z0 → restic backup --stdin, first",
        prepare=f"{_RESTIC} init",
        command=f"pg_dump -Fc -Z0 | {_RESTIC} backup --stdin --stdin-filename dump",
        tools=("restic",),
        note="restic's own zstd and AES",
    ),
    Row(
        id="E",
        phase=Phase.BACKUP,
        title="pg_dump -Fd -j2 -Z0, then restic backup of the folder, first",
        prepare=f"{_RESTIC} init",
        command=f'pg_dump -Fd -j2 -Z0 -f "$SPOOL/dump" && cd "$SPOOL" && {_RESTIC} backup dump',
        tools=("restic",),
        note="restic's own zstd and AES",
    ),
    Row(
        id="bare",
        phase=Phase.BACKUP,
        title="bare pg_dump -Fd -j2 -Z0 to the disk",
        command='pg_dump -Fd -j2 -Z0 -f "$SPOOL/dump"',
        single=True,
        headline=True,
        note="no compression, encryption, upload or check",
    ),
    Row(
        id="bare-memory",
        phase=Phase.BACKUP,
        title="bare pg_dump -Fd -j2 -Z0 to memory",
        command='pg_dump -Fd -j2 -Z0 -f "$MEMORY/dump"',
        single=True,
        headline=True,
        note="the same, into a tmpfs",
    ),
    Row(
        id="ceiling",
        phase=Phase.BACKUP,
        title="upload of the bytes of B by rclone: the S3 server's ceiling",
        command='rclone copyto "$LAST_B" "s3:$BUCKET/dump"',
        tools=("rclone",),
        source="B",
        single=True,
        headline=True,
    ),
    Row(
        id="fingerprints",
        phase=Phase.BACKUP,
        title="counts and hashes of every table, two connections",
        command='psql -qAtf "$SCRIPTS/0.sql" & psql -qAtf "$SCRIPTS/1.sql" && wait $!',
        single=True,
        headline=True,
    ),
    Row(
        id="zstd",
        phase=Phase.BACKUP,
        title="zstd of the dump, one thread, output thrown away",
        command='zstd -q -$LEVEL -T1 -rc "$KEPT" >/dev/null',
        tools=("zstd",),
        single=True,
        headline=True,
    ),
    Row(
        id="age",
        phase=Phase.BACKUP,
        title="age of the bytes of B, output thrown away",
        command=f'{_AGE} "$LAST_B" >/dev/null',
        tools=("age",),
        source="B",
        single=True,
        headline=True,
    ),
    Row(
        id="sha256",
        phase=Phase.BACKUP,
        title="SHA-256 of the bytes of B",
        command='openssl dgst -sha256 "$LAST_B"',
        tools=("openssl",),
        source="B",
        single=True,
        headline=True,
    ),
)

_RESTORES = (
    Row(
        id="R-ours",
        phase=Phase.RESTORE,
        title="Ancla: ops restore, to verified",
        command=f'{OPS} restore --into "$INTO" {_READ}',
        source=OURS,
        headline=True,
        note="every table's rows and hash compared",
    ),
    Row(
        id="R-local",
        phase=Phase.RESTORE,
        title="pg_restore -j2 from a local folder",
        command=f'{_NEW} && {_LOAD} -j2 "$KEPT"',
        headline=True,
        note="nothing to fetch, decrypt, decompress or check",
    ),
    Row(
        id="R-B",
        phase=Phase.RESTORE,
        title="B: download → age → zstd → pg_restore, one stream",
        command=f'{_NEW} && {_CAT} | age -d -i "$IDENTITY" | zstd -qd | {_LOAD}',
        tools=_S,
        source="B",
        headline=True,
    ),
    Row(
        id="R-A",
        phase=Phase.RESTORE,
        title="A: download → age → file, pg_restore -j2",
        command=f'{_NEW} && {_CAT} | age -d -i "$IDENTITY" -o "$SPOOL/dump" && {_LOAD} -j2 "$SPOOL/dump"',
        tools=("age", "rclone"),
        source="A",
    ),
    Row(
        id="R-C0",
        phase=Phase.RESTORE,
        title="C: download → age → zstd → tar, pg_restore -j2",
        command=f'{_NEW} && {_CAT} | age -d -i "$IDENTITY" | zstd -qd | tar -C "$SPOOL" -x && '
        f'{_LOAD} -j2 "$SPOOL/dump"',
        tools=_S,
        source="C0",
    ),
    Row(
        id="R-D",
        phase=Phase.RESTORE,
        title="D: restic dump → pg_restore, one stream",
        command=f"{_NEW} && {_RESTIC_FROM} dump latest /dump | {_LOAD}",
        tools=("restic",),
        source="D",
    ),
    Row(
        id="R-E",
        phase=Phase.RESTORE,
        title="E: restic restore, pg_restore -j2",
        command=f'{_NEW} && {_RESTIC_FROM} restore latest --target "$SPOOL" && {_LOAD} -j2 "$SPOOL/dump"',
        tools=("restic",),
        source="E",
    ),
    Row(
        id="drill",
        phase=Phase.RESTORE,
        title="Ancla: ops drill",
        command=f'{OPS} drill --evidence "$WORK/evidence" --signing-key "$SIGNING_KEY" {_READ}',
        source=OURS,
        headline=True,
        note="restores into a scratch PostgreSQL of its own, which counts as disk and CPU of the tool",
    ),
    Row(
        id="R-age",
        phase=Phase.RESTORE,
        title="age -d of the bytes of B, output thrown away",
        command='age -d -i "$IDENTITY" "$LAST_B" >/dev/null',
        tools=("age",),
        source="B",
        single=True,
        headline=True,
    ),
    Row(
        id="R-zstd",
        phase=Phase.RESTORE,
        title="zstd -d of the dump of B, one thread, output thrown away",
        prepare='age -d -i "$IDENTITY" -o "$SPOOL/dump" "$LAST_B"',
        command='zstd -qdc -T1 "$SPOOL/dump" >/dev/null',
        tools=_S,
        source="B",
        single=True,
        headline=True,
    ),
)

_HELD = (
    Row(
        id="H-ours",
        phase=Phase.HELD,
        title="Ancla, each database connection held",
        command=_CREATE,
        headline=True,
    ),
    Row(
        id="H-B",
        phase=Phase.HELD,
        title="B, each database connection held",
        command=_STREAM,
        tools=_S,
        headline=True,
    ),
)

_PHYSICAL = (
    Row(
        id="F",
        phase=Phase.PHYSICAL,
        title="pgbackrest backup --type=full, zst, AES-256, process-max=2",
        prepare='$AS_SERVER pgbackrest --config="$PGBACKREST" --stanza=bench stanza-create && touch "$ARCHIVING"',
        command='$AS_SERVER pgbackrest --config="$PGBACKREST" --stanza=bench --type=full backup; '
        'code=$?; rm -f "$ARCHIVING"; exit $code',
        tools=("pgbackrest",),
        note="by HTTPS, the only way of 2.45",
    ),
    Row(
        id="G",
        phase=Phase.PHYSICAL,
        title="pg_basebackup --compress=server-zstd → age → upload",
        command=f'PGUSER="$SUPERUSER" PGHOST="$SOCKET" pg_basebackup -D - -Ft -X fetch -c fast '
        f"--no-manifest --compress=server-zstd:$LEVEL | {_AGE} | {_PUT}",
        tools=("age", "rclone"),
    ),
)

_CHANGED = (
    Row(
        id="ours-2",
        phase=Phase.CHANGED,
        title="Ancla: the next backup",
        command=_CREATE,
        headline=True,
        note="a full one again",
    ),
    Row(
        id="D-2",
        phase=Phase.CHANGED,
        title="D: the next backup, into the same repository",
        command=f"pg_dump -Fc -Z0 | {_RESTIC_FROM} backup --stdin --stdin-filename dump",
        tools=("restic",),
        source="D",
        headline=True,
    ),
    Row(
        id="E-2",
        phase=Phase.CHANGED,
        title="E: the next backup, into the same repository",
        command=f'pg_dump -Fd -j2 -Z0 -f "$SPOOL/dump" && cd "$SPOOL" && {_RESTIC_FROM} backup dump',
        tools=("restic",),
        source="E",
        headline=True,
    ),
)

_SCALE = tuple(
    Row(id=f"{OURS}-{times}x", phase=Phase.SCALE, title=f"Ancla, {times}× the data", command=_CREATE, headline=True)
    for times in (2, 4)
)

KEPT = Row(id="kept", phase=Phase.BACKUP, title="the dump that is kept", command='pg_dump -Fd -j2 -Z0 -f "$KEPT"')
"""Made once, not measured: what single steps and `R-local` work on."""

ROWS: tuple[Row, ...] = (*_BACKUPS, *_RESTORES, *_HELD, *_PHYSICAL, *_CHANGED, *_SCALE)

FLOOR = ("bare-memory", "fingerprints", "sha256", "zstd", "age", "ceiling")
"""Whose CPU seconds, each measured alone, are the least that such a backup costs; not the S3 server's."""

RESTORE_FLOOR = ("R-local", "R-age", "R-zstd", "fingerprints")
"""The same of a restore to verified: load, decrypt, decompress, and the hashes of every table."""
