"""A private bucket for backups, and the key that reads and writes it."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_digitalocean as digitalocean

from components.asset_bucket import scoped_key, spaces_endpoint
from components.lifecycle import Kind, Lifecycle

_ABORT_UPLOADS_DAYS = 2  # parts of an upload that was cut off cost money and belong to no backup


@dataclass(frozen=True, kw_only=True)
class BackupBucketArgs:
    """`bucket` is its name; `prefix` is where the stack's backups begin in it."""

    bucket: str
    region: str
    prefix: str
    key_name: str
    lifecycle: Lifecycle


@dataclass(frozen=True, kw_only=True)
class BackupPlace:
    """Where backups go, made here or there already. The key reads and writes that bucket."""

    bucket: pulumi.Input[str]
    region: str
    endpoint: pulumi.Input[str]
    prefix: str
    access_key: pulumi.Input[str]
    secret_key: pulumi.Input[str]


class BackupBucket(pulumi.ComponentResource):
    """A Space that only its own key reads. Retention is `ops`' work: it knows which objects make one restore point."""

    bucket: pulumi.Output[str]
    bucket_urn: pulumi.Output[str]
    endpoint: pulumi.Output[str]
    access_key: pulumi.Output[str]
    secret_key: pulumi.Output[str]
    region: str
    prefix: str

    def __init__(self, name: str, args: BackupBucketArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ancla:backup_bucket:BackupBucket", name, None, opts)
        bucket = digitalocean.SpacesBucket(
            f"{name}-bucket",
            name=args.bucket,
            region=args.region,
            acl="private",
            force_destroy=args.lifecycle.force_destroy,
            lifecycle_rules=[
                digitalocean.SpacesBucketLifecycleRuleArgs(
                    id="abort-uploads",
                    enabled=True,
                    abort_incomplete_multipart_upload_days=_ABORT_UPLOADS_DAYS,
                )
            ],
            opts=args.lifecycle.options(self, Kind.BACKUPS),
        )
        key = scoped_key(f"{name}-key", args.key_name, bucket, parent=self)
        self.bucket, self.bucket_urn = bucket.name, bucket.bucket_urn
        self.region, self.prefix = args.region, args.prefix
        self.endpoint = spaces_endpoint(args.region)
        self.access_key, self.secret_key = key.access_key, pulumi.Output.secret(key.secret_key)
        self.register_outputs({"bucket": self.bucket})

    @property
    def place(self) -> BackupPlace:
        """The bucket as the outputs name it."""
        return BackupPlace(
            bucket=self.bucket,
            region=self.region,
            endpoint=self.endpoint,
            prefix=self.prefix,
            access_key=self.access_key,
            secret_key=self.secret_key,
        )
