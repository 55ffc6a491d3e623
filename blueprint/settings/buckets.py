"""Object storage: buckets for the app's files, public or private, and the CDN before a public one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from blueprint.fields import BucketName, Domain, Duration
from blueprint.model import Settings

_DAY = Duration("1d")
_CDN_TTLS = tuple(Duration(text) for text in ("1m", "10m", "1h", "1d", "7d"))


def _whole_days(value: Duration) -> Duration:
    if value % _DAY:
        raise ValueError("is no whole number of days, by which Spaces deletes; write days, such as 30d")
    return value


def _cdn_ttl(value: Duration) -> Duration:
    if value not in _CDN_TTLS:
        raise ValueError(f"is no time that DigitalOcean's CDN knows; allowed: {', '.join(map(str, _CDN_TTLS))}")
    return value


Days = Annotated[Duration, AfterValidator(_whole_days)]


class CorsRule(Settings):
    """Pages of other origins that may read the bucket, or write to it."""

    origins: tuple[str, ...] = Field(
        min_length=1, description="Origins of the pages, such as `https://example.org`; changes in place."
    )
    methods: tuple[Literal["GET", "HEAD", "PUT", "POST", "DELETE"], ...] = Field(
        default=("GET", "HEAD"), description="Methods that they may use; default: [GET, HEAD]; changes in place."
    )
    headers: tuple[str, ...] = Field(
        default=("*",), description='Headers that they may send; default: ["*"]; changes in place.'
    )
    max_age: Duration = Field(
        default=Duration("1h"),
        description="How long a browser may remember the answer, such as `1h` (default); changes in place.",
    )


class LifecycleRule(Settings):
    """Objects and broken uploads that go by themselves."""

    prefix: str = Field(
        default="", description="How the keys of the objects begin; default: every object; changes in place."
    )
    expire: Days | None = Field(
        default=None, description="Age at which an object is deleted, such as `30d`; default: never; changes in place."
    )
    abort_uploads: Days | None = Field(
        default=_DAY,
        description="Age at which the parts of an upload that was cut off are deleted; default: 1d; changes in place.",
    )


class CdnSettings(Settings):
    """The CDN before a public bucket."""

    host: Domain | None = Field(
        default=None,
        description="Host name of the CDN, such as `assets.example.org`, whose record and certificate are made; "
        "default: the name that DigitalOcean gives; changes in place.",
    )
    ttl: Annotated[Duration, AfterValidator(_cdn_ttl)] = Field(
        default=Duration("1h"),
        description="How long the CDN keeps an object: 1m, 10m, 1h (default), 1d or 7d; changes in place.",
    )


class BucketSettings(Settings):
    """A Space for files of the app, which gets a key for it alone. Nobody lists it without that key."""

    bucket: BucketName = Field(
        description="Name of the bucket at Spaces, where it must be free in the region; a change replaces the bucket "
        "(refused while it has objects, unless the environment is disposable)."
    )
    access: Literal["public", "private"] = Field(
        default="private",
        description="Whether everybody may read the objects that are uploaded with the ACL `public-read`, and a CDN "
        "may stand before them; default: private; changes in place.",
    )
    cdn: CdnSettings | None = Field(
        default=None, description="The CDN before a public bucket; default: none; is made and removed by itself."
    )
    cors: tuple[CorsRule, ...] = Field(
        default=(), description="Pages of other origins that may use the bucket; default: none; changes in place."
    )
    lifecycle: tuple[LifecycleRule, ...] = Field(
        default=(), description="Objects that go by themselves; default: none; changes in place."
    )
    versioning: bool = Field(
        default=False, description="Keep what is overwritten or deleted; default: false; changes in place."
    )

    @model_validator(mode="after")
    def _cdn_of_a_public_one(self) -> BucketSettings:
        if self.cdn is not None and self.access == "private":
            raise ValueError(
                "cdn: stands before what everybody may read, and this bucket is private; "
                "write access: public, or leave cdn out"
            )
        return self
