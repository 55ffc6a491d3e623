"""The environment of the commands that are measured: what `rows` says they find, from the servers that run."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.backup import data, ours, servers
from bench.backup.place import Place
from bench.backup.rows import OPS, Phase, Row


def variables(place: Place, row: Row, *, bucket: str, buckets: Mapping[str, str], target: str) -> dict[str, str]:
    """Return the whole environment of a row's command, and write the files that it names.

    Args:
        place: where the run takes place.
        row: what is measured.
        bucket: an empty one.
        buckets: of each row, the bucket of its last backup.
        target: the database that a restore makes.
    """
    work, server, store, keys = place.work, place.server, place.store, place.keys
    source = buckets.get(row.source, "")
    port = place.proxy[0] if row.phase is Phase.HELD else server.port
    found = {
        "PATH": f"{Path(sys.executable).parent}:{server.binaries}:{os.environ['PATH']}",
        "HOME": str(work),
        "TMPDIR": str(work / "spool"),
        "LC_ALL": "C.UTF-8",
        "PGHOST": "localhost",
        "PGPORT": str(port),
        "PGUSER": data.OWNER,
        "PGDATABASE": data.DATABASE,
        "PGPASSFILE": str(work / "pgpass"),
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": str(server.certificate),
        "S3": store.endpoint,
        "AWS_ACCESS_KEY_ID": store.access_key,
        "AWS_SECRET_ACCESS_KEY": store.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "RCLONE_CONFIG": str(work / "rclone.conf"),
        "RCLONE_CONFIG_S3_TYPE": "s3",
        "RCLONE_CONFIG_S3_PROVIDER": "Other",
        "RCLONE_CONFIG_S3_ENV_AUTH": "true",
        "RCLONE_CONFIG_S3_ENDPOINT": store.endpoint,
        "RCLONE_S3_NO_CHECK_BUCKET": "true",
        "RCLONE_S3_CHUNK_SIZE": "16M",
        "RCLONE_S3_UPLOAD_CONCURRENCY": "4",
        "RESTIC_PASSWORD_FILE": str(work / "restic.password"),
        "RESTIC_CACHE_DIR": str(work / "restic-cache"),
        "RECIPIENT": keys.recipient,
        "IDENTITY": str(keys.identity),
        "SIGNING_KEY": str(keys.signing_key),
        "ANCLA_STATE": str(work / "state"),
        "ANCLA_AUDIT": str(work / "audit.jsonl"),
        "LEVEL": str(place.level),
        "WORK": str(work),
        "SPOOL": str(work / "spool"),
        "MEMORY": str(place.memory),
        "KEPT": str(work / "kept"),
        "SCRIPTS": str(work / "scripts"),
        "BUCKET": bucket,
        "FROM": source,
        "INTO": target,
        "LAST_B": str(store.root / buckets.get("B", "") / "dump"),
        "SUPERUSER": servers.SUPERUSER,
        "SOCKET": str(server.folder),
        "AS_SERVER": " ".join(servers.as_account(server.account)),
        "PGBACKREST": str(work / "pgbackrest.conf"),
        "ARCHIVING": str(server.folder / "archiving"),
    }
    if OPS in row.command:
        found["OUTPUTS"] = str(ours.write_outputs(place, bucket=source or bucket, port=port))
    if "pgbackrest" in row.tools:
        _write_pgbackrest(place, bucket)
    return found


def _write_pgbackrest(place: Place, bucket: str) -> None:
    file, state, store, server = (
        place.work / "pgbackrest.conf",
        place.work / "pgbackrest",
        place.tls_store,
        place.server,
    )
    host, _, port = store.endpoint.removeprefix("https://").partition(":")
    state.mkdir(exist_ok=True)
    repository = {
        "repo1-type": "s3",
        "repo1-path": "/repo",
        "repo1-s3-bucket": bucket,
        "repo1-s3-endpoint": host,
        "repo1-storage-port": port,
        "repo1-storage-ca-file": server.certificate,
        "repo1-s3-uri-style": "path",
        "repo1-s3-region": "us-east-1",
        "repo1-s3-key": store.access_key,
        "repo1-s3-key-secret": store.secret_key,
        "repo1-cipher-type": "aes-256-cbc",
        "repo1-cipher-pass": store.secret_key,
        "repo1-bundle": "y",  # else each of a thousand small files is an object
        "compress-type": "zst",
        "compress-level": place.level,
        "process-max": 2,
        "start-fast": "y",
        "log-path": state,
        "lock-path": state,
        "spool-path": state,
        "log-level-file": "off",
    }
    stanza = {
        "pg1-path": server.folder / "data",
        "pg1-socket-path": server.folder,
        "pg1-port": server.port,
        "pg1-user": servers.SUPERUSER,
        "pg1-database": "postgres",
    }
    file.touch(mode=0o600)
    sections = {"global": repository, "bench": stanza}
    lines = [line for name, part in sections.items() for line in (f"[{name}]", *(f"{k}={v}" for k, v in part.items()))]
    file.write_text("\n".join(lines) + "\n")
    if server.account is not None:
        for path in (file, state):
            os.chown(path, server.account.pw_uid, server.account.pw_gid)
