"""`ops restore --into`: the empty place that a backup goes into, by its kind."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from pydantic import SecretStr
from rich.markup import escape

from blueprint.outputs import BucketKey, BucketOutput
from ops.core import console
from ops.core.errors import RestoreRefusedError
from ops.repository.manifest import Manifest
from ops.repository.records import BucketRecord, SecretsRecord, SqliteRecord
from ops.repository.stores.s3 import S3Store
from ops.restore.files import Place, PlaceJob, plan, run
from ops.sources.bucket.source import Bucket
from ops.sources.secrets import SecretFiles
from ops.sources.sqlite import SqliteFile
from ops.stack.outputs import LoadedStack
from ops.targets import destinations


def place_of(stack: LoadedStack, manifest: Manifest, into: str | None) -> Place | None:
    """Return the place for a backup; None for a database, which goes into a server.

    Args:
        stack: whose bucket and key a bucket goes into.
        manifest: of the backup.
        into: a path, or `s3://BUCKET/PREFIX`; when None a new name here, or a new prefix of the assets bucket.

    Raises:
        RestoreRefusedError: `into` is no such place, or there is no key pair for it.
    """
    new = f"{manifest.name}_restore_{datetime.now(UTC):%Y%m%d%H%M%S}"
    match manifest.source:
        case SqliteRecord():
            return SqliteFile(path=Path(into or f"{new}.db").absolute())
        case SecretsRecord():
            return SecretFiles(root=Path(into or new).absolute())
        case BucketRecord():
            return Bucket(store=_bucket(stack, into or new), say=console.step)
        case _:
            return None


def restore(job: PlaceJob, *, dry_run: bool, as_json: bool) -> None:
    """Restore, or print the plan, and say what was done.

    Raises:
        OpsError: see `ops.restore.files.run`.
    """
    if dry_run:
        planned = {"backup": job.manifest.id, "signed_by": job.manifest.signer, **plan(job).facts}
        if as_json:
            console.print_json(planned)
            return
        for name, value in planned.items():
            console.out.print(f"{name.replace('_', ' ')}: {value}", markup=False)
        console.out.print("nothing was changed")
        return
    result = run(job, console.step, console.progress)
    if as_json:
        console.print_json(
            asdict(result)
            | {"signed_by": job.manifest.signer, "snapshot_at": result.snapshot_at.isoformat(), "differences": []}
        )
        return
    units = {"sqlite": "rows", "secrets": "files", "bucket": "objects"}[job.manifest.source.kind]
    console.out.print(
        f"[green]equal[/green] {escape(result.target)}: {result.rows} {units} as of "
        f"{result.snapshot_at:%Y-%m-%d %H:%M:%S} UTC, in {sum(result.seconds.values()):.1f} s",
    )


def _bucket(stack: LoadedStack, into: str) -> S3Store:
    assets = stack.outputs.assets
    if not into.startswith("s3://"):
        if "/" in into.strip("/"):
            raise RestoreRefusedError(f"{into}: give s3://BUCKET/PREFIX, or one new prefix of the assets bucket")
        return destinations.assets(stack, into)
    name, _, prefix = into.removeprefix("s3://").partition("/")
    if assets is not None and name == assets.bucket.name:
        return destinations.assets(stack, prefix)
    key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or (assets.bucket.endpoint if assets else None)
    if not key or not secret or not endpoint:
        raise RestoreRefusedError(
            f"{into}: is not the stack's bucket; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for it"
            " (and AWS_ENDPOINT_URL where it is at another provider)"
        )
    output = BucketOutput(name=name, region=os.environ.get("AWS_REGION", "auto"), endpoint=endpoint, prefix=prefix)
    return S3Store(output, BucketKey(access_key=key, secret_key=SecretStr(secret)))
