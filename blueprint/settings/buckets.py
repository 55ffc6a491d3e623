"""Object storage and the CDN before it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from blueprint.fields import BucketName, Domain
from blueprint.model import Settings


class CorsRule(Settings):
    """One CORS rule of the bucket. `max_age` in seconds."""

    origins: tuple[str, ...] = Field(min_length=1)
    methods: tuple[Literal["GET", "HEAD", "PUT", "POST", "DELETE"], ...] = ("GET", "HEAD")
    headers: tuple[str, ...] = ("*",)
    max_age: int = Field(default=3600, ge=0)


class LifecycleRule(Settings):
    """Objects under `prefix` go after `expire_days`; broken uploads after `abort_uploads_days`."""

    prefix: str = ""
    expire_days: int | None = Field(default=None, ge=1)
    abort_uploads_days: int | None = Field(default=1, ge=1)


class CdnSettings(Settings):
    """The CDN before the bucket. `ttl` in seconds; the custom domain needs a certificate by that name."""

    ttl: Literal[60, 600, 3600, 86400, 604800] = 3600
    domain: Domain | None = None
    certificate: str | None = None

    @model_validator(mode="after")
    def _domain_with_certificate(self) -> CdnSettings:
        if (self.domain is None) != (self.certificate is None):
            raise ValueError("domain and certificate go together: give both, or neither")
        return self


class AssetsSettings(Settings):
    """A Space for public assets. Its objects are world-readable, never world-writable."""

    bucket: BucketName
    cdn: CdnSettings | None = CdnSettings()
    cors: tuple[CorsRule, ...] = ()
    lifecycle: tuple[LifecycleRule, ...] = ()
    versioning: bool = False
