"""The page inside each backup that says how to restore it with stock tools alone."""

from __future__ import annotations

from ops.repository.manifest import Manifest
from ops.repository.records import BucketRecord, PostgresRecord, SecretsRecord, SqliteRecord
from ops.sources.postgres import restore_guide

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
        *_left_out(manifest),
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
    return steps


def _keys(manifest: Manifest) -> list[str]:
    if not manifest.recipients:
        return ["It is not encrypted."]
    return ["It is encrypted with age for the identities whose public keys are:", ""] + [
        f"- `{recipient}`" for recipient in manifest.recipients
    ]


def _left_out(manifest: Manifest) -> list[str]:
    if not isinstance(manifest.source, PostgresRecord) or not manifest.source.partial:
        return []
    left = manifest.source.left_out
    return [
        "The stack file chose whose rows are in it; these tables are defined and empty:",
        "",
        *([f"- `{name if name.isprintable() else ascii(name)}`" for name in left] or ["- none"]),
        "",
    ]


def _last_steps(manifest: Manifest) -> list[str]:
    record = manifest.source
    match record:
        case PostgresRecord():
            return restore_guide.last_steps(record, [entry.file for entry in manifest.objects])
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
                'jq -r \'(reduce (.source.objects[].key / "/") as $p ({}; reduce range(1; $p | length) as $n',
                '  (.; .[$p[:$n] | join("/")] = 1))) as $folders | .source.objects[] |',
                f'  [{where}, .pack, ("=" + (.key | @base64)), ($folders[.key] // 0)] | @tsv\' manifest.json |',
                "  while IFS=$'\\t' read -r d p k f; do",
                '    k=$(base64 -d <<<"${k#=}"; echo x); k=${k%x}',
                "    # one that is no path, or is a folder of another, lies under its SHA-256",
                '    h=.ancla-keys/$(printf %s "$k" | sha256sum | cut -c1-64)',
                '    if [ "$f" = 1 ]; then mkdir -p "$NEW/.ancla-keys"',
                '      tar -xO --no-recursion -f "$d/$p" -- "$k" 2>/dev/null >"$NEW/$h" && continue',
                '    elif [ -n "$k" ]; then',
                '      tar -x --no-recursion -f "$d/$p" -C "$NEW" -- "$k" 2>/dev/null && continue',
                "    fi",
                '    tar -xf "$d/$p" -C "$NEW" -- "$h"',
                "  done",
            ]
