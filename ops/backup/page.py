"""The page inside each backup that says how to restore it with stock tools alone."""

from __future__ import annotations

from ops.backup.manifest import Manifest
from ops.backup.records import STREAM_FILE, BucketRecord, PostgresRecord, SecretsRecord, SqliteRecord
from ops.sources.pg_packs import is_pack

PAGE_NAME = "RESTORE.md"

_CHECK = "jq -r '.objects[] | .sha256 + \"  \" + .key' manifest.json | sha256sum --check --quiet"
_NEW = {
    "postgresql": "the name of a database to create",
    "sqlite": "the path of the restored database",
    "secrets": "a folder to create for the files",
    "bucket": "a folder to create for the objects",
}


def build_page(manifest: Manifest) -> str:
    """Return the page, Markdown."""
    lines = [
        f"# {manifest.name}, {manifest.environment}, {manifest.snapshot_at:%Y-%m-%d %H:%M:%S} UTC",
        "",
        f"Backup `{manifest.id}`: {manifest.project}, {len(manifest.objects)} objects, {manifest.stored_bytes} bytes.",
        "`manifest.json` beside this page names every object with its size and SHA-256.",
        "",
        *_keys(manifest),
        "",
        "Download this folder, go into it, and run this with `bash`; it needs jq, coreutils, "
        + ("age, " if manifest.recipients else "")
        + "zstd and what its last lines name. Set first:",
        "",
        *[f"- `{name}`: {what}" for name, what in _settings(manifest).items()],
        "",
        "```sh",
        "set -eu -o pipefail",
        *[f': "${{{name}:?{what}}}"' for name, what in _settings(manifest).items()],
        _CHECK,
        *_open(manifest),
        *_last_steps(manifest),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _settings(manifest: Manifest) -> dict[str, str]:
    identity = {"IDENTITY": "the file with an age identity that reads it"} if manifest.recipients else {}
    return identity | {"NEW": _NEW[manifest.source.kind]}


def _open(manifest: Manifest) -> list[str]:
    steps: list[str] = []
    if manifest.recipients:
        steps.append('for f in *.age; do age -d -i "$IDENTITY" -o "${f%.age}" "$f" && rm "$f"; done')
    kinds = {entry.key.removesuffix(".age").rpartition(".")[2] for entry in manifest.objects}
    if "zst" in kinds:
        steps.append("zstd -q -d --rm -- *.zst")
    if "gz" in kinds:
        steps.append("gunzip -- *.gz")
    return steps


def _keys(manifest: Manifest) -> list[str]:
    if not manifest.recipients:
        return ["It is not encrypted."]
    return ["It is encrypted with age for the identities whose public keys are:", ""] + [
        f"- `{recipient}`" for recipient in manifest.recipients
    ]


def _last_steps(manifest: Manifest) -> list[str]:
    record = manifest.source
    match record:
        case PostgresRecord():
            packed = any(is_pack(entry.file) for entry in manifest.objects)
            stream = next((entry.file for entry in manifest.objects if entry.file == STREAM_FILE), None)
            archive = f'--format=custom --dbname="$NEW" {stream}' if stream else '--format=directory --dbname="$NEW" .'
            return [
                f"# PostgreSQL {record.readable_from} or newer; roles that own something: {' '.join(record.owners)}",
                *(['for f in small-*.tar; do tar -xf "$f" && rm "$f"; done'] if packed else []),
                'createdb --template=template0 "$NEW"',
                f"pg_restore --jobs=2 --exit-on-error {archive}",
            ]
        case SqliteRecord():
            return ["# SQLite; the app must be stopped while the file is put in its place", 'mv database.sqlite "$NEW"']
        case SecretsRecord():
            steps = ['mkdir -m 0700 "$NEW"', 'tar -x --same-permissions -f secrets.tar -C "$NEW"']
            return [*steps, 'rm "$NEW/.ancla-fingerprint-key"']
        case BucketRecord():
            where = '(if .backup then "../" + .backup else "." end)'
            return [
                *[
                    f"# it needs packs of {other}: download that folder beside this one"
                    for other in manifest.depends_on
                ],
                *[f"(cd ../{other} && {_CHECK} && {' && '.join(_open(manifest))})" for other in manifest.depends_on],
                'mkdir "$NEW"',
                f"jq -r '.source.objects[] | [{where}, .pack, (.key | @base64)] | @tsv' manifest.json |",
                "  while IFS=$'\\t' read -r d p k; do",
                '    k=$(base64 -d <<<"$k"; echo x); k=${k%x}  # one that is no path lies under its SHA-256',
                '    tar -xf "$d/$p" -C "$NEW" -- "$k" 2>/dev/null ||',
                '      tar -xf "$d/$p" -C "$NEW" -- ".ancla-keys/$(printf %s "$k" | sha256sum | cut -c1-64)"',
                "  done",
            ]
