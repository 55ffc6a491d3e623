"""One S3 request, read as far as the front's decisions need it."""

# ruff: noqa: INP001 - run as a program inside its container, beside its neighbours

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from signature import parse_credential

DOMAIN = "digitaloceanspaces.com"
REGIONS = tuple(os.environ.get("SPACES_REGIONS", "nyc3").split(","))
BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
SUBRESOURCES = frozenset(
    {"accelerate", "acl", "analytics", "cors", "encryption", "intelligent-tiering", "inventory", "legal-hold"}
    | {"lifecycle", "logging", "metrics", "notification", "object-lock", "ownershipControls", "policy", "policyStatus"}
    | {"publicAccessBlock", "replication", "requestPayment", "retention", "tagging", "torrent", "versioning", "website"}
)
OBJECT_SUBRESOURCES = frozenset({"acl", "tagging", "legal-hold", "retention", "torrent"})


class Refused(Exception):  # noqa: N818 - an answer, not a fault: S3 says no
    """An S3 error answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Request:
    """Method, raw uri and lower-case headers, with region, bucket and key read out of host and path."""

    def __init__(self, method: str, uri: str, headers: Mapping[str, str]) -> None:
        self.method, self.uri, self.headers = method, uri, headers
        split = urlsplit(uri)
        self.query = dict(parse_qsl(split.query, keep_blank_values=True))
        self.host = headers.get("host", "")
        name = self.host.split(":")[0].lower()
        left = name[: -len(DOMAIN) - 1] if name.endswith(f".{DOMAIN}") else ""
        bucket, _, self.region = left.rpartition(".")
        if self.region not in REGIONS:
            raise Refused(400, "InvalidRequest", f"{name} is not a Spaces endpoint")
        path = unquote(split.path).lstrip("/")
        if not bucket:
            bucket, _, path = path.partition("/")
        self.bucket, self.key = bucket, path
        self.credential = parse_credential(headers, self.query)
        self.subresource = next((name for name in self.query if name in SUBRESOURCES), None)

    @property
    def amz_headers(self) -> dict[str, str]:
        """Headers that a signature has to cover."""
        return {name: value for name, value in self.headers.items() if name.startswith("x-amz-")}

    @property
    def reads(self) -> bool:
        """Return True if it changes nothing."""
        return self.method in {"GET", "HEAD", "OPTIONS"}

    @property
    def writes_object(self) -> bool:
        """Return True if it makes an object: a whole one, a copy, or the start of a multipart upload."""
        if not self.key or self.subresource:
            return False
        whole = self.method == "PUT" and "partNumber" not in self.query
        return whole or (self.method == "POST" and "uploads" in self.query)

    @property
    def creates_bucket(self) -> bool:
        """Return True if it is CreateBucket."""
        return self.method == "PUT" and bool(self.bucket) and not self.key and not self.query

    @property
    def deletes_bucket(self) -> bool:
        """Return True if it is DeleteBucket."""
        return self.method == "DELETE" and bool(self.bucket) and not self.key and not self.query

    @property
    def answered_here(self) -> bool:
        """Return True if the front answers it, and no gateway."""
        if self.method == "OPTIONS":
            return False
        of_bucket = "location" in self.query or self.creates_bucket or self.deletes_bucket
        return of_bucket or self.subresource in {"acl", "lifecycle"}

    def allowed(self, grants: Mapping[str, str]) -> bool:
        """Return True if a key with these grants may do it.

        Limited keys reach objects of their buckets, never a bucket's settings.

        Source: DigitalOcean's documentation of limited access keys; what it leaves open is refused.
        """
        if "fullaccess" in grants.values():
            return True
        permission = grants.get(self.bucket) if self.bucket else None
        if permission != "readwrite" and not (permission == "read" and self.reads):
            return False
        if not self.key and self.method in {"PUT", "DELETE"}:
            return False
        of_bucket = self.subresource is not None and not (self.key and self.subresource in OBJECT_SUBRESOURCES)
        if of_bucket and not (self.subresource == "versioning" and self.reads):
            return False
        source = unquote(self.headers.get("x-amz-copy-source", "")).lstrip("/").partition("/")[0]
        return not source or grants.get(source) in {"read", "readwrite"}
