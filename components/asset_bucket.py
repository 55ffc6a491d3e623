"""A bucket (a Space) and its key, with a CDN before it for public assets or without one for private files.

The bucket itself is private either way: nobody lists it. Who uploads an object for the public opens that object, by the
ACL `public-read`. A policy for all of the bucket is no way: DigitalOcean refuses a policy where a limited key has the
bucket, and such a key where it has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pulumi
import pulumi_digitalocean as digitalocean

from blueprint.dns_records import TTL, relative
from components.component import AnclaComponent

CdnTtl = Literal[60, 600, 3600, 86400, 604800]
"""Seconds that DigitalOcean's CDN can keep an object."""


@dataclass(frozen=True, kw_only=True)
class CorsRuleArgs:
    """Pages of other origins that may read the bucket."""

    origins: Sequence[str]
    """Origins of the pages, such as `https://example.org`."""
    methods: Sequence[str] = ("GET", "HEAD")
    """Methods that they may use."""
    headers: Sequence[str] = ("*",)
    """Headers that they may send."""
    max_age: int = 3600
    """Seconds for which a browser may remember the answer."""


@dataclass(frozen=True, kw_only=True)
class LifecycleRuleArgs:
    """Objects and broken uploads that go by themselves."""

    prefix: str = ""
    """How the keys of the objects begin; default: every object."""
    expire_days: int | None = None
    """Days after which an object is deleted; default: never."""
    abort_uploads_days: int | None = 1
    """Days after which the parts of an upload that was cut off are deleted."""


@dataclass(frozen=True, kw_only=True)
class AssetBucketWithCDNArgs:
    """Inputs of `AssetBucketWithCDN`."""

    region: pulumi.Input[str]
    """Region of the bucket, such as `nyc3`."""
    bucket: pulumi.Input[str] | None = None
    """Name of the bucket, which no other customer may have in the region; default: the component's name."""
    create: bool = True
    """False: the bucket is there already. It gets a key, CORS and a CDN; the bucket itself is left alone."""
    cdn: bool = True
    """False: a private bucket, without a CDN."""
    ttl: CdnTtl = 3600
    """Seconds for which the CDN keeps an object: 60, 600, 3600, 86400 or 604800."""
    domain: pulumi.Input[str] | None = None
    """Domain of the CDN, such as `assets.example.org`; default: the one that DigitalOcean gives."""
    certificate_name: pulumi.Input[str] | None = None
    """Certificate of the account for `domain`; default: one is made by Let's Encrypt, for which the
    domain's zone has to be at DigitalOcean."""
    zone: pulumi.Input[str] | None = None
    """Zone in which `domain` gets its CNAME record, such as `DnsZone.domain`; default: no record is made."""
    cors: Sequence[CorsRuleArgs] = ()
    """Pages of other origins that may read the bucket."""
    lifecycle_rules: Sequence[LifecycleRuleArgs] = ()
    """Objects that go by themselves."""
    versioning: bool = False
    """Keep what is overwritten or deleted."""
    key_name: pulumi.Input[str] | None = None
    """Name of the key pair in the account; default: the component's name."""
    force_destroy: bool = False
    """Delete the objects with the bucket; otherwise a bucket with objects cannot be deleted."""
    protected: bool = False
    """Protect the bucket, and let the rest be replaced. A `protect=True` in the options protects every part."""
    project_id: pulumi.Input[str] | None = None
    """Project of the account to put the bucket into; default: the account's default project."""


def build_lifecycle_rules(rules: Sequence[LifecycleRuleArgs]) -> list[digitalocean.SpacesBucketLifecycleRuleArgs]:
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


def build_cors_rules(rules: Sequence[CorsRuleArgs]) -> list[digitalocean.SpacesBucketCorsConfigurationCorsRuleArgs]:
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


class AssetBucketWithCDN(AnclaComponent):
    """A bucket, its CORS rules, a key for it alone, and the CDN with certificate and record."""

    bucket: pulumi.Output[str]
    """Name of the bucket."""
    bucket_urn: pulumi.Output[str]
    """URN of the bucket, as a project lists it."""
    endpoint: pulumi.Output[str]
    """S3 endpoint of the region, without the bucket."""
    url: pulumi.Output[str]
    """Address under which browsers find the objects."""
    access_key: pulumi.Output[str]
    """Id of the key that reads and writes this bucket and no other."""
    secret_key: pulumi.Output[str]
    """Secret half of the key."""
    cdn_id: pulumi.Output[str] | None
    """Id of the CDN; None without one."""
    cdn_endpoint: pulumi.Output[str] | None
    """Host name of the CDN at DigitalOcean; None without one."""
    certificate_name: pulumi.Output[str] | None
    """Name of the CDN's certificate; None without a domain."""

    def __init__(self, name: str, args: AssetBucketWithCDNArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ancla:index:AssetBucketWithCDN", name, opts)
        bucket = self._bucket(name, args)
        if args.cors:  # its own resource; `cors_rules` of the bucket would fight with it
            digitalocean.SpacesBucketCorsConfiguration(
                f"{name}-cors",
                bucket=bucket.name,
                region=args.region,
                cors_rules=build_cors_rules(args.cors),
                opts=self._child(
                    deleted_with=self._goes_with(bucket, protected=args.protected) if args.create else None
                ),
            )
        key = digitalocean.SpacesKey(
            f"{name}-key",
            name=args.key_name or name,
            # A grant without a bucket would be for the whole account.
            grants=[digitalocean.SpacesKeyGrantArgs(bucket=bucket.name, permission="readwrite")],
            opts=pulumi.ResourceOptions.merge(
                self._child(), pulumi.ResourceOptions(additional_secret_outputs=["secretKey"])
            ),
        )
        self._join(name, args.project_id, [bucket.bucket_urn])
        self.bucket, self.bucket_urn = bucket.name, bucket.bucket_urn
        self.endpoint = pulumi.Output.concat("https://", args.region, ".digitaloceanspaces.com")
        self.access_key, self.secret_key = key.access_key, pulumi.Output.secret(key.secret_key)
        self.cdn_id = self.cdn_endpoint = self.certificate_name = None
        self.url = pulumi.Output.concat("https://", bucket.bucket_domain_name)
        if args.cdn:
            self._cdn(name, args, bucket)
        self.register_outputs(
            {
                "bucket": self.bucket,
                "bucket_urn": self.bucket_urn,
                "endpoint": self.endpoint,
                "url": self.url,
                "access_key": self.access_key,
                "secret_key": self.secret_key,
                "cdn_id": self.cdn_id,
                "cdn_endpoint": self.cdn_endpoint,
                "certificate_name": self.certificate_name,
            }
        )

    def _bucket(self, name: str, args: AssetBucketWithCDNArgs) -> digitalocean.SpacesBucket:
        title = args.bucket or name
        if not args.create:
            return digitalocean.SpacesBucket.get(
                f"{name}-bucket", title, name=title, region=args.region, opts=self._child()
            )
        return digitalocean.SpacesBucket(
            f"{name}-bucket",
            name=title,
            region=args.region,
            acl="private",
            force_destroy=args.force_destroy,
            lifecycle_rules=build_lifecycle_rules(args.lifecycle_rules) or None,
            versioning=digitalocean.SpacesBucketVersioningArgs(enabled=True) if args.versioning else None,
            opts=self._child(protected=args.protected),
        )

    def _cdn(self, name: str, args: AssetBucketWithCDNArgs, bucket: digitalocean.SpacesBucket) -> None:
        if args.domain is not None:
            self.certificate_name = self._certificate(name, args, args.domain, bucket)
        cdn = digitalocean.Cdn(
            f"{name}-cdn",
            origin=bucket.bucket_domain_name,
            ttl=args.ttl,
            custom_domain=args.domain,
            certificate_name=self.certificate_name,  # by name: the id of a renewed certificate is another one
            opts=self._child(),
        )
        self.cdn_id, self.cdn_endpoint = cdn.id, cdn.endpoint
        self.url = pulumi.Output.concat("https://", args.domain or cdn.endpoint)
        if args.domain is not None and args.zone is not None:
            digitalocean.DnsRecord(
                f"{name}-cname",
                domain=args.zone,
                type="CNAME",
                name=pulumi.Output.all(args.domain, args.zone).apply(lambda both: relative(*both)),
                value=pulumi.Output.concat(cdn.endpoint, "."),
                ttl=TTL,
                opts=pulumi.ResourceOptions.merge(self._child(), pulumi.ResourceOptions(delete_before_replace=True)),
            )

    def _certificate(
        self, name: str, args: AssetBucketWithCDNArgs, domain: pulumi.Input[str], bucket: digitalocean.SpacesBucket
    ) -> pulumi.Output[str]:
        if args.certificate_name is not None:
            return pulumi.Output.from_input(args.certificate_name)

        def title(values: Sequence[Any]) -> str:
            return f"{values[0]}-{str(values[1]).replace('.', '-')}"

        # Its name changes with the domain: the new one is made while the CDN still has the old one. The zone is waited
        # for, because Let's Encrypt asks there.
        after = pulumi.Output.all(domain, args.zone)
        return digitalocean.Certificate(
            f"{name}-certificate",
            name=pulumi.Output.all(bucket.name, domain).apply(title),
            type="lets_encrypt",
            domains=[after.apply(lambda known: str(known[0]))],
            opts=self._child(custom_timeouts=pulumi.CustomTimeouts(create="15m")),
        ).name
