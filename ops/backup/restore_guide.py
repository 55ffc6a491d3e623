"""Write the page in each backup that explains how to restore it with stock tools only."""

from __future__ import annotations

from ops.repository.manifest import Manifest
from ops.targets.kinds import HandSteps, kind_of

_CHECK = "jq -r '.objects[] | .sha256 + \"  \" + .key' manifest.json | sha256sum --check --quiet"


def build_page(manifest: Manifest) -> str:
    """Build the page in Markdown."""
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
        + "zstd and the programs in its last lines. Set first:",
        "",
        *[f"- `{name}`: {what}" for name, what in _settings(manifest).items()],
        "",
        "```sh",
        "set -eu -o pipefail",
        *[f': "${{{name}:?{what}}}"' for name, what in _settings(manifest).items()],
        _CHECK,
        *_open(manifest),
        *kind_of(manifest).last_steps(manifest, HandSteps(check=_CHECK, open=_open(manifest))),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _settings(manifest: Manifest) -> dict[str, str]:
    identity = {"IDENTITY": "the file with an age identity that decrypts it"} if manifest.recipients else {}
    return identity | {"NEW": kind_of(manifest).new}


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
    left = kind_of(manifest).left_out(manifest.source)
    if left is None:
        return []
    return [
        "The stack file selects the tables whose rows are in it; these tables are defined but empty:",
        "",
        *([f"- `{name if name.isprintable() else ascii(name)}`" for name in left] or ["- none"]),
        "",
    ]
