"""The page inside each backup that says how to restore it with stock tools alone."""

from __future__ import annotations

from ops.backup.manifest import Manifest
from ops.backup.records import AnyRecord, PostgresRecord

PAGE_NAME = "RESTORE.md"


def build_page(manifest: Manifest) -> str:
    """Return the page, Markdown."""
    steps = ["zstd -d --rm *.zst", *_last_steps(manifest.source)]
    if manifest.recipients:
        steps.insert(0, 'for f in *.age; do age -d -i IDENTITY_FILE -o "${f%.age}" "$f" && rm "$f"; done')
    lines = [
        f"# {manifest.name}, {manifest.environment}, {manifest.snapshot_at:%Y-%m-%d %H:%M:%S} UTC",
        "",
        f"Backup `{manifest.id}` of {manifest.project}, {manifest.stored_bytes} bytes in {len(manifest.objects)} objects.",
        "`manifest.json` beside this page names every object with its size and SHA-256.",
        "",
        "Download this folder, go into it, and:",
        "",
        "```sh",
        *steps,
        "```",
        "",
        *_keys(manifest),
    ]
    return "\n".join(lines) + "\n"


def _keys(manifest: Manifest) -> list[str]:
    if not manifest.recipients:
        return ["It is not encrypted."]
    return ["It is encrypted with age. IDENTITY_FILE is the identity of one of:", ""] + [
        f"- `{recipient}`" for recipient in manifest.recipients
    ]


def _last_steps(record: AnyRecord) -> list[str]:
    match record:
        case PostgresRecord():
            return [
                f"# PostgreSQL {record.readable_from} or newer; roles that own something: {' '.join(record.owners)}",
                "createdb NEW",
                "pg_restore --format=directory --jobs=2 --exit-on-error --dbname=NEW .",
            ]
        case _:
            return []
