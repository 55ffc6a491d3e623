"""Public assets: a bucket behind a CDN, which only its key lists and writes.

Whoever uploads an object opens it to everybody, with `ASSETS_ACL` (see `ops.release.variables`). A policy for all of
the bucket is no way: DigitalOcean refuses a policy where a limited key has the bucket, and such a key where it has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_digitalocean as digitalocean

from blueprint.settings import AssetsSettings, CorsRule, LifecycleRule
from components.lifecycle import Kind, Lifecycle


@dataclass(frozen=True, kw_only=True)
class AssetBucketWithCDNArgs:
    """`settings` say what the bucket is; `key_name` names its key pair in the account."""

    settings: AssetsSettings
    region: str
    key_name: str
    lifecycle: Lifecycle


def build_lifecycle_rules(rules: Sequence[LifecycleRule]) -> list[digitalocean.SpacesBucketLifecycleRuleArgs]:
    """Return the bucket's rules, each with an id; without one the service generates a new one every time."""
    return [
        digitalocean.SpacesBucketLifecycleRuleArgs(
            id=f"rule-{number}",
            enabled=True,
            prefix=rule.prefix,
            abort_incomplete_multipart_upload_days=rule.abort_uploads_days,
            expiration=digitalocean.SpacesBucketLifecycleRuleExpirationArgs(days=rule.expire_days)
            if rule.expire_days
            else None,
        )
        for number, rule in enumerate(rules, start=1)
    ]


def build_cors_rules(rules: Sequence[CorsRule]) -> list[digitalocean.SpacesBucketCorsConfigurationCorsRuleArgs]:
    """Return the rules of the bucket's CORS configuration."""
    return [
        digitalocean.SpacesBucketCorsConfigurationCorsRuleArgs(
            allowed_origins=list(rule.origins),
            allowed_methods=list(rule.methods),
            allowed_headers=list(rule.headers),
            max_age_seconds=rule.max_age,
        )
        for rule in rules
    ]


class AssetBucketWithCDN(pulumi.ComponentResource):
    """The bucket, CORS, its key, and the CDN."""

    bucket: pulumi.Output[str]
    bucket_urn: pulumi.Output[str]
    endpoint: pulumi.Output[str]
    url: pulumi.Output[str]
    access_key: pulumi.Output[str]
    secret_key: pulumi.Output[str]
    cdn_id: pulumi.Output[str] | None
    cdn_endpoint: pulumi.Output[str] | None

    def __init__(self, name: str, args: AssetBucketWithCDNArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ancla:asset_bucket:AssetBucketWithCDN", name, None, opts)
        settings = args.settings
        bucket = digitalocean.SpacesBucket(
            f"{name}-bucket",
            name=settings.bucket,
            region=args.region,
            acl="private",
            force_destroy=args.lifecycle.force_destroy,
            lifecycle_rules=build_lifecycle_rules(settings.lifecycle) or None,
            versioning=digitalocean.SpacesBucketVersioningArgs(enabled=True) if settings.versioning else None,
            opts=args.lifecycle.options(self, Kind.BUCKET),
        )
        part = pulumi.ResourceOptions(parent=self, deleted_with=args.lifecycle.goes_with(bucket, Kind.BUCKET))
        if settings.cors:  # its own resource; `cors_rules` of the bucket would fight with it
            digitalocean.SpacesBucketCorsConfiguration(
                f"{name}-cors",
                bucket=bucket.name,
                region=args.region,
                cors_rules=build_cors_rules(settings.cors),
                opts=part,
            )
        key = scoped_key(f"{name}-key", args.key_name, bucket, parent=self)
        self.bucket, self.bucket_urn = bucket.name, bucket.bucket_urn
        self.endpoint = spaces_endpoint(args.region)
        self.access_key, self.secret_key = key.access_key, pulumi.Output.secret(key.secret_key)
        self.cdn_id = self.cdn_endpoint = None
        self.url = pulumi.Output.concat("https://", bucket.bucket_domain_name)
        if settings.cdn is not None:
            cdn = digitalocean.Cdn(
                f"{name}-cdn",
                origin=bucket.bucket_domain_name,
                ttl=settings.cdn.ttl,
                custom_domain=settings.cdn.domain,
                certificate_name=settings.cdn.certificate,  # by name: the id of a renewed certificate is another one
                opts=pulumi.ResourceOptions(parent=self),
            )
            self.cdn_id, self.cdn_endpoint = cdn.id, cdn.endpoint
            host: pulumi.Input[str] = settings.cdn.domain or cdn.endpoint
            self.url = pulumi.Output.concat("https://", host)
        self.register_outputs({"bucket": self.bucket, "url": self.url, "cdn_id": self.cdn_id})


def scoped_key(
    name: str, key_name: str, bucket: digitalocean.SpacesBucket, *, parent: pulumi.Resource
) -> digitalocean.SpacesKey:
    """Return a key pair that reads and writes this bucket and no other; a grant without a bucket is for the account."""
    return digitalocean.SpacesKey(
        name,
        name=key_name,
        grants=[digitalocean.SpacesKeyGrantArgs(bucket=bucket.name, permission="readwrite")],
        opts=pulumi.ResourceOptions(parent=parent, additional_secret_outputs=["secretKey"]),
    )


def spaces_endpoint(region: str) -> pulumi.Output[str]:
    """Return the S3 endpoint of a region, without a bucket in it."""
    return pulumi.Output.from_input(f"https://{region}.digitaloceanspaces.com")
